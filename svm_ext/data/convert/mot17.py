"""MOT17, and every data set laid out like it, as COCO-VID: `convert_mot17`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._files import whole_file
from ..mot import PEDESTRIAN, Row, SequenceInfo, lines_of, rows_of, sequence_info, sequence_pictures
from ..videos import picture_size
from ._files import CATEGORIES, Told, require_folder, silent, write_json

HALVES = ("half-train", "half-val")


@dataclass
class _Ids:
    """The next number of each kind; they go on from one set to the next."""

    video: int = 1
    image: int = 1
    annotation: int = 1


@dataclass(frozen=True)
class _Sequence:
    """One sequence as it was found."""

    folder: Path
    info: SequenceInfo
    pictures: dict[int, Path]
    size: tuple[int, int]  # height and width
    rows: dict[int, list[Row]]  # pedestrians by frame
    lines: list[tuple[int, str]]  # frame and text of every line of gt.txt

    @property
    def middle(self) -> int:
        """How many pictures the first half has: one more than the second, or two."""
        return (self.info.length or len(self.pictures)) // 2 + 1


def convert_mot17(
    source: str | Path, output: str | Path, *, split_train: bool = False, on_sequence: Told = silent
) -> list[Path]:
    """Write train_cocoformat.json and test_cocoformat.json of a folder with train/SEQ and test/SEQ.

    `split_train` writes the first and the second half of every training sequence as sets of their own, and their lines
    of gt.txt to gt/SEQ/gt/gt_half-train.txt and gt_half-val.txt, in the output folder. Returns the JSON files.
    """
    source, output = Path(source), Path(output)
    require_folder("input", source)
    parts = [name for name in ("train", "test") if (source / name).is_dir()]
    if not parts:
        raise FileNotFoundError(f"input: expected folders train or test in {str(source)!r}, got neither")
    folders = {name: _folders(source / name) for name in parts}
    total, number = sum(map(len, folders.values())), 0
    found: dict[str, list[_Sequence]] = {}
    for name, sequences in folders.items():
        found[name] = []
        for folder in sequences:
            on_sequence(f"{name}/{folder.name}", number, total)
            found[name].append(_read(folder, with_truth=name == "train"))
            number += 1
    sets = [*parts, *(HALVES if split_train and "train" in parts else ())]
    ids, written = _Ids(), []
    for name in sets:
        written.append(output / f"{name}_cocoformat.json")
        write_json(written[-1], _coco(name, found["train" if name in HALVES else name], ids))
    for sequence in found["train"] if split_train and "train" in parts else ():
        _write_halves(sequence, output / "gt" / sequence.folder.name / "gt")
    return written


def _folders(folder: Path) -> list[Path]:
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"input: expected sequences in {str(folder)!r}, got none")
    return found


def _read(folder: Path, with_truth: bool) -> _Sequence:
    info = sequence_info(folder)
    pictures = sequence_pictures(folder, info)
    if info.length is not None and info.length != len(pictures):
        raise ValueError(
            f"{folder}: expected {info.length} pictures as seqinfo.ini says, got {len(pictures)}; unpack it again"
        )
    rows: dict[int, list[Row]] = {}
    lines: list[tuple[int, str]] = []
    truth = folder / "gt" / "gt.txt"
    if with_truth:
        if not truth.is_file():
            raise FileNotFoundError(f"{truth}: expected the ground truth of a training sequence, got no such file")
        texts = dict(lines_of(truth))
        for row in rows_of(truth):
            if row.frame not in pictures:
                raise ValueError(f"{truth}, line {row.line}: expected the number of a picture, got {row.frame}")
            lines.append((row.frame, texts[row.line]))
            if row.label == PEDESTRIAN:
                rows.setdefault(row.frame, []).append(row)
    size = info.size or picture_size(next(iter(pictures.values())))
    return _Sequence(folder, info, pictures, size, rows, lines)


def _coco(name: str, sequences: list[_Sequence], ids: _Ids) -> dict[str, Any]:
    """Return the COCO-VID of one set; a set without ground truth has no annotations."""
    told: dict[str, Any] = {"categories": CATEGORIES}
    if name != "test":
        told["annotations"] = []
    told |= {"images": [], "videos": []}
    people: dict[tuple[int, int], int] = {}  # video and its own number of a person -> number in the set
    for sequence in sequences:
        for frame, number in enumerate(_frames(name, sequence)):
            picture = f"{sequence.folder.name}/{sequence.info.pictures}/{sequence.pictures[number].name}"
            told["images"].append(_image(ids, picture, sequence.size, frame, number))
            for row in sequence.rows.get(number, ()):
                person = people.setdefault((ids.video, row.id), len(people))
                told["annotations"].append(_annotation(ids, row, person))
                ids.annotation += 1
            ids.image += 1
        fps = sequence.info.fps
        height, width = sequence.size
        video = {"id": ids.video, "name": sequence.folder.name, "fps": int(fps) if fps == int(fps) else fps}
        told["videos"].append(video | {"width": width, "height": height})
        ids.video += 1
    return told | {"num_instances": len(people)}


def _frames(name: str, sequence: _Sequence) -> list[int]:
    numbers = list(sequence.pictures)
    if name not in HALVES:
        return numbers
    return numbers[: sequence.middle] if name == "half-train" else numbers[sequence.middle :]


def _image(ids: _Ids, picture: str, size: tuple[int, int], frame: int, number: int) -> dict[str, Any]:
    return {
        "id": ids.image,
        "video_id": ids.video,
        "file_name": picture,
        "height": size[0],
        "width": size[1],
        "frame_id": frame,
        "mot_frame_id": number,
    }


def _annotation(ids: _Ids, row: Row, person: int) -> dict[str, Any]:
    return {
        "category_id": 1,
        "bbox": list(row.box),
        "area": row.box[2] * row.box[3],
        "iscrowd": False,
        "visibility": row.visibility,
        "mot_instance_id": row.id,
        "mot_conf": row.confidence,
        "mot_class_id": row.label,
        "id": ids.annotation,
        "image_id": ids.image,
        "instance_id": person,
    }


def _write_halves(sequence: _Sequence, folder: Path) -> None:
    """Write the lines of gt.txt by the half that their frame is in, in their order and with their own numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    last = list(sequence.pictures)[min(sequence.middle, len(sequence.pictures)) - 1]
    for name, of_first in zip(HALVES, (True, False), strict=True):
        with whole_file(folder / f"gt_{name}.txt") as part:
            part.write_text("".join(f"{text}\n" for text in _half(sequence, last, of_first)))


def _half(sequence: _Sequence, last: int, of_first: bool) -> Iterator[str]:
    return (text for frame, text in sequence.lines if (frame <= last) == of_first)
