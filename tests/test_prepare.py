"""bot.prepare: what is kept, how siblings are paired, and that the splits share no thread."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import UserError, prepare, schema, text
from bot.schema import Candidate, FinetuneText, LmRow, Pair, RealismRow, UpvotePair, UpvoteRow

LONG_REPLY = "I read it twice last winter and both times it kept me up."


def pair(comment: str = "Any good books?", reply: str = "Dune is one.", number: int = 1, **changes: object) -> Pair:
    plain = Pair("books", "t3_x", "Reading", 9, "t1_a", comment, 4, 1_500_000_000, f"t1_r{number}", reply, 3, 1_500_000_600, 0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def write_extract(folder: Path, pairs: Sequence[Pair], month: str = "2017-01") -> Path:
    """An extract as bot.extract writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = schema.columns_of(Pair)
    kinds = ["VARCHAR" if name in ("subreddit", "submission", "comment", "reply") or name.endswith("_id") else "BIGINT" for name in columns]
    path = folder / f"{month}.parquet"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE pairs ({', '.join(f'{name} {kind}' for name, kind in zip(columns, kinds, strict=True))})")
        for each in pairs:
            db.execute(f"INSERT INTO pairs VALUES ({', '.join('?' * len(columns))})", [getattr(each, name) for name in columns])
        db.execute(f"COPY pairs TO '{path}' (FORMAT parquet)")
    schema.write_manifest(path, len(pairs), {})
    return path


# --- rules ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "dropped", "kept"),
    [
        ("no_text", pair(reply="[deleted]"), pair(reply="deleted? why")),
        ("no_text", pair(comment="[removed]"), pair(comment="It was removed")),
        ("no_text", pair(comment="> only a quote"), pair(comment="> a quote\n\nand an answer")),
        ("no_text", pair(reply="https://example.org/cat"), pair(reply="[a cat](https://example.org/cat)")),
        ("too_short", pair(reply="k"), pair(reply="ok")),
        ("too_long", pair(reply="word " * 200 + "x"), pair(reply="word " * 199 + "words")),
        ("too_long", pair(comment="y" * 10_000), pair(comment="y" * 9_999)),
        ("mostly_not_letters", pair(reply="1 2 3 4 yes"), pair(reply="1 2 3 yes")),
        ("mostly_not_letters", pair(reply="(╯°□°)╯ ┻━┻"), pair(reply="да, конечно!")),
        (
            "parroted",
            pair(comment="Any good books?", reply="any GOOD books!"),
            pair(comment="Any good books?", reply="any good books here?"),
        ),
    ],
)
def test_each_rule(rule: str, dropped: Pair, kept: Pair) -> None:
    assert prepare.keep([dropped]) == ([], {rule: 1})
    rows, counts = prepare.keep([kept])
    assert len(rows) == 1 and not counts


def test_a_long_reply_twice_is_copy_pasta() -> None:
    rows, dropped = prepare.keep(
        [
            pair(reply=LONG_REPLY, number=1),
            pair(reply="Same here.", number=2),
            pair(reply=LONG_REPLY.upper() + "!!", number=3, thread_id="t3_y"),
            pair(reply="Same here.", number=4),
        ]
    )
    assert [row.reply_id for row in rows] == ["t1_r1", "t1_r2", "t1_r4"]
    assert dropped == {"copy_pasta": 1}


def test_kept_pairs_are_clean() -> None:
    ((kept,), _) = prepare.keep([pair(comment="&gt; hm\n\nTom &amp; *Jerry*", reply="  See [this](http://example.org) \n\n now")])
    assert (kept.comment, kept.reply) == ("Tom & Jerry", "See this now")


def test_a_submission_is_cut_short_and_a_comment_is_not() -> None:
    long = "word " * 300
    ((comment, submission), _) = prepare.keep([pair(comment=long, number=1), pair(comment=long, number=2, comment_id="t3_x")])
    assert len(comment.comment) == 1499
    assert len(submission.comment) == 599 and not submission.comment.endswith(" ")


# --- siblings ---------------------------------------------------------------------------------------------------------------


def sibling(number: int, karma: int | None, minutes: float | None, comment_id: str = "t1_a") -> Pair:
    utc = None if minutes is None else 1_500_000_000 + int(minutes * 60)
    return pair(reply=f"reply {number}", number=number, reply_karma=karma, reply_utc=utc, comment_id=comment_id)


def drawn(pairs: list[Pair], karma_gap: int = 2, hours_gap: float = 1.0) -> list[tuple[str, str, int, float]]:
    return [(row.chosen_id, row.rejected_id, row.karma_gap, row.hours_gap) for row in prepare.sibling_pairs(pairs, karma_gap, hours_gap)]


def test_the_better_one_is_chosen_and_hours_gap_has_a_sign() -> None:
    assert drawn([sibling(1, 10, 0), sibling(2, 3, 30)]) == [("t1_r1", "t1_r2", 7, -0.5)]  # chosen came half an hour earlier
    assert drawn([sibling(1, 3, 0), sibling(2, 10, 30)]) == [("t1_r2", "t1_r1", 7, 0.5)]  # and later
    assert drawn([sibling(2, 10, 30), sibling(1, 3, 0)]) == [("t1_r2", "t1_r1", 7, 0.5)]  # whatever the order of rows
    assert drawn([sibling(1, -5, 0), sibling(2, 0, 0)]) == [("t1_r2", "t1_r1", 5, 0.0)]


def test_least_karma_gap() -> None:
    assert drawn([sibling(1, 3, 0), sibling(2, 1, 1)], karma_gap=2) == [("t1_r1", "t1_r2", 2, -0.0167)]
    assert drawn([sibling(1, 3, 0), sibling(2, 1, 1)], karma_gap=3) == []
    assert drawn([sibling(1, 3, 0), sibling(2, 3, 1)], karma_gap=1) == []  # a tie


def test_most_hours_apart() -> None:
    assert len(drawn([sibling(1, 9, 0), sibling(2, 1, 60)])) == 1
    assert drawn([sibling(1, 9, 0), sibling(2, 1, 61)]) == []
    assert len(drawn([sibling(1, 9, 0), sibling(2, 1, 61)], hours_gap=2)) == 1


def test_only_neighbours_in_time() -> None:
    rows = drawn([sibling(1, 9, 0), sibling(2, 1, 10), sibling(3, 5, 20), sibling(4, 20, 30)])
    assert [(chosen, rejected) for chosen, rejected, _, _ in rows] == [("t1_r1", "t1_r2"), ("t1_r3", "t1_r2"), ("t1_r4", "t1_r3")]


def test_only_siblings() -> None:
    assert drawn([sibling(1, 9, 0), sibling(2, 1, 10, comment_id="t1_b")]) == []


def test_replies_without_karma_or_time_are_left_out() -> None:
    assert drawn([sibling(1, 9, 0), sibling(2, None, 5), sibling(3, 1, 10), sibling(4, 50, None)]) == [("t1_r1", "t1_r3", 8, -0.1667)]


def test_the_same_text_twice_is_no_pair() -> None:
    assert drawn([sibling(1, 9, 0), replace(sibling(2, 1, 5), reply="reply 1")]) == []


def test_all_columns_of_a_sibling_pair() -> None:
    (row,) = prepare.sibling_pairs([sibling(1, 1, 0), sibling(2, 9, 6)], 2, 1.0)
    assert row == UpvotePair("t3_x", "t1_a", "t1_r2", "t1_r1", "books", "Any good books?", "reply 2", "reply 1", 8, 0.1)


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 240), st.sampled_from(["t1_a", "t1_b"])), max_size=12),
    st.randoms(use_true_random=False),
)
def test_what_holds_of_all_sibling_pairs(replies: list[tuple[int, int, str]], chance: object) -> None:
    pairs = [sibling(number, karma, minutes, parent) for number, (karma, minutes, parent) in enumerate(replies)]
    by_id = {each.reply_id: each for each in pairs}
    rows = prepare.sibling_pairs(pairs, 3, 1.0)
    assert len(rows) <= max(0, len(pairs) - 1)
    for row in rows:
        better, worse = by_id[row.chosen_id], by_id[row.rejected_id]
        assert better.comment_id == worse.comment_id == row.comment_id
        assert (better.reply_karma or 0) - (worse.reply_karma or 0) == row.karma_gap >= 3
        assert abs((better.reply_utc or 0) - (worse.reply_utc or 0)) <= 3600
        assert (row.chosen, row.rejected) == (better.reply, worse.reply)
    chance.shuffle(pairs)  # type: ignore[attr-defined]
    key = lambda row: (row.chosen_id, row.rejected_id)  # noqa: E731
    assert sorted(prepare.sibling_pairs(pairs, 3, 1.0), key=key) == sorted(rows, key=key)


# --- realism ------------------------------------------------------------------------------------------------------------------


def person(number: int, comment_id: str, reply: str) -> LmRow:
    return LmRow("t3_x", comment_id, f"t1_r{number}", "books", "Any good books?", reply)


def fake(number: int, comment_id: str, reply: str) -> Candidate:
    return Candidate(comment_id, f"{comment_id}-{number}", 7, reply, "lm", -2.0)


def test_realism_rows_hold_both_classes_for_each_comment() -> None:
    people = [person(1, "t1_a", "Dune."), person(2, "t1_b", "Emma."), person(3, "t1_a", "Ulysses."), person(4, "t1_none", "Hamlet.")]
    fakes = [fake(0, "t1_a", "I like books."), fake(1, "t1_a", "Me too."), fake(0, "t1_b", "*Yes*, [all](http://example.org) &amp; more."),
             fake(1, "t1_b", " "), fake(0, "t1_strange", "Who asked?")]  # fmt: skip
    rows = prepare.realism_rows(people, fakes)
    assert [(row.comment_id, row.reply_id, row.reply, row.label, row.generator) for row in rows] == [
        ("t1_a", "t1_a-0", "I like books.", 0, "lm"),
        ("t1_a", "t1_a-1", "Me too.", 0, "lm"),
        ("t1_a", "t1_r1", "Dune.", 1, ""),
        ("t1_b", "t1_b-0", "Yes, all & more.", 0, "lm"),  # cleaned as people's replies are
        ("t1_b", "t1_r2", "Emma.", 1, ""),
        ("t1_a", "t1_r3", "Ulysses.", 1, ""),
    ]
    assert {(row.thread_id, row.subreddit, row.comment) for row in rows} == {("t3_x", "books", "Any good books?")}


def test_a_comment_whose_candidates_are_all_empty_gives_no_rows() -> None:
    assert prepare.realism_rows([person(1, "t1_a", "Dune.")], [fake(0, "t1_a", ""), fake(1, "t1_a", "http://example.org")]) == []


# --- the whole stage -------------------------------------------------------------------------------------------------------------

AWKWARD = ["NA", "null and void", "=SUM(one)", 'she said "no",\nthen "yes"', "l'été 👍", "a [SEP] b <|endoftext|>"]


def small_extract(folder: Path) -> list[Pair]:
    """120 threads, two replies each within minutes; every reply differs."""
    pairs = []
    for thread in range(120):
        for reply in range(2):
            number = thread * 2 + reply
            pairs.append(
                pair(
                    comment=f"question number {thread}",
                    reply=f"{AWKWARD[number % len(AWKWARD)]} as reader {number}",
                    number=number,
                    thread_id=f"t3_{thread}",
                    comment_id=f"t1_c{thread}",
                    reply_karma=5 * reply + 1,
                    reply_utc=1_500_000_000 + 60 * number,
                )
            )
    pairs += [
        pair(number=900, comment_id="t3_0", thread_id="t3_0", comment="A title\n\nand its text", reply="Nice title."),
        pair(number=901, comment_id="t1_c0", thread_id="t3_0", reply="Not well liked.", reply_karma=-4),
        pair(number=902, comment_id="t1_c0", thread_id="t3_0", reply="[deleted]"),
        pair(number=903, comment_id="t1_c0", thread_id="t3_0", reply="Nobody knows my karma.", reply_karma=None),
    ]
    half = len(pairs) // 2
    write_extract(folder, pairs[:half], "2017-01")
    write_extract(folder, pairs[half:], "2017-02")
    return pairs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    small_extract(folder / "raw")
    prepare.main(folder / "raw", folder / "out")
    return folder / "out"


def every(folder: Path, name: str, row_type: type) -> dict[str, list]:
    return {split: schema.read_rows(folder / f"{name}_{split}.csv", row_type) for split in prepare.SPLITS}


def test_splits_share_no_thread_and_agree_between_files(prepared: Path) -> None:
    for name, row_type in (("lm", LmRow), ("upvote", UpvoteRow), ("upvote_pairs", UpvotePair)):
        threads = {split: {row.thread_id for row in rows} for split, rows in every(prepared, name, row_type).items()}
        assert all(threads.values())
        assert sum(map(len, threads.values())) == len(set().union(*threads.values())) == 120
        assert all(text.split_for(thread) == split for split, names in threads.items() for thread in names)


def test_which_rows_stand_where(prepared: Path) -> None:
    lm = [row for rows in every(prepared, "lm", LmRow).values() for row in rows]
    upvote = [row for rows in every(prepared, "upvote", UpvoteRow).values() for row in rows]
    pairs = [row for rows in every(prepared, "upvote_pairs", UpvotePair).values() for row in rows]
    assert len(lm) == 240 and {"t1_r900", "t1_r901", "t1_r902", "t1_r903"}.isdisjoint(row.reply_id for row in lm)
    assert {row.reply_id for row in upvote} == {f"t1_r{number}" for number in [*range(240), 900, 901]}
    assert {row.karma_gap for row in pairs} == {5, 10} and len(pairs) == 121  # the disliked one too, against the last of t3_0's
    by_reply = {row.reply_id: row for row in lm}
    assert by_reply["t1_r3"] == LmRow("t3_1", "t1_c1", "t1_r3", "books", "question number 1", 'she said "no", then "yes" as reader 3')
    assert by_reply["t1_r5"].reply == "a [SEP] b <|endoftext|> as reader 5"


def test_gpt2_finetune_is_one_column_of_training_text(prepared: Path) -> None:
    train = schema.read_rows(prepared / "lm_train.csv", LmRow)
    expected = [text.format_training_text(row.comment, row.reply) for row in train]
    path = prepared / "gpt2_finetune.csv"
    assert [row.text for row in schema.read_rows(path, FinetuneText)] == expected
    table = pandas.read_csv(path)
    assert list(table.columns) == ["text"] and list(table["text"]) == expected
    with path.open(encoding="utf-8", newline="") as file:  # as gpt-2-simple's loader reads it
        reader = csv.reader(file)
        assert next(reader) == ["text"] and list(reader) == [[row] for row in expected]
    assert all(row.count("[SEP]") == 1 and "<|" + "endoftext|>" not in row for row in expected)
    assert "question number 2 [SEP] a [\\SEP] b <|\\endoftext|> as reader 5" in expected


def test_manifests_say_what_was_dropped_and_from_which_files(prepared: Path) -> None:
    manifest = json.loads((prepared / "lm_train.csv.manifest.json").read_text())
    assert manifest["dropped"] == {"no_text": 1}
    assert sorted(manifest["made_from"]["files"]) == ["2017-01.parquet", "2017-02.parquet"]
    assert manifest["made_from"]["files"]["2017-01.parquet"] == schema.sha256_of(prepared.parent / "raw" / "2017-01.parquet")


def test_settings_reach_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_extract(tmp_path / "raw")
    prepare.main(tmp_path / "raw", tmp_path / "out", minimum_karma=6, karma_gap=6, hours_gap=1000.0)
    assert "dropped: no_text 1" in capsys.readouterr().out
    assert sum(len(rows) for rows in every(tmp_path / "out", "lm", LmRow).values()) == 120
    pairs = [row for rows in every(tmp_path / "out", "upvote_pairs", UpvotePair).values() for row in rows]
    assert [row.karma_gap for row in pairs] == [10]


def test_the_same_files_again_are_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    prepare.main(prepared.parent / "raw", tmp_path)
    for path in sorted(prepared.glob("*.csv")):
        if not path.name.startswith("realism"):
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_realism_files(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = [row for rows in every(prepared, "lm", LmRow).values() for row in rows]
    comments = sorted({row.comment_id for row in lm})
    schema.write_rows(tmp_path / "fakes.csv", Candidate, [fake(0, comment, f"Generated for {comment}") for comment in comments[:100]])
    prepare.main(out=prepared, fakes=tmp_path / "fakes.csv")
    realism = every(prepared, "realism", RealismRow)
    rows = [row for split in realism.values() for row in split]
    assert sum(row.label == 0 for row in rows) == 100 and sum(row.label == 1 for row in rows) == 200
    for comment in comments[:100]:
        assert {row.label for row in rows if row.comment_id == comment} == {0, 1}
    assert all(text.split_for(row.thread_id) == split for split, each in realism.items() for row in each)
    schema.write_rows(tmp_path / "strange.csv", Candidate, [fake(0, "t1_elsewhere", "Hello.")])
    with pytest.raises(UserError, match=r"strange\.csv: none of its comment_ids stands in"):
        prepare.main(out=prepared, fakes=tmp_path / "strange.csv")


# --- what is wrong with extracts ----------------------------------------------------------------------------------------------------


def test_no_extract(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Parquet file; run `python run_bot\.py extract` first"):
        prepare.main(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_extract_that_is_not_whole_or_not_one(tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            prepare.main(tmp_path, tmp_path / "out")
        assert "\n" not in str(caught.value) and str(path) in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    path = write_extract(tmp_path, [pair(number=number) for number in range(50)])
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "extract that month again" in refusal()
    other = write_extract(tmp_path / "other", [pair()])
    path.write_bytes(other.read_bytes())  # whole, but with fewer rows than the manifest says
    assert "1 rows, its manifest says 50" in refusal()
    schema.manifest_path(path).unlink()
    duckdb.sql("SELECT 'books' AS subreddit, 't3_x' AS thread_id").write_parquet(str(path))
    assert "not an extract with columns subreddit, thread_id, submission" in refusal()
    write_extract(tmp_path, [pair()])
    schema.manifest_path(path).unlink()
    duckdb.sql(f"SELECT * REPLACE ('many' AS reply_karma) FROM '{other}'").write_parquet(str(path))
    assert "many" in refusal()
