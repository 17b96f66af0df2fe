"""MOTSynth's annotations, one file a video, as one COCO-VID file: `convert_motsynth`.

The result is larger than memory may be, so videos are read one by one, by several processes, into files of their own
beside the result, and these are strung together at the end. A conversion that was stopped goes on with them.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..._files import whole_file
from ._files import CATEGORIES, Told, require_folder, silent, spread, write_json

FPS = 20


def convert_motsynth(
    annotations: str | Path,
    output: str | Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    on_video: Told = silent,
) -> bool:
    """Write one file for all NUMBER.json in a folder, sorted by name; return False where it was there already."""
    source, output = Path(annotations), Path(output)
    require_folder("annotations", source)
    files = sorted(source.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"annotations: expected files like 000.json in {str(source)!r}, got none")
    if output.is_dir():
        raise IsADirectoryError(f"output: expected the name of a file, got the folder {str(output)!r}")
    if output.exists() and not overwrite:
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    parts = output.with_name(f".{output.name}.parts")
    parts.mkdir(exist_ok=True)
    made = [parts / f"{file.stem}.json" for file in files]
    done = spread(jobs, read_video, files, made)
    for number, (file, _) in enumerate(zip(files, done, strict=True)):
        on_video(file.name, number, len(files))
    with whole_file(output) as part, part.open("w") as text:
        _string_together(text, made)
    shutil.rmtree(parts)
    return True


def read_video(file: Path, part: Path) -> None:
    """Read the annotations of one video and write what is needed of them, unless that is there already."""
    stat = file.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    if part.is_file():
        try:
            if json.loads(part.read_text())["stamp"] == stamp:
                return
        except (json.JSONDecodeError, KeyError):
            pass  # of another version; made again
    try:
        told = json.loads(file.read_text())
        images = sorted(told["images"], key=lambda image: image["frame_n"])
        boxes: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in told["annotations"]:
            boxes[annotation["image_id"]].append(annotation)
        frames = [_frame(file.stem, image, boxes[image["id"]]) for image in images]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected MOTSynth's images and annotations, got {error!r}; copy it again") from error
    if not frames:
        raise ValueError(f"{file}: expected at least one image, got none")
    write_json(part, {"stamp": stamp, "frames": frames})


def _frame(name: str, image: dict[str, Any], boxes: list[dict[str, Any]]) -> list[Any]:
    """Return an image and its annotations, but for the numbers that count over all videos."""
    number = image["frame_n"]
    told = {"file_name": f"{name}/img1/{number:06}.jpg", "height": image["height"], "width": image["width"]}
    annotations = [
        {
            "category_id": 1,
            "bbox": box["bbox"],
            "area": box["bbox"][2] * box["bbox"][3],
            "iscrowd": bool(box["iscrowd"]),
            "instance_id": box["ped_id"],
        }
        for box in boxes
    ]
    return [told, number - 1, annotations]


def _string_together(text: TextIO, parts: list[Path]) -> None:
    """Write the file piece by piece."""
    text.write(f'{{"categories": {json.dumps(CATEGORIES)}, "videos": ')
    _write_list(text, _videos(parts))
    text.write(', "images": ')
    _write_list(text, _images(parts))
    text.write(', "annotations": ')
    people: set[tuple[int, Any]] = set()
    _write_list(text, _annotations(parts, people))
    text.write(f', "num_instances": {len(people)}}}')


def _write_list(text: TextIO, entries: Iterator[dict[str, Any]]) -> None:
    text.write("[")
    for number, entry in enumerate(entries):
        text.write((", " if number else "") + json.dumps(entry))
    text.write("]")


def _read(parts: list[Path]) -> Iterator[tuple[int, str, list[Any]]]:
    for number, part in enumerate(parts, start=1):
        yield number, part.stem, json.loads(part.read_text())["frames"]


def _videos(parts: list[Path]) -> Iterator[dict[str, Any]]:
    for number, name, frames in _read(parts):
        image = frames[0][0]
        yield {"id": number, "name": name, "fps": FPS, "height": image["height"], "width": image["width"]}


def _images(parts: list[Path]) -> Iterator[dict[str, Any]]:
    count = 0
    for number, _, frames in _read(parts):
        for image, frame, _ in frames:
            count += 1
            yield {**image, "id": count, "frame_id": frame, "video_id": number}


def _annotations(parts: list[Path], people: set[tuple[int, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all annotations, and collect who is in them: numbers of people are a video's own."""
    image = count = 0
    for number, _, frames in _read(parts):
        for _, _, boxes in frames:
            image += 1
            for annotation in boxes:
                count += 1
                person = annotation.pop("instance_id")
                people.add((number, person))
                yield {**annotation, "id": count, "image_id": image, "instance_id": person}
