"""Encoder–decoders in Keras: vocabulary, networks, decoding, and training that is killed, resumed and stopped early."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import generators, schema
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.evaluate import model as evaluation
from bot.rankers import score_files
from bot.schema import LmRow, LossRow
from bot.train import command, lm_keras_seq2seq, lm_keras_transformer, loop
from bot.weights import cards
from tests import tiny

PAIRS = [
    ("Which book made you laugh out loud on the train?", "Try the one about the lighthouse keeper."),
    ("My kettle takes ten minutes to boil, is that normal?", "Vinegar works!"),
    ("Should I write about Saturdays?", "They read a thousand essays about winning, write about Saturdays."),
]
COMMENTS = [(f"t1_{number}", comment) for number, (comment, _) in enumerate(PAIRS)]
GREEDY = GenerateSettings(num_candidates=1, top_k=1, max_new_tokens=32)
FAMILIES = [
    ("keras-seq2seq", {}),
    ("keras-seq2seq", {"attention": "bahdanau", "bidirectional": False, "teacher_forcing": 0.9, "layers": 2}),
    ("keras-transformer", {}),
]


@pytest.fixture(autouse=True, scope="module")
def eager() -> None:
    tiny.eager_again()


def options(backend: str, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    small = {"vocabulary": 500, "epochs": 1, "batch_tokens": 150, "max_tokens": 32, "learning_rate": 1e-2, "dropout": 0.1}
    return {"data": data, "out": out, **small, **tiny.ENCODER_DECODERS[backend], **changes}


def train(backend: str, data: Path, out: Path, **changes: Any) -> list[LossRow]:
    """Train, and return the losses that were written."""
    tiny.train("lm", backend, **options(backend, data, out, **changes))
    return schema.read_rows(out / "losses.csv", LossRow)


def load(backend: str, folder: Path) -> Any:
    return generators.load(backend, folder)


@pytest.fixture(scope="module", params=FAMILIES, ids=["luong", "bahdanau", "transformer"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """Back end, folder and options of a model that was trained on PAIRS until it knows them."""
    backend, changes = request.param
    folder = tmp_path_factory.mktemp(backend)
    epochs = 14 if "teacher_forcing" in changes else 6  # with its own tokens it learns more slowly
    changes = {**changes, "epochs": epochs, "patience": epochs, "dropout": 0.0}
    train(backend, tiny.lm_rows(PAIRS * 40, folder / "data", PAIRS), folder / "lm", **changes)
    return backend, folder / "lm", changes


@pytest.fixture(scope="module")
def after_an_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keras-transformer that was trained for one epoch on PAIRS."""
    folder = tmp_path_factory.mktemp("epoch")
    train("keras-transformer", tiny.lm_rows(PAIRS, folder / "data"), folder / "lm")
    return folder / "lm"


@pytest.fixture(scope="module")
def generator(trained: tuple[str, Path, dict[str, Any]]) -> Any:
    return load(*trained[:2])


# --- decoding -----------------------------------------------------------------------------------------------------------


def test_a_model_learns_its_pairs(generator: Any) -> None:
    found = {row.comment_id: row for [row] in generator.sample(COMMENTS, GREEDY, 1)}
    assert [found[comment_id].reply for comment_id, _ in COMMENTS] == [reply for _, reply in PAIRS]
    assert all(math.exp(row.log_likelihood) > 0.5 for row in found.values())


def test_beam_search(generator: Any) -> None:
    sources = generator.vocabulary.sources(["Which kettle should I write about?", "winning on a train"], 32)
    one = GREEDY.model_copy(update={"max_new_tokens": 12})
    greedy = dict(generator.draws(sources, [1, 2], one))
    assert dict(generator.beams(sources, one)) == {row: (ids, pytest.approx(total, abs=1e-4)) for row, (ids, total) in greedy.items()}
    wide = one.model_copy(update={"beam_width": 6, "num_candidates": 4})
    [found] = generator.sample([("t1_a", "Which kettle should I write about?")], wide, 1)
    likelihoods = [row.log_likelihood for row in found]
    assert len({row.reply for row in found}) > 1 and likelihoods == sorted(likelihoods, reverse=True)
    assert likelihoods[0] >= greedy[0][1] / len(greedy[0][0]) - 1e-4
    with pytest.raises(UserError, match="num_candidates 10 is more than beam_width 6"):
        next(generator.sample(COMMENTS, GREEDY.model_copy(update={"beam_width": 6, "num_candidates": 10}), 1))


def test_likelihoods_depend_neither_on_the_batch_nor_on_padding(generator: Any) -> None:
    texts = [*PAIRS, ("x", "Vinegar works on a train!"), ("My kettle " * 30, "boil"), ("[SEP]", "the end <|endoftext|>")]
    together = generator.log_likelihoods(texts, GREEDY)
    alone = [generator.log_likelihoods([pair], GREEDY)[0] for pair in texts]
    assert together == pytest.approx(alone, abs=tiny.rounding(largest=20)) and len({round(value, 3) for value in together}) == len(texts)


def test_likelihood_of_a_candidate_and_of_the_same_tokens_given(generator: Any) -> None:
    from bot.generators.encoder_decoder import decoder_inputs, padded

    settings = GenerateSettings(num_candidates=6, temperature=1.5, top_p=1, max_new_tokens=32)
    sources = generator.vocabulary.sources([comment for comment, _ in PAIRS], 32)
    drawn = dict(generator.draws(sources, range(18), settings))
    targets = padded([drawn[row][0] for row in range(18)])
    given = generator.nats(padded([sources[row // 6] for row in range(18)]), decoder_inputs(targets), targets).numpy()
    assert [drawn[row][1] for row in range(18)] == pytest.approx(list(-given), abs=tiny.rounding(terms=32 * 64, largest=200))
    [found] = generator.sample(COMMENTS[:1], settings, 3)
    [ids] = generator.vocabulary.sources([PAIRS[0][0]], 32)
    again = dict(generator.draws([ids], [row.seed for row in found], settings))
    assert [row.log_likelihood for row in found] == pytest.approx([again[n][1] / len(again[n][0]) for n in range(6)], abs=1e-4)


def test_settings_of_sampling(generator: Any) -> None:
    from bot.generators.encoder_decoder import adjusted

    settings = GenerateSettings(num_candidates=4, temperature=2, top_p=1, max_new_tokens=20, min_new_tokens=20)
    [found] = generator.sample(COMMENTS[1:2], settings, 3)
    drawn = dict(generator.draws(generator.vocabulary.sources([PAIRS[1][0]], 32), [1, 2], settings))
    assert len({row.reply for row in found}) == 4 and {len(ids) for ids, _ in drawn.values()} == {20}
    penalty = GenerateSettings(repetition_penalty=2.0)
    assert adjusted(np.array([[2.0, -2.0, 1.0]]), [[0, 1, 1]], penalty).tolist() == [[1.0, -4.0, 1.0]]
    with pytest.raises(UserError, match="max_new_tokens 60: .* at most 32 tokens"):
        next(generator.sample(COMMENTS, GenerateSettings(), 1))


def test_only_the_back_ends_with_beam_search_accept_a_beam_width() -> None:
    with pytest.raises(UserError, match=r"generate.beam_width: not supported by this back end"):
        generators.prompt_room(GenerateSettings(beam_width=2), 1024, 5)


# --- vocabulary ---------------------------------------------------------------------------------------------------------


def test_control_tokens_that_people_type_are_text() -> None:
    from bot.generators.encoder_decoder import CONTROL, END, SEPARATOR, Vocabulary

    vocabulary = Vocabulary.train(PAIRS, 320)
    assert 270 < len(vocabulary) <= 320
    for body in ("a [SEP] b", "<|endoftext|>", "[PAD] <|startoftext|>", "x\N{GRINNING FACE} أي", "[SEP]"):
        [source], [target] = vocabulary.sources([body], 99), vocabulary.targets([("c", body)])
        assert source[-1] == SEPARATOR and not {*source[:-1]} & {*CONTROL}
        assert target[-1] == END and not {*target[:-1]} & {*CONTROL} and target[:-1] == source[:-1]
        assert vocabulary.decode(target) == body
    [long] = vocabulary.sources(["boil " * 50], 8)
    assert len(long) == 8 and long[-1] == SEPARATOR
    assert vocabulary.tokenizer.to_str() == Vocabulary.train(PAIRS, 320).tokenizer.to_str()


# --- networks -----------------------------------------------------------------------------------------------------------


def test_scheduled_sampling_reads_the_networks_own_tokens(generator: Any, trained: tuple[str, Path, dict[str, Any]]) -> None:
    if trained[0] == "keras-transformer":
        pytest.skip("only the LSTM decoder has scheduled sampling")
    from bot.generators.encoder_decoder import START, decoder_inputs, padded, tf

    network = generator.network
    source = padded(generator.vocabulary.sources([comment for comment, _ in PAIRS], 32))
    inputs = decoder_inputs(padded([[20, 21, 22, 23, 24]] * 3))
    forced = network(source, inputs).numpy()
    assert network(source, inputs, np.ones_like(inputs, bool)).numpy() == pytest.approx(forced, abs=1e-5)
    memory, own = network.encode(source), tf.fill([3], START)
    state = network.start(memory)
    for place, features in enumerate(np.moveaxis(network(source, inputs, np.zeros_like(inputs, bool)).numpy(), 1, 0)):
        expected, state = network.step(memory, state, own)
        assert features == pytest.approx(expected.numpy(), abs=1e-5)
        assert (np.abs(features - forced[:, place]).max() < 1e-5) == (place == 0)
        own = tf.argmax(network.logits(expected), axis=1, output_type=tf.int32)


# --- training -----------------------------------------------------------------------------------------------------------


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the second epoch, with a best epoch in the checkpoint. Scheduled sampling and dropout draw random numbers."""
    from bot.train.encoder_decoder import CHECKPOINT

    backend, changes = FAMILIES[1]
    data = tiny.lm_rows(PAIRS * 10, tmp_path / "data")
    whole = train(backend, data, tmp_path / "whole", epochs=3, patience=3, **changes)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after each step
    save, written = loop.Run.save, []

    def stop(run: loop.Run) -> None:
        save(run)
        written.append(len(run.losses))
        if len(written) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(backend, data, tmp_path / "lm", epochs=3, patience=3, **changes)
    assert [path.name for path in (tmp_path / "lm").iterdir()] == [CHECKPOINT]
    with pytest.raises(UserError, match="run with other settings"):
        train(backend, data, tmp_path / "lm", epochs=3, patience=3, **{**changes, "clip_norm": 0.5})
    resumed = train(backend, data, tmp_path / "lm", epochs=3, patience=3, **changes)
    for name in ("train_loss", "val_loss"):
        losses = [[getattr(row, name) or 0.0 for row in rows] for rows in (resumed, whole)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert whole[-1].val_loss < whole[0].train_loss - 0.5 and sum(row.val_loss is not None for row in whole) == 3  # type: ignore[operator]
    texts = [generator.log_likelihoods(PAIRS, GREEDY) for generator in (load(backend, tmp_path / name) for name in ("whole", "lm"))]
    assert texts[0] == pytest.approx(texts[1], abs=1e-3)


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out pairs have the words of the training pairs, but other replies, so that the model soon fits them less."""
    other = [(comment, PAIRS[place - 1][1]) for place, (comment, _) in enumerate(PAIRS)]
    data = tiny.lm_rows(PAIRS * 20, tmp_path / "data", other)
    losses = train("keras-seq2seq", data, tmp_path / "lm", epochs=30, patience=2)
    measured = [row.val_loss for row in losses if row.val_loss is not None]
    best = int(np.argmin(measured))
    card = cards.read_card(tmp_path / "lm")
    assert len(measured) == best + 3 < 30 and (card.metrics["best_epoch"], card.metrics["epochs"]) == (best + 1, len(measured))
    monkeypatch.setattr(score_files, "start", tiny.start_in_process)
    held_out = evaluation.measure_generator(tmp_path / "lm", card, data, tmp_path)
    assert math.log(held_out["test_perplexity"]) == pytest.approx(measured[best], abs=1e-4)
    assert not any(name.endswith("_base") for name in held_out)
    tokens = [len(ids) for ids in load("keras-seq2seq", tmp_path / "lm").vocabulary.targets(other)]
    bits = measured[best] * sum(tokens) / math.log(2) / sum(len(reply) for _, reply in other)
    assert held_out["test_bits_per_character"] == pytest.approx(bits, rel=1e-3)


def test_learning_rates_and_clipping(tmp_path: Path) -> None:
    """One step of SGD moves the encoder by its learning rate times the clipped norm, and the decoder not at all."""
    import keras

    from bot.generators import keras_seq2seq
    from bot.generators.encoder_decoder import initialized

    data = tiny.lm_rows(PAIRS, tmp_path / "data")
    changes = {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "decoder_learning_rate": 0.0,
        "clip_norm": 0.02,
        "batch_tokens": 9999,
        "dropout": 0.0,
    }
    train("keras-seq2seq", data, tmp_path / "lm", **changes)
    keras.utils.set_random_seed(1)
    before = initialized(keras_seq2seq.build(cards.read_card(tmp_path / "lm").settings))
    after = load("keras-seq2seq", tmp_path / "lm").network
    encoder = {id(variable) for variable in before.encoder_variables()}
    moved = {True: 0.0, False: 0.0}
    for old, new in zip(before.trainable_variables, after.trainable_variables, strict=True):
        moved[id(old) in encoder] += float(((old.numpy() - new.numpy()) ** 2).sum())
    assert moved[False] == 0 and 0.001 < math.sqrt(moved[True]) <= 0.5 * 0.02 * 1.001


def test_label_smoothing_flattens_the_predictions_and_is_not_part_of_the_losses(tmp_path: Path) -> None:
    from bot.generators.encoder_decoder import decoder_inputs, keras, padded
    from bot.train import encoder_decoder as trainer

    data = tiny.lm_rows(PAIRS, tmp_path / "data")
    rows = {each: schema.read_rows(data / f"lm_{each}.csv", LmRow) for each in ("train", "val")}
    losses = []
    for smoothing in (0.0, 0.8):
        keras.utils.set_random_seed(1)
        settings = lm_keras_transformer.Options(**options("keras-transformer", data, tmp_path, label_smoothing=smoothing, dropout=0.0))
        recipe = lm_keras_transformer.recipe(settings)
        vocabulary, pairs, _, validation = trainer.encode(rows, settings)
        run = trainer.Trainer(settings, recipe, trainer.initialized(recipe, settings, len(vocabulary)), pairs, validation)
        for _, peak, optimizer in run.groups:
            optimizer.learning_rate = peak
        source, targets = padded([each for each, _ in pairs]), padded([each for _, each in pairs])
        losses.append([float(run.gradient_step(source, decoder_inputs(targets), targets)) for _ in range(12)])
    plain, smoothed = losses
    assert plain[0] == pytest.approx(smoothed[0], abs=1e-5)  # of the same weights, without the smoothing
    assert plain[-1] < smoothed[-1] - 0.2 < plain[0] - 0.2


def test_sgd_decays_with_each_epoch_and_the_transformer_warms_up() -> None:
    sgd = lm_keras_seq2seq.recipe(lm_keras_seq2seq.Options(optimizer=lm_keras_seq2seq.Optimizer.sgd, decay=0.5))
    assert [sgd.rate(7, epoch, 100, 2.0) for epoch in range(3)] == [2.0, 1.0, 0.5]
    transformer = lm_keras_transformer.recipe(lm_keras_transformer.Options(warmup=10))
    rates = [transformer.rate(step, 0, 100, 2.0) for step in range(100)]
    assert rates.index(max(rates)) in (8, 9, 10) and max(rates) == pytest.approx(2.0, rel=0.1) and rates[-1] < 1 and rates[0] < 0.5


def test_errors_of_options_and_data(tmp_path: Path) -> None:
    data = tiny.lm_rows(PAIRS, tmp_path / "data")
    with pytest.raises(UserError, match="--width 32 is not a multiple of twice --heads 3"):
        train("keras-transformer", data, tmp_path / "lm", heads=3)
    with pytest.raises(UserError, match=r"lm_train.csv: no reply of at most 8 tokens; raise --max-tokens"):
        train("keras-seq2seq", tiny.lm_rows([("a", "boil " * 99)], tmp_path / "long"), tmp_path / "lm", max_tokens=8)
    with pytest.raises(UserError, match="--base: not an option of --backend keras-seq2seq"):
        command.lm(backend="keras-seq2seq", data=data, out=tmp_path / "lm", base="124M")
    with pytest.raises(UserError, match=r"step \d+: the loss is (nan|inf)"):
        train("keras-seq2seq", data, tmp_path / "lm", learning_rate=1e30, clip_norm=1e30, epochs=9)
    with pytest.raises(UserError, match="lm.*model.json is missing"):
        load("keras-transformer", tmp_path / "lm")


def test_damaged_models(after_an_epoch: Path, tmp_path: Path) -> None:
    shutil.copytree(after_an_epoch, tmp_path / "lm")
    with pytest.raises(UserError, match=r"lm: not a model of back end keras-seq2seq; set generate.backend"):
        load("keras-seq2seq", tmp_path / "lm")
    with pytest.raises(UserError, match=r'lm: a model of back end keras-transformer; set generate.backend = "keras-transformer"'):
        generators.load("ctranslate2", tmp_path / "lm")
    weights = tmp_path / "lm" / "model.weights.h5"
    whole = weights.read_bytes()
    for content in (whole[:2000], b"", b"\0" * 9000):
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"lm: model.weights.h5 does not fit or is damaged"):
            load("keras-transformer", tmp_path / "lm")
    weights.write_bytes(whole)
    (tmp_path / "lm" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json: not readable"):
        load("keras-transformer", tmp_path / "lm")


@pytest.mark.usefixtures("cold")
def test_training_and_likelihoods_load_no_pytorch(tmp_path: Path) -> None:
    """By the command line, one after the other in one process."""
    data = tiny.lm_rows(PAIRS, tmp_path / "data")
    small = {name: value for name, value in options("keras-transformer", data, tmp_path).items() if name not in ("data", "out")}
    schema.write_table(tmp_path / "in.csv", ["comment", "reply"], [dict(zip(("comment", "reply"), pair, strict=True)) for pair in PAIRS])
    program = f"""
import os, sys
from pathlib import Path
from bot.rankers import scoring
from bot.train import command
folder = Path({str(tmp_path)!r})
command.lm(backend="keras-transformer", data=folder / "data", out=folder / "lm", evaluate=False, **{small!r})
os.environ |= {{"BOT_GENERATE__BACKEND": "keras-transformer", "BOT_GENERATE__MODEL": str(folder / "lm")}}
scoring.main(folder / "in.csv", folder / "out.csv", likelihood=True)
print([name for name in ("torch", "transformers") if name in sys.modules], "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] True"
    _, rows = schema.read_table(tmp_path / "out.csv")
    assert len(rows) == len(PAIRS) and all(float(row["log_likelihood"]) < 0 for row in rows)


def test_rows_of_a_perplexity(after_an_epoch: Path) -> None:
    from bot.generators import keras_transformer

    rows = [LmRow("t3_a", "t1_a", "t1_b", "s", comment, reply) for comment, reply in (*PAIRS, ("a", "boil " * 99))]
    measured = keras_transformer.reply_perplexity(after_an_epoch, rows, 9, {"seed": 1})
    assert measured["rows"] == 3 and 5 < measured["perplexity"] < 2000
    generator = keras_transformer.load(after_an_epoch, "float32")
    counts, means = generator.token_counts(PAIRS), generator.log_likelihoods(PAIRS, GenerateSettings())
    total = -sum(count * mean for count, mean in zip(counts, means, strict=True))
    assert total / sum(counts) == pytest.approx(np.log(measured["perplexity"]), rel=1e-5)  # sums of float32
    assert generator.token_counts([("a", "boil " * 99)])[0] > 99
    with pytest.raises(UserError, match="no reply has at most 32 tokens"):
        keras_transformer.reply_perplexity(after_an_epoch, rows[3:], 9, {"seed": 1})
