"""The tracker's baseline is a fair one, and its benchmark measures only what agrees with it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from safetensors import safe_open

import benchmark_scripts
from track_oracle import oracle


@pytest.fixture
def bench():
    oracle("scipy")
    return benchmark_scripts.load("bench_tracker")


def test_the_baseline_is_right(golden, bench):
    tracker = bench.NumpyByteTracker()
    with safe_open(golden("byte_tracker.safetensors"), "np") as file:
        for t in range(json.loads(file.metadata()["config"])["frames"]):
            frame, labels = file.get_tensor(f"in/{t}/detections"), file.get_tensor(f"in/{t}/labels")
            rows, ids = tracker.update(frame, labels)
            assert np.array_equal(ids, file.get_tensor(f"out/{t}/ids") + 1)
            assert np.array_equal(frame[rows], file.get_tensor(f"out/{t}/boxes"))


def test_the_load_is_people_who_walk(bench):
    frames = bench.walkers(30, 50, seed=0)
    assert len(frames) == 50
    assert all(np.array_equal(a, b) for a, b in zip(frames, bench.walkers(30, 50, seed=0), strict=True))
    assert 25 < np.mean([len(frame) for frame in frames]) < 33
    for frame in frames:
        assert frame.shape[1] == 5
        assert frame.dtype == np.float32
        assert (frame[:, :2] < frame[:, 2:4]).all()
        assert ((frame[:, 4] > 0) & (frame[:, 4] < 1)).all()


def test_every_contender_is_measured_and_written_down(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "LOADS", (bench.Load(6, 40), bench.Load(4, 40, 2)))
    path = tmp_path / "found.json"
    bench.main(["--quick", "--json", str(path)])
    result = json.loads(path.read_text())
    assert result["machine"]["command"] == f"python benchmarks/bench_tracker.py --quick --json {path}"
    assert result["machine"]["threads"] == 1
    alone, streams = result["loads"].values()
    assert list(result["loads"]) == ["6 people, 4 frames", "4 people, 4 frames, 2 streams"]
    assert list(alone) == ["NumPy, box by box", "ByteTracker", "ByteTracker, tensors"]
    assert list(streams) == [*alone, "TrackerBank"]
    assert alone["NumPy, box by box"]["ratio"] == 1
    assert all(row["us_a_frame"] * row["frames_per_second"] == pytest.approx(1e6) for row in streams.values())
    assert "TrackerBank" in capsys.readouterr().out


def test_a_wrong_tracker_is_not_measured(bench, monkeypatch):
    class Wrong(bench.ByteTracker):
        """Numbers one too high."""

        def update(self, detections, *, coast=0):
            found = super().update(detections)
            return dataclasses.replace(found, ids=found.ids + 1)

    monkeypatch.setattr(bench, "ByteTracker", Wrong)
    with pytest.raises(SystemExit, match="ByteTracker does not give the baseline's ids"):
        bench.measure(bench.Load(3, 5), quick=True)
