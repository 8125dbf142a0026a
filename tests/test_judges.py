"""Judges: what they learn from, what they learn, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot import schema, text
from bot.corpus import compared
from bot.evaluate import judges
from bot.schema import LabelledRow, RealismRow, UpvotePair

KIND, RUDE = "thanks, that is kind and clear", "no idea, get lost and leave me alone"


def thread_of(half: str, number: int) -> str:
    return [name for name in (f"t3_{half}{n}" for n in range(4 * number + 40)) if text.half_for(name) == half][number]


def write_siblings(folder: Path, each: str, rows: list[tuple[str, str, str, int]]) -> None:
    pairs = [UpvotePair(thread, "t1_c", "t1_a", "t1_b", "s", "why?", good, bad, gap, 0.1) for thread, good, bad, gap in rows]
    schema.write_rows(folder / f"upvote_pairs_{each}.csv", UpvotePair, pairs)


def test_a_judge_learns_from_its_half_alone(tmp_path: Path) -> None:
    """The rankers' half says the opposite, and is larger."""
    own = [(thread_of("judge", n), f"{KIND} {n}", f"{RUDE} {n}", 9) for n in range(12)]
    theirs = [(thread_of("rankers", n), f"{RUDE} {n}", f"{KIND} {n}", 9) for n in range(60)]
    near = [(thread_of("judge", n + 20), f"{RUDE} {n}", f"{KIND} {n}", judges.LEAST_KARMA_GAP - 1) for n in range(60)]
    write_siblings(tmp_path, "train", own + theirs + near)
    write_siblings(tmp_path, "test", [("t3_x", KIND, RUDE, 9), ("t3_x", RUDE, KIND, 9), ("t3_y", KIND, RUDE, 50), ("t3_z", RUDE, KIND, 1)])
    appointed, facts = judges.appoint("liked", tmp_path, seed=1)
    good, bad = appointed.score([("why?", KIND), ("why?", RUDE)])
    assert good > bad
    assert facts["training_pairs"] == 12 and facts["pairs"] == 3 and facts["threads"] == 2
    assert facts["judge"]["pairwise_accuracy"][0] == pytest.approx(2 / 3)
    assert facts["longer_wins"]["pairwise_accuracy"][0] == pytest.approx(1 / 3)


def test_a_reply_that_takes_up_the_comments_words_belongs(tmp_path: Path) -> None:
    topics = ["kettle", "train", "essay", "keeper", "vinegar", "ending"]
    for each, half in (("train", "judge"), ("test", "rankers")):
        rows = []
        for number in range(30):
            one, other = topics[number % 6], topics[(number + 1 + number % 5) % 6]
            where = (thread_of(half, number), f"t1_{number}")
            rows.append(LabelledRow(*where, "t1_a", "s", f"what of the {one}, then?", f"the {one} is good", 1))
            rows.append(LabelledRow(*where, "t1_b", "s", f"what of the {one}, then?", f"the {other} is good", 0))
        schema.write_rows(tmp_path / f"relevance_{each}.csv", LabelledRow, rows)
    _, facts = judges.appoint("belongs", tmp_path, seed=1)
    assert facts["judge"]["pairwise_accuracy"] == [1.0, 1.0, 1.0] and facts["training_pairs"] == 30


def test_realism_pairs_are_of_one_comment(tmp_path: Path) -> None:
    rows = [
        RealismRow("t3_a", "t1_1", "t1_x", "s", "why?", "a person's", 1, ""),
        RealismRow("t3_a", "t1_1", "t1_1-0", "s", "why?", "a model's", 0, "g"),
        RealismRow("t3_a", "t1_1", "t1_1-1", "s", "why?", "another model's", 0, "h"),
        RealismRow("t3_a", "t1_2", "t1_2-0", "s", "how?", "alone", 0, "g"),
    ]
    schema.write_rows(tmp_path / "realism_test.csv", RealismRow, rows)
    found = compared.read(tmp_path, "realism", "test")
    assert found == [("t3_a", "why?", "a person's", "a model's"), ("t3_a", "why?", "a person's", "another model's")]


def test_scores_do_not_depend_on_what_stands_beside(tmp_path: Path) -> None:
    pairs = [(f"t3_{n}", f"what {n}", f"{KIND} {n}", f"{RUDE} {n}") for n in range(20)]
    appointed = judges.Judge(pairs)
    asked = [("what 3", KIND), ("what 4", "kind"), ("", "")]
    together, reverse = appointed.score(asked), appointed.score(asked[::-1])
    assert np.allclose(together, reverse[::-1]) and np.allclose(together[:1], appointed.score(asked[:1]))


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    write_siblings(tmp_path, "train", [(thread_of("rankers", 1), KIND, RUDE, 9)])
    write_siblings(tmp_path, "test", [("t3_x", KIND, RUDE, 9)])
    with pytest.raises(judges.NothingToLearn, match=r"upvote_pairs_train.csv has no pair"):
        judges.appoint("liked", tmp_path, seed=1)
