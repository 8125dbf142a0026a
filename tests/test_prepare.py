"""bot.corpus.prepare: the rules, the pairs of siblings, and splits without common threads."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import files, schema, text
from bot.cli import ROOT, UserError
from bot.corpus import pairs, prepare, rules
from bot.schema import Candidate, FinetuneText, LmRow, Pair, RankedPair, RealismRow, UpvotePair, UpvoteRow

LONG_REPLY = "I read it twice last winter and both times it kept me up."


def pair(comment: str = "Any good books?", reply: str = "Dune is one.", number: int = 1, **changes: object) -> Pair:
    plain = Pair("books", "t3_x", "Reading", 9, "t1_a", comment, 4, 1_500_000_000, f"t1_r{number}", reply, 3, 1_500_000_600, 0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def write_extract(folder: Path, pairs: Sequence[Pair], month: str = "2017-01", made_from: dict[str, object] | None = None) -> Path:
    """Write an extract like bot.corpus.extract. made_from: the settings in its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = schema.columns_of(Pair)
    kinds = ["VARCHAR" if name in ("subreddit", "submission", "comment", "reply") or name.endswith("_id") else "BIGINT" for name in columns]
    path = folder / f"{month}.parquet"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE pairs ({', '.join(f'{name} {kind}' for name, kind in zip(columns, kinds, strict=True))})")
        for each in pairs:
            db.execute(f"INSERT INTO pairs VALUES ({', '.join('?' * len(columns))})", [getattr(each, name) for name in columns])
        db.execute(f"COPY pairs TO '{path}' (FORMAT parquet)")
    content = path.read_bytes()
    path.unlink()
    files.write_with_manifest(path, lambda file: {"rows": len(pairs), "made_from": made_from or {}, "bytes": file.write(content)})
    return path


# --- rules ------------------------------------------------------------------------------------------------------------------


def dropped_ids(dropped: dict[str, list[Pair]]) -> dict[str, list[str]]:
    """The ids dropped by each rule, without rules that dropped nothing."""
    return {rule: [each.reply_id for each in pairs] for rule, pairs in dropped.items() if pairs}


@pytest.mark.parametrize(
    ("rule", "dropped", "kept"),
    [
        ("deleted", pair(reply="[deleted]"), pair(reply="deleted? why")),
        ("deleted", pair(comment="[removed]"), pair(comment="It was removed")),
        ("deleted", pair(reply="[removed by Reddit](/help/rules)"), pair(reply="[removed by my aunt](/help/rules)")),
        ("deleted", pair(reply=" [ Removed by Reddit ] "), pair(reply="[this one] stays")),
        ("nothing_left", pair(comment="> only a quote"), pair(comment="> a quote\n\nand an answer")),
        ("nothing_left", pair(reply="https://example.org/cat"), pair(reply="[a cat](https://example.org/cat)")),
        ("nothing_left", pair(reply="![gif](giphy|3o7aD2saalBwwftBIY)"), pair(reply="![my cat](https://example.org/cat.png)")),
        ("nothing_left", pair(reply=""), pair(reply="ok")),
        ("bot_notice", pair(reply="Beep boop, I counted three words."), pair(reply="The robot went beep.")),
        ("bot_notice", pair(reply="^^I ^^am ^^a ^^bot. ^^Feedback?"), pair(reply="I am about to leave.")),
        ("bot_notice", pair(comment="*I'm a bot*"), pair(comment="I'm not a bot")),
        ("bot_notice", pair(comment="This action was performed automatically."), pair(comment="It was performed automatically.")),
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
        ("parroted", pair(comment=f"> {LONG_REPLY}\n\nDon’t!", reply="dont..."), pair(comment="Don't you dare", reply="Don't")),
    ],
)
def test_each_rule(rule: str, dropped: Pair, kept: Pair) -> None:
    rows, counts = rules.keep([dropped])
    assert rows == [] and {name: pairs for name, pairs in counts.items() if pairs} == {rule: [dropped]}
    rows, counts = rules.keep([kept])
    assert len(rows) == 1 and dropped_ids(counts) == {}


def test_a_row_is_counted_once_under_the_first_rule_that_applies() -> None:
    """The counts are in the documented order, with 0 for rules that dropped nothing."""
    names = ["deleted", "nothing_left", "bot_notice", "too_short", "too_long", "mostly_not_letters", "parroted"]
    _, dropped = rules.keep([pair(comment="[deleted]", reply=""), pair(comment="I am a bot", reply="9"), pair(reply="9")])
    assert {rule: len(pairs) for rule, pairs in dropped.items()} == dict.fromkeys([*names, "copy_pasta", "near_duplicate"], 0) | {
        "deleted": 1, "bot_notice": 1, "too_short": 1,
    }  # fmt: skip
    assert list(dropped) == [*names, "copy_pasta", "near_duplicate"]
    assert list(rules.keep([], english_only=True)[1]) == [*names, "not_english", "copy_pasta", "near_duplicate"]
    documented = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*)(?:  |$)", (prepare.__doc__ or "").split("In order:")[1], re.M)
    assert ", ".join(documented).split(", ") == [*names, "not_english", "copy_pasta", "near_duplicate"]


def test_a_repeated_long_reply_is_copy_pasta() -> None:
    rows, dropped = rules.keep(
        [
            pair(reply=LONG_REPLY, number=1),
            pair(reply="Same here.", number=2),
            pair(reply=LONG_REPLY.upper() + "!!", number=3, thread_id="t3_y"),
            pair(reply="Same here.", number=4),
        ]
    )
    assert [row.reply_id for row in rows] == ["t1_r1", "t1_r2", "t1_r4"]
    assert dropped_ids(dropped) == {"copy_pasta": ["t1_r3"]}


def test_the_first_of_similar_replies_is_kept() -> None:
    other = LONG_REPLY.replace("twice", "once")
    for one, two in ((LONG_REPLY, other), (other, LONG_REPLY)):
        rows, dropped = rules.keep([pair(reply=one, number=1), pair(reply=two, number=2), pair(reply=one, number=3)])
        assert [(row.reply_id, row.reply) for row in rows] == [("t1_r1", one)]
        assert dropped_ids(dropped) == {"copy_pasta": ["t1_r3"], "near_duplicate": ["t1_r2"]}


TEN_WORDS = "the train to the coast leaves at nine from platform four"


@pytest.mark.parametrize(
    ("reply", "is_similar"),
    [
        ("The train to the coast leaves at ten, from platform four!", True),  # one of eleven words
        ("the train to the coast leaves at ten from platform two", True),  # two
        ("the train to the hills leaves at ten from platform two", False),  # three: 8 of 11 is below 0.8
        (TEN_WORDS + " every day", True),  # 11 of 13
        (TEN_WORDS + " on every single day", False),  # 11 of 15
        ("from platform four the train to the coast leaves at nine", False),  # the same words in another order
        ("the train to the coast leaves at", False),  # too short
    ],
)
def test_threshold_of_near_duplicates(reply: str, is_similar: bool) -> None:
    assert rules.near_duplicate([TEN_WORDS, reply]) == [False, is_similar]
    assert rules.near_duplicate([reply, TEN_WORDS]) == [False, is_similar]


def test_nine_equal_words_are_not_a_near_duplicate() -> None:
    nine, ten = "congratulations to you I am so happy for you", "congratulations to you I am so very happy for you"
    assert rules.near_duplicate([nine, nine]) == [False, False]
    assert rules.near_duplicate([ten, ten]) == [False, True]
    assert rules.near_duplicate([ten, ten.replace("I am", "I'm")]) == [False, False]  # nine words again


def test_replies_are_compared_with_kept_replies_only() -> None:
    """A chain of small changes does not drop a reply that differs from all kept ones."""
    chain = [TEN_WORDS]
    for old, new in (("coast leaves", "hills arrives"), ("nine from", "dawn on"), ("platform four", "track six")):
        chain.append(chain[-1].replace(old, new))
    assert rules.near_duplicate(chain) == [False, True, False, True]


def edits(one: list[str], two: list[str]) -> int:
    """The number of words to insert, omit or change."""
    before = list(range(len(two) + 1))
    for row, word in enumerate(one, start=1):
        now = [row]
        for column, other in enumerate(two, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (word != other)))
        before = now
    return before[-1]


VOCABULARY = ["red", "green", "blue", "grey", "pink"]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.tuples(st.integers(0, 13), st.sampled_from(VOCABULARY)), max_size=4)), max_size=12)
)
def test_properties_of_near_duplicates(changes: list[tuple[int, list[tuple[int, str]]]]) -> None:
    """A dropped text is similar to an earlier kept one, and a text equal to a kept one is dropped."""
    texts = []
    for base, swaps in changes:
        words = [f"{VOCABULARY[(base + place) % 5]}{base}{place}" for place in range(14)]
        for place, word in swaps:
            words[place] = word
        texts.append(" ".join(words))
    repeated = rules.near_duplicate(texts)
    kept: list[list[str]] = []
    for body, drop in zip(texts, repeated, strict=True):
        words = body.split()
        similar = [1 - edits(words, other) / max(len(words), len(other)) >= 0.8 for other in kept]
        assert any(similar) or not drop
        assert drop or words not in kept
        if not drop:
            kept.append(words)


def test_near_duplicates_are_the_same_in_every_process() -> None:
    code = (
        "from bot.corpus.rules import near_duplicate\n"
        "words = [f'word{number * number % 97}' for number in range(3000)]\n"
        "texts = [' '.join(words[place : place + 12]) for place in range(2900)]\n"
        "print(*map(int, near_duplicate(texts)))"
    )
    outputs = []
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    assert outputs[0] == outputs[1] and outputs[0].count("0") > 1 and outputs[0].count("1") > 1000


GERMAN = "Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."


def test_english_only() -> None:
    pairs = [
        pair(reply=GERMAN, number=1),
        pair(reply="Я тоже не знаю, спросите завтра ещё раз.", number=2),
        pair(reply="No idea either, ask again tomorrow.", number=3),
        pair(reply="lmao same tho, im gonna b so tired smh", number=4),
        pair(reply="Was ist das?", number=5),  # too short
        pair(reply="xX_Q7kzzqWWpfhTTgkK zzqWWpfhTTgkK wfhjkkjj kjhkjh", number=6),  # not a language
        pair(reply="Abeg make una no vex, we dey come now now", number=8),  # Pidgin
        pair(comment=GERMAN, reply="What does that mean in English, please?", number=7),
    ]
    rows, dropped = rules.keep(pairs, english_only=True)
    assert dropped_ids(dropped) == {"not_english": ["t1_r1", "t1_r2"]}
    assert len(rows) == 6
    assert len(rules.keep(pairs)[0]) == 8


@pytest.mark.usefixtures("cold")
def test_the_language_detector_is_loaded_only_if_needed() -> None:
    code = (
        "import sys; from bot.corpus import rules; from tests.test_prepare import pair\n"
        "rules.keep([pair()]); print('py3langid' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@given(st.lists(st.tuples(st.sampled_from(["t1_a", "t3_x"]), st.text(max_size=60) | st.just(LONG_REPLY), st.text(max_size=60)), max_size=8))
def test_every_pair_is_kept_or_counted(bodies: list[tuple[str, str, str]]) -> None:
    pairs = [pair(comment, reply, number, comment_id=to) for number, (to, comment, reply) in enumerate(bodies)]
    rows, dropped = rules.keep(pairs)
    ids = [each.reply_id for each in rows] + [each.reply_id for pairs in dropped.values() for each in pairs]
    assert sorted(ids) == sorted(each.reply_id for each in pairs)
    assert [each.reply_id for each in rows] == [each.reply_id for each in pairs if each.reply_id in {row.reply_id for row in rows}]


# --- explain --------------------------------------------------------------------------------------------------------------------


def test_explain_shows_a_sample_of_all_dropped_rows() -> None:
    dropped = {"too_short": [pair(reply=f"{number}", number=number) for number in range(500)], "parroted": []}
    lines = rules.explain(dropped, 20)
    assert lines[:2] == ["", "too_short: 20 of 500"] and len(lines) == 2 + 20 * 3
    shown = [int(line.split("t1_r")[1].split()[0]) for line in lines if "t1_r" in line]
    assert shown == sorted(set(shown)) and shown[0] < 100 and shown[-1] > 400
    assert lines == rules.explain(dropped, 20)
    assert rules.explain(dropped, 0) == []
    assert rules.explain({"too_short": dropped["too_short"][:2]}, 20)[1] == "too_short: 2 of 2"


def test_explain_shows_the_original_text_on_one_line() -> None:
    dropped = rules.keep([pair(comment="> a quote\n\nand \x1b[31mmore", reply="https://example.org/" + "x" * 200)])[1]
    assert rules.explain(dropped, 1) == [
        "",
        "nothing_left: 1 of 1",
        "  t1_r1 in r/books",
        "    comment: > a quote and [31mmore",
        "    reply:   https://example.org/" + "x" * 89 + "…",
    ]


# --- cleaning -------------------------------------------------------------------------------------------------------------------


def test_kept_pairs_are_clean() -> None:
    ((kept,), _) = rules.keep([pair(comment="&gt; hm\n\nTom &amp; *Jerry*", reply="  See [this](http://example.org) \n\n now")])
    assert (kept.comment, kept.reply) == ("Tom & Jerry", "See this now")


def test_a_submission_is_truncated_and_a_comment_is_not() -> None:
    long = "word " * 300
    ((comment, submission), _) = rules.keep([pair(comment=long, number=1), pair(comment=long, number=2, comment_id="t3_x")])
    assert len(comment.comment) == 1499
    assert len(submission.comment) == 599 and not submission.comment.endswith(" ")


# --- siblings ---------------------------------------------------------------------------------------------------------------


def sibling(number: int, karma: int | None, minutes: float | None, comment_id: str = "t1_a") -> Pair:
    utc = None if minutes is None else 1_500_000_000 + int(minutes * 60)
    return pair(reply=f"reply {number}", number=number, reply_karma=karma, reply_utc=utc, comment_id=comment_id)


def pairs_drawn(siblings: list[Pair], karma_gap: int = 2, hours_gap: float = 1.0) -> list[tuple[str, str, int, float]]:
    return [(row.chosen_id, row.rejected_id, row.karma_gap, row.hours_gap) for row in pairs.sibling_pairs(siblings, karma_gap, hours_gap)]


def test_the_reply_with_more_karma_is_chosen_and_hours_gap_has_a_sign() -> None:
    assert pairs_drawn([sibling(1, 10, 0), sibling(2, 3, 30)]) == [("t1_r1", "t1_r2", 7, -0.5)]  # chosen is half an hour earlier
    assert pairs_drawn([sibling(1, 3, 0), sibling(2, 10, 30)]) == [("t1_r2", "t1_r1", 7, 0.5)]  # half an hour later
    assert pairs_drawn([sibling(2, 10, 30), sibling(1, 3, 0)]) == [("t1_r2", "t1_r1", 7, 0.5)]  # independent of the order of rows
    assert pairs_drawn([sibling(1, -5, 0), sibling(2, 0, 0)]) == [("t1_r2", "t1_r1", 5, 0.0)]


def test_minimum_karma_gap() -> None:
    assert pairs_drawn([sibling(1, 3, 0), sibling(2, 1, 1)], karma_gap=2) == [("t1_r1", "t1_r2", 2, -0.0167)]
    assert pairs_drawn([sibling(1, 3, 0), sibling(2, 1, 1)], karma_gap=3) == []
    assert pairs_drawn([sibling(1, 3, 0), sibling(2, 3, 1)], karma_gap=1) == []  # a tie


def test_maximum_hours_gap() -> None:
    assert len(pairs_drawn([sibling(1, 9, 0), sibling(2, 1, 60)])) == 1
    assert pairs_drawn([sibling(1, 9, 0), sibling(2, 1, 61)]) == []
    assert len(pairs_drawn([sibling(1, 9, 0), sibling(2, 1, 61)], hours_gap=2)) == 1


def test_only_neighbours_in_time_are_paired() -> None:
    rows = pairs_drawn([sibling(1, 9, 0), sibling(2, 1, 10), sibling(3, 5, 20), sibling(4, 20, 30)])
    assert [(chosen, rejected) for chosen, rejected, _, _ in rows] == [("t1_r1", "t1_r2"), ("t1_r3", "t1_r2"), ("t1_r4", "t1_r3")]


def test_only_siblings_are_paired() -> None:
    assert pairs_drawn([sibling(1, 9, 0), sibling(2, 1, 10, comment_id="t1_b")]) == []


def test_replies_without_karma_or_time_are_ignored() -> None:
    assert pairs_drawn([sibling(1, 9, 0), sibling(2, None, 5), sibling(3, 1, 10), sibling(4, 50, None)]) == [("t1_r1", "t1_r3", 8, -0.1667)]


def test_equal_texts_are_not_paired() -> None:
    assert pairs_drawn([sibling(1, 9, 0), replace(sibling(2, 1, 5), reply="reply 1")]) == []


def test_more_neighbours() -> None:
    replies = [sibling(1, 9, 0), sibling(2, 1, 10), sibling(3, 5, 20), sibling(4, 20, 70)]
    rows = pairs.sibling_pairs(replies, 2, 1.0, neighbours=2)
    assert [(row.chosen_id, row.rejected_id) for row in rows] == [
        ("t1_r1", "t1_r2"), ("t1_r1", "t1_r3"), ("t1_r3", "t1_r2"), ("t1_r4", "t1_r2"), ("t1_r4", "t1_r3"),
    ]  # fmt: skip
    assert len(pairs.sibling_pairs(replies, 2, 1.0, neighbours=9)) == 5  # 1 and 4 are more than an hour apart


def test_artificial_times_have_no_effect_on_pairs() -> None:
    replies = [sibling(number, number, 90 * number) for number in range(1, 41)]
    month = pairs.month_of(replies[0])
    assert month == "2017-07" and not pairs.sibling_pairs(replies, 1, 1.0, untimed=["2017-08"])
    rows = pairs.sibling_pairs(replies, 1, 1.0, untimed=[month])
    assert len(rows) == 39 and {row.hours_gap for row in rows} == {0.0}
    assert sum(row.karma_gap == 1 for row in rows) < 10  # neighbours in time would all be one apart
    backwards = [replace(reply, reply_utc=-(reply.reply_utc or 0) + 3_000_100_000) for reply in replies[::-1]]
    assert {pairs.month_of(reply) for reply in backwards} == {month}
    assert pairs.sibling_pairs(backwards, 1, 1.0, untimed=[month]) == rows


@pytest.mark.parametrize("command", [["realism", "fakes.csv"], ["ranked", "pairs.jsonl"]])
def test_subcommands_reject_options_of_the_main_command(command: list[str]) -> None:
    line = [sys.executable, str(ROOT / "run_bot.py"), "prepare", *command, "--english-only"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "No such option" in done.stderr and "--english-only" in done.stderr


def test_ranked_pairs_are_cleaned_and_ordered_by_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        {"subreddit": "Books", "kind": "comment", "parent": "Which *book*?", "reply": reply, "rank": rank}
        for reply, rank in [("The **second** one.", 2), ("The third one.", 3), ("The first one.", 1), ("[deleted]", 1), ("Tied third.", 3)]
    ]
    lines += [{**lines[0], "kind": "post", "reply": "Alone under a submission."}, {"subreddit": "Books", "kind": "post", "parent": "p"}]
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare.ranked_command(tmp_path / "ranked.jsonl", tmp_path)
    rows = schema.read_rows(tmp_path / "ranked_pairs.csv", RankedPair)
    assert {(row.subreddit, row.comment) for row in rows} == {("Books", "Which book?")}
    assert sorted((row.chosen, row.rejected, row.rank_gap) for row in rows) == [
        ("The first one.", "The second one.", 1), ("The first one.", "The third one.", 2), ("The first one.", "Tied third.", 2),
        ("The second one.", "The third one.", 1), ("The second one.", "Tied third.", 1),
    ]  # fmt: skip
    assert (files.read_manifest(tmp_path / "ranked_pairs.csv") or {})["dropped"]["deleted"] == 1
    assert "5 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["no json\n", '{"subreddit": "a"}\n', '{"subreddit": "a", "kind": "b", "parent": "c", "reply": "d", "rank": "e"}\n', ""]
)
def test_a_ranked_file_with_another_format_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "ranked.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"ranked.jsonl: .*subreddit"):
        prepare.ranked_command(tmp_path / "ranked.jsonl", tmp_path)


def test_all_columns_of_a_sibling_pair() -> None:
    (row,) = pairs.sibling_pairs([sibling(1, 1, 0), sibling(2, 9, 6)], 2, 1.0)
    assert row == UpvotePair("t3_x", "t1_a", "t1_r2", "t1_r1", "books", "Any good books?", "reply 2", "reply 1", 8, 0.1)


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 240), st.sampled_from(["t1_a", "t1_b"])), max_size=12),
    st.randoms(use_true_random=False),
)
def test_properties_of_sibling_pairs(replies: list[tuple[int, int, str]], rng: object) -> None:
    siblings = [sibling(number, karma, minutes, parent) for number, (karma, minutes, parent) in enumerate(replies)]
    by_id = {each.reply_id: each for each in siblings}
    rows = pairs.sibling_pairs(siblings, 3, 1.0)
    assert len(rows) <= max(0, len(siblings) - 1)
    for row in rows:
        better, worse = by_id[row.chosen_id], by_id[row.rejected_id]
        assert better.comment_id == worse.comment_id == row.comment_id
        assert (better.reply_karma or 0) - (worse.reply_karma or 0) == row.karma_gap >= 3
        assert abs((better.reply_utc or 0) - (worse.reply_utc or 0)) <= 3600
        assert (row.chosen, row.rejected) == (better.reply, worse.reply)
    rng.shuffle(siblings)  # type: ignore[attr-defined]

    def key(row: UpvotePair) -> tuple[str, str]:
        return row.chosen_id, row.rejected_id

    assert sorted(pairs.sibling_pairs(siblings, 3, 1.0), key=key) == sorted(rows, key=key)


# --- realism ------------------------------------------------------------------------------------------------------------------


def person(number: int, comment_id: str, reply: str) -> LmRow:
    return LmRow("t3_x", comment_id, f"t1_r{number}", "books", "Any good books?", reply)


def fake(number: int, comment_id: str, reply: str) -> Candidate:
    return Candidate(comment_id, f"{comment_id}-{number}", 7, "?", reply, "lm", -2.0)


def test_relevance_rows_have_the_own_reply_and_one_from_another_thread() -> None:
    people = [LmRow(f"t3_{n // 3}", f"t1_c{n}", f"t1_r{n}", "Books" if n < 30 else "alone", f"c{n}", f"r{n}") for n in range(32)]
    people[31] = replace(people[31], thread_id=people[30].thread_id)
    rows = pairs.relevance_rows(people)
    assert rows == pairs.relevance_rows(people) and {row.subreddit for row in rows} == {"Books"}  # the other subreddit has only one thread
    by_reply = {row.reply_id: row for row in people}
    assert [row.label for row in rows] == [1, 0] * 30
    for right, wrong in zip(rows[::2], rows[1::2], strict=True):
        assert right.reply == by_reply[right.reply_id].reply and right.comment == by_reply[right.reply_id].comment
        assert wrong.comment_id == right.comment_id and wrong.reply == by_reply[wrong.reply_id].reply
        assert by_reply[wrong.reply_id].thread_id != right.thread_id == wrong.thread_id
    assert len({row.reply_id for row in rows[1::2]}) > 12


def test_realism_rows_have_both_classes_for_each_comment() -> None:
    people = [person(1, "t1_a", "Dune."), person(2, "t1_b", "Emma."), person(3, "t1_a", "Ulysses."), person(4, "t1_none", "Hamlet.")]
    fakes = [fake(0, "t1_a", "I like books."), fake(1, "t1_a", "Me too."), fake(0, "t1_b", "*Yes*, [all](http://example.org) &amp; more."),
             fake(1, "t1_b", " "), fake(0, "t1_strange", "Who asked?")]  # fmt: skip
    rows = pairs.realism_rows(people, fakes)
    assert [(row.comment_id, row.reply_id, row.reply, row.label, row.generator) for row in rows] == [
        ("t1_a", "t1_a-0", "I like books.", 0, "lm"),
        ("t1_a", "t1_a-1", "Me too.", 0, "lm"),
        ("t1_a", "t1_r1", "Dune.", 1, ""),
        ("t1_b", "t1_b-0", "Yes, all & more.", 0, "lm"),  # cleaned like human replies
        ("t1_b", "t1_r2", "Emma.", 1, ""),
        ("t1_a", "t1_r3", "Ulysses.", 1, ""),
    ]
    assert {(row.thread_id, row.subreddit, row.comment) for row in rows} == {("t3_x", "books", "Any good books?")}


def test_a_comment_with_only_empty_candidates_gives_no_rows() -> None:
    assert pairs.realism_rows([person(1, "t1_a", "Dune.")], [fake(0, "t1_a", ""), fake(1, "t1_a", "http://example.org")]) == []


# --- the whole stage -------------------------------------------------------------------------------------------------------------

AWKWARD = ["NA", "null and void", "=SUM(one)", 'she said "no",\nthen "yes"', "l'été 👍", "a [SEP] b <|endoftext|>"]


def small_extract(folder: Path) -> list[Pair]:
    """120 threads with two different replies within minutes, and a few special cases."""
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
        pair(number=904, comment_id="t3_0", thread_id="t3_0", comment="A title\n\nand its text", reply="Bad title.", reply_karma=-9),
    ]
    half = len(pairs) // 2
    write_extract(folder, shuffled(pairs[:half]), "2017-01")
    write_extract(folder, shuffled(pairs[half:]), "2017-02")
    return pairs


def shuffled(pairs: Sequence[Pair], seed: int = 1) -> list[Pair]:
    """In random order, like the rows of an extract."""
    return random.Random(seed).sample(pairs, len(pairs))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    small_extract(folder / "raw")
    prepare.main(folder / "raw", folder / "out")
    return folder / "out"


def every(folder: Path, name: str, row_type: type) -> dict[str, list]:
    return {split: schema.read_rows(folder / f"{name}_{split}.csv", row_type) for split in prepare.SPLITS}


def test_splits_have_no_common_thread_and_agree_between_files(prepared: Path) -> None:
    for name, row_type in (("lm", LmRow), ("upvote", UpvoteRow), ("upvote_pairs", UpvotePair)):
        threads = {split: {row.thread_id for row in rows} for split, rows in every(prepared, name, row_type).items()}
        assert all(threads.values())
        assert sum(map(len, threads.values())) == len(set().union(*threads.values())) == 120
        assert all(text.split_for(thread) == split for split, names in threads.items() for thread in names)


def test_rows_of_each_file(prepared: Path) -> None:
    lm = [row for rows in every(prepared, "lm", LmRow).values() for row in rows]
    upvote = [row for rows in every(prepared, "upvote", UpvoteRow).values() for row in rows]
    pairs = [row for rows in every(prepared, "upvote_pairs", UpvotePair).values() for row in rows]
    assert len(lm) == 240 and {"t1_r900", "t1_r901", "t1_r902", "t1_r903"}.isdisjoint(row.reply_id for row in lm)
    assert {row.reply_id for row in upvote} == {f"t1_r{number}" for number in [*range(240), 900, 901, 904]}
    assert {row.karma_gap for row in pairs} == {5, 10, 12} and len(pairs) == 123  # including the downvoted replies
    by_reply = {row.reply_id: row for row in lm}
    assert by_reply["t1_r3"] == LmRow("t3_1", "t1_c1", "t1_r3", "books", "question number 1", 'she said "no", then "yes" as reader 3')
    assert by_reply["t1_r5"].reply == "a [SEP] b <|endoftext|> as reader 5"


def test_gpt2_finetune_has_one_column_of_training_text(prepared: Path) -> None:
    train = schema.read_rows(prepared / "lm_train.csv", LmRow)
    expected = [text.format_training_text(row.comment, row.reply) for row in train]
    path = prepared / "gpt2_finetune.csv"
    assert [row.text for row in schema.read_rows(path, FinetuneText)] == expected
    table = pandas.read_csv(path)
    assert list(table.columns) == ["text"] and list(table["text"]) == expected
    with path.open(encoding="utf-8", newline="") as file:  # like gpt-2-simple's loader
        reader = csv.reader(file)
        assert next(reader) == ["text"] and list(reader) == [[row] for row in expected]
    assert all(row.count("[SEP]") == 1 and "<|" + "endoftext|>" not in row for row in expected)
    assert "question number 2 [SEP] a [\\SEP] b <|\\endoftext|> as reader 5" in expected


RULES = ["deleted", "nothing_left", "bot_notice", "too_short", "too_long", "mostly_not_letters", "parroted", "copy_pasta", "near_duplicate"]


def test_manifests_have_the_counts_and_the_input_files(prepared: Path) -> None:
    manifests = {path.name.split(".")[0]: json.loads(path.read_text()) for path in prepared.glob("*.manifest.json")}
    for name in ("lm_train", "lm_val", "lm_test", "gpt2_finetune", "upvote_train", "upvote_pairs_test"):
        manifest = manifests[name]
        assert manifest["dropped"] == dict.fromkeys(RULES, 0) | {"deleted": 1}
        assert (manifest["read"], manifest["kept"]) == (245, 244)
    assert manifests["lm_train"]["left_out"] == manifests["gpt2_finetune"]["left_out"] == {"to_submission": 2, "low_karma": 2}
    assert manifests["upvote_val"]["left_out"] == {"no_karma_or_time": 1}
    assert "left_out" not in manifests["upvote_pairs_train"]
    for name, left_out in (("lm", 4), ("upvote", 1)):
        assert sum(manifests[f"{name}_{split}"]["rows"] for split in prepare.SPLITS) == 244 - left_out
    made_from = manifests["lm_train"]["made_from"]
    assert sorted(made_from["files"]) == ["2017-01.parquet", "2017-02.parquet"]
    assert made_from["files"]["2017-01.parquet"] == files.sha256_of(prepared.parent / "raw" / "2017-01.parquet")
    assert made_from["english_only"] is False


def printed(output: str) -> dict[str, int]:
    """Parse the printed table of rules."""
    return {name: int(count.replace(",", "")) for name, count in re.findall(r"│ (\S.*?) +│ +([\d,]+) │\n", output)}


EXTRACTED: dict[str, object] = {
    "files": {"RC_2017-01.zst": [1]}, "subreddits": ["books"], "lookback_months": 6, "with_comments": True, "with_submissions": False,
    "drop_deleted_authors": False, "bots": ["helper"], "query": "the checksum of a query",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": "of another version"}, "the version"),
        ({"subreddits": []}, "--subreddit"),
        ({"lookback_months": 1}, "--lookback-months"),
        ({"with_submissions": True}, "--parents"),
        ({"drop_deleted_authors": True}, "--drop-deleted-authors"),
        ({"bots": []}, "conduct.bots"),
        ({"bots": [], "query": "of another version"}, "conduct.bots and the version"),
    ],
)
def test_extracts_with_different_settings_are_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    write_extract(tmp_path, [pair()], "2017-01", EXTRACTED)
    write_extract(tmp_path, [pair(number=2)], "2017-02", EXTRACTED | changes)
    with pytest.raises(UserError, match=f"2017-01, 2017-02 differ in {message} of `extract`; extract them again with the same"):
        prepare.read_pairs(tmp_path)


def test_extracts_of_different_dumps_are_read(tmp_path: Path) -> None:
    write_extract(tmp_path, [pair()], "2017-01", EXTRACTED)
    write_extract(tmp_path, [pair(number=2)], "2017-02", EXTRACTED | {"files": {"RC_2017-02.zst": [2]}})
    assert [row.reply_id for row in prepare.read_pairs(tmp_path)[0]] == ["t1_r1", "t1_r2"]


def test_the_table_accounts_for_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_extract(tmp_path / "raw")
    prepare.main(tmp_path / "raw", tmp_path / "out", minimum_karma=6, karma_gap=6, hours_gap=1000.0)
    output = capsys.readouterr().out
    table = printed(output)
    assert list(table) == [
        "read", *(f"- {rule}" for rule in RULES), "= kept", "kept, but not in lm: to_submission", "kept, but not in lm: low_karma", "= lm",
        "kept, but not in upvote: no_karma_or_time", "= upvote",
    ]  # fmt: skip
    assert list(table.values()) == [245, 1, *[0] * (len(RULES) - 1), 244, 2, 122, 120, 1, 243]
    assert "deleted: 1 of 1" not in output  # only with --explain
    assert sum(len(rows) for rows in every(tmp_path / "out", "lm", LmRow).values()) == 120
    pairs = [row for rows in every(tmp_path / "out", "upvote_pairs", UpvotePair).values() for row in rows]
    assert sorted(row.karma_gap for row in pairs) == [10, 12]


def test_command_line_options(tmp_path: Path, prepared: Path) -> None:
    raw = tmp_path / "raw"
    write_extract(raw, [pair(number=1, reply=GERMAN), pair(number=2), pair(number=3, reply="[red] it is"), pair(number=4, reply="x")])
    command = [sys.executable, "-m", "bot", "prepare", "--raw", str(raw), "--out", str(tmp_path), "--explain", "3", "--english-only"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    table = printed(done.stdout)
    assert (table["read"], table["- too_short"], table["- not_english"], table["= lm"]) == (4, 1, 1, 2)
    assert f"not_english: 1 of 1\n  t1_r1 in r/books\n    comment: Any good books?\n    reply:   {GERMAN}\n" in done.stdout
    assert "too_short: 1 of 1\n  t1_r4 in r/books" in done.stdout
    assert "parroted:" not in done.stdout
    assert json.loads((tmp_path / "lm_train.csv.manifest.json").read_text())["made_from"]["english_only"] is True


def test_output_is_reproducible(prepared: Path, tmp_path: Path) -> None:
    prepare.main(prepared.parent / "raw", tmp_path)
    for path in sorted(prepared.glob("*.csv")):
        if not path.name.startswith("realism"):
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_order_of_rows_in_an_extract_does_not_matter(tmp_path: Path) -> None:
    copies = [
        pair(number=number, reply=f"{LONG_REPLY} {'Very much.' * (number % 2)}", reply_utc=1_500_000_000 + utc)
        for number, utc in ((5, 30), (7, 10), (8, 10), (6, 20))
    ]
    others = [pair(number=number, reply=f"Number {number}, and nothing else.", reply_utc=utc) for number, utc in ((9, None), (4, 5))]
    alike = [pair(number=number, reply=f"{number} of ten at the same second", reply_utc=1) for number in range(10, 20)]
    expected = [*(f"t1_r{number}" for number in range(10, 20)), "t1_r4", "t1_r7", "t1_r8", "t1_r6", "t1_r5", "t1_r9"]
    for seed in range(3):
        write_extract(tmp_path, shuffled([*copies, *others, *alike], seed))
        read, _ = prepare.read_pairs(tmp_path)
        assert [each.reply_id for each in read] == expected
        kept, dropped = rules.keep(read)
        assert [each.reply_id for each in kept[-3:]] == ["t1_r4", "t1_r7", "t1_r9"]
        assert dropped_ids(dropped) == {"copy_pasta": ["t1_r6", "t1_r5"], "near_duplicate": ["t1_r8"]}


def test_files_are_read_in_order_of_name(tmp_path: Path) -> None:
    write_extract(tmp_path, [pair(number=1, reply_utc=9)], "2017-02")
    write_extract(tmp_path, [pair(number=2, reply_utc=10)], "2017-01")
    assert [each.reply_id for each in prepare.read_pairs(tmp_path)[0]] == ["t1_r2", "t1_r1"]


def test_the_realism_files(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = [row for rows in every(prepared, "lm", LmRow).values() for row in rows]
    comments = sorted({row.comment_id for row in lm})
    fakes = [fake(0, comment, f"Generated for {comment}") for comment in comments[:100]]
    fakes += [fake(1, comments[0], "http://example.org"), fake(0, "t1_elsewhere", "Hello."), fake(1, "t1_elsewhere", "Hi.")]
    schema.write_rows(tmp_path / "fakes.csv", Candidate, fakes)
    prepare.realism_command([tmp_path / "fakes.csv"], prepared)
    assert "103 candidates: nothing_left 1, comment_not_in_lm 2 - 100 used" in capsys.readouterr().out
    manifest = files.read_manifest(prepared / "realism_train.csv") or {}
    assert (manifest["read"], manifest["dropped"]) == (103, {"nothing_left": 1, "comment_not_in_lm": 2})
    realism = every(prepared, "realism", RealismRow)
    rows = [row for split in realism.values() for row in split]
    assert sum(row.label == 0 for row in rows) == 100 and sum(row.label == 1 for row in rows) == 200
    for comment in comments[:100]:
        assert {row.label for row in rows if row.comment_id == comment} == {0, 1}
    assert all(text.split_for(row.thread_id) == split for split, each in realism.items() for row in each)
    settings = {"settings": {"temperature": 1.0, "top_p": 0.95, "top_k": 0}}
    schema.write_rows(tmp_path / "hot.csv", Candidate, [fake(0, comment, f"Hot for {comment}") for comment in comments[50:60]], settings)
    prepare.realism_command([tmp_path / "fakes.csv", tmp_path / "hot.csv"], prepared)
    rows = [row for split in every(prepared, "realism", RealismRow).values() for row in split]
    assert Counter(row.generator for row in rows if not row.label) == {"lm": 100, "lm temperature=1 top_p=0.95": 10}
    assert sum(row.label for row in rows) == 200  # no human reply is repeated
    schema.write_rows(tmp_path / "unknown.csv", Candidate, [fake(0, "t1_elsewhere", "Hello.")])
    with pytest.raises(UserError, match=r"unknown\.csv: none of the comment_ids occurs in"):
        prepare.realism_command([tmp_path / "unknown.csv"], prepared)


# --- invalid extracts ---------------------------------------------------------------------------------------------------------------


def test_missing_extract(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Parquet file; run `python run_bot\.py extract` first"):
        prepare.main(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_or_invalid_extract(tmp_path: Path) -> None:
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
    path.write_bytes(other.read_bytes())  # complete, but with fewer rows than in the manifest
    assert "1 rows, but its manifest says 50" in refusal()
    files.manifest_path(path).unlink()
    duckdb.sql("SELECT 'books' AS subreddit, 't3_x' AS thread_id").write_parquet(str(path))
    assert "not an extract with columns subreddit, thread_id, submission" in refusal()
    write_extract(tmp_path, [pair()])
    files.manifest_path(path).unlink()
    duckdb.sql(f"SELECT * REPLACE ('many' AS reply_karma) FROM '{other}'").write_parquet(str(path))
    assert "many" in refusal()


@pytest.mark.parametrize("month", ["2023-4", "2023-13", "April 2023"])
def test_a_month_that_is_none_is_refused_before_anything_is_read(tmp_path: Path, month: str) -> None:
    with pytest.raises(UserError, match=f"'{month}' is not a month; use YYYY-MM"):
        prepare.main(tmp_path / "nothing", tmp_path / "out", untimed=[month])
