"""The room of the page Chat without a browser and without models: what its log contains, and which messages it takes."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bot.cli import UserError
from bot.config import Settings
from bot.online import chat as terminal
from bot.online.answer import Event, Question
from bot.web import chat, server, workers
from bot.web.chat import Room
from bot.web.hub import ROOM, Entry, LocalHub
from bot.web.workers import Desk
from tests.visiting import Visitor, serve

PEOPLE = 30


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Comments are answered only while it is set, and when the test has ended."""
    opened = threading.Event()

    class Workers:
        def __init__(self, settings: Settings) -> None:
            pass

        def answer(self, question: Question, is_cancelled: Callable[[], bool]) -> Iterator[Event]:
            assert opened.wait(60)
            yield {"type": "refused", "reason": "x", "phrase": f"not about {question.comment}"}

    monkeypatch.setattr(workers, "Workers", Workers)
    yield opened
    opened.set()


def wait_until_settled(room: Room) -> None:
    deadline = time.monotonic() + 60
    while not all(each.is_done for each in room.messages().values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_message_needs_three_events_however_many_wait(gate: threading.Event) -> None:
    room = Room(Desk(Settings()), LocalHub())
    for number in range(2 * PEOPLE):
        room.say(f"Person {number % PEOPLE}", f"p{number % PEOPLE}", f"message {number}")
    gate.set()
    wait_until_settled(room)
    kinds = Counter(event["type"] for _, event in room.hub.after(ROOM))
    assert kinds == {"message": 2 * PEOPLE, "writing": 2 * PEOPLE, "answer": 2 * PEOPLE}
    reasons = [event["why"] for _, event in room.hub.after(ROOM) if event["type"] == "answer"]
    assert reasons == [f"not answered: not about message {number}" for number in range(2 * PEOPLE)]


@pytest.mark.parametrize(
    ("events", "text", "why"),
    [
        ([{"type": "choice", "rows": [], "chosen": 1}], "Reply 1.", ""),
        ([{"type": "choice", "rows": [], "chosen": None}], None, "no reply is good enough"),
        ([{"type": "refused", "reason": "crisis", "phrase": "about despair"}], None, "not answered: about despair"),
        ([], None, "not answered: the models are missing"),
    ],
)
def test_the_room_shows_the_reply_or_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, events: list[Event], text: str | None, why: str
) -> None:
    def answered(question: Question, is_cancelled: Callable[[], bool]) -> Iterator[Event]:
        yield from ({"type": "candidate", "number": number, "reply": f"Reply {number}."} for number in (1, 0))
        yield from events
        if not events:
            raise UserError("the models are missing")

    monkeypatch.setattr(workers, "Workers", lambda settings: SimpleNamespace(answer=answered))
    room = Room(Desk(Settings()), LocalHub())
    room.say("Ann", "a", "Which one?")
    wait_until_settled(room)
    (message_id, _), *_, (_, end) = room.hub.after(ROOM)
    assert end == {"type": "answer", "message": message_id, "text": text, "why": why}


def test_a_message_is_judged_after_what_was_said_before_as_a_line_of_the_terminal() -> None:
    """What one person says in the room is the same question as in the terminal, apart from the seed; see bot/online/chat.py."""
    texts = [f"line {number}" for number in range(30)]
    messages = {f"{number + 1}-0": chat.Message("Ann", "a", text, number, True, f"reply to {text}") for number, text in enumerate(texts)}
    asked = chat.question_to("30-0", messages)
    assert asked.above == tuple(texts[24:29]) and asked.thread == tuple(texts[9:29]) and asked.own[0] == "reply to line 9"
    turns = [terminal.Turn(text, f"reply to {text}") for text in texts[:29]]
    assert replace(asked, seed=30) == terminal.question("line 29", turns)
    of_others = {name: replace(each, person=name) if name != "30-0" else each for name, each in messages.items()}
    assert chat.question_to("30-0", of_others) == replace(asked, above=())
    late = {**messages, "30-0": replace(messages["30-0"], utc=chat.ABOVE_SECONDS + 27)}
    assert chat.question_to("30-0", late) == replace(asked, above=("line 28",))


def events_of(address: str, count: int, path: str = "/chat/events", **headers: str) -> list[Entry]:
    """The first events of a stream, which is then closed."""
    browser = http.client.HTTPConnection(address, timeout=30)
    browser.request("GET", path, headers=headers)
    entries: list[Entry] = []
    with closing(browser), closing(browser.getresponse()) as answer:
        event_id = ""
        while len(entries) < count:
            line = answer.readline()
            assert line, "the server has closed the stream"
            name, _, value = line.decode().strip().partition(": ")
            if name == "id":
                event_id = value
            elif name == "data":
                entries.append((event_id, json.loads(value)))
    return entries


def test_a_browser_that_comes_back_gets_what_it_missed_once(gate: threading.Event, capsys: pytest.CaptureFixture[str]) -> None:
    """By the header Last-Event-ID, which a browser sends; it is later than the id in the address, with which the stream was opened."""
    gate.set()
    room = Room(Desk(Settings()), LocalHub())
    address = serve(server.make_app(chat.make_pages(room)), capsys)

    def say(*texts: str) -> list[Entry]:
        for each in texts:
            room.say(f"Person {each}", each, f"message {each}")
        wait_until_settled(room)
        return [(event_id, {**event, "id": event_id}) for event_id, event in room.hub.after(ROOM)]

    log = say("1", "2")
    seen = events_of(address, 4)
    assert seen == log[:4] and len(log) == 6
    log = say("3", "4")
    last = {"Last-Event-ID": seen[-1][0]}
    assert seen + events_of(address, 8, **last) == log and len(log) == 12
    assert events_of(address, 8, path=f"/chat/events?after={log[0][0]}", **last) == log[4:]
    assert events_of(address, 8, path=f"/chat/events?after={last['Last-Event-ID']}") == log[4:]
    later: list[Entry] = []
    browser = threading.Thread(target=lambda: later.extend(events_of(address, 3, **{"Last-Event-ID": log[-1][0]})))
    browser.start()
    log = say("5")
    browser.join(30)
    assert later == log[12:]


def test_a_message_that_the_room_no_longer_keeps_is_not_a_bug() -> None:
    with pytest.raises(UserError, match="the room no longer keeps this message"):
        chat.question_to("1-0", {})


def test_a_message_in_which_nothing_can_be_seen_is_refused(gate: threading.Event) -> None:
    room = Room(Desk(Settings()), LocalHub())
    page = Visitor(server.make_app(chat.make_pages(room)))
    page.get("/name")
    assert page.post("/name", {"who": "\u200b\u3164"}).status_code == 400
    assert page.post("/name", {"who": "Ann"}).status_code == 303
    for text in (" ", "\u200b\u2060", "\u3164\u2800\ufe0f", "\u200e\n\u00ad"):
        answer = page.post("/chat/say", {"text": text})
        assert (answer.status_code, answer.get_json()) == (400, {"error": "the message is empty"})
    assert room.hub.after(ROOM) == [] and page.post("/chat/say", {"text": "\u200b."}).status_code == 200
