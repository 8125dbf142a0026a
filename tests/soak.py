"""Inject every fault at every moment, with the real PRAW against the sandbox, and check that no reply is doubled and none is lost.

    python -m tests.soak [--seed 1] [--runs 1000] [--workers 2]      the whole matrix, then random cases up to --runs
    python -m tests.soak --slice                                     a subset with every fault and every moment, but not every combination
    python -m tests.soak --naive                                     a poster that relies on PRAW alone, to show that doubles are detected

Prints each failed case, and `N runs, N doubled, N lost`. The exit status is 0 if nothing was doubled or lost, with --naive if something
was doubled, and otherwise 1.

A run executes one case with a new ledger and a new sandbox. It starts one or more processes of `submit` on the same chosen replies, with
faults switched on in the sandbox or with a process killed by SIGKILL at a given moment; then one process without faults, and another after
delayed comments have appeared. Each process is forked from a parent that has imported everything and has no threads. The child wraps
submit's own functions to detect the moments, and shortens prawcore's waits between retries of reads to 10 ms. A full disk is simulated by
a limit on the size of files (RLIMIT_FSIZE), which is set at the given moment.

Doubled: a comment with more than one reply of the bot. Lost: a comment that in the end is neither posted, nor parked, nor refused with a
named reason in submitted.csv; a ledger entry that contradicts the sandbox; a reply that still exists although its reader asked for its
deletion; a damaged ledger; or a process that ends with a traceback.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import praw
import prawcore
import time_machine
import urllib3.connection

from bot import sandbox, schema
from bot.cli import DISK_FULL, run_command
from bot.conduct import what, where
from bot.config import ConductSettings
from bot.online import adopt, door, inbox, submit
from bot.posting import ledger
from bot.posting.ledger import DAY, State
from bot.reddit import calls
from bot.reddit import client as reddit
from bot.sandbox.server import Box, listen
from bot.sandbox.store import Store
from bot.schema import Comment, Scored, Submitted

TIMEOUT, STALL, LATE = 0.5, 0.8, 0.7  # seconds: client timeout, stall of the sandbox, delay of an accepted comment
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # memory is enough: a killed process loses nothing that it wrote
RANDOM_IN_SLICE = 4
MOMENTS = ("before_intent", "after_intent", "after_send", "after_answer", "after_commit")

HARMS = ("ledger removed", "ledger cut to nothing", "older ledger put back", "comments edited")  # applied between two rounds
ASKED = "requests were read by hand"  # another harm: authors ask to stop and to delete, and a person marks it as read
DELETIONS = ("before_delete", "after_delete")  # moments at which `inbox` is killed

Fault = dict[str, Any]  # what Store.add_fault takes
# Harmless replies that differ from each other.
TEXTS = (
    "A reply.", "The library has that one.", "Our bus is faster on Mondays.", "It rained all weekend over here.",
    "Coffee helps, and so does a nap.", "My cousin swears by the blue one.", "We had the same trouble with the oven.",
    "That shelf is taller than it looks.", "Nobody at work has finished the second part.", "Two spoons of flour are plenty.",
    "The old map hangs in our kitchen.", "A bench scraper is worth its price.",
)  # fmt: skip


def lost_answers() -> Iterator[tuple[str, list[Fault]]]:
    """Responses that leave the result of the POST unknown, each for a reply that is not accepted, accepted, or accepted with a delay."""
    for name, fault in {
        "time-out": {"kind": "timeout", "seconds": STALL},
        "reset": {"kind": "reset"},
        "500": {"kind": "500"},
        "503": {"kind": "503"},
        "garbage body": {"kind": "garbage"},
    }.items():
        yield f"{name}, not accepted", [fault]
        yield f"{name}, accepted", [{**fault, "accepted": True}]
        yield f"{name}, accepted late", [{**fault, "accepted": True, "late_seconds": LATE}]


FAULTS: dict[str, list[Fault]] = {
    "no fault": [],
    **dict(lost_answers()),
    "answer cut short, accepted": [{"kind": "cut", "accepted": True}],
    "401, not accepted": [{"kind": "401"}],
    "401, accepted": [{"kind": "401", "accepted": True}],
    "empty answer, accepted": [{"kind": "empty", "accepted": True}],
    "stale own comments": [{"kind": "stale", "path": "/user/", "times": 9}, {"kind": "reset", "accepted": True}],
    "stale thread": [{"kind": "stale", "path": "/comments/", "times": 9}, {"kind": "reset", "accepted": True}],
    "all stale": [{"kind": "stale", "path": path, "times": 9} for path in ("/user/", "/comments/")] + [{"kind": "reset", "accepted": True}],
    "429 with Retry-After": [{"kind": "429", "seconds": 60}],
    "429": [{"kind": "429"}],
    "RATELIMIT, 9 minutes": [{"kind": "ratelimit"}],
    "RATELIMIT, 1m 30s": [{"kind": "ratelimit_short"}],
    "403": [{"kind": "403"}],
    "403 for ever": [{"kind": "403", "times": 99}],
    "404": [{"kind": "404"}],
    "locked": [{"kind": "locked"}],
    "too old": [{"kind": "too_old"}],
    "deleted": [{"kind": "deleted"}],
    "HTML 403": [{"kind": "html403"}],
    "HTML 403 for ever": [{"kind": "html403", "times": 99}],
    "HTML 403 everywhere": [{"kind": "html403", "path": "/", "times": 99}],
    "400": [{"kind": "400"}],
    "400 with fields": [{"kind": "400_fields"}],
    "400 in HTML": [{"kind": "400_html"}],
    "something broke": [{"kind": "broken"}],
    "something broke, accepted": [{"kind": "broken", "accepted": True}],
    "an unknown error name": [{"kind": "odd"}],
    "an unknown error name, accepted": [{"kind": "odd", "accepted": True}],
    "several error names": [{"kind": "several"}],
    "banned from the subreddit": [{"kind": "banned"}],
    "account in time-out": [{"kind": "in_timeout"}],
    "SUBREDDIT_RATELIMIT": [{"kind": "subreddit_ratelimit"}],
    "links refused": [{"kind": "linking"}],
    "blocked by the author": [{"kind": "user_blocked"}],
    "scope missing": [{"kind": "scope"}],
    "413": [{"kind": "413"}],
    "suspended": [{"kind": "suspended", "path": "/api/v1/me", "times": 99}],
}


@dataclass(frozen=True)
class Start:
    """A process to start. kill_at, full_at: the moment, at its nth occurrence, at which the process is killed or its disk becomes full.

    clock_seconds: the offset of its clock.
    """

    kill_at: str = ""
    full_at: str = ""
    nth: int = 1
    clock_seconds: int = 0
    command: str = "submit"


@dataclass(frozen=True)
class Round:
    """Processes that start together. harm: one of HARMS, or ASKED, applied before they start; after a harm to the ledger, `adopt` runs."""

    starts: tuple[Start, ...] = (Start(),)
    faults: tuple[Fault, ...] = ()
    harm: str = ""


@dataclass(frozen=True)
class Case:
    name: str
    rounds: tuple[Round, ...]
    comments: int = 2
    server_clock_seconds: int = 0
    naive: bool = False


@dataclass
class Result:
    case: str
    processes: int = 0
    killed: int = 0
    full: int = 0  # processes stopped by a full disk
    doubled: int = 0
    lost: int = 0
    log: str = ""
    outcomes: tuple[str, ...] = ()  # the final outcome of each comment


# --- the cases ----------------------------------------------------------------------------------------------------------------


def matrix() -> Iterator[Case]:
    """Every combination of a fault, a moment of killing (or none), and one or two concurrent processes.

    Also a full disk; clocks that are a day off; a lost ledger or edited comments after a round with a fault; and requests that a person has
    marked as read, with `inbox` killed while it handles them.
    """
    for (name, faults), moment, at_once in product(FAULTS.items(), ("", *MOMENTS), (1, 2)):
        starts = (Start(kill_at=moment),) * at_once  # only the one that locks the ledger reaches the moment
        yield Case(f"{name}; kill -9 {moment or 'never'}; {at_once} at once", (Round(starts, tuple(faults)),))
    for moment, at_once, name in product(("before_intent", "after_answer"), (1, 2), ("no fault", "503, accepted", "403")):
        starts = (Start(full_at=moment),) * at_once
        yield Case(f"disk full {moment}; {name}; {at_once} at once", (Round(starts, tuple(FAULTS[name])),))
    for ours, theirs, moment in product((-DAY, 0, DAY), (-DAY, 0, DAY), ("", "after_send", "after_commit")):
        if ours or theirs:
            name = f"clocks off by {ours} s here, {theirs} s there; kill -9 {moment or 'never'}"
            yield Case(name, (Round((Start(kill_at=moment, clock_seconds=ours),)),), server_clock_seconds=theirs)
    for harm, name, moment in product(HARMS, ("no fault", "503, accepted", "reset, not accepted", "429"), ("", *MOMENTS)):
        before = Round((Start(kill_at=moment),), tuple(FAULTS[name]))
        yield Case(f"{harm}; after {name}; kill -9 {moment or 'never'}", (before, Round(harm=harm)))
    for name, moment, deletion in product(("no fault", "503, accepted", "429"), ("", "after_send", "after_answer"), ("", *DELETIONS)):
        before = Round((Start(kill_at=moment),), tuple(FAULTS[name]))
        inbox_killed = Round((Start(command="inbox", kill_at=deletion),), harm=ASKED)
        case = f"{ASKED}; after {name} and kill -9 {moment or 'never'}; inbox killed {deletion or 'never'}"
        yield Case(case, (before, inbox_killed, Round(), Round((Start(command="inbox"),))))


def naive() -> Iterator[Case]:
    """Every fault in which a reply is accepted although the response is an error. Only these can make the naive poster post twice."""
    for name, faults in FAULTS.items():
        if any(fault.get("accepted") for fault in faults):
            yield Case(name, (Round(faults=tuple(faults)),), naive=True)


def some(cases: list[Case]) -> list[Case]:
    """A subset of the matrix with every fault, and with every moment for several faults."""
    return [case for number, case in enumerate(cases) if number % 11 == 0]


def at_random(seed: int) -> Case:
    dice = random.Random(seed)
    kinds = [fault for faults in FAULTS.values() for fault in faults]
    reads = ("timeout", "reset", "503", "garbage", "401", "429", "stale")
    rounds = []
    for _ in range(dice.randint(1, 3)):
        faults = [dict(dice.choice(kinds), times=dice.choice((1, 1, 2))) for _ in range(dice.randint(0, 3))]
        for fault in faults:
            if fault.get("accepted") and dice.random() < 0.5:
                fault["late_seconds"] = dice.uniform(0.01, LATE)
        if dice.random() < 0.3:
            path = dice.choice(("/user/", "/comments/", "/api/info", "/api/v1/me", "/api/v1/access_token"))
            faults.append({"kind": dice.choice(reads), "path": path, "times": dice.randint(1, 4), "seconds": STALL})
        starts = [
            Start(
                kill_at=dice.choice(("", "", *MOMENTS)),
                full_at=dice.choice(("",) * 9 + MOMENTS),
                nth=dice.choice((1, 1, 2)),
                clock_seconds=dice.choice((0, 0, 0, -DAY, DAY)),
            )
            for _ in range(dice.choice((1, 1, 2, 3)))
        ]
        rounds.append(Round(tuple(starts), tuple(faults)))
    return Case(f"random, seed {seed}", tuple(rounds), comments=dice.randint(1, 4))


# --- one case -----------------------------------------------------------------------------------------------------------------


def run_case(case: Case) -> Result:
    result = Result(case.name)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=MEMORY) as name:
        folder = Path(name)
        shutil.copy(template(), folder / "sandbox.sqlite")
        box, server = listen(folder / "sandbox.sqlite")
        serving = fork(lambda: shifted(case.server_clock_seconds, server.serve_forever))
        server.server_close()
        try:
            chosen = comments_to_answer(box, case.comments)
            # then one process without faults, and another after delayed comments have appeared
            rounds = [*case.rounds, Round(), Round()]
            if any(each.harm == "older ledger put back" for each in rounds):
                with closing(ledger.open_ledger(folder / "older.sqlite")):
                    pass
            for number, each in enumerate(rounds):
                do_harm(each.harm, folder, box, chosen)
                box.store.clear_faults()
                for fault in each.faults:
                    box.store.add_fault(**fault)
                if number == len(rounds) - 1:
                    time.sleep(LATE + 0.2 if any(fault.get("late_seconds") for one in rounds for fault in one.faults) else 0)
                is_patient = number == len(rounds) - 1 or any(start.command == "inbox" for start in each.starts)
                run_round(case, each, folder, box, chosen, result, timeout=10 if is_patient else TIMEOUT)
                if "ledger" in each.harm:
                    if each.harm == "ledger cut to nothing":
                        (folder / "ledger.sqlite").unlink()  # the operator removes a damaged ledger
                    run_round(case, replace(each, starts=(Start(command="adopt"),)), folder, box, chosen, result, timeout=10)
            judge(folder, box, chosen, result, case.naive, asked=any(each.harm == ASKED for each in rounds))
        finally:
            os.kill(serving[0], signal.SIGKILL)
            ended(serving)
        if result.doubled or result.lost:
            result.log += "".join(f"--- {log.name}\n{log.read_text(errors='replace')}" for log in sorted(folder.glob("*.log")))
    return result


def do_harm(harm: str, folder: Path, box: Box, chosen: list[Comment]) -> None:
    """Apply a harm to the ledger, or to comments on Reddit, while no process is running."""
    path = folder / "ledger.sqlite"
    if not harm:
        return
    if harm == ASKED:
        ours = {row["parent_id"]: row["name"] for row in box.store.comments_by(sandbox.USERNAME)}
        for each in chosen:
            if each.comment_id in ours:
                box.say(ours[each.comment_id], "Please delete this.", author=each.author)
            # the reply of a process that was killed after sending may still be on its way
            box.write("unsubscribe" if each.comment_id in ours else "!stop !delete", author=each.author)
        box.store.mark_read([row["name"] for row in (*box.store.unread(), *box.store.unread_letters())])
        return
    if harm == "comments edited":
        with closing(sqlite3.connect(box.db)) as db, db:
            db.executemany(
                "UPDATE comments SET body = body || ' Edit: one more word.' WHERE name = ?", [(each.comment_id,) for each in chosen]
            )
        return
    with closing(ledger.open_ledger(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for each in (path, path.with_name("ledger.sqlite-wal"), path.with_name("ledger.sqlite-shm")):
        each.unlink(missing_ok=True)
    if harm == "ledger cut to nothing":
        path.touch()
    elif harm == "older ledger put back":
        shutil.copy(folder / "older.sqlite", path)


def run_round(case: Case, each: Round, folder: Path, box: Box, chosen: list[Comment], result: Result, timeout: float) -> None:
    """Start the processes of a round together, and wait for them."""
    reading, writing = os.pipe()  # closing the writing end starts all processes at once
    processes = []
    for number, start in enumerate(each.starts):
        run = folder / f"run-{number}"
        if not run.exists():
            write_run(run, chosen, number * len(chosen))
        environment = {
            "BOT_REDDIT__URL": box.url,
            "BOT_REDDIT__TIMEOUT_SECONDS": str(timeout),
            "BOT_SUBMIT__ALLOWED": '[{"subreddit": "sandbox_books", "permitted_by": "nobody"}]',
            "BOT_SUBMIT__LEDGER": str(folder / "ledger.sqlite"),
            "BOT_SUBMIT__KILL_SWITCH": str(folder / "STOP"),
            "BOT_SUBMIT__MINIMUM_PAUSE_SECONDS": "0",
            "BOT_SUBMIT__POSTS_AN_HOUR": "100",
            "BOT_FETCH__MAXIMUM_AGE_HOURS": "100",  # if the sandbox's clock is a day off, so are its comments
        }

        def body(run: Path = run, start: Start = start, environment: dict[str, str] = environment) -> None:
            os.close(writing)
            os.read(reading, 1)
            os.environ.update(environment)
            vars(prawcore.sessions)["time"] = SimpleNamespace(sleep=lambda seconds: time.sleep(0.01), monotonic=time.monotonic)
            calls.retrying.sleep = lambda seconds: None
            if case.naive:
                post_naively(run, box.url, timeout)
            else:
                prepare(start)
                main = {"submit": submit.main, "adopt": adopt.main, "inbox": inbox.main}[start.command]
                arguments = ["--run", str(run), "--post"] if start.command == "submit" else []
                shifted(start.clock_seconds, lambda: run_command(main, start.command, arguments))

        processes.append(fork(body))
    os.close(writing)
    os.close(reading)
    for process in processes:
        status, printed = ended(process)
        (folder / f"process-{result.processes:02}.log").write_bytes(printed)
        result.processes += 1
        result.killed += status == -signal.SIGKILL
        result.full += status == DISK_FULL
        if status not in (0, 1, 69, 74, 75, 77, -signal.SIGKILL) and not (status == 78 and each.harm):
            result.lost += 1
            result.log += f"a process ended with status {status}\n"


def fork(body: Callable[[], object]) -> tuple[int, int]:
    """Run `body` in a child process. Returns its id and a pipe with its output, which works even if the disk is full.

    The exit status is that of a program: 70 after a traceback.
    """
    sys.stdout.flush()
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    status = 70
    try:
        signal.alarm(200)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        try:
            body()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def ended(process: tuple[int, int]) -> tuple[int, bytes]:
    """Wait for a process. Returns its exit status (-9: killed) and its output."""
    with open(process[1], "rb") as pipe:  # noqa: PTH123 (a file descriptor)
        printed = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(process[0], 0)[1]), printed


def shifted(seconds: int, body: Callable[[], object]) -> None:
    if seconds:
        with time_machine.travel(datetime.fromtimestamp(time.time() + seconds, UTC), tick=True):
            body()
    else:
        body()


def prepare(start: Start) -> None:
    """In the child process: kill it, or make its disk full, when the moment occurs for the nth time."""
    seen: Counter[str] = Counter()

    def comes(moment: str) -> None:
        seen[moment] += 1
        if seen[moment] == start.nth and moment == start.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if seen[moment] == start.nth and moment == start.full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def around(module: Any, name: str, before: str | None, after: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if before:
                comes(before)
            answer = function(*arguments, **options)
            comes(after)
            return answer

        setattr(module, name, call)

    around(ledger, "intend", "before_intent", "after_intent")
    around(reddit, "reply", None, "after_answer")
    around(submit, "record", None, "after_commit")
    around(reddit, "delete", *DELETIONS)
    get_response = urllib3.connection.HTTPConnection.getresponse

    def after_sending(self: Any) -> Any:
        if self._method == "POST" and ledger_is_waiting():
            comes("after_send")
        return get_response(self)

    def ledger_is_waiting() -> bool:
        path = os.environ["BOT_SUBMIT__LEDGER"]
        if not Path(path).exists():
            return False
        with closing(sqlite3.connect(path)) as db:
            return bool(db.execute("SELECT 1 FROM reply WHERE state = 'submitting'").fetchone())

    urllib3.connection.HTTPConnection.getresponse = after_sending  # type: ignore[method-assign]


def post_naively(run: Path, url: str, timeout: float) -> None:
    """What a bot without a ledger does: call PRAW directly, and record the result only after all replies."""
    account = {"client_id": sandbox.CLIENT_ID, "client_secret": sandbox.CLIENT_SECRET}
    account |= {"username": sandbox.USERNAME, "password": sandbox.PASSWORD}
    client = praw.Reddit(
        user_agent="linux:naive:0.1 (by /u/nobody)",
        reddit_url=url,
        oauth_url=url,
        check_for_updates=False,
        requestor_kwargs={"timeout": timeout},
        **account,
    )
    done = run / "done.txt"
    if not done.exists():
        for row in schema.read_rows(run / "chosen.csv", Scored):
            client.comment(row.comment_id.removeprefix("t1_")).reply(row.reply)
        done.touch()


# --- input and verdict ----------------------------------------------------------------------------------------------------------


def load_checks() -> None:
    """Compile the patterns and load the word lists of conduct that the texts of the cases need, before processes are forked."""
    conduct = ConductSettings()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        store = Store(Path(folder) / "sandbox.sqlite", time.time())
        for thread in store.submissions("sandbox_books"):
            texts = {row["name"]: row["body"] for row in store.comments_of(thread["name"])}
            for name, body in texts.items():
                where.text_refusal("sandbox_books", thread["title"], "", body, conduct)
                around = door.Surroundings(thread["title"], texts).around(name, body)
                for reply in TEXTS:
                    what.may_say(reply, around, conduct)


def template() -> Path:
    """A seeded sandbox to copy, created once per process."""
    path = Path(tempfile.gettempdir()) / f"soak-sandbox-{os.getpid()}.sqlite"
    if not path.exists():
        with closing(sqlite3.connect(Store(path, time.time()).path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def comments_to_answer(box: Box, count: int) -> list[Comment]:
    """The first comment of each of the first `count` threads that are neither locked nor archived."""
    threads = [row for row in box.store.submissions("sandbox_books") if not row["locked"] and not row["archived"]]
    first = [(thread, box.store.comments_of(thread["name"])[0]) for thread in threads[:count]]
    return [
        Comment(
            row["name"], thread["name"], "sandbox_books", thread["title"], row["body"], 1, row["created_utc"], 0, row["author"], False, ""
        )
        for thread, row in first
    ]


def write_run(run: Path, comments: list[Comment], first: int = 0, texts: Sequence[str] = TEXTS) -> None:
    """Write a run folder that is ready for `submit`. first: the index of the first text to use."""
    chosen = [
        Scored(
            each.comment_id, each.thread_id, each.subreddit, each.comment, f"{each.comment_id}-1", texts[(first + number) % len(texts)],
            *[None] * 4, "chosen", "",
        )
        for number, each in enumerate(comments)
    ]  # fmt: skip
    schema.write_rows(run / "comments.csv", Comment, comments)
    schema.write_rows(run / "chosen.csv", Scored, chosen)


def judge(folder: Path, box: Box, chosen: list[Comment], result: Result, naive: bool, asked: bool = False) -> None:
    """Compare the ledger and submitted.csv with the replies in the sandbox. asked: the authors asked to stop and to delete."""
    replies = Counter(row["parent_id"] for row in box.store.comments_by(sandbox.USERNAME))
    result.doubled = sum(count > 1 for count in replies.values())
    if naive:
        result.lost = sum(replies[each.comment_id] == 0 for each in chosen)
        return
    outcome_of = {}
    if (folder / "run-0" / "submitted.csv").exists():
        outcome_of = {row.comment_id: row.outcome for row in schema.read_rows(folder / "run-0" / "submitted.csv", Submitted)}
    problems = []
    outcomes = []
    with closing(ledger.open_existing(folder / "ledger.sqlite")) as db:
        for each in chosen:
            known, there = ledger.find(db, each.comment_id), replies[each.comment_id]
            outcomes.append(outcome_of.get(each.comment_id, ""))
            if not outcome_of.get(each.comment_id):
                problems.append(f"{each.comment_id}: not in submitted.csv")
            elif (known is not None and known.state == State.POSTED) != bool(there) and (known is None or known.state != State.PARKED):
                problems.append(f"{each.comment_id}: {there} replies in the sandbox, ledger: {known}")
            elif known is not None and known.state in (State.SUBMITTING, State.UNKNOWN):
                problems.append(f"{each.comment_id}: still in doubt")
            if asked and (there or not ledger.opted_out(db, each.author)):
                problems.append(f"{each.comment_id}: {there} replies in the sandbox, although {each.author} asked to stop and to delete")
    problems += [f"{log.name} has a traceback" for log in folder.glob("process-*.log") if "Traceback" in log.read_text(errors="replace")]
    result.lost += len(problems)
    result.log += "".join(f"{problem}\n" for problem in problems)
    result.outcomes = tuple(outcomes)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slice", action="store_true")
    parser.add_argument("--naive", action="store_true")
    options = parser.parse_args()
    cases = list(matrix())
    if options.naive:
        cases = list(naive())
    elif options.slice:
        cases = some(cases)
        cases += [at_random(options.seed + number) for number in range(RANDOM_IN_SLICE)]
    else:
        seeds = range(options.seed, options.seed + max(0, options.runs - len(cases)))
        print(f"{len(cases)} cases of the matrix, {len(seeds)} random ones, seeds {seeds.start} to {seeds.stop - 1}", flush=True)
        cases += map(at_random, seeds)
    load_checks()
    began = time.monotonic()
    outcomes: Counter[str] = Counter()
    results = []
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for result in pool.imap_unordered(run_case, cases):
            results.append(result)
            outcomes.update(result.outcomes)
            if (result.doubled or result.lost) and not options.naive:
                print(f"FAILED {result.case}: {result.doubled} doubled, {result.lost} lost\n{result.log}", flush=True)
            if len(results) % 100 == 0:
                print(f"{len(results)} of {len(cases)} in {time.monotonic() - began:.0f} s", flush=True)
    doubled, lost = (sum(getattr(result, name) for result in results) for name in ("doubled", "lost"))
    print(f"outcomes of the comments: {', '.join(f'{name} {count}' for name, count in outcomes.most_common())}")
    killed, full = (sum(getattr(result, name) for result in results) for name in ("killed", "full"))
    if idle := sorted(
        result.case for result in results if "; kill -9 " in result.case and "never" not in result.case and not result.killed
    ):
        print(f"cases of the matrix in which no process was killed, because nothing was sent: {len(idle)}: {'; '.join(idle)}")
    print(f"{killed} processes killed at their moment, {full} stopped by the disk")
    print(f"{sum(result.processes for result in results)} processes in {time.monotonic() - began:.0f} s")
    print(f"{len(results)} runs, {doubled} doubled, {lost} lost")
    return int(not doubled) if options.naive else int(bool(doubled or lost))


if __name__ == "__main__":
    sys.exit(main())
