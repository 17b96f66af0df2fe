"""Reads annotated videos from a folder or a file: `read_videos`.

Three layouts are understood; the first two hold videos, the third single pictures, each taken for a video of one frame.

**MOTChallenge.** A folder of sequences, or one sequence::

    DIR/SEQ/img1/000001.jpg ...   pictures, numbered without a gap, .jpg or .png
    DIR/SEQ/gt/gt.txt             frame, id, left, top, width, height, conf, class, visibility
    DIR/SEQ/seqinfo.ini           optional: imDir, frameRate

Lines end after height, if there is no more to tell. `conf` 0 marks what is to be ignored. Only class 1, a pedestrian,
is read; a line without a class is a pedestrian. An id of -1 stands for nobody knows: detectors learn without.

**COCO-VID.** A JSON file with `videos`; a folder with `annotations.json` in it stands for that file. `images` have
`video_id` and `frame_id`, which counts from 0 without a gap; `annotations` have `instance_id`, if known.

**COCO.** The same without `videos`.

In both the `file_name` of an image is a path below the folder `images`, which is the JSON file's own unless told
otherwise, and annotations with `iscrowd` or `ignore` are left out. So are, in all layouts, boxes that are thinner than
a pixel or wholly beside the picture, and pictures with a side of less than 32 pixels. Boxes may leave the picture.
"""

from __future__ import annotations

import configparser
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .videos import SMALLEST_PICTURE, Annotations, Video, VideoSet, picture_size

PEDESTRIAN = 1  # MOTChallenge's class
PICTURES = (".jpg", ".jpeg", ".png")


def read_videos(
    path: str | Path, *, images: str | Path | None = None, classes: Sequence[str] | None = None
) -> VideoSet:
    """Read a data set in any of the layouts above.

    `images` is the folder that a JSON file's names are below; `classes` says which of its categories to read, in the
    order of their labels.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"data: expected a folder or a JSON file that exists, got {str(path)!r}")
    if path.is_dir() and (path / "annotations.json").is_file():
        path = path / "annotations.json"
    if path.is_file():
        return read_coco(path, images=images, classes=classes)
    for name, value in {"images": images, "classes": classes}.items():
        if value is not None:
            raise ValueError(f"{name}: expected none for MOTChallenge folders, got {value}; leave it out")
    videos = tuple(read_sequence(folder) for folder in sequence_folders(path))
    return VideoSet(videos, ("pedestrian",))


@dataclass(frozen=True)
class SequenceInfo:
    """What seqinfo.ini says, and what is usual where it says nothing."""

    name: str
    pictures: str = "img1"  # folder
    fps: float = 30.0
    length: int | None = None
    size: tuple[int, int] | None = None  # height and width


def sequence_info(folder: Path) -> SequenceInfo:
    """Read the seqinfo.ini of a sequence, if it has one."""
    path = folder / "seqinfo.ini"
    if not path.is_file():
        return SequenceInfo(folder.name)
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        told = parser["Sequence"]
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a section [Sequence] with name=value lines, got none") from error
    numbers = {}
    for name in ("frameRate", "seqLength", "imWidth", "imHeight"):
        text = told.get(name, "").strip()
        try:
            numbers[name] = float(text) if text else None
        except ValueError as error:
            raise ValueError(f"{path}: expected {name} to be a number, got {text!r}") from error
    length, width, height = (numbers[name] for name in ("seqLength", "imWidth", "imHeight"))
    return SequenceInfo(
        told.get("name", folder.name).strip(),
        told.get("imDir", "img1").strip(),
        numbers["frameRate"] or 30.0,
        int(length) if length else None,
        (int(height), int(width)) if height and width else None,
    )


def sequence_folders(folder: Path) -> list[Path]:
    """Return the sequences in a folder, sorted, or the folder itself if it is one."""
    if _is_sequence(folder):
        return [folder]
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir() and _is_sequence(entry))
    if not found:
        deeper = sorted({entry.parent.name for entry in folder.glob("*/*") if entry.is_dir() and _is_sequence(entry)})
        advice = f"; did you mean {' or '.join(str(folder / name) for name in deeper)}?" if deeper else ""
        raise ValueError(
            f"data: expected folders SEQ/img1 with SEQ/gt/gt.txt, or annotations.json, in {str(folder)!r},"
            f" got neither{advice}"
        )
    return found


def _is_sequence(folder: Path) -> bool:
    return (folder / "seqinfo.ini").is_file() or (folder / "gt" / "gt.txt").is_file() or (folder / "img1").is_dir()


def sequence_pictures(folder: Path, info: SequenceInfo) -> dict[int, Path]:
    """Return the pictures of a sequence by their numbers, in order."""
    place = folder / info.pictures
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: expected a folder of pictures, got none")
    pictures: dict[int, Path] = {}
    for file in sorted(entry for entry in place.iterdir() if entry.suffix.lower() in PICTURES):
        if not file.stem.isdecimal():
            raise ValueError(f"{file}: expected the number of a frame as the file's name, like 000001.jpg")
        if int(file.stem) in pictures:
            raise ValueError(f"{file}: expected one picture for each frame, got {pictures[int(file.stem)].name} too")
        pictures[int(file.stem)] = file
    if not pictures:
        raise ValueError(f"{place}: expected pictures ({', '.join(PICTURES)}), got none")
    numbers = sorted(pictures)
    if numbers[-1] - numbers[0] + 1 != len(numbers):
        gap = next(number for number in range(numbers[0], numbers[-1]) if number not in pictures)
        raise ValueError(f"{place}: expected pictures {numbers[0]} to {numbers[-1]} without a gap, got no {gap}")
    return {number: pictures[number] for number in numbers}


def read_sequence(folder: str | Path) -> Video:
    """Read one sequence in MOTChallenge's layout."""
    folder = Path(folder)
    info = sequence_info(folder)
    pictures = sequence_pictures(folder, info)
    first = min(pictures)
    size = picture_size(pictures[first])
    truth = folder / "gt" / "gt.txt"
    if not truth.is_file():
        raise FileNotFoundError(f"{truth}: expected the boxes of this sequence, got no such file")
    boxes = Annotations(len(pictures), size)
    for row in rows_of(truth):
        if row.frame not in pictures:
            raise ValueError(
                f"{truth}, line {row.line}: expected a frame from {first} to {max(pictures)}, as there are"
                f" pictures, got {row.frame}"
            )
        if row.label == PEDESTRIAN:
            ignore = row.confidence == 0
            boxes.add(row.frame - first, row.box, id=row.id, visibility=row.visibility, ignore=ignore)
    return boxes.video(folder.name, map(str, pictures.values()), info.fps)


@dataclass(frozen=True)
class Row:
    """One line of gt.txt."""

    line: int
    frame: int
    id: int
    box: tuple[float, float, float, float]  # left, top, width, height
    confidence: float
    label: int
    visibility: float


def rows_of(path: Path) -> Iterator[Row]:
    """Read gt.txt line by line."""
    for line, text in lines_of(path):
        try:
            yield row_of(line, text)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Return number and text of each line that is not blank."""
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text, got something else; is the file damaged?") from error
    return ((line, text.strip()) for line, text in enumerate(texts, start=1) if text.strip())


def row_of(line: int, text: str) -> Row:
    """Read one line; of 10 columns, as MOT15 has them, the last three are places in the world."""
    try:
        numbers = [float(field) for field in text.rstrip(",").split("," if "," in text else None)]
        frame, id = (int(number) for number in numbers[:2])
        left, top, width, height = numbers[2:6]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
    except (ValueError, OverflowError) as error:
        columns = "frame, id, left, top, width, height, conf, class, visibility"
        raise ValueError(f"expected {columns}, got {text[:60]!r}") from error
    world = len(numbers) >= 10
    return Row(
        line,
        frame,
        id,
        (left, top, width, height),
        numbers[6] if len(numbers) > 6 else 1.0,
        int(numbers[7]) if len(numbers) > 7 and not world else PEDESTRIAN,
        numbers[8] if len(numbers) > 8 and not world else 1.0,
    )


def read_coco(path: str | Path, *, images: str | Path | None = None, classes: Sequence[str] | None = None) -> VideoSet:
    """Read a COCO or COCO-VID file."""
    path = Path(path)
    folder = Path(images) if images is not None else path.parent
    told = load_coco(path)
    names = {category["id"]: category["name"] for category in sorted(told["categories"], key=lambda it: it["id"])}
    wanted = tuple(names.values()) if classes is None else tuple(classes)
    if strange := [name for name in wanted if name not in names.values()]:
        raise ValueError(f"classes: expected names among {', '.join(names.values())}, got {', '.join(strange)}")
    labels = {number: wanted.index(name) for number, name in names.items() if name in wanted}
    boxes: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in told["annotations"]:
        boxes[annotation["image_id"]].append(annotation)
    videos = []
    for name, pictures, fps in _videos_of(path, told):
        size = pictures[0]["height"], pictures[0]["width"]
        if min(size) < SMALLEST_PICTURE:
            continue
        found = Annotations(len(pictures), size)
        for frame, picture in enumerate(pictures):
            for annotation in boxes.get(picture["id"], ()):
                _add(found, frame, annotation, labels)
        videos.append(found.video(name, (str(folder / picture["file_name"]) for picture in pictures), fps))
    if not videos:
        raise ValueError(f"{path}: expected pictures of at least {SMALLEST_PICTURE} pixels, got none")
    return VideoSet(tuple(videos), wanted)


def _add(found: Annotations, frame: int, annotation: dict[str, Any], labels: dict[Any, int]) -> None:
    if annotation["category_id"] in labels:
        found.add(
            frame,
            annotation["bbox"],
            label=labels[annotation["category_id"]],
            id=annotation.get("instance_id", -1),
            visibility=annotation.get("visibility", 1.0),
            ignore=bool(annotation.get("iscrowd") or annotation.get("ignore")),
        )


def load_coco(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Load a COCO file and see to it that what a reader needs is there."""
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    needed = {
        "categories": ("id", "name"),
        "images": ("id", "file_name", "height", "width"),
        "annotations": ("image_id", "category_id", "bbox"),
        "videos": ("id", "name"),
    }
    if not isinstance(told, dict) or "images" not in told or "categories" not in told:
        raise ValueError(f"{path}: expected COCO annotations with images and categories, got something else")
    for part, fields in needed.items():
        for number, entry in enumerate(told.setdefault(part, [])):
            if missing := [field for field in fields if field not in entry]:
                raise ValueError(f"{path}: expected {', '.join(missing)} in entry {number} of {part}, got {entry}")
    for number, entry in enumerate(told["annotations"]):
        box = entry["bbox"]
        if not (isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)):
            raise ValueError(f"{path}: expected bbox [x, y, width, height] in entry {number} of annotations, got {box}")
    return told


def _videos_of(path: Path, told: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], float]]:
    """Yield name, images in order and frames a second of each video, or of each image where there are no videos."""
    if not told["videos"]:
        for picture in told["images"]:
            yield str(picture["file_name"]), [picture], 30.0
        return
    pictures: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for picture in told["images"]:
        pictures[picture.get("video_id")].append(picture)
    known = {video["id"] for video in told["videos"]}
    if strange := [number for number in pictures if number not in known]:
        raise ValueError(f"{path}: expected the video_id of one of videos in every image, got {strange[0]!r}")
    for video in told["videos"]:
        frames = sorted(pictures[video["id"]], key=lambda picture: picture.get("frame_id", -1))
        numbers = [picture.get("frame_id") for picture in frames]
        if numbers != list(range(len(numbers))):
            raise ValueError(
                f"{path}: expected frame_id 0 to {len(numbers) - 1} without a gap in video {video['name']!r},"
                f" got {numbers[:6]}"
            )
        if len({(picture["height"], picture["width"]) for picture in frames}) > 1:
            raise ValueError(f"{path}: expected pictures of one size in video {video['name']!r}, got several")
        if frames:
            yield str(video["name"]), frames, float(video.get("fps", 30.0))
