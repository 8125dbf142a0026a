"""live: what the pages Try and Chat have in common: who a browser is, and the events of a channel as a stream.

A browser that lost its stream comes back with the id of the last event it got (Last-Event-ID, or ?after= from live.js) and gets the rest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from typing import Any

from flask import Response, request, session

from bot.cli import UserError
from bot.web import server
from bot.web.hub import Event, Hub


def browser_id() -> str:
    """An id for this browser's session, in its signed cookie. Not secret: nobody can sign another one."""
    if "browser" not in session:
        session.permanent = True
        session["browser"] = secrets.token_hex(8)
    return str(session["browser"])


def stream(
    hub: Hub, channel: str, is_last: Callable[[Event], bool] = lambda event: False, on_pulse: Callable[[], object] = lambda: None
) -> Response:
    """The events of a channel after the last one that the browser has, up to the last one or until the browser is gone.

    on_pulse: called when there was no event for hub.PULSE seconds.
    """
    last = request.headers.get("Last-Event-ID") or request.args.get("after", "")

    def events() -> Generator[str | None, None, None]:
        yield "retry: 1000\n\n"
        try:
            for entry in hub.follow(channel, last):
                if entry is None:
                    on_pulse()
                    yield None
                    continue
                event_id, event = entry
                yield server.event(visible({**event, "id": event_id}), event_id=event_id)
                if is_last(event):
                    return
        except UserError:  # Redis is away; the browser comes back
            return

    return server.stream(events())


def visible(value: Any) -> Any:
    """The event with control characters of its texts replaced, as in templates.

    >>> visible({"rows": ["a\\x1b", 1]})
    {'rows': ['a\ufffd', 1]}
    """
    if isinstance(value, str):
        return server.visible(value)
    if isinstance(value, dict):
        return {name: visible(each) for name, each in value.items()}
    return [visible(each) for each in value] if isinstance(value, list) else value


def refuse(message: str, status: int = 400) -> tuple[dict[str, str], int]:
    """The answer to a request of live.js that cannot be carried out."""
    return {"error": message}, status
