"""Small annotated videos on disk, in the layouts that people have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture with large coloured patches, uint8 [height, width, 3]."""
    patches = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST))


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture; the suffix says how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def sequence(
    folder: Path, frames: int = 4, rows: Sequence[str] = (), *, info: str | None = None, suffix: str = ".png"
) -> Path:
    """Write a MOTChallenge sequence; the pictures' seed is their number."""
    for number in range(1, frames + 1):
        save(folder / "img1" / f"{number:06}{suffix}", picture(number))
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("".join(row + "\n" for row in rows))
    if info is not None:
        (folder / "seqinfo.ini").write_text(info)
    return folder


def coco(folder: Path, *, frames: int = 3, count: int = 2, **changed: Any) -> Path:
    """Write a COCO-VID file with its pictures, or plain COCO with a `count` of 0; `changed` replaces parts of it."""
    told: dict[str, Any] = {
        "categories": [{"id": 1, "name": "pedestrian"}, {"id": 7, "name": "cyclist"}],
        "videos": [{"id": video, "name": f"v{video}", "fps": 20} for video in range(1, count + 1)],
        "images": [],
        "annotations": [],
    }
    for video in range(1, max(count, 1) + 1):
        for frame in range(frames):
            number = len(told["images"]) + 1
            name = f"v{video}/{frame}.png"
            save(folder / name, picture(100 * video + frame))
            entry = {"id": number, "file_name": name, "height": 48, "width": 64}
            if count:
                entry |= {"video_id": video, "frame_id": frame}
            told["images"].append(entry)
            told["annotations"].append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": [5 + frame, 6, 10, 20], "instance_id": 3}
            )
    if not count:
        del told["videos"]
    told |= changed
    path = folder / "annotations.json"
    path.write_text(json.dumps(told))
    return path


def motsynth(folder: Path, name: str, frames: int = 2, people: int = 2) -> Path:
    """Write the annotations of a MOTSynth video, its images and boxes in no order."""
    folder.mkdir(exist_ok=True)
    images = [{"id": 10 * number, "frame_n": number, "height": 90, "width": 160} for number in range(1, frames + 1)]
    boxes = [
        {"id": 1, "image_id": image["id"], "bbox": [person, 2.5, 4.0, 8.0], "iscrowd": person % 2, "ped_id": person}
        for image in images
        for person in range(people)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images[::-1], "annotations": boxes[::-1]}))
    return path
