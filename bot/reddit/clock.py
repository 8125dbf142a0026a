"""clock: the time by Reddit's clock, from the Date headers of several responses, so that one wrong Date has no effect.

A Date may be wrong: a proxy or a captive portal may respond instead of Reddit, or a cache may return yesterday's response. So the clock is
the median of the latest Dates and, if their number is even, this machine's clock. If it differs from this machine's clock by days, one of
the two is wrong; since it is unknown which one, nothing is posted.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from statistics import median

from bot.cli import Unreachable

DATES = 9  # number of latest Dates; the calls before a POST return about this many
DIFFERENCE_SECONDS = 3 * 86_400  # maximum between Reddit's clock and this machine's; tolerates a wrong time zone and clock drift


class ServerClock:
    """offsets: Reddit's time minus this process's monotonic clock, in seconds, at the latest responses."""

    def __init__(self) -> None:
        self.offsets: deque[float] = deque(maxlen=DATES)

    def note(self, date: str) -> None:
        """Add a Date header. Invalid ones are ignored."""
        try:
            parsed = parsedate_tz(date)
            if parsed:
                self.offsets.append(mktime_tz(parsed) - time.monotonic())
        except (ValueError, OverflowError, TypeError):
            return

    def utc(self, url: str) -> int:
        """The current time in epoch seconds. url: for the message.

        Raises:
            Unreachable: no response had a Date, or the clock contradicts this machine's.
        """
        if not self.offsets:
            raise Unreachable(f"{url}: no response has a Date; without Reddit's clock nothing is posted")
        now = time.monotonic()
        local = time.time() - now
        offset = median([*self.offsets, local] if len(self.offsets) % 2 == 0 else self.offsets)
        if abs(offset - local) > DIFFERENCE_SECONDS:
            raise Unreachable(
                f"{url}: its date is {_date(offset + now)}, this machine's is {_date(local + now)}; set the clock, or try again later;"
                " until then nothing is posted"
            )
        return int(offset + now)


def _date(utc: float) -> str:
    """
    >>> _date(1_700_000_000), _date(1e15)
    ('2023-11-14', 'out of range')
    """
    try:
        return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "out of range"
