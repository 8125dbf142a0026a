"""gone: find stored comments that have been deleted on Reddit; for `purge --gone`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bot import cli, files, schema
from bot.cli import UserError
from bot.reddit import client as reddit
from bot.reddit.requestor import Client

READ_FROM_REDDIT = ("comments.csv", "context.csv", "harvest.csv")
BATCH = 100  # names per call


def gone_ids(client: Client, tables: Iterable[Path], problems: list[str]) -> set[str]:
    """Comments in these tables that Reddit no longer shows: deleted, removed, or not returned. Unreadable files are added to problems.

    Each table is checked on its own site: a client of the sandbox checks tables of the sandbox's comments, a client of Reddit all others.

    Raises:
        UserError: Reddit cannot be reached or read.
    """
    names: set[str] = set()
    for path in tables:
        if path.name not in READ_FROM_REDDIT or of_sandbox(path) is not reddit.is_sandbox(client.config.oauth_url):
            continue
        try:
            rows = schema.read_cells(path)
            header = next(rows)
            if "comment_id" in header:
                place = header.index("comment_id")
                names |= {cells[place] for cells in rows if cells[place].startswith("t1_")}
        except UserError as error:
            problems.append(str(error))
    ordered = sorted(names)
    there: set[str] = set()
    for start in cli.track(range(0, len(ordered), BATCH), "asking Reddit, 100 comments at a time"):
        standings = reddit.standings(client, ordered[start : start + BATCH])
        there |= {name for name, standing in standings.items() if standing.body}
    return names - there


def of_sandbox(table: Path) -> bool:
    """Whether the comments of a table were read from the local sandbox, according to the manifest of the comments.csv beside it."""
    try:
        manifest = files.read_manifest(table.with_name("comments.csv")) or {}
    except UserError:
        return False
    return bool((manifest.get("made_from") or {}).get("source") == "sandbox")
