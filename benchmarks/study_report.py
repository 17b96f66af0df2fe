"""What a learning study found, as markdown, JSON and a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from svm_ext._files import whole_file

COLUMNS = ("AP50", "AP", "HOTA", "MOTA", "IDF1")
CURVES = ("AP50", "HOTA")  # drawn and told over the length of the memory
_COLOURS = ("0.45", "C0", "C3", "C9", "C1")


def values(result: dict[str, Any], model: str, score: str, memory: int | None = None) -> list[float]:
    """Return a score of every seed; a model that was scored once has one for all lengths."""
    of_seeds = result["scores"][model].values()
    return [_at(of_seed, memory or result["memory"])[score] for of_seed in of_seeds]


def _at(of_seed: dict[str, Any], memory: int) -> dict[str, float]:
    return of_seed[str(memory)] if len(of_seed) > 1 else next(iter(of_seed.values()))


def remember(result: dict[str, Any]) -> list[str]:
    """Return the models that were scored with several lengths of memory."""
    return [model for model, seeds in result["scores"].items() if len(next(iter(seeds.values()))) > 1]


def lengths(result: dict[str, Any]) -> list[int]:
    """Return all lengths of memory, in order."""
    return sorted({int(n) for seeds in result["scores"].values() for of_seed in seeds.values() for n in of_seed})


def mean(numbers: list[float]) -> float:
    """Return the mean."""
    return sum(numbers) / len(numbers)


def cell(numbers: list[float]) -> str:
    """Return mean, least and greatest; one number alone is itself."""
    if None in numbers:
        return "-"
    told = f"{mean(numbers):.3f}"
    return told if len(numbers) == 1 else f"{told} ({min(numbers):.3f}-{max(numbers):.3f})"


def markdown(result: dict[str, Any]) -> str:
    """Return both tables: all models with the memory of the training; the mean over the length of the memory."""
    main = [["model", *COLUMNS]]
    main += [[model, *(cell(values(result, model, score)) for score in COLUMNS)] for model in result["scores"]]
    told = [_table(main)]
    if models := remember(result):
        curve = [["model", "score", *map(str, lengths(result))]]
        curve += [
            [model, score, *(f"{mean(values(result, model, score, length)):.3f}" for length in lengths(result))]
            for model in models
            for score in CURVES
        ]
        told.append(_table(curve))
    return "\n".join(told)


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def write(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the scores of all models, every seed a dot, and curves over the length of the memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * (1 + len(CURVES)), 3.8), layout="constrained")
    panels = figure.subplots(1, 1 + len(CURVES), width_ratios=[1.4, *[1] * len(CURVES)])
    _draw_scores(panels[0], result)
    for axes, score in zip(panels[1:], CURVES, strict=True):
        _draw_curve(axes, result, score)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    with whole_file(path) as part:
        figure.savefig(part, dpi=120, format=path.suffix[1:])


def _draw_scores(axes: Any, result: dict[str, Any]) -> None:
    models = list(result["scores"])
    width = 0.8 / len(models)
    for number, (model, colour) in enumerate(zip(models, _COLOURS, strict=False)):
        for place, score in enumerate(COLUMNS):
            found = values(result, model, score)
            x = place + (number - (len(models) - 1) / 2) * width
            label = model if place == 0 else None
            axes.bar(x, mean(found), 0.9 * width, color=colour, alpha=0.45, label=label)
            axes.plot([x] * len(found), found, ".", color=colour)
    axes.set_xticks(range(len(COLUMNS)), COLUMNS)
    axes.set_title(f"a memory of {result['memory']} frames")
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)


def _draw_curve(axes: Any, result: dict[str, Any], score: str) -> None:
    where = lengths(result)
    for model, colour in zip(result["scores"], _COLOURS, strict=False):
        if model in remember(result):
            found = [values(result, model, score, length) for length in where]
            axes.plot(where, list(map(mean, found)), marker="o", color=colour)
            axes.fill_between(where, list(map(min, found)), list(map(max, found)), color=colour, alpha=0.15, lw=0)
        else:
            axes.axhline(mean(values(result, model, score)), color=colour, ls="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks(where, list(map(str, where)))
    axes.set_xlabel("frames remembered")
    axes.set_title(score)
