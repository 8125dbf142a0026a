"""The list of runs, and the report of each.

Only folders that the project used for runs are shown, by name. Names are looked up among the folders that exist, so no part of a URL ever
becomes a path; folders that are links, that contain linked tables, or that this user cannot read are left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, render_template, request, url_for

from bot import files, schema
from bot.files import FileError
from bot.posting import approvals, ledger
from bot.report import journal, report
from bot.schema import Scored, Submitted, Verdict

PAGE_RUNS = 50
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SHOWN = (*(f"{name}.csv" for name in files.RUN_TABLES), approvals.FILE)
Version = tuple[int | None, ...]
TEXT_UNKNOWN = "(the text is not known)"


@dataclass(frozen=True)
class Runs:
    """The run folders in `parent`; or only the folder `only`. ledger: knows what other runs posted; it may be missing."""

    parent: Path
    only: Path | None = None
    ledger: Path | None = None

    def folders(self) -> dict[str, Path]:
        """name -> folder, newest first."""
        if self.only is not None:
            candidates = [self.only]
        else:
            candidates = [path for path in self.parent.iterdir() if not path.is_symlink()] if self.parent.is_dir() else []
        known = [path for path in candidates if is_shown(path)]
        return {path.resolve().name: path for path in sorted(known, key=lambda path: (started_utc(path), path.name), reverse=True)}

    def folder(self, name: str) -> Path:
        """The folder of a run. Answers 404 if there is none."""
        return self.folders().get(name) or abort(404, "There is no run of this name.")

    def posted(self) -> dict[str, str]:
        """comment_id -> the text that was posted, by any run, according to the ledger. Raises UserError if it is damaged."""
        if self.ledger is None or not self.ledger.exists():
            return {}
        with closing(ledger.open_to_read(self.ledger)) as db:
            return {comment_id: body or TEXT_UNKNOWN for comment_id, body in ledger.posted_texts(db).items()}

    def with_candidates(self) -> list[str]:
        """The names of the runs with scored candidates."""
        return [name for name, path in self.folders().items() if (path / "scored.csv").exists()]


def is_shown(folder: Path) -> bool:
    """True for a run folder that can be read and has no linked tables."""
    try:
        if not folder.is_dir() or not files.is_run(folder):
            return False
        present = [path for path in (folder / each for each in SHOWN) if os.path.lexists(path)]
        return not any(path.is_symlink() for path in present) and all(os.access(path, os.R_OK) for path in present)
    except OSError:
        return False


def started_utc(folder: Path) -> int:
    """When a run started, in epoch seconds: by its name, such as 20260131T070000Z, otherwise by the time of its comments."""
    try:
        return int(datetime.strptime(folder.resolve().name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return next((int(path.stat().st_mtime) for path in (folder / "comments.csv", folder / files.RUN_LOCK) if path.exists()), 0)


def version_of(folder: Path) -> Version:
    """Changes when a file of the run changes."""
    paths = [folder / name for name in SHOWN]
    return tuple(path.stat().st_mtime_ns if path.exists() else None for path in paths)


@lru_cache(maxsize=512)
def summary(folder: Path, version: Version) -> dict[str, Any]:
    """The counts of a run for the list. version: `version_of`, so that an unchanged run is read once."""
    counts = journal.count(folder)
    try:
        chosen = {row.comment_id for row in schema.read_rows(folder / "chosen.csv", Scored) if row.verdict == Verdict.CHOSEN}
        standing = approvals.standing(approvals.read(folder / approvals.FILE))
        problem = ""
    except FileError as error:
        chosen, standing, problem = set(), {}, str(error) if (folder / "chosen.csv").exists() else ""
    decided = [event for event in standing.values() if event.act != schema.Act.SKIP]
    return {
        "counts": counts,
        "offered": chosen | {event.comment_id for event in decided if approvals.is_approved(event)},
        "open": chosen - {event.comment_id for event in decided},
        "approved": sum(map(approvals.is_approved, decided)),
        "rejected": sum(event.act == schema.Act.REJECT for event in decided),
        "posted": posted_in(folder),
        "problem": problem,
    }


def with_posted(row: dict[str, Any], posted: Mapping[str, str]) -> dict[str, Any]:
    """A `summary` with the replies that another run posted. Nobody has to decide about what was posted. posted: see Runs.posted."""
    known = {name: posted[name] for name in row["offered"] if name in posted} | row["posted"]
    return {**row, "posted": known, "open": row["open"] - known.keys()}


def posted_in(folder: Path) -> dict[str, str]:
    """comment_id -> the text that was posted, by submitted.csv."""
    path = folder / "submitted.csv"
    try:
        return {row.comment_id: row.reply for row in schema.read_rows(path, Submitted) if row.outcome == "posted"} if path.exists() else {}
    except FileError:
        return {}


def make_pages(runs: Runs, others: Sequence[tuple[str, str]] = ()) -> Blueprint:
    """The list at /, and the report of a run at /runs/NAME. others: endpoints of pages about one run, with the label of their link."""
    pages = Blueprint("runs", __name__)

    @pages.get("/")
    def index() -> str:
        folders = list(runs.folders().items())
        page = max(request.args.get("page", 1, type=int), 1)
        shown = folders[PAGE_RUNS * (page - 1) : PAGE_RUNS * page]
        posted = runs.posted()
        rows = [
            (name, f"{report.moment(started_utc(path))} UTC", with_posted(summary(path, version_of(path)), posted)) for name, path in shown
        ]
        more = len(folders) > PAGE_RUNS * page
        return render_template(
            "runs.html.j2", rows=rows, total=len(folders), page=page, more=more, others=others, parent=runs.only or runs.parent
        )

    @pages.get("/runs/<run>")
    def show(run: str) -> Response:
        links = [(url_for("runs.index"), "All runs"), *((url_for(endpoint, run=run), label) for endpoint, label in others)]
        response = Response(report.page(report.read_run(runs.folder(run)), links))
        response.headers["Content-Security-Policy"] = REPORT_POLICY  # the report has its styles inside, and no script
        return response

    return pages
