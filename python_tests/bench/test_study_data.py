"""What the learning studies are trained and tested with: parts that share nothing, boxes where the people are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import benchmark_scripts
from svm_ext.data.mot import read_videos
from svm_ext.data.rendered import RenderedClips
from svm_ext.data.scenes import SceneConfig
from svm_ext.evaluate.motchallenge import read_tracks

study_pets = benchmark_scripts.load("study_pets")
study_scenes = benchmark_scripts.load("study_scenes")

PARTS = {"train": range(1, 8), "test": range(8, 13)}


def square(frame: int) -> tuple[int, int]:
    """Where the bright square is."""
    return 4 + 6 * frame, 20


def video(path: Path, frames: int) -> None:
    """A square that moves to the right, in a video as the study's: H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=7)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for frame in range(1, frames + 1):
            x, y = square(frame)
            picture = np.full((64, 128, 3), 40, np.uint8)
            picture[y : y + 24, x : x + 12] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder in the form of PETS09-S2L1: in every frame a walker, and from frame 6 one who is marked 0."""
    monkeypatch.setattr(study_pets, "PARTS", PARTS)
    folder = tmp_path / "pets"
    (folder / "gt").mkdir(parents=True)
    video(folder / study_pets.VIDEO, 12)
    walker = [f"{frame},7,{square(frame)[0]},{square(frame)[1]},12,24,1,-4.1,-7.3,0" for frame in range(1, 13)]
    marked = [f"{frame},9,10.5,8.25,11.5,20.125,0,1.5,2.5,0" for frame in range(6, 13)]
    (folder / study_pets.TRUTH).write_text("\n".join([*walker, *marked]) + "\n")
    return folder


def test_the_parts_of_the_study() -> None:
    assert {"train": range(1, 501), "test": range(501, 796)} == study_pets.PARTS


def test_every_frame_is_in_one_part_with_its_boxes(data: Path, tmp_path: Path) -> None:
    folders = study_pets.split(data, tmp_path / "out")
    for part, frames in PARTS.items():
        [found] = read_videos(folders[part]).videos
        assert len(found) == len(frames)
        assert (found.size, found.fps) == ((64, 128), 7.0)
        assert len(found.boxes) == len(frames)  # the walker alone: who is marked 0 is nobody to learn from
        for index, frame in enumerate(frames):
            [box], x = found.target(index)["boxes"].tolist(), square(frame)[0]
            assert box == [x, 20, x + 12, 44]
            bright = found.picture(index).numpy().mean(0) > 135
            rows, columns = np.nonzero(bright)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(seen) - box).max() <= 1


def test_marked_boxes_stay_marked(data: Path, tmp_path: Path) -> None:
    """The rules of the benchmark need them: they are written, and count for nothing."""
    folders = study_pets.split(data, tmp_path / "out")
    for part, count in {"train": 2, "test": 5}.items():
        table = read_tracks(folders[part] / "PETS09/gt/gt.txt", ground_truth=True, frames=len(PARTS[part]))
        assert (table.mark == 0).sum() == count
        assert set(table.id[table.mark == 0].tolist()) == {9}


def test_parts_are_written_once(data: Path, tmp_path: Path) -> None:
    folders = study_pets.split(data, tmp_path / "out")
    (data / study_pets.VIDEO).unlink()
    assert study_pets.split(data, tmp_path / "out") == folders
    (folders["test"] / "PETS09/seqinfo.ini").unlink()  # as an interrupt leaves it: it is written last
    with pytest.raises(FileNotFoundError, match=study_pets.VIDEO):
        study_pets.split(data, tmp_path / "out")


def test_a_part_that_was_interrupted_is_written_again(data: Path, tmp_path: Path) -> None:
    folders = study_pets.split(data, tmp_path / "out")
    (folders["test"] / "PETS09/seqinfo.ini").unlink()
    (folders["test"] / "PETS09/img1/000099.jpg").write_bytes(b"left over")
    kept = (folders["train"] / "PETS09/img1/000001.jpg").stat().st_mtime_ns
    study_pets.split(data, tmp_path / "out")
    assert len(read_videos(folders["test"]).videos[0]) == len(PARTS["test"])
    assert (folders["train"] / "PETS09/img1/000001.jpg").stat().st_mtime_ns == kept


def test_a_short_video_is_refused(data: Path, tmp_path: Path) -> None:
    video(data / study_pets.VIDEO, 9)
    with pytest.raises(ValueError, match="data: expected 12 frames in video_480x360.avi, got 9"):
        study_pets.split(data, tmp_path / "out")


def test_the_real_data(tmp_path: Path) -> None:
    folder = Path(__file__).parents[3] / "shared/data/pets09_s2l1"
    if not folder.exists():
        required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(f"DATA MISSING: no {folder.name} in {folder.parent}")
    folders = study_pets.split(folder, tmp_path)
    videos = {part: read_videos(path).videos[0] for part, path in folders.items()}
    assert {part: len(it) for part, it in videos.items()} == {"train": 500, "test": 295}
    assert {it.size for it in videos.values()} == {(360, 480)}
    assert sum(len(it.boxes) for it in videos.values()) == 4650 - 174


def test_scenes_have_statues_and_other_seeds_for_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study_scenes.SCENES.statues == 3
    assert study_scenes.HELD_OUT >= 1 << 31  # clips draw their seeds from below 1 << 30
    monkeypatch.setattr(study_scenes, "SCENES", SceneConfig(size=(64, 96), statues=3))
    for name, value in {"CLIPS": 2, "TEST_SCENES": 2, "TEST_FRAMES": 3}.items():
        monkeypatch.setattr(study_scenes, name, value)
    folders = study_scenes.draw_scenes(tmp_path)
    clips = RenderedClips(folders["train"], clip_frames=8)
    assert (len(clips), clips[0][0].shape) == (2, (8, 3, 64, 96))
    assert [len(it) for it in read_videos(folders["test"]).videos] == [3, 3]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    study_scenes.draw_scenes(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
