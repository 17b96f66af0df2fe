"""Videos become folders of pictures, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import video_folders as folders
from svm_ext.data.convert.motsynth_frames import convert_motsynth_frames


def film(path: Path, frames: int = 5, *, patches: bool = False) -> Path:
    """Write a video of plain frames that get lighter, or of patches that cannot be made small."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            plain = np.full((48, 64, 3), 30 + 40 * number % 200, np.uint8)
            picture = folders.picture(number) if patches else plain
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_frame_becomes_a_picture(jobs: int, tmp_path: Path) -> None:
    film(tmp_path / "in" / "001.mp4", 3)
    film(tmp_path / "in" / "000.mp4", 5)
    found = convert_motsynth_frames(tmp_path / "in", tmp_path / "out", jobs=jobs)
    assert [(video.name, video.frames, video.kept, video.problem) for video in found] == [
        ("000", 5, False, None),
        ("001", 3, False, None),
    ]
    pictures = sorted((tmp_path / "out" / "000" / "img1").iterdir())
    assert [path.name for path in pictures] == [f"{number:06}.jpg" for number in range(1, 6)]
    light = [np.asarray(Image.open(path)).mean() for path in pictures]
    assert light == sorted(light)
    np.testing.assert_allclose(light, [30, 70, 110, 150, 190], atol=6)


def test_what_is_complete_is_kept_and_what_is_not_is_made_again(tmp_path: Path) -> None:
    film(tmp_path / "in" / "000.mp4")
    convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / "000"
    (folder / "img1" / "000005.jpg").unlink()
    [kept] = convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    assert (kept.kept, kept.frames) == (True, 4)
    (folder / "img1").rename(folder / ".img1.part")  # as an interrupt leaves it
    folders.save(folder / ".img1.part" / "000099.jpg", folders.picture(1))
    [made] = convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    assert (made.kept, made.frames) == (False, 5)
    assert [path.name for path in folder.iterdir()] == ["img1"]
    assert len(list((folder / "img1").iterdir())) == 5


def test_a_damaged_video_is_told_and_the_others_are_done(tmp_path: Path) -> None:
    whole = film(tmp_path / "in" / "000.avi", 40, patches=True)
    (tmp_path / "in" / "001.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "in" / "002.avi").write_text("no video")
    first, cut, none = convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    assert (first.frames, first.problem) == (40, None)
    assert 0 < cut.frames < 40
    assert cut.problem
    assert len(list((tmp_path / "out" / "001" / "img1").iterdir())) == cut.frames
    assert (none.frames, bool(none.problem)) == (0, True)
    assert not (tmp_path / "out" / "002" / "img1").exists()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input: expected a folder"):
        convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match="input: expected videos"):
        convert_motsynth_frames(tmp_path / "in", tmp_path / "out")
    for suffix in ("avi", "mp4"):
        film(tmp_path / "in" / f"000.{suffix}", 1)
    with pytest.raises(ValueError, match="'000' twice"):
        convert_motsynth_frames(tmp_path / "in", tmp_path / "out")


def test_progress_counts_videos(tmp_path: Path) -> None:
    for number in range(2):
        film(tmp_path / "in" / f"{number}.mp4", 1)
    seen: list[tuple[str, int, int]] = []
    convert_motsynth_frames(tmp_path / "in", tmp_path / "out", on_video=lambda *step: seen.append(step))
    assert seen == [("0", 0, 2), ("1", 1, 2)]
