"""The ranker of word vectors and stacked BiLSTMs: invented vectors of 8 numbers, invented rows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import files, rankers, schema
from bot.cli import ROOT, UserError
from bot.rankers.glove_bilstm import GloveBilstm, Network, ids_of, padded, words_of
from bot.schema import LossRow, RealismRow, UpvotePair
from bot.train import glove_bilstm, loop, siblings, upvote_glove_bilstm
from bot.train.realism_glove_bilstm import Options
from bot.weights import bases, cards, serving
from tests import tiny

ANIMALS, PEOPLE, VERBS = ("dog", "goat", "goose", "horse"), ("baker", "pilot", "clerk", "nurse"), ("bites", "hears", "greets", "follows")
SUBREDDITS = ("sandbox_pets", "sandbox_work")
OTHER_WORDS = ("unused", "stranger", ".", "'", "?")


@pytest.fixture(scope="module", autouse=True)
def eager() -> None:
    tiny.eager_again()  # other test modules import gpt_2_simple


@pytest.fixture(scope="module")
def glove(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of 8 numbers for all words of the data but `nurse`, and for some others."""
    rng = np.random.default_rng(0)
    words = ["the", *ANIMALS, *PEOPLE[:-1], *VERBS, "who", "said", "that", *OTHER_WORDS]
    path = tmp_path_factory.mktemp("glove") / "glove.tiny.8d.txt"
    path.write_text("".join(f"{word} {' '.join(f'{each:.4f}' for each in rng.normal(size=8))}\n" for word in words))
    return path


def sentences(animal_first: bool) -> list[str]:
    """Both kinds consist of the same words, so only their order tells them apart."""
    pairs = [(f"The {animal} {verb} the {person}.", f"The {person} {verb} the {animal}.")
             for animal in ANIMALS for person in PEOPLE for verb in VERBS]  # fmt: skip
    return [pair[0 if animal_first else 1] for pair in pairs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Animals first is real and liked. Each split has other sentences."""
    folder = tmp_path_factory.mktemp("data")
    real, fake = sentences(True), sentences(False)
    order = np.random.default_rng(1).permutation(len(real)).tolist()
    for each, rows in (("train", order[:44]), ("val", order[44:54]), ("test", order[54:])):
        threads = dict(zip(rows, tiny.numbers_of_rankers(each, len(rows)), strict=True))
        ids = {row: (f"t3_{each}{n}", f"t1_{each}{n}", f"t1_r{each}{n}") for row, n in threads.items()}
        own = [RealismRow(*ids[row], SUBREDDITS[row % 2], "Who said that?", body, label, "" if label else "g")
               for row in rows for label, body in ((1, real[row]), (0, fake[row]))]  # fmt: skip
        schema.write_rows(folder / f"realism_{each}.csv", RealismRow, own)
        pairs = [UpvotePair(*ids[row], f"{ids[row][2]}x", SUBREDDITS[row % 2], "Who said that?", real[row], fake[row], 30, 0.5)
                 for row in rows]  # fmt: skip
        schema.write_rows(folder / f"upvote_pairs_{each}.csv", UpvotePair, pairs)
    return folder


SMALL = {"rows": 200, "epochs": 40, "batch_tokens": 200, "learning_rate": 3e-2, "units": 12, "dense": 12, "dropout": 0.1, "patience": 8}


def train(kind: str, data: Path, glove: Path, out: Path, **changes: Any) -> None:
    tiny.train(kind, "glove-bilstm", data=data, base=str(glove), out=out, **(SMALL | changes))


@pytest.fixture(scope="module")
def realism(data: Path, glove: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("realism")
    train("realism", data, glove, out)
    return out


# --- words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("I can't, won\N{RIGHT SINGLE QUOTATION MARK}t and shouldn't", ["i", "ca", "n't", ",", "wo", "n't", "and", "should", "n't"]),
        ("They're the dog's, I'd say we've 'em", ["they", "'re", "the", "dog", "'s", ",", "i", "'d", "say", "we", "'ve", "'", "em"]),
        ("n't isn't n'tx ain't", ["n't", "is", "n't", "n", "'", "tx", "ai", "n't"]),
        ("At 12:30 for $10,000.50 (or 3.5)!", ["at", "12:30", "for", "$", "10,000.50", "(", "or", "3.5", ")", "!"]),
        ("The U.S. and E.U. e-mail 3pm 2nd", ["the", "u.s.", "and", "e.u.", "e", "-", "mail", "3pm", "2nd"]),
        ("Wait..... what\N{HORIZONTAL ELLIPSIS} --- no", ["wait", "...", "what", "...", "--", "no"]),
        (
            "\N{LEFT DOUBLE QUOTATION MARK}Caf\u0065\u0301\N{RIGHT DOUBLE QUOTATION MARK} snake_case",
            ['"', "café", '"', "snake", "_", "case"],
        ),
        ("zero\u200bwidth\u00ad\ufeff", ["zerowidth"]),
        (" \n\t\u200b", []),
        ("\N{GRINNING FACE}\N{THUMBS UP SIGN}", ["\N{GRINNING FACE}", "\N{THUMBS UP SIGN}"]),
    ],
)
def test_words_are_split_as_in_the_vocabulary_of_glove(body: str, words: list[str]) -> None:
    assert words_of(body) == words
    assert words_of(body.upper()) == words_of(body.lower())


def test_texts_without_words_and_long_texts() -> None:
    assert ids_of([], {"a": 2}, 5) == [1]
    assert ids_of(["a"] * 9, {"a": 2}, 5) == [2] * 5
    assert padded([[2, 3], [4]]).tolist() == [[2, 3], [4, 0]]
    words_of("n'" * 50_000 + "'" * 50_000 + "a." * 50_000 + "1," * 50_000 + "1a")  # no time that grows with the square of the length


# --- training and scoring -----------------------------------------------------------------------------------------------


def test_realism_ranker_learns_the_order_of_words(realism: Path, data: Path) -> None:
    ranker = rankers.load("glove-bilstm", realism)
    rows = schema.read_rows(data / "realism_test.csv", RealismRow)
    assert all(sorted(words_of(one.reply)) == sorted(words_of(two.reply)) for one, two in zip(rows[::2], rows[1::2], strict=True))
    scores = np.array(ranker.score([(row.comment, row.reply) for row in rows]))
    assert np.mean((scores > 0.5) == [row.label for row in rows]) > 0.85
    assert np.mean(scores[::2] > scores[1::2]) > 0.85


def test_the_model_folder(realism: Path, data: Path, glove: Path) -> None:
    card = cards.read_card(realism)
    assert (card.kind, card.base, card.format, card.base_sha256) == ("realism", "glove.tiny.8d.txt", "full", files.sha256_of(glove))
    assert card.data["realism_train.csv"] == {"rows": 88, "sha256": files.sha256_of(data / "realism_train.csv")}
    assert {path.name for path in realism.iterdir() if path.suffix != ".json"} == {
        "words.txt", "weights.npz", "losses.csv", "coverage.png"
    }  # fmt: skip
    assert str(data) not in (realism / "model.json").read_text() and str(glove.parent) not in (realism / "model.json").read_text()
    words = (realism / "words.txt").read_text(encoding="utf-8").split()
    assert {*ANIMALS, *PEOPLE[:-1], *VERBS} < {*words} and "nurse" not in words and not {"unused", "stranger"} & {*words}
    with np.load(realism / "weights.npz") as weights:
        assert weights["vectors"].shape == (len(words) + 2, 8) and weights["vectors"].dtype == np.float16
        line = next(line for line in glove.read_text().splitlines() if line.startswith("goose "))
        expected = np.array(line.split()[1:], np.float32).astype(np.float16)
        assert np.array_equal(weights["vectors"][words.index("goose") + 2], expected)  # frozen
        assert not weights["vectors"][0].any() and weights["vectors"][1].any()  # padding, unknown
    losses = schema.read_rows(realism / "losses.csv", LossRow)
    assert [row.step for row in losses] == list(range(1, len(losses) + 1))
    assert min(row.val_loss for row in losses if row.val_loss is not None) < 0.3 < losses[0].train_loss


def test_neither_vectors_nor_base_are_needed_for_scoring(realism: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path)
    shutil.copytree(realism, tmp_path / "moved")
    pair = ("Who said that?", "The goat hears the pilot.")
    assert rankers.load("glove-bilstm", tmp_path / "moved").score([pair]) == rankers.load("glove-bilstm", realism).score([pair])
    assert sum(path.stat().st_size for path in realism.iterdir()) < 200_000


def test_padding_has_no_effect(realism: Path) -> None:
    ranker: Any = rankers.load("glove-bilstm", realism)
    short, long = ("Who?", "The dog bites the baker."), ("Who said that? " * 20, "The pilot greets the goose. " * 16)
    alone, together = ranker.logits([short], 1), ranker.logits([short, long, short], 8)
    bound = tiny.rounding(terms=24, largest=max(map(abs, together)) + 1)
    assert together[0] == pytest.approx(alone[0], abs=bound) and together[2] == together[0]
    assert abs(together[1] - together[0]) > 100 * bound
    ids = ranker.network.encoder(padded([[2, 3, 4]]))
    wide = ranker.network.encoder(np.array([[2, 3, 4, 0, 0, 0, 0, 0]], np.int32))
    assert np.abs(ids.numpy() - wide.numpy()).max() < tiny.rounding()


def test_unknown_words(realism: Path) -> None:
    ranker = rankers.load("glove-bilstm", realism)
    texts = [
        "The zyzzyva bites the baker.",
        "The nurse bites the baker.",
        "The unused bites the baker.",
        "The dog bites the baker.",
        "",
        "?!",
    ]
    scores = ranker.score([("Who said that?", body) for body in texts])
    assert scores[0] == scores[1] == scores[2] != scores[3]
    assert all(0 <= score <= 1 for score in scores)
    both = ranker.score([("Who said that?", texts[3]), (texts[3], "Who said that?")])
    assert both[0] != both[1]  # comment and reply are not interchangeable


def test_fine_tuned_vectors_and_a_smaller_vocabulary(realism: Path, data: Path, glove: Path, tmp_path: Path) -> None:
    """Fine-tuned, `nurse` has a vector, too, although the file has none; the rarest of the 18 words is left out."""
    train("realism", data, glove, tmp_path / "tuned", fine_tune=True, vocabulary=17, epochs=6)
    words, before = ((folder / "words.txt").read_text().split() for folder in (tmp_path / "tuned", realism))
    settings = cards.read_card(tmp_path / "tuned").settings
    assert len(words) == settings["words"] == settings["vocabulary"] == 17 and settings["fine_tuned"] and "nurse" in words
    assert settings["coverage"] == round(16 / 17, 4) and 0.8 < settings["coverage_of_occurrences"] < 1
    with np.load(tmp_path / "tuned" / "weights.npz") as tuned, np.load(realism / "weights.npz") as frozen:
        pairs = [(tuned["vectors"][words.index(word) + 2], frozen["vectors"][before.index(word) + 2]) for word in {*words} & {*before}]
        assert len(pairs) == 16 and min(np.abs(one - two).max() for one, two in pairs) > 0.01
    ranker = rankers.load("glove-bilstm", tmp_path / "tuned")
    scores = ranker.score([("Who said that?", body) for body in ("The nurse hears the dog.", "The zyzzyva hears the dog.")])
    assert scores[0] != scores[1]


def test_upvote_ranker_learns_from_pairs(data: Path, glove: Path, tmp_path: Path) -> None:
    train("upvote", data, glove, tmp_path / "upvote")
    pairs = schema.read_rows(data / "upvote_pairs_test.csv", UpvotePair)
    ranker = rankers.load("glove-bilstm", tmp_path / "upvote")
    chosen, rejected = (np.array(ranker.score([(pair.comment, getattr(pair, side)) for pair in pairs])) for side in ("chosen", "rejected"))
    assert np.mean(chosen > rejected) == 1.0 and np.mean(chosen) > 0.6 and np.mean(rejected) < 0.4
    settings = cards.read_card(tmp_path / "upvote").settings
    assert settings["groups"] == 44 and settings["rows"] == 88 and settings["left_out"] == []


def test_subreddits_can_be_left_out(data: Path) -> None:
    options = upvote_glove_bilstm.Options(data=data, leave_out=["Sandbox_Pets"])
    found = siblings.read(options, {})
    assert found.settings["left_out"] == ["sandbox_pets"] and 0 < found.settings["groups"] < 44
    assert {group.subreddit for group in found.groups} | {pair.subreddit for pair in found.validation} == {"sandbox_work"}


def test_the_loss_is_cross_entropy_for_labels_and_the_pairwise_loss_for_siblings() -> None:
    network = Network(6, 4, units=3, dense=3, dropout=0.0)
    run = glove_bilstm.Fit(network, lambda step: 1e-3)
    texts = {"a": [2, 3], "b": [4], "c": [5, 5, 5]}

    def encode(row: tuple[str, str]) -> tuple[list[int], ...]:
        return tuple(texts[each] for each in row)

    rows = [("a", "b"), ("a", "c"), ("b", "c")]
    logits = np.array(GloveBilstm(network, {}).logits_of_ids([encode(row) for row in rows]))
    labels = glove_bilstm.Batches([glove_bilstm.labelled(row, label) for row, label in zip(rows, (1, 0, 1), strict=True)], encode)
    expected = np.mean(np.log1p(np.exp(-logits * [1, -1, 1])))
    assert float(run.loss(*labels[[0, 1, 2]])) == pytest.approx(expected, abs=1e-6)
    siblings = glove_bilstm.Batches(
        [glove_bilstm.compared(rows, [(0, 1), (2, 1)]), glove_bilstm.compared(rows[:2], [(1, 0)])], encode
    )  # fmt: skip
    margins = [logits[0] - logits[1], logits[2] - logits[1]], [logits[1] - logits[0]]
    expected = np.mean([np.mean(np.log1p(np.exp(-np.array(each)))) for each in margins])
    assert float(run.loss(*siblings[[0, 1]])) == pytest.approx(expected, abs=1e-6)
    assert siblings[[0, 1]].ids.shape == (3, 3)  # each text once


# --- runs ---------------------------------------------------------------------------------------------------------------


def encode(row: tuple[str, ...]) -> tuple[list[int], ...]:
    ids = {word: number for number, word in enumerate(["the", *ANIMALS, *PEOPLE, *VERBS], start=2)}
    return tuple(ids_of(words_of(text), ids, 20) for text in row)


def fit(checkpoint: Path, seed: int = 1, **changes: Any) -> tuple[Network, list[LossRow]]:
    import keras

    keras.utils.set_random_seed(seed)
    options = Options(**(SMALL | {"epochs": 3, "dropout": 0.4, "batch_tokens": 150, "seed": seed} | changes))
    network = Network(15, 8, units=6, dense=6, dropout=options.dropout, sides=1, train_vectors=True)
    examples = [glove_bilstm.labelled((body,), int(first)) for first in (True, False) for body in sentences(first)]
    parts = [glove_bilstm.Batches(each, encode) for each in (examples[::2], examples[1::2])]
    return network, glove_bilstm.fit(network, *parts, options, checkpoint, {"epochs": options.epochs}).rows()


def values(network: Network) -> list[Any]:
    return [variable.numpy() for variable in [*network.variables, network.embedding.embeddings]]


@pytest.fixture(scope="module")
def uninterrupted(eager: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, list[LossRow]]:
    return fit(tmp_path_factory.mktemp("uninterrupted") / "checkpoint.npz")


@pytest.mark.parametrize("stop", ["in an epoch", "at its end"])
def test_an_interrupted_run_resumes_with_the_same_result(
    uninterrupted: tuple[Network, list[LossRow]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """With dropout: the states of its random generators are saved, too."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    expected, expected_losses = uninterrupted
    ends = [row.step for row in expected_losses if row.val_loss is not None]
    assert len(ends) == 3 and ends[-1] == len(expected_losses)
    method, after = ("step", ends[0] + 2) if stop == "in an epoch" else ("validate", 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(glove_bilstm.Fit, method, interrupting(getattr(glove_bilstm.Fit, method), after))
        fit(tmp_path / "resumed.npz")
    with pytest.raises(UserError, match="belongs to a run with other settings"):
        fit(tmp_path / "resumed.npz", epochs=4)
    resumed, losses = fit(tmp_path / "resumed.npz")
    assert losses == expected_losses
    for one, two in zip(values(expected), values(resumed), strict=True):
        assert np.array_equal(one, two)


def test_a_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"PK" + bytes(5000))
    with pytest.raises(UserError, match="checkpoint.npz: cannot be read .*; delete it to start again"):
        fit(tmp_path / "checkpoint.npz")


def interrupting(method: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(after))

    def call(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return method(*arguments)

    return call


def test_another_seed_gives_other_weights(uninterrupted: tuple[Network, list[LossRow]], tmp_path: Path) -> None:
    other, _ = fit(tmp_path / "other.npz", seed=2, epochs=1)
    assert not np.array_equal(values(uninterrupted[0])[0], values(other)[0])


def test_training_stops_early_and_keeps_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation losses are prescribed: the second epoch is the best, so with patience 2 the fourth is the last."""
    prescribed, seen = iter([0.6, 0.5, 0.55, 0.7, 0.1]), []

    def validate(self: glove_bilstm.Fit, batches: Any) -> float:
        seen.append([variable.numpy() for variable in self.weights])
        with monkeypatch.context() as patch:
            value = next(prescribed)
            patch.setattr(glove_bilstm.np, "average", lambda *_, **__: value)
            return original(self, batches)

    original = glove_bilstm.Fit.validate
    monkeypatch.setattr(glove_bilstm.Fit, "validate", validate)
    network, losses = fit(tmp_path / "checkpoint.npz", epochs=9, patience=2)
    assert [row.val_loss for row in losses if row.val_loss is not None] == [0.6, 0.5, 0.55, 0.7]
    assert all(np.array_equal(one, two) for one, two in zip(values(network), seen[1], strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(seen[3], seen[1], strict=True))


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["weights.npz", "words.txt", "model.json"])
def test_a_damaged_model_folder_is_an_error(realism: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(realism, tmp_path / "m")
    before = serving.fingerprint(tmp_path / "m")
    file = tmp_path / "m" / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert serving.fingerprint(tmp_path / "m") != before
    with pytest.raises(UserError) as truncated:
        rankers.load("glove-bilstm", tmp_path / "m")
    file.unlink()
    with pytest.raises(UserError) as missing:
        rankers.load("glove-bilstm", tmp_path / "m")
    for error in (truncated, missing):
        assert str(tmp_path / "m") in str(error.value) and "\n" not in str(error.value)
        assert re.search("train (it|the model)", str(error.value))


def test_a_model_of_another_back_end_is_an_error(realism: Path, tmp_path: Path) -> None:
    cards.write_card(tmp_path, cards.ModelCard("realism", "minilm-l6", "0" * 64, "adapter"))
    with pytest.raises(UserError, match="not a model of back end glove-bilstm; set rank.backend"):
        rankers.load("glove-bilstm", tmp_path)
    for other in ("transformers", "tfhub-bert"):
        with pytest.raises(UserError, match=str(realism)):
            rankers.load(other, realism)
    assert rankers.back_end_for(cards.read_card(realism), "") == "glove-bilstm"


def test_training_without_usable_rows_or_vectors_is_an_error(data: Path, glove: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        train("realism", data, tmp_path / "glove.txt", tmp_path / "out")
    shutil.copytree(data, tmp_path / "data")
    rows = [row for row in schema.read_rows(data / "realism_val.csv", RealismRow) if row.label]
    schema.write_rows(tmp_path / "data" / "realism_val.csv", RealismRow, rows)
    with pytest.raises(UserError, match="realism_val.csv: needs rows of both labels"):
        train("realism", tmp_path / "data", glove, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("cold")
def test_this_back_end_never_loads_pytorch(realism: Path, data: Path, glove: Path, tmp_path: Path) -> None:
    """Scoring and training by the command line, one after the other in one process."""
    (tmp_path / "in.csv").write_text("comment,reply\nWho said that?,The goat bites the clerk.\nWho said that?,The clerk bites the goat.\n")
    program = f"""
import sys
from pathlib import Path
from bot.rankers import scoring
from bot.train import command
folder, data = Path({str(tmp_path)!r}), Path({str(data)!r})
scoring.main(folder / "in.csv", folder / "out.csv", None, Path({str(realism)!r}))
command.upvote(backend="glove-bilstm", base={str(glove)!r}, data=data, out=folder / "upvote", evaluate=False, epochs=1, units=4)
print([name for name in ("torch", "transformers") if name in sys.modules], "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] True"
    _, rows = schema.read_table(tmp_path / "out.csv")
    assert float(rows[0]["realism_score"]) > 0.5 > float(rows[1]["realism_score"])
