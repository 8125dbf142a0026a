"""prepare imitate: which replies a generator learns from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot import schema, text
from bot.cli import UserError
from bot.corpus import imitate
from bot.schema import LmRow, UpvoteRow

TRAIN = next(f"t3_{n}" for n in range(99) if text.split_for(f"t3_{n}") == "train")
TEST = next(f"t3_{n}" for n in range(999) if text.split_for(f"t3_{n}") == "test")
GOOD = "try the one about the lighthouse"


def row(
    number: int, reply: str = GOOD, karma: int = 9, comment_id: str = "t1_c", thread_id: str = TRAIN, subreddit: str = "s"
) -> UpvoteRow:
    return UpvoteRow(thread_id, comment_id, f"t1_{number}", subreddit, "Which book made you laugh out loud?", reply, karma, number)


def kept(*rows: UpvoteRow) -> tuple[list[str], dict[str, int]]:
    replies, dropped = imitate.keep(imitate.with_karma(rows), {"held out"})
    return [each.reply for each in replies], {rule: count for rule, count in dropped.items() if count}


def test_replies_above_the_median_of_their_siblings_are_kept() -> None:
    replies = [f"reply number {n} is here" for n in range(5)]
    assert kept(*(row(n, reply, karma) for n, (reply, karma) in enumerate(zip(replies, (1, 50, 3, 3, 90), strict=True)))) == (
        [replies[1], replies[4]], {"low_karma": 3},
    )  # fmt: skip
    assert kept(row(1, karma=1)) == ([], {"low_karma": 1}) and kept(row(1, karma=2)) == ([GOOD], {})  # an only reply


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("to_submission", {"comment_id": "t3_c"}),
        ("held_out", {"thread_id": TEST}),
        ("short", {"reply": "not this one"}),
        ("long", {"reply": "word " * 81}),
        ("echo", {"reply": "made you laugh? me neither"}),
    ],
)
def test_rules(rule: str, changes: dict[str, str]) -> None:
    assert kept(row(1, **changes)) == ([], {rule: 1})  # type: ignore[arg-type]


def test_a_reply_that_many_comments_got_is_dropped() -> None:
    rows = [row(n, "Thank you so much!", comment_id=f"t1_c{n}") for n in range(4)]
    assert kept(*rows) == ([], {"frequent": 4}) and len(kept(*rows[:3])[0]) == 3


def lines(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    content = [{"subreddit": "old", "kind": "comment", "parent": parent, "reply": reply, "rank": rank} for parent, reply, rank in rows]
    path.write_text("\n".join(map(json.dumps, content)))
    return path


def write(folder: Path, **rows: list[UpvoteRow]) -> None:
    for split in ("train", "val", "test"):
        schema.write_rows(folder / f"upvote_{split}.csv", UpvoteRow, rows.get(split, []))


def test_ranked_replies_and_invented_ones_are_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, train=[row(1)], test=[row(2, comment_id="t1_d", thread_id=TEST)])
    ranked = lines(
        tmp_path / "ranked.jsonl",
        [
            ("What do you read?", "the first of four replies", 1), ("What do you read?", "the second of four replies", 2),
            ("What do you read?", "the third of four replies", 3), ("What do you read?", "the last of four replies", 4),
            ("Which book made you laugh out loud?", "that comment is in the test split", 1),
        ],
    )  # fmt: skip
    invented = [LmRow("t3_i", "t1_i", "t1_ir", "books", "Hm", "short")]
    schema.write_rows(tmp_path / "invented.csv", LmRow, invented)
    imitate.main(out=tmp_path, ranked=ranked, also=[tmp_path / "invented.csv"])
    rows = schema.read_rows(tmp_path / imitate.FILE, LmRow)
    assert {each.reply for each in rows[:3]} == {GOOD, "the first of four replies", "the second of four replies"}
    assert rows[-1] == invented[0]  # kept as it is
    assert "imitate_train.csv: 4 rows of 2 subreddits" in capsys.readouterr().out


def test_rows_are_drawn_evenly_and_nothing_to_imitate_is_an_error(tmp_path: Path) -> None:
    many = [row(n, f"reply number {n} is here", comment_id=f"t1_{n}c") for n in range(400)]
    few = [row(n, f"reply number {n} is here", comment_id=f"t1_{n}c", subreddit="few") for n in range(500, 516)]
    write(tmp_path, train=[*many, *few])
    imitate.main(out=tmp_path, rows=60)
    rows = schema.read_rows(tmp_path / imitate.FILE, LmRow)
    assert len(rows) == 60 and 8 <= sum(each.subreddit == "few" for each in rows) <= 12  # a sixth (4 to 20), not a twenty-fifth
    write(tmp_path, train=[row(1, "no")])
    with pytest.raises(UserError, match="no reply is worth imitating"):
        imitate.main(out=tmp_path, overwrite=True)
