"""Writes generated scenes as MOTChallenge folders, to look at, to train with, or to evaluate on: `write_scenes`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .._files import whole_file
from ._scenes.cast import FPS
from .mot import PEDESTRIAN
from .scenes import Scene, SceneConfig, SceneFrame

_DISTRACTOR = 8  # MOTChallenge's class of what neither counts as found nor as missed
_QUALITY = 95  # of JPEG
Told = Callable[[str, int, int], None]


def write_scenes(
    folder: str | Path,
    config: SceneConfig | None = None,
    *,
    seed: int = 0,
    scenes: int = 1,
    frames: int = 300,
    min_visibility: float = 0.1,
    on_frame: Told = lambda name, number, total: None,
) -> list[Path]:
    """Write scenes of the seeds from `seed` on to FOLDER/scene-SEED; return the sequences.

    People of whom less than `min_visibility` is to be seen are written as distractors: whoever finds one is not
    blamed, nor is who does not. A sequence that is there already is kept: it has its seqinfo.ini last.
    """
    for name, count in {"scenes": scenes, "frames": frames}.items():
        if count < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {count}")
    config = config or SceneConfig()
    written = []
    for number in range(scenes):
        written.append(Path(folder) / f"scene-{seed + number:05}")
        if not (written[-1] / "seqinfo.ini").is_file():
            on_scene = _counted(on_frame, number * frames, scenes * frames)
            _write(written[-1], Scene(seed + number, config), frames, min_visibility, on_scene)
    return written


def _counted(on_frame: Told, before: int, total: int) -> Callable[[str, int], None]:
    return lambda name, number: on_frame(name, before + number, total)


def _write(folder: Path, scene: Scene, frames: int, min_visibility: float, told: Callable[[str, int], None]) -> None:
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rows = []
    for frame in scene.frames(0, frames):
        told(folder.name, frame.index)
        picture = Image.fromarray(frame.image.transpose(1, 2, 0))
        picture.save(folder / "img1" / f"{frame.index + 1:06}.jpg", quality=_QUALITY)
        rows += _rows(frame, min_visibility)
    (folder / "gt" / "gt.txt").write_text("".join(rows))
    height, width = scene.config.size
    with whole_file(folder / "seqinfo.ini") as part:
        part.write_text(
            f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={FPS:g}\nseqLength={frames}\n"
            f"imWidth={width}\nimHeight={height}\nimExt=.jpg\n"
        )


def _rows(frame: SceneFrame, min_visibility: float) -> list[str]:
    rows = []
    for box, id, visibility in zip(frame.boxes.tolist(), frame.ids, frame.visibility, strict=True):
        left, top, right, bottom = (round(side) for side in box)
        counts, label = (1, PEDESTRIAN) if visibility >= min_visibility else (0, _DISTRACTOR)
        box_told = f"{left},{top},{right - left},{bottom - top}"
        rows.append(f"{frame.index + 1},{id},{box_told},{counts},{label},{visibility:.4f}\n")
    return rows
