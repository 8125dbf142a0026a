"""No process loads two frameworks: online runs that combine TensorFlow and PyTorch back ends, and one with only CTranslate2."""

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


@pytest.mark.parametrize(
    ("generator", "lm", "ranker", "encoder", "expected"),
    [
        ("gpt-2-simple", "gpt2", "transformers", "ranker", {"generate": ["tensorflow"], "rank": ["torch"]}),
        ("transformers", "lm", "tfhub-bert", "tfhub", {"generate": ["torch"], "rank": ["tensorflow"]}),
        ("ctranslate2", "lm", "ctranslate2", "ranker", {}),
        ("keras-seq2seq", "keras-seq2seq", "glove-bilstm", "glove", {"generate": ["tensorflow"], "rank": ["tensorflow"]}),
        ("keras-transformer", "keras-transformer", "ctranslate2", "ranker", {"generate": ["tensorflow"]}),
        ("openai-server", "server", "ctranslate2", "ranker", {}),
    ],
)
def test_no_process_loads_two_frameworks(
    folder: Path, tmp_path: Path, generator: str, lm: str, ranker: str, encoder: str, expected: dict[str, list[str]]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOTES_FRAMEWORKS)
    (tmp_path / "notes").mkdir()
    (tmp_path / "config.toml").write_text(
        f'[generate]\nbackend = "{generator}"\nmodel = "{folder / lm}"\nnum_candidates = 3\nmax_new_tokens = 8\n'
        f'[rank]\nbackend = "{ranker}"\nrealism = "{folder / encoder}"\nupvote = ""\n'
        'relevance = ""\nchoice = ""\n[rank.weights]\nrealism = 1\nchoice = 0\nrelevance = 0\n'
        "[choose]\nminimum_realism = 0.0\nminimum_rank = 0.0\nminimum_words = 1\n"
    )
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, ROOT / "run_bot.py", "run", "--sandbox", "--limit", "2", "--config", tmp_path / "config.toml", "--out", run],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NOTES": str(tmp_path / "notes")},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cuInit" not in done.stderr  # TensorFlow's error about a missing GPU
    notes = [json.loads(path.read_text()) for path in (tmp_path / "notes").iterdir()]
    loaded = {stage: note["loaded"] for note in notes for stage in STAGES if note["stage"] == [stage]}
    assert loaded == {**{stage: [] for stage in STAGES}, **expected}
    assert all(len(note["loaded"]) <= 1 for note in notes)
    assert len(schema.read_rows(run / "candidates.csv", Candidate)) == 6
    scored = schema.read_rows(run / "scored.csv", Scored)
    assert len(scored) == 6 and all(0 <= row.realism_score <= 1 for row in scored if row.reply)
    assert schema.read_rows(run / "chosen.csv", Scored)
