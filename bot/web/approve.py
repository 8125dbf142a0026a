"""The page on which a person approves, edits or rejects the replies of a run before `submit` posts them.

Reads  the files of the run.
Writes RUN/approvals.csv: one line for each act (posting/approvals.py). Nothing is posted here.

/runs/NAME/approve shows the next reply that nobody decided, or the one of ?item=. Each act is one form, and the next page shows the next
reply. A form from an old page changes nothing: the page shows what happened in the meantime.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for

from bot import files, schema, text
from bot.conduct import letters
from bot.config import Settings
from bot.posting import approvals
from bot.report import report
from bot.schema import Act, Approval, Scored, Verdict
from bot.web import reading, server
from bot.web.checking import Checker
from bot.web.reading import Item, Queue
from bot.web.runs import Runs

REASON_CHARACTERS = 500
ACTS = schema.phrases(Act)
NOTES = {str(act): f"{act.phrase.capitalize()}." for act in Act} | {"nothing": "There is nothing to undo."}
EMPTY, NO_REASON = "The text is empty.", "Write why the reply is rejected."
CHANGED = "The comment or its candidates changed since this page was loaded. Nothing was saved."


@dataclass(frozen=True)
class ApprovePage:
    """The page and its forms."""

    runs: Runs
    settings: Settings
    config_file: Path | None
    checker: Checker

    def queue(self, folder: Path, every: bool | None = None) -> Queue:
        return reading.read(folder, is_every() if every is None else every, self.runs.posted())

    def show(self, run: str) -> Any:
        """The item of ?item=, or the next open one."""
        folder, wanted = self.runs.folder(run), request.args.get("item", "")
        self.checker.start()
        queue = self.queue(folder)
        item = (queue.find(wanted) or self.queue(folder, True).find(wanted)) if wanted else queue.next_open()
        if wanted and item is None:
            abort(404, "There is no such comment in this run.")
        return self.page(run, item, note=NOTES.get(request.args.get("note", ""), ""))

    def act(self, run: str) -> Any:
        """One act: a form whose button has the name `act`."""
        kind = request.form.get("act", "")
        if kind not in ACTS:
            abort(400)
        return self.undo(run) if kind == Act.UNDO else self.decide(run, kind)

    def decide(self, run: str, kind: str) -> Any:
        folder, form = self.runs.folder(run), request.form
        item = self.queue(folder, True).find(form.get("comment_id", "")) or abort(404, "There is no such comment in this run.")
        row = next((each for each in item.candidates if each.candidate_id == form.get("candidate_id")), None)
        if item.posted or row is None or form.get("version") != item.version:
            return self.page(run, item, problem="" if item.posted else CHANGED, status=409)
        kind, body = edited(kind, form.get("text", ""), row.reply)
        reason = text.printable(form.get("reason", ""))[:REASON_CHARACTERS]
        if problem := self.problem_of(folder, row, kind, body, reason):
            return self.page(run, item, problem=problem, draft=form.get("text", ""), opened=kind, selected=row, status=422)
        event = Approval(
            row.comment_id, row.thread_id, row.candidate_id, kind, server.person(), int(time.time()),
            reason if kind == Act.REJECT else "", row.reply, body if kind in approvals.APPROVED else "", text.fingerprint(row.comment),
        )  # fmt: skip
        if other := approvals.record(folder, event, form.get("seen", -1, type=int)):
            return self.page(run, self.queue(folder, True).find(row.comment_id), problem=what_happened(other, event), status=409)
        following = self.queue(folder).next_open(row.comment_id)
        return back(run, following.comment.comment_id if following else "", kind)

    def problem_of(self, folder: Path, row: Scored, kind: str, body: str, reason: str) -> str:
        """Why the act is refused, for the person; empty if it is not. Edited and refused texts have to pass the rules of conduct again."""
        if kind == Act.REJECT:
            return "" if reason else NO_REASON
        if kind == Act.SKIP:
            return ""
        if letters.is_blank(body):
            return EMPTY
        if kind != Act.EDIT and row.verdict != Verdict.REFUSED:
            return ""
        reason_name = self.checker.objection(folder, row.comment_id, body)
        phrase = report.CANDIDATE_REASONS.get(reason_name, reason_name)
        return f"This text must not be posted: {phrase} ({reason_name})." if reason_name else ""

    def undo(self, run: str) -> Any:
        """Undo the latest act of the visitor, and show its comment."""
        folder = self.runs.folder(run)
        events = approvals.read(folder / approvals.FILE)
        last = approvals.last_of(events, server.person())
        item = self.queue(folder, True).find(last.comment_id) if last else None
        if last is None or item is None or item.posted:
            return back(run, request.form.get("comment_id", ""), "nothing")
        event = replace(last, act=str(Act.UNDO), event_utc=int(time.time()), reason="", before=last.after, after="")
        if other := approvals.record(folder, event, sum(each.comment_id == last.comment_id for each in events)):
            return self.page(run, item, problem=what_happened(other, event), status=409)
        return back(run, last.comment_id, event.act)

    def page(self, run: str, item: Item | None, status: int = 200, **more: Any) -> Any:
        folder = self.runs.folder(run)
        shown = {"note": "", "problem": "", "draft": "", "opened": "", "selected": None, **more}
        data = view(folder, self.queue(folder), item, self.settings)
        config_option = f" --config {shlex.quote(str(self.config_file))}" if self.config_file else ""
        data["command"] = f"python run_bot.py submit --run {shlex.quote(str(folder))}{config_option} --post"
        return render_template("approve.html.j2", run=run, every=is_every(), **shown, **data), status


def make_pages(runs: Runs, settings: Settings, config_file: Path | None, checker: Checker) -> Blueprint:
    """The page at /runs/NAME/approve."""
    pages, page = Blueprint("approve", __name__), ApprovePage(runs, settings, config_file, checker)
    pages.add_url_rule("/runs/<run>/approve", "show", page.show)
    pages.add_url_rule("/runs/<run>/approve", "act", page.act, methods=["POST"])
    return pages


def is_every() -> bool:
    """Whether the queue also has the comments for which no reply was chosen."""
    return "every" in request.args


def back(run: str, item: str, note: str) -> Any:
    return redirect(url_for("approve.show", run=run, item=item or None, every="1" if is_every() else None, note=note), 303)


def edited(kind: str, typed: str, reply: str) -> tuple[str, str]:
    """The act and the text to post. An edit without a change is an approval. Browsers send line ends as CR LF.

    >>> edited("edit", "So \\r\\nit is.\\r\\n", "So."), edited("edit", " So.", "So."), edited("approve", "other", "So.")
    (('edit', 'So\\nit is.'), ('approve', 'So.'), ('approve', 'So.'))
    """
    if kind != Act.EDIT:
        return kind, reply
    body = "\n".join(line.rstrip() for line in typed.splitlines()).strip()
    return (kind, body) if body != reply.strip() else (str(Act.APPROVE), reply)


def what_happened(other: Approval, event: Approval) -> str:
    """What another person, or the same in another tab, did before this act, which was not saved."""
    if other is event:
        return CHANGED
    act = ACTS.get(other.act, other.act)
    if other.comment_id != event.comment_id:
        return f"{other.who} {act} the reply to another comment of this submission, and only one is posted. Nothing was saved."
    return f"{other.who} {act} this in the meantime. Nothing was saved."


def view(folder: Path, queue: Queue, item: Item | None, settings: Settings) -> dict[str, Any]:
    """The data of the page."""
    name = item.comment.comment_id if item else ""
    shown = [each.comment.comment_id for each in queue.items]
    siblings = [each for each in queue.items if item and each.comment.thread_id == item.comment.thread_id]
    before, after = queue.neighbours(name) if name in shown else (None, queue.items[0] if queue.items else None)
    rows = [row for each in queue.items for row in each.candidates]
    is_sandbox = report.dig(files.read_manifest(folder / "comments.csv"), ["made_from", "source"]) == "sandbox"
    is_required = approvals.is_required(settings.submit, is_sandbox)
    offered = approvals.offered_utc(folder)
    ends = offered + int(settings.submit.approval_timeout_hours * 3600) if is_required and offered else None
    return {
        "item": item,
        "items": queue.items,
        "place": shown.index(name) + 1 if name in shown else 0,
        "before": before,
        "after": after,
        "together": [each for each in siblings if each.comment.comment_id != name],
        "done": sum(not each.is_open for each in queue.items),
        "counts": Counter(str(each.act.act) for each in queue.items if each.act and not each.changed),
        "skipped": queue.first_skipped(),
        "acts": ACTS,
        "columns": [column for column in report.SCORES if any(getattr(row, column) is not None for row in rows)],
        "scores": report.SCORES,
        "number": report.number,
        "reasons": report.CANDIDATE_REASONS,
        "moment": lambda utc: f"{report.moment(utc)} UTC",
        "is_link": report.is_web_address(item.comment.permalink) and not is_sandbox if item else False,
        "ends": "" if ends is None else f"{report.moment(ends)} UTC",
        "is_late": ends is not None and time.time() > ends,
    }
