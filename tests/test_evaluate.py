"""evaluate: rankers and their picks on invented rows, files that are read and written, and metrics for the cards of single models."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import cli, config, rankers, schema, text
from bot.cli import UserError
from bot.evaluate import choices, evaluate, measures, page, realism, upvote
from bot.evaluate.choices import Choice
from bot.evaluate.measures import ScoredRows
from bot.export import to_ctranslate2
from bot.rankers import score, score_files, scoring
from bot.schema import Candidate, LabelledRow, LmRow, RealismRow, UpvotePair, UpvoteRow
from bot.weights import bases, cards, pull, serving
from tests import tiny

GOOD, BAD = "short and funny and kind", "normal minutes boil essay"


def letter_scorer(letter: str = "x") -> score_files.Scorer:
    """Scores a reply by how often the letter occurs in it."""
    return lambda pairs, name: np.array([min(0.95, 0.05 + 0.1 * reply.count(letter)) for _, reply in pairs])


def pair(n: int, chosen: str, rejected: str, gap: int = 9, hours: float = 0.5, subreddit: str = "s") -> UpvotePair:
    return UpvotePair(f"t3_{n}", f"t1_{n}", f"t1_{n}a", f"t1_{n}b", subreddit, "why?", chosen, rejected, gap, hours)


# --- upvote -------------------------------------------------------------------------------------------------------------

SIBLINGS = [
    pair(1, "xx", "x", 25, -0.5),  # the ranker is right; chosen is longer and earlier
    pair(1, "xaaaaaaaa", "xaaaaaaab", 4, 0.9),  # a tie; similar length
    pair(2, "a", "xa", 120, 0.0),  # the ranker is wrong; times are not known
    pair(3, "xxx", "", 30, 1.2),  # too far apart in time
    pair(4, "xxx yyyyyy", "x yyyyyyy", 5, -1.0),  # the ranker is right; the shorter has 90 % of the longer's characters
]
TRAIN = [pair(n, f"word{n % 3} x", f"word{n % 3} y") for n in range(8)]


def test_siblings_far_apart_in_time_are_excluded_and_unknown_times_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = letter_scorer()
    assert "earlier_wins" not in upvote.measure(upvote.score_pairs(ranker, None, TRAIN, SIBLINGS), {})["all"]  # it scores 3 of 4
    monkeypatch.setattr(upvote, "MIN_SCORED", 3)
    tested = upvote.score_pairs(ranker, None, TRAIN, SIBLINGS)
    assert [row.karma_gap for row in tested.rows] == [25, 4, 120, 5]
    assert tested.scores["ranker"].tolist() == pytest.approx(np.array([[0.25, 0.15], [0.15, 0.15], [0.05, 0.15], [0.35, 0.15]]))
    assert np.isnan(tested.scores["earlier_wins"][2]).all()
    measured = upvote.measure(tested, {})
    everything = measured["all"]
    assert everything["pairs"] == 4 and everything["threads"] == 3
    assert everything["ranker"]["pairwise_accuracy"][0] == pytest.approx(2.5 / 4)
    assert everything["longer_wins"]["pairwise_accuracy"][0] == pytest.approx(2.5 / 4)
    assert everything["earlier_wins"]["pairwise_accuracy"][0] == pytest.approx(2 / 3, abs=1e-4) and everything["earlier_wins"]["pairs"] == 3
    assert everything["tfidf"]["pairwise_accuracy"][0] == pytest.approx(1 / 4)  # it learnt the word "x", which is in two rejected replies
    assert everything["tfidf"]["behind_ranker"][0] == pytest.approx(1.5 / 4) and "behind_ranker" not in everything["ranker"]
    assert everything["longer_wins"]["behind_ranker"] == (0.0, 0.0, 0.0)  # right on the same pairs as the ranker
    assert everything["earlier_wins"]["behind_ranker"][0] == pytest.approx((2.5 - 2) / 3, abs=1e-4)  # over the three pairs it scores
    assert everything["ranker_and_earlier"]["pairwise_accuracy"][0] == pytest.approx(1 / 3, abs=1e-4)  # in TRAIN the later always wins
    earlier_wins = [*TRAIN[:2], *(pair(n, "x", "y", hours=-0.5) for n in range(6))]  # in three of four pairs
    with_time = upvote.measure(upvote.score_pairs(ranker, None, earlier_wins, SIBLINGS), {})["all"]["ranker_and_earlier"]
    assert with_time["pairwise_accuracy"][0] == pytest.approx(2 / 3, abs=1e-4) and with_time["pairs"] == 3  # this decides the tie, wrongly
    timeless = [pair(n, "x", "y", hours=0.0) for n in range(8)]
    assert "ranker_and_earlier" not in upvote.score_pairs(ranker, None, timeless, SIBLINGS).scores
    assert measured["gap_5"]["pairs"] == 3 and measured["gap_20"]["pairs"] == 2
    assert measured["gap_20"]["ranker"]["pairwise_accuracy"] == (0.5, 0.0, 1.0)
    assert measured["like_length"]["pairs"] == 2 and "like_length_gap_20" not in measured
    assert {name: measured[name]["pairs"] for name in ("gap_2-4", "gap_5-9", "gap_20-49", "gap_100+")} == dict(
        zip(("gap_2-4", "gap_5-9", "gap_20-49", "gap_100+"), (1, 1, 1, 1), strict=True)
    )
    assert "gap_10-19" not in measured and list(measures.main_subsets(measured)) == ["all", "gap_5", "gap_20", "like_length"]


def test_subreddits_with_many_pairs_and_threads_are_subsets() -> None:
    rows = [pair(n, "xx", "x", 20 + n % 2, subreddit="Big") for n in range(50)] + [pair(n, "xx", "x", subreddit="small") for n in range(49)]
    rows += [pair(n % 4, "xx", "x", subreddit="few") for n in range(60)]
    rows += [pair(n % 5, "xx", "x", 30 if n % 5 < 4 else 9, subreddit="some") for n in range(60)]  # large gaps in four of five threads
    subsets = upvote.subsets_of(rows)
    assert subsets["r/Big"].sum() == 50 and subsets["r/Big_gap_20"].sum() == 50 and subsets["r/some"].sum() == 60
    assert not {"r/small", "r/few", "r/some_gap_20"} & subsets.keys()


def test_the_rules_of_public_datasets_are_subsets() -> None:
    later, earlier = pair(1, "xx", "x", 25, 0.5), pair(2, "xx", "x", 25, -0.5)
    close = pair(3, "x", "xx", 21, 0.5)
    known = {
        "t1_1": {"t1_1a": 26, "t1_1b": 1}, "t1_2": {"t1_2a": 26, "t1_2b": 1, "t1_2c": 9},
        "t1_3": {"t1_3a": 99, "t1_3b": 78, "t1_3c": 1, "t1_3d": 5},  # one of three steps, and less than twice the karma
    }  # fmt: skip
    measured = upvote.measure(upvote.score_pairs(letter_scorer(), None, TRAIN, [later, earlier, close]), known)
    assert {name: measured[name]["pairs"] for name in ("gap_20", "dialogrpt", "shp")} == {"gap_20": 3, "dialogrpt": 2, "shp": 1}
    assert measured["dialogrpt"]["ranker"]["pairwise_accuracy"][0] == 1.0 and measured["gap_20"]["ranker"]["pairwise_accuracy"][0] < 1
    assert not {"dialogrpt", "shp"} & upvote.measure(upvote.score_pairs(letter_scorer(), None, TRAIN, [later]), {}).keys()


def test_pair_probabilities_and_their_calibration() -> None:
    scores = np.array([[0.9, 0.9], [0.75, 0.5], [0.5, 0.75]])
    assert upvote.pair_probabilities("ranker", scores) == pytest.approx([0.5, 0.75, 0.25])
    assert upvote.pair_calibration_error(np.array([0.75] * 3 + [0.25])) == pytest.approx(0.0)  # three of four are won, as predicted
    assert upvote.pair_calibration_error(np.array([0.95] * 2 + [0.05] * 2)) == pytest.approx(0.45)


def test_karma_classes_follow_from_the_score() -> None:
    """Of 4 classes (below 1, 1, 2 to 4, above 4), a score of 0.35 is the second; of 2, a score of 0.5 is the upper one."""
    rows = [UpvoteRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "why?", "x" * n, karma, None) for n, karma in ((0, 0), (3, 1), (3, 3), (9, 7))]
    four = upvote.measure_classes(letter_scorer(), rows, rows, 4)["4_classes"]
    assert four["ranker"]["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert four["ranker"]["accuracy"][0] == 0.75 and four["rows"] == 4
    assert four["ranker"]["roc_auc_cuts"][0] == pytest.approx((1 + 3.5 / 4 + 1) / 3, abs=1e-4)  # the second cut goes through a tie
    assert four["majority"]["roc_auc_cuts"][0] == 0.5 and four["majority"]["accuracy"][0] == 0.25
    two = upvote.measure_classes(letter_scorer(), rows, rows, 2)["2_classes"]
    assert two["ranker"]["confusion"] == [[2, 0], [1, 1]] and two["ranker"]["roc_auc_cuts"][0] == pytest.approx(3.5 / 4, abs=1e-4)


def test_left_out_subreddits_without_measurable_pairs_are_an_error() -> None:
    with pytest.raises(
        UserError, match=r"left-out subreddits \(narrow\): no pair with a karma gap of at least 5 and at most 1 hours apart"
    ):
        upvote.measure_left_out(letter_scorer(), TRAIN, [pair(1, "xx", "x", gap=4, subreddit="Narrow")], {})


# --- realism ------------------------------------------------------------------------------------------------------------


def reply(n: int, body: str, generator: str = "") -> RealismRow:
    return RealismRow(f"t3_{n}", f"t1_{n}", f"t1_{n}-{body}", "s", "why?", body, int(not generator), generator)


def test_realism_overall_and_by_generator() -> None:
    train = [reply(n, "x word", "") for n in range(4)] + [reply(n, "y word", "old") for n in range(4)]
    test = (
        [reply(n, "xxxxxx") for n in range(4)] + [reply(4, "x")] + [reply(n, "xx", "old") for n in range(4)] + [reply(9, "xxxxxxx", "new")]
    )
    measured = realism.measure(realism.score_rows(letter_scorer(), None, train, test))
    everything = measured["all"]
    assert (everything["rows"], everything["real"], everything["threads"]) == (10, 5, 6)
    assert everything["ranker"]["confusion"] == [[4, 1], [1, 4]] and everything["ranker"]["accuracy"][0] == pytest.approx(0.8)
    assert everything["ranker"]["roc_auc"][0] == pytest.approx((4 * 4 + 0) / 25)
    # from the lowest score up: the human "x", the four of the old generator, the four human "xxxxxx", the one of the new generator
    assert everything["ranker"]["pr_auc_generated"][0] == pytest.approx(0.8 * 4 / 5 + 0.2 * 5 / 10)
    assert everything["always_real"]["balanced_accuracy"][0] == 0.5 and everything["always_real"]["roc_auc"][0] == 0.5
    assert everything["longer_is_real"].keys() == {"roc_auc", "pr_auc_generated"}  # not a probability
    assert measured["generator old"]["ranker"]["roc_auc"][0] == pytest.approx(0.8) and measured["generator old"]["rows"] == 9
    assert measured["generator new"]["ranker"]["roc_auc"][0] == 0.0 and measured["generator new"]["unseen_in_training"] is True
    assert "unseen_in_training" not in measured["generator old"]


def test_a_scorer_without_scores_for_some_rows_is_measured_on_the_others() -> None:
    rows = [reply(n, "x" * 6) for n in range(4)] + [reply(n, "x", "old") for n in range(4)]
    partial = np.array([0.9, 0.1, np.nan, np.nan, 0.5, np.nan, np.nan, np.nan])
    tested = ScoredRows(rows, {"ranker": np.ones(8), "generator_likelihood": partial}, frozenset({"old"}))
    measured = realism.measure(tested)["all"]["generator_likelihood"]
    assert measured["roc_auc"][0] == 0.5 and measured["rows"] == 3


# --- the ranking stage --------------------------------------------------------------------------------------------------


def choice(n: int, candidates: Sequence[str], likelihoods: Sequence[float | None], human: str = "a human reply") -> Choice:
    """A choice among candidates. The realism score counts the letter r, the upvote score the letter u."""
    pairs = [("why?", each) for each in candidates]
    rankers = {"realism_score": letter_scorer("r"), "upvote_score": letter_scorer("u")}
    return Choice(f"t3_{n}", "why?", human, list(candidates), choices.score_pairs(pairs, rankers, ""), list(likelihoods))


COLUMNS = ["realism_score", "upvote_score"]
WEIGHTS = config.RankWeights(**{**dict.fromkeys(config.RankWeights.model_fields, 0.0), "realism": 0.5, "upvote": 0.5})


def rules(minimum_realism: float = 0.2) -> config.ChooseSettings:
    return config.ChooseSettings(minimum_realism=minimum_realism, minimum_rank=0, minimum_words=1)


def picks(one: Choice, minimum_realism: float = 0.2, first: int | None = None) -> dict[str, int | None]:
    strategies = choices.strategies(COLUMNS, WEIGHTS, rules(minimum_realism))
    return {name: strategy(one, first) for name, strategy in strategies.items()}


def test_the_pick_of_each_strategy() -> None:
    one = choice(1, ["uuuu", "rrr u", "rr uuu", "rrrr", "nothing at all, at length"], [-1.0, -2.0, -3.0, -0.5, -4.0])
    assert picks(one) == {
        "rank_score": 2, "choose": 2, "without_realism": 0, "without_upvote": 3, "two_step": 2, "most_likely": 3, "longest": 4,
    }  # fmt: skip
    assert picks(one, first=2) == {
        "rank_score": 1, "choose": 1, "without_realism": 0, "without_upvote": 1, "two_step": 1, "most_likely": 0, "longest": 1,
    }  # fmt: skip
    strict = picks(one, minimum_realism=0.4)
    assert (strict["rank_score"], strict["choose"], strict["two_step"]) == (2, 3, 3)
    assert picks(one, minimum_realism=0.9)["two_step"] is picks(one, minimum_realism=0.9)["choose"] is None
    assert picks(choice(1, ["u", "u"], [None, -1.0])) | {"most_likely": None, "rank_score": 0} == picks(choice(1, ["u", "u"], [None, -1.0]))


def test_choose_has_the_rules_of_the_stage() -> None:
    comment = "What is the best book that you have read this year?"
    replies = ["the best book that you have read", "Thanks!", "rr I liked the lighthouse", "uu rr so did my whole class"]
    one = replace(choice(1, replies, [-1.0] * 4), comment=comment)
    settings = config.ChooseSettings(minimum_realism=0.2, minimum_rank=0, minimum_words=4)
    picked = choices.strategies(COLUMNS, WEIGHTS, settings)
    assert picked["choose"](one, None) == 3 and picked["choose"](one, 2) is None  # an echo, and too short
    strict = settings.model_copy(update={"minimum_rank": 0.99})
    assert choices.strategies(COLUMNS, WEIGHTS, strict)["choose"](one, None) is None


def test_two_step_with_another_upvote_ranker() -> None:
    one = choice(1, ["uuuu", "rrr u", "rr uuu", "rrrr", "nothing at all, at length"], [-1.0] * 5)
    one.beside["other"] = [9.0, 1.0, 2.0, 3.0, 9.0]  # the two highest are below the realism threshold
    weights = WEIGHTS
    assert choices.strategies(COLUMNS, weights, rules(), ["other"])["two_step_other"](one, None) == 3
    assert "two_step_other" in choices.measure_choices([one], COLUMNS, weights, rules(), {"long": Length()})["choices"]
    assert "two_step_other" not in choices.strategies(["upvote_score"], weights, rules(), ["other"])  # needs realism scores


class Length:
    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([float(len(reply)) for _, reply in pairs])


def test_win_rates_gain_and_genericness() -> None:
    first = choice(1, ["rrrr uuu", "same words here", "u", "uu"], [-1.0, -2.0, -3.0, -4.0], "in the middle")
    second = choice(2, ["Same words, here", "rr uuu zz", "u", "longer than all the others"], [-1.0, -2.0, -3.0, -4.0], "in the middle ")
    weights = WEIGHTS
    measured = choices.measure_choices([first, second], COLUMNS, weights, rules(), {"long": Length()})
    by_strategy = measured["choices"]
    assert by_strategy["longest"]["long"] == (1.0, 1.0, 1.0) and by_strategy["random"]["long"] == (0.5, 0.5, 0.5)
    assert by_strategy["rank_score"]["long"][0] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert by_strategy["person"]["long"][0] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert by_strategy["most_likely"]["near_verbatim"][0] == 0.5  # one of the two picks, "Same words, here"
    assert by_strategy["longest"]["near_verbatim"][0] == 0.5 and by_strategy["rank_score"]["near_verbatim"][0] == 0.0
    assert by_strategy["random"]["near_verbatim"][0] == pytest.approx((2 / 4 + 2 / 4) / 2)  # "u" is in both, too
    assert by_strategy["rank_score"]["distinct_1"] == pytest.approx(4 / 5) and "distinct_1" not in by_strategy["random"]
    gain = measured["gain"]["long"]
    assert gain["random"]["1"][0] == gain["longest"]["1"][0] == pytest.approx((2 / 3 + 2 / 3) / 2, abs=1e-4)
    assert gain["random"]["2"][0] == pytest.approx(((2 / 3 + 1) / 2 + (2 / 3 + 1 / 3) / 2) / 2, abs=1e-4)
    assert gain["longest"]["2"][0] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4) and "5" not in gain["random"]


def test_echoes_short_and_long_picks_are_counted() -> None:
    replies = ["the old lighthouse keeper, again", "no", "one two three", "this is a longer reply of mine"]
    one = replace(choice(1, replies, [-1.0] * 4, "a reply by a person, that is"), comment="Who is the old lighthouse keeper?")
    two = choice(2, ["a b c d e f g"] * 2, [-1.0, -2.0], "yes")
    measured = choices.measure_choices([one, two], COLUMNS, WEIGHTS, rules(), {"long": Length()})["choices"]
    assert measured["random"]["echo"][0] == (1 / 4 + 0) / 2 and measured["random"]["short"][0] == (2 / 4 + 0) / 2
    assert measured["random"]["median_words"] == 6.0 and measured["longest"]["median_words"] == 6.0  # of 5, 1, 3, 7, 7, 7 words; of 5, 7
    assert measured["person"]["short"][0] == 0.5 and measured["longest"]["echo"][0] == 0.5


def test_candidates_are_read_and_those_of_other_comments_rejected(tmp_path: Path) -> None:
    human = [LmRow("t3_1", "t1_1", "t1_r", "s", "why?", "so"), LmRow("t3_1", "t1_1", "t1_q", "s", "why?", "later")]
    rows = [Candidate("t1_1", f"t1_1-{n}", n, "?", body, "g", -1.0) for n, body in enumerate(["*uu*", "&gt;", "r", ""])]
    scorers = {"upvote_score": letter_scorer("u")}
    schema.write_rows(tmp_path / "c.csv", Candidate, rows)
    (read,) = choices.read_choices(tmp_path / "c.csv", human, scorers)
    assert read.candidates == ["uu", "r"] and read.reply == "so" and read.scores[0]["upvote_score"] == pytest.approx(0.25)
    schema.write_rows(tmp_path / "c.csv", Candidate, [*rows, Candidate("t1_9", "t1_9-0", 1, "?", "a", "g", -1.0)])
    with pytest.raises(UserError, match=r"t1_9 isn't in lm_test.csv; generate from that file's comments"):
        choices.read_choices(tmp_path / "c.csv", human, scorers)
    schema.write_rows(tmp_path / "c.csv", Candidate, rows[:1])
    with pytest.raises(UserError, match="no comment has two candidates"):
        choices.read_choices(tmp_path / "c.csv", human, scorers)


def test_stock_phrases() -> None:
    phrases = choices.STOCK_PHRASES.read_text(encoding="utf-8").splitlines()
    assert (
        len(phrases) >= 40 and len(set(phrases)) == len(phrases) and {"This is a great post, thank you", "Same here", "lol"} <= {*phrases}
    )
    assert all(text.clean(phrase) == phrase != "" for phrase in phrases)
    human = [LmRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "why?", "zzzz" if n < 3 else "") for n in range(4)]
    measured = choices.measure_stock_phrases(human, {"upvote_score": letter_scorer("z")}, WEIGHTS, None, seed=1)
    with_z = sum("z" in phrase for phrase in phrases)
    expected = (3 + (0.5 * (len(phrases) - with_z)) / len(phrases)) / 4
    assert (
        measured["upvote_score"]["pairwise_accuracy"][0]
        == measured["rank_score"]["pairwise_accuracy"][0]
        == pytest.approx(expected, abs=1e-4)
    )
    assert measured["comments"] == 4 and measured["phrases"] == len(phrases) and "realism_score" not in measured
    assert all("z" in phrase for phrase, _ in measured["hardest"][:with_z])


# --- the program --------------------------------------------------------------------------------------------------------


def fold(subreddit: str, accuracy: float, pairs: int = 10, gaps: Sequence[int] = (5, 20)) -> cards.ModelCard:
    """The card of an upvote ranker with a left-out subreddit."""
    scorers = {"ranker": accuracy, "tfidf": 0.55, "longer_wins": 0.5}
    content = {name: {"pairwise_accuracy": [value, 0.0, 1.0]} for name, value in scorers.items()}
    metrics = {f"left_out_r/{subreddit}_gap_{gap}": {"pairs": pairs, "threads": 2, **content} for gap in gaps}
    return cards.ModelCard(kind="upvote", base="b", base_sha256="0" * 64, format="adapter", metrics=metrics)


def write_project(folder: Path) -> None:
    """Write prepared files, candidates, four tiny rankers, a tiny generator, and a config that names them."""
    data = folder / "data"
    lm_rows = []
    for each, count in (("train", 60), ("test", 24)):
        realism, siblings, relevance = [], [], []
        for n in range(count):
            ids, comment = (f"t3_{each}{n}", f"t1_{each}{n}"), f"Which book, reader {n}?"
            human, generated = f"{GOOD} {n % 5}", f"{BAD} {n % 5}"
            realism.append(RealismRow(*ids, f"t1_h{n}", "s", comment, human, 1, ""))
            realism.append(RealismRow(*ids, f"t1_g{n}", "s", comment, generated, 0, "seen" if each == "train" or n % 2 else "unseen"))
            siblings.append(UpvotePair(*ids, f"t1_h{n}", f"t1_g{n}", "s", comment, human, generated, 5 + n, 0.5))
            relevance.append(LabelledRow(*ids, f"t1_h{n}", "s", comment, f"reader {n}: {human}", 1))
            relevance.append(LabelledRow(*ids, f"t1_g{n}", "s", comment, generated, 0))
            lm_rows += [LmRow(*ids, f"t1_h{n}", "s", comment, human)] if each == "test" else []
        schema.write_rows(data / f"realism_{each}.csv", RealismRow, realism)
        schema.write_rows(data / f"upvote_pairs_{each}.csv", UpvotePair, siblings)
        schema.write_rows(data / f"relevance_{each}.csv", LabelledRow, relevance)
    schema.write_rows(data / "lm_test.csv", LmRow, lm_rows)
    candidates = [
        Candidate(row.comment_id, f"{row.comment_id}-{n}", n, "?", body, "g", -1.0 - n)
        for row in lm_rows[:8]
        for n, body in enumerate([GOOD, BAD, "short kettle", "vinegar works", row.comment])
    ]
    schema.write_rows(folder / "candidates.csv", Candidate, candidates)
    pull.pull("tiny-encoder", tiny.encoder(folder / "encoder", head=False))
    dual = {"architecture": "dual encoder", "scale": 5.0, "offset": -1.0}
    for seed, (name, kind) in enumerate(
        {"realism": "realism", "upvote": "upvote", "relevance": "relevance", "other": "upvote", "choice": "choice"}.items()
    ):
        settings = dual if kind == "relevance" else {}
        card = cards.ModelCard(kind=kind, base="tiny-encoder", base_sha256="0" * 64, format="full", settings=settings)  # type: ignore[arg-type]
        cards.write_card(tiny.encoder(folder / name, seed, head=kind != "relevance"), card)
    cards.write_card(folder / "fold", fold("one", 0.6))
    tiny.language_model(folder / "lm")
    (folder / "c.toml").write_text(
        f'[generate]\nmodel = "{folder}/lm"\n[choose]\nminimum_realism = 0.32\nminimum_rank = 0\nminimum_words = 1\n'
        f'[rank]\nbackend = "transformers"\nrealism = "{folder}/realism"\nupvote = "{folder}/upvote"\n'
        f'relevance = "{folder}/relevance"\nchoice = "{folder}/choice"\n'
        "[rank.weights]\nrealism = 0.4\nupvote = 0.3\nrelevance = 0.3\nchoice = 0.2\n"
    )


start_process = score_files.start


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "BASE_DIR", folder / "bases")
        patch.setattr(evaluate, "LIKELIHOOD_ROWS", 6)
        patch.setattr(choices, "STOCK_COMMENTS", 5)
        patch.setattr(upvote, "MIN_SCORED", 6)
        patch.setattr(score_files, "start", tiny.start_in_process)
        write_project(folder)
        yield folder


@pytest.fixture(scope="module")
def printed(project: Path) -> str:
    """Output of `evaluate`; its files are in project / "out"."""
    with redirect_stdout(io.StringIO()) as out:
        others: dict[str, Any] = {"beside": [project / "other"], "left_out": [project / "fold"]}
        evaluate.main(project / "data", project / "out", project / "c.toml", project / "candidates.csv", **others)
    return out.getvalue()


def metrics_of(project: Path, out: str = "out") -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((project / out / "metrics.json").read_text())
    return metrics


def test_everything_is_measured(project: Path, printed: str) -> None:
    metrics = metrics_of(project)
    made = metrics["made"]
    assert made["missing"] == [] and made["rank_backend"] == "transformers"
    assert f"--candidates {project}/candidates.csv --seed 1 --beside {project}/other --left-out {project}/fold" in made["command"]
    assert metrics["left_out"]["gap_20"]["ranker"]["pairwise_accuracy"][0] == 0.6 and "r/one_gap_5" in metrics["left_out"]
    assert made["models"]["realism"]["sha256"] == serving.fingerprint(project / "realism")
    assert metrics["realism"]["all"]["generator_likelihood"]["rows"] == 6 and metrics["realism"]["generator unseen"]["unseen_in_training"]
    assert metrics["upvote"]["all"]["generator_likelihood"]["pairs"] == 6 and "untuned_encoder" in metrics["upvote"]["gap_20"]
    assert metrics["relevance"]["random_10"]["queries"] == 24
    assert metrics["judges"].keys() == {"liked", "real", "belongs"} and metrics["judges"]["real"]["judge"]["pairwise_accuracy"][0] == 1.0
    stage = metrics["ranking_stage"]
    assert stage["comments"] == 8 and stage["candidates"] == 40
    strategies = {"rank_score", "choose", "without_choice", "without_relevance", "two_step", "two_step_other", "most_likely", "longest"}
    assert strategies | {"random", "person"} <= stage["choices"].keys()
    assert stage["choices"]["most_likely"]["near_verbatim"][0] == 1.0  # GOOD is a candidate of every comment
    assert stage["choices"]["person"]["real"][0] > 0.5 and list(stage["gain"]["liked"]["random"]) == ["1", "2", "5"]
    assert metrics["stock_phrases"]["comments"] == 5
    assert "ranking stage, 8 comments, 40 candidates" in printed and "generator unseen" in printed


def test_the_page_shows_the_metrics(project: Path, printed: str) -> None:
    page = (project / "out" / "evaluation.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 6 and "http" not in page.replace("http-equiv", "")
    assert f"{metrics_of(project)['realism']['all']['ranker']['roc_auc'][0]:.3f}" in page
    for phrase in ("Not measured", "Traceback", "None", "nan"):
        assert phrase not in page
    for phrase in (
        "longer wins",
        "two-step with other",
        "1 subreddits left out",
        "r/one, karma gap of at least 5",
        "unseen in training",
        "win rate by the judge",
        "Stock phrases",
    ):
        assert phrase in page


def test_text_from_the_data_is_escaped_on_the_page(project: Path, printed: str) -> None:
    metrics = metrics_of(project)
    metrics["realism"]["generator <script>alert(1)</script>"] = metrics["realism"].pop("generator unseen")
    assert "<script>" not in page.page(metrics, {}) and "alert(1)" in page.page(metrics, {})


def test_evaluate_model_writes_the_same_metrics_into_the_card(project: Path, printed: str, tmp_path: Path) -> None:
    metrics = metrics_of(project)
    for kind in ("realism", "upvote", "relevance"):
        folder = Path(shutil.copytree(project / kind, tmp_path / kind))
        before = serving.fingerprint(folder)
        evaluate.main(project / "data", tmp_path / "out", project / "c.toml", one=folder)
        for content in metrics[kind].values():
            content.pop("generator_likelihood", None)
            content.pop("other", None)
        assert cards.read_card(folder).metrics == metrics[kind] and serving.fingerprint(folder) == before
    assert {path.name for path in (tmp_path / "out" / "scores").glob("*_test.realism.csv")} == {"realism_test.realism.csv"}
    with pytest.raises(UserError, match="--model measures a single model; drop --candidates, --beside and --left-out"):
        evaluate.main(project / "data", tmp_path, project / "c.toml", project / "candidates.csv", one=project / "upvote")
    with pytest.raises(UserError, match=r"model.json is missing"):
        evaluate.main(project / "data", tmp_path, project / "c.toml", one=project / "lm")


def test_left_out_subreddits_are_measured_over_all_splits(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "data", tmp_path / "data")
    for each, number in (("train", 30), ("val", 1), ("test", 2)):
        path = tmp_path / "data" / f"upvote_pairs_{each}.csv"
        rows = schema.read_rows(path, UpvotePair) if path.exists() else []
        schema.write_rows(path, UpvotePair, [*rows, *(pair(n, f"{GOOD} {n}", BAD, 5 + 20 * n, subreddit="New") for n in range(number))])
    shutil.copytree(project / "upvote", tmp_path / "fold")
    card = cards.read_card(tmp_path / "fold")
    card.settings["left_out"] = ["new"]
    cards.write_card(tmp_path / "fold", card)
    evaluate.main(tmp_path / "data", tmp_path / "out", project / "c.toml", one=tmp_path / "fold")
    metrics = cards.read_card(tmp_path / "fold").metrics
    assert (
        metrics["left_out_r/new_gap_5"]["pairs"] == metrics["left_out_gap_5"]["pairs"] == 33 and metrics["left_out_gap_20"]["pairs"] == 30
    )
    assert metrics["left_out_gap_5"].keys() >= {"ranker", "tfidf", "longer_wins"} and metrics["all"]["pairs"] == 26


def test_a_generator_is_measured_next_to_its_base(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pull.pull("tiny-lm", tiny.language_model(tmp_path / "source"))
    model = Path(shutil.copytree(project / "lm", tmp_path / "model"))
    settings = {"max_tokens": 64, "seed": 1}
    cards.write_card(
        model, cards.ModelCard("lm", "tiny-lm", "0" * 64, "full", settings=settings, metrics={"train_loss_last_50_steps": 3.0})
    )
    rows = schema.read_rows(project / "data" / "lm_test.csv", LmRow)
    too_long = LmRow("t3_l", "t1_l", "t1_m", "s", "long", "train " * 300)
    schema.write_rows(tmp_path / "lm_test.csv", LmRow, [*rows, too_long])
    schema.write_rows(tmp_path / "lm_val.csv", LmRow, rows[:5])
    evaluate.main(tmp_path, tmp_path / "out", project / "c.toml", one=model)
    metrics = cards.read_card(model).metrics
    assert metrics["train_loss_last_50_steps"] == 3.0 and (metrics["val_rows"], metrics["test_rows"]) == (5, 24)  # without the long row
    assert metrics["val_perplexity"] == pytest.approx(metrics["val_perplexity_base"]) and metrics["test_perplexity"] > 1  # the same weights
    assert "test_perplexity" in capsys.readouterr().out


def test_missing_parts_are_listed_and_the_rest_is_measured(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(project / "data", tmp_path / "data")
    (tmp_path / "data" / "upvote_pairs_test.csv").unlink()
    settings = (project / "c.toml").read_text()
    settings = settings.replace(f"{project}/lm", f"{project}/nowhere").replace(f"{project}/relevance", f"{project}/empty")
    (tmp_path / "c.toml").write_text(settings)
    evaluate.main(tmp_path / "data", tmp_path / "out", tmp_path / "c.toml", project / "candidates.csv")
    result = metrics_of(tmp_path)
    missing = result["made"]["missing"]
    first = "subreddits left out of training"
    assert [line.split(":")[0] for line in missing] == [first, "relevance", "upvote", "generator likelihood", "judge liked"]
    assert missing[2] == f"upvote: no file {tmp_path}/data/upvote_pairs_test.csv" and f"missing: {missing[1]}" in capsys.readouterr().out
    assert "upvote" not in result and "realism" in result and result["ranking_stage"]["choices"]["rank_score"].keys() >= {"real", "belongs"}
    assert "without_relevance" not in result["ranking_stage"]["choices"] and "without_upvote" in result["ranking_stage"]["choices"]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Not measured" in page and "generator likelihood" in page


def cut(data: Path, name: str, keep: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    columns, rows = schema.read_table(data / name)
    schema.write_table(data / name, columns, keep(rows), {})


TINY: dict[str, Callable[[list[dict[str, str]]], list[dict[str, str]]]] = {
    "no row": lambda rows: [],
    "one row": lambda rows: rows[:1],
    "one class": lambda rows: [row for row in rows if row.get("label", "0") == "0"][:3],
    "the other class": lambda rows: [row for row in rows if row.get("label", "1") == "1"][:3],
    "no common word": lambda rows: [
        {**row, **dict.fromkeys(("reply", "chosen", "rejected") & row.keys(), f"w{n}")} for n, row in enumerate(rows)
    ],
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("size", TINY)
def test_files_with_too_few_rows_are_skipped_by_name(
    project: Path, tmp_path: Path, size: str, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is measured or listed as missing with its file; and a single model is measured or refused in one line."""

    def score(self: score_files.Scores, pairs: Sequence[tuple[str, str]], name: str, *_: Any) -> np.ndarray:
        return np.array([(len(comment) + 3 * len(reply)) % 7 / 10 + 0.1 for comment, reply in pairs])

    monkeypatch.setattr(score_files.Scores, "read", score)
    shutil.copytree(project / "data", tmp_path / "data")
    stems = {"realism": "realism", "upvote": "upvote_pairs", "relevance": "relevance"}
    for name in (*stems.values(), *(["lm"] if split == "test" else [])):
        cut(tmp_path / "data", f"{name}_{split}.csv", TINY[size])
    evaluate.main(tmp_path / "data", tmp_path / "out", project / "c.toml")
    result = metrics_of(tmp_path)
    missing = dict(line.split(": ", 1) for line in result["made"]["missing"])
    skipped = [kind for kind in stems if kind in missing]
    assert skipped if size == "no row" or split == "train" else True
    for kind, stem in stems.items():
        assert (kind in result) is not (kind in missing)
        if kind in missing:
            assert f"{tmp_path}/data/{stem}_" in missing[kind] and missing[kind].endswith("prepare more data")
            with pytest.raises(measures.TooFew, match=f"data/{stem}_"):
                evaluate.main(tmp_path / "data", tmp_path / "out", project / "c.toml", one=project / kind)
    assert ("stock_phrases" in result) is not ("stock phrases and ranking stage" in missing)


def test_a_foreign_output_file_is_an_error_before_any_work(project: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"metrics.json: already exists, and this project did not write it"):
        evaluate.main(project / "data", tmp_path, project / "c.toml")
    assert not (tmp_path / "scores").exists() and (tmp_path / "metrics.json").read_text() == '{"mine": 1}'


def test_nothing_to_evaluate_is_an_error(project: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[rank]\nrealism = ""\nupvote = ""\nrelevance = ""\nchoice = ""\n')
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate.main(project / "data", tmp_path / "out", tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text(f'[rank]\nrealism = "{project}/upvote"\nupvote = ""\nrelevance = ""\nchoice = ""\n')
    with pytest.raises(UserError, match="a model of kind upvote; set rank.realism"):
        evaluate.main(project / "data", tmp_path / "out", tmp_path / "c.toml")


def test_another_upvote_ranker_is_measured_on_the_same_pairs(project: Path, printed: str) -> None:
    rows = [row for row in schema.read_rows(project / "data" / "upvote_pairs_test.csv", UpvotePair) if row.karma_gap >= 20]
    ranker = rankers.load("transformers", project / "other")
    chosen, rejected = (ranker.score([(row.comment, getattr(row, side)) for row in rows]) for side in ("chosen", "rejected"))
    gap_20 = metrics_of(project)["upvote"]["gap_20"]
    assert gap_20["other"]["pairwise_accuracy"][0] == pytest.approx(np.mean(np.array(chosen) > np.array(rejected)), abs=1e-4)
    assert gap_20["pairs"] == len(rows) and "pairs" not in gap_20["other"] and "other" in printed


def test_errors_of_beside_and_left_out(project: Path, tmp_path: Path) -> None:
    def run(**folders: list[Path]) -> None:
        evaluate.main(project / "data", tmp_path / "out", project / "c.toml", **folders)  # type: ignore[arg-type]

    with pytest.raises(UserError, match="realism: a model of kind realism; set --beside to a folder of kind upvote"):
        run(beside=[project / "realism"])
    shutil.copytree(project / "other", tmp_path / "tfidf")
    with pytest.raises(UserError, match="two scorers are called tfidf"):
        run(beside=[tmp_path / "tfidf"])
    (tmp_path / "broken").mkdir()
    shutil.copy(project / "other" / "model.json", tmp_path / "broken")
    with pytest.raises(UserError, match="failed"):
        run(beside=[tmp_path / "broken"])
    with pytest.raises(UserError, match="upvote: its card has no metrics of left-out subreddits; train it with `train upvote --leave-out"):
        run(left_out=[project / "upvote"])
    with pytest.raises(UserError, match="two of these rankers left out r/one; drop one of them"):
        upvote.merge_left_out([fold("one", 0.6), fold("one", 0.5)])


def test_left_out_subreddits_are_merged_by_their_number_of_pairs() -> None:
    merged = upvote.merge_left_out([fold("b", 0.5, 30), fold("a", 0.9, 10, gaps=(20,))])
    assert list(merged) == ["gap_20", "gap_5", "r/a_gap_20", "r/b_gap_20", "r/b_gap_5"]
    assert merged["gap_20"]["pairs"] == 40 and merged["gap_20"]["subreddits"] == 2
    assert merged["gap_20"]["ranker"]["pairwise_accuracy"] == (0.6, 0.5, 0.9)  # a bootstrap over subreddits
    assert merged["gap_5"]["ranker"]["pairwise_accuracy"] == (0.5, 0.0, 1.0)  # a single subreddit gives no interval


def test_the_engine_defaults_to_that_of_run_and_is_shown(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for each in ("train", "test"):
        shutil.copy(project / "data" / f"upvote_pairs_{each}.csv", tmp_path / "data")
    (tmp_path / "c.toml").write_text(
        f'[generate]\nmodel = "{tmp_path}/none"\n[rank]\nrealism = ""\nrelevance = ""\nchoice = ""\nupvote = "{project}/upvote"\n'
    )
    to_ctranslate2.export(project / "upvote", "int8")  # in this process, which has PyTorch loaded
    evaluate.main(tmp_path / "data", tmp_path / "out", tmp_path / "c.toml")
    evaluate.main(tmp_path / "data", tmp_path / "out2", tmp_path / "c.toml", engine="transformers")
    first, second = (metrics_of(tmp_path, out)["made"] for out in ("out", "out2"))
    assert (first["rank_backend"], first["rank_precision"], first["engine_of_run"]) == ("ctranslate2", "int8", True)
    assert (second["rank_backend"], second["rank_precision"], second["engine_of_run"]) == ("transformers", "float32", False)
    assert "--engine transformers" in second["command"] and "--engine" not in first["command"]
    pages = [(tmp_path / out / "evaluation.html").read_text() for out in ("out", "out2")]
    assert "rankers by <b>ctranslate2</b> in <b>int8</b>, as in <code>run</code>" in pages[0]
    assert "rankers by <b>transformers</b> in <b>float32</b>, set by <code>--engine</code>" in pages[1]


# --- score and evaluate agree -------------------------------------------------------------------------------------------

INVENTED = [
    ("Which book made you laugh?", "Dune, but only the footnotes."),
    ("Which book made you laugh?", "lol"),
    ("My kettle takes ten minutes. Is that normal?", "No. " * 60),
    ("My kettle takes ten minutes. Is that normal?", "Vinegar &amp; patience, *twice* a month."),
    ("Hm.", "This is a great post, thank you"),
    ("Hm.", "I once wrote a whole essay about the thing I did on Saturdays, and nobody read it but my aunt."),
    ("What do you think? " * 40, "I read all of it and I still don't know what you are asking."),
    ("What do you think? " * 40, "yes"),
    ("Is [SEP] a token?", "[SEP] is one, <|endoftext|> another."),
    ("Is [SEP] a token?", "Ça dépend – 👍"),
    ("The train is late again", "Same here"),
    ("The train is late again", "Mine was cancelled, so I walked; it took an hour and a half, and I'd do it again tomorrow."),
]


@pytest.mark.parametrize("engine", ["transformers", "ctranslate2"])
def test_a_single_ranker_and_all_rankers_give_the_same_scores(project: Path, tmp_path: Path, engine: str) -> None:
    """Cross-encoders and the dual encoder, in float32: another order, another batch size, and repeated pairs."""
    settings = (project / "c.toml").read_text().replace('backend = "transformers"', f'backend = "{engine}"\nprecision = "float32"')
    if engine == "ctranslate2":
        for kind in ("realism", "upvote", "relevance"):  # in this process, which has PyTorch loaded
            to_ctranslate2.export(project / kind, "float32")
    for name, order, batch_size in (("one", INVENTED, 64), ("all", INVENTED[::-1] + INVENTED[:3], 5)):
        schema.write_table(tmp_path / f"{name}.csv", ["comment", "reply"], [{"comment": c, "reply": r} for c, r in order])
        (tmp_path / f"{name}.toml").write_text(settings.replace("[rank]\n", f"[rank]\nbatch_size = {batch_size}\n"))
    scoring.main(tmp_path / "all.csv", tmp_path / "all-scored.csv", tmp_path / "all.toml")
    header, rows = schema.read_table(tmp_path / "all-scored.csv")
    assert header == ["comment", "reply", *score.SCORES, "rank_score"]
    together = {(row["comment"], row["reply"]): row for row in rows}
    for kind in ("realism", "upvote", "relevance"):
        scoring.main(tmp_path / "one.csv", tmp_path / f"{kind}.csv", tmp_path / "one.toml", model=project / kind)
        header, rows = schema.read_table(tmp_path / f"{kind}.csv")
        assert header == ["comment", "reply", f"{kind}_score"] and [(row["comment"], row["reply"]) for row in rows] == INVENTED
        scores = [float(row[f"{kind}_score"]) for row in rows]
        assert len({round(each, 3) for each in scores}) > 8  # the scores do differ between pairs
        bound = tiny.rounding(largest=5)  # the scale of the dual encoder
        assert scores == pytest.approx([float(together[pair][f"{kind}_score"]) for pair in INVENTED], abs=bound)


# --- processes ----------------------------------------------------------------------------------------------------------


def test_evaluate_loads_no_framework_and_scores_once(project: Path, tmp_path: Path) -> None:
    """A ranker, its untuned base and the generator run in separate processes; a second evaluation starts none."""
    (tmp_path / "data").mkdir()
    for each in ("train", "test"):
        shutil.copy(project / "data" / f"upvote_pairs_{each}.csv", tmp_path / "data")
    (tmp_path / "c.toml").write_text(
        f'[generate]\nmodel = "{project}/lm"\n[rank]\nbackend = "transformers"\n'
        f'realism = ""\nrelevance = ""\nchoice = ""\nupvote = "{project}/upvote"\n'
    )
    program = f"""
import os, sys
from pathlib import Path
from bot.evaluate import evaluate
os.environ["WARM"] = {os.environ["WARM"]!r}  # for the stages that it starts
folder = Path({str(tmp_path)!r})
evaluate.main(folder / "data", folder / "out", folder / "c.toml")
print("frameworks:", [name for name in ("torch", "tensorflow", "transformers", "ctranslate2") if name in sys.modules])
"""
    environment = {**cli.with_root(os.environ), "BOT_BASES": str(project / "bases")}
    del environment["WARM"]
    names, mtimes = [], []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "frameworks: []" in done.stdout
        names.append(sorted(path.name for path in (tmp_path / "out" / "scores").glob("*.*.csv")))
        mtimes.append([(tmp_path / "out" / "scores" / name).stat().st_mtime_ns for name in names[-1]])
    assert names[0] == ["likelihood.lm.csv", "upvote_pairs_test.tiny-encoder.csv", "upvote_pairs_test.upvote.csv"]
    assert names[0] == names[1] and mtimes[0] == mtimes[1]
    _, rows = schema.read_table(tmp_path / "out" / "scores" / "upvote_pairs_test.upvote.csv")
    expected = rankers.load("transformers", project / "upvote").score([(row["comment"], row["reply"]) for row in rows])
    assert [float(row["upvote_score"]) for row in rows] == pytest.approx(expected, abs=tiny.rounding()) and len(set(expected)) > 1


def test_a_score_file_is_rewritten_when_the_pairs_or_the_model_change(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(score_files, "start", lambda *call: started.append(call[0]) or tiny.start_in_process(*call))  # type: ignore[func-returns-value]
    model = Path(shutil.copytree(project / "upvote", tmp_path / "model"))
    settings = config.load(project / "c.toml")
    scorer = score_files.Scores(tmp_path, settings).of_model(model)
    pairs = [("why?", "*so*"), ("why?", "so"), ("why?", "*so*"), ("Why?", "007")]
    scores = scorer(pairs, "pairs")
    assert scores[0] == scores[2] and scores[3] != scores[0]
    assert scores[0] == pytest.approx(scores[1], abs=tiny.rounding())  # texts are cleaned
    header, rows = schema.read_table(tmp_path / "pairs.model.csv")
    assert header == ["comment", "reply", "upvote_score"] and [row["reply"] for row in rows] == ["*so*", "so", "007"]  # each pair once
    assert [float(row["upvote_score"]) for row in rows] == [scores[0], scores[1], scores[3]]  # exactly equal
    assert scorer(pairs, "pairs").tolist() == scores.tolist() and len(started) == 1
    scorer([*pairs, ("more", "more")], "pairs")
    assert len(started) == 2
    shutil.copy(project / "other" / "model.safetensors", model)
    assert scorer([*pairs, ("more", "more")], "pairs")[0] != scores[0] and len(started) == 3


def test_a_process_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`python run_bot.py score --in .* failed, see the error above"):
        start_process(["score", "--in", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out.csv")], {})
