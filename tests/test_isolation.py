"""No process loads two frameworks: a run with CTranslate2 only, and its stages with TensorFlow and PyTorch back ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import schema
from bot.cli import ROOT
from bot.export import to_tfhub
from bot.schema import Candidate, Scored
from bot.weights import bases, pull
from tests import serving, tiny

# Python runs this in every process with this folder on the path. At exit it records which frameworks are loaded, by sys.modules and by the
# libraries mapped into memory.
NOTES_FRAMEWORKS = """
import atexit, json, os, pathlib, sys

def note():
    mapped = pathlib.Path("/proc/self/maps").read_text()
    loaded = sorted(
        name for name, library in (("tensorflow", "libtensorflow"), ("torch", "libtorch")) if name in sys.modules or library in mapped
    )
    line = {"stage": sys.argv[1:2], "loaded": loaded}
    (pathlib.Path(os.environ["NOTES"]) / str(os.getpid())).write_text(json.dumps(line))

atexit.register(note)
"""
STAGES = ("fetch", "generate", "rank", "choose", "report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, keras_models: Path) -> Iterator[Path]:
    """Tiny models: lm, gpt2 (for gpt-2-simple), those in Keras by back end, ranker, tfhub (for tfhub-bert) and glove (for glove-bilstm).

    server: a server that gives no log-likelihoods.
    """
    folder = tmp_path_factory.mktemp("models")
    tiny.language_model(folder / "lm")
    tiny.gpt2_checkpoint(folder / "gpt2", n_ctx=160)
    tiny.eager_again()
    for backend in tiny.ENCODER_DECODERS:
        shutil.copytree(keras_models / backend, folder / backend)
    tiny.encoder(folder / "ranker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "BASE_DIR", folder / "bases")
        pull.pull("tiny", tiny.encoder(folder / "source", head=False))
        exported = to_tfhub.export("tiny")
    tiny.tfhub_ranker(exported, folder / "tfhub")
    tiny.glove_ranker(folder / "glove")
    with serving.stub(lambda body, _: serving.candidates(body, logprobs=False)) as stub:
        stub.folder(folder / "server", prompt="chat")
        yield folder


def environment(folder: Path) -> dict[str, str]:
    """Every Python process notes in folder/notes which frameworks it has loaded."""
    (folder / "sitecustomize.py").write_text(NOTES_FRAMEWORKS)
    (folder / "notes").mkdir()
    return {**os.environ, "PYTHONPATH": str(folder), "NOTES": str(folder / "notes")}


def loaded(folder: Path) -> dict[str, list[str]]:
    """The frameworks of each stage. No process has two of them."""
    notes = [json.loads(path.read_text()) for path in (folder / "notes").iterdir()]
    assert all(len(note["loaded"]) <= 1 for note in notes)
    return {stage: note["loaded"] for note in notes for stage in STAGES if note["stage"] == [stage]}


def config(path: Path, generator: str, lm: Path, ranker: str, encoder: Path) -> Path:
    path.write_text(
        f'[generate]\nbackend = "{generator}"\nmodel = "{lm}"\nnum_candidates = 3\nmax_new_tokens = 8\n'
        f'[rank]\nbackend = "{ranker}"\nrealism = "{encoder}"\nupvote = ""\n'
        'relevance = ""\nchoice = ""\n[rank.weights]\nrealism = 1\nchoice = 0\nrelevance = 0\n'
        "[choose]\nminimum_realism = 0.0\nminimum_rank = 0.0\nminimum_words = 1\n"
    )
    return path


def start(arguments: list[str | Path], variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "run_bot.py", *arguments], env=variables, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cuInit" not in done.stderr  # TensorFlow's error about a missing GPU


def check_rows(run: Path) -> None:
    assert len(schema.read_rows(run / "candidates.csv", Candidate)) == 6
    scores = schema.read_table(run / "scores.csv", ["candidate_id", "realism_score"])[1]
    assert (
        len(scores) == 6
        and all(0 <= float(row["realism_score"] or 0) <= 1 for row in scores)
        and any(row["realism_score"] for row in scores)
    )


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, a whole run of the default back ends for two comments, and its notes."""
    out = tmp_path_factory.mktemp("whole")
    settings = config(out / "config.toml", "ctranslate2", folder / "lm", "ctranslate2", folder / "ranker")
    start(["run", "--sandbox", "--limit", "2", "--config", settings, "--out", out / "run"], environment(out))
    return out


def test_a_run_of_the_default_back_ends_loads_no_framework(whole: Path) -> None:
    assert loaded(whole) == {stage: [] for stage in STAGES}
    check_rows(whole / "run")
    assert schema.read_rows(whole / "run" / "chosen.csv", Scored)


@pytest.mark.parametrize(
    ("generator", "lm", "ranker", "encoder", "expected"),
    [
        ("gpt-2-simple", "gpt2", "transformers", "ranker", {"generate": ["tensorflow"], "rank": ["torch"]}),
        ("transformers", "lm", "tfhub-bert", "tfhub", {"generate": ["torch"], "rank": ["tensorflow"]}),
        ("keras-seq2seq", "keras-seq2seq", "glove-bilstm", "glove", {"generate": ["tensorflow"], "rank": ["tensorflow"]}),
        ("keras-transformer", "keras-transformer", "ctranslate2", "ranker", {"generate": ["tensorflow"], "rank": []}),
        ("openai-server", "server", "ctranslate2", "ranker", {"generate": [], "rank": []}),
    ],
)
def test_no_process_loads_two_frameworks(
    folder: Path, whole: Path, tmp_path: Path, generator: str, lm: str, ranker: str, encoder: str, expected: dict[str, list[str]]
) -> None:
    settings, run = config(tmp_path / "config.toml", generator, folder / lm, ranker, folder / encoder), tmp_path / "run"
    run.mkdir()
    for name in ("comments.csv", "context.csv"):
        shutil.copy(whole / "run" / name, run)
    variables = environment(tmp_path)
    for stage in ("generate", "rank"):
        start([stage, "--run", run, "--config", settings], variables)
    assert loaded(tmp_path) == expected
    check_rows(run)
