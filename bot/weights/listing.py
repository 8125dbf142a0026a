"""models list: the trained models with their cards and exports, and the known bases.

Reads  FOLDER/NAME/model.json, FOLDER/.serving and models/base.

    python run_bot.py models list
    python run_bot.py models list /elsewhere/models
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table

from bot import config, files
from bot.cli import ROOT, UserError
from bot.weights import bases, cards, serving


def exports(folder: Path) -> str:
    """The serving exports of a model, by precision, each current or outdated; empty if there are none."""
    states = []
    for precision in get_args(config.Precision):
        if (serving.serving_folder(folder, precision) / serving.SERVING_FILE).exists():
            try:
                is_current = serving.is_current(folder, precision)
            except UserError:  # its base is not installed
                is_current = False
            states.append(precision if is_current else f"{precision} (outdated)")
    return ", ".join(states)


def row(folder: Path) -> tuple[str, ...]:
    """Model, kind, base, training day, exports and card of a trained model. A card that cannot be read is shown as such."""
    shown_card = files.display_path(folder / cards.CARD_FILE)
    try:
        card = cards.read_card(folder)
    except UserError:
        return folder.name, "?", "?", "?", "?", f"{shown_card} (not readable)"
    side = card.settings.get("side", "")
    kind = f"{card.kind} ({side})" if side else card.kind
    return folder.name, kind, card.base or "none", card.created_utc[:10], exports(folder) or "none", shown_card


def trained(folder: Path) -> list[Path]:
    """The folders in `folder` with a trained model."""
    return [path.parent for path in sorted(folder.glob(f"[!.]*/{cards.CARD_FILE}"))]


def list_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder of trained models [default: models]", show_default=False)] = ROOT
    / "models",
) -> None:
    """List the trained models with their cards and exports, and the known bases."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that contains model folders")
    console = Console(width=None if sys.stdout.isatty() else 140)
    models = Table("model", "kind", "base", "trained", "exports", "card", box=None, pad_edge=False, padding=(0, 1))
    for each in trained(folder):
        models.add_row(*row(each))
    console.print(models if models.rows else f"no trained model in {folder}", "", bases.table(), sep="\n")
