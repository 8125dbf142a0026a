"""How the time of a function grows with the length of its text. Tests assert this instead of the time, which depends on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 10_000, 100_000  # characters
LEAST_SECONDS = 0.002  # shorter times can't be measured
LINEAR = 20  # below it the time is linear


def growth(function: Callable[[str], object], piece: str) -> float:
    """How many times as long `function` takes for 100,000 characters of `piece` as for 10,000: about 10 if the time is linear, 100 if it
    is quadratic. Another program can only make a measurement longer, so the long text is measured again unless the result is LINEAR.
    """

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        began = time.process_time()
        function(text)
        return time.process_time() - began

    short = max(min(seconds(SHORT) for _ in range(3)), LEAST_SECONDS)
    result = float("inf")
    for _ in range(2):
        result = min(result, seconds(LONG) / short)
        if result < LINEAR:
            break
    return result
