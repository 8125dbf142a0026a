"""The CTranslate2 back ends compared with transformers: same distributions in float32, similar scores in int8, and the same rules."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bot import config, files, generators, rankers, schema, text
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.export import to_ctranslate2, to_transformers
from bot.generators import ctranslate2 as serving
from bot.generators import gpt_2_simple
from bot.generators import transformers as reference
from bot.rankers import ctranslate2 as serving_rankers
from bot.schema import Candidate
from bot.weights import bases, cards
from bot.weights import serving as exports
from tests import tiny

pytestmark = pytest.mark.usefixtures("eager_again")

Shipped = Callable[..., Path]  # the fixture `shipped`
COMMENTS = [
    ("t1_a", "Which book made you laugh?"),
    ("t1_b", "My kettle takes ten minutes to boil, is that normal?"),
    ("t1_c", "Hm."),
    ("t1_d", "Try the one about the lighthouse keeper, it is short and funny, they read a thousand essays about winning."),
    ("t1_e", "Which book made you cry out?"),
]
SMALL: dict[str, Any] = {"num_candidates": 4, "max_new_tokens": 12, "max_prompt_tokens": 40}
PAIRS = [
    ("Which book made you laugh out loud on the train?", "Try the one about the lighthouse keeper, it is short and the ending is kind."),
    ("Which book made you laugh out loud on the train?", "no"),
    ("My kettle takes ten minutes to boil, is that normal?", "Clean it with vinegar, works every time!"),
    ("My kettle takes ten minutes to boil, is that normal?", "I am the kettle of the kettle and the train is the kettle."),
    ("[SEP] in the middle, and <|endoftext|>", "x " * 200),
    ("Long " * 150, "A reply, \"quoted\", with an é and a 😀."),
    ("x", ""),
]  # fmt: skip


def llama(folder: Path) -> Path:
    """A Llama with 2 layers and the features of SmolLM2: grouped keys, another rotary base, tied embeddings, a separate end token."""
    tokenizer = tiny.gpt2_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 6, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0},
        "tie_word_embeddings": True, "initializer_range": 0.3,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models with their exports: gpt2, llama, checkpoint (gpt-2-simple), converted, ranker."""
    folder = tmp_path_factory.mktemp("models")
    tiny.language_model(folder / "gpt2")
    llama(folder / "llama")
    tiny.gpt2_checkpoint(folder / "checkpoint", n_ctx=128)
    to_transformers.convert(folder / "checkpoint", folder / "converted")
    tiny.encoder(folder / "ranker")
    for name in ("gpt2", "llama", "converted", "ranker"):
        to_ctranslate2.export(folder / name, "float32")
    to_ctranslate2.export(folder / "gpt2", "int8")
    for name in ("gpt2", "ranker"):
        to_ctranslate2.export(folder / name, "bfloat16")
    return folder


def settings(**changes: Any) -> GenerateSettings:
    return GenerateSettings(**{**SMALL, **changes})


def sampled(generator: Any, comments: list[tuple[str, str]] = COMMENTS, seed: int = 1, **changes: Any) -> dict[str, Candidate]:
    return {each.candidate_id: each for row in generator.sample(comments, settings(**changes), seed) for each in row}


def serve(source: Path, precision: config.Precision = "float32") -> Any:
    return serving.CTranslate2(exports.serving_folder(source, precision))


def max_difference(model: Any, engine: Any, prompts: list[list[int]]) -> float:
    """The maximum difference of the two engines' next-token probabilities over all positions of the prompts."""
    maximum = 0.0
    for prompt in prompts:
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0].softmax(-1).numpy()
        result = np.exp(np.array(engine.forward_batch([prompt], return_log_probs=True)))[0]
        assert result.shape == expected.shape and expected.max() > 0.05  # not a flat distribution
        maximum = max(maximum, float(np.abs(result - expected).max()))
    return maximum


# --- the generator ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama", "converted"])
def test_float32_distributions_equal_transformers(folder: Path, name: str) -> None:
    model, tokenizer = reference.load_model(folder / name)
    engine = ctranslate2.Generator(str(exports.serving_folder(folder / name, "float32")))
    prompts = [reference.encode_prompt(tokenizer, comment, 40) for _, comment in COMMENTS]
    assert max_difference(model, engine, prompts) < tiny.rounding(largest=10)  # of logits


def test_float32_distributions_of_the_shipped_model_equal_transformers(shipped: Shipped) -> None:
    source = shipped("lm", "float32")
    model, tokenizer = reference.load_model(source)
    engine = ctranslate2.Generator(str(exports.serving_folder(source, "float32")))
    prompts = [reference.encode_prompt(tokenizer, comment, 96) for _, comment in [*COMMENTS, *PAIRS]]
    assert max_difference(model, engine, prompts) < tiny.rounding(layers=30, terms=1536)


@pytest.mark.parametrize("name", ["gpt2", "llama", "converted"])
def test_prompts_have_the_same_tokens(folder: Path, name: str) -> None:
    generator, tokenizer = serve(folder / name), AutoTokenizer.from_pretrained(folder / name, local_files_only=True)
    awkward = ["<|endoftext|> [SEP] <|im_end|><|im_start|>", "  two\n lines ", "book " * 300, "é😀", ""]
    for comment in [*awkward, *(body for _, body in COMMENTS)]:
        for most in (1000, 40):
            assert generator.encode_prompt(comment, most) == reference.encode_prompt(tokenizer, comment, most)
    assert generator.encode_prompt("book " * 300, 40)[-3:] == generator.encode_prompt("", 40)[-3:]


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_comments_are_distributed_to_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Each comment is answered, there is one random stream per core, and the result is reproducible."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    generator = serve(folder / "gpt2", "int8")
    first = sampled(generator, batch_size=6)  # some comments need several calls
    assert len(first) == 20 and len({each.seed for each in first.values()}) == cores
    assert sampled(generator, batch_size=6) == first
    assert sampled(generator, COMMENTS[:1]).keys() == {f"t1_a-{n}" for n in range(4)}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_one_candidate_each_for_many_comments(folder: Path, name: str) -> None:
    many = [(f"t1_{n}", "x" * (1 + n % 12)) for n in range(60)]
    generator = serve(folder / name)
    result = sampled(generator, many, num_candidates=1, temperature=1.0, top_p=1.0)
    tokenizer = AutoTokenizer.from_pretrained(folder / name, local_files_only=True)
    assert len(result) == 60
    # the cleaned text may have more tokens than were generated
    for each in result.values():  # cleaned text may have more tokens; an invalid byte becomes U+FFFD, which has three bytes
        tokens = len(tokenizer.tokenize(each.reply.replace("\ufffd", ""))) + each.reply.count("\ufffd")
        assert tokens <= 2 * SMALL["max_new_tokens"], each.reply


def test_the_greedy_text_equals_that_of_gpt_2_simple(folder: Path) -> None:
    """The same checkpoint in TensorFlow and in CTranslate2 gives the same text and the same ends."""
    one, other = gpt_2_simple.load(folder / "checkpoint"), serve(folder / "converted")
    expected, result = (sampled(each, max_new_tokens=24, top_k=1) for each in (one, other))
    assert {name: each.reply for name, each in result.items()} == {name: each.reply for name, each in expected.items()}
    likelihoods = [[rows[name].log_likelihood for name in expected] for rows in (expected, result)]
    assert likelihoods[1] == pytest.approx(likelihoods[0], abs=tiny.rounding(largest=10))  # of logits


def test_the_greedy_text_equals_that_of_transformers(folder: Path) -> None:
    for name in ("gpt2", "llama", "converted"):
        for changes in ({}, {"repetition_penalty": 1.5}, {"min_new_tokens": 6}):
            if name == "converted" and "min_new_tokens" in changes:
                continue
            one, other = reference.load(folder / name), serve(folder / name)
            expected, result = (sampled(each, num_candidates=2, top_k=1, **changes) for each in (one, other))
            assert {key: row.reply for key, row in result.items()} == {key: row.reply for key, row in expected.items()}
            values = [[rows[key].log_likelihood for key in expected] for rows in (expected, result)]
            assert values[1] == pytest.approx(values[0], abs=tiny.rounding(largest=10))  # of logits


def test_draws_follow_the_distribution(folder: Path) -> None:
    """The frequencies of 2,000 first tokens match the probabilities of transformers after temperature, top-k and nucleus."""
    generator = serve(folder / "gpt2")
    model, tokenizer = reference.load_model(folder / "gpt2")
    one = settings(num_candidates=1000, max_new_tokens=1, temperature=0.7, top_k=20, top_p=0.8)
    firsts = [each.reply for seed in (1, 2) for row in generator.sample(COMMENTS[:1], one, seed) for each in row]
    with torch.inference_mode():
        logits = model(torch.tensor([reference.encode_prompt(tokenizer, COMMENTS[0][1], 40)])).logits[0, -1]
    top, tokens = logits.topk(20)
    p = torch.softmax(top / 0.7, -1)
    nucleus = torch.where(p.cumsum(0) - p < 0.8, p, 0.0)
    expected: dict[str, float] = {}
    for token, share in zip(tokens.tolist(), (nucleus / nucleus.sum()).tolist(), strict=True):
        reply = text.parse_reply(tokenizer.decode([token]))  # "a" and " a" are the same reply
        expected[reply] = expected.get(reply, 0.0) + share
    assert len(firsts) == 2000 and {reply for reply, share in expected.items() if share} >= set(firsts)
    for reply, share in expected.items():  # four standard deviations
        assert firsts.count(reply) / 2000 == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5 + 1e-9)


def test_closing_the_iterator_stops_generation(folder: Path) -> None:
    generator = serve(folder / "gpt2")
    many = [(f"t1_{n}", f"Which book made you laugh {n} times?") for n in range(2000)]
    rows = generator.sample(many, settings(max_new_tokens=200), 1)
    next(rows)
    began = time.monotonic()
    rows.close()  # like Ctrl-C
    assert time.monotonic() - began < 5  # all comments would take minutes
    assert len(sampled(generator)) == 20


def test_unsupported_settings_are_errors(folder: Path) -> None:
    generator = serve(folder / "gpt2")
    with pytest.raises(UserError, match=r"max_prompt_tokens 40 and max_new_tokens 250 leave 6 of 256 tokens"):
        sampled(generator, max_new_tokens=250)
    for engine in (serve(folder / "converted"), reference.load(folder / "converted")):
        with pytest.raises(UserError, match=r"min_new_tokens: .*converted.* has no end token"):
            sampled(engine, min_new_tokens=2)
    with pytest.raises(UserError, match=r"not supported by back end gpt-2-simple"):
        sampled(gpt_2_simple.load(folder / "checkpoint"), repetition_penalty=1.2)


def test_the_size_of_calls_depends_on_free_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = serve(folder / "gpt2")
    one = settings(batch_size=40)
    a_row = 52 * 2 * 2 * 32 * 4 + 16 * 400  # tokens, layers, keys and values, width, float32; logits
    assert generator.facts["bytes_a_token"] == 2 * 2 * 32 * 4
    assert generator.rows(one, 2) == 20
    monkeypatch.setattr(serving, "free_bytes", lambda: 2 * 2 * 3 * a_row + 1)
    assert generator.rows(one, 2) == 3
    monkeypatch.setattr(serving, "free_bytes", lambda: 0)
    assert generator.rows(one, 2) == 1 and len(sampled(generator)) == 20
    monkeypatch.undo()
    assert 2**20 < serving.free_bytes() < 2**50


# --- rankers ----------------------------------------------------------------------------------------------------------------------


def test_scores_of_a_classifier_equal_transformers(folder: Path) -> None:
    expected = rankers.load("transformers", folder / "ranker").score(PAIRS)
    ranker = serving_rankers.load_export(exports.serving_folder(folder / "ranker", "float32"))
    assert ranker.score(PAIRS) == pytest.approx(expected, abs=tiny.rounding())
    assert np.abs(np.subtract(ranker.score([(reply, comment) for comment, reply in PAIRS]), expected)).min() > 100 * tiny.rounding()


def test_scores_of_a_dual_encoder_equal_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    source = tiny.encoder(tmp_path / "dual", head=False)
    fitted = {"architecture": "dual encoder", "scale": 9.0, "offset": -8.0}
    cards.write_card(source, cards.ModelCard("relevance", "tiny", "0" * 64, "full", settings=fitted))
    expected = rankers.load("transformers", source).score(PAIRS)
    ranker = serving_rankers.load_export(to_ctranslate2.export(source, "float32"))
    assert ranker.score(PAIRS) == pytest.approx(expected, abs=tiny.rounding(largest=9)) and np.std(expected) > 0.05  # the scale


def pairs_of_many_lengths() -> list[tuple[str, str]]:
    """Pairs built from the sentences in the tests."""
    bodies = [*tiny.TEXT, *(body for _, body in COMMENTS), *(reply for _, reply in PAIRS)]
    return [(one, f"{other} {one[: 7 * place]}") for one in bodies for place, other in enumerate(bodies)]


@pytest.mark.parametrize("name", ["realism", "upvote", "relevance"])
def test_scores_of_the_shipped_rankers(shipped: Shipped, name: str) -> None:
    """float32: those of transformers. int8: the mean difference is below 0.02, and more than 99.5 % of the pairs with different scores in
    float32 have the same order."""
    pairs = pairs_of_many_lengths()
    source = shipped(name, "float32", "int8")
    expected = np.array(rankers.load("transformers", source).score(pairs))
    assert len(pairs) == 256 and expected.std() > 0.05
    exact = rankers.load("ctranslate2", source, "float32").score(pairs[::5])
    assert exact == pytest.approx(expected[::5], abs=tiny.rounding(layers=6, terms=1536))
    scores = np.array(rankers.load("ctranslate2", source).score(pairs))
    assert np.abs(scores - expected).mean() < 0.02
    one, other = np.triu_indices(len(pairs), 1)
    apart = np.abs(expected[one] - expected[other]) > 0.02
    assert ((scores[one] > scores[other]) == (expected[one] > expected[other]))[apart].mean() > 0.995


def test_bfloat16(folder: Path) -> None:
    """bfloat16 has 8 significant bits, so each of about 20 consecutive sums has a random error of 2**-9, in total 20**0.5 times that."""
    expected = rankers.load("transformers", folder / "ranker").score(PAIRS)
    ranker = rankers.load("ctranslate2", folder / "ranker", "bfloat16")
    assert ranker.score(PAIRS) == pytest.approx(expected, abs=4 * 2**-9 * 20**0.5)  # four times the typical error
    assert ranker.score(PAIRS) != pytest.approx(expected, abs=tiny.rounding())  # the setting has an effect
    assert len(sampled(generators.load("ctranslate2", folder / "gpt2", "bfloat16"), COMMENTS[:1])) == 4


# --- exporting ----------------------------------------------------------------------------------------------------------------------


def test_a_changed_source_is_exported_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tiny.encoder(tmp_path / "ranker")
    out = to_ctranslate2.export(source, "float32")
    assert out == tmp_path / ".serving" / "ranker-float32" and exports.is_current(source, "float32")
    assert not exports.is_current(source, "int8")
    first = out.stat().st_ino
    assert to_ctranslate2.export(source, "float32").stat().st_ino == first
    for path in source.iterdir():
        os.utime(path, (1, 1))  # like in a fresh checkout
    assert exports.is_current(source, "float32")
    assert capfd.readouterr().err.count("exporting for CTranslate2") == 1
    tiny.encoder(source, seed=3)
    assert not exports.is_current(source, "float32")
    ranker = rankers.load("ctranslate2", source, "float32")  # exports again in another process
    assert exports.is_current(source, "float32") and out.stat().st_ino != first
    assert ranker.score(PAIRS) == pytest.approx(rankers.load("transformers", source).score(PAIRS), abs=tiny.rounding())
    assert sorted(path.name for path in out.parent.iterdir() if not path.name.endswith((".lock", "-sums.json"))) == ["ranker-float32"]


def test_export_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny.encoder(tmp_path / "ranker")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", killed)
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            to_ctranslate2.export(source, "int8")
    out = exports.serving_folder(source, "int8")
    assert not out.exists() and not out.with_name(".ranker-int8.partial").exists()
    out.with_name(".ranker-int8.partial").mkdir()  # left by a killed process
    to_ctranslate2.export(source, "int8")
    assert out.exists() and not out.with_name(".ranker-int8.partial").exists()


def test_error_messages(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no model here"):
        generators.load("ctranslate2", tmp_path / "nothing")
    with pytest.raises(UserError, match="a checkpoint of gpt-2-simple; set generate.backend to gpt-2-simple"):
        generators.load("ctranslate2", folder / "checkpoint")
    with pytest.raises(UserError, match=r"not a serving folder .* models export"):
        serving.CTranslate2(folder / "gpt2")
    with pytest.raises(UserError, match="a ranker, not a generator"):
        serving.CTranslate2(exports.serving_folder(folder / "ranker", "float32"))
    with pytest.raises(UserError, match="a generator, not a ranker"):
        serving_rankers.load_export(exports.serving_folder(folder / "gpt2", "float32"))
    foreign = tiny.language_model(tmp_path / "foreign")
    content = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**content, "model_type": "xglm", "architectures": ["XGLMForCausalLM"]}))
    with pytest.raises(UserError, match="foreign"):
        to_ctranslate2.export(foreign, "int8")
    assert not exports.serving_folder(foreign, "int8").exists()
    refused = f"^{re.escape(str(foreign))}: the model is not a generator; set the folder of a generator in the config$"
    with pytest.raises(UserError, match=refused), to_ctranslate2.exporting([(foreign, "int8")]):
        pass
    with pytest.raises(UserError, match=refused):
        generators.load("ctranslate2", foreign)
    assert "is not a generator" not in capfd.readouterr().err  # the reason is in one line only, that of this process
    damaged = tiny.encoder(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(UserError, match="damaged: the model cannot be loaded "):
        rankers.load("ctranslate2", damaged)


def test_the_command_exports_the_models_in_the_config(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[generate]\nmodel = "{folder / "gpt2"}"\nprecision = "float32"\n[rank]\nrealism = "{folder / "ranker"}"\n'
        'upvote = ""\nrelevance = ""\nchoice = ""\n[rank.weights]\nchoice = 0\nrelevance = 0\n'
    )
    command = [sys.executable, "-m", "bot", "models", "export", "--config", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / ".serving" / name) for name in ("gpt2-float32", "ranker-int8")]
    assert "ranker: exporting for CTranslate2 (int8)" in done.stderr and "gpt2" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout  # no progress bar outside a terminal


# --- the workers --------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cold")
def test_workers_load_no_framework_and_start_quickly(folder: Path, tmp_path: Path) -> None:
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in COMMENTS])
    schema.write_table(tmp_path / "pairs.csv", ["comment", "reply"], [{"comment": c, "reply": r} for c, r in PAIRS])
    (tmp_path / "c.toml").write_text(
        f'[generate]\nmodel = "{folder / "gpt2"}"\nmax_new_tokens = 4\n[rank]\nrealism = "{folder / "ranker"}"\n'
        'upvote = ""\nrelevance = ""\nchoice = ""\n[rank.weights]\nchoice = 0\nrelevance = 0\n'
    )
    to_ctranslate2.export(folder / "ranker", "int8")
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('bot', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'tensorflow', 'transformers', 'keras', 'pandas', 'scipy', 'sklearn', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for stage, source, out in (("generate", "in.csv", "out.csv"), ("score", "pairs.csv", "scored.csv")):
        began = os.times()
        command = [sys.executable, "-c", code, stage, "--in", tmp_path / source, "--out", tmp_path / out, "--config", tmp_path / "c.toml"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]" and not done.stderr  # no progress bar outside a terminal
        spent = os.times()
        # processor time, because other programs may be running; loading PyTorch alone takes longer
        assert spent.children_user + spent.children_system - began.children_user - began.children_system < 3
    assert len(schema.read_rows(tmp_path / "out.csv", Candidate)) == 50
    assert {row.generator for row in schema.read_rows(tmp_path / "out.csv", Candidate)} == {"ctranslate2:gpt2-int8"}


def test_resuming_after_ctrl_c(folder: Path, tmp_path: Path) -> None:
    """After SIGINT the worker exits with status 130, finished comments stay in the part file, and the same command resumes."""
    many = [{"comment_id": f"t1_{n}", "comment": f"Which book made you laugh {n} times? " * (1 + n % 3)} for n in range(300)]
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], many)
    (tmp_path / "c.toml").write_text(f'[generate]\nmodel = "{folder / "gpt2"}"\nprecision = "int8"\nmax_new_tokens = 40\n')

    def command(out: str) -> list[Any]:
        base = [sys.executable, "-m", "bot", "generate", "--in", tmp_path / "in.csv", "--config", tmp_path / "c.toml"]
        return [*base, "--out", tmp_path / out]

    process = subprocess.Popen(
        command("out.csv"), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have started the tests with SIGINT ignored
    )  # fmt: skip
    part = tmp_path / "out.csv.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.read_text(encoding="utf-8").count("\n") > 20) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.endswith("interrupted; repeat the command to resume\n") and "Traceback" not in errors
    finished = [Candidate(**each) for line in part.read_text(encoding="utf-8").splitlines()[1:] for each in json.loads(line)]
    kept = len(finished) // 10
    assert 20 <= kept < 300 and not (tmp_path / "out.csv").exists()
    again = subprocess.run(command("out.csv"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and f"resuming after {kept} of 300 comments" in again.stdout
    rows = {row.candidate_id: row for row in schema.read_rows(tmp_path / "out.csv", Candidate)}
    assert len(rows) == 300 * 10 and all(rows[each.candidate_id] == each for each in finished)


# --- the processor ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "flags", "preset", "expected"),
    [
        ("AuthenticAMD", "avx2 avx512f avx512dq avx512cd avx512bw avx512vl", None, "AVX512"),
        ("AuthenticAMD", "avx2 avx512f avx512dq avx512cd avx512bw", None, None),  # one is missing
        ("GenuineIntel", "avx2 avx512f avx512dq avx512cd avx512bw avx512vl", None, None),
        ("AuthenticAMD", "avx2 avx512f avx512dq avx512cd avx512bw avx512vl", "AVX2", "AVX2"),
    ],
)
def test_avx512_is_preferred_on_amd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str, preset: str | None, expected: str | None
) -> None:
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", preset or "")  # so that it is restored
    if not preset:
        monkeypatch.delenv("CT2_FORCE_CPU_ISA")
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n", encoding="utf-8")
    exports.prefer_avx512(tmp_path / "cpuinfo")
    assert os.environ.get("CT2_FORCE_CPU_ISA") == expected
