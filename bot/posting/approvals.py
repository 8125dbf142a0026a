"""RUN/approvals.csv: what people decided about the replies of a run. Events are only appended; the state follows from them.

    approvals.record(run, event, seen)               append an act, unless somebody else acted on the same comment since it was shown
    approvals.standing(events)                       the act that counts for each comment
    approvals.refusal(path, reply, now, rules)       asked by `submit` right before a reply is posted

`undo` removes the latest act on a comment, so the one before counts again. A reply is approved if the act that counts is approve or edit,
its text is the one that the person approved, and the comment and the candidate are still those that the person saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from bot import files, schema, text
from bot.conduct.when import Refusal
from bot.files import FileError
from bot.schema import Act, Approval, Scored

if TYPE_CHECKING:
    from bot.config import SubmitSettings
    from bot.posting.ledger import Reply

FILE = "approvals.csv"
APPROVED = (Act.APPROVE, Act.EDIT)


def read(path: Path) -> list[Approval]:
    """The events of a file, oldest first; none if there is no file. Raises FileError if it is damaged, cannot be read, or is a link."""
    try:
        path.lstat()
        if kind := files.special_kind(path):
            raise FileError(f"{path}: {kind}")
        return schema.read_rows(path, Approval)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except FileError as error:
        raise FileError(f"{error}; correct the file, or move it away and decide again") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from None


def stacks(events: Iterable[Approval]) -> dict[str, list[Approval]]:
    """comment_id -> the acts that were not undone, oldest first."""
    result: dict[str, list[Approval]] = defaultdict(list)
    for event in events:
        acts = result[event.comment_id]
        if event.act != Act.UNDO:
            acts.append(event)
        elif acts:
            acts.pop()
    return result


def standing(events: Iterable[Approval]) -> dict[str, Approval]:
    """comment_id -> the act that counts.

    >>> events = [Approval("t1_a", "t3_a", "t1_a-0", act, "ann", 0, "", "so", "", "") for act in ("skip", "reject", "undo")]
    >>> [(name, event.act) for name, event in standing(events).items()], standing(events[1:])
    ([('t1_a', 'skip')], {})
    """
    return {name: acts[-1] for name, acts in stacks(events).items() if acts}


def is_approved(event: Approval | None) -> TypeGuard[Approval]:
    """Whether a person approved the text. The text of `approve` is the candidate's; if it is another one, the file was changed by hand."""
    return event is not None and event.act in APPROVED and (event.act == Act.EDIT or event.after == event.before)


def is_current(event: Approval, candidates: Iterable[Scored]) -> bool:
    """Whether the comment and the candidate are still those that the person saw. candidates: of the comment."""
    return any(
        row.candidate_id == event.candidate_id and row.reply == event.before and text.fingerprint(row.comment) == event.comment_sha256
        for row in candidates
    )


def last_of(events: Sequence[Approval], who: str) -> Approval | None:
    """The latest act of a person that `undo` can remove: it was not undone, and nobody acted on the same comment after it."""
    counting = {id(event) for event in standing(events).values()}
    return next((event for event in reversed(events) if event.who == who and id(event) in counting), None)


def record(run: Path, event: Approval, seen: int) -> Approval | None:
    """Append an event, or else return the one that prevents it: another act on the comment since it was shown, or, if the reply would be
    approved (also because a rejection is undone), the approval of another reply in the same submission, where only one is posted.
    seen: the number of events about the comment when it was shown.
    """
    path = run / FILE
    with files.wait_for_lock(path.with_name(f"{FILE}.lock"), f"{path}: waiting for another process"):
        events = read(path)
        about_it = [each for each in events if each.comment_id == event.comment_id]
        if len(about_it) != seen:
            return about_it[-1] if about_it else event
        would_count = standing([*about_it, event]).get(event.comment_id)
        if is_approved(would_count) and (other := approved_in(events, event.thread_id, event.comment_id)):
            return other
        schema.append_rows(path, Approval, [event])
    return None


def approved_in(events: Iterable[Approval], thread_id: str, but_to: str) -> Approval | None:
    """The approved reply to another comment of a submission."""
    others = (each for each in standing(events).values() if each.thread_id == thread_id and each.comment_id != but_to)
    return next(filter(is_approved, others), None)


def offered_utc(run: Path) -> int:
    """When the replies of a run were chosen, in epoch seconds; 0 if nothing was chosen yet.

    By the manifest, because a copy of the file has another time; by the file if an older version made it.
    """
    path = run / "chosen.csv"
    if not path.exists():
        return 0
    recorded = (files.read_manifest(path) or {}).get("chosen_utc")
    return recorded if isinstance(recorded, int) else int(path.stat().st_mtime)


def is_required(rules: SubmitSettings, is_sandbox: bool) -> bool:
    """Whether only approved replies are posted: by default, on Reddit itself but not in a sandbox.

    >>> from bot.config import SubmitSettings
    >>> is_required(SubmitSettings(), False), is_required(SubmitSettings(), True), is_required(SubmitSettings(approval="none"), False)
    (True, False, False)
    """
    return (rules.approval or ("none" if is_sandbox else "required")) == "required"


def refusal(path: Path | None, reply: Reply, now: int, rules: SubmitSettings, is_required: bool) -> tuple[Refusal | None, bool]:
    """Why a reply is not posted for lack of approval, or None; and whether a person approved exactly this reply.

    path: approvals.csv of the run that the reply comes from, None if unknown. now: epoch seconds. The file is read again each time, so that
    an `undo` counts until the moment of posting. A rejection counts even if approval is not required, so nothing is posted if a file
    cannot be read.
    """
    try:
        event = standing(read(path)).get(reply.comment_id) if path else None
        offered = offered_utc(path.parent) if path else now
    except (FileError, OSError):
        return Refusal.APPROVALS_UNREADABLE, False
    is_late = (event.event_utc if is_approved(event) else now) - offered > rules.approval_timeout_hours * 3600
    if event and event.act == Act.REJECT:
        return Refusal.REJECTED_BY_PERSON, False
    if is_approved(event):
        same = (event.candidate_id, event.after, event.comment_sha256) == (reply.candidate_id, reply.body, reply.comment_sha256)
        if same and not (is_late and is_required and rules.approval_timeout == "not_posted"):
            return None, True
        if is_required:
            return (Refusal.CHANGED_SINCE_APPROVAL if not same else Refusal.APPROVAL_TIMEOUT), False
    if not is_required or (is_late and rules.approval_timeout == "post"):
        return None, False
    return (Refusal.APPROVAL_TIMEOUT if is_late else Refusal.NOT_APPROVED), False
