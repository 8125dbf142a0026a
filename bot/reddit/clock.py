"""clock: what time it is by Reddit's clock, from the Date of many answers, so that one wrong Date decides nothing.

A Date may be wrong: a proxy or a hotel's portal answers in Reddit's place, a cache answers from yesterday. So the clock is the median of
the latest Dates and, where their number is even, of this machine's clock. Where it contradicts this machine's clock by days, one of the two
is wrong, nobody can tell which, and nothing is posted.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from statistics import median

from bot.cli import Unreachable

DATES = 9  # the latest ones; so many fit into the calls before a POST
DIFFERENCE_SECONDS = 3 * 86_400  # between Reddit's clock and this machine's: time zones and a battery that ran low, not more


class ServerClock:
    """offsets: Reddit's time minus this process's monotonic clock, in seconds, at the latest answers."""

    def __init__(self) -> None:
        self.offsets: deque[float] = deque(maxlen=DATES)

    def note(self, date: str) -> None:
        """Take a Date header; one that can't be read is left out."""
        try:
            parsed = parsedate_tz(date)
            if parsed:
                self.offsets.append(mktime_tz(parsed) - time.monotonic())
        except (ValueError, OverflowError, TypeError):
            return

    def utc(self, url: str) -> int:
        """Epoch seconds now. url: for the message.

        Raises:
            Unreachable: no answer had a Date, or the clock contradicts this machine's.
        """
        if not self.offsets:
            raise Unreachable(f"{url}: no answer has a Date; without Reddit's clock nothing is posted")
        now = time.monotonic()
        local = time.time() - now
        offset = median([*self.offsets, local] if len(self.offsets) % 2 == 0 else self.offsets)
        if abs(offset - local) > DIFFERENCE_SECONDS:
            raise Unreachable(
                f"{url}: says that it is {_date(offset + now)}, this machine's clock says {_date(local + now)}; set the clock, or try again"
                " later; until then nothing is posted"
            )
        return int(offset + now)


def _date(utc: float) -> str:
    """
    >>> _date(1_700_000_000), _date(1e15)
    ('2023-11-14', 'another age')
    """
    try:
        return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "another age"
