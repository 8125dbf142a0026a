"""chat: the page Chat, a room of people under nicknames and the bot, which answers each message or says that it does not.

    GET  /chat/                 the room; asks for a nickname first
    GET  /chat/events           its events: `message`, and for each `writing` when it is its turn, then one of `answer` and `cancelled`
    POST /chat/say              a message
    POST /chat/cancel           withdraws a message of the same person

The log of the channel `chat` (hub.py) is the only state. A message without an answer is answered by a server process that holds its lease;
if that process dies, another one, or the same one after a restart, takes the message over. Its place in the queue is the number of messages
before it without an end, which browsers count: so a message needs three events, however many wait.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, session, url_for

from bot.cli import UserError, say
from bot.conduct import letters
from bot.online.answer import Question
from bot.online.chat import NOT_ANSWERED, outcome, question_after
from bot.web import live, workers
from bot.web.hub import LEASE_SECONDS, ROOM, Entry, Event, Hub, order
from bot.web.workers import Desk, TooMany

MAX_CHARACTERS = 2000
BOT = "Bot"
ABOVE_SECONDS = 1800  # how long an earlier message of the same person is judged with a new one


@dataclass
class Message:
    """A message of a person. is_done: answered, refused or cancelled; answer: the bot's text, None if there is none."""

    nick: str
    person: str
    text: str
    utc: float
    is_done: bool = False
    answer: str | None = None


def fold(entries: Iterable[Entry]) -> dict[str, Message]:
    """The messages of a log by id, in order. The first end of a message counts.

    >>> message = ("1-0", {"type": "message", "nick": "Ann", "person": "a", "text": "Hi?", "utc": 0})
    >>> fold([message, ("2-0", {"type": "answer", "message": "1-0", "text": "Yes."}), ("3-0", {"type": "cancelled", "message": "1-0"})])
    {'1-0': Message(nick='Ann', person='a', text='Hi?', utc=0, is_done=True, answer='Yes.')}
    """
    messages: dict[str, Message] = {}
    for event_id, event in entries:
        if event["type"] == "message":
            messages[event_id] = Message(*(event[name] for name in ("nick", "person", "text", "utc")))
        elif event["type"] in ("answer", "cancelled") and (message := messages.get(event["message"])) and not message.is_done:
            message.is_done, message.answer = True, event.get("text")
    return messages


def plain_nick(nick: str) -> str:
    """Nicknames that look the same are the same. (Names with hidden characters are refused before.)

    >>> plain_nick("B\u043et ") == plain_nick("bot")
    True
    """
    return "".join(letters.latin(letters.without_joiners(html.unescape(nick))).casefold().split())


def question_to(message_id: str, messages: dict[str, Message]) -> Question:
    """The message as a comment, with what was said before it. Raises UserError if the room no longer keeps it."""
    if (own := messages.get(message_id)) is None:
        raise UserError("the room no longer keeps this message, because many others came after it; send it again")
    earlier = [each for other, each in messages.items() if order(other) < order(message_id)]
    above = [each.text for each in earlier if each.person == own.person and own.utc - each.utc < ABOVE_SECONDS]
    thread, answers = [each.text for each in earlier], [each.answer for each in earlier if each.answer]
    return question_after(own.text, sum(order(message_id)) % 2**31, above, thread, answers)


class Room:
    def __init__(self, desk: Desk, hub: Hub) -> None:
        """Starts a thread that renews the leases of this process, and takes over messages that nobody answers."""
        self.desk, self.hub = desk, hub
        self._taking = threading.Lock()
        threading.Thread(target=self._keep, daemon=True).start()

    def say(self, nick: str, person: str, text: str) -> None:
        """Add a message. Raises UserError if the nickname belongs to somebody else, and TooMany."""
        messages = self.messages()
        if plain_nick(nick) in ("", plain_nick(BOT)) or any(
            plain_nick(each.nick) == plain_nick(nick) and each.person != person for each in messages.values()
        ):
            raise UserError(f"somebody else in this room is called {nick}; choose another name")
        if sum(each.person == person and not each.is_done for each in messages.values()) >= workers.OF_A_PERSON:
            raise TooMany(f"{workers.OF_A_PERSON} of your messages wait for an answer; wait, or cancel one")
        event = {"type": "message", "nick": nick, "person": person, "text": text, "utc": int(time.time())}
        self.take(self.hub.append(ROOM, event), person)

    def cancel(self, message_id: str, person: str) -> None:
        """Raises UserError if the message is not one that this person may cancel."""
        message = self.messages().get(message_id)
        if message is None or message.person != person or message.is_done:
            raise UserError("you can cancel only messages of your own that have no answer yet")
        self.hub.cancel(message_id)
        self.hub.append(ROOM, {"type": "cancelled", "message": message_id})

    def messages(self) -> dict[str, Message]:
        return fold(self.hub.after(ROOM))

    def take(self, message_id: str, person: str) -> None:
        """Answer a message here, unless another process does."""
        with self._taking:
            if self.hub.lease(message_id) and not self.desk.holds(message_id):
                events: list[Event] = []
                try:
                    self.desk.submit(
                        message_id,
                        person,
                        lambda: question_to(message_id, self.messages()),
                        lambda event: self._report(message_id, event, events),
                    )
                except TooMany as error:
                    self._answer(message_id, None, str(error))

    def _report(self, message_id: str, event: Event, events: list[Event]) -> None:
        """Add what the room shows of an event of the desk to the log. events: those of this message so far; the event is added to them."""
        events.append(event)
        if event["type"] == "place" and event["place"] == 0:
            self.hub.append(ROOM, {"type": "writing", "message": message_id})
        elif event["type"] in ("refused", "choice"):
            reply, why = outcome(events)
            self._answer(message_id, reply or None, why)
        elif event["type"] == "failed":
            self._answer(message_id, None, NOT_ANSWERED.format(event["message"]))

    def _answer(self, message_id: str, text: str | None, why: str) -> None:
        self.hub.append(ROOM, {"type": "answer", "message": message_id, "text": text, "why": why})

    def _keep(self) -> None:
        is_reached = True
        while True:
            try:
                for message_id, message in self.messages().items():
                    if not message.is_done:
                        self.take(message_id, message.person)
                is_reached = True
            except UserError as error:
                if is_reached:
                    say(f"web: {error}")
                is_reached = False
            time.sleep(LEASE_SECONDS / 3)


def make_pages(room: Room) -> Blueprint:
    pages = Blueprint("chat", __name__, url_prefix="/chat")

    @pages.get("/")
    def index() -> Any:
        if not session.get("who"):
            return redirect(url_for("name", next=url_for("chat.index")), 303)
        return render_template("chat.html.j2", me=live.browser_id(), bot=BOT, longest=MAX_CHARACTERS)

    @pages.get("/events")
    def events() -> Any:
        return live.stream(room.hub, ROOM)

    @pages.post("/say")
    def say_something() -> Any:
        text, nick = request.form.get("text", "").replace("\r\n", "\n").strip(), session.get("who", "")
        if not nick:
            return live.refuse("you have no name yet; reload the page", 409)
        if letters.is_blank(text):
            return live.refuse("the message is empty")
        if len(text) > MAX_CHARACTERS:
            return live.refuse(f"a message has at most {MAX_CHARACTERS} characters; this one has {len(text):,}")
        try:
            room.say(nick, live.browser_id(), text)
        except TooMany as error:
            return live.refuse(str(error), 429)
        except UserError as error:
            return live.refuse(str(error), 409)
        return {}

    @pages.post("/cancel")
    def cancel() -> Any:
        try:
            room.cancel(request.form.get("message", ""), live.browser_id())
        except UserError as error:
            return live.refuse(str(error), 409)
        return {}

    return pages
