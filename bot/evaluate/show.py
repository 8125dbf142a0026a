"""Metrics as tables on the terminal. page.py shows them in a browser."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot import text
from bot.evaluate import measures


def show_model(kind: str, measured: dict[str, Any]) -> None:
    """Print the metrics of `evaluate --model`."""
    if kind not in ("lm", "conduct", "choice"):
        return show(kind, measured)
    for name, value in measured.items():
        if isinstance(value, dict):  # misses/lines by category of a classifier of conduct; the measures of a scorer
            print(name, ", ".join(f"{each} {count}" for each, count in value.items()))
        else:
            print(name, _cell(value))


HEADLINES = ("pairwise_accuracy", "hits_at_1", "roc_auc")  # the measure shown in the table of subsets


def show(kind: str, measured: dict[str, Any]) -> None:
    """Print a table of all measures (rows) by scorer (columns) over all rows, then a table of one measure by subset (rows) and scorer."""
    names = list(measures.main_subsets(measured))
    overall = [name for name in names if name == "all" or name.endswith("_classes")]
    for name in overall:
        scorers = measures.scorers_of(measured[name])
        columns = [f"{scorer}{_count(values)}" for scorer, values in scorers.items()]
        table = Table("", *columns, title=f"{kind}, {_facts(name, measured[name])}; 95 % intervals over threads")
        for each in dict.fromkeys(each for values in scorers.values() for each in values if each not in ("rows", "pairs")):
            label = "true (rows) × predicted (columns)" if each == "confusion" else each
            table.add_row(label, *(_cell(values.get(each)) for values in scorers.values()))
        _print(table)
    if rest := [name for name in names if name not in overall]:
        measured_by = {each for name in rest for values in measures.scorers_of(measured[name]).values() for each in values}
        headline = next((each for each in HEADLINES if each in measured_by), HEADLINES[0])
        columns = list(dict.fromkeys(scorer for name in rest for scorer in measures.scorers_of(measured[name])))
        table = Table(headline, *columns, title=f"{kind}; 95 % intervals over threads")
        for name in rest:
            scorers = measures.scorers_of(measured[name])
            cells = [f"{_cell(scorers.get(scorer, {}).get(headline))}{_count(scorers.get(scorer, {}))}" for scorer in columns]
            table.add_row(_facts(name, measured[name]), *cells)
        _print(table)


def _facts(name: str, content: dict[str, Any]) -> str:
    """The subset's name and its counts."""
    counts = ", ".join(f"{value:,} {each}" for each, value in content.items() if isinstance(value, int) and not isinstance(value, bool))
    return f"{name}{' (unseen in training)' if content.get('unseen_in_training') else ''}: {counts}"


def _count(values: dict[str, Any]) -> str:
    """The number of rows or pairs of a scorer that did not score all; otherwise empty."""
    return next((f" ({values[each]:,} {each})" for each in ("rows", "pairs") if each in values), "")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def show_choices(measured: dict[str, Any]) -> None:
    """Print the metrics of the ranking stage, one row per strategy."""
    facts = f"{measured['comments']} comments, {measured['candidates']} candidates"
    columns = dict.fromkeys(column for values in measured["choices"].values() for column in values)
    table = Table("pick", *columns, title=f"ranking stage, {facts}: win rates by judge, and genericness")
    for name, values in measured["choices"].items():
        table.add_row(name, *(_cell(values.get(column)) for column in columns))
    _print(table)


def show_judgements(measured: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> None:
    """Print what people answered: one column per (source, by, sha256)."""
    table = Table("", title="blind reading; 95 % intervals (Wilson) over pairs")
    for source, by, sha256 in measured:
        table.add_column(Text(f"{text.printable(source)}\nby {text.printable(by)}, sha256 {text.printable(sha256[:8])}"))
    for name in next(iter(measured.values())):
        table.add_row(name, *(_cell(values[name]) for values in measured.values()))
    _print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    if isinstance(value[0], list):  # a confusion matrix
        return "\n".join(" ".join(f"{count:>6}" for count in row) for row in value)
    middle, low, high = value
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"
