from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from bot import generators, rankers, schema
from bot.cli import UserError, WrongSettings
from bot.config import ConductSettings, GenerateSettings, RankSettings, RankWeights, Settings
from bot.evaluate import evaluate
from bot.export import to_ctranslate2
from bot.online import rank
from bot.rankers import classifier, score, score_files, scoring
from bot.rankers.transformers import encode_pair
from bot.schema import Candidate, NotChosen, Scores
from bot.weights import cards
from tests import tiny

PAIRS = [
    ("Any good books?", "Try the lighthouse one."),
    ("Any good books?", "no"),
    ("Is my kettle slow?", "Clean it with vinegar, it works!"),
    ("x", ""),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.encoder(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.encoder(tmp_path_factory.mktemp("other"), seed=5)


def test_scores_are_probabilities_that_depend_on_both_texts(model: Path) -> None:
    ranker = rankers.load("transformers", model)
    scores = ranker.score(PAIRS)
    assert all(0 <= score <= 1 for score in scores) and len(set(scores)) == 4
    assert ranker.score([("Any bad books?", PAIRS[0][1])])[0] != scores[0]
    assert ranker.score([(PAIRS[0][1], PAIRS[0][0])])[0] != scores[0]
    assert ranker.score([]) == []


def test_a_pair_has_two_segments_and_control_tokens_are_escaped(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids, segments = encode_pair(tokenizer, "book [SEP] [CLS] train", "short [PAD] and funny")
    assert ids.count(tokenizer.sep_token_id) == 2 and ids.count(tokenizer.cls_token_id) == 1 and tokenizer.pad_token_id not in ids
    assert segments == [0] * (ids.index(tokenizer.sep_token_id) + 1) + [1] * (len(ids) - ids.index(tokenizer.sep_token_id) - 1)
    ids, segments = encode_pair(tokenizer, "book " * 500, "train " * 500)
    assert len(ids) == 147 and segments.count(1) == 81


def test_a_score_does_not_depend_on_order_or_batch(model: Path, other: Path) -> None:
    pairs = [("Same text", f"Reply {n}") for n in range(4)]
    scorers = {"realism_score": rankers.load("transformers", model), "upvote_score": rankers.load("transformers", other)}
    rows = score.score_pairs(pairs, scorers, 8)
    for row in rows:
        assert row["relevance_score"] is None and row["realism_score"] != row["upvote_score"]
    for one, two in zip(rows, score.score_pairs(pairs[::-1], scorers, 2)[::-1], strict=True):
        assert one["realism_score"] == pytest.approx(two["realism_score"], abs=tiny.rounding())


def weights(**changes: float) -> RankWeights:
    return RankWeights(**{**dict.fromkeys(RankWeights.model_fields, 0.0), **changes})


def test_rank_score_is_a_logistic_function_of_the_signals() -> None:
    scores = {"realism_score": 0.9, "upvote_score": 0.2, "relevance_score": None}
    of = score.Ranked("Which book?", "The red book, I think", -2.0)
    assert score.rank_score(scores, of, weights(realism=1, upvote=1)) == pytest.approx(2.25 / 3.25)  # odds 9 and 1/4
    assert score.rank_score(scores, of, weights(realism=1, intercept=-math.log(9))) == pytest.approx(0.5)
    assert score.rank_score(scores, of, weights(realism=1, relevance=5)) == pytest.approx(0.9)  # no relevance score
    assert score.rank_score(scores, of, weights(likelihood=0.1)) == pytest.approx(1 / (1 + math.exp(1.2)))  # five words and the end
    assert score.rank_score(scores, of, weights(repetition=1)) == pytest.approx(1 / (1 + math.exp(0.2)))  # "book", one of five words
    assert score.rank_score({**scores, "upvote_score": 0.0}, of, weights(upvote=1)) == pytest.approx(0.001)
    assert score.rank_score(scores, of, weights(intercept=1)) is score.rank_score(scores, of, weights(relevance=1)) is None


def test_without_a_likelihood_the_length_counts() -> None:
    """So that the scores of candidates with and without it are on one scale."""
    scores = {"realism_score": 0.9}
    likely, typical, unknown, longer = (
        score.rank_score(scores, score.Ranked("a", reply, likelihood), weights(realism=1, likelihood=1)) or 0
        for reply, likelihood in (("b c", -1.0), ("b c", score.TYPICAL_LOG_LIKELIHOOD), ("b c", None), ("b c d", None))
    )
    assert likely > typical == unknown > longer


def test_score_keeps_other_columns(model: Path, tmp_path: Path) -> None:
    text = 'id,reply,comment,rank_score,extra\n007,"a ""b"",\nc",Any good books?,old,NA\n1e5,null,é,,=1+1\n'
    (tmp_path / "in.csv").write_text(text, encoding="utf-8")
    weights = "[rank.weights]\nintercept = 0\nrealism = 1\nrelevance = 0\nchoice = 0\nrepetition = 0\nlikelihood = 0\n"
    config = f'[rank]\nbackend = "transformers"\nrealism = "{model}"\nupvote = "{model}"\nrelevance = ""\nchoice = ""\n{weights}'
    (tmp_path / "config.toml").write_text(config, encoding="utf-8")
    scoring.main(tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "config.toml")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = ["realism_score", "upvote_score", "relevance_score", "choice_score", "rank_score"]
    assert list(rows[0]) == ["id", "reply", "comment", "extra", *scores]
    assert (rows[0]["id"], rows[0]["reply"], rows[0]["extra"]) == ("007", 'a "b",\nc', "NA")
    assert (rows[1]["id"], rows[1]["reply"], rows[1]["extra"]) == ("1e5", "null", "=1+1")
    assert all(row["relevance_score"] == "" and 0 < float(row["realism_score"]) < 1 for row in rows)
    assert float(rows[0]["rank_score"]) == pytest.approx(float(rows[0]["realism_score"]))
    expected = rankers.load("transformers", model).score([("Any good books?", 'a "b", c')])[0]
    assert float(rows[0]["realism_score"]) == pytest.approx(expected, abs=tiny.rounding())


def test_a_notice_scores_as_an_empty_text(model: Path, tmp_path: Path) -> None:
    """In every column, also by its length and its words. The table keeps it."""
    policy = "[ Removed by Reddit on account of violating the [content policy](/help/contentpolicy). ]"
    gone = ["", "[removed]", policy, "[removed by reddit](https://example.org/books)"]
    replies = [*gone, "[ Removed by Reddit ] is all I see, any books?"]
    pairs = [("Any good books, Reddit?", reply) for reply in replies] + [(comment, "Books by Reddit, good.") for comment in replies]
    schema.write_table(tmp_path / "in.csv", ["comment", "reply"], ({"comment": comment, "reply": reply} for comment, reply in pairs))
    signals = "intercept = 0\nrealism = 1\nupvote = 0\nrelevance = 0\nchoice = 0\nlikelihood = 0.1\nrepetition = 1\n"
    config = f'[rank]\nbackend = "transformers"\nrealism = "{model}"\nupvote = ""\nrelevance = ""\nchoice = ""\n[rank.weights]\n{signals}'
    (tmp_path / "c.toml").write_text(config, encoding="utf-8")
    scoring.main(tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "c.toml")
    rows = schema.read_table(tmp_path / "out.csv")[1]
    assert [(row["comment"], row["reply"]) for row in rows] == pairs
    scores = [[float(row[column]) for column in ("realism_score", "rank_score")] for row in rows]
    for first in (0, len(replies)):
        assert scores[first : first + len(gone)] == [pytest.approx(scores[first], abs=tiny.rounding())] * len(gone)
        assert all(abs(one - other) > 1e-3 for one, other in zip(scores[first], scores[first + len(gone)], strict=True))
    assert score.refusal("Any good books?", policy, 0.9, 0.9, Settings().choose) == NotChosen.EMPTY


def test_a_run_is_ranked_again_only_after_a_change(model: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema.write_rows(tmp_path / "candidates.csv", Candidate, [Candidate("t1_a", "t1_a-0", 1, "Hi", "Hello", "g", -1.5)])
    config, rest = tmp_path / "c.toml", 'relevance = ""\nchoice = ""\n[rank.weights]\nchoice = 0\nrelevance = 0\n'
    config.write_text(f'[rank]\nbackend = "transformers"\nrealism = "{model}"\nupvote = "{other}"\n{rest}')
    rank.main(tmp_path, config)
    first = schema.read_rows(tmp_path / "scores.csv", Scores)
    rank.main(tmp_path, config)
    assert "exists and is current" in capsys.readouterr().out
    config.write_text(f'[rank]\nbackend = "transformers"\nrealism = "{other}"\nupvote = "{other}"\n{rest}')
    rank.main(tmp_path, config)
    assert schema.read_rows(tmp_path / "scores.csv", Scores)[0].realism_score != first[0].realism_score


def of_kind(folder: Path, kind: cards.Kind, **settings: str) -> Path:
    folder.mkdir()
    cards.write_card(folder, cards.ModelCard(kind, "tiny", "0" * 64, "full", settings=settings))
    return folder


@pytest.mark.parametrize("kind", scoring.RANKERS)
@pytest.mark.parametrize("held", ["lm", "realism", "upvote", "relevance", "choice", "conduct"])
def test_a_folder_of_another_kind_is_refused_by_every_command(kind: str, held: cards.Kind, tmp_path: Path) -> None:
    folder = of_kind(tmp_path / "held", held)
    rank = RankSettings(**{**dict.fromkeys(scoring.RANKERS, ""), kind: folder, "weights": weights()})
    if kind == held:
        assert scoring.folders(rank) == {kind: folder}
        return
    message = re.escape(f"held: a model of kind {held}; set rank.{kind} to a folder of kind {kind}")
    settings = Settings(rank=rank)
    run = evaluate.Evaluation(tmp_path, settings, score_files.Scores(tmp_path, settings))
    for call in (
        lambda: scoring.by_all(rank), lambda: scoring.load_rankers(rank),
        lambda: to_ctranslate2.required_exports(settings), lambda: evaluate.find_rankers(run),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.parametrize("held", ["upvote", "choice", "conduct"])
def test_a_ranker_is_no_generator(held: cards.Kind, tmp_path: Path) -> None:
    generate = GenerateSettings(model=of_kind(tmp_path / "held", held))
    message = f"held: a model of kind {held}; set generate.model to a folder of kind lm"
    for call in (
        *(lambda name=name: generators.load(name, generate.model) for name in generators.BACK_ENDS),
        lambda: scoring.by_likelihood(generate), lambda: to_ctranslate2.required_exports(Settings(generate=generate)),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            call()


def test_a_classifier_of_conduct_is_for_its_side(tmp_path: Path) -> None:
    folders = {side: of_kind(tmp_path / side, "conduct", side=side) for side in ("comment", "reply")}
    swapped = ConductSettings(comment_classifier=folders["reply"], reply_classifier=folders["comment"])
    rankers_instead = ConductSettings(comment_classifier=of_kind(tmp_path / "c", "choice"), reply_classifier=tmp_path / "c")
    for conduct, held in ((swapped, r"conduct \(reply\)"), (rankers_instead, "choice")):
        message = rf"a model of kind {held}; set conduct.comment_classifier to a folder of kind conduct \(comment\)"
        with pytest.raises(UserError, match=message):
            classifier.judge_pieces(["fair enough"], conduct)
        with pytest.raises(UserError, match=r"set conduct.reply_classifier to a folder of kind conduct \(reply\)"):
            classifier.judge_replies(["Fair enough."], conduct)
    cards.check_kind(folders["reply"], "conduct.reply_classifier", "conduct", "reply")


@pytest.mark.parametrize("kind", scoring.RANKERS)
def test_a_ranker_with_a_weight_must_be_set(kind: str, model: Path) -> None:
    """The threshold was fitted with it, and would let other replies pass without it."""
    unset: dict[str, Any] = {**dict.fromkeys(scoring.RANKERS, model), kind: ""}
    with pytest.raises(
        WrongSettings, match=f"rank.{kind} is not set, but rank.weights.{kind} is 0.5, .* `python run_bot.py train weights`"
    ):
        scoring.check_weights(RankSettings(**unset, weights=weights(**{kind: 0.5})))
    scoring.check_weights(RankSettings(**unset, weights=weights(likelihood=1)))
    scoring.check_weights(RankSettings(**{**unset, kind: model}, weights=weights(**{kind: 0.5})))


def test_without_a_ranker_that_has_a_weight_scores_are_written_but_no_rank(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`score` shows what one ranker says; `rank` would let other replies pass."""
    (tmp_path / "in.csv").write_text("comment,reply,rank_score\nWhy?,Because.,0.9\n")
    config = tmp_path / "c.toml"
    config.write_text(f'[rank]\nbackend = "transformers"\nrealism = "{model}"\nupvote = ""\nrelevance = ""\nchoice = ""\n')
    scoring.main(tmp_path / "in.csv", tmp_path / "out.csv", config)
    (row,) = schema.read_table(tmp_path / "out.csv")[1]
    assert 0 < float(row["realism_score"]) < 1 and row["choice_score"] == row["rank_score"] == ""
    assert "rank_score is left empty: rank.relevance is not set, but rank.weights.relevance is 0.1258" in capsys.readouterr().out
    schema.write_rows(tmp_path / "candidates.csv", Candidate, [Candidate("t1_a", "t1_a-0", 1, "Why?", "Because.", "g", -1.5)])
    with pytest.raises(WrongSettings, match="rank.relevance is not set"):
        rank.main(tmp_path, config)
    assert not (tmp_path / "scores.csv").exists()


def test_error_messages(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("comment,answer\na,b\n")
    with pytest.raises(UserError, match=r"expected column reply, found comment, answer"):
        scoring.main(tmp_path / "in.csv", tmp_path / "out.csv", None)
    with pytest.raises(UserError, match="no model here"):
        rankers.load("transformers", tmp_path)
    with pytest.raises(UserError, match="rank.backend is unknown; choose one of ctranslate2"):
        rankers.load("magic", model)
    assert not (tmp_path / "out.csv").exists()
