"""`generate` and `score` on a real Ray cluster of several nodes on this machine. Needs .venv-cluster (`make test-cluster`)."""

from __future__ import annotations

import csv
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bot import files, schema
from bot.cli import ROOT
from bot.schema import Candidate
from tests import tiny

PYTHON = ROOT / ".venv-cluster" / "bin" / "python"
pytestmark = [pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-cluster; `make test-cluster` creates it"), pytest.mark.timeout(900)]
COMMENTS = 3000  # six blocks
WORDS = ["kettle", "book", "train", "lamp", "soup", "river", "Monday", "garden", "window", "ladder"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """comments.parquet with doubled ids and deleted comments, the same as comments.csv, and tiny models."""
    folder = tmp_path_factory.mktemp("cluster")
    tiny.language_model(folder / "lm")
    tiny.encoder(folder / "ranker")
    (folder / "my.toml").write_text(
        f"""[generate]
backend = "transformers"
model = "{folder / "lm"}"
num_candidates = 2
max_new_tokens = 8

[rank]
backend = "transformers"
realism = "{folder / "ranker"}"
upvote = ""
relevance = ""
choice = ""

[rank.weights]
realism = 1
upvote = 0
relevance = 0
choice = 0
"""
    )
    rows = [
        {"comment_id": f"t1_{n}", "comment": f"Is the {WORDS[n % 10]} on {WORDS[n // 10 % 10]} number {n} NA?"} for n in range(COMMENTS)
    ]
    rows[7:7] = [{"comment_id": "t1_gone", "comment": "[deleted]"}, {"comment_id": "t1_3", "comment": "The same id again, much later."}]
    pq.write_table(pa.Table.from_pylist([row | {"karma": n} for n, row in enumerate(rows)]), folder / "comments.parquet")
    schema.write_table(folder / "comments.csv", ["comment_id", "comment"], rows)
    return folder


def command(folder: Path, *arguments: str | Path, python: Path = PYTHON) -> list[str]:
    return [str(python), str(ROOT / "run_bot.py"), *map(str, arguments), "--config", str(folder / "my.toml")]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=400)
    return process.returncode, output


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(folder, *arguments), cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@contextmanager
def nodes(count: int) -> Iterator[tuple[str, Any]]:
    """The address of a cluster, and a function that kills a node."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([PYTHON, "-m", "tests.ray_nodes", str(count)], cwd=ROOT, text=True, **pipes) as program:
        assert program.stdin and program.stdout
        address = program.stdout.readline().strip()

        def kill() -> str:
            program.stdin.write("\n")
            program.stdin.flush()
            return program.stdout.readline().strip()

        yield address, kill
        children = psutil.Process(program.pid).children(recursive=True)
        program.stdin.close()
        program.wait(60)
        assert not psutil.wait_procs(children, timeout=30)[1], "processes of Ray are left"


def finished(out: Path) -> int:
    return len(list(out.with_name(out.name + ".blocks").glob("[0-9]*.parquet")))


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=10)[0]
        time.sleep(0.02)


def by_id(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    assert Counter(row["candidate_id"] for row in rows).most_common(1)[0][1] == 1
    return {row["candidate_id"]: (row["comment_id"], int(row["seed"]), row["comment"], row["reply"], row["generator"]) for row in rows}


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What `generate` writes without a cluster."""
    done = subprocess.run(
        command(folder, "generate", "--in", "comments.csv", "--out", "alone.csv", "--seed", "7"), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return by_id([vars_of(row) for row in schema.read_rows(folder / "alone.csv", Candidate)])


def vars_of(row: Candidate) -> dict[str, Any]:
    return {name: getattr(row, name) for name in schema.columns_of(Candidate)}


def test_no_row_is_lost_or_doubled_when_a_node_is_killed(folder: Path, alone: dict[str, tuple[Any, ...]]) -> None:
    """The command is killed after the first block and repeated; then one of two nodes is killed. The rows are those of one machine."""
    out = folder / "fakes.parquet"
    with nodes(2) as (address, kill):
        arguments = ("generate", "--cluster", address, "--in", "comments.parquet", "--out", out.name, "--seed", "7")
        first = start(folder, *arguments)
        wait_for(lambda: finished(out) >= 1, first)
        first.kill()
        first.wait()
        kept = finished(out)
        assert not out.exists() and 1 <= kept < 5
        second = start(folder, *arguments)
        wait_for(lambda: finished(out) > kept, second)
        assert kill() == "1" and second.poll() is None
        status, output = finish(second)
        assert status == 0, output
    assert f"resuming after {kept} of 6 blocks" in output
    rows = pq.read_table(out).to_pylist()
    assert by_id(rows) == alone and len(rows) == 2 * COMMENTS
    assert [row["comment_id"] for row in rows[::2]] == [f"t1_{n}" for n in range(COMMENTS)]
    assert not out.with_name(out.name + ".blocks").exists()
    manifest = files.read_manifest(out)
    assert manifest and manifest["rows"] == 2 * COMMENTS and manifest["left_out"] == {"deleted": 1, "same_id": 1}


@pytest.fixture(scope="module")
def scored(folder: Path, alone: dict[str, tuple[Any, ...]]) -> list[dict[str, str]]:
    """What `score` writes without a cluster for alone.csv, which it leaves as alone.parquet, too."""
    rows = [vars_of(row) for row in schema.read_rows(folder / "alone.csv", Candidate)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "alone.parquet")
    pq.write_table(pa.Table.from_pylist(rows * 4), folder / "four.parquet")  # 24,000 rows, five blocks
    subprocess.run(command(folder, "score", "--in", "alone.csv", "--out", "scores.csv"), cwd=folder, check=True, capture_output=True)
    return read_csv(folder / "scores.csv")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_scores(rows: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    assert list(rows[0]) == list(expected[0]) and len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        for name in other:
            if name in ("realism_score", "rank_score"):
                assert float(row[name]) == pytest.approx(float(other[name]), abs=tiny.rounding())
            else:
                assert row[name] == other[name]


def test_score_gives_the_same_rows_on_a_local_ray(folder: Path, scored: list[dict[str, str]]) -> None:
    """Parquet to CSV, and nothing of Ray is left running."""
    local = start(folder, "score", "--cluster", "local", "--in", "alone.parquet", "--out", "local.csv")
    status, output = finish(local)
    assert status == 0 and "6,000 rows scored in local.csv" in output, output
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if str(local.pid) in " ".join(each.info["cmdline"] or []) and "ray" in each.name()
    ]
    assert_same_scores(read_csv(folder / "local.csv"), scored)


def test_score_loses_no_row_when_a_node_is_killed(folder: Path, scored: list[dict[str, str]]) -> None:
    out = folder / "four.csv"
    with nodes(2) as (address, kill):
        process = start(folder, "score", "--cluster", address, "--in", "four.parquet", "--out", out.name)
        wait_for(lambda: finished(out) >= 1, process)
        assert kill() == "1" and process.poll() is None
        status, output = finish(process)
    assert status == 0 and "24,000 rows scored in four.csv" in output, output
    assert_same_scores(read_csv(out), scored * 4)


def test_failed_blocks_are_named_and_the_rest_is_finished(folder: Path) -> None:
    rows = [{"comment": "Is it?", "reply": "It is.", "log_likelihood": -1.0} for _ in range(11_000)]
    rows[7_000]["log_likelihood"] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows), folder / "nan.parquet")
    status, output = finish(start(folder, "score", "--cluster", "local", "--in", "nan.parquet", "--out", "out.parquet"))
    assert status == 1 and output.count("\n") == 1, output
    assert "1 of 3 blocks failed: 1 (log_likelihood is nan; correct it)" in output
    assert finished(folder / "out.parquet") == 2 and not (folder / "out.parquet").exists()


def test_errors_take_one_line(folder: Path) -> None:
    for address in ("127.0.0.1:1", "nonsense"):
        status, output = finish(start(folder, "generate", "--cluster", address, "--in", "comments.csv", "--out", "x.csv"))
        assert status == 1 and f"no Ray cluster at {address}" in output.splitlines()[-1], output
