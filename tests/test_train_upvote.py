"""train upvote: groups of siblings, the draw over subreddits, the rankers' half, --leave-out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot import rankers, schema, text
from bot.cli import UserError
from bot.corpus import karma_rules
from bot.evaluate import evaluate
from bot.rankers import score_files
from bot.schema import RankedPair, UpvotePair
from bot.train.siblings import Group, calibrate_on_pairs, evenly, group_by_comment
from bot.weights import bases, cards, pull
from tests import tiny

LIKED, DISLIKED = "That one made me laugh out loud.", "Buy cheap watches now."


def upvote_pair(
    comment_id: str, chosen: str, rejected: str, subreddit: str = "Books", thread_id: str = "t3_x", gap: int = 30
) -> UpvotePair:
    return UpvotePair(thread_id, comment_id, f"t1_{chosen}", f"t1_{rejected}", subreddit, "Which book?", chosen, rejected, gap, 0.0)


def test_a_reply_is_in_its_group_once_with_all_its_pairs() -> None:
    groups = group_by_comment(
        [upvote_pair("t1_a", "x", "y"), upvote_pair("t1_b", "x", "y"), upvote_pair("t1_a", "z", "y"), upvote_pair("t1_a", "z", "x")]
    )
    assert groups == [
        Group("books", [("Which book?", "x"), ("Which book?", "y"), ("Which book?", "z")], [(0, 1), (2, 1), (2, 0)]),
        Group("books", [("Which book?", "x"), ("Which book?", "y")], [(0, 1)]),
    ]


def test_many_siblings_are_divided_into_groups_of_eight() -> None:
    chain = [upvote_pair("t1_a", str(n), str(n + 1)) for n in range(20)]
    groups = group_by_comment(chain)
    assert [len(group.replies) for group in groups] == [8, 8, 5] and [len(group.better) for group in groups] == [7, 7, 4]


def test_subreddits_are_drawn_by_the_square_root_of_their_size() -> None:
    groups = [
        Group(name, [("c", f"{name}{n}"), ("c", "y")], [(0, 1)]) for name, count in (("small", 25), ("large", 2500)) for n in range(count)
    ]
    drawn = evenly(groups, 110, 1)
    by_name = {name: sum(group.subreddit == name for group in drawn) for name in ("small", "large")}
    assert by_name["small"] + by_name["large"] == 55 and 4 <= by_name["small"] <= 6  # a tenth of the large one's, not a hundredth
    assert drawn == evenly(groups, 110, 1) != evenly(groups, 110, 2)
    assert len(evenly(groups, 10**6, 1)) == 2525


def test_pairs_are_selected_by_rule() -> None:
    rows = [replace(upvote_pair("t1_a", f"x{n}", "y", gap=30), hours_gap=0.5) for n in range(7)]
    rows += [replace(upvote_pair("t1_b", "x", "y", gap=30), hours_gap=-0.5), upvote_pair("t1_c", "x", "y", gap=4)]
    known = {
        "t1_a": {f"t1_x{n}": 31 for n in range(7)} | {"t1_y": 1}, "t1_b": {"t1_x": 31, "t1_y": 1}, "t1_c": {"t1_x": 5, "t1_y": 1}
    }  # fmt: skip
    by_rule = {rule: karma_rules.select(rows, known, rule, 5) for rule in ("gap", "dialogrpt", "shp")}
    assert by_rule["gap"] == by_rule["dialogrpt"] == rows[:8] and by_rule["shp"] == rows[:5]  # at most five of a comment
    known["t1_a"]["t1_z"], known["t1_b"]["t1_z"] = 500, 0  # now 31 is in the middle of three values, or two steps above 1
    known["t1_a"]["t1_w"] = 400
    assert karma_rules.select(rows, known, "dialogrpt", 5) == rows[7:8]


class Logits:
    """A ranker for replies that are numbers: the number is the logit."""

    def logits(self, pairs: list[tuple[str, str]]) -> list[float]:
        return [float(reply) for _, reply in pairs]


def test_calibration_turns_a_logit_gap_into_the_share_of_pairs_won() -> None:
    pairs = [upvote_pair("t1_a", "3", "2")] * 3 + [upvote_pair("t1_a", "2", "3")]  # a gap of 1 wins three in four
    scale, offset = calibrate_on_pairs(Logits(), pairs)  # type: ignore[arg-type]
    assert scale == pytest.approx(1.0986, abs=1e-2) and offset == pytest.approx(-2.5 * scale)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LIKED gets more karma than DISLIKED, except in r/contrary and, in the training split, in the judges' half."""
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny-encoder", tiny.encoder(tmp_path / "encoder", head=False))
    for each, count in (("train", 60), ("val", 12), ("test", 24)):
        rows = []
        for n in range(count):
            for half, subreddit in itertools.product(("rankers", "judge"), ("books", "contrary", "home")):
                thread = next(f"t3_{each}{m}" for m in itertools.count(n * 1000) if text.half_for(f"t3_{each}{m}") == half)
                both = (LIKED, DISLIKED) if subreddit != "contrary" and (half == "rankers" or each != "train") else (DISLIKED, LIKED)
                rows.append(upvote_pair(f"t1_{thread}{subreddit}", *both, subreddit, thread))
        schema.write_rows(tmp_path / f"upvote_pairs_{each}.csv", UpvotePair, rows)
    schema.write_rows(tmp_path / "ranked_pairs.csv", RankedPair, [RankedPair("old", f"why {n}?", LIKED, DISLIKED, 2) for n in range(40)])
    return tmp_path


def train(data: Path, out: Path, **options: Any) -> None:
    defaults = {"rows": 1000, "epochs": 8, "batch_tokens": 256, "learning_rate": 5e-3}
    tiny.train("upvote", base="tiny-encoder", data=data, out=out, **(defaults | options))


def test_left_out_subreddits_are_not_trained_on_but_evaluated(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contrary = [RankedPair("Contrary", f"why {n}?", DISLIKED, LIKED, 2) for n in range(40)]  # would teach the opposite preference
    contrary += [RankedPair("old", "Which book?", DISLIKED, LIKED, 2)] * 40  # a comment of validation, test and the judges' half
    schema.write_rows(data / "ranked_pairs.csv", RankedPair, schema.read_rows(data / "ranked_pairs.csv", RankedPair) + contrary)
    out = data / "upvote"
    left_out = ["Contrary", "HOME"]
    train(data, out, epochs=12, ranked_rows=200, leave_out=left_out)
    monkeypatch.setattr(score_files, "start", tiny.start_in_process)
    monkeypatch.setenv("BOT_RANK__BACKEND", "transformers")
    evaluate.main(data=data, out=data / "evaluation", one=out)
    card = cards.read_card(out)
    assert card.settings["rows"] == 120 + 80 and card.settings["left_out"] == ["contrary", "home"] and "ranked_pairs.csv" in card.data
    left_out_metrics = {name.removeprefix("left_out_"): value for name, value in card.metrics.items() if name.startswith("left_out_")}
    each = 2 * (60 + 12 + 24)  # pairs in both halves and all three splits
    accuracies = {name: (value["pairs"], value["ranker"]["pairwise_accuracy"][0]) for name, value in left_out_metrics.items()}
    # Trained on r/books only: every pair of r/contrary is wrong, and of r/home those in the judges' half of the training split.
    assert accuracies == {
        "gap_5": (2 * each, round((each - 60) / (2 * each), 4)), "gap_20": (2 * each, round((each - 60) / (2 * each), 4)),
        "r/contrary_gap_5": (each, 0.0), "r/contrary_gap_20": (each, 0.0),
        "r/home_gap_5": (each, round(1 - 60 / each, 4)), "r/home_gap_20": (each, round(1 - 60 / each, 4)),
    }  # fmt: skip
    home = left_out_metrics["r/home_gap_20"]
    assert home["longer_wins"]["pairwise_accuracy"] == home["ranker"]["pairwise_accuracy"]


def test_scores_are_calibrated_on_validation_pairs(data: Path) -> None:
    out = data / "upvote"
    train(data, out)
    liked, disliked = rankers.load("transformers", out).score([("Which book?", LIKED), ("Which book?", DISLIKED)])
    # Two thirds of the validation pairs agree with the training pairs: log-odds of log 2, half on either side of the mean reply.
    assert liked == pytest.approx(1 / (1 + 2**-0.5), abs=0.01) and disliked == pytest.approx(1 - liked, abs=0.01)


def test_options_that_leave_no_training_data_are_errors(data: Path) -> None:
    def run(**options: Any) -> None:
        train(data, data / "out", **options)

    with pytest.raises(UserError, match="--leave-out nowhere: no such subreddit"):
        run(leave_out=["nowhere"])
    with pytest.raises(UserError, match="--leave-out excludes every pair; leave fewer subreddits out"):
        run(leave_out=["books", "contrary", "home"])
    with pytest.raises(UserError, match="karma gap of 31"):
        run(karma_gap=31)
