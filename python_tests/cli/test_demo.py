"""`svm-ext demo`: writes a video that can be played, tells numbers that can be true, and refuses in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from svm_ext.cli import main
from svm_ext.data import demo
from svm_ext.models.registry import load_model
from svm_ext.train.demo import HELD_OUT, MODELS, score

FRAMES = 6
NAMES = list(demo.CONTENDERS)


def run(*arguments: object) -> int:
    return main.main(["demo", *map(str, arguments)])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short demo."""
    folder = tmp_path_factory.mktemp("demo") / "made"
    assert run("--frames", FRAMES, "--output", folder) == 0
    return folder


def test_writes_a_video_of_every_frame(shown: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(shown / "demo.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FRAMES
    assert (frames[0].width, frames[0].height) == (576, 384)
    pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    assert all(picture.std() > 20 for picture in pictures)


def test_leaves_nothing_else(shown: Path) -> None:
    assert sorted(path.name for path in shown.iterdir()) == ["demo.json", "demo.mp4", "demo.txt"]


def test_numbers_can_be_true(shown: Path) -> None:
    found = json.loads((shown / "demo.json").read_text())
    assert list(found) == NAMES
    for scores in found.values():
        tracks = scores["tracks"]
        assert all(0 <= tracks[name] <= 1 for name in ("HOTA", "IDF1"))
        assert tracks["MOTA"] <= 1
        assert tracks["TP"] + tracks["FN"] == tracks["GT_Dets"] > 0
        assert 0 <= scores["ap50"] <= 1
        assert scores["frames_per_second"] > 0
    memory, off, frames = (found[name]["memory_bytes"] for name in NAMES)
    assert memory == pytest.approx(demo.MEMORY["frames"] * off, rel=1e-3)
    assert off > frames


def test_tells_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--frames", 2, "--output", tmp_path, "--seed", 5) == 0
    out = capsys.readouterr().out
    for word in ("HOTA", "MOTA", "IDF1", "IDSW", "fps", "memory", *NAMES, "need not be found"):
        assert word in out
    for name in ("demo.mp4", "demo.txt", "demo.json"):
        assert f"wrote {tmp_path / name}" in out


def test_the_same_seed_gives_the_same_tracks(shown: Path, tmp_path: Path) -> None:
    assert run("--frames", FRAMES, "--output", tmp_path) == 0
    assert (tmp_path / "demo.txt").read_bytes() == (shown / "demo.txt").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "0"], "--frames: expected at least 1"),
        (["--seed", "-1"], "seed: expected a whole number from 0"),
    ],
)
def test_nonsense_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--output", tmp_path / "new") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert run("--output", tmp_path / "file") == 2
    assert "which is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupt_leaves_a_whole_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av")
    from svm_ext.cli._progress import FrameProgress

    def step(self: FrameProgress, what: str) -> None:
        self.done += 1
        if self.done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(FrameProgress, "step", step)
    assert run("--frames", 20, "--output", tmp_path) == 130
    with av.open(str(tmp_path / "demo.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


@pytest.mark.slow
def test_the_shipped_model_tracks_on_scenes_it_never_saw_and_uses_its_memory() -> None:
    streaming, *others = (score(*contender, frames=100) for contender in demo.CONTENDERS.values())
    assert len(HELD_OUT) >= 12
    assert streaming.tracks["MOTA"] >= 0.85
    assert streaming.tracks["HOTA"] >= 0.70
    assert streaming.ap50 >= 0.94
    for other in others:
        assert streaming.ap50_hard > other.ap50_hard
        assert streaming.tracks["MOTA"] > other.tracks["MOTA"]


@pytest.mark.slow
def test_it_takes_less_than_a_minute(tmp_path: Path) -> None:
    start = time.monotonic()
    assert run("--output", tmp_path) == 0
    assert time.monotonic() - start < 60


def test_both_models_are_there() -> None:
    assert {path for path, _ in MODELS.values()} == {demo.STREAMING, demo.FRAME_BASED}
    assert all(not load_model(path).eval().training for path, _ in MODELS.values())
