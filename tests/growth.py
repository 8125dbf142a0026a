"""How the time of a function grows with the length of its text: asserted in place of the time itself, which depends on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 10_000, 100_000  # characters
LEAST_SECONDS = 0.002  # below it a clock says nothing


def growth(function: Callable[[str], object], piece: str) -> float:
    """How many times as long `function` takes for 100,000 characters of `piece` as for 10,000: about 10 where the time is linear, 100
    where it is quadratic. The best of several tries each.
    """

    def seconds(length: int, tries: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        best = float("inf")
        for _ in range(tries):
            began = time.process_time()
            function(text)
            best = min(best, time.process_time() - began)
        return best

    return seconds(LONG, 2) / max(seconds(SHORT, 3), LEAST_SECONDS)
