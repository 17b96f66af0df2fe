"""A contact sheet: pictures of a data set with their boxes, to see at a glance whether they fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._files import whole_file
from ..stream.draw import colour_of
from .videos import Target, Video, VideoSet, read_picture

if TYPE_CHECKING:
    from PIL import Image

_WIDE, _GAP, _CAPTION = 480, 6, 16  # pixels: a picture, the gap around it, the line under it


def chosen(videos: VideoSet, count: int) -> list[tuple[Video, int]]:
    """Choose frames evenly over all videos, of each the frames with boxes if there are such."""
    ends = np.cumsum([len(video) for video in videos.videos])
    found: dict[tuple[int, int], tuple[Video, int]] = {}
    for place in range(count):
        at = (2 * place + 1) * int(ends[-1]) // (2 * count)
        number = int(np.searchsorted(ends, at, side="right"))
        video = videos.videos[number]
        frame = at - (int(ends[number - 1]) if number else 0)
        with_boxes = np.flatnonzero(np.diff(video.rows))
        if len(with_boxes):
            frame = int(with_boxes[np.abs(with_boxes - frame).argmin()])
        found[number, frame] = video, frame
    return list(found.values())


def draw_sheet(videos: VideoSet, path: str | Path, *, count: int = 12, columns: int = 3) -> Path:
    """Write a picture file with some of the frames, their boxes and ids; a picture that is damaged stays black."""
    from PIL import Image, ImageDraw

    frames = chosen(videos, count)
    cells = [_cell(video, frame, videos.classes) for video, frame in frames]
    tall = max(cell.height for cell in cells) + 2 * _GAP + _CAPTION
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (_WIDE + _GAP) + _GAP, rows * tall), (24, 26, 30))
    pen = ImageDraw.Draw(sheet)
    for place, (cell, (video, frame)) in enumerate(zip(cells, frames, strict=True)):
        x, y = place % columns * (_WIDE + _GAP) + _GAP, place // columns * tall + _GAP
        sheet.paste(cell, (x, y))
        boxes = int(video.rows[frame + 1] - video.rows[frame])
        pen.text((x, y + cell.height + 2), f"{video.name}  frame {frame + 1}  {boxes} boxes", fill=(220, 222, 226))
    path = Path(path)
    with whole_file(path) as part:
        sheet.save(part, format="PNG" if path.suffix.lower() == ".png" else "JPEG", quality=90)
    return path


def _cell(video: Video, frame: int, classes: tuple[str, ...]) -> Image.Image:
    from PIL import Image, ImageDraw

    height, width = video.size
    scale = _WIDE / width
    try:
        pixels = read_picture(video.files[frame]).permute(1, 2, 0).numpy()
        cell = Image.fromarray(pixels).resize((_WIDE, max(round(height * scale), 1)))
    except (ValueError, OSError):
        cell = Image.new("RGB", (_WIDE, max(round(height * scale), 1)))
    pen = ImageDraw.Draw(cell)
    target = video.target(frame)
    for box, colour, text in _labelled(target, classes):
        left, top, right, bottom = (float(side) * scale for side in box)
        pen.rectangle((left, top, right, bottom), outline=colour, width=2)
        pen.text((left + 3, max(top, 0) + 1), text, fill=colour, stroke_width=1, stroke_fill=(0, 0, 0))
    return cell


def _labelled(target: Target, classes: tuple[str, ...]) -> list[tuple[list[float], tuple[int, int, int], str]]:
    """Return box, colour and text of each: the id, if known, and the class, if there are several."""
    found = []
    for box, label, id in zip(*(target[name].tolist() for name in ("boxes", "labels", "ids")), strict=True):
        words = [str(id)] if id >= 0 else []
        words += [classes[label]] if len(classes) > 1 else []
        found.append((box, colour_of(id if id >= 0 else label), " ".join(words)))
    return found
