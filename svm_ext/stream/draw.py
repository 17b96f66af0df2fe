"""Annotator: draws boxes, ids, scores and trails into frames, and what the memory holds of them."""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..tracking import Tracks
    from .results import FrameResult

Colour = tuple[int, int, int]
_TRAIL = 40  # frames that a trail reaches back
_GOLDEN = 0.6180339887498949  # steps by it never meet a hue twice, and spread whatever their number
_FADES = 8  # steps in which a trail fades
_STRIP = 16  # pictures in a row of the strip
_DARK: Colour = (16, 18, 24)
_LIGHT: Colour = (250, 250, 250)


class Annotator:
    """Draws the results of one stream, frame after frame, and remembers where its objects came from.

    `memory` is how many frames the stream's memory can hold; given, a strip at the bottom shows what it
    remembers, with the oldest frame melting away where `evict` is merge.
    """

    def __init__(self, *, trail: int = _TRAIL, memory: int = 0, evict: str = "merge") -> None:
        self.trail = trail
        self._strip = Filmstrip(memory, evict) if memory else None
        self._paths: dict[int, deque[tuple[float, float]]] = {}
        self._seen: dict[int, int] = {}  # id -> frame drawn last
        self._frame = 0

    def draw(self, result: FrameResult, fps: float | None = None) -> np.ndarray:
        """Return a copy of the frame with everything drawn in; `fps` is what its corner tells."""
        canvas = result.image.copy()  # [H, W, 3]
        self._frame += 1
        tracks = result.tracks
        ids, boxes, scores, predicted = (
            np.asarray(values) for values in (tracks.ids, tracks.boxes, tracks.scores, tracks.predicted)
        )
        self._follow(ids.tolist(), boxes)
        style = Style(canvas.shape[0], canvas.shape[1])
        for number in ids.tolist():
            draw_trail(canvas, list(self._paths[number]), colour_of(number), style.line)
        order = np.argsort(boxes[:, 3], kind="stable")  # what stands nearer covers what stands behind it
        for row in order.tolist():
            draw_box(canvas, boxes[row], colour_of(int(ids[row])), style.line, dashed=bool(predicted[row]))
        draw_tabs(canvas, tracks, order.tolist(), style)
        draw_line_of_text(canvas, _summary(fps, len(ids), result.time), style)
        if self._strip is not None:
            self._strip.add(result.image, result.remembered)
            self._strip.draw(canvas)
        return canvas

    def _follow(self, ids: list[int], boxes: np.ndarray) -> None:
        """Add where the objects stand to their paths, and drop the paths of those long gone."""
        for number, (left, _, right, bottom) in zip(ids, boxes.tolist(), strict=True):
            path = self._paths.setdefault(number, deque(maxlen=self.trail))
            path.append(((left + right) / 2, bottom))
            self._seen[number] = self._frame
        for number in [number for number, seen in self._seen.items() if self._frame - seen > self.trail]:
            del self._paths[number], self._seen[number]


class Style:
    """Widths and sizes that look alike in small and large pictures."""

    def __init__(self, height: int, width: int) -> None:
        side = min(height, width)
        self.line = max(2, round(side / 360))
        self.text = max(11, round(side / 50))
        self.pad = max(3, round(self.text * 0.3))


class Filmstrip:
    """Small pictures of the frames that a memory holds, the oldest first."""

    def __init__(self, frames: int, evict: str) -> None:
        self.frames, self.evict = frames, evict
        self._pictures: list[np.ndarray] = []  # float32 [h, w, 3]

    def add(self, image: np.ndarray, remembered: int) -> None:
        """Take in a frame as the memory did, which now holds so many."""
        held = len(self._pictures)
        if remembered <= held and remembered < self.frames:  # it was reset, or full and cleared
            del self._pictures[: held - remembered + 1]
        elif held == self.frames:
            oldest = self._pictures.pop(0)
            if self.evict == "merge" and self._pictures:
                self._pictures[0] = (self._pictures[0] + oldest) / 2
        self._pictures.append(_thumbnail(image, image.shape[1] // _STRIP))

    def draw(self, canvas: np.ndarray) -> None:
        """Draw the strip along the bottom of a picture [H, W, 3], in rows."""
        height, width = self._pictures[0].shape[:2]
        rows = -(-self.frames // _STRIP)
        top = max(canvas.shape[0] - rows * height - 1, 0)
        canvas[top:, : min(self.frames, _STRIP) * width] //= 4
        for place, picture in enumerate(self._pictures):
            row, column = divmod(place, _STRIP)
            y, x = top + 1 + row * height, column * width
            room = canvas[y : y + height - 1, x : x + width - 1]
            room[:] = picture[: room.shape[0], : room.shape[1]]


@lru_cache(maxsize=4096)
def colour_of(number: int) -> Colour:
    """Return the colour of an id: always the same, and unlike its neighbours'."""
    hue = 2 * math.pi * ((number * _GOLDEN) % 1)
    lightness = (0.74, 0.66, 0.82)[number % 3]
    return _from_oklab(lightness, 0.15 * math.cos(hue), 0.15 * math.sin(hue))


def draw_box(canvas: np.ndarray, box: np.ndarray, colour: Colour, line: int, *, dashed: bool = False) -> None:
    """Draw the outline of a box x1, y1, x2, y2, as far as it lies in the picture [H, W, 3]."""
    height, width = canvas.shape[:2]
    corners = _inside(box, width, height)
    if corners is None:
        return
    left, top, right, bottom = corners
    out = line // 2
    x0, y0, x1, y1 = max(left - out, 0), max(top - out, 0), min(right + out + 1, width), min(bottom + out + 1, height)
    dash = slice(None) if not dashed else np.arange(max(x1 - x0, y1 - y0)) % (6 * line) < 3 * line
    for side in (canvas[y0 : y0 + line, x0:x1], canvas[y1 - line : y1, x0:x1]):  # [line, w, 3]
        side[:, _part(dash, side.shape[1])] = colour
    for side in (canvas[y0:y1, x0 : x0 + line], canvas[y0:y1, x1 - line : x1]):  # [h, line, 3]
        side[_part(dash, side.shape[0])] = colour


def draw_tabs(canvas: np.ndarray, tracks: Tracks, order: list[int], style: Style) -> None:
    """Draw ids and scores on top of boxes, the nearest last; in a crowd those behind go without their scores."""
    placed: list[tuple[int, int, np.ndarray]] = []
    for row in reversed(order):
        number, score = int(tracks.ids[row]), "" if tracks.predicted[row] else f"{float(tracks.scores[row]):.2f}"
        for text in (score, ""):
            tab = _tab(str(number), text, colour_of(number), style.text, style.pad)
            corner = place_of_tab(canvas, np.asarray(tracks.boxes[row]), tab, style.line)
            if corner is None or not any(_overlap(corner, tab, *other) for other in placed):
                break
        if corner is not None:
            placed.append((*corner, tab))
    for left, top, tab in reversed(placed):
        place = canvas[top : top + tab.shape[0], left : left + tab.shape[1]]
        place[:] = tab[: place.shape[0], : place.shape[1]]


def place_of_tab(canvas: np.ndarray, box: np.ndarray, tab: np.ndarray, line: int) -> tuple[int, int] | None:
    """Return the left upper corner of a tab [h, w, 3] on top of a box; inside of it where the picture ends."""
    height, width = canvas.shape[:2]
    corners = _inside(box, width, height)
    if corners is None:
        return None
    left = min(max(corners[0] - line // 2, 0), max(width - tab.shape[1], 0))
    top = corners[1] - line // 2 - tab.shape[0]
    return left, top if top >= 0 else min(corners[1], max(height - tab.shape[0], 0))


def draw_trail(canvas: np.ndarray, points: list[tuple[float, float]], colour: Colour, line: int) -> None:
    """Draw a path [(x, y), ...] that fades towards its beginning."""
    from PIL import Image, ImageDraw

    path = np.asarray(points)
    if len(path) < 2 or np.ptp(path, axis=0).max() < line:
        return
    height, width = canvas.shape[:2]
    left, top = np.maximum(path.min(0) - line - 1, 0).astype(int).tolist()
    right, bottom = np.minimum(path.max(0) + line + 2, (width, height)).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    mask = Image.new("L", (2 * (right - left), 2 * (bottom - top)))  # twice as large: halving it smooths the edges
    pen = ImageDraw.Draw(mask)
    at = ((path - (left, top)) * 2).ravel().tolist()
    for step in range(_FADES):
        first, last = (place * (len(path) - 1) // _FADES for place in (step, step + 1))
        if last > first:
            pen.line(at[2 * first : 2 * last + 2], fill=255 * (step + 2) // (_FADES + 2), width=2 * line)
    cover = np.asarray(mask.reduce(2)).ravel()
    marked = np.flatnonzero(cover != 0)  # ten times as fast as to look for numbers
    y, x = np.divmod(marked, right - left)
    share = cover[marked].astype(np.uint16)[:, None]
    under = canvas[top + y, left + x] * (255 - share)  # [n, 3]
    canvas[top + y, left + x] = (under + np.array(colour, dtype=np.uint16) * share) // 255


def draw_line_of_text(canvas: np.ndarray, text: str, style: Style) -> None:
    """Draw a line of text on a dark band in the upper left corner."""
    cover = _text(text, style.text).astype(np.uint16)[:, :, None]  # [h, w, 1]
    pad = style.pad
    height, width = cover.shape[0] + 2 * pad, cover.shape[1] + 4 * pad
    band = canvas[:height, :width].astype(np.uint16)
    band = (band * 76 + np.array(_DARK, dtype=np.uint16) * 180) >> 8
    inner = band[pad : pad + cover.shape[0], 2 * pad : 2 * pad + cover.shape[1]]
    cover = cover[: inner.shape[0], : inner.shape[1]]
    inner[:] = (inner * (255 - cover) + np.array(_LIGHT, dtype=np.uint16) * cover) // 255
    canvas[:height, :width] = band


def _overlap(corner: tuple[int, int], tab: np.ndarray, left: int, top: int, other: np.ndarray) -> bool:
    across = corner[0] < left + other.shape[1] and left < corner[0] + tab.shape[1]
    return across and corner[1] < top + other.shape[0] and top < corner[1] + tab.shape[0]


def _part(dash: Any, length: int) -> Any:
    return dash if isinstance(dash, slice) else dash[:length]


def _inside(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return a box in whole pixels within the picture; None where nothing of it is."""
    if not np.isfinite(box).all():
        return None
    left, top, right, bottom = (round(float(side)) for side in box)
    if right < 0 or bottom < 0 or left >= width or top >= height or right < left or bottom < top:
        return None
    return max(left, 0), max(top, 0), min(right, width - 1), min(bottom, height - 1)


def _summary(fps: float | None, tracks: int, seconds: float) -> str:
    minutes, rest = divmod(max(seconds, 0.0), 60)
    rate = f"{fps:.1f}" if fps else "--"
    return f"{rate} fps    {tracks} track{'s' if tracks != 1 else ''}    {int(minutes)}:{rest:05.2f}"


def _thumbnail(image: np.ndarray, width: int) -> np.ndarray:
    """Return a picture at this width, float32 [h, w, 3]."""
    from PIL import Image

    width = max(width, 2)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    skip = max(1, image.shape[1] // (4 * width))  # four samples across a pixel are enough for so small a picture
    small = Image.fromarray(np.ascontiguousarray(image[::skip, ::skip]))
    return np.asarray(small.resize((width, height), Image.Resampling.BOX), dtype=np.float32)


@lru_cache(maxsize=1024)
def _tab(number: str, score: str, colour: Colour, size: int, pad: int) -> np.ndarray:
    """Return a tab with an id and a smaller score, uint8 [h, w, 3]."""
    cover = _text(number, size)
    if score:
        small = _text(score, max(round(size * 0.8), 10))
        above = (len(cover) - len(small) + 1) // 2  # on nearly the same line
        small = np.pad(small, ((above, len(cover) - len(small) - above), (pad + 1, 0)))
        cover = np.concatenate([cover, small], axis=1)
    cover = np.pad(cover, ((pad // 2, pad // 2), (pad, pad))).astype(np.uint16)[:, :, None]
    red, green, blue = colour
    ink = _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else _LIGHT
    mixed = np.array(colour, dtype=np.uint16) * (255 - cover) + np.array(ink, dtype=np.uint16) * cover
    return (mixed // 255).astype(np.uint8)


@lru_cache(maxsize=1024)
def _text(text: str, size: int) -> np.ndarray:
    """Return how much of each pixel a line of text covers, uint8 [h, w]; lines of one size have one height."""
    from PIL import Image, ImageDraw

    font = _font(size)
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    mask = Image.new("L", (max(1, math.ceil(right - left)), ascent + descent))
    ImageDraw.Draw(mask).text((-left, 0), text, fill=255, font=font)
    return np.asarray(mask)


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _from_oklab(lightness: float, a: float, b: float) -> Colour:
    """Return an sRGB colour; in OKLab equal steps look equal, so that no hue is pale and none is dark."""
    long, medium, short = (
        (lightness + x * a + y * b) ** 3
        for x, y in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    bent = (
        12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055 for x in (max(0.0, min(1.0, v)) for v in linear)
    )
    red, green, blue = (round(255 * x) for x in bent)
    return red, green, blue
