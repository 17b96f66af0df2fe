"""A picture of a run: milliseconds against frames, ours and each baseline, and the share of the peak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .rows import Row

FORMATS = (".png", ".svg")
_COLORS = {
    "eager": "C3",
    "sdpa": "C1",
    "flex": "C4",
    "copy": "0.6",
    "append+attend": "C2",
    "index": "C1",
    "index_rows": "C4",
    "loop": "C3",
}


def require(path: Path) -> None:
    """Say before anything is measured what would keep the plot from being drawn."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"--plot: expected a file name with {' or '.join(FORMATS)}, got {path.name!r}; rename it")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("--plot: needs matplotlib, found none; type: pip install matplotlib") from error


def series(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Group rows that differ only in frames (boxes), in rising order: one picture each."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        op, dtype, rest, _ = row.series
        groups.setdefault((op, dtype, report.size_text(rest)), []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: row.series[3])
    return groups


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw all series; a panel of milliseconds for each, and a last one with the shares of the peak."""
    # The figure's own classes, not pyplot: that keeps state for the process and may look for a screen.
    from matplotlib.figure import Figure

    groups = series(rows)
    if not groups:
        raise ValueError("--plot: nothing was measured, so there is nothing to draw; see the reasons above")
    across = min(4, len(groups) + 1)
    down = -(-(len(groups) + 1) // across)
    figure = Figure(figsize=(4.2 * across, 3.4 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for panel, (names, group) in zip(axes, groups.items(), strict=False):
        _milliseconds(panel, " ".join(filter(None, names)), group)
    _shares(axes[len(groups)], groups)
    for panel in axes[len(groups) + 1 :]:
        panel.set_visible(False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)


def _milliseconds(panel: Any, title: str, group: Sequence[Row]) -> None:
    x = [row.series[3] for row in group]
    panel.plot(x, [row.ms for row in group], "o-", color="C0", linewidth=2, label=f"svm_ext {group[0].op}")
    for name in dict.fromkeys(name for row in group for name in row.baselines):
        points = [(row.series[3], row.baselines[name].ms) for row in group if name in row.baselines]
        panel.plot(*zip(*points, strict=True), ".--", color=_COLORS.get(name), label=name)
    _on_log_axes(panel, title, x, "boxes" if "boxes" in group[0].sizes else "frames in memory")
    panel.set_yscale("log")
    panel.set_ylabel("ms")
    panel.legend(fontsize=7)


def _shares(panel: Any, groups: dict[tuple[str, ...], list[Row]]) -> None:
    ticks: set[int] = set()
    for names, group in groups.items():
        points = [(row.series[3], 100 * row.peak_share) for row in group if row.peak_share is not None]
        if points:
            panel.plot(*zip(*points, strict=True), ".-", label=" ".join(filter(None, names)))
            ticks |= {x for x, _ in points}
    if not ticks:
        panel.set_visible(False)
        return
    _on_log_axes(panel, "share of the multiply-add peak", sorted(ticks), "frames in memory")
    panel.set_ylim(0, 100)
    panel.set_ylabel("%")
    panel.legend(fontsize=6)


def _on_log_axes(panel: Any, title: str, x: Sequence[int], label: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [str(value) for value in x])
    panel.minorticks_off()
    panel.set_xlabel(label)
    panel.grid(True, alpha=0.3)
