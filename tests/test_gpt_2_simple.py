from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpt_2_simple
import numpy as np
import pytest
import tensorflow as tf
from gpt_2_simple.src import encoder
from gpt_2_simple.src import model as reference_model
from gpt_2_simple.src.load_dataset import load_dataset
from hypothesis import given
from hypothesis import strategies as st

from bot import generators, schema, text
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.generators import gpt_2_simple as back_end
from bot.online import generate
from bot.schema import Candidate
from tests import tiny

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "My kettle takes ten minutes to boil!"), ("t1_c", "Hm.")]
AWKWARD = [
    "(a bracket first",
    "!!! [SEP] ... <|endoftext|>",
    "<|startoftext|> again",
    "\N{SLIGHTLY SMILING FACE} 1e5 it's\u00a0x",
    "</a>",
    "|>",
]


pytestmark = pytest.mark.usefixtures("eager_again")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.gpt2_checkpoint(tmp_path_factory.mktemp("gpt2") / "tiny")


@pytest.fixture(scope="module")
def generator(checkpoint: Path) -> back_end.GPT2Simple:
    return back_end.load(checkpoint)


@pytest.fixture(scope="module")
def bpe(checkpoint: Path) -> Any:
    return encoder.get_encoder(str(checkpoint))


def settings(**changes: Any) -> GenerateSettings:
    return GenerateSettings(**{"num_candidates": 4, "max_new_tokens": 16, "max_prompt_tokens": 48, **changes})


def sample(generator: back_end.GPT2Simple, comments: list[tuple[str, str]], seed: int = 1, **changes: Any) -> list[Candidate]:
    return [candidate for candidates in generator.sample(comments, settings(**changes), seed) for candidate in candidates]


def edited_checkpoint(checkpoint: Path, folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the checkpoint with changed weights."""
    shutil.copytree(checkpoint, folder)
    reader = tf.train.load_checkpoint(str(checkpoint / "model.ckpt"))
    weights = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    edit(weights)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in weights.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"))
    return folder


def reciting_model(checkpoint: Path, folder: Path, tokens: list[int], first: int) -> back_end.GPT2Simple:
    """A model that generates these tokens from position `first` on for any input: layers do nothing, and each position gives a token."""

    def edit(weights: dict[str, Any]) -> None:
        for name in weights:
            if name.endswith("c_proj/w"):
                weights[name] = np.zeros_like(weights[name])
        wte = weights["model/wte"]
        wte -= wte.mean(axis=1, keepdims=True)
        wte /= np.linalg.norm(wte, axis=1, keepdims=True)
        weights["model/ln_f/g"] *= 30
        weights["model/wpe"][first - 1 : first - 1 + len(tokens)] = 100 * wte[tokens]

    return back_end.load(edited_checkpoint(checkpoint, folder, edit))


@pytest.fixture(scope="module")
def soon_ending(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> back_end.GPT2Simple:
    """The tiny model, with a probability of about 15 % for the end token at each step."""

    def edit(weights: dict[str, Any]) -> None:
        weights["model/ln_f/b"] += 1
        weights["model/wte"] -= weights["model/wte"].mean(axis=1, keepdims=True)  # so that the bias has no effect on other tokens
        weights["model/wte"][0] = 0.14

    return back_end.load(edited_checkpoint(checkpoint, tmp_path_factory.mktemp("soon") / "tiny", edit))


def test_number_and_order_of_candidates_and_no_duplicates(generator: back_end.GPT2Simple) -> None:
    rows = sample(generator, COMMENTS)
    assert [row.candidate_id for row in rows] == [f"t1_{c}-{n}" for c in "abc" for n in range(4)]
    assert [row.comment_id for row in rows] == ["t1_a"] * 4 + ["t1_b"] * 4 + ["t1_c"] * 4
    assert len({row.reply for row in rows}) == 12
    assert all(row.log_likelihood is not None and row.log_likelihood < 0 and row.generator == "gpt-2-simple:tiny" for row in rows)


def test_the_graph_does_not_grow(generator: back_end.GPT2Simple) -> None:
    before = len(generator.graph.get_operations())
    many = [(f"t1_{n}", f"Comment {n}" + " more" * (n % 4)) for n in range(50)]
    assert len(sample(generator, many, num_candidates=1, max_new_tokens=4, batch_size=3)) == 50
    assert len(generator.graph.get_operations()) == before


def test_the_text_depends_only_on_the_seed_and_the_comment(generator: back_end.GPT2Simple) -> None:
    together = {row.candidate_id: row.reply for row in sample(generator, COMMENTS, batch_size=40)}
    assert {row.candidate_id: row.reply for row in sample(generator, COMMENTS, seed=2)} != together
    alone = {row.candidate_id: row.reply for row in sample(generator, COMMENTS[::-1], batch_size=1)}
    assert together == alone


def test_seeds_equal_those_of_the_transformers_back_end(generator: back_end.GPT2Simple) -> None:
    expected = [generators.stream_seed(7, n, comment) for _, comment in COMMENTS for n in range(4)]
    assert [row.seed for row in sample(generator, COMMENTS, seed=7, max_new_tokens=1)] == expected


def test_finished_rows_do_not_affect_other_rows(soon_ending: back_end.GPT2Simple) -> None:
    """Every candidate of a mixed batch is the same when drawn alone, and there are no steps after the last one has finished."""
    prompts = [back_end.encode_prompt(soon_ending.bpe, comment, 48) for _, comment in COMMENTS]
    assert len(set(map(len, prompts))) == 3
    seeds = [[10 * place + n for n in range(4)] for place in range(3)]
    tokens, likelihoods = soon_ending.draw(prompts, settings(top_k=1000, top_p=1.0), seeds)
    lengths = (tokens >= 0).sum(axis=2)
    assert len(set(lengths.flatten().tolist())) > 3 and lengths.max() == tokens.shape[2]
    for place, prompt in enumerate(prompts):
        for n, seed in enumerate(seeds[place]):
            alone, likelihood = soon_ending.draw([prompt], settings(top_k=1000, top_p=1.0), [[seed]])
            written = tokens[place, n][: lengths[place, n]]
            assert alone[0, 0].tolist() == written.tolist()
            assert likelihood[0, 0] == pytest.approx(likelihoods[place, n][: len(written)], abs=tiny.rounding(largest=10))  # of logits
            assert (0 in written[:-1]) is False and (written[-1] == 0 or len(written) == 16)


def test_greedy_text_equals_that_of_gpt_2_simple(generator: back_end.GPT2Simple, checkpoint: Path) -> None:
    for comment_id, comment in COMMENTS:
        with tf.Graph().as_default():
            session = gpt_2_simple.start_tf_sess()
            gpt_2_simple.load_gpt2(session, model_name=checkpoint.name, model_dir=str(checkpoint.parent))
            [expected] = gpt_2_simple.generate(
                session,
                model_name=checkpoint.name,
                model_dir=str(checkpoint.parent),
                prefix=back_end.START + text.format_prompt(comment),
                length=16,
                top_k=1,
                return_as_list=True,
            )
            session.close()
        prompt = back_end.encode_prompt(generator.bpe, comment, 48)
        for one in (settings(top_k=1), settings(temperature=1e-4)):
            tokens, _ = generator.draw([prompt], one, [[5]])
            assert generator.bpe.decode(prompt + tokens[0, 0].tolist()) == expected, comment_id
        tokens, _ = generator.draw([[*prompt[:5], *prompt], prompt], settings(top_k=1), [[5], [6]])  # padded
        assert generator.bpe.decode(prompt + tokens[1, 0].tolist()) == expected


def reference_log_likelihood(checkpoint: Path, generator: back_end.GPT2Simple, ids: list[int]) -> Any:
    """The log-likelihood of each token except the first, computed with gpt_2_simple's own model."""
    hparams = back_end.read_hparams(checkpoint)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits = reference_model.model(hparams, tf.constant([ids]))["logits"]
        tf.compat.v1.train.Saver().restore(session, str(checkpoint / "model.ckpt"))
        logp = session.run(tf.nn.log_softmax(logits))[0]
    return np.array([logp[place, token] for place, token in enumerate(ids[1:])])


def test_log_likelihood_is_that_of_the_unmodified_model(generator: back_end.GPT2Simple, checkpoint: Path) -> None:
    """The likelihoods equal those of a forward pass of gpt_2_simple's model over prompt and reply; sample returns their mean."""
    one = settings(temperature=0.7, top_k=50, top_p=0.8)
    prompt = back_end.encode_prompt(generator.bpe, COMMENTS[1][1], 48)
    tokens, likelihoods = generator.draw([prompt], one, [[3]])
    ids = prompt + tokens[0, 0].tolist()
    expected = reference_log_likelihood(checkpoint, generator, ids)[len(prompt) - 1 :]
    assert likelihoods[0, 0] == pytest.approx(expected, abs=tiny.rounding(largest=10))  # of logits
    row = next(generator.sample(COMMENTS[1:2], one, 3))[0]
    drawn, likelihoods = generator.draw([prompt], one, [[row.seed]])
    assert row.log_likelihood == pytest.approx(likelihoods.mean(), abs=tiny.rounding(largest=10))
    assert row.reply == text.parse_reply(generator.bpe.decode(drawn[0, 0].tolist()))


def test_draw_applies_top_k_and_nucleus() -> None:
    p = np.array([0.05, 0.4, 0.1, 0.3, 0.15])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        uniform = np.linspace(0, 0.9999, 1000, dtype=np.float32)[None]
        logits = tf.constant(np.tile(np.log(p), (1, 1000, 1)), tf.float32)

        def shares(temperature: float, top_k: int, top_p: float) -> list[float]:
            drawn, likelihood = session.run(back_end.draw(logits, tf.constant(uniform), temperature, top_k, top_p))
            assert likelihood[0] == pytest.approx(np.log(p[drawn[0]]), abs=tiny.rounding(layers=1, terms=5, largest=3))
            return (np.bincount(drawn[0], minlength=5) / 1000).tolist()

        step = 2 / 1000  # a share of the 1,000 draws begins and ends between two of them

        assert shares(1.0, 99, 1.0) == pytest.approx(p, abs=step)
        assert shares(1.0, 2, 1.0) == pytest.approx([0, 4 / 7, 0, 3 / 7, 0], abs=step)
        assert shares(1.0, 99, 0.75) == pytest.approx([0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85], abs=step)
        assert shares(0.5, 99, 1.0) == pytest.approx(p**2 / (p**2).sum(), abs=step)


@pytest.mark.parametrize("reply", ["Yes, two.", "Yes", "see <|endoftext|> here!", "no (really)", "ends in <"])
def test_a_multi_token_end_ends_a_candidate(checkpoint: Path, bpe: Any, tmp_path: Path, reply: str) -> None:
    """Nothing is generated after the end, an escaped end does not count, and the end counts as one token."""
    prompt = back_end.encode_prompt(bpe, "Any?", 48)
    row = back_end.encode_training_row(bpe, "Any?", reply)
    more = row[len(prompt) :] + row
    shutil.rmtree(tmp_path / "reciting", ignore_errors=True)
    with_room = tmp_path / "room"
    tiny.gpt2_checkpoint(with_room, n_ctx=160)
    recite = reciting_model(with_room, tmp_path / "reciting", more, len(prompt))
    one = settings(max_new_tokens=80, num_candidates=2)
    tokens, likelihoods = recite.draw([prompt], one, [[1, 2]])
    assert tokens[0].tolist() == [row[len(prompt) : -1]] * 2  # without the line break
    [first, _] = next(recite.sample([("t1_a", "Any?")], one, 1))
    assert first.reply == reply
    spelt = len(bpe.encode("<|endoftext|>"))
    assert first.log_likelihood == pytest.approx(likelihoods[0, 0].sum() / (tokens.shape[2] - spelt + 1))


def test_prompt_is_a_token_prefix_of_the_loaders_rows(bpe: Any, tmp_path: Path) -> None:
    pairs = [(comment, reply) for comment in (*AWKWARD, "Plain words.") for reply in ("Dune.", *AWKWARD)]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text.format_training_text(*pair)] for pair in pairs)])
    [loaded] = load_dataset(bpe, str(tmp_path / "rows.csv"), 50_000)
    rows = [back_end.encode_training_row(bpe, *pair) for pair in pairs]
    assert loaded.tolist() == [token for row in rows for token in row]
    for (comment, _), row in zip(pairs, rows, strict=True):
        prompt = back_end.encode_prompt(bpe, comment, 1000)
        assert row[: len(prompt)] == prompt and bpe.decode(prompt).startswith("<|startoftext|>")
    # merged with adjacent characters, so the end must not be encoded separately
    assert back_end.encode_training_row(bpe, "x", "y.")[-len(bpe.encode("<|endoftext|>\n")) - 1 :] != bpe.encode(".") + bpe.encode(
        "<|endoftext|>\n"
    )


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_prompt_is_a_token_prefix_for_any_text(bpe: Any, comment: str, reply: str) -> None:
    comment, reply = text.clean(comment), text.clean(reply)
    row, prompt = back_end.encode_training_row(bpe, comment, reply), back_end.encode_prompt(bpe, comment, 1000)
    assert row[: len(prompt)] == prompt


def test_a_long_comment_is_truncated_between_start_and_separator(generator: back_end.GPT2Simple) -> None:
    long = back_end.encode_prompt(generator.bpe, "book " * 500, 40)
    decoded = generator.bpe.decode(long)
    assert len(long) == 40 and decoded.startswith("<|startoftext|>book") and decoded.endswith(" [SEP]")
    rows = sample(generator, [("t1_a", "book " * 500)], max_prompt_tokens=900, max_new_tokens=16)  # n_ctx is 64
    assert len(rows) == 4
    with pytest.raises(UserError, match=r"max_prompt_tokens 48 and max_new_tokens 60 leave 4 of 64 tokens"):
        sample(generator, COMMENTS, max_new_tokens=60)


@pytest.mark.usefixtures("cold")
def test_file_to_file_without_pytorch(checkpoint: Path, tmp_path: Path) -> None:
    """A worker started like in `run` loads only TensorFlow."""
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], [{"comment_id": i, "comment": c} for i, c in COMMENTS])
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('bot', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'torch', 'transformers', 'tensorflow'} & set(sys.modules)))"
    )
    settings = {"backend": "gpt-2-simple", "model": str(checkpoint), "max_new_tokens": "16"}
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "generate",
            "--in",
            str(tmp_path / "in.csv"),
            "--out",
            str(tmp_path / "out.csv"),
            "--num-candidates",
            "3",
        ],
        cwd=ROOT,
        env={**os.environ, **{f"BOT_GENERATE__{name.upper()}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "['tensorflow']"
    rows = schema.read_rows(tmp_path / "out.csv", Candidate)
    assert [row.candidate_id for row in rows] == [f"t1_{c}-{n}" for c in "abc" for n in range(3)]


def test_error_messages(checkpoint: Path, tmp_path: Path) -> None:
    def broken(name: str, change: Callable[[Path], object]) -> Path:
        shutil.copytree(checkpoint, tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    def hparams(folder: Path, **changes: object) -> None:
        content = json.loads((folder / "hparams.json").read_text())
        (folder / "hparams.json").write_text(json.dumps({**content, **changes}))

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    (tmp_path / "empty").mkdir()
    for folder, message in (
        (tmp_path / "nothing", "checkpoint, hparams.json, encoder.json, vocab.bpe missing; pull it again"),
        (tmp_path / "empty", "not a complete gpt-2-simple checkpoint"),
        (broken("no_bpe", lambda folder: (folder / "vocab.bpe").unlink()), "checkpoint, vocab.bpe missing"),
        (broken("no_data", lambda folder: (folder / "model.ckpt.data-00000-of-00001").unlink()), r"names model.ckpt, but"),
        (broken("half", lambda folder: cut(folder / "model.ckpt.data-00000-of-00001")), "model.ckpt is damaged"),
        (broken("half_index", lambda folder: cut(folder / "model.ckpt.index")), "model.ckpt is damaged"),
        (broken("no_state", lambda folder: (folder / "checkpoint").write_text("")), "names no checkpoint"),
        (broken("garbled", lambda folder: (folder / "hparams.json").write_text("{")), "hparams.json: expected n_vocab, "),
        (broken("bpe", lambda folder: cut(folder / "encoder.json")), "encoder.json or vocab.bpe is not readable"),
        (broken("half_bpe", lambda folder: cut(folder / "vocab.bpe")), r"vocab.bpe does not match encoder.json, \d+ tokens"),
        (broken("wide", lambda folder: hparams(folder, n_embd=48)), r"model/wte is \[\d+, 32\], expected \[\d+, 48\]"),
        (broken("deep", lambda folder: hparams(folder, n_layer=3)), "model/h2/.* is missing, expected"),
        (broken("flat", lambda folder: hparams(folder, n_layer=1)), "unexpected layer h1"),
        (broken("context", lambda folder: hparams(folder, n_ctx=1024)), r"model/wpe is \[64, 32\], expected \[1024, 32\]"),
        (broken("heads", lambda folder: hparams(folder, n_head=5)), "n_embd 32 is not a multiple of n_head 5"),
        (broken("vocabulary", lambda folder: hparams(folder, n_vocab=300)), "tokens, but hparams.json says 300"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            generators.load("gpt-2-simple", folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


WINDOWS = [r"C:\\Users\\me\\run1\\model-200", r"run1\\model-200", r"C:/Users/me\\run1/model-200", "C:model-200", r"\\\\pc\\run1\\model-200"]


def moved(checkpoint: Path, run: Path, written: str) -> Path:
    """A copy as `finetune` writes it: other file names, and a `checkpoint` file with the path of another machine."""
    run.mkdir()
    for name in ("hparams.json", "encoder.json", "vocab.bpe"):
        shutil.copy(checkpoint / name, run)
    for ending in (".index", ".data-00000-of-00001"):
        shutil.copy(checkpoint / f"model.ckpt{ending}", run / f"model-200{ending}")
    (run / "checkpoint").write_text(f'model_checkpoint_path: "{written}"\n')
    return run


@pytest.mark.parametrize("written", ["/content/checkpoint/run1/model-200", "model-200", *WINDOWS])
def test_a_moved_checkpoint_folder_of_finetune(written: str, checkpoint: Path, tmp_path: Path) -> None:
    run = moved(checkpoint, tmp_path / "run1", written)
    assert back_end.find_checkpoint(run) == run / "model-200"
    if written == WINDOWS[0]:
        assert generate.generators.load("gpt-2-simple", run).name == "gpt-2-simple:run1"  # type: ignore[attr-defined]
