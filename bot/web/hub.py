"""hub: channels of events that pages follow, in this process or, if web.redis_url is set, in Redis for several server processes.

    hub = open_hub(settings.web)
    hub.append("chat", {"type": "message", …})                  -> "1764421200000-0", the id of the event
    for each in hub.follow("chat", last_event_id): …            (id, event) as they come; None every PULSE seconds without one

A channel is a log of its last EVENTS events. Ids increase and keep their order after a restart, so a browser that comes back with its
Last-Event-ID gets exactly what it missed. In Redis a channel is a stream; publish/subscribe only wakes up those who follow, who then read
the stream, so that a message of publish/subscribe that is lost does no harm. Without Redis the channel `chat` is also kept in a file
(web.chat), so that the room survives a restart.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from bot import files
from bot.cli import Unreachable, UserError, first_line, say
from bot.config import WebSettings

Event = dict[str, Any]
Entry = tuple[str, Event]  # id, event

EVENTS = 2000  # of a channel
PULSE = 10.0  # seconds
KEEP_SECONDS = 3600  # a channel without new events, except the room
LEASE_SECONDS = 15
ROOM = "chat"
PREFIX = "reply-bot:"
SIGNALS = f"{PREFIX}signals"


def order(event_id: str) -> tuple[int, int]:
    """Event ids in their order; (0, 0) for anything that is not an id.

    >>> order("1764421200000-3"), order("x")
    ((1764421200000, 3), (0, 0))
    """
    match = re.fullmatch(r"(\d{1,15})-(\d{1,10})", event_id)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class Hub:
    """What both kinds have in common: waiting for events, and passing on cancellations."""

    def __init__(self) -> None:
        self.on_cancel: Callable[[str], None] = lambda job: None
        self._changes: defaultdict[str, int] = defaultdict(int)
        self._changed = threading.Condition()

    def append(self, channel: str, event: Event) -> str:
        """Add an event and return its id."""
        raise NotImplementedError

    def after(self, channel: str, last: str = "") -> list[Entry]:
        """The events after the one with the id `last`; all that are kept if it is empty or not an id."""
        raise NotImplementedError

    def lease(self, job: str) -> bool:
        """Whether this server process may work on a job, for LEASE_SECONDS; called again by the same process, it is renewed."""
        raise NotImplementedError

    def is_leased(self, job: str) -> bool:
        """Whether any server process works on a job."""
        raise NotImplementedError

    def cancel(self, job: str) -> None:
        """Call `on_cancel` in the server process that works on the job."""
        raise NotImplementedError

    def forget(self, channel: str) -> None:
        """Remove a channel and its events."""
        raise NotImplementedError

    def follow(self, channel: str, last: str = "", pulse: float = PULSE) -> Iterator[Entry | None]:
        """Yield the events after `last`, then new ones as they come; None whenever there is none for `pulse` seconds."""
        while True:
            with self._changed:
                seen = self._changes[channel]
            entries = self.after(channel, last)
            for entry in entries:
                yield entry
                last = entry[0]
            with self._changed:
                is_new = self._changed.wait_for(lambda: self._changes[channel] != seen, pulse)  # noqa: B023 (called at once)
            if not entries and not is_new:
                yield None

    def _wake(self, channel: str | None) -> None:
        """Wake up those who follow a channel; None: all."""
        with self._changed:
            for each in [channel] if channel is not None else list(self._changes):
                self._changes[each] += 1
            self._changed.notify_all()


class LocalHub(Hub):
    """For one server process."""

    def __init__(self, room: Path | None = None) -> None:
        """room: the file of the channel `chat`, one [id, event] per line; None: it is not kept."""
        super().__init__()
        self._lock = threading.Lock()
        self._last = (0, 0)
        self._looked = 0  # for expired channels, in epoch milliseconds
        self._channels: dict[str, deque[Entry]] = {}
        self._room = room
        if room is not None:
            room.parent.mkdir(parents=True, exist_ok=True)
            entries = deque(read_room(room), maxlen=EVENTS)
            self._channels[ROOM] = entries
            if entries:
                self._last = order(entries[-1][0])
            self._lines = rewrite(room, entries)  # without the events that are no longer kept, and what a crash left behind

    def append(self, channel: str, event: Event) -> str:
        with self._lock:
            now = int(time.time() * 1000)
            self._last = (now, 0) if now > self._last[0] else (self._last[0], self._last[1] + 1)
            entry = (f"{self._last[0]}-{self._last[1]}", event)
            if channel == ROOM and self._room is not None:
                append_line(self._room, json.dumps(entry))
            entries = self._channels.setdefault(channel, deque(maxlen=EVENTS))
            entries.append(entry)
            if channel == ROOM and self._room is not None:
                self._lines = compacted(self._room, entries, self._lines + 1)
            expired = self._expired(now)
        for each in expired:
            self.forget(each)
        self._wake(channel)
        return entry[0]

    def _expired(self, now: int) -> list[str]:
        """The channels without new events for KEEP_SECONDS; looked for once a minute. now: epoch milliseconds."""
        if now < self._looked + 60_000:
            return []
        self._looked = now
        oldest = now - KEEP_SECONDS * 1000
        return [name for name, kept in self._channels.items() if name != ROOM and order(kept[-1][0])[0] < oldest]

    def forget(self, channel: str) -> None:
        with self._lock:
            self._channels.pop(channel, None)
        with self._changed:
            self._changes.pop(channel, None)

    def after(self, channel: str, last: str = "") -> list[Entry]:
        with self._lock:
            return [entry for entry in self._channels.get(channel, ()) if order(entry[0]) > order(last)]

    def lease(self, job: str) -> bool:
        return True

    def is_leased(self, job: str) -> bool:
        return True

    def cancel(self, job: str) -> None:
        self.on_cancel(job)


def append_line(path: Path, line: str) -> None:
    """Append a line. A failed write, such as on a full disk, leaves the file unchanged."""
    content = f"{line}\n".encode()
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) or 0 :]
        except BaseException:
            file.truncate(end)
            raise


def compacted(path: Path, entries: Sequence[Entry], lines: int) -> int:
    """Rewrite the file of a room that has twice as many lines as events are kept. Returns the number of lines.

    If that fails, such as on a full disk, the file stays as it is, with all events, and the next event tries again.
    """
    if lines < 2 * EVENTS:
        return lines
    try:
        return rewrite(path, entries)
    except (OSError, UserError) as error:
        say(f"web: {path} grows, because it cannot be rewritten ({type(error).__name__}: {first_line(error)})")
        return lines


def rewrite(path: Path, entries: Sequence[Entry]) -> int:
    """Write the file of a room. Returns the number of lines."""
    with files.atomic_writer(path, is_private=True) as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
    return len(entries)


def read_room(path: Path) -> list[Entry]:
    """The events in the file of a room. A last line that a crash cut off is left out. Raises UserError if another line is damaged."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    entries = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event_id, event = json.loads(line)
            if order(event_id) == (0, 0) or not isinstance(event, dict):
                raise ValueError
        except (ValueError, TypeError):
            raise UserError(f"{path}:{number}: not a line of the chat's history; delete the line or the file") from None
        entries.append((event_id, event))
    return entries


@contextmanager
def reached() -> Iterator[None]:
    """Raises Unreachable if Redis cannot be reached."""
    try:
        yield
    except redis.RedisError as error:
        raise Unreachable(f"web.redis_url: Redis cannot be reached ({type(error).__name__}); start it, or set redis_url to empty") from None


class RedisHub(Hub):
    """For several server processes. Every method raises Unreachable if Redis cannot be reached for a second."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._owner = secrets.token_hex(8)  # of leases
        options: dict[str, Any] = {"decode_responses": True, "socket_connect_timeout": 2, "health_check_interval": 10}
        retried = {"retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 4)}
        self._redis: redis.Redis = redis.Redis.from_url(url, socket_timeout=5, **options, **retried)
        self._signals: redis.Redis = redis.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), **options
        )  # `_listen` must notice interruptions
        with reached():
            self._redis.ping()
        threading.Thread(target=self._listen, daemon=True).start()

    def append(self, channel: str, event: Event) -> str:
        with reached(), self._redis.pipeline(transaction=True) as commands:
            commands.xadd(PREFIX + channel, {"event": json.dumps(event)}, maxlen=EVENTS, approximate=False)
            if channel != ROOM:
                commands.expire(PREFIX + channel, KEEP_SECONDS)
            commands.publish(SIGNALS, json.dumps({"channel": channel}))
            event_id: str = commands.execute()[0]
        return event_id

    def after(self, channel: str, last: str = "") -> list[Entry]:
        with reached():
            rows: Any = self._redis.xrange(PREFIX + channel, min=f"({last}" if order(last) != (0, 0) else "-")
        return [(event_id, json.loads(fields["event"])) for event_id, fields in rows]

    def forget(self, channel: str) -> None:
        with reached():
            self._redis.delete(PREFIX + channel)
        with self._changed:
            self._changes.pop(channel, None)

    def lease(self, job: str) -> bool:
        key = f"{PREFIX}lease:{job}"
        with reached():
            if self._redis.set(key, self._owner, nx=True, ex=LEASE_SECONDS):
                return True
            return self._redis.get(key) == self._owner and bool(self._redis.expire(key, LEASE_SECONDS))

    def is_leased(self, job: str) -> bool:
        with reached():
            return bool(self._redis.exists(f"{PREFIX}lease:{job}"))

    def cancel(self, job: str) -> None:
        with reached():
            self._redis.publish(SIGNALS, json.dumps({"cancel": job}))

    def _listen(self) -> None:
        """Pass on what is published. After an interruption, all who follow a channel look for new events."""
        is_down = False
        while True:
            try:
                with self._signals.pubsub(ignore_subscribe_messages=True) as signals:
                    signals.subscribe(SIGNALS)
                    if is_down:
                        say("web: Redis is reachable again")
                    is_down = False
                    self._wake(None)
                    while True:
                        message: Any = signals.get_message(timeout=5)
                        if message:
                            self._pass_on(json.loads(message["data"]))
            except redis.RedisError as error:
                if not is_down:
                    say(f"web: Redis cannot be reached ({type(error).__name__}); trying again every second")
                is_down = True
                time.sleep(1)

    def _pass_on(self, signal: dict[str, str]) -> None:
        if "cancel" in signal:
            self.on_cancel(signal["cancel"])
        else:
            self._wake(signal["channel"])


def open_hub(settings: WebSettings) -> Hub:
    """Raises UserError if Redis cannot be reached, or the file of the room is damaged."""
    return RedisHub(settings.redis_url) if settings.redis_url else LocalHub(settings.chat)
