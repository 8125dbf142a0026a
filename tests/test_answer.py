"""One comment through the stages, as processes that stay; the command `reply`; and the queue of the pages."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot import config, schema
from bot.cli import ROOT, UserError, without_credentials
from bot.config import Settings
from bot.online import answer, generate
from bot.online.answer import Question, Workers
from bot.sandbox.server import Box
from bot.schema import Candidate
from bot.web import workers as queue_module
from bot.web.workers import Desk, TooMany
from tests import lively
from tests.lively import COMMENT, REPLIES


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory, lively_models: Path) -> Path:
    return lively.write_config(tmp_path_factory.mktemp("lively"), lively_models)


@pytest.fixture(scope="module")
def settings(config_file: Path) -> Settings:
    return config.load(config_file)


@pytest.fixture(scope="module")
def shared(settings: Settings) -> Iterator[Workers]:
    with Workers(settings) as workers:
        yield workers


def events_of(workers: Workers, question: Question) -> list[dict[str, Any]]:
    return list(workers.answer(question))


def by_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the stages ---------------------------------------------------------------------------------------------------------------


def test_events_of_a_comment(shared: Workers) -> None:
    events = events_of(shared, Question(COMMENT))
    assert [event["type"] for event in events] == ["candidate"] * 6 + ["scores", "choice"]
    candidates = by_type(events, "candidate")
    assert sorted(event["number"] for event in candidates) == list(range(6))
    assert len({event["reply"] for event in candidates} & set(REPLIES)) >= 2
    scores, choice = events[-2]["rows"], events[-1]
    assert [row["number"] for row in scores] == list(range(6)) and all(0 <= row["realism_score"] <= 1 for row in scores)
    assert all(row["upvote_score"] is None for row in scores)
    best = max((row["rank_score"], -row["number"]) for row in scores if choice["rows"][row["number"]]["verdict"] != "refused")
    assert choice["chosen"] == -best[1] and choice["rows"][choice["chosen"]]["verdict"] == "chosen"


def test_the_candidates_are_those_of_the_stage_generate(shared: Workers, settings: Settings, tmp_path: Path) -> None:
    source, out = tmp_path / "comments.csv", tmp_path / "candidates.csv"
    schema.write_table(source, ["comment_id", "comment"], [{"comment_id": "t1_a", "comment": COMMENT}])
    generate.generate([source], out, settings.generate, seed=7)
    rows = schema.read_rows(out, Candidate)
    events = sorted(by_type(events_of(shared, Question(COMMENT, seed=7)), "candidate"), key=lambda event: event["number"])
    assert [event["reply"] for event in events] == [row.reply for row in rows]
    assert [event["log_likelihood"] for event in events] == pytest.approx([row.log_likelihood for row in rows])
    other = by_type(events_of(shared, Question(COMMENT, seed=8)), "candidate")
    assert sorted(event["reply"] for event in other) != sorted(row.reply for row in rows)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Question("i want to kill myself"), "crisis"),
        (Question("What do you think?", above=("i want to kill myself",)), "crisis"),
        (Question("Which book?", subreddit="r/SuicideWatch"), "sensitive_subreddit"),
        (Question("Which book?", title="My father died last night"), "grief"),
        (Question("[removed]"), "removed"),
        (Question("> quoted\n"), "empty"),
        (Question("x" * 10_000), "too_long"),
        (Question("Which book?", refused="locked"), "locked"),
    ],
)
def test_comments_that_may_not_be_answered(shared: Workers, question: Question, reason: str) -> None:
    (event,) = events_of(shared, question)
    assert (event["type"], event["reason"]) == ("refused", reason) and event["phrase"] not in ("", reason)


def test_what_may_not_be_said_is_not_chosen(shared: Workers) -> None:
    """All likely replies repeat what the bot has said before, or what others said."""
    for repeated in ({"own": tuple(REPLIES)}, {"thread": tuple(REPLIES)}):
        choice = events_of(shared, Question(COMMENT, **repeated))[-1]
        reasons = {row["reason"]: row["phrase"] for row in choice["rows"]}
        assert reasons.keys() & {"copy_of_own", "copy_of_thread"} and "repeats" in "".join(reasons.values())
        assert not {row["reason"] for row in choice["rows"] if row["number"] == choice["chosen"]} - {""}


def test_settings_of_one_comment(shared: Workers) -> None:
    greedy = by_type(events_of(shared, Question(COMMENT, num_candidates=3, temperature=0.01)), "candidate")
    assert len(greedy) == 3 and len({event["reply"] for event in greedy}) == 1
    with pytest.raises(UserError, match="no model here"):
        events_of(shared, Question(COMMENT, model=Path("/none")))
    with pytest.raises(UserError, match="ValidationError"):
        events_of(shared, Question(COMMENT, temperature=-1.0))
    assert len(events_of(shared, Question(COMMENT))) == 8  # the failures were those of their comments


@pytest.mark.usefixtures("cold")
def test_models_load_once_and_a_killed_process_starts_again(settings: Settings) -> None:
    with Workers(settings) as workers:
        events_of(workers, Question(COMMENT))
        before = {stage: each.process.pid for stage, each in workers.stages.items() if each.process}
        events_of(workers, Question(COMMENT, seed=2))
        assert {stage: each.process.pid for stage, each in workers.stages.items() if each.process} == before
        running = workers.answer(Question(COMMENT))
        next(running)
        os.kill(before["rank"], signal.SIGKILL)
        wait_for(lambda: Path(f"/proc/{before['rank']}/stat").read_text().split()[2] == "Z")
        assert [event["type"] for event in running][-1] == "choice"  # it died while it was idle, so it starts again
        rank = workers.stages["rank"]
        assert rank.process is not None
        rank.process.send_signal(signal.SIGSTOP)  # so that it takes the request and dies before it answers
        threading.Timer(0.5, rank.process.kill).start()
        assert events_of(workers, Question(COMMENT))[-1]["type"] == "choice"
        rank.close()
        threading.Timer(0.0, lambda: (wait_for(lambda: rank.process is not None), rank.process and rank.process.kill())).start()
        with pytest.raises(UserError, match=r"the process of `rank` was killed by signal 9; try again"):  # it was started for this request
            list(rank.ask("scores", candidates=[]))
        assert events_of(workers, Question(COMMENT))[-1]["type"] == "choice"
        children = [each.process for each in workers.stages.values()]
    assert all(each is not None and each.poll() is not None for each in children)


def test_a_model_that_is_missing_is_a_one_line_error(settings: Settings) -> None:
    wrong = settings.model_copy(update={"rank": settings.rank.model_copy(update={"realism": Path("/none")})})
    with Workers(wrong) as workers:
        for _ in range(3):  # each comment gets the reason
            with pytest.raises(UserError, match="^/none: no model here"):
                events_of(workers, Question(COMMENT))


def test_workers_have_no_credentials(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("praw_password", "hunter2")
    with Workers(settings) as workers:
        for each in workers.stages.values():
            assert each.process is not None
            assert b"praw" not in Path(f"/proc/{each.process.pid}/environ").read_bytes()


# --- reply -----------------------------------------------------------------------------------------------------------------


def reply(*arguments: str, config_file: Path, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run_bot.py"), "reply", *arguments, "--config", str(config_file)]
    environment = {**without_credentials(os.environ), "COLUMNS": "160", **variables}
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_reply(config_file: Path) -> None:
    done = reply(COMMENT, "--num-candidates", "5", "--seed", "3", config_file=config_file)
    assert done.returncode == 0, done.stderr
    written, _, table = done.stdout.partition("─")
    assert len(re.findall(r"^ +[1-5]  ", written, re.M)) == len(re.findall(r"^ +[1-5]  .* (?:chosen|kept|refused)", table, re.M)) == 5
    (chosen,) = re.findall(r"^ +[1-5]  (.+?)  +0\.\d\d .* chosen", table, re.M)
    assert done.stdout.splitlines()[-1] == f"reply: {chosen}"
    again = reply("-", "--num-candidates", "5", "--seed", "3", config_file=config_file, text=COMMENT)
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    refused = reply("i want to kill myself", config_file=config_file)
    assert refused.stdout == "no reply, the comment is not answered: about suicide, self-harm or despair (crisis)\n"
    empty = reply(" ", config_file=config_file)
    assert empty.returncode == 1 and empty.stderr.startswith("run_bot.py reply: no comment; give its text")


def test_a_permalink(box: Box, config_file: Path) -> None:
    thread = box.store.submissions("sandbox_books")[0]
    name = box.say(thread["name"], COMMENT)
    crisis = box.say(thread["name"], "i want to kill myself")
    link = f"{box.url}/r/Sandbox_Books/comments/{thread['name'][3:]}/a_title/{{}}/"
    question = answer.fetched(link.format(name[3:]), None)
    assert (question.comment, question.subreddit, question.title) == (COMMENT, "sandbox_books", thread["title"]) and not question.refused
    assert answer.fetched(link.format(crisis[3:]), None).refused == "crisis"
    with pytest.raises(UserError, match="cannot be read"):
        answer.fetched(link.format("zzzzzz"), None)
    done = reply(link.format(name[3:]), config_file=config_file)
    assert "chosen" in done.stdout and done.returncode == 0, done.stderr


# --- the queue -----------------------------------------------------------------------------------------------------------------


class Log:
    """Reports of jobs by name."""

    def __init__(self) -> None:
        self.events: dict[str, list[dict[str, Any]]] = {}

    def of(self, name: str) -> Callable[[dict[str, Any]], None]:
        return self.events.setdefault(name, []).append

    def is_done(self, name: str) -> bool:
        return any(event["type"] in ("choice", "refused", "failed") for event in self.events[name])

    def places(self, name: str) -> list[int]:
        return [event["place"] for event in self.events[name] if event["type"] == "place"]


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    made = Desk(settings)
    yield made
    made.close()


def test_the_queue_shows_places_limits_people_and_survives_failures(desk: Desk) -> None:
    log, gate = Log(), threading.Event()

    def wait() -> Question:
        gate.wait(30)
        return Question(COMMENT)

    def fail() -> Question:
        raise ZeroDivisionError("oh")

    desk.submit("a", "ann", wait, log.of("a"))
    desk.submit("b", "ann", fail, log.of("b"))
    desk.submit("c", "ann", lambda: Question(COMMENT), log.of("c"))
    with pytest.raises(TooMany, match="you have 3 comments in the queue"):
        desk.submit("d", "ann", lambda: Question(COMMENT), log.of("d"))
    desk.submit("e", "bob", lambda: Question(COMMENT), log.of("e"))
    desk.submit("f", "bob", lambda: Question("i want to kill myself"), log.of("f"))
    assert [log.places(name) for name in "abcef"] == [[0], [1], [2], [3], [4]] and desk.holds("e")
    desk.cancel("c")
    assert [log.places(name) for name in "abef"] == [[0], [1], [3, 2], [4, 3]] and not desk.holds("c")
    gate.set()
    wait_for(lambda: log.is_done("f"))
    assert [log.places(name) for name in "abef"] == [[0], [1, 0], [3, 2, 1, 0], [4, 3, 2, 1, 0]]
    assert log.events["b"][-1] == {"type": "failed", "message": "ZeroDivisionError: oh"}
    assert log.events["a"][-1]["type"] == log.events["e"][-1]["type"] == "choice" and log.places("c") == [2] and log.events["d"] == []
    wait_for(lambda: not desk.holds("f"))
    desk.submit("d", "ann", lambda: Question(COMMENT), log.of("d"))
    wait_for(lambda: log.is_done("d"))


def test_a_full_queue_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "QUEUE", 2)
    log, gate = Log(), threading.Event()
    for name in "ab":
        desk.submit(name, name, lambda: gate.wait(30) and Question(COMMENT), log.of(name))
    with pytest.raises(TooMany, match="the queue is full"):
        desk.submit("c", "c", lambda: Question(COMMENT), log.of("c"))
    gate.set()
    wait_for(lambda: log.is_done("b"))


def test_cancelling_ends_a_generation_early(desk: Desk) -> None:
    log = Log()
    desk.submit("long", "ann", lambda: Question(COMMENT, num_candidates=1000), log.of("long"))
    desk.submit("short", "ann", lambda: Question(COMMENT), log.of("short"))
    wait_for(lambda: any(event["type"] == "candidate" for event in log.events["long"]))
    desk.cancel("long")
    wait_for(lambda: log.is_done("short"))
    assert not log.is_done("long") and len(log.events["long"]) < 900 and log.events["short"][-1]["type"] == "choice"


def test_a_report_that_fails_does_not_stop_the_queue(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(event: dict[str, Any]) -> None:
        raise UserError("no Redis")

    log = Log()
    desk.submit("a", "ann", lambda: Question(COMMENT), broken)
    desk.submit("b", "ann", lambda: Question(COMMENT), log.of("b"))
    wait_for(lambda: log.is_done("b"))
    assert "web: choice of a is lost: UserError: no Redis" in capsys.readouterr().err
