"""A subset of the fault matrix (`make soak` runs all of it), and a check that the soak test detects doubled replies."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections import Counter

from bot.cli import ROOT
from tests import soak


def soaked(*options: str) -> tuple[subprocess.CompletedProcess[str], tuple[int, ...]]:
    call = [sys.executable, "-m", "tests.soak", *options]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    counts = re.search(r"^(\d+) runs, (\d+) doubled, (\d+) lost$", done.stdout, re.MULTILINE)
    assert counts, done.stdout + done.stderr
    return done, tuple(map(int, counts.groups()))


def test_a_slice_of_the_matrix() -> None:
    done, (runs, doubled, lost) = soaked("--slice")
    print(done.stdout)
    assert (doubled, lost, done.returncode) == (0, 0, 0), done.stdout
    struck = re.search(r"^(\d+) processes killed at their moment, (\d+) stopped by the disk$", done.stdout, re.MULTILINE)
    assert struck, done.stdout
    killed, full = map(int, struck.groups())
    assert killed >= 20 and full >= 1, done.stdout
    assert runs == len(soak.some(list(soak.matrix()))) + soak.RANDOM_IN_SLICE


LOST = itertools.product(("time-out", "reset", "500", "503", "garbage body"), ("not accepted", "accepted", "accepted late"))
NAMED = {
    *map(", ".join, LOST), "stale own comments", "stale thread", "all stale", "429 with Retry-After", "429", "RATELIMIT, 9 minutes",
    "RATELIMIT, 1m 30s", "403", "locked", "too old", "deleted", "suspended",
}  # fmt: skip


def test_the_matrix_has_every_cell_once() -> None:
    cases = list(soak.matrix())
    names = Counter(case.name for case in cases)
    assert soak.FAULTS.keys() > NAMED and set(names.values()) == {1}
    for fault, moment, at_once in itertools.product(NAMED, ("never", *soak.MOMENTS), (1, 2)):
        assert names[f"{fault}; kill -9 {moment}; {at_once} at once"] == 1
    for case in cases:
        first = case.rounds[0]
        if " at once" in case.name:
            assert len(first.starts) == int(case.name.split("; ")[-1][0])
    assert sum(case.name.startswith("disk full") for case in cases) == 12
    read_by_hand = [case.rounds[1].starts[0].kill_at for case in cases if case.rounds[-1].starts[0].command == "inbox"]
    assert Counter(read_by_hand) == dict.fromkeys(("", *soak.DELETIONS), 9)
    assert {(start.clock_seconds, case.server_clock_seconds) for case in cases for start in case.rounds[0].starts} == set(
        itertools.product((-soak.DAY, 0, soak.DAY), repeat=2)
    )


def test_the_slice_has_every_fault_and_every_moment() -> None:
    names = [case.name.split("; ") for case in soak.some(list(soak.matrix()))]
    assert {name[0] for name in names} >= soak.FAULTS.keys()
    moments = Counter(name[1] for name in names)
    assert min(moments[f"kill -9 {moment}"] for moment in ("never", *soak.MOMENTS)) >= 5


def test_a_naive_poster_is_detected() -> None:
    """PRAW's own retries, or a record that is written too late, double every reply whose response is lost after acceptance."""
    done, (runs, doubled, _) = soaked("--naive")
    assert runs == len(list(soak.naive())) >= 15 and doubled >= 8 and done.returncode == 0, done.stdout
