"""How the running time of a function grows with the length of its text. Tests assert this ratio, since times depend on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 10_000, 100_000  # characters
LEAST_SECONDS = 0.002  # shorter times can't be measured reliably
LINEAR = 20  # a ratio below this counts as linear
# If other programs disturb every second measurement, six in a row are disturbed in one of 64 tests. More would only slow down a test that
# fails: a quadratic function stays far above LINEAR however often it is measured.
MEASUREMENTS = 6


def growth(function: Callable[[str], object], piece: str) -> float:
    """The time of `function` for 100,000 characters of repeated `piece`, divided by the time for 10,000.

    The ratio is about 10 if the time is linear, and 100 if it is quadratic. Other programs can only make a measurement longer, up to about
    twice as long, so the long text is measured until the ratio is below LINEAR, at most MEASUREMENTS times.
    """

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        began = time.process_time()
        function(text)
        return time.process_time() - began

    short = max(min(seconds(SHORT) for _ in range(3)), LEAST_SECONDS)
    result = float("inf")
    for _ in range(MEASUREMENTS):
        result = min(result, seconds(LONG) / short)
        if result < LINEAR:
            break
    return result
