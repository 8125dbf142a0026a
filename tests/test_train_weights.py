"""train weights: the pairs, the fit and the printed config lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot import schema
from bot.cli import UserError
from bot.corpus import compared
from bot.rankers import score_files
from bot.schema import LabelledRow, RealismRow, UpvotePair
from bot.train import rank_weights


def letter_scorer(letter: str) -> score_files.Scorer:
    """Scores a reply by how often the letter occurs in it."""
    return lambda pairs, name: np.array([0.2 + 0.2 * min(3, reply.count(letter)) for _, reply in pairs])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Human replies have an h, upvoted ones a u, fitting ones an r; in one of 30 pairs it is reversed, so no score separates perfectly."""
    for split, count in (("val", 90), ("test", 60)):
        better, worse = ([" x" if (n % 30 == 0) == wrong else " " for n in range(count)] for wrong in (False, True))
        realism, relevance, siblings = [], [], []
        for n in range(count):
            where = (f"t3_{split}{n}", f"t1_{split}{n}")
            for label, sign in ((1, better[n]), (0, worse[n])):
                realism.append(RealismRow(*where, f"t1_h{n}-{label}", "s", "why", sign.replace("x", "h"), label, "" if label else "g"))
                relevance.append(LabelledRow(*where, f"t1_r{n}-{label}", "s", "why", sign.replace("x", "r"), label))
            chosen, rejected = better[n].replace("x", "u"), worse[n].replace("x", "u")
            siblings.append(UpvotePair(*where, f"t1_u{n}", f"t1_v{n}", "s", "why", chosen, rejected, 9, 0.1))
        schema.write_rows(tmp_path / f"realism_{split}.csv", RealismRow, realism)
        schema.write_rows(tmp_path / f"relevance_{split}.csv", LabelledRow, relevance)
        schema.write_rows(tmp_path / f"upvote_pairs_{split}.csv", UpvotePair, siblings)
    return tmp_path


def test_weights_are_fitted_on_val_and_measured_on_test(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = {"realism": "h", "upvote": "u", "relevance": "z"}
    monkeypatch.setattr(score_files.Scores, "of_model", lambda self, model: letter_scorer(letters[model.name]))
    rank_weights.main(data)
    printed = capsys.readouterr().out
    values = dict(line.split(" = ") for line in printed.splitlines() if " = " in line)
    assert float(values["realism"]) == pytest.approx(0.5, abs=0.01) and float(values["upvote"]) == pytest.approx(0.5, abs=0.01)
    assert float(values["relevance"]) == 0.0 and "[rank.weights]" in printed and "[choose]" in printed
    rows = {line.split("│")[1].split(":")[0].strip(): line for line in printed.splitlines() if "│" in line}
    assert rows["realism"].count("0.967") >= 2 and "0.500" in rows["realism"]  # realism and rank_score; the others are at chance
    assert rows["relevance"].count("0.500 [0.500, 0.500]") == 4


def test_label_1_is_compared_with_label_0_of_the_same_comment_only() -> None:
    rows = [
        LabelledRow("t3_a", comment, f"t1_{n}", "s", "why", f"reply {n}", label)
        for n, (comment, label) in enumerate([("t1_a", 1), ("t1_b", 0), ("t1_a", 0), ("t1_a", 0), ("t1_c", 1)])
    ]
    assert compared.by_label(rows) == [("t3_a", "why", "reply 0", "reply 2"), ("t3_a", "why", "reply 0", "reply 3")]


def test_tasks_have_equal_weight_regardless_of_their_number_of_pairs() -> None:
    up, down = np.array([1.0]), np.array([-1.0])
    separated_by_one = {"one": np.tile([1.0, 1.0, 1.0, -1.0], 25), "two": np.tile(0.0, 100)}
    separated_by_two = {"one": np.tile(0.0, 8), "two": np.array([1.0, 1.0, 1.0, -1.0] * 2)}
    assert rank_weights.fit({"a": separated_by_one, "b": separated_by_two}) == {"one": 0.5, "two": 0.5}
    with pytest.raises(UserError, match="no ranker orders these replies better than chance"):
        rank_weights.fit({"a": {"one": np.concatenate([down, down, down, up])}})


def test_a_split_without_pairs_is_an_error(data: Path) -> None:
    schema.write_rows(data / "realism_val.csv", RealismRow, [])
    with pytest.raises(UserError, match="no realism pairs in the val split"):
        rank_weights.draw_pairs(data, "val", 1)
