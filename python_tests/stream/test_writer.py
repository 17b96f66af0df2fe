"""Writers: what is read back is what was written, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import long_runs
from svm_ext.stream.results import FrameResult, Timing
from svm_ext.stream.sources import open_source
from svm_ext.stream.writer import JsonLinesWriter, MotWriter, VideoWriter
from svm_ext.tracking import Tracks
from video_kit import walk


def result(index: int = 0, boxes: list[list[float]] | None = None, seconds: float = 0.0) -> FrameResult:
    count = len(boxes or [])
    tracks = Tracks(
        torch.arange(1, count + 1),
        torch.tensor(boxes or []).reshape(-1, 4).float(),
        torch.full((count,), 0.5),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool),
    )
    return FrameResult("a", index, seconds, tracks, None, Timing(1, 2, 3), 1, np.zeros((4, 4, 3), np.uint8))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Video


def test_frames_and_times_come_back(tmp_path: Path) -> None:
    times = [8.3 + second for second in (0, 0.04, 0.08, 0.5, 0.5001, 2.25)]
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for image, seconds in zip(walk(6), times, strict=True):
            writer.write(image, seconds)
        assert names(tmp_path) == [f".a.mp4.{os.getpid()}.part"]
    assert names(tmp_path) == ["a.mp4"]
    with open_source(tmp_path / "a.mp4") as source:
        frames = list(source)
        assert source.problem is None
    assert [frame.time for frame in frames] == pytest.approx([second - 8.3 for second in times], abs=1e-5)
    for frame, image in zip(frames, walk(6), strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 6


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 30000 / 1001, 24000 / 1001, 7, 6.6667, 120])
def test_usual_rates_are_kept(tmp_path: Path, fps: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps) as writer:
        for index, image in enumerate(walk(30)):
            writer.write(image, index / fps)
    with open_source(tmp_path / "a.mp4") as source:
        assert source.fps == pytest.approx(fps, rel=2e-3)
        assert [frame.time for frame in source] == pytest.approx([k / fps for k in range(30)], abs=1.2e-5)


@pytest.mark.parametrize("size", [(33, 31), (32, 31), (33, 32), (17, 200), (2, 2), (1, 1)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
    image[:, -1] = 200
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(image, 0)
    [frame] = open_source(tmp_path / "a.mp4")
    assert frame.image.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert frame.image[0, -1].mean() > 150


def test_it_plays_everywhere(tmp_path: Path) -> None:
    import av

    with VideoWriter(tmp_path / "a.mp4") as writer:
        for index, image in enumerate(walk(5)):
            writer.write(image, index / 25)
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.format.name.split(",")[1] == "mp4"
        [stream] = file.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_times_that_stand_still_or_go_back_are_moved(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for image, seconds in zip(walk(4), (1.0, 1.0, 0.5, 2.0), strict=True):
            writer.write(image, seconds)
    times = [frame.time for frame in open_source(tmp_path / "a.mp4")]
    assert len(times) == 4
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(1)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(next(walk(1)), 7.0)
    with open_source(tmp_path / "a.mp4") as source:
        assert len(list(source)) == 1


def test_no_frame_is_no_file(tmp_path: Path) -> None:
    for kind in (VideoWriter, MotWriter, JsonLinesWriter):
        with kind(tmp_path / "a"):
            pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((10, 8, 3), np.uint8)],
    ids=["float", "grey", "another size"],
)
def test_a_picture_that_does_not_belong_is_refused_and_the_rest_is_kept(tmp_path: Path, image: np.ndarray) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8), 0)
        with pytest.raises(ValueError, match="image: expected uint8"):
            writer.write(image, 1)
    assert len(list(open_source(tmp_path / "a.mp4"))) == 1


def test_views_and_read_only_pictures(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    wide.setflags(write=False)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(wide[:, ::2], 0)
        writer.write(wide[:, 32:], 1)
    assert len(list(open_source(tmp_path / "a.mp4"))) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("something"), SystemExit])
def test_whatever_ends_the_work_the_files_are_whole(tmp_path: Path, error: BaseException | type) -> None:

    def work() -> None:
        with VideoWriter(tmp_path / "a.mp4") as video, MotWriter(tmp_path / "a.txt") as text:
            for index, image in enumerate(walk(10)):
                video.write(image, index / 25)
                text.write(result(index, [[1, 2, 3, 4]]))
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        work()
    assert names(tmp_path) == ["a.mp4", "a.txt"]
    with open_source(tmp_path / "a.mp4") as source:
        assert len(list(source)) == 10
        assert source.problem is None
    assert len((tmp_path / "a.txt").read_text().splitlines()) == 10


def test_a_file_that_is_there_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with MotWriter(path) as writer:
        writer.write(result(0, [[1, 2, 3, 4]]))
        assert path.read_text() == "before"
    assert path.read_text().startswith("1,1,")


def test_a_finished_file_takes_no_more(tmp_path: Path) -> None:
    for writer, given in (
        (VideoWriter(tmp_path / "a.mp4"), (np.zeros((8, 8, 3), np.uint8), 0.0)),
        (MotWriter(tmp_path / "a.txt"), (result(),)),
    ):
        writer.write(*given)
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match="which is finished"):
            writer.write(*given)
    assert names(tmp_path) == ["a.mp4", "a.txt"]


# No room

PICTURES = """
import numpy as np
def noise(frames, size=(160, 96)):
    rng = np.random.default_rng(0)
    for _ in range(frames):
        yield rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
"""  # torch, which the tests' own pictures need, takes seconds to import


def limited(code: str, folder: Path, most: int) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose files may hold so many bytes, as on a disk that is full."""
    start = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))
from svm_ext.stream.writer import *
{PICTURES}"""
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
    try:
        with VideoWriter("a.mp4") as writer:
            for index, image in enumerate(noise(500, (320, 240))):
                writer.write(image, index / 25)
    except OSError as error:
        print(type(error).__name__, error)
        try:
            writer.write(image, 100)
        except ValueError as error:
            print(error)
    """
    done = limited(code, tmp_path, 100_000)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("OSError output: expected room to write, got 'File too large' at a.mp4")
    assert "finished" in second
    assert names(tmp_path) == []


def test_a_disk_that_is_full_at_the_end(tmp_path: Path) -> None:
    """All that was written fits into buffers; only the last bytes, the index, find no room."""
    code = """
    try:
        with VideoWriter("a.mp4") as writer:
            for index, image in enumerate(noise(5)):
                writer.write(image, index / 25)
    except OSError as error:
        print(error)
    """
    done = limited(code, tmp_path, 500)
    assert "expected room to write" in done.stdout, done.stderr
    assert names(tmp_path) == []


def test_text_on_a_full_disk(tmp_path: Path) -> None:
    code = """
    try:
        with JsonLinesWriter("a.jsonl") as writer:
            for _ in range(1000):
                writer.write_line({"text": 1000 * "x"})
    except OSError as error:
        print(error)
    """
    done = limited(code, tmp_path, 100_000)
    assert done.stdout.startswith("output: expected room to write, got 'File too large' at a.jsonl"), done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert names(tmp_path) == []


def test_no_folder(tmp_path: Path) -> None:
    for writer, given in (
        (VideoWriter(tmp_path / "none" / "a.mp4"), (np.zeros((8, 8, 3), np.uint8), 0.0)),
        (MotWriter(tmp_path / "none" / "a.txt"), (result(),)),
    ):
        with pytest.raises(OSError, match="No such file or directory"), writer:
            writer.write(*given)


def test_no_room_while_it_is_given_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    writer = MotWriter(tmp_path / "a.txt")
    writer.write(result())
    with pytest.raises(OSError, match="No space left on device"):
        writer.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_killed_process_leaves_no_half_file_under_the_name(tmp_path: Path, number: int) -> None:
    code = f"""
from svm_ext.stream.writer import *
{PICTURES}
with VideoWriter("a.mp4") as writer:
    for index, image in enumerate(noise(100_000)):
        writer.write(image, index / 25)
        if index == 30:
            print("go", flush=True)
"""
    work = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert work.stdout.readline() == "go\n"
    time.sleep(0.05)
    work.send_signal(number)
    work.communicate(timeout=30)
    if number == signal.SIGINT:
        with open_source(tmp_path / "a.mp4") as source:
            assert len(list(source)) > 30
            assert source.problem is None
    else:
        assert not (tmp_path / "a.mp4").exists()


# Text


def test_motchallenge_text(tmp_path: Path) -> None:
    with MotWriter(tmp_path / "a.txt") as writer:
        writer.write(result(0, [[10, 20, 30.5, 60.25], [-5, 0, 5, 8]]))
        writer.write(result(1))
        writer.write(result(7, [[1, 2, 3, 4]]))
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "1,1,10.000,20.000,20.500,40.250,0.5000,-1,-1,-1",
        "1,2,-5.000,0.000,10.000,8.000,0.5000,-1,-1,-1",
        "8,1,1.000,2.000,2.000,2.000,0.5000,-1,-1,-1",
    ]


def test_frames_without_tracks_make_an_empty_file(tmp_path: Path) -> None:
    with MotWriter(tmp_path / "a.txt") as writer:
        writer.write(result())
    assert (tmp_path / "a.txt").read_text() == ""


def test_json_lines(tmp_path: Path) -> None:
    with JsonLinesWriter(tmp_path / "a.jsonl") as writer:
        writer.write(result(0, [[10, 20, 30.5, 60.25]], 8.3333333))
        writer.write(result(1, [], 8.5))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == [
        {"frame": 0, "time": 8.333333, "tracks": [{"id": 1, "box": [10, 20, 30.5, 60.25], "score": 0.5, "label": 0}]},
        {"frame": 1, "time": 8.5, "tracks": []},
    ]


def test_long_videos_take_no_more_memory(tmp_path: Path) -> None:
    sizes = long_runs.in_fresh_process(long_runs.write_for_long, tmp_path / "a.mp4", 400)
    assert sizes[-1] - sizes[1] < 4 << 20
