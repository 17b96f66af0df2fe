"""`svm-ext track`: what it writes, what it tells, what it refuses, and what an interrupt leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import svm_ext
from svm_ext.cli import main, track
from svm_ext.models.detector import Detector
from svm_ext.models.weights import save_model
from svm_ext.stream import models as stream_models
from svm_ext.stream import track as stream_track
from svm_ext.stream.sources import open_source
from svm_ext.stream.writer import VideoWriter
from video_kit import SIZE, TINY, BrightDetector, data_file, noise, walk, write_scene, write_video
from video_servers import http_server, send

SIDES = "160x96"
AS_SETTINGS = [word for name, value in TINY.items() for word in ("--set", f"{name}={json.dumps(value)}")]


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command with a detector that finds bright boxes, in place of trained weights."""
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    monkeypatch.setattr(stream_track, "find_model", lambda model, weights=None, **overrides: (BrightDetector(), True))
    output = str(tmp_path / "out")

    def run(*arguments: object) -> int:
        given = [str(argument) for argument in arguments]
        where = [] if "--output" in given else ["--output", output]
        return main.main(["track", *given, "--weights", str(weights), "--size", SIDES, "--device", "cpu", *where])

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def rows(path: Path) -> list[list[float]]:
    return [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()]


# What it writes


def test_a_video_becomes_an_annotated_video_and_text(tmp_path: Path, bright, capsys) -> None:
    path = write_scene(tmp_path / "yard.mp4", 20)
    assert bright(path) == 0
    out = tmp_path / "out"
    assert names(out) == ["yard.jsonl", "yard.mp4", "yard.txt"]
    table = rows(out / "yard.txt")
    assert [row[0] for row in table] == [1 + k // 2 for k in range(40)]
    assert {row[1] for row in table} == {1, 2}
    lines = [json.loads(line) for line in (out / "yard.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    assert lines[3]["time"] == pytest.approx(0.12)
    with open_source(out / "yard.mp4") as source:
        assert (source.size, len(list(source)), source.problem) == (SIZE, 20, None)
    told = capsys.readouterr().out
    assert re.search(r"source   yard  160x96  25 fps  20 frames", told)
    assert re.search(r"model    BrightDetector, .* million parameters, weights .*weights.pth", told)
    assert re.search(r"memory of 1 stream: \d+\.\d MB", told)
    assert "runs on  cpu, back end cpu" in told
    assert re.search(r"done: 20 frames in [\d.]+ s, [\d.]+ fps, 0 dropped; 2 tracks, 40 boxes", told)
    for name in names(out):
        assert f"wrote {out / name}" in told


def test_the_video_shows_what_was_found(tmp_path: Path, bright) -> None:
    assert bright(write_scene(tmp_path / "yard.mp4", 5, size=(640, 384)), "--show-memory") == 0
    drawn = list(open_source(tmp_path / "out" / "yard.mp4"))
    plain = list(walk(5, (640, 384)))
    change = [abs(frame.image.astype(int) - image).max() for frame, image in zip(drawn, plain, strict=True)]
    assert min(change) > 60
    assert (drawn[4].image[-25:, :160] < 30).mean() > 0.1  # the strip of remembered frames


def test_text_alone(tmp_path: Path, bright) -> None:
    assert bright(write_scene(tmp_path / "yard.mp4", 5), "--no-video") == 0
    assert names(tmp_path / "out") == ["yard.jsonl", "yard.txt"]


def test_many_sources_are_the_same_together_and_alone(tmp_path: Path, bright, capsys) -> None:
    paths = [write_scene(tmp_path / f"{name}.mp4", 12 + k, seed=k) for k, name in enumerate("abc")]
    assert bright(*paths, "--output", tmp_path / "together") == 0
    assert "done: 39 frames" in capsys.readouterr().out
    for path in paths:
        assert bright(path, "--output", tmp_path / "alone") == 0
    assert names(tmp_path / "together") == names(tmp_path / "alone")
    for path in paths:
        for suffix in (".txt", ".jsonl"):
            together, alone = (tmp_path / folder / f"{path.stem}{suffix}" for folder in ("together", "alone"))
            assert together.read_text() == alone.read_text()


def test_results_can_be_scored(tmp_path: Path, bright) -> None:
    """The text is what `svm-ext eval tracks` reads: against itself it is perfect."""
    assert bright(write_scene(tmp_path / "yard.mp4", 20)) == 0
    text = tmp_path / "out" / "yard.txt"
    truth = tmp_path / "gt" / "yard" / "gt"
    truth.mkdir(parents=True)
    lines = [",".join([*line.split(",")[:6], "1", "1", "1"]) for line in text.read_text().splitlines()]
    (truth / "gt.txt").write_text("\n".join(lines) + "\n")
    scores = tmp_path / "scores.json"
    arguments = ["--gt", str(tmp_path / "gt"), "--pred", str(text.parent), "--json", str(scores)]
    assert main.main(["eval", "tracks", *arguments]) == 0
    assert '"MOTA": 1' in scores.read_text()


def test_a_damaged_video_is_told_and_kept(tmp_path: Path, bright, capsys) -> None:
    path = write_video(tmp_path / "yard.mp4", noise(40), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert bright(path) == 0
    told = capsys.readouterr().out
    assert re.search(r"problem: .*yard\.mp4: .*cut short; \d+ frames read", told)
    frames = len((tmp_path / "out" / "yard.jsonl").read_text().splitlines())
    assert 10 < frames < 30
    assert len(list(open_source(tmp_path / "out" / "yard.mp4"))) == frames


def test_real_damage(tmp_path: Path, bright, capsys) -> None:
    path = data_file("codec_edge_cases/decord_corrupted.mp4")
    assert bright(path, "--no-video") == 0
    assert "1 damaged packet skipped; 49 frames read" in capsys.readouterr().out
    assert len((tmp_path / "out" / "decord_corrupted.jsonl").read_text().splitlines()) == 49


def test_an_address(tmp_path: Path, bright, capsys) -> None:
    body = write_scene(tmp_path / "a.mp4", 12, movflags="faststart").read_bytes()
    with http_server(lambda handler, _: send(handler, body, length=len(body))) as address:
        assert bright(f"{address}/door.mp4", "--live", "all") == 0
    assert names(tmp_path / "out") == ["door.jsonl", "door.mp4", "door.txt"]
    assert "0 dropped" in capsys.readouterr().out


def test_settings_reach_model_and_tracker(tmp_path: Path, bright, monkeypatch) -> None:
    seen = {}

    def find(model, weights=None, **overrides):
        seen.update(model=model, **overrides)
        return BrightDetector(score=0.5), True

    monkeypatch.setattr(stream_track, "find_model", find)
    path = write_scene(tmp_path / "yard.mp4", 4)
    changes = ("high=0.4", "init=0.4", "memory_frames=3", "conv_blocks=[2, 5]")
    assert bright(path, *(word for change in changes for word in ("--set", change))) == 0
    assert (seen["memory_frames"], seen["conv_blocks"]) == (3, [2, 5])
    assert len(rows(tmp_path / "out" / "yard.txt")) == 8
    assert bright(path, "--overwrite") == 0
    assert rows(tmp_path / "out" / "yard.txt") == []


def test_one_frame(tmp_path: Path, bright) -> None:
    assert bright(write_scene(tmp_path / "yard.mp4", 1)) == 0
    assert len(list(open_source(tmp_path / "out" / "yard.mp4"))) == 1


# The real model


def test_the_real_model_from_its_file(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    save_model(svm_ext.create_model("svit_tiny_mot", **TINY), tmp_path / "mine.safetensors")
    path = write_scene(tmp_path / "yard.mp4", 4)
    arguments = [str(path), "--weights", str(tmp_path / "mine.safetensors"), "--size", SIDES]
    assert main.main(["track", *arguments, "--memory-dtype", "bf16", "--output", str(tmp_path / "out")]) == 0
    assert "model    Detector" in capsys.readouterr().out
    assert names(tmp_path / "out") == ["yard.jsonl", "yard.mp4", "yard.txt"]


@pytest.mark.parametrize("chosen", ["cpu", "reference"])
def test_back_ends(tmp_path: Path, capsys, chosen: str) -> None:
    path = write_scene(tmp_path / "yard.mp4", 2)
    arguments = [str(path), "--random-weights", "--model", "svit_tiny_mot", *AS_SETTINGS, "--size", SIDES]
    assert main.main(["track", *arguments, "--backend", chosen, "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert f"back end {chosen}" in told
    assert "weights RANDOM: it finds nothing useful" in told
    from svm_ext import backend as backends

    assert backends.selected() == "auto"


# What it refuses: one line, exit code 2, nothing left behind


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    before = names(folder)
    assert main.main(["track", *map(str, arguments)]) == 2
    found = capsys.readouterr()
    assert found.err.count("\n") == 1, found.err
    assert "Traceback" not in found.err
    assert names(folder) == before
    return found.err


def test_no_weights(tmp_path: Path, capsys) -> None:
    path = write_scene(tmp_path / "yard.mp4", 2)
    line = refused(capsys, tmp_path, path, "--output", tmp_path / "out")
    assert "a model with random weights finds nothing useful; add --weights FILE, or --random-weights" in line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--weights", "none.pth"], "--weights: expected a file of weights, got none at none.pth"),
        (["--weights", "w.pth", "--random-weights"], "--random-weights: expected no --weights beside it"),
        (["--random-weights", "--model", "svit_tyni_mot"], "svit_tiny_mot"),
        (["--random-weights", "--model", "svit_tiny"], "expected a detector"),
        (["--random-weights", "--set", "memory_frams=3"], "did you mean memory_frames"),
        (["--random-weights", "--set", "high=4"], "high: expected a number from 0 to 1"),
        (["--random-weights", "--set", "high"], "--set: expected FIELD=VALUE, got 'high'"),
        (["--random-weights", "--model", "svit_tiny_mot", "--device", "cuda:77"], "cuda:77"),
        (["--random-weights", "--backend", "gpu"], "expected one of auto, cpu, cuda, triton, reference"),
    ],
)
def test_wrong_options(tmp_path: Path, capsys, monkeypatch, arguments: list[str], text: str) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({}, tmp_path / "w.pth")
    path = write_scene(tmp_path / "yard.mp4", 2)
    if "cuda:77" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert text in refused(capsys, tmp_path, path, *arguments, "--output", tmp_path / "out")


@pytest.mark.parametrize("size", ["1440", "0x5", "axb", "10x2000"])
def test_wrong_sizes(tmp_path: Path, capsys, size: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["track", "a.mp4", "--size", size])
    assert stopped.value.code == 2
    assert "expected two sides of at least 32 pixels, like 1440x800" in capsys.readouterr().err


def bad_sources(folder: Path) -> dict[str, tuple[object, str]]:
    (folder / "text.mp4").write_text("no video")
    (folder / "folder").mkdir()
    codec = write_scene(folder / "codec.mp4", 3)
    codec.write_bytes(codec.read_bytes().replace(b"avc1", b"zzzz"))
    none = write_scene(folder / "none.mp4", 3, movflags="faststart")
    data = none.read_bytes()
    at = data.index(b"mdat") + 4
    none.write_bytes(data[:at] + bytes(len(data) - at))
    return {
        "missing": (folder / "missing.mp4", "which is not there; check the path"),
        "camera": (97, "expected a camera, got 97, but there is no /dev/video97"),
        "text": (folder / "text.mp4", "does not open"),
        "folder": (folder / "folder", "expected pictures"),
        "codec": (codec, "codec"),
        "frames": (none, "without one frame to decode"),
        "address": ("rtsp://127.0.0.1:1/door", "Connection refused"),
    }


@pytest.mark.parametrize("kind", ["missing", "camera", "text", "folder", "codec", "frames", "address"])
def test_bad_sources(tmp_path: Path, bright, capsys, kind: str) -> None:
    source, text = bad_sources(tmp_path)[kind]
    before = names(tmp_path)
    assert bright(source) == 2
    found = capsys.readouterr()
    assert text in found.err
    assert found.err.count("\n") == 1
    assert names(tmp_path) == before


def test_one_bad_source_among_good_ones(tmp_path: Path, bright, capsys) -> None:
    assert bright(write_scene(tmp_path / "yard.mp4", 3), tmp_path / "missing.mp4") == 2
    assert "missing.mp4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit(tmp_path: Path, capsys) -> None:
    torch.save(svm_ext.create_model("svit_tiny_mot", **{**TINY, "neck_channels": 32}).state_dict(), tmp_path / "w.pth")
    path = write_scene(tmp_path / "yard.mp4", 2)
    arguments = [path, "--model", "svit_tiny_mot", *AS_SETTINGS, "--weights", tmp_path / "w.pth"]
    assert "expected shape" in refused(capsys, tmp_path, *arguments, "--output", tmp_path / "out")


def test_results_that_are_there_are_kept(tmp_path: Path, bright, capsys) -> None:
    path = write_scene(tmp_path / "yard.mp4", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "yard.txt").write_text("mine")
    assert bright(path) == 2
    assert "yard.txt is there already; add --overwrite, or choose another folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "yard.txt").read_text() == "mine"
    assert bright(path, "--overwrite") == 0
    assert len(rows(tmp_path / "out" / "yard.txt")) == 6


def test_outputs_are_checked_before_the_model_loads(tmp_path: Path, bright, monkeypatch, capsys) -> None:
    monkeypatch.setattr(stream_track, "find_model", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "file").write_text("")
    path = write_scene(tmp_path / "yard.mp4", 3)
    assert bright(path, "--output", tmp_path / "file") == 2
    assert "--output: expected a folder" in capsys.readouterr().err
    assert bright(path, "--output", tmp_path / "file" / "deeper") == 2
    assert "expected a folder" in capsys.readouterr().err


def test_another_resolution_in_mid_stream(tmp_path: Path, bright, capsys) -> None:
    first, second = write_scene(tmp_path / "1.ts", 8), write_scene(tmp_path / "2.ts", 8, size=(192, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert bright(both) == 2
    found = capsys.readouterr()
    assert "expected 160x96 throughout, got 192x96 from frame 8" in found.err
    assert found.err.count("\n") == 1
    assert "failed: 8 frames" in found.out
    assert len(list(open_source(tmp_path / "out" / "both.mp4"))) == 8  # whole, up to there
    assert names(tmp_path / "out") == ["both.jsonl", "both.mp4", "both.txt"]


def test_a_full_disk(tmp_path: Path, bright, monkeypatch, capsys) -> None:
    write, room = VideoWriter.write, iter(range(3))

    def full(self, image, seconds):
        if next(room, None) is None:
            raise self._abandon(OSError(28, "No space left on device"))
        write(self, image, seconds)

    monkeypatch.setattr(VideoWriter, "write", full)
    assert bright(write_scene(tmp_path / "yard.mp4", 8)) == 2
    found = capsys.readouterr()
    assert "expected room to write, got 'No space left on device'" in found.err
    assert found.err.count("\n") == 1
    assert "yard.mp4" not in names(tmp_path / "out")
    assert not [name for name in names(tmp_path / "out") if name.startswith(".")]


# Interrupts


def test_ctrl_c_in_mid_run(tmp_path: Path, bright, monkeypatch, capsys) -> None:
    steps = iter(range(100))

    def interrupted(self, frames):
        if next(steps) == 6:
            raise KeyboardInterrupt
        return step(self, frames)

    step = stream_track.StreamSession.step
    monkeypatch.setattr(stream_track.StreamSession, "step", interrupted)
    assert bright(write_scene(tmp_path / "yard.mp4", 20)) == 130
    found = capsys.readouterr()
    assert "interrupted: 6 frames" in found.out
    assert f"wrote {tmp_path / 'out' / 'yard.mp4'}" in found.out
    assert len(list(open_source(tmp_path / "out" / "yard.mp4"))) == 6
    assert len((tmp_path / "out" / "yard.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_signal_leaves_whole_files(tmp_path: Path, number: int) -> None:
    path = write_scene(tmp_path / "yard.mp4", 3000, size=(64, 32))
    words = ["track", str(path), "--random-weights", "--model", "svit_tiny_mot", *AS_SETTINGS, "--size", "64x32"]
    work = subprocess.Popen(
        [sys.executable, "-m", "svm_ext.cli.main", *words, "--output", str(tmp_path / "out"), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 60
    while not names(tmp_path / "out") and work.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    work.send_signal(number)
    out, err = work.communicate(timeout=30)
    assert work.returncode == 130, err
    assert err.strip().endswith("svm-ext: interrupted")
    [frames] = re.findall(r"interrupted: (\d+) frames", out)
    assert 0 < int(frames) < 3000
    assert names(tmp_path / "out") == ["yard.jsonl", "yard.mp4", "yard.txt"]
    with open_source(tmp_path / "out" / "yard.mp4") as source:
        assert len(list(source)) == int(frames)
        assert source.problem is None


# Help


def test_help_shows_examples_and_groups(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["track", "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for text in ("examples:", "model:", "where it runs:", "live sources:", "results:", "svm-ext track 0", "rtsp://"):
        assert text in told


def test_what_help_says_is_so() -> None:
    assert stream_models._RELEASED[Detector] == track.MODEL


def test_few_flags() -> None:
    parser = main.build_parser("track")
    [commands] = [action for action in parser._actions if action.dest == "command"]
    flags = [action for action in commands.choices["track"]._actions if action.option_strings]
    assert len(flags) - 1 <= 15


def test_examples_parse() -> None:
    parser = main.build_parser("track")
    commands = [line.split("  ")[1].strip() for line in track.EXAMPLES.splitlines()[1:]]
    for command in commands:
        assert command.startswith("svm-ext track ")
        parser.parse_args(command.split()[1:])


def test_progress_is_one_live_line(tmp_path: Path, bright, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert bright(write_scene(tmp_path / "yard.mp4", 5), "--show-memory") == 0
    told = capsys.readouterr().err
    assert "\n" not in told
    assert re.search(r"frame \d/5 .* fps  0:0\d gone  .* left  0 dropped  2 tracks  memory \d frames", told)
    assert told.endswith("\r\x1b[K")
