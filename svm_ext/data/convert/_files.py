"""What the converters have in common: JSON written whole, and work that is told about."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from ..._files import whole_file

Result = TypeVar("Result")
Told = Callable[[str, int, int], None]  # what begins, its number from 0, how many there are
CATEGORIES = [{"id": 1, "name": "pedestrian"}]


def write_json(path: Path, told: Any) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(told))


def require_folder(name: str, folder: Path) -> None:
    """Raise where there is no such folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: expected a folder that exists, got {str(folder)!r}")


def spread(jobs: int, work: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
    """Yield the results of work for each of the arguments, in order, done by this process or by several others."""
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1 process, got {jobs}")
    if jobs == 1:
        yield from map(work, *arguments)
        return
    # An interrupt ends the others at once and without a word: what they were at is not there in half.
    quiet = signal.signal, (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(jobs, get_context("spawn"), *quiet) as pool:
        try:
            yield from pool.map(work, *arguments)
        except BrokenProcessPool as error:
            raise OSError("jobs: expected processes to live, got one that was killed; use fewer") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def silent(name: str, number: int, total: int) -> None:
    """Tell nothing."""
