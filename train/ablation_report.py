"""What an ablation found, for people: a table beside the paper's figures, and a plot."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

from train.ablation import Figure, Outcome, mean_of

_MOST_COLUMNS = 3
_LABEL_CHARACTERS = 44  # as wide as a panel


def to_markdown(outcome: Outcome) -> str:
    """A table: a row a case, a column a figure, the mean over the seeds with their range, the paper's figure beside."""
    ablation = outcome.ablation
    seeds = sorted({seed for by_seed in outcome.rows.values() for seed in by_seed})
    columns = [figure for figure in ablation.figures if any(_has(outcome, row, figure) for row in outcome.rows)]
    head = ["", "parameters", "train s"]
    for figure in columns:
        head += [f"{figure.title} ({figure.better} is better)", "paper"]
    lines = [
        f"# {ablation.title}",
        "",
        f"Repeats {ablation.paper}. {ablation.scaled_down}",
        "",
        f"Test part of the data; {_seeds(seeds)}.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row, by_seed in outcome.rows.items():
        parameters, train_s = outcome.parameters.get(row), outcome.train_s.get(row)
        cells = [row, f"{parameters:,}" if parameters else "", f"{train_s:.0f}" if train_s else ""]
        for figure in columns:
            values = sorted(figures[figure.name] for figures in by_seed.values() if figure.name in figures)
            published = ablation.published.get(row, {}).get(figure.name)
            cells.append(_with_range(values, figure.digits))
            cells.append("" if published is None else f"{published:.{figure.digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(outcome: Outcome, path: Path) -> None:
    """A panel a figure: a bar for the mean of each row, a dot for each seed, a mark where the paper stands."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    rows = list(outcome.rows)
    columns = [figure for figure in outcome.ablation.figures if any(_has(outcome, row, figure) for row in rows)]
    columns = columns[:_MOST_COLUMNS]
    canvas = Canvas(figsize=(4.4 * len(columns) + 1.2, 0.55 * len(rows) + 1.8), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, figure in zip(panels, columns, strict=True):
        means = [mean_of(outcome.rows[row], figure.name) for row in rows]
        panel.barh(rows, [0.0 if math.isnan(mean) else mean for mean in means], color="#9db4c8", height=0.6)
        for place, row in enumerate(rows):
            values = [each[figure.name] for each in outcome.rows[row].values() if figure.name in each]
            panel.plot(values, [place] * len(values), "o", color="#1f3a52", markersize=4, label="_seed")
            published = outcome.ablation.published.get(row, {}).get(figure.name)
            if published is not None:
                panel.plot([published], [place], "D", color="#c0492b", markersize=6, label="_paper")
        panel.set_xlabel(f"{textwrap.fill(figure.title, _LABEL_CHARACTERS)}\n({figure.better} is better)")
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    canvas.suptitle(f"{outcome.ablation.title}: dots are seeds, diamonds the paper's figures", fontsize="medium")
    draft = path.with_name(f".{path.name}")
    canvas.savefig(draft, dpi=120, format="png")
    draft.replace(path)


def _has(outcome: Outcome, row: str, figure: Figure) -> bool:
    return any(figure.name in figures for figures in outcome.rows[row].values())


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"one seed ({seeds[0]})"
    return f"mean over the seeds {', '.join(map(str, seeds))}, smallest to largest in brackets"


def _with_range(values: list[float], digits: int) -> str:
    """The mean, and the range of several.

    >>> _with_range([0.25], 2), _with_range([0.25, 0.75], 2), _with_range([], 2)
    ('0.25', '0.50 (0.25-0.75)', '')
    """
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({values[0]:.{digits}f}-{values[-1]:.{digits}f})"
