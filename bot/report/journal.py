"""The journal of a run, for monitoring and later inspection.

Writes RUN/log.jsonl (one event per line, appended), RUN/metrics.json and RUN/summary.txt (one line). The last two are also written if the
run fails. No stage reads them. They contain counts, names of rules, paths and the output of stages, never a comment, a reply or a
credential.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot import files, schema
from bot.schema import Scored, Skipped, Submitted

LOG, METRICS, SUMMARY = "log.jsonl", "metrics.json", "summary.txt"


@dataclass
class Journal:
    """The journal of the run folder `run`. quiet: the output of stages goes to the log instead of the terminal."""

    run: Path
    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    started: float = field(default_factory=time.monotonic)

    def note(self, event: str, **facts: Any) -> None:
        """Append a line to log.jsonl: utc (epoch seconds), event, facts. Only its owner can read the log."""
        line = json.dumps({"utc": round(time.time(), 3), "event": event, **facts}, ensure_ascii=False)
        handle = os.open(self.run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with open(handle, "a", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 (a file descriptor)
            os.fchmod(handle, 0o600)
            file.write(line + "\n")

    def close(self, status: int) -> None:
        """Write the metrics and the summary of a run that ends with this exit status."""
        counts = {"status": status, "seconds_total": round(time.monotonic() - self.started, 1), "seconds": self.seconds, **count(self.run)}
        line = summary(self.run.resolve().name, counts)
        with files.atomic_writer(self.run / METRICS) as file:
            json.dump({"run": self.run.resolve().name, "finished_utc": int(time.time()), **counts}, file, indent=1)
            file.write("\n")
        with files.atomic_writer(self.run / SUMMARY) as file:
            file.write(line + "\n")
        self.note("end", status=status, summary=line)


def count(run: Path) -> dict[str, Any]:
    """Counts over the files of a run. A file that is missing or cannot be read counts as empty.

    submitted: what became of the replies in chosen.csv, not of others that an earlier run of the same folder submitted.
    """

    def column(name: str, row_type: type[schema.Row], *columns: str) -> list[tuple[str, ...]]:
        try:
            return [tuple(getattr(row, each) for each in columns) for row in schema.read_rows(run / name, row_type)]
        except files.FileError:
            return []

    scored = column("scored.csv", Scored, "verdict", "reason", "comment_id")
    try:
        submitted = read_submitted(run)[0] or []
    except files.FileError:
        submitted = []
    return {
        "comments": len(column("comments.csv", schema.Comment)),
        "skipped": _counted(reason for (reason,) in column("skipped.csv", Skipped, "reason")),
        "candidates": len(scored),
        "refused": _counted(reason for verdict, reason, _ in scored if verdict == "refused"),
        "chosen": sum(verdict == "chosen" for verdict, _, _ in scored),
        "abstained": len({comment for *_, comment in scored} - {comment for verdict, _, comment in scored if verdict != "refused"}),
        "submitted": _counted(row.outcome for row in submitted),
    }


def read_submitted(run: Path) -> tuple[list[Submitted] | None, int]:
    """The rows of RUN/submitted.csv about the current texts of chosen.csv (None if there are none), and the number of other rows.

    The folder may have been run again with another seed after submitting. Then the texts that were posted are not those of the report.

    Raises:
        FileError: as `schema.read_rows`.
    """
    path = run / "submitted.csv"
    if not path.exists():
        return None, 0
    rows = schema.read_rows(path, Submitted)
    chosen = {row.comment_id: row.reply for row in schema.read_rows(run / "chosen.csv", Scored)}
    made_from = (files.read_manifest(path) or {}).get("made_from") or {}
    if made_from.get("chosen") == files.sha256_of(run / "chosen.csv"):
        return rows, 0
    same = [row for row in rows if row.reply and chosen.get(row.comment_id) == row.reply]
    return same or None, len(rows) - len(same)


def summary(name: str, counts: dict[str, Any]) -> str:
    """The line for summary.txt. counts: as in metrics.json.

    >>> counts = {"status": 0, "seconds_total": 34.2, "comments": 10, "candidates": 100, "chosen": 3, "abstained": 6,
    ...           "submitted": {"posted": 2}}
    >>> summary("today", counts)  # for the tenth comment, another comment of its submission was chosen
    'today: status 0, 34 s, 10 comments, 100 candidates, 3 chosen, 6 abstained; posted 2'
    """
    outcomes = ", ".join(f"{outcome} {number}" for outcome, number in counts["submitted"].items()) or "nothing submitted"
    totals = ", ".join(f"{counts[each]} {each}" for each in ("comments", "candidates", "chosen", "abstained"))
    return f"{name}: status {counts['status']}, {counts['seconds_total']:.0f} s, {totals}; {outcomes}"


def _counted(names: Any) -> dict[str, int]:
    """name -> count, most frequent first."""
    return dict(Counter(names).most_common())
