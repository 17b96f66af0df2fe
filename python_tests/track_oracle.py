"""Random scenes for the evaluator, and TrackEval's and pycocotools' answers to them."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FLOATS = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR")
# Our name of a whole number -> TrackEval's metric and its name there.
COUNTS = {
    **{name: ("CLEAR", name) for name in ("IDSW", "Frag", "MT", "PT", "ML")},
    **{name: ("CLEAR", f"CLR_{name}") for name in ("TP", "FP", "FN")},
    **{name: ("Identity", name) for name in ("IDTP", "IDFP", "IDFN")},
    **{name: ("Count", name) for name in ("GT_Dets", "Dets", "GT_IDs", "IDs")},
}


def oracle(name: str) -> ModuleType:
    """Import a package that only tests use; without it the test is skipped aloud, or fails where required."""
    try:
        return importlib.import_module(name)
    except ImportError:
        required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(f"ORACLE MISSING: {name} is not installed")


@dataclass
class Rows:
    """The lines of one sequence's two files."""

    gt: list[list[float]] = field(default_factory=list)
    pred: list[list[float]] = field(default_factory=list)
    frames: int = 0

    def write(self, folder: Path, name: str) -> None:
        write(folder / "gt" / name / "gt" / "gt.txt", self.gt)
        write(folder / "pred" / f"{name}.txt", self.pred)
        (folder / "gt" / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength={self.frames}\n")


def write(path: Path, rows: list[list[float]], delimiter: str = ",") -> None:
    """Write rows in full precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(delimiter.join(f"{value!r}" for value in map(_plain, row)) + "\n" for row in rows))


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(value)


def random_rows(seed: int, *, frames: int = 40, people: int = 8, grid: float = 0.0, classes: bool = True) -> Rows:
    """People who come and go, hide, are missed, seen twice or confused, among distractors and boxes not to be found.

    With a grid, corners lie on its points, so that overlaps tie and meet thresholds exactly.
    """
    rng = np.random.default_rng(seed)
    rows = Rows(frames=frames)
    born, lives = rng.integers(1, frames // 2, people), rng.integers(frames // 4, frames, people)
    position, speed = rng.uniform(0, 60, (people, 2)), rng.normal(0, 1.5, (people, 2))
    size = rng.uniform(15, 30, (people, 2)) * [1, 2]
    label = rng.choice([1, 1, 1, 1, 2, 3, 6, 7, 8, 12], people) if classes else np.ones(people, int)
    mark = rng.random(people) > 0.15
    names = rng.permutation(100)[:people]  # ids of results: neither sorted nor without gaps
    for frame in range(1, frames + 1):
        position = position + speed
        if rng.random() < 0.15:
            one, other = rng.integers(0, people, 2)
            names[[one, other]] = names[[other, one]]
        if rng.random() < 0.1:
            names[rng.integers(people)] = 100 + frame
        alive = np.flatnonzero((born <= frame) & (frame < born + lives))
        if frames // 2 <= frame < frames // 2 + 2:
            alive = alive[:0] if seed % 2 else alive
        for person in rng.permutation(alive):
            box = _snap(np.concatenate([position[person], size[person]]), grid)
            rows.gt.append([frame, person + 1, *box, int(mark[person]), label[person], round(rng.random(), 3)])
            if rng.random() < 0.8:
                seen = _snap(box + rng.normal(0, 2.5, 4), grid)
                rows.pred.append([frame, names[person], *seen, round(rng.random(), 3), -1, -1, -1])
        for index in range(rng.poisson(0.7)):
            box = _snap(rng.uniform([0, 0, 10, 20], [60, 60, 30, 60]), grid)
            rows.pred.append([frame, 500 + 10 * (frame // 5) + index, *box, 0.5, -1, -1, -1])
    return rows


def _snap(box: np.ndarray, grid: float) -> np.ndarray:
    return np.round(box / grid) * grid if grid else box


def trackeval_scores(folder: Path, lengths: dict[str, int], benchmark: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return TrackEval's results by sequence and COMBINED, then by metric and field."""
    trackeval = oracle("trackeval")
    quiet = {"PRINT_CONFIG": False}
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"),
            "TRACKERS_FOLDER": str(folder),
            "TRACKERS_TO_EVAL": ["pred"],
            "TRACKER_SUB_FOLDER": "",
            "BENCHMARK": benchmark,
            "SEQ_INFO": dict(lengths),
            "SKIP_SPLIT_FOL": True,
            **quiet,
        }
    )
    metrics = {
        "HOTA": trackeval.metrics.HOTA(),
        "CLEAR": trackeval.metrics.CLEAR(dict(quiet)),
        "Identity": trackeval.metrics.Identity(dict(quiet)),
        "Count": importlib.import_module("trackeval.metrics.count").Count(),
    }
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(lengths):
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("pred", name), "pedestrian")
        found[name] = {metric: it.eval_sequence(data) for metric, it in metrics.items()}
    combined = {
        metric: it.combine_sequences({name: scores[metric] for name, scores in found.items()})
        for metric, it in metrics.items()
    }
    return {**found, "COMBINED": combined}


def assert_same_scores(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Whole numbers are equal, fractions to the last digits."""
    assert list(ours) == list(theirs)
    for name, scores in ours.items():
        for key, (metric, field_name) in COUNTS.items():
            assert isinstance(scores[key], int)
            assert scores[key] == theirs[name][metric][field_name], (name, key)
        for key in FLOATS:
            [value] = [np.mean(fields[key]) for fields in theirs[name].values() if key in fields]
            assert isinstance(scores[key], float)
            assert scores[key] == pytest.approx(value, rel=0, abs=1e-12), (name, key)


def coco_scores(
    images: list[dict[str, np.ndarray]], classes: list[int], max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return pycocotools' precision [T, R, K] and recall [T, K] on images as AveragePrecision.update takes them."""
    oracle("pycocotools")
    coco = importlib.import_module("pycocotools.coco").COCO
    cocoeval = importlib.import_module("pycocotools.cocoeval").COCOeval
    gt, pred = [], []
    for number, image in enumerate(images, 1):
        crowd = image.get("crowd", np.zeros(len(image["gt_boxes"]), bool))
        for box, label, many in zip(_sides(image["gt_boxes"]), image["gt_labels"], crowd, strict=True):
            row = {"id": len(gt) + 1, "image_id": number, "category_id": int(label), "bbox": box, "iscrowd": int(many)}
            gt.append({**row, "area": box[2] * box[3]})
        for box, label, score in zip(_sides(image["boxes"]), image["labels"], image["scores"], strict=True):
            pred.append({"image_id": number, "category_id": int(label), "bbox": box, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        ids = [{"id": number} for number in range(1, len(images) + 1)]
        truth.dataset = {"images": ids, "annotations": gt, "categories": [{"id": label} for label in classes]}
        truth.createIndex()
        found = truth.loadRes(pred) if pred else _nothing(coco, truth)
        run = cocoeval(truth, found, "bbox")
        run.params.maxDets = [max_detections]
        run.params.areaRng = [[0, 1e10]]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., 0, 0], run.eval["recall"][..., 0, 0]


def _nothing(coco: Any, truth: Any) -> Any:
    empty = coco()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _sides(boxes: np.ndarray) -> list[list[float]]:
    boxes = np.array(boxes, float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
