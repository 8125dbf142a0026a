"""Measures as tables on the screen; page.py has them for a browser."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from bot.evaluate import measures


def show_model(kind: str, measured: dict[str, Any]) -> None:
    """What `evaluate --model` measured."""
    if kind != "lm":
        return show(kind, measured)
    for name, value in measured.items():
        print(name, _cell(value))


HEADLINES = ("pairwise_accuracy", "hits_at_1", "roc_auc")  # the one measure by which subsets stand in one table


def show(kind: str, measured: dict[str, Any]) -> None:
    """Where there is more than one measure, a table of «all»: a column a scorer, a row a measure. Then one with a row a subset."""
    names = list(measures.main_subsets(measured))
    whole = [name for name in names if name == "all" or name.endswith("_classes")]
    for name in whole:
        told = _scorers(measured[name])
        columns = [f"{scorer}{_fewer(values)}" for scorer, values in told.items()]
        table = Table("", *columns, title=f"{kind}, {_facts(name, measured[name])}; 95 % intervals over threads")
        for each in dict.fromkeys(each for values in told.values() for each in values if each not in ("rows", "pairs")):
            table.add_row(
                "true (down) × predicted" if each == "confusion" else each, *(_cell(values.get(each)) for values in told.values())
            )
        _print(table)
    if rest := [name for name in names if name not in whole]:
        headline = next(each for each in HEADLINES if any(each in values for values in _scorers(measured[rest[0]]).values()))
        columns = list(dict.fromkeys(scorer for name in rest for scorer in _scorers(measured[name])))
        table = Table(headline, *columns, title=f"{kind}; 95 % intervals over threads")
        for name in rest:
            told = _scorers(measured[name])
            cells = [f"{_cell(told.get(scorer, {}).get(headline))}{_fewer(told.get(scorer, {}))}" for scorer in columns]
            table.add_row(_facts(name, measured[name]), *cells)
        _print(table)


def _scorers(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: values for name, values in content.items() if isinstance(values, dict)}


def _facts(name: str, content: dict[str, Any]) -> str:
    """The subset's name and its counts."""
    counts = ", ".join(f"{value:,} {each}" for each, value in content.items() if isinstance(value, int) and not isinstance(value, bool))
    return f"{name}{' (unseen in training)' if content.get('unseen_in_training') else ''}: {counts}"


def _fewer(values: dict[str, Any]) -> str:
    """The number of a scorer's rows or pairs, where it didn't score all."""
    return next((f" ({values[each]:,} {each})" for each in ("rows", "pairs") if each in values), "")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def show_choices(measured: dict[str, Any]) -> None:
    facts = f"{measured['comments']} comments, {measured['candidates']} candidates"
    columns = dict.fromkeys(column for values in measured["choices"].values() for column in values)
    table = Table("the pick", *columns, title=f"ranking stage, {facts}: win rates by judge, and how generic the picks are")
    for name, values in measured["choices"].items():
        table.add_row(name, *(_cell(values.get(column)) for column in columns))
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
