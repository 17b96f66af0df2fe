"""Says in plain words what is wrong with a data set: `check_data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import mot
from .videos import SMALLEST_PICTURE, VideoSet, picture_size, read_picture

_EXAMPLES = 3  # places told of one kind of problem
_DECODED = 50  # pictures of a video that are read whole, unless all are
_JUMP = 3.0  # box sizes from one frame to the next that nobody moves
Told = Callable[[str, int, int], None]


@dataclass
class Problem:
    """One kind of problem and the first places where it was found."""

    grave: bool  # training fails or learns what is wrong
    kind: str
    places: list[str] = field(default_factory=list)
    count: int = 0

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.places)} more" if self.count > len(self.places) else ""
        return f"{'error' if self.grave else 'look'}  {self.kind}: {'; '.join(self.places)}{more}"


@dataclass
class Report:
    """What was found: numbers of everything, and problems, the grave ones first."""

    source: str
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    videos: VideoSet | None = None  # the data set as trainings read it, if it can be read

    @property
    def grave(self) -> bool:
        """Whether something has to be mended."""
        return any(problem.grave for problem in self.problems)

    def found(self, kind: str, place: str, *, grave: bool = True) -> None:
        """Take down a problem."""
        problem = next((it for it in self.problems if it.kind == kind), None)
        if problem is None:
            problem = Problem(grave, kind)
            self.problems.append(problem)
        problem.count += 1
        if len(problem.places) < _EXAMPLES:
            problem.places.append(place)

    def lines(self) -> list[str]:
        """Return the report as people read it."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        problems = sorted(self.problems, key=lambda problem: not problem.grave)
        verdict = "has to be mended" if self.grave else "can be trained with"
        return [f"{self.source}: {counts or 'cannot be read'}", *map(str, problems), f"{self.source} {verdict}"]


def check_data(
    path: str | Path,
    *,
    images: str | Path | None = None,
    every_picture: bool = False,
    on_video: Told = lambda name, number, total: None,
) -> Report:
    """Look through a data set in any layout of `mot`; `every_picture` reads them all, not some of each video."""
    path, report = Path(path), Report(str(path))
    if not path.exists():
        raise FileNotFoundError(f"data: expected a folder or a JSON file that exists, got {str(path)!r}")
    if path.is_dir() and (path / "annotations.json").is_file():
        path = path / "annotations.json"
    if path.is_dir():
        for folder in _tried(report, "cannot be read", mot.sequence_folders, path) or ():
            _check_sequence(report, folder)
    elif told := _tried(report, "cannot be read", mot.load_coco, path):
        _check_coco(report, told)
    report.videos = _tried(report, "cannot be read", lambda: mot.read_videos(path, images=images))
    if report.videos is not None:
        _count(report, report.videos)
        for number, video in enumerate(report.videos.videos):
            on_video(video.name, number, len(report.videos.videos))
            _check_pictures(report, video.files, video.size, every_picture)
    return report


def _tried(report: Report, kind: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what work gives, or take down why it gives nothing; an error that was told already is not told again."""
    try:
        return work(*arguments)
    except (ValueError, OSError) as error:
        if not any(str(error) in place for problem in report.problems for place in problem.places):
            report.found(kind, str(error))
        return None


def _count(report: Report, videos: VideoSet) -> None:
    known = [np.unique(video.ids[video.ids >= 0]) for video in videos.videos]
    empty = sum(int((np.diff(video.rows) == 0).sum()) for video in videos.videos)
    report.counts = {
        "videos": len(videos.videos),
        "frames": videos.frames,
        "boxes": videos.boxes,
        "identities": sum(map(len, known)),
        "frames without a box": empty,
    }
    if not videos.boxes:
        report.found("no boxes", "nothing that a detector could learn")
    for video, identities in zip(videos.videos, known, strict=True):
        if len(video.boxes) and not len(identities) and len(video) > 1:
            report.found("no identities", f"{video.name}: enough to train, not to score tracks", grave=False)


def _check_sequence(report: Report, folder: Path) -> None:
    info = _tried(report, "seqinfo.ini", mot.sequence_info, folder)
    pictures = _tried(report, "pictures", mot.sequence_pictures, folder, info) if info else None
    if not pictures:
        return
    if info.length not in (None, len(pictures)):
        place = f"{folder}: seqinfo.ini says {info.length}, there are {len(pictures)}"
        report.found("number of pictures", place, grave=False)
    size = _tried(report, "pictures", picture_size, next(iter(pictures.values())))
    truth = folder / "gt" / "gt.txt"
    if size is None or not truth.is_file():
        return
    if info.size not in (None, size):
        told, found = (f"{width}x{height}" for height, width in (info.size, size))
        report.found("size of pictures", f"{folder}: seqinfo.ini says {told}, they have {found}", grave=False)
    boxes = _Boxes(report, size)
    for line, text in _tried(report, "gt.txt", mot.lines_of, truth) or ():
        try:
            row = mot.row_of(line, text)
        except ValueError as error:
            report.found("line that cannot be read", f"{truth}, line {line}: {error}")
            continue
        if row.frame not in pictures:
            report.found("frame without a picture", f"{truth}, line {line}: frame {row.frame}")
        elif row.label == mot.PEDESTRIAN and row.confidence:
            boxes.add(f"{truth}, line {line}", row.frame, row.box, row.id, row.visibility)
    boxes.finish(str(truth))


def _check_coco(report: Report, told: dict[str, Any]) -> None:
    images = {image["id"]: image for image in told["images"]}
    categories = {category["id"] for category in told["categories"]}
    for part in ("images", "annotations", "videos", "categories"):
        numbers = Counter(entry["id"] for entry in told[part] if "id" in entry)
        for number, count in numbers.items():
            if count > 1:
                report.found(f"id twice in {part}", f"{number}")
    for image in told["images"]:
        if min(image["height"], image["width"]) < SMALLEST_PICTURE:
            report.found("picture that is too small and left out", str(image["file_name"]), grave=False)
    videos: dict[Any, _Boxes] = {}
    for number, annotation in enumerate(told["annotations"]):
        place = f"annotation {annotation.get('id', number)}"
        image = images.get(annotation["image_id"])
        if image is None:
            report.found("box of an unknown image", f"{place}: image_id {annotation['image_id']}")
        elif annotation["category_id"] not in categories:
            report.found("box of an unknown category", f"{place}: category_id {annotation['category_id']}")
        elif not (annotation.get("iscrowd") or annotation.get("ignore")):
            video = image.get("video_id", f"image {image['id']}")
            boxes = videos.setdefault(video, _Boxes(report, (image["height"], image["width"])))
            identity = annotation.get("instance_id", -1)
            boxes.add(place, image.get("frame_id", 0), annotation["bbox"], identity, annotation.get("visibility", 1.0))
    for video, boxes in videos.items():
        boxes.finish(f"video {video}")


class _Boxes:
    """The boxes of one video: each is looked at by itself, then with its neighbours in time."""

    def __init__(self, report: Report, size: tuple[int, int]) -> None:
        self._report, self._size = report, size
        self._rows: list[tuple[float, ...]] = []  # frame, id, x, y, width, height
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, place: str, frame: int, box: Sequence[float], id: int, visibility: float) -> None:
        """Look at one box."""
        x, y, width, height = box
        tall, wide = self._size
        told = f"{place}: x {x:g}, y {y:g}, width {width:g}, height {height:g}"
        if not np.isfinite([x, y, width, height]).all():
            self._report.found("box that is not finite", told)
            return
        if width <= 0 or height <= 0:
            self._report.found("box without an area", told)
        elif width < 1 or height < 1:
            self._report.found("box thinner than a pixel, left out", told, grave=False)
        elif x >= wide or y >= tall or x + width <= 0 or y + height <= 0:
            self._report.found("box beside the picture, left out", told, grave=False)
        elif width > 2 * wide or height > 2 * tall:
            self._report.found("box more than twice as large as the picture", told)
        if not 0 <= visibility <= 1:
            self._report.found("visibility that is no share from 0 to 1", f"{place}: {visibility:g}", grave=False)
        if id >= 0 and (frame, id) in self._seen:
            self._report.found("identity twice in a frame", f"{place}: id {id}, frame {frame}")
        if (frame, x, y, width, height) in self._seen:
            self._report.found("box twice in a frame", told, grave=False)
        self._seen |= {(frame, id), (frame, x, y, width, height)}
        self._rows.append((frame, id, x, y, width, height))

    def finish(self, place: str) -> None:
        """Look at all boxes together."""
        rows = np.array(self._rows).reshape(-1, 6)
        if len(rows):
            self._check_units(place, rows[:, 2:])
            self._check_jumps(place, rows[rows[:, 1] >= 0])

    def _check_units(self, place: str, boxes: np.ndarray) -> None:
        """Recognise boxes in other units and of another kind than left, top, width, height."""
        tall, wide = self._size
        if boxes.max() <= 1.5:
            self._report.found("boxes that look like shares of the picture", f"{place}: pixels are expected")
            return
        over = (boxes[:, 0] + boxes[:, 2] > 1.05 * wide) | (boxes[:, 1] + boxes[:, 3] > 1.05 * tall)
        within = (boxes[:, 2] <= 1.02 * wide) & (boxes[:, 3] <= 1.02 * tall) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        if len(boxes) >= 4 and over.mean() > 0.4 and within.all():
            told = f"{place}: left, top, width, height are expected"
            self._report.found("boxes that look like left, top, right, bottom", told)

    def _check_jumps(self, place: str, rows: np.ndarray) -> None:
        """Find identities that go from one frame to the next further than anything goes."""
        rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
        before, after = rows[:-1], rows[1:]
        moved = np.abs((after[:, 2:4] + after[:, 4:6] / 2) - (before[:, 2:4] + before[:, 4:6] / 2))
        far = (moved > _JUMP * np.maximum(before[:, 4:6], after[:, 4:6])).any(1)
        next_frame = (before[:, 1] == after[:, 1]) & (after[:, 0] - before[:, 0] == 1)
        for row in after[far & next_frame]:
            self._report.found("identity that jumps", f"{place}: id {row[1]:g} in frame {row[0]:g}", grave=False)


def _check_pictures(report: Report, files: Iterable[str], size: tuple[int, int], every: bool) -> None:
    """Look at the size of every picture of a video, and read some or all of them."""
    files = list(files)
    step = 1 if every else max(len(files) // _DECODED, 1)
    for number, file in enumerate(files):
        if not Path(file).is_file():
            report.found("picture that is not there", file)
            continue
        found = _tried(report, "picture that cannot be read", picture_size, file)
        if found and found != size:
            told, there = (f"{width}x{height}" for height, width in (size, found))
            report.found("picture of another size", f"{file}: {there}, expected {told}")
        elif found and number % step == 0:
            _tried(report, "picture that cannot be read", read_picture, file)
