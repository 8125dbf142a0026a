"""submit: post the chosen replies, each at most once.

Reads  RUN/chosen.csv, RUN/comments.csv (authors and texts of the comments), the ledger and, if present, RUN/approvals.csv.
Writes the ledger, and RUN/submitted.csv: the outcome of each chosen reply, and of replies from earlier runs that were waiting.

    python run_bot.py submit --run data/runs/X --post
    python run_bot.py submit --post                       what people approved within a day, in all folders of data/runs; from cron

The ledger (submit.ledger) is the single source of truth. It is first compared with the account's latest replies on Reddit (adopt.check),
and people's requests are carried out (`inbox`). Then each reply goes through these steps, in order: check when (conduct.may_post); look
on Reddit for a reply of ours to the same comment; check where and what (door.objection), with the current comment, thread and settings;
check when and the approval again; write the intent to disk; send one POST; write its result to disk. A refusal that Reddit names is
final, or has a time before which nothing is sent. If it is unknown whether Reddit accepted the reply, the run looks for it. If it is not
on Reddit, it is parked for a person (`run_bot.py resolve`) and the run posts nothing more; later runs look for it again, but never send
it again. So the same command resumes a run that was killed. Only one process can use a ledger: a second one exits with status 75 and
sends nothing to Reddit.

If submit.approval is "required" (the default on Reddit itself), a reply is posted only if a person approved exactly this text on the page
of `web`, and did not undo it until the moment of posting. The others wait; the same command posts them once they are approved.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bot import cli, config, files, names, schema, text
from bot.cli import Busy, NoPermission, Unreachable, UserError
from bot.conduct import when, where
from bot.conduct.when import Facts, Refusal
from bot.config import Settings
from bot.corpus import copies
from bot.files import FileError
from bot.online import adopt, door, inbox
from bot.posting import approvals, clock, database, gone, ledger
from bot.posting.database import State
from bot.posting.ledger import DAY, HOUR, Reply, Settled
from bot.rankers import classifier
from bot.reddit import client as reddit
from bot.reddit.outcomes import STAYS_READY, Answer, Outcome
from bot.reddit.requestor import Client
from bot.schema import Comment, Scored, Submitted, Verdict

LOOKING_SECONDS = 30 * DAY  # for this long, each run looks for replies that are parked or whose id is unknown
REJECTED_AT_MOST = 2  # replies per run that Reddit refuses with unknown error names
LONGEST_WAIT_SECONDS = 30 * DAY  # a longer wait that Reddit asks for is shortened to this
LONG_WAIT_SECONDS = 30  # after a longer wait for Reddit's rate limit, the comment is read again
APPROVED_WITHIN_SECONDS = DAY  # what `submit` without --run posts
# What was refused for these reasons since it was approved is tried again; the two stay true.
TRIED_AGAIN = {*when.PASSING, *STAYS_READY, Outcome.UNREADABLE} - {Refusal.CHANGED_SINCE_APPROVAL, Refusal.APPROVAL_TIMEOUT}


@dataclass(frozen=True)
class Sender:
    """Shared by all replies of a run. us: our account; training: sketches of the generator's training text, None if there are none."""

    db: sqlite3.Connection
    client: Client
    us: str
    settings: Settings
    training: np.ndarray[Any, Any] | None = None

    def now(self) -> int:
        """Epoch seconds by Reddit's clock."""
        return reddit.server_utc(self.client)


def submit(
    db: sqlite3.Connection, client: Client, chosen: list[Reply], settings: Settings, but_waiting: bool = False
) -> Iterator[Submitted]:
    """Settle replies that earlier runs left in doubt, then post waiting replies (not if `but_waiting`) and the chosen ones; yields the
    outcome of each.

    Raises:
        UserError: Reddit cannot be reached, the account is wrong, or the ledger lacks replies that are on Reddit. Everything that was sent
            is in the ledger.
    """
    us = reddit.account_name(client)
    if not us:
        raise UserError("the account can only read; set praw_username and praw_password in the environment, or write a praw.ini")
    ledger.claim(db, reddit.site(client), us)
    adopt.check(db, client, us)
    sender = Sender(db, client, us, settings, copies.read(settings.generate.model))
    if inbox.obey(client, db, settings.conduct.withdraw_at_karma, sender.now())["unwelcome"]:
        raise inbox.unwelcome()
    if count := clock.bring_back(db, sender.now()):
        print(f"submit: {count} rows of the ledger had a time in the future, from a wrong clock; it was set to the present")
    for reply in ledger.in_state(db, State.UNKNOWN, State.PARKED, State.POSTED):
        is_recent = sender.now() - reply.intent_utc < LOOKING_SECONDS
        if reply.state == State.UNKNOWN or (is_recent and not reply.reply_id):
            look_for(sender, reply)
    stopped = Refusal.SUSPENDED if reddit.is_suspended(client) else None
    if reddit.is_shadowbanned(client, us):
        raise NoPermission(
            f"u/{us}: nobody else sees this account or what it posts (shadowbanned); nothing is posted, ask at"
            " https://www.reddit.com/appeals"
        )
    outcomes: Counter[str] = Counter()
    ids = {reply.comment_id for reply in chosen}
    waiting = () if but_waiting else (each for each in ledger.in_state(db, State.READY) if each.comment_id not in ids)
    for reply in [*waiting, *chosen]:
        known = ledger.find(db, reply.comment_id)
        if known is not None and known.state != State.READY:
            yield attempt_of(reply, *earlier_outcome(known, reply), known.done_utc or known.intent_utc)
            continue
        if known is not None:
            now_chosen = {name: getattr(reply, name) for name in ("candidate_id", "body", "comment_sha256", "approvals")}
            reply = replace(known, **now_chosen)
        if stopped:
            outcome, reply_id = refused(sender, reply, stopped), ""
        else:
            outcome, reply_id = post(sender, reply)
            outcomes[outcome] += 1
            stopped = reason_to_stop(sender, reply, outcomes, outcome)
        yield attempt_of(reply, outcome, reply_id, sender.now())
    if problem := problem_of(db, stopped):
        raise problem


def post(sender: Sender, reply: Reply) -> tuple[str, str]:
    """Post one reply if all checks pass. Returns an outcome (or `parked`, or a refusal's name), and our reply's fullname."""
    db, client, rules = sender.db, sender.client, sender.settings.submit
    if not_now := refusal(sender, reply):
        return refused(sender, reply, not_now), ""
    outcome, reply_id = reddit.find_reply(client, sender.us, reply.comment_id)
    if reply_id:
        ledger.adopt(db, reply, reply_id, sender.now())
        return Refusal.ALREADY_REPLIED, reply_id
    if outcome is not Outcome.READ:
        return refused(sender, reply, outcome), ""
    waited = math.inf
    while waited > LONG_WAIT_SECONDS:
        reason, reply = judged(sender, reply)
        if reason:
            return refused(sender, reply, reason), ""
        waited = reddit.wait_for_turn(client)
    if not_now := refusal(sender, reply):
        return refused(sender, reply, not_now), ""
    not_now, is_approved = approval(sender, reply)
    if not_now:
        return refused(sender, reply, not_now), ""
    ledger.intend(db, reply, sender.now())
    disclosure = rules.approved_disclosure if is_approved else rules.disclosure
    answer = reddit.reply(client, reply.comment_id, door.posted_text(reply.body, disclosure))
    record(db, reply.comment_id, answer, sender.now())
    if answer.outcome is Outcome.UNKNOWN or (answer.outcome is Outcome.POSTED and not answer.reply_id):
        look_for(sender, reply)
    known = ledger.find(db, reply.comment_id)
    assert known is not None
    return known.outcome, known.reply_id


def judged(sender: Sender, reply: Reply) -> tuple[str | None, Reply]:
    """Why the reply cannot be posted, given the current comment and thread; and the reply with subreddit and author from Reddit."""
    limit = sender.settings.fetch.replace_more_limit
    outcome, thread = reddit.read_comment(sender.client, reply.thread_id, reply.comment_id, limit)
    if thread is None:
        return outcome, reply
    for name, source in where.asking_away(thread).items():
        ledger.opt_out(sender.db, name, source, sender.now())
    own = ledger.own_texts(sender.db, but_to={reply.comment_id})
    memory = door.Memory(own, sender.training, ledger.everyone_opted_out(sender.db))
    comment = next(each for each in thread.comments if each.comment_id == reply.comment_id)
    conduct = sender.settings.conduct
    likely = classifier.judge_pieces(where.pieces_of(thread, comment), conduct)
    [categories] = classifier.judge_replies([reply.body], conduct)
    reason = door.objection(reply, thread, sender.us, sender.now(), memory, sender.settings, likely, categories)
    return reason, replace(reply, subreddit=thread.subreddit, author=comment.author)


def refusal(sender: Sender, reply: Reply) -> Refusal | None:
    """The result of `conduct.may_post` now, or after the pause between two replies. Does not wait if the clock went back."""
    reason, must_wait = refusal_now(sender, reply)
    if must_wait:
        with cli.waiting("pausing between two replies"):
            while must_wait:
                time.sleep(1)
                reason, must_wait = refusal_now(sender, reply)
    return reason


def refusal_now(sender: Sender, reply: Reply) -> tuple[Refusal | None, bool]:
    """The result of `conduct.may_post` now, and whether another one follows soon."""
    db, rules, now = sender.db, sender.settings.submit, sender.now()
    wait_there = ledger.wait_of_subreddit(db, reply.subreddit, now)
    facts = Facts(
        kill_switch=rules.kill_switch.exists(),
        paused=ledger.paused(db) is not None,
        approval=approval(sender, reply)[0],
        benched=wait_there is None and reply.subreddit.lower() in ledger.benched(db, now),
        opted_out=ledger.opted_out(db, reply.author),
        sent_in_thread=ledger.sent_in_thread(db, reply.thread_id),
        sent_last_hour=ledger.sent_since(db, now - HOUR),
        sent_last_day=ledger.sent_since(db, now - DAY),
        last_sent_utc=ledger.last_sent_utc(db),
        not_before_utc=max(filter(None, (ledger.not_before_utc(db), wait_there)), default=None),
    )
    reason = when.may_post(now, reply, facts, rules)
    return reason, reason is Refusal.TOO_SOON and (facts.last_sent_utc or 0) <= now


def approval(sender: Sender, reply: Reply) -> tuple[Refusal | None, bool]:
    """See approvals.refusal. By this machine's clock, which wrote the file."""
    path = Path(reply.approvals) if reply.approvals else None
    return approvals.refusal(path, reply, int(time.time()), sender.settings.submit, is_approval_required(sender.settings))


def is_approval_required(settings: Settings) -> bool:
    """See approvals.is_required. Where the reply would be posted decides."""
    return approvals.is_required(settings.submit, reddit.is_sandbox(settings.reddit.url))


def refused(sender: Sender, reply: Reply, reason: str) -> str:
    """Count the refusal. A waiting reply is rejected permanently, unless the reason is temporary or Reddit could not be reached."""
    now = sender.now()
    ledger.refuse(sender.db, reply, reason, now)
    if reason not in when.PASSING and not isinstance(reason, Outcome):
        ledger.settle(sender.db, reply.comment_id, State.REJECTED, reason, now, error=reply.error)
    return str(reason)


def record(db: sqlite3.Connection, comment_id: str, answer: Answer, now: int) -> None:
    """Record the outcome of a POST in the ledger, with its consequences for the subreddit or the comment's author."""
    states = {Outcome.POSTED: State.POSTED, Outcome.UNKNOWN: State.UNKNOWN, **dict.fromkeys(STAYS_READY, State.READY)}
    wait = None if answer.wait_seconds is None else now + min(answer.wait_seconds, LONGEST_WAIT_SECONDS)
    of_subreddit = answer.outcome is Outcome.SUBREDDIT_RATE_LIMITED
    state = states.get(answer.outcome, State.REJECTED)
    ledger.settle(db, comment_id, state, answer.outcome, now, answer.reply_id, None if of_subreddit else wait, answer.detail)
    reply = ledger.find(db, comment_id)
    assert reply is not None
    if of_subreddit and wait:
        ledger.bench(db, reply.subreddit, wait, ledger.SLOW_DOWN)
    elif answer.outcome is Outcome.BANNED_THERE:
        ledger.bench(db, reply.subreddit, now + ledger.BENCH_SECONDS, answer.detail)
    elif answer.outcome is Outcome.USER_BLOCKED:
        ledger.opt_out(db, reply.author, comment_id, now)


def look_for(sender: Sender, reply: Reply) -> None:
    """Settle a reply that may be on Reddit: posted if it is there; otherwise parked, and never sent again automatically."""
    db = sender.db
    known = ledger.find(db, reply.comment_id)
    assert known is not None
    _, reply_id = reddit.find_reply(sender.client, sender.us, reply.comment_id)
    now = known.done_utc or sender.now()  # caps use the time of sending, not the time of this check
    if reply_id or known.state == State.POSTED:
        ledger.settle(db, reply.comment_id, State.POSTED, Outcome.POSTED, now, reply_id, error=known.error)
    else:
        ledger.settle(db, reply.comment_id, State.PARKED, Settled.PARKED, now, error=known.error)


def reason_to_stop(sender: Sender, reply: Reply, outcomes: Mapping[str, int], outcome: str) -> Refusal | None:
    """Why nothing more is posted in this run, or None. outcomes: how often each occurred in this run; outcome: the latest."""
    if outcome == Settled.PARKED:
        return Refusal.IN_DOUBT
    if outcome in (Outcome.ACCOUNT_REFUSED, Outcome.NO_SCOPE):
        return Refusal.ACCOUNT_REFUSED
    if outcome == Outcome.BLOCKED:
        return Refusal.BLOCKED
    if outcomes[Outcome.REJECTED] == REJECTED_AT_MOST:
        return Refusal.REFUSED_BY_NAME
    if outcome in ledger.UNWELCOME and ledger.bench_if_unwelcome(sender.db, reply.subreddit, sender.now()):
        return Refusal.UNWELCOME
    return None


def problem_of(db: sqlite3.Connection, stopped: Refusal | None) -> UserError | None:
    """The error for a person to fix before anything can be posted again, in Reddit's words; None if there is none."""
    if stopped not in (Refusal.ACCOUNT_REFUSED, Refusal.BLOCKED):
        return None
    kind = Unreachable if stopped is Refusal.BLOCKED else NoPermission
    outcomes = (Outcome.BLOCKED,) if stopped is Refusal.BLOCKED else (Outcome.ACCOUNT_REFUSED, Outcome.NO_SCOPE)
    latest = [reply for reply in ledger.in_state(db, State.READY) if reply.outcome in outcomes][-1]
    return kind(f"{latest.error}; nothing more was posted, and waiting replies stay ready")


def earlier_outcome(known: Reply, reply: Reply) -> tuple[str, str]:
    """The outcome that the ledger has for a comment, and the id of our reply to it."""
    same = (known.candidate_id, known.body) == (reply.candidate_id, reply.body)
    if known.state in (State.POSTED, State.WITHDRAWN) and not same:
        return Refusal.ALREADY_REPLIED, known.reply_id
    return (Settled.DELETED if known.state == State.WITHDRAWN else known.outcome), known.reply_id


def attempt_of(reply: Reply, outcome: str, reply_id: str, utc: int) -> Submitted:
    return Submitted(reply.comment_id, reply.thread_id, reply.candidate_id, str(outcome), reply_id, utc, reply.body)


def read_chosen(run: Path) -> tuple[list[Reply], list[Reply]]:
    """The replies to post: the rows of chosen.csv with the verdict chosen, with what people decided; and the rows with another verdict.

    Raises:
        FileError: as schema.read_rows.
        UserError: a comment is not in comments.csv.
    """
    comments = {row.comment_id: row for row in schema.read_rows(run / "comments.csv", Comment)}
    replies: list[Reply] = []
    others: list[Reply] = []
    for row in schema.read_rows(run / "chosen.csv", Scored):
        if row.comment_id not in comments:
            raise UserError(
                f"{run / 'comments.csv'}: {row.comment_id} of chosen.csv is not in it, so its author is unknown; run `fetch` again"
            )
        comment = comments[row.comment_id]
        place = (row.comment_id, row.thread_id, row.subreddit, comment.author)
        reply = Reply(*place, row.candidate_id, row.reply, comment_sha256=text.fingerprint(row.comment or comment.comment))
        (replies if row.verdict == Verdict.CHOSEN else others).append(reply)
    return with_approvals(run, replies, comments), others


def with_approvals(run: Path, chosen: list[Reply], comments: Mapping[str, Comment]) -> list[Reply]:
    """The chosen replies, each with the candidate and the text that a person approved instead; and replies that a person approved although
    none was chosen. Approvals of candidates or comments that changed since are left out here, and `refusal` names them.
    """
    path = (run / approvals.FILE).absolute()
    approved = {name: event for name, event in approvals.standing(approvals.read(path)).items() if approvals.is_approved(event)}
    candidates: dict[str, list[Scored]] = {name: [] for name in approved}
    for row in schema.read_rows(run / "scored.csv", Scored) if approved else ():
        if row.comment_id in approved:
            candidates[row.comment_id].append(row)
    current = {name: event for name, event in approved.items() if name in comments and approvals.is_current(event, candidates[name])}
    known = {reply.comment_id: reply for reply in chosen}
    for name in current.keys() - known.keys():
        comment = comments[name]
        known[name] = Reply(name, comment.thread_id, comment.subreddit, comment.author, "", "")
    replies = []
    for name, reply in known.items():
        if event := current.get(name):
            reply = replace(reply, candidate_id=event.candidate_id, body=event.after, comment_sha256=event.comment_sha256)
        replies.append(replace(reply, approvals=str(path)))
    return replies


def main(
    run: Annotated[
        Path | None,
        typer.Option(help="run folder: reads chosen.csv and comments.csv, writes submitted.csv [default: what was approved within a day]"),
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    send: Annotated[bool, typer.Option("--post", help="really post; without it nothing is sent")] = False,
    runs: Annotated[Path, typer.Option(help="without --run: the folder with the run folders")] = Path("data/runs"),
) -> None:
    """Post the chosen replies, each at most once."""
    settings = config.load(config_file)
    if run is None:
        return submit_approved(runs, settings, send)
    with files.run_folder(run):
        check_output(run)
        chosen, others = read_chosen(run)
        if send:
            submit_chosen(run, chosen, others, settings)
        else:
            print(f"{len(chosen)} replies are chosen; nothing is sent without --post")


def check_output(run: Path) -> None:
    files.check_output(run / "submitted.csv", [run / "chosen.csv", run / "comments.csv"])


def submit_approved(runs: Path, settings: Settings, send: bool) -> None:
    """Post the replies that people approved, in all run folders under `runs` except those of another site (Reddit or the sandbox), as one
    `submit` in which approval is required. Prints nothing if there are none or another process posts.

    Raises:
        typer.Exit: with the status 75; another process uses the ledger or a run folder.
        UserError: as `submit`; `runs` is not a folder; or, after the others are posted, for folders that cannot be read.
    """
    strict = {"approval": "required", "approval_timeout": "not_posted"}
    settings = settings.model_copy(update={"submit": settings.submit.model_copy(update=strict)})
    try:
        folders = sorted(runs.iterdir()) if runs.exists() else []
    except OSError as error:
        raise UserError(f"{runs}: cannot be read ({error.strerror}); give the folder with the run folders") from None
    path = settings.submit.ledger
    with ExitStack() as locks:
        db = locks.enter_context(closing(database.open_to_read(path))) if path.exists() else None
        approved, problems, is_busy = approved_in(folders, reddit.is_sandbox(settings.reddit.url), db, locks)
        for run, replies in () if send else approved.items():
            print(f"{run}: {len(replies)} replies are approved; nothing is sent without --post")
        if send and approved:
            try:
                post_approved(approved, settings)
            except Busy:
                is_busy = True
    if problems:
        raise UserError("; ".join(problems))
    if is_busy:
        raise typer.Exit(Busy.status)


Due = list[tuple[Reply, int]]  # approved replies, each with the epoch seconds at which it was approved


def approved_in(
    folders: Sequence[Path], in_sandbox: bool, db: sqlite3.Connection | None, locks: ExitStack
) -> tuple[dict[Path, Due], list[str], bool]:
    """The replies of each run folder that were approved lately and are not settled; what cannot be read; and whether a folder is in use.

    db: the ledger, None if there is none. Locks the folders.
    """
    approved: dict[Path, Due] = {}
    problems, is_busy = [], False
    for run in folders:
        try:
            if not files.is_run(run) or gone.of_sandbox(run / "comments.csv") is not in_sandbox or not approved_lately(run, db):
                continue
            locks.enter_context(files.run_folder(run))
            check_output(run)
            times = approved_lately(run, db)
            if due := [(reply, times[reply.comment_id]) for reply in read_chosen(run)[0] if reply.comment_id in times]:
                approved[run] = due
        except Busy:
            is_busy = True
        except UserError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{run}: cannot be read ({error.strerror})")
    return approved, problems, is_busy


def approved_lately(run: Path, db: sqlite3.Connection | None) -> dict[str, int]:
    """The comments of a run whose reply a person approved within APPROVED_WITHIN_SECONDS -> when, at most now. Without those that the
    ledger has settled.
    """
    now = int(time.time())
    events = approvals.standing(approvals.read(run / approvals.FILE)).values()
    times = {event.comment_id: min(event.event_utc, now) for event in events if approvals.is_approved(event)}
    lately = {name: utc for name, utc in times.items() if now - utc < APPROVED_WITHIN_SECONDS}
    return {name: utc for name, utc in lately.items() if db is None or may_be_posted(db, name, utc, is_current=True)}


def post_approved(approved: Mapping[Path, Due], settings: Settings) -> None:
    """Post the replies that the ledger neither settled nor refused for good since they were approved. Raises as `submit`."""
    path = settings.submit.ledger
    with ledger.held(path, make=True) as db:
        ledger.recover(db)
        due: dict[str, tuple[Path, Reply]] = {}
        for run, reply, utc in ((run, *each) for run, replies in approved.items() for each in replies):
            _, is_current = approvals.refusal(Path(reply.approvals), reply, int(time.time()), settings.submit, is_required=True)
            # an approval that is out of date in one folder does not take the place of a current one in another
            if may_be_posted(db, reply.comment_id, utc, is_current) and (is_current or reply.comment_id not in due):
                due[reply.comment_id] = run, reply
        if not due:
            return
        attempts: list[Submitted] = []
        try:
            for attempt in submit(db, reddit.connect(settings.reddit), [reply for _, reply in due.values()], settings, but_waiting=True):
                attempts.append(attempt)
        finally:
            for run in {run for run, _ in due.values()}:
                write_attempts(run, [each for each in attempts if due[each.comment_id][0] == run], keep_refused=True)
        account = ledger.account(db)
    posted = sum(attempt.outcome == Outcome.POSTED for attempt in attempts)
    refusals = ", ".join(f"{each.comment_id} {each.outcome}" for each in attempts if each.outcome != Outcome.POSTED)
    why = f" ({refusals})" if refusals else ""
    print(f"{posted} of {len(attempts)} approved replies posted{why} by {account}; ledger {path.absolute()}")
    for run in approved:
        for line in where_posted(run, [each for each in attempts if due[each.comment_id][0] == run], settings.reddit.url):
            print(line)


def may_be_posted(db: sqlite3.Connection, comment_id: str, approved_utc: int, is_current: bool) -> bool:
    """False if the reply was settled, or refused since it was approved for a reason that does not pass. is_current: the text is still the
    one that was approved, so that it does not matter whether it was not, in another folder.
    """
    known, reason = ledger.find(db, comment_id), ledger.last_refusal(db, comment_id, approved_utc)
    passes = not reason or reason in TRIED_AGAIN or (is_current and reason == Refusal.CHANGED_SINCE_APPROVAL)
    return passes and (known is None or known.state == State.READY)


def write_attempts(run: Path, attempts: Sequence[Submitted], keep_refused: bool) -> None:
    """Write RUN/submitted.csv. If the file is about the same chosen.csv, its rows of posted replies without a new attempt are kept, and, if
    `keep_refused`, all rows without one.
    """
    path, made_from = run / "submitted.csv", {"chosen": files.sha256_of(run / "chosen.csv")}
    earlier: list[Submitted] = []
    with suppress(FileError, OSError):  # damaged or not readable; the ledger has what was posted
        if (files.read_manifest(path) or {}).get("made_from") == made_from:
            earlier = schema.read_rows(path, Submitted)
    tried = {attempt.comment_id for attempt in attempts}
    kept = [row for row in earlier if row.comment_id not in tried and (keep_refused or row.outcome == Outcome.POSTED)]
    schema.write_rows(path, Submitted, [*kept, *attempts], made_from)


def where_posted(run: Path, attempts: Sequence[Submitted], site: str) -> list[str]:
    """Where to read the posted replies. site: reddit.url, empty for Reddit itself."""
    posted = [attempt for attempt in attempts if attempt.outcome == Outcome.POSTED]
    if posted and (run / "sandbox.sqlite").exists():  # of `run --sandbox`, which ends with the run
        return [f"`python run_bot.py sandbox --run {run}` shows them in a browser"]
    own_site = {"site": site.rstrip("/")} if site else {}
    return [names.permalink(attempt.thread_id, attempt.reply_id, **own_site) for attempt in posted]


def submit_chosen(run: Path, chosen: list[Reply], others: list[Reply], settings: Settings) -> None:
    """Post the chosen replies, and write submitted.csv even if posting fails. others: rows that are not chosen. Raises as `submit`."""
    path = settings.submit.ledger
    with ledger.held(path, make=True) as db:
        ledger.recover(db)
        attempts = [attempt_of(reply, Refusal.NOT_CHOSEN, "", int(time.time())) for reply in others]
        try:
            if chosen or ledger.in_state(db, State.UNKNOWN, State.PARKED, State.READY):
                for attempt in submit(db, reddit.connect(settings.reddit), chosen, settings):
                    attempts.append(attempt)
        finally:
            write_attempts(run, attempts, keep_refused=False)
        parked = ledger.in_state(db, State.PARKED)
        account = ledger.account(db)
    outcomes = Counter(attempt.outcome for attempt in attempts)
    posted = outcomes.pop(Outcome.POSTED, 0)
    refusals = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
    why = f" ({refusals})" if refusals else ""
    print(f"{posted} of {len(attempts)} replies posted{why} by {account}; {run / 'submitted.csv'}, ledger {path.absolute()}")
    for line in where_posted(run, attempts, settings.reddit.url):
        print(line)
    if waiting := outcomes[Refusal.NOT_APPROVED]:
        print(f"{waiting} wait for a person: approve them on the page of `python run_bot.py web`, then repeat this command")
    if parked:
        print(f"{len(parked)} may have been posted, but are not visible on Reddit; decide with `python run_bot.py resolve`")
