"""Generated scenes on disk are a data set like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svm_ext.data import mot
from svm_ext.data.check import check_data
from svm_ext.data.export import write_scenes
from svm_ext.data.scenes import Scene, SceneConfig

SMALL = SceneConfig(size=(96, 160))


def test_what_is_written_is_what_was_generated(tmp_path: Path) -> None:
    folders = write_scenes(tmp_path, SMALL, seed=5, scenes=2, frames=6)
    assert [folder.name for folder in folders] == ["scene-00005", "scene-00006"]
    found = mot.read_videos(tmp_path)
    assert [len(video) for video in found.videos] == [6, 6]
    scene, video = Scene(6, SMALL), found.videos[1]
    for index in range(6):
        frame, target = scene[index], video.target(index)
        truth = frame.targets(0.1)
        assert target["ids"].tolist() == truth["ids"].tolist()
        np.testing.assert_array_equal(target["boxes"], truth["boxes"])
        np.testing.assert_allclose(target["visibility"], truth["visibility"], atol=1e-4)
        assert np.abs(video.picture(index).numpy().astype(int) - frame.image).mean() < 4  # JPEG


def test_the_hidden_are_written_as_neither_found_nor_missed(tmp_path: Path) -> None:
    [folder] = write_scenes(tmp_path, SMALL, seed=5, frames=40)
    rows = list(mot.rows_of(folder / "gt" / "gt.txt"))
    assert {(row.confidence, row.label) for row in rows} == {(1.0, 1), (0.0, 8)}
    assert all((row.visibility >= 0.1) == (row.label == 1) for row in rows)


def test_a_check_finds_nothing_grave(tmp_path: Path) -> None:
    write_scenes(tmp_path, SMALL, frames=30)
    report = check_data(tmp_path, every_picture=True)
    assert not report.grave
    assert report.counts["frames"] == 30


def test_complete_scenes_are_kept_and_others_made_again(tmp_path: Path) -> None:
    first, second = write_scenes(tmp_path, SMALL, scenes=2, frames=2)
    (second / "seqinfo.ini").unlink()
    (second / "img1" / "000009.jpg").write_text("left over")
    (first / "img1" / "000002.jpg").unlink()
    told: list[tuple[str, int, int]] = []
    write_scenes(tmp_path, SMALL, scenes=2, frames=2, on_frame=lambda *step: told.append(step))
    assert told == [("scene-00001", 2, 4), ("scene-00001", 3, 4)]
    assert len(list((first / "img1").iterdir())) == 1
    assert len(list((second / "img1").iterdir())) == 2


@pytest.mark.parametrize("wrong", [dict(scenes=0), dict(frames=0)])
def test_nothing_to_write_is_named(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected"):
        write_scenes(tmp_path, SMALL, **wrong)
