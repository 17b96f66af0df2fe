"""Finds the files of sequences as people lay them out, and says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .motchallenge import read_tracks, sequence_length
from .table import TrackTable

_MANY = 5  # names told before the rest is only counted


@dataclass(frozen=True)
class SequenceFiles:
    """Where one sequence's ground truth and results lie; `info` is its seqinfo.ini."""

    name: str
    gt: Path
    pred: Path
    info: Path | None

    def read(self, *, allow_empty: bool) -> tuple[TrackTable, TrackTable, int | None]:
        """Return ground truth, results and length; without seqinfo.ini the length is unknown."""
        length = sequence_length(self.info) if self.info else None
        gt = read_tracks(self.gt, ground_truth=True, frames=length)
        pred = read_tracks(self.pred, frames=length)
        for path, table in ((self.gt, gt), (self.pred, pred)):
            if not len(table) and not allow_empty:
                advice = "allow_empty (--allow-empty) takes it for a sequence without tracks"
                raise ValueError(f"{path}: expected tracks, got an empty file; {advice}")
        return gt, pred, length


def find(gt: Path, pred: Path, only: Sequence[str] | None = None) -> list[SequenceFiles]:
    """Pair ground truth with results: two files, or two folders of sequences, sorted by name.

    Ground truth is SEQ/gt/gt.txt with SEQ/seqinfo.ini, or else SEQ.txt. Results are SEQ.txt, data/SEQ.txt, SEQ/SEQ.txt,
    or the one text file in SEQ.
    """
    for name, path in (("gt", gt), ("pred", pred)):
        if not path.exists():
            raise FileNotFoundError(f"{name}: expected a folder or a file that exists, got {str(path)!r}")
    if gt.is_file() != pred.is_file():
        raise ValueError(f"pred: expected a {'file' if gt.is_file() else 'folder'} as gt is one, got {str(pred)!r}")
    if gt.is_file():
        return [SequenceFiles(gt.parents[1].name if _in_sequence(gt) else gt.stem, gt, pred, _info(gt))]
    truths = _ground_truths(gt, only)
    results = {name: path for name in truths if (path := _results(pred, name))}
    names = choose(truths, results, only, _names(pred), lambda name: str(pred / f"{name}.txt"))
    return [SequenceFiles(name, truths[name], results[name], _info(truths[name])) for name in names]


def choose(
    gt: Iterable[str],
    pred: Iterable[str],
    only: Sequence[str] | None,
    pred_names: Iterable[str],
    place: Callable[[str], str],
) -> list[str]:
    """Return the sequences to evaluate; each that is wanted needs ground truth and results.

    `pred_names` is what the user called his results, `place` where those of a sequence are expected.
    """
    known, found = sorted(gt), set(pred)
    if strange := [name for name in only or () if name not in known]:
        raise ValueError(f"sequences: expected names that gt has ({_list(known)}), got {_list(strange)}")
    wanted = [name for name in known if only is None or name in only]
    missing = [name for name in wanted if name not in found]
    if len(missing) == len(wanted):
        raise ValueError(
            f"pred: expected sequences named as in gt ({_list(wanted)}), got {_list(pred_names) or 'none'};"
            f" results are looked for at {place('SEQ')}"
        )
    if missing:
        raise ValueError(
            f"pred: expected results for every sequence of gt, got none for {_list(missing)};"
            f" track it and write {place(missing[0])}, or choose other sequences"
        )
    return wanted


def _in_sequence(file: Path) -> bool:
    return file.parent.name == "gt"


def _info(gt: Path) -> Path | None:
    path = gt.parents[1] / "seqinfo.ini" if _in_sequence(gt) else None
    return path if path and path.is_file() else None


def _ground_truths(folder: Path, only: Sequence[str] | None) -> dict[str, Path]:
    """Return the ground truth of each sequence."""
    nested = {path.parents[1].name: path for path in folder.glob("*/gt/gt.txt")}
    bare = sorted({path.parent.name for path in folder.glob("*/seqinfo.ini")} - nested.keys())
    if bare := [name for name in bare if only is None or name in only]:
        raise ValueError(f"gt: expected gt/gt.txt in each sequence of {str(folder)!r}, got none in {_list(bare)}")
    found = nested or {path.stem: path for path in folder.glob("*.txt")}
    if not found:
        deeper = sorted({str(path.parents[2]) for path in folder.glob("*/*/gt/gt.txt")})
        advice = f"; did you mean {' or '.join(deeper)}?" if deeper else ""
        raise ValueError(f"gt: expected SEQ/gt/gt.txt or SEQ.txt in {str(folder)!r}, got neither{advice}")
    return found


def _results(folder: Path, name: str) -> Path | None:
    """Return the results of one sequence, None without any."""
    for path in (folder / f"{name}.txt", folder / "data" / f"{name}.txt", folder / name / f"{name}.txt"):
        if path.is_file():
            return path
    own = sorted((folder / name).glob("*.txt"))
    if len(own) > 1:
        names = _list(path.name for path in own)
        raise ValueError(f"pred: expected one text file in {str(folder / name)!r}, got {names}; call it {name}.txt")
    return own[0] if own else None


def _names(folder: Path) -> list[str]:
    """Return what may have been meant as the name of a sequence."""
    return sorted({path.stem for place in (folder, folder / "data") for path in place.glob("*.txt")}) or sorted(
        path.name for path in folder.iterdir() if path.is_dir()
    )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + rest
