"""Two processes of torchrun train the model that one process trains, and resume its run."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import schema
from bot.cli import ROOT, UserError, with_root
from bot.schema import LmRow, RealismRow
from bot.train import command, loop, processes
from bot.weights import bases, pull
from tests import tiny

PROGRAM = """
import sys
from pathlib import Path
from bot.weights import bases
from tests import test_processes
folder = Path(sys.argv[1])
bases.BASE_DIR = folder / "bases"
test_processes.train_both(folder, "two")
"""


def train_both(folder: Path, name: str) -> None:
    """Train a generator and a ranker. The last batch of an epoch has a single row, so that one of two processes has none."""
    shared = {"data": folder, "batch_tokens": 256, "epochs": 2, "seed": 1}
    tiny.train("lm", base="tiny-lm", out=folder / name / "lm", pairs=13, max_tokens=64, learning_rate=2e-2, **shared)
    tiny.train("realism", base="tiny-encoder", out=folder / name / "realism", rows=13, learning_rate=1e-2, **shared)


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open(encoding="utf-8") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    patch = pytest.MonkeyPatch()
    patch.setattr(bases, "BASE_DIR", folder / "bases")
    config = tiny.language_model(folder / "lm") / "config.json"
    without_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)  # whose masks differ between the processes
    config.write_text(json.dumps(json.loads(config.read_text()) | without_dropout))
    pull.pull("tiny-lm", folder / "lm")
    pull.pull("tiny-encoder", tiny.encoder(folder / "encoder", head=False))
    patch.undo()
    for part in ("train", "val", "test"):
        ids = [(f"t3_{part}{n}", f"t1_{part}{n}", f"t1_r{part}{n}", "sandbox_books") for n in tiny.numbers_of_rankers(part, 30)]
        texts = [(f"Which book, reader {n}?" * (1 + n % 3), f"the {'very ' * (n % 4)}short one") for n in range(len(ids))]
        schema.write_rows(folder / f"lm_{part}.csv", LmRow, [LmRow(*each, *both) for each, both in zip(ids, texts, strict=True)])
        rows = [RealismRow(*each, *both, n % 2, "" if n % 2 else "g") for n, (each, both) in enumerate(zip(ids, texts, strict=True))]
        schema.write_rows(folder / f"realism_{part}.csv", RealismRow, rows)
    return folder


def test_two_processes_train_the_model_that_one_trains(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", folder / "bases")
    train_both(folder, "one")
    original = loop.run_steps

    def stopped(losses: list[float], steps: int, one_step: Any, save: Any) -> None:
        original(losses, 3, one_step, save)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "run_steps", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_both(folder, "two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    program = [*torchrun, sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, env=with_root({**os.environ, "OMP_NUM_THREADS": "1"}), cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resuming at step 3 of") == 1 and done.stdout.count("trained on 13 pairs") == 1  # one of them prints
    for kind in ("lm", "realism"):
        one, two = (losses(folder / name / kind) for name in ("one", "two"))
        assert len(one) == len(two) > 3 and max(one) - min(one) > 0.01
        assert np.allclose(one, two, rtol=1e-4), kind  # sums of float32 in another order


def test_a_share_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(processes.share([1, 2, 3, 4]))
    assert shares == [[1, 4], [2], [3]] and not processes.is_first()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.is_first() and processes.share([1, 2]) == [1, 2]  # RANK alone means nothing
    kept = {"BOT_CHOOSE__MINIMUM_RANK": "0.1"}
    assert processes.without_group(kept) == kept
    assert processes.without_group({"RANK": "0", "TORCHELASTIC_RUN_ID": "x", "OMP_NUM_THREADS": "1", "HOME": "/"}) == {"HOME": "/"}


def test_a_trainer_that_runs_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="train relevance with transformers runs in one process"):
        command.relevance()


@pytest.mark.parametrize(
    "variables", [{"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}]
)
def test_variables_of_torchrun_without_torchrun(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="WORLD_SIZE is .* start with torchrun"):
        processes.check()
