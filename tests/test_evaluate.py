"""evaluate: rankers and their picks on invented rows, the files it writes, and that `score` gives the same numbers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import config, rankers, schema, text
from bot.cli import ROOT, UserError
from bot.evaluate import choices, evaluate, measures, page
from bot.evaluate.choices import Choice
from bot.evaluate.measures import ScoredRows
from bot.export import to_ctranslate2
from bot.online import rank
from bot.rankers import score
from bot.schema import Candidate, LabelledRow, LmRow, RealismRow, UpvotePair
from bot.weights import bases, cards, pull, serving
from tests import tiny

GOOD, BAD = "short and funny and kind", "normal minutes boil essay"


class Counts:
    """A ranker that counts a letter, and remembers what it was asked."""

    def __init__(self, letter: str = "x"):
        self.letter = letter
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]:
        self.asked += pairs
        return [min(0.95, 0.05 + 0.1 * reply.count(self.letter)) for _, reply in pairs]


def pair(n: int, chosen: str, rejected: str, gap: int = 9, hours: float = 0.5, subreddit: str = "s") -> UpvotePair:
    return UpvotePair(f"t3_{n}", f"t1_{n}", f"t1_{n}a", f"t1_{n}b", subreddit, "why?", chosen, rejected, gap, hours)


# --- upvote -----------------------------------------------------------------------------------------------------------------

SIBLINGS = [
    pair(1, "xx", "x", 25, -0.5),  # the ranker is right; the longer and the earlier one
    pair(1, "xaaaaaaaa", "xaaaaaaab", 4, 0.9),  # a tie; like length
    pair(2, "a", "xa", 120, 0.0),  # wrong; no real times
    pair(3, "xxx", "", 30, 1.2),  # too far apart
    pair(4, "xxx yyyyyy", "x yyyyyyy", 5, -1.0),  # right; the shorter is 90 % of the longer
]
TRAIN = [pair(n, f"word{n % 3} x", f"word{n % 3} y") for n in range(8)]


def test_siblings_too_far_apart_in_time_are_left_out_and_made_up_times_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = Counts()
    assert "earlier_wins" not in measures.measure_upvote(measures.score_upvote(ranker, None, TRAIN, SIBLINGS))["all"]  # 3 of 4
    monkeypatch.setattr(measures, "FEWEST_TOLD", 3)
    tested = measures.score_upvote(ranker, None, TRAIN, SIBLINGS)
    assert [row.karma_gap for row in tested.rows] == [25, 4, 120, 5]
    assert tested.scores["ranker"].tolist() == pytest.approx(np.array([[0.25, 0.15], [0.15, 0.15], [0.05, 0.15], [0.35, 0.15]]))
    assert np.isnan(tested.scores["earlier_wins"][2]).all()
    measured = measures.measure_upvote(tested)
    everything = measured["all"]
    assert everything["pairs"] == 4 and everything["threads"] == 3
    assert everything["ranker"]["pairwise_accuracy"][0] == pytest.approx(2.5 / 4)
    assert everything["longer_wins"]["pairwise_accuracy"][0] == pytest.approx(2.5 / 4)
    assert everything["earlier_wins"]["pairwise_accuracy"][0] == pytest.approx(2 / 3, abs=1e-4) and everything["earlier_wins"]["pairs"] == 3
    assert everything["tfidf"]["pairwise_accuracy"][0] == pytest.approx(1 / 4)  # it learnt «x», which two of the rejected have
    assert everything["tfidf"]["behind_ranker"][0] == pytest.approx(1.5 / 4) and "behind_ranker" not in everything["ranker"]
    assert everything["longer_wins"]["behind_ranker"] == (0.0, 0.0, 0.0)  # as often right, and on the same pairs
    assert everything["earlier_wins"]["behind_ranker"][0] == pytest.approx((2.5 - 2) / 3, abs=1e-4)  # of the three that it tells
    assert everything["ranker_and_earlier"]["pairwise_accuracy"][0] == pytest.approx(1 / 3, abs=1e-4)  # in TRAIN the later one always wins
    often = [*TRAIN[:2], *(pair(n, "x", "y", hours=-0.5) for n in range(6))]  # three in four times the earlier one
    told = measures.measure_upvote(measures.score_upvote(ranker, None, often, SIBLINGS))["all"]["ranker_and_earlier"]
    assert told["pairwise_accuracy"][0] == pytest.approx(2 / 3, abs=1e-4) and told["pairs"] == 3  # it decides the tie, wrongly
    timeless = [pair(n, "x", "y", hours=0.0) for n in range(8)]
    assert "ranker_and_earlier" not in measures.score_upvote(ranker, None, timeless, SIBLINGS).scores
    assert measured["gap_5"]["pairs"] == 3 and measured["gap_20"]["pairs"] == 2
    assert measured["gap_20"]["ranker"]["pairwise_accuracy"] == (0.5, 0.0, 1.0)
    assert measured["like_length"]["pairs"] == 2 and "like_length_gap_20" not in measured
    assert {name: measured[name]["pairs"] for name in ("gap_2-4", "gap_5-9", "gap_20-49", "gap_100+")} == dict(
        zip(("gap_2-4", "gap_5-9", "gap_20-49", "gap_100+"), (1, 1, 1, 1), strict=True)
    )
    assert "gap_10-19" not in measured and list(measures.main_subsets(measured)) == ["all", "gap_5", "gap_20", "like_length"]


def test_subreddits_of_many_pairs_and_threads_stand_alone() -> None:
    rows = [pair(n, "xx", "x", 20 + n % 2, subreddit="Big") for n in range(50)] + [pair(n, "xx", "x", subreddit="small") for n in range(49)]
    rows += [pair(n % 4, "xx", "x", subreddit="few") for n in range(60)]
    rows += [pair(n % 5, "xx", "x", 30 if n % 5 < 4 else 9, subreddit="some") for n in range(60)]  # large gaps in four of five threads
    found = measures.upvote_subsets(rows)
    assert found["r/Big"].sum() == 50 and found["r/Big_gap_20"].sum() == 50 and found["r/some"].sum() == 60
    assert not {"r/small", "r/few", "r/some_gap_20"} & found.keys()


def test_what_is_scored_is_cleaned_and_scored_once() -> None:
    ranker = Counts()
    scores = measures.ranker_scores(ranker, [("why?", "*xx*"), ("why?", "y"), ("why?", "*xx*")])
    assert ranker.asked == [("why?", "xx"), ("why?", "y")] and scores.tolist() == pytest.approx([0.25, 0.05, 0.25])


def test_the_stated_chance_of_a_pair() -> None:
    scores = np.array([[0.9, 0.9], [0.75, 0.5], [0.5, 0.75]])
    assert measures.pair_chances("ranker", scores) == pytest.approx([0.5, 0.75, 0.25])
    assert measures.pair_calibration_error(np.array([0.75] * 3 + [0.25])) == pytest.approx(0.0)  # three of four, as it says
    assert measures.pair_calibration_error(np.array([0.95] * 2 + [0.05] * 2)) == pytest.approx(0.45)


# --- realism ----------------------------------------------------------------------------------------------------------------


def reply(n: int, body: str, generator: str = "") -> RealismRow:
    return RealismRow(f"t3_{n}", f"t1_{n}", f"t1_{n}-{body}", "s", "why?", body, int(not generator), generator)


def test_realism_overall_and_by_generator() -> None:
    train = [reply(n, "x word", "") for n in range(4)] + [reply(n, "y word", "old") for n in range(4)]
    test = (
        [reply(n, "xxxxxx") for n in range(4)] + [reply(4, "x")] + [reply(n, "xx", "old") for n in range(4)] + [reply(9, "xxxxxxx", "new")]
    )
    measured = measures.measure_realism(measures.score_realism(Counts(), None, train, test))
    everything = measured["all"]
    assert (everything["rows"], everything["real"], everything["threads"]) == (10, 5, 6)
    assert everything["ranker"]["confusion"] == [[4, 1], [1, 4]] and everything["ranker"]["accuracy"][0] == pytest.approx(0.8)
    assert everything["ranker"]["roc_auc"][0] == pytest.approx((4 * 4 + 0) / 25)
    # generated ones from the lowest score up: the person's x, then all four old ones, then the four people's, last the new one
    assert everything["ranker"]["pr_auc_generated"][0] == pytest.approx(0.8 * 4 / 5 + 0.2 * 5 / 10)
    assert everything["always_real"]["balanced_accuracy"][0] == 0.5 and everything["always_real"]["roc_auc"][0] == 0.5
    assert everything["longer_is_real"].keys() == {"roc_auc", "pr_auc_generated"}  # states no probability
    assert measured["generator old"]["ranker"]["roc_auc"][0] == pytest.approx(0.8) and measured["generator old"]["rows"] == 9
    assert measured["generator new"]["ranker"]["roc_auc"][0] == 0.0 and measured["generator new"]["unseen_in_training"] is True
    assert "unseen_in_training" not in measured["generator old"]


def test_a_scorer_that_ran_on_some_rows_is_measured_on_those() -> None:
    rows = [reply(n, "x" * 6) for n in range(4)] + [reply(n, "x", "old") for n in range(4)]
    some = np.array([0.9, 0.1, np.nan, np.nan, 0.5, np.nan, np.nan, np.nan])
    tested = ScoredRows(rows, {"ranker": np.ones(8), "generator_likelihood": some}, frozenset({"old"}))
    told = measures.measure_realism(tested)["all"]["generator_likelihood"]
    assert told["roc_auc"][0] == 0.5 and told["rows"] == 3


# --- the ranking stage ------------------------------------------------------------------------------------------------------


def choice(n: int, candidates: Sequence[str], likelihoods: Sequence[float | None], person: str = "a person's") -> Choice:
    """realism counts r, upvote counts u."""
    scores = score.score_pairs(
        [("why?", each) for each in candidates], {"realism_score": Counts("r"), "upvote_score": Counts("u")}, 32, config.RankWeights()
    )
    return Choice(f"t3_{n}", "why?", person, list(candidates), scores, list(likelihoods))


COLUMNS = ["realism_score", "upvote_score"]


def picks(one: Choice, minimum_realism: float = 0.2, first: int | None = None) -> dict[str, int | None]:
    ways = choices.pickers(COLUMNS, config.RankWeights(realism=0.5, upvote=0.5), minimum_realism)
    return {name: way(one, first) for name, way in ways.items()}


def test_each_way_picks_its_own() -> None:
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


def test_the_two_steps_with_another_upvote_ranker() -> None:
    one = choice(1, ["uuuu", "rrr u", "rr uuu", "rrrr", "nothing at all, at length"], [-1.0] * 5)
    one.beside["other"] = [9.0, 1.0, 2.0, 3.0, 9.0]  # the highest are of candidates without realism
    weights = config.RankWeights(realism=0.5, upvote=0.5)
    assert choices.pickers(COLUMNS, weights, 0.2, ["other"])["two_step_other"](one, None) == 3
    assert "two_step_other" in choices.measure_choices([one], COLUMNS, weights, 0.2, {"long": Length()})["choices"]
    assert "two_step_other" not in choices.pickers(["upvote_score"], weights, 0.2, ["other"])  # no realism, no first step


class Length:
    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([float(len(reply)) for _, reply in pairs])


def test_win_rates_gain_and_genericness() -> None:
    first = choice(1, ["rrrr uuu", "same words here", "u", "uu"], [-1.0, -2.0, -3.0, -4.0], "in the middle")
    second = choice(2, ["Same words, here", "rr uuu zz", "u", "longer than all the others"], [-1.0, -2.0, -3.0, -4.0], "in the middle ")
    weights = config.RankWeights(realism=0.5, upvote=0.5)
    measured = choices.measure_choices([first, second], COLUMNS, weights, 0.2, {"long": Length()})
    ways = measured["choices"]
    assert ways["longest"]["long"] == (1.0, 1.0, 1.0) and ways["random"]["long"] == (0.5, 0.5, 0.5)
    assert ways["rank_score"]["long"][0] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert ways["person"]["long"][0] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert ways["most_likely"]["near_verbatim"][0] == 0.5  # of the first one's picks, «Same words, here» is nearly the other's
    assert ways["longest"]["near_verbatim"][0] == 0.5 and ways["rank_score"]["near_verbatim"][0] == 0.0
    assert ways["random"]["near_verbatim"][0] == pytest.approx((2 / 4 + 2 / 4) / 2)  # «u» is in both, too
    assert ways["rank_score"]["distinct_1"] == pytest.approx(4 / 5) and "distinct_1" not in ways["random"]
    gain = measured["gain"]["long"]
    assert gain["random"]["1"][0] == gain["longest"]["1"][0] == pytest.approx((2 / 3 + 2 / 3) / 2, abs=1e-4)
    assert gain["random"]["2"][0] == pytest.approx(((2 / 3 + 1) / 2 + (2 / 3 + 1 / 3) / 2) / 2, abs=1e-4)
    assert gain["longest"]["2"][0] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4) and "5" not in gain["random"]


def test_candidates_of_other_comments_are_refused(tmp_path: Path) -> None:
    people = [LmRow("t3_1", "t1_1", "t1_r", "s", "why?", "so"), LmRow("t3_1", "t1_1", "t1_q", "s", "why?", "later")]
    rows = [Candidate("t1_1", f"t1_1-{n}", n, "?", body, "g", -1.0) for n, body in enumerate(["*uu*", "&gt;", "r", ""])]
    schema.write_rows(tmp_path / "c.csv", Candidate, rows)
    (found,) = choices.read_choices(tmp_path / "c.csv", people, {"upvote_score": Counts("u")}, config.RankSettings())
    assert found.candidates == ["uu", "r"] and found.reply == "so" and found.scores[0]["upvote_score"] == pytest.approx(0.25)
    schema.write_rows(tmp_path / "c.csv", Candidate, [*rows, Candidate("t1_9", "t1_9-0", 1, "?", "a", "g", -1.0)])
    with pytest.raises(UserError, match=r"t1_9 isn't in lm_test.csv; generate from that file's comments"):
        choices.read_choices(tmp_path / "c.csv", people, {"upvote_score": Counts("u")}, config.RankSettings())
    schema.write_rows(tmp_path / "c.csv", Candidate, rows[:1])
    with pytest.raises(UserError, match="no comment has two candidates"):
        choices.read_choices(tmp_path / "c.csv", people, {"upvote_score": Counts("u")}, config.RankSettings())


def test_stock_phrases_are_many_different_and_beaten_or_not() -> None:
    phrases = choices.STOCK_PHRASES.read_text(encoding="utf-8").splitlines()
    assert (
        len(phrases) >= 40 and len(set(phrases)) == len(phrases) and {"This is a great post, thank you", "Same here", "lol"} <= {*phrases}
    )
    assert all(text.clean(phrase) == phrase != "" for phrase in phrases)
    people = [LmRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "why?", "zzzz" if n < 3 else "") for n in range(4)]
    measured = choices.measure_stock_phrases(people, {"upvote_score": Counts("z")}, config.RankSettings(), None, seed=1)
    with_z = sum("z" in phrase for phrase in phrases)
    expected = (3 + (0.5 * (len(phrases) - with_z)) / len(phrases)) / 4
    assert (
        measured["upvote_score"]["pairwise_accuracy"][0]
        == measured["rank_score"]["pairwise_accuracy"][0]
        == pytest.approx(expected, abs=1e-4)
    )
    assert measured["comments"] == 4 and measured["phrases"] == len(phrases) and "realism_score" not in measured
    assert all("z" in phrase for phrase, _ in measured["hardest"][:with_z])


# --- the program ------------------------------------------------------------------------------------------------------------


def fold(subreddit: str, accuracy: float, pairs: int = 10, gaps: Sequence[int] = (5, 20)) -> cards.ModelCard:
    """The card of an upvote ranker that left a subreddit out."""
    scorers = {"ranker": accuracy, "tfidf": 0.55, "longer_wins": 0.5}
    told = {name: {"pairwise_accuracy": [value, 0.0, 1.0]} for name, value in scorers.items()}
    metrics = {f"left_out_r/{subreddit}_gap_{gap}": {"pairs": pairs, "threads": 2, **told} for gap in gaps}
    return cards.ModelCard(kind="upvote", base="b", base_sha256="0" * 64, format="adapter", metrics=metrics)


def write_project(folder: Path) -> None:
    """Prepared files, candidates, three tiny rankers, a tiny generator, and a config that names them."""
    data = folder / "data"
    people = []
    for each, count in (("train", 60), ("test", 24)):
        realism, siblings, belongs = [], [], []
        for n in range(count):
            where, comment = (f"t3_{each}{n}", f"t1_{each}{n}"), f"Which book, reader {n}?"
            human, machine = f"{GOOD} {n % 5}", f"{BAD} {n % 5}"
            realism.append(RealismRow(*where, f"t1_h{n}", "s", comment, human, 1, ""))
            realism.append(RealismRow(*where, f"t1_g{n}", "s", comment, machine, 0, "seen" if each == "train" or n % 2 else "unseen"))
            siblings.append(UpvotePair(*where, f"t1_h{n}", f"t1_g{n}", "s", comment, human, machine, 5 + n, 0.5))
            belongs.append(LabelledRow(*where, f"t1_h{n}", "s", comment, f"reader {n}: {human}", 1))
            belongs.append(LabelledRow(*where, f"t1_g{n}", "s", comment, machine, 0))
            people += [LmRow(*where, f"t1_h{n}", "s", comment, human)] if each == "test" else []
        schema.write_rows(data / f"realism_{each}.csv", RealismRow, realism)
        schema.write_rows(data / f"upvote_pairs_{each}.csv", UpvotePair, siblings)
        schema.write_rows(data / f"relevance_{each}.csv", LabelledRow, belongs)
    schema.write_rows(data / "lm_test.csv", LmRow, people)
    candidates = [
        Candidate(row.comment_id, f"{row.comment_id}-{n}", n, "?", body, "g", -1.0 - n)
        for row in people[:8]
        for n, body in enumerate([GOOD, BAD, "short kettle", "vinegar works", row.comment])
    ]
    schema.write_rows(folder / "candidates.csv", Candidate, candidates)
    pull.pull("tiny-encoder", tiny.encoder(folder / "encoder", head=False))
    dual = {"architecture": "dual encoder", "scale": 5.0, "offset": -1.0}
    for seed, (name, kind) in enumerate({"realism": "realism", "upvote": "upvote", "relevance": "relevance", "other": "upvote"}.items()):
        settings = dual if kind == "relevance" else {}
        card = cards.ModelCard(kind=kind, base="tiny-encoder", base_sha256="0" * 64, format="full", settings=settings)  # type: ignore[arg-type]
        cards.write_card(tiny.encoder(folder / name, seed, head=kind != "relevance"), card)
    cards.write_card(folder / "fold", fold("one", 0.6))
    tiny.language_model(folder / "lm")
    (folder / "c.toml").write_text(
        f'[generate]\nmodel = "{folder}/lm"\n[choose]\nminimum_realism = 0.32\n'
        f'[rank]\nbackend = "transformers"\nrealism = "{folder}/realism"\nupvote = "{folder}/upvote"\n'
        f'relevance = "{folder}/relevance"\n[rank.weights]\nrealism = 0.4\nupvote = 0.3\nrelevance = 0.3\n'
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "BASE_DIR", folder / "bases")
        patch.setattr(evaluate, "LIKELIHOOD_ROWS", 6)
        patch.setattr(choices, "STOCK_COMMENTS", 5)
        patch.setattr(measures, "FEWEST_TOLD", 6)
        write_project(folder)
        yield folder


@pytest.fixture(scope="module")
def printed(project: Path) -> str:
    """What the program says; its files lie in project / "out"."""
    with redirect_stdout(io.StringIO()) as out:
        others: dict[str, Any] = {"beside": [project / "other"], "left_out": [project / "fold"]}
        evaluate.main(project / "data", project / "out", project / "c.toml", project / "candidates.csv", **others)
    return out.getvalue()


def metrics_of(project: Path, out: str = "out") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((project / out / "metrics.json").read_text())
    return told


def test_everything_is_measured(project: Path, printed: str) -> None:
    told = metrics_of(project)
    assert told["made"]["missing"] == [] and told["made"]["rank_backend"] == "transformers"
    assert f"--candidates {project}/candidates.csv --seed 1 --beside {project}/other --left-out {project}/fold" in told["made"]["command"]
    assert told["left_out"]["gap_20"]["ranker"]["pairwise_accuracy"][0] == 0.6 and "r/one_gap_5" in told["left_out"]
    assert told["made"]["models"]["realism"]["sha256"] == serving.fingerprint(project / "realism")
    assert told["realism"]["all"]["generator_likelihood"]["rows"] == 6 and told["realism"]["generator unseen"]["unseen_in_training"]
    assert told["upvote"]["all"]["generator_likelihood"]["pairs"] == 6 and "untuned_encoder" in told["upvote"]["gap_20"]
    assert told["relevance"]["random_10"]["queries"] == 24
    assert told["judges"].keys() == {"liked", "real", "belongs"} and told["judges"]["real"]["judge"]["pairwise_accuracy"][0] == 1.0
    stage = told["ranking_stage"]
    assert stage["comments"] == 8 and stage["candidates"] == 40
    assert {
        "rank_score",
        "choose",
        "without_relevance",
        "two_step",
        "two_step_other",
        "most_likely",
        "longest",
        "random",
        "person",
    } <= stage["choices"].keys()
    assert stage["choices"]["most_likely"]["near_verbatim"][0] == 1.0  # GOOD stands under every comment
    assert stage["choices"]["person"]["real"][0] > 0.5 and list(stage["gain"]["liked"]["random"]) == ["1", "2", "5"]
    assert told["stock_phrases"]["comments"] == 5
    assert "ranking stage, 8 comments, 40 candidates" in printed and "generator unseen" in printed


def test_the_page_shows_it(project: Path, printed: str) -> None:
    page = (project / "out" / "evaluation.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 6 and "http" not in page.replace("http-equiv", "")
    assert f"{metrics_of(project)['realism']['all']['ranker']['roc_auc'][0]:.3f}" in page
    for words in ("Not measured", "Traceback", "None", "nan"):
        assert words not in page
    for words in (
        "the longer wins",
        "two-step with other",
        "1 subreddits left out",
        "r/one, karma gap of at least 5",
        "unseen in training",
        "win rate by the judge",
        "Stock phrases",
    ):
        assert words in page


def test_a_text_from_the_data_is_no_markup_on_the_page(project: Path, printed: str) -> None:
    told = metrics_of(project)
    told["realism"]["generator <script>alert(1)</script>"] = told["realism"].pop("generator unseen")
    assert "<script>" not in page.page(told, {}) and "alert(1)" in page.page(told, {})


def test_metrics_are_those_of_the_card(project: Path, printed: str) -> None:
    told = metrics_of(project)
    for kind in ("realism", "upvote", "relevance"):
        ranker = rankers.load("transformers", project / kind)
        card = json.loads(json.dumps(measures.measure(cards.read_card(project / kind), ranker, project / "data")))
        for content in told[kind].values():
            content.pop("generator_likelihood", None)
            content.pop("other", None)
        assert card == told[kind]


def test_what_is_not_there_is_named_and_the_rest_measured(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(project / "data", tmp_path / "data")
    (tmp_path / "data" / "upvote_pairs_test.csv").unlink()
    told = (
        (project / "c.toml").read_text().replace(f"{project}/lm", f"{project}/nowhere").replace(f"{project}/relevance", f"{project}/empty")
    )
    (tmp_path / "c.toml").write_text(told)
    evaluate.main(tmp_path / "data", tmp_path / "out", tmp_path / "c.toml", project / "candidates.csv")
    result = metrics_of(tmp_path)
    missing = result["made"]["missing"]
    first = "subreddits left out of training"
    assert [line.split(":")[0] for line in missing] == [first, "relevance", "upvote", "generator likelihood", "judge liked"]
    assert "upvote_pairs_test.csv isn't there" in missing[2] and f"missing: {missing[1]}" in capsys.readouterr().out
    assert "upvote" not in result and "realism" in result and result["ranking_stage"]["choices"]["rank_score"].keys() >= {"real", "belongs"}
    assert "without_relevance" not in result["ranking_stage"]["choices"] and "without_upvote" in result["ranking_stage"]["choices"]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Not measured" in page and "generator likelihood" in page


def test_nothing_to_evaluate_is_an_error(project: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[rank]\nrealism = ""\nupvote = ""\nrelevance = ""\n')
    with pytest.raises(UserError, match="there is nothing to evaluate"):
        evaluate.main(project / "data", tmp_path / "out", tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text(f'[rank]\nrealism = "{project}/upvote"\nupvote = ""\nrelevance = ""\n')
    with pytest.raises(UserError, match="a model of kind upvote; set rank.realism"):
        evaluate.main(project / "data", tmp_path / "out", tmp_path / "c.toml")


def test_another_upvote_ranker_is_measured_on_the_same_pairs(project: Path, printed: str) -> None:
    rows = [row for row in schema.read_rows(project / "data" / "upvote_pairs_test.csv", UpvotePair) if row.karma_gap >= 20]
    ranker = rankers.load("transformers", project / "other")
    chosen, rejected = (ranker.score([(row.comment, getattr(row, side)) for row in rows]) for side in ("chosen", "rejected"))
    told = metrics_of(project)["upvote"]["gap_20"]
    assert told["other"]["pairwise_accuracy"][0] == pytest.approx(np.mean(np.array(chosen) > np.array(rejected)), abs=1e-4)
    assert told["pairs"] == len(rows) and "pairs" not in told["other"] and "other" in printed


def test_what_cannot_stand_beside_is_an_error(project: Path, tmp_path: Path) -> None:
    def run(**folders: list[Path]) -> None:
        evaluate.main(project / "data", tmp_path / "out", project / "c.toml", **folders)  # type: ignore[arg-type]

    with pytest.raises(UserError, match="a model of kind realism; name a ranker of kind upvote"):
        run(beside=[project / "realism"])
    shutil.copytree(project / "other", tmp_path / "tfidf")
    with pytest.raises(UserError, match="tfidf names more than one scorer"):
        run(beside=[tmp_path / "tfidf"])
    (tmp_path / "broken").mkdir()
    shutil.copy(project / "other" / "model.json", tmp_path / "broken")
    with pytest.raises(UserError, match="broken: can't be scored, the line above says why"):
        evaluate.scores_beside(tmp_path / "broken", [("why?", "so")], config.RankSettings(backend="transformers"))
    with pytest.raises(UserError, match="upvote: it left out no subreddit"):
        run(left_out=[project / "upvote"])
    with pytest.raises(UserError, match="r/one was left out of two of these rankers"):
        measures.gather_left_out([fold("one", 0.6), fold("one", 0.5)])


def test_subreddits_left_out_are_gathered_by_their_pairs() -> None:
    found = measures.gather_left_out([fold("b", 0.5, 30), fold("a", 0.9, 10, gaps=(20,))])
    assert list(found) == ["gap_20", "gap_5", "r/a_gap_20", "r/b_gap_20", "r/b_gap_5"]
    assert found["gap_20"]["pairs"] == 40 and found["gap_20"]["subreddits"] == 2
    assert found["gap_20"]["ranker"]["pairwise_accuracy"] == (0.6, 0.5, 0.9)  # subreddits are drawn again, whole
    assert found["gap_5"]["ranker"]["pairwise_accuracy"] == (0.5, 0.0, 1.0)  # one tells nothing of others


def test_the_engine_is_that_of_a_run_unless_told_and_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for each in ("train", "test"):
        shutil.copy(project / "data" / f"upvote_pairs_{each}.csv", tmp_path / "data")
    (tmp_path / "c.toml").write_text(
        f'[generate]\nmodel = "{tmp_path}/none"\n[rank]\nrealism = ""\nrelevance = ""\nupvote = "{project}/upvote"\n'
    )
    asked, load = [], rankers.load
    monkeypatch.setattr(rankers, "load", lambda *how: asked.append(how) or load(*how))  # type: ignore[func-returns-value]
    evaluate.main(tmp_path / "data", tmp_path / "out", tmp_path / "c.toml")
    evaluate.main(tmp_path / "data", tmp_path / "out2", tmp_path / "c.toml", engine="transformers")
    assert [how[0] for how in asked] == ["ctranslate2", "transformers"] and asked[0][2] == "int8"
    first, second = (metrics_of(tmp_path, out)["made"] for out in ("out", "out2"))
    assert (first["rank_backend"], first["rank_precision"], first["engine_of_run"]) == ("ctranslate2", "int8", True)
    assert (second["rank_backend"], second["rank_precision"], second["engine_of_run"]) == ("transformers", "float32", False)
    assert "--engine transformers" in second["command"] and "--engine" not in first["command"]
    pages = [(tmp_path / out / "evaluation.html").read_text() for out in ("out", "out2")]
    assert "rankers by <b>ctranslate2</b> in <b>int8</b>, as <code>run</code>" in pages[0]
    assert "rankers by <b>transformers</b> in <b>float32</b>, told by" in pages[1]


# --- score and evaluate agree -------------------------------------------------------------------------------------------------

MINILM = ROOT / "models" / "base" / "minilm-l6"
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


def write_invented(data: Path) -> None:
    """Test rows of all three kinds, their texts as they come from outside; each text a thread of its own but for siblings."""
    for each in ("train", "test"):
        texts = INVENTED if each == "test" else [("why?", f"so {n % 3} so") for n in range(40)]
        ids = [(f"t3_{each}{n}", f"t1_{each}{n}", f"t1_r{each}{n}", "s") for n in range(len(texts))]
        realism = [RealismRow(*where, *both, n % 2, "" if n % 2 else "g") for n, (where, both) in enumerate(zip(ids, texts, strict=True))]
        schema.write_rows(data / f"realism_{each}.csv", RealismRow, realism)
        belongs = [LabelledRow(*where, *both, 1) for where, both in zip(ids, texts, strict=True)]
        schema.write_rows(data / f"relevance_{each}.csv", LabelledRow, belongs)
        siblings = zip(ids[::2], texts[::2], texts[1::2], strict=True)
        pairs = [UpvotePair(t, c, f"{r}x", f"{r}y", s, one[0], one[1], other[1], 20, 0.5) for (t, c, r, s), one, other in siblings]
        schema.write_rows(data / f"upvote_pairs_{each}.csv", UpvotePair, pairs)


@pytest.mark.parametrize("engine", ["transformers", "ctranslate2"])
def test_score_gives_the_numbers_of_evaluate_for_all_three(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Cross-encoders and the dual encoder, in float32: other order, other batch sizes, by the command line."""
    write_invented(tmp_path / "data")
    told = (project / "c.toml").read_text().replace('backend = "transformers"', f'backend = "{engine}"\nprecision = "float32"')
    told = told.replace(f"{project}/lm", f"{tmp_path}/none")  # texts here are longer than its context
    (tmp_path / "c.toml").write_text(told)
    settings = config.load(tmp_path / "c.toml")
    if engine == "ctranslate2":
        for kind in ("realism", "upvote", "relevance"):  # in this process, where PyTorch is loaded already
            to_ctranslate2.export(project / kind, "float32")
    found = evaluate.Evaluation()
    loaded = evaluate.load_rankers(settings.rank, found)
    evaluated: dict[str, dict[tuple[str, str], float]] = {}
    score = measures.ranker_scores

    def recorded(ranker: rankers.Ranker, pairs: Sequence[tuple[str, str]]) -> Any:
        scores = score(ranker, pairs)
        kind = next(name for name, (_, each) in loaded.items() if each is ranker)
        evaluated.setdefault(kind, {}).update(zip(pairs, scores.tolist(), strict=True))
        return scores

    monkeypatch.setattr(measures, "ranker_scores", recorded)
    evaluate.evaluate_rankers(loaded, tmp_path / "data", settings, [], found)
    assert evaluated.keys() == loaded.keys() and set(evaluated["realism"]) == set(evaluated["upvote"]) == set(INVENTED)
    assert all(len({round(score, 3) for score in scores.values()}) > 8 for scores in evaluated.values())  # they do differ
    pairs = list(dict.fromkeys(pair for scores in evaluated.values() for pair in scores))  # replies of other comments too, for relevance
    assert len(pairs) > 60
    for number, (order, batch_size) in enumerate([(pairs[::-1], 1), (pairs[50:] + pairs[:50], 5), (pairs, 64)]):
        source, out = tmp_path / f"{number}.csv", tmp_path / f"{number}-scored.csv"
        schema.write_table(source, ["comment", "reply"], [{"comment": comment, "reply": body} for comment, body in order])
        monkeypatch.setenv("BOT_RANK__BATCH_SIZE", str(batch_size))
        if number == 1:
            command = [sys.executable, str(ROOT / "run_bot.py"), "score", "--config", str(tmp_path / "c.toml")]
            done = subprocess.run([*command, "--in", str(source), "--out", str(out)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        else:
            rank.main(None, source, out, tmp_path / "c.toml")
        scored = {(row["comment"], row["reply"]): row for row in schema.read_table(out)[1]}
        for kind, scores in evaluated.items():
            assert {*scores} <= {*scored}
            assert [float(scored[pair][f"{kind}_score"]) for pair in scores] == pytest.approx([*scores.values()], abs=1e-4)


@pytest.mark.skipif(not MINILM.exists(), reason="python run_bot.py models pull minilm-l6")
def test_score_gives_the_numbers_of_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real ranker in float32: other order, other batch sizes, by the command line."""
    monkeypatch.setenv("BOT_RANK__BACKEND", "transformers")
    monkeypatch.setattr(bases, "BASE_DIR", MINILM.parent)
    settings = config.load(None).rank
    assert settings.realism is not None
    rows = [RealismRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", *each, n % 2, "" if n % 2 else "g") for n, each in enumerate(INVENTED)]
    schema.write_rows(tmp_path / "realism_test.csv", RealismRow, rows)
    train = [RealismRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "why?", f"so {n % 3}", n % 2, "" if n % 2 else "g") for n in range(40)]
    schema.write_rows(tmp_path / "realism_train.csv", RealismRow, train)
    folder = ROOT / settings.realism
    evaluated = measures.score_test(cards.read_card(folder), rankers.load(settings.backend, folder), tmp_path).scores["ranker"]
    assert len({round(float(score), 3) for score in evaluated}) > 8  # they do differ
    expected = {each: float(score) for each, score in zip(INVENTED, evaluated, strict=True)}
    monkeypatch.chdir(ROOT)
    for other in ("UPVOTE", "RELEVANCE"):  # one ranker is enough, and a third of the time
        monkeypatch.setenv(f"BOT_RANK__{other}", "")
    for number, (order, batch_size) in enumerate([(INVENTED[::-1], 1), (INVENTED[5:] + INVENTED[:5], 5), (INVENTED[:7], 64)]):
        source, out = tmp_path / f"{number}.csv", tmp_path / f"{number}-scored.csv"
        schema.write_table(source, ["comment", "reply"], [{"comment": comment, "reply": body} for comment, body in order])
        monkeypatch.setenv("BOT_RANK__BATCH_SIZE", str(batch_size))
        if number == 1:
            command = [sys.executable, "run_bot.py", "score", "--in", str(source), "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        else:
            rank.main(None, source, out, None)
        _, scored = schema.read_table(out)
        assert [(row["comment"], row["reply"]) for row in scored] == order
        assert [float(row["realism_score"]) for row in scored] == pytest.approx([expected[each] for each in order], abs=1e-4)
