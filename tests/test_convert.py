"""Conversion of a tiny gpt-2-simple checkpoint to transformers: logits, tokens, candidates and their ends are the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import torch
from gpt_2_simple.src import model as reference_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot import text
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.export import to_transformers
from bot.generators import ctranslate2 as serving
from bot.generators import gpt_2_simple, transformers
from bot.weights import cards
from bot.weights.cards import ModelCard
from tests import tiny
from tests.test_gpt_2_simple import AWKWARD, WINDOWS, edited_checkpoint, moved, reciting_model

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "My kettle takes ten minutes to boil!"), ("t1_c", "(Hm.")]


pytestmark = pytest.mark.usefixtures("eager_again")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.gpt2_checkpoint(tmp_path_factory.mktemp("gpt2") / "tiny", n_head=4, n_ctx=160)


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "new" / "tiny"
    to_transformers.convert(checkpoint, out)
    return out


@pytest.fixture(scope="module")
def bpe(checkpoint: Path) -> Any:
    return gpt_2_simple.read_encoder(checkpoint, 10**6)


@pytest.fixture(scope="module")
def tokenizer(converted: Path) -> Any:
    return AutoTokenizer.from_pretrained(converted, local_files_only=True)


def test_logits_equal_those_of_tensorflow(checkpoint: Path, converted: Path) -> None:
    """The largest logits are about 10, and the differences are below 1e-4."""
    model, info = AutoModelForCausalLM.from_pretrained(converted, local_files_only=True, output_loading_info=True)
    assert not any(info[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    hparams = gpt_2_simple.read_hparams(checkpoint)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(tf.int32, [None, None])
        logits = reference_model.model(hparams, fed)["logits"]
        tf.compat.v1.train.Saver().restore(session, str(checkpoint / "model.ckpt"))
        for length in (1, 2, 17, 64, 160):
            ids = torch.randint(hparams.n_vocab, (2, length), generator=torch.Generator().manual_seed(length))
            expected = session.run(logits, {fed: ids.numpy()})
            with torch.inference_mode():
                result = model(ids).logits.numpy()
            assert expected.std() > 1 and result.shape == expected.shape
            assert abs(result - expected).max() < tiny.rounding(largest=abs(expected).max())


def test_prompts_and_rows_have_the_same_tokens(bpe: Any, tokenizer: Any) -> None:
    for comment in (*AWKWARD, "Plain words.", "  two\n lines ", "book " * 300):
        for most in (1000, 40):
            assert transformers.encode_prompt(tokenizer, comment, most) == gpt_2_simple.encode_prompt(bpe, comment, most)
        for reply in ("Dune.", *AWKWARD):
            row, prompt = transformers.encode_training_row(tokenizer, comment, reply, 10_000)
            assert row == gpt_2_simple.encode_training_row(bpe, comment, reply)[:-1]  # without the loader's line break
            assert row[:prompt] == gpt_2_simple.encode_prompt(bpe, comment, 10_000)
            assert tokenizer.decode(row) == f"<|startoftext|>{text.format_training_text(comment, reply)}<|endoftext|>"


@given(st.text(max_size=40))
def test_any_prompt_has_the_same_tokens(bpe: Any, tokenizer: Any, comment: str) -> None:
    comment = text.clean(comment)
    assert transformers.encode_prompt(tokenizer, comment, 1000) == gpt_2_simple.encode_prompt(bpe, comment, 1000)


def test_other_tokenizers_use_their_start_and_end_tokens(tmp_path: Path) -> None:
    plain = AutoTokenizer.from_pretrained(tiny.language_model(tmp_path / "lm"), local_files_only=True)
    row, prompt = transformers.encode_training_row(plain, "Which book?", "Dune.", 100)
    assert row == [plain.bos_token_id, *plain("Which book? [SEP] Dune.")["input_ids"], plain.eos_token_id]
    assert row[:prompt] == transformers.encode_prompt(plain, "Which book?", 100)


def assert_same_greedy_output(one: Any, other: Any, comments: list[tuple[str, str]], max_new_tokens: int) -> None:
    """The greedy text and its log-likelihood must be the same for both generators."""
    settings = GenerateSettings(num_candidates=2, top_k=1, max_new_tokens=max_new_tokens)
    first, second = ([each for row in generator.sample(comments, settings, 1) for each in row] for generator in (one, other))
    assert [(row.candidate_id, row.reply) for row in first] == [(row.candidate_id, row.reply) for row in second]
    assert [row.log_likelihood for row in first] == pytest.approx([row.log_likelihood for row in second], abs=tiny.rounding(largest=10))


def test_candidates_equal_those_of_gpt_2_simple(checkpoint: Path, converted: Path) -> None:
    assert_same_greedy_output(transformers.load(converted), gpt_2_simple.load(checkpoint), COMMENTS, 24)


@pytest.mark.parametrize("reply", ["see <|endoftext|> here!", "ends in <"])
def test_generation_stops_at_a_multi_token_end(
    checkpoint: Path, bpe: Any, tmp_path: Path, reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that recites a row and further text stops after the end, which counts as one token in the mean."""
    prompt = gpt_2_simple.encode_prompt(bpe, "Any?", 48)
    row = gpt_2_simple.encode_training_row(bpe, "Any?", reply)
    more = (row[len(prompt) :] + row)[: 150 - len(prompt)]
    reciter = reciting_model(checkpoint, tmp_path / "reciting", more, len(prompt))
    to_transformers.convert(tmp_path / "reciting", tmp_path / "out")
    loaded = transformers.load(tmp_path / "out")
    assert_same_greedy_output(loaded, reciter, [("t1_a", "Any?")], 80)
    steps: list[int] = []
    original = transformers.Nucleus.__call__

    def counting(nucleus: Any, *arguments: Any) -> Any:
        steps.append(1)
        return original(nucleus, *arguments)

    monkeypatch.setattr(transformers.Nucleus, "__call__", counting)
    [[candidate]] = loaded.sample([("t1_a", "Any?")], GenerateSettings(num_candidates=1, max_new_tokens=80, top_k=1), 1)
    assert candidate.reply == reply
    expected_tokens = len(row) - 1 - len(prompt)  # without the line break
    assert len(steps) == expected_tokens + 1  # plus one step in which generate() stops
    served = serving.load(tmp_path / "out", "float32")
    assert_same_greedy_output(served, reciter, [("t1_a", "Any?")], 80)
    tokens: list[list[int]] = []
    made = served.candidate
    monkeypatch.setattr(served, "candidate", lambda *arguments: (tokens.append(arguments[-1].tokens), made(*arguments))[1])
    list(served.sample([("t1_a", "Any?")], GenerateSettings(num_candidates=1, max_new_tokens=80, top_k=1), 1))
    assert [len(each) for each in tokens] == [expected_tokens]


def test_the_end_token_also_ends_a_candidate(checkpoint: Path, bpe: Any, tmp_path: Path) -> None:
    prompt = gpt_2_simple.encode_prompt(bpe, "Any?", 48)
    tokens = [*bpe.encode(" Dune"), bpe.encoder["<|endoftext|>"], *bpe.encode(" more")]
    reciter = reciting_model(checkpoint, tmp_path / "reciting", tokens, len(prompt))
    to_transformers.convert(tmp_path / "reciting", tmp_path / "out")
    loaded = transformers.load(tmp_path / "out")
    assert_same_greedy_output(loaded, reciter, [("t1_a", "Any?")], 24)
    [[candidate]] = loaded.sample([("t1_a", "Any?")], GenerateSettings(num_candidates=1, top_k=1), 1)
    assert candidate.reply == "Dune"


@pytest.mark.usefixtures("cold")
def test_the_command_copies_the_card_and_does_not_load_pytorch(checkpoint: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "lm", tmp_path / "out"
    shutil.copytree(checkpoint, folder)
    card = ModelCard(
        "lm", "124M", "0" * 64, "full", settings={"steps": 9}, metrics={"val_perplexity": 3.5}, created_utc="2026-01-02T03:04:05Z"
    )
    cards.write_card(folder, card)
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('bot', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'torch', 'tensorflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "models", "convert", str(folder), "--out", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(out), "['tensorflow']"]
    names = sorted(path.name for path in out.iterdir())
    assert names == ["config.json", "model.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in out.iterdir())
    copied = cards.read_card(out)
    assert copied.notes == "Converted from gpt-2-simple's layout." and (copied.settings, copied.metrics) == (card.settings, card.metrics)
    assert copied.created_utc == card.created_utc
    assert json.loads((out / "config.json").read_text())["n_positions"] == 160


def test_a_checkpoint_of_a_machine_with_windows(checkpoint: Path, converted: Path, tmp_path: Path) -> None:
    to_transformers.convert(moved(checkpoint, tmp_path / "run1", WINDOWS[0]), tmp_path / "out")
    for path in converted.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_convert_is_atomic(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(to_transformers, "tokenizer", killed)
        with pytest.raises(KeyboardInterrupt):
            to_transformers.convert(checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.partial").mkdir()  # left by a killed process
    (tmp_path / ".out.partial" / "model.safetensors").touch()
    to_transformers.convert(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="out: already exists; give another output or --overwrite"):
        to_transformers.convert(checkpoint, tmp_path / "out")
    with pytest.raises(UserError, match=r"nothing: not a complete gpt-2-simple checkpoint"):
        to_transformers.convert(tmp_path / "nothing", tmp_path / "other")
    with pytest.raises(UserError, match=r"out: a model of the transformers back end, not of gpt-2-simple"):
        to_transformers.convert(tmp_path / "out", tmp_path / "other")

    def narrow(weights: dict[str, Any]) -> None:
        weights["model/h1/mlp/c_fc/w"] = weights["model/h1/mlp/c_fc/w"][:, :, 1:]

    with pytest.raises(
        UserError, match=r"hparams.json does not match model.ckpt: model/h1/mlp/c_fc/w is \[1, 32, 127\], expected \[1, 32, 128\]"
    ):
        to_transformers.convert(edited_checkpoint(checkpoint, tmp_path / "narrow", narrow), tmp_path / "other")
    (tmp_path / "half").mkdir()
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        (tmp_path / "half" / path.name).write_bytes(content[: len(content) // 2] if ".data-" in path.name else content)
    with pytest.raises(UserError, match="half: model.ckpt is damaged"):
        to_transformers.convert(tmp_path / "half", tmp_path / "other")
    assert not (tmp_path / "other").exists()
