"""gone: find stored comments that have been deleted on Reddit; for `purge --gone`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bot import cli, files, names, schema
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
    ids: set[str] = set()
    for path in tables:
        try:
            ids |= ids_of(path, reddit.is_sandbox(client.config.oauth_url))
        except UserError as error:
            problems.append(str(error))
    ordered = sorted(ids)
    there: set[str] = set()
    for start in cli.track(range(0, len(ordered), BATCH), "asking Reddit, 100 comments at a time"):
        standings = reddit.standings(client, ordered[start : start + BATCH])
        there |= {name for name, standing in standings.items() if standing.body}
    return ids - there


def ids_of(path: Path, in_sandbox: bool) -> set[str]:
    """The comments in a table that were read from Reddit or, if `in_sandbox`, from the sandbox. Raises UserError if it cannot be read.

    Answers and sheets of `judge` may have comments of both; the subreddit says which.
    """
    if path.suffix != ".csv":
        return set()
    rows = schema.read_cells(path)
    try:
        header = next(rows, [])
    except UserError:
        if path.name in READ_FROM_REDDIT:
            raise
        return set()  # `purge` names it if there is something to remove
    if {"pair_id", "comment_id", "subreddit"} <= {*header}:
        place, subreddit = header.index("comment_id"), header.index("subreddit")
        stored = {cells[place] for cells in rows if cells[subreddit].startswith(names.SANDBOX) is in_sandbox}
    elif "comment_id" in header and path.name in READ_FROM_REDDIT and of_sandbox(path) is in_sandbox:
        stored = {cells[header.index("comment_id")] for cells in rows}
    else:
        return set()
    return {name for name in stored if name.startswith("t1_")}


def of_sandbox(table: Path) -> bool:
    """Whether the comments of a table were read from the local sandbox, according to the manifest of the comments.csv beside it."""
    try:
        manifest = files.read_manifest(table.with_name("comments.csv")) or {}
    except UserError:
        return False
    return bool((manifest.get("made_from") or {}).get("source") == "sandbox")
