"""The pages of the leaderboard: leaderboard.html, with plots, samples.html, and leaderboard.md. Self-contained; the only script sorts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bot import files
from bot.evaluate.leaderboard import columns
from bot.evaluate.leaderboard.columns import GENERATOR_COLUMNS, RANKER_COLUMNS, Column, Rows
from bot.evaluate.page import picture
from bot.report import plots
from bot.report.report import templates

FOLDER = Path(__file__).parent
PLOTTED = {
    "generators": ("bits", "bleu_2", "detector", "liked", "real", "belongs"),
    "rankers": ("dialogrpt", "shp", "auc_known", "auc_unseen", "hits_at_1", "auc_accepted"),
}
Samples = Sequence[tuple[str, Mapping[str, str]]]


class Cell(NamedTuple):
    text: str
    interval: str
    key: str  # to sort by; empty without a value
    best: bool


def table(rows: Rows, of: Mapping[str, Column]) -> tuple[list[Column], list[tuple[str, list[Cell]]]]:
    """The columns in which a model has a value, and the cells of each model."""
    present = {name: column for name, column in of.items() if any(name in cells for cells in rows.values())}
    winners = columns.best(rows, present)
    lines = []
    for model, cells in rows.items():
        line = []
        for name, column in present.items():
            value = cells.get(name)
            text, interval = columns.shown(value, column)
            key = "" if value is None else str(columns.middle(value))
            line.append(Cell(text, interval, key, model in winners.get(name, ())))
        lines.append((model, line))
    return [*present.values()], lines


def markdown(result: Mapping[str, Any]) -> str:
    """leaderboard.md: both tables for docs/results.md.

    >>> rows = {"a|b": {"echo": [0.5, 0.4, 0.6]}, "person": {}}
    >>> print(markdown({"generators": rows, "rankers": {}, "missing": ["a|b, BLEU-2: why"]}))
    <!-- leaderboard -->
    | generator | echo |
    |---|---|
    | a\\|b | 0.500 [0.400 – 0.600] |
    | person |  |
    <BLANKLINE>
    - missing: a|b, BLEU-2: why
    <BLANKLINE>
    """
    blocks = []
    for kind, of in (("generator", GENERATOR_COLUMNS), ("ranker", RANKER_COLUMNS)):
        if result[f"{kind}s"]:
            heads, lines = table(result[f"{kind}s"], of)
            block = [_line([kind, *(column.label for column in heads)]), "|" + "---|" * (len(heads) + 1)]
            block += [_line([model, *(_in_markdown(cell) for cell in cells)]) for model, cells in lines]
            blocks.append("\n".join(block))
    if result["missing"]:
        blocks.append("\n".join(f"- missing: {' '.join(each.split())}" for each in result["missing"]))
    return "<!-- leaderboard -->\n" + "\n\n".join(blocks) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _in_markdown(cell: Cell) -> str:
    value = f"**{cell.text}**" if cell.best else cell.text
    return f"{value} [{cell.interval}]" if cell.interval else value


def plotted(rows: Rows, of: Mapping[str, Column], names: Sequence[str]) -> str:
    """The measures with intervals as a picture, one panel each; empty if there are none."""
    panels = {
        of[name].label: {model: tuple(cells[name]) for model, cells in rows.items() if name in cells}
        for name in names
        if any(name in cells for cells in rows.values())
    }
    return picture(plots.side_by_side(panels)) if panels else ""


def pages(result: Mapping[str, Any], samples: Samples) -> dict[str, str]:
    """File name -> content."""
    script = (FOLDER / "sort.js").read_text(encoding="utf-8")
    tables = []
    for kind, of in (("generators", GENERATOR_COLUMNS), ("rankers", RANKER_COLUMNS)):
        if result[kind]:
            heads, lines = table(result[kind], of)
            tables.append((kind, heads, lines, plotted(result[kind], of, PLOTTED[kind])))
    environment = templates(FOLDER, FOLDER.parent)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "leaderboard.html": environment.get_template("leaderboard.html.j2").render(
            facts=result["leaderboard"], tables=tables, missing=result["missing"], has_samples=bool(samples), script=script, digest=digest
        ),
        "samples.html": environment.get_template("samples.html.j2").render(samples=samples),
        "leaderboard.md": markdown(result),
    }


def write(result: Mapping[str, Any], samples: Samples, out: Path) -> None:
    """Write the three files into `out`. samples: (comment, its reply by generator)."""
    for name, content in pages(result, samples).items():
        with files.atomic_writer(out / name) as file:
            file.write(content)
