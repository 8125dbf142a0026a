"""bot.train.picked: which of a generator's candidates it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot import config, schema
from bot.cli import UserError
from bot.corpus import copies, imitate
from bot.schema import LmRow
from bot.train import picked
from tests import tiny

FLOORS = config.ChooseSettings(minimum_realism=0.1, minimum_rank=0.3, minimum_words=2)


def row(comment: str, reply: str, rank: float | None, realism: float | None = 0.5) -> dict[str, Any]:
    return {"comment_id": f"t1_{comment}", "comment": "Why is it so?", "reply": reply, "realism_score": realism, "rank_score": rank}


def test_the_pick_is_the_best_candidate_that_passes_the_floors() -> None:
    rows = [
        row("0", "because of the rain", 0.8, realism=0.05),  # below minimum_realism
        row("0", "it rained", 0.5),
        row("0", "why is it so hard", 0.9),  # repeats three words of the comment
        row("0", "rain", 0.9),  # too short
        row("1", "no idea at all", 0.2),  # below minimum_rank
        row("2", "it is late", None),
    ]
    assert [each["reply"] for each in picked.picks(rows, FLOORS)] == ["it rained"]


def test_the_same_reply_is_learnt_for_few_comments() -> None:
    rows = [row(str(number), "Thanks for that!", 0.9 - number / 100) for number in range(9)] + [row("8", "It was the rain.", 0.4)]
    chosen = picked.picks(rows, FLOORS)
    assert [each["comment_id"] for each in chosen] == ["t1_0", "t1_1", "t1_2", "t1_8"]
    assert chosen[-1]["reply"] == "It was the rain."


def test_what_the_bot_would_not_say_is_not_learnt() -> None:
    rows = [row("0", "Look at www.example.com for it", 0.9), row("0", "You should kill yourself", 0.8), row("0", "It was the rain.", 0.4)]
    patterns = config.ConductSettings(comment_classifier=None, reply_classifier=None)
    unfit = picked.unfit_pairs(rows, patterns)
    assert [each["reply"] for each in picked.picks(rows, FLOORS, unfit)] == ["It was the rain."]


def test_a_reply_that_is_unfit_for_one_comment_may_be_fit_for_another() -> None:
    echo = "The kettle in my kitchen takes ten minutes"
    rows = [{**row("0", echo, 0.9), "comment": f"{echo} to boil"}, row("1", echo, 0.95), row("1", "It was the rain.", 0.5)]
    unfit = picked.unfit_pairs(rows, config.ConductSettings(comment_classifier=None, reply_classifier=None))
    assert [(each["comment_id"], each["reply"]) for each in picked.picks(rows, FLOORS, unfit)] == [("t1_1", echo)]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a scored file to a trained model, whose sketches have people's replies only: the bot may say again what it wrote itself."""
    people = [
        (f"Which of the {number} trains is the late one?", f"the train of {number} from the north was always late in the rain")
        for number in range(8)
    ]
    tiny.lm_rows(people, tmp_path)
    own = "it has always been the slow one that comes from the south"
    scored = [{**row("3", own, 0.9), "comment": people[3][0]}, {**row("4", "another thing", 0.1), "comment": people[4][0]}]
    schema.write_table(tmp_path / "scored.csv", list(picked.COLUMNS), scored)
    monkeypatch.setenv("BOT_CONDUCT__REPLY_CLASSIFIER", "")
    picked.main([tmp_path / "scored.csv"], out=tmp_path)
    rows = schema.read_rows(tmp_path / imitate.FILE, LmRow)
    assert rows[0].reply == own and len(rows) == 2
    assert rows[0].comment_id == "t1_3" and rows[0].thread_id == "t3_3" and rows[1].reply in dict(people).values()
    with pytest.raises(UserError, match=r"t1_99 and 0 other comments are not in lm_train.csv"):
        picked.with_people([row("99", own, 0.9)], schema.read_rows(tmp_path / "lm_train.csv", LmRow), 1)
    with pytest.MonkeyPatch.context() as patch:
        from bot.weights import bases, pull

        patch.setattr(bases, "BASE_DIR", tmp_path / "bases")
        pull.pull("smollm2-135m-instruct", tiny.language_model(tmp_path / "tiny"))
        tiny.train("lm", data=tmp_path, out=tmp_path / "lm", imitate=True, base="smollm2-135m-instruct")
        sketches = copies.read(tmp_path / "lm")
    assert sketches is not None and not copies.is_sketched(own, sketches) and copies.is_sketched(rows[1].reply, sketches)
