"""The room of the page Chat without a browser and without models: what its log contains, and which messages it takes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from bot.cli import UserError
from bot.config import Settings
from bot.online.answer import Event, Question
from bot.web import chat, server, workers
from bot.web.chat import Room
from bot.web.hub import ROOM, LocalHub
from bot.web.workers import Desk
from tests.visiting import Visitor

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
