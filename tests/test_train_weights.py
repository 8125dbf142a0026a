"""train weights: the fit to readers' grades and the printed config lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot import config, schema
from bot.cli import UserError
from bot.rankers import score_files
from bot.schema import Graded, RealismRow
from bot.train import rank_weights


def letter_scorer(letter: str) -> score_files.Scorer:
    """Scores a reply by how often the letter occurs in it."""
    return lambda pairs, name: np.array([0.2 + 0.2 * min(3, reply.count(letter)) for _, reply in pairs])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Accepted replies have an h and are likelier; the letter z occurs in the others. Some candidates break the rules."""
    rows = []
    for n in range(2000):
        good = n % 4 == 0
        letter = "h" if good != (n % 5 == 3) else "z"
        likelihood = -2.0 if good != (n % 7 == 2) else -3.0
        rows.append(Graded(f"t1_{n // 4}", "which one", f"{letter} one two three", likelihood, 3 if good else n % 2))
    schema.write_rows(tmp_path / "graded.csv", Graded, rows)
    human = [RealismRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "why", "h" if n else "x", 1, "") for n in range(40)]
    schema.write_rows(tmp_path / "realism_val.csv", RealismRow, human)
    return tmp_path


def test_weights_are_fitted_to_the_grades_and_measured_on_held_out_comments(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = {"realism": "h", "upvote": "z", "relevance": "q", "choice": "q"}
    monkeypatch.setattr(score_files.Scores, "of_model", lambda self, model: letter_scorer(letters[model.name]))
    rank_weights.main([data / "graded.csv"], data)
    printed = capsys.readouterr().out
    values = {name: float(value) for name, value in (line.split(" = ") for line in printed.splitlines() if " = " in line)}
    assert values.keys() == {*config.RankWeights.model_fields, "minimum_rank", "minimum_realism"}
    assert values["realism"] > 0 and values["likelihood"] > 0 and values["upvote"] == values["relevance"] == values["choice"] == 0.0
    assert values["minimum_realism"] == 0.4 and 0.3 < values["minimum_rank"] < 1
    config.RankWeights(**{name: values[name] for name in config.RankWeights.model_fields})
    cells = {line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in printed.splitlines() if "│" in line}
    assert float(cells["rank_score"][0]) > float(cells["realism"][0]) > 0.7 and float(cells["upvote"][0]) < 0.3
    assert float(cells["rank_score"][3]) > 0.75 > 0.5 > float(cells["upvote"][3])  # the pick beats another candidate


def test_a_signal_that_speaks_against_acceptance_gets_no_weight() -> None:
    rng = np.random.default_rng(1)
    accepted = rng.random(400) < 0.5
    signals = {"good": accepted + rng.normal(size=400), "bad": 1.0 - accepted + rng.normal(size=400)}
    fitted = rank_weights.fit(signals, accepted.tolist())
    assert fitted["good"] > 0.5 and fitted["bad"] == 0.0
    with pytest.raises(UserError, match="no signal predicts which candidates are accepted"):
        rank_weights.fit({"bad": signals["bad"]}, accepted.tolist())
    with pytest.raises(UserError, match="need grades below 2 and of at least 2"):
        rank_weights.fit(signals, [True] * 400)


def test_a_pick_is_compared_with_candidates_of_its_own_comment() -> None:
    rows = [Graded(comment, "c", "r", None, grade) for comment, grade in (("a", 3), ("a", 1), ("a", 3), ("b", 0), ("b", 2), ("c", 1))]
    chosen = rank_weights.picks(rows, np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.9]))
    assert chosen == [0, 3] and rank_weights.win_rate(rows, chosen) == 0.5  # one won, one tie, one lost
