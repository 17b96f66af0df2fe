"""CrowdHuman as COCO: `convert_crowdhuman`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..videos import picture_size
from ._files import CATEGORIES, Told, require_folder, silent, write_json

_READERS = 8  # threads that wait for the disk while sizes of pictures are read


def convert_crowdhuman(
    source: str | Path, output: str | Path, *, overwrite: bool = False, on_picture: Told = silent
) -> tuple[list[Path], list[Path]]:
    """Write crowdhuman_train.json and crowdhuman_val.json; return the files written, and those there already.

    The source has annotation_train.odgt with train/Images/ID.jpg, annotation_val.odgt with val/Images, or one of both.
    Boxes are those of whole bodies and may leave the picture. What is there already is kept, unless `overwrite`.
    """
    source, output = Path(source), Path(output)
    require_folder("input", source)
    lists = {mode: source / f"annotation_{mode}.odgt" for mode in ("train", "val")}
    if not any(path.is_file() for path in lists.values()):
        raise FileNotFoundError(f"input: expected annotation_train.odgt or annotation_val.odgt in {str(source)!r}")
    written, kept = [], []
    for mode, path in lists.items():
        target = output / f"crowdhuman_{mode}.json"
        if not path.is_file():
            continue
        if target.exists() and not overwrite:
            kept.append(target)
            continue
        write_json(target, _coco(path, source / mode / "Images", on_picture))
        written.append(target)
    return written, kept


def _coco(path: Path, folder: Path, on_picture: Told) -> dict[str, Any]:
    entries = list(_entries(path))
    told: dict[str, Any] = {"categories": CATEGORIES, "images": [], "annotations": []}
    pictures = [folder / f"{entry['ID']}.jpg" for entry in entries]
    with ThreadPoolExecutor(_READERS) as readers:
        sizes = readers.map(_size, pictures)
        for number, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
            on_picture(f"{path.name} {picture.name}", number, len(entries))
            height, width = next(sizes)
            name = f"Images/{picture.name}"
            told["images"].append({"file_name": name, "height": height, "width": width, "id": number + 1})
            for person in entry["gtboxes"]:
                told["annotations"].append(_annotation(len(told["annotations"]) + 1, number + 1, person))
    return told


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
                complete = "ID" in entry and all({"fbox", "vbox"} <= set(person) for person in entry["gtboxes"])
            except (json.JSONDecodeError, KeyError, TypeError):
                complete = False
            if not complete:
                raise ValueError(
                    f"{path}, line {line}: expected JSON with ID and gtboxes of fbox and vbox; copy it again"
                )
            yield entry


def _size(picture: Path) -> tuple[int, int]:
    if not picture.is_file():
        raise FileNotFoundError(f"{picture}: expected the picture of an annotation, got no such file")
    return picture_size(picture)


def _annotation(number: int, image: int, person: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "vis_bbox": person["vbox"],
        "bbox": person["fbox"],
        "area": person["fbox"][2] * person["fbox"][3],
        "iscrowd": person.get("extra", {}).get("ignore") == 1,
    }
