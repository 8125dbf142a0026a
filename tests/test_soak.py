"""A slice of the fault matrix (`make soak` runs all of it), in processes of its own; and the proof that it sees doubles."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

from bot import ROOT
from tests import soak


def soaked(*options: str) -> tuple[subprocess.CompletedProcess[str], tuple[int, ...]]:
    call = [sys.executable, "-m", "tests.soak", *options]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    counts = re.search(r"^(\d+) runs, (\d+) doubled, (\d+) lost$", done.stdout, re.MULTILINE)
    assert counts, done.stdout + done.stderr
    return done, tuple(map(int, counts.groups()))


def test_a_slice_of_the_matrix() -> None:
    done, (runs, doubled, lost) = soaked("--slice")
    print(done.stdout)
    assert (doubled, lost, done.returncode) == (0, 0, 0), done.stdout
    assert runs == len(soak.some(list(soak.matrix()))) + soak.RANDOM_IN_SLICE


def test_the_slice_has_each_fault_and_each_moment() -> None:
    names = [case.name.split("; ") for case in soak.some(list(soak.matrix()))]
    assert {name[0] for name in names} >= soak.FAULTS.keys()
    moments = Counter(name[1] for name in names)
    assert min(moments[f"kill -9 {moment}"] for moment in ("never", *soak.MOMENTS)) >= 5


def test_a_naive_poster_is_caught() -> None:
    """PRAW's own repeats, and a record after the fact: every answer that gets lost after acceptance doubles."""
    done, (runs, doubled, _) = soaked("--naive")
    assert runs == len(soak.FAULTS) and doubled >= 8 and done.returncode == 0, done.stdout
