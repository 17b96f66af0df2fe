"""Scores tracks against ground truth, sequence by sequence and combined: TrackEval's numbers, as fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import report
from .clear import Clear, clear
from .hota import Hota, hota
from .identity import Identity, identity
from .preprocess import DISTRACTORS, Scene, prepare
from .sequences import choose, find
from .sums import total
from .table import TrackTable

COMBINED = "COMBINED"
_TABLE = ("HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1", "IDSW", "FP", "FN", "Frag", "MT", "PT", "ML")

Scores = dict[str, float]
Tables = tuple[TrackTable, TrackTable, int | None]


@dataclass(frozen=True)
class TrackResult:
    """Scores by sequence and combined.

    Fractions: HOTA DetA AssA DetRe DetPr AssRe AssPr LocA (means over 19 thresholds of overlap), MOTA MOTP (mean
    overlap) IDF1 IDP IDR. Whole numbers: IDSW TP FP FN Frag MT PT ML IDTP IDFP IDFN, and after preprocessing Frames,
    GT_Dets and Dets (boxes), GT_IDs and IDs (tracks).
    """

    benchmark: str
    sequences: dict[str, Scores]
    combined: Scores

    def __getitem__(self, name: str) -> Scores:
        return self.combined if name == COMBINED else self.sequences[name]

    def as_dict(self) -> dict[str, Scores]:
        """Return the scores of each sequence by its name, then COMBINED."""
        return {**self.sequences, COMBINED: self.combined}

    def table(self) -> str:
        """Return the main scores as a table, a line a sequence."""
        return report.table(self.as_dict(), _TABLE)

    __str__ = table


class _Counts(NamedTuple):
    """What one sequence adds to the combined scores."""

    hota: Hota
    clear: Clear
    identity: Identity
    sizes: _Sizes


@dataclass(frozen=True)
class _Sizes:
    Frames: int
    GT_Dets: int
    Dets: int
    GT_IDs: int
    IDs: int


def evaluate_tracks(
    gt: str | Path | Mapping[str, TrackTable],
    pred: str | Path | Mapping[str, TrackTable],
    *,
    benchmark: str = "MOT17",
    sequences: Sequence[str] | None = None,
    allow_empty: bool = False,
    on_sequence: Callable[[str, int, int], None] | None = None,
) -> TrackResult:
    """Score tracks: two folders or files of MOTChallenge text, or tables by name of sequence.

    `benchmark` gives the rules of preprocessing: MOT15, MOT17 or MOT20. `sequences` names those to evaluate, by default
    all of `gt`, each of which needs results. A file without tracks is an error unless `allow_empty`. `on_sequence` is
    called with name, number and total as each sequence begins.
    """
    if benchmark not in DISTRACTORS:
        raise ValueError(f"benchmark: expected one of {', '.join(DISTRACTORS)}, got {benchmark!r}")
    if isinstance(gt, Mapping) != isinstance(pred, Mapping):
        raise ValueError("pred: expected tables where gt is tables and a path where gt is one, got one of each")
    if isinstance(gt, Mapping):
        names, tables = _given(gt, pred, sequences)
    else:
        names, tables = _read(Path(gt), Path(pred), sequences, allow_empty)
    if COMBINED in names:
        raise ValueError(f"sequences: expected names of sequences, got {COMBINED}, which is the name of their sum")
    counts = {}
    for number, name in enumerate(names):
        if on_sequence:
            on_sequence(name, number, len(names))
        truth, found, length = next(tables)
        counts[name] = _count(prepare(name, truth, found, benchmark, length))
    return TrackResult(
        benchmark,
        {name: _scores(part, combined=False) for name, part in counts.items()},
        _scores(_Counts(*map(total, zip(*counts.values(), strict=True))), combined=True),
    )


def _given(
    gt: Mapping[str, TrackTable], pred: Mapping[str, TrackTable], only: Sequence[str] | None
) -> tuple[list[str], Iterator[Tables]]:
    names = choose(gt, pred, only, pred, lambda name: f"pred[{name!r}]")
    return names, ((gt[name], pred[name], None) for name in names)


def _read(gt: Path, pred: Path, only: Sequence[str] | None, allow_empty: bool) -> tuple[list[str], Iterator[Tables]]:
    found = find(gt, pred, only)
    return [files.name for files in found], (files.read(allow_empty=allow_empty) for files in found)


def _count(scene: Scene) -> _Counts:
    gt, pred = (int(boxes.sum()) for boxes in scene.counts())
    sizes = _Sizes(scene.length, gt, pred, scene.gt_tracks, scene.pred_tracks)
    return _Counts(hota(scene), clear(scene), identity(scene), sizes)


def _scores(counts: _Counts, *, combined: bool) -> Scores:
    sizes = vars(counts.sizes)
    return {**counts.hota.scores(), **counts.clear.scores(combined=combined), **counts.identity.scores(), **sizes}
