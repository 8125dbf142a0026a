"""train choice: examples from graded candidates, the parts, the training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bot import rankers, schema
from bot.cli import UserError
from bot.evaluate import model, show
from bot.schema import Graded
from bot.train import choice_transformers, graded
from bot.weights import bases, cards, pull
from tests import tiny

GOOD, BAD = "That one made me laugh out loud.", "Buy cheap watches now."


def rows(comments: int = 60) -> list[Graded]:
    """Two candidates for each comment, a good and a bad one."""
    return [Graded(f"t1_{n}", tiny.TEXT[n % 4], reply, -1.0, grade) for n in range(comments) for reply, grade in ((GOOD, 3), (BAD, n % 2))]


def test_three_fifths_are_trained_on() -> None:
    parts = Counter(graded.part_of(f"t1_{n}") for n in range(5000))
    assert {part: round(count / 1000) for part, count in parts.items()} == {"train": 3, "weights": 1, "held_out": 1}


def test_each_accepted_reply_has_an_echo_and_a_misplaced_reply() -> None:
    given = [
        Graded("t1_a", "one two three four five six", "fits a", -1.0, 2), Graded("t1_a", "one two three four five six", "bad", -1.0, 0),
        Graded("t1_b", "seven eight nine ten eleven", "fits b", -1.0, 3), Graded("t1_b", "seven eight nine ten eleven", "weak", None, 1),
    ]  # fmt: skip
    seen: set[tuple[str, str, float]] = set()
    for seed in range(20):
        examples = choice_transformers.examples(given, seed)
        assert [(each.reply, each.target) for each in examples[:4]] == [("fits a", 0.85), ("bad", 0.02), ("fits b", 0.98), ("weak", 0.2)]
        echoes = [each for each in examples[4:] if each.target == choice_transformers.ECHO_TARGET]
        assert len(echoes) == 2 and all(each.comment.startswith(each.reply) and each.reply.count(" ") >= 3 for each in echoes)
        seen |= {(each.comment[:3], each.reply, each.target) for each in examples[4:] if each.target == 0.1}
    assert seen == {("one", "fits b", 0.1), ("sev", "fits a", 0.1)}  # never a comment's own reply


def test_training_separates_good_from_bad_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny-encoder", tiny.encoder(tmp_path / "encoder", head=False))
    schema.write_rows(tmp_path / "graded.csv", Graded, rows())
    out = tmp_path / "choice"
    tiny.train("choice", base="tiny-encoder", graded=[tmp_path / "graded.csv"], out=out, epochs=12, batch_tokens=512, learning_rate=5e-3)
    ranker = rankers.load("transformers", out)
    good, bad, echo = ranker.score([(tiny.TEXT[0], GOOD), (tiny.TEXT[0], BAD), (tiny.TEXT[0], "Which book made you laugh out")])
    assert good > 0.5 > bad + 0.2 and good > echo  # it was misplaced, too
    card = cards.read_card(out)
    assert card.kind == "choice" and card.settings["rows"] > 60 and card.settings["graded"].keys() == {str(tmp_path / "graded.csv")}
    metrics = model.measure_choice(lambda pairs, name: ranker.score(pairs), [tmp_path / "graded.csv"])  # type: ignore[arg-type, return-value]
    assert metrics["ranker"]["roc_auc"] > 0.9 and metrics["log_likelihood"]["roc_auc"] < 0.5  # the good reply is longer
    assert metrics["comments"] * 2 == metrics["rows"] == 2 * metrics["accepted"]
    capsys.readouterr()
    show.show_model("choice", metrics)
    assert f"ranker roc_auc {metrics['ranker']['roc_auc']}\n" in capsys.readouterr().out


def test_fewer_rows_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny-encoder", tiny.encoder(tmp_path / "encoder", head=False))
    schema.write_rows(tmp_path / "graded.csv", Graded, rows())
    tiny.train("choice", base="tiny-encoder", graded=[tmp_path / "graded.csv"], out=tmp_path / "choice", epochs=1, rows=20)
    assert cards.read_card(tmp_path / "choice").settings["rows"] == 20


def test_too_few_graded_candidates_are_an_error(tmp_path: Path) -> None:
    schema.write_rows(tmp_path / "graded.csv", Graded, [row for row in rows() if row.grade < 2])
    with pytest.raises(UserError, match=r"graded.csv: the part 'train' \(\d+ rows\) needs grades below 2 and of at least 2; grade more"):
        graded.read([tmp_path / "graded.csv"])
    schema.write_rows(tmp_path / "graded.csv", Graded, [*rows(), Graded("t1_z", "why", "so", None, 4)])
    with pytest.raises(UserError, match="graded.csv: row 121: the grade 4 is not one of 0, 1, 2, 3"):
        graded.read([tmp_path / "graded.csv"])
    with pytest.raises(UserError, match="no such file"):
        graded.read([tmp_path / "missing.csv"])
