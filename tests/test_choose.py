"""bot.online.choose: at most one reply per submission."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import config, files, schema
from bot.cli import UserError
from bot.corpus import copies
from bot.online.choose import choose, join, main, summary
from bot.posting import approvals, ledger
from bot.schema import Candidate, Comment, Context, Scored, Scores


def row(
    candidate: str = "0",
    realism: float | None = 0.9,
    rank: float | None = 0.5,
    comment: str = "t1_a",
    thread: str = "t3_x",
    reply: str | None = None,
    verdict: str = "kept",
    reason: str = "",
) -> Scored:
    reply = f"Dune, {comment}." if reply is None else reply
    return Scored(comment, thread, "books", "Any good books?", f"{comment}-{candidate}", reply, realism, rank, None, rank, verdict, reason)


@pytest.fixture(autouse=True)
def other_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the realism threshold and disable the others, since the tests of the commands are about realism."""
    for name, value in (("REALISM", "0.45"), ("RANK", "0"), ("WORDS", "1")):
        monkeypatch.setenv(f"BOT_CHOOSE__MINIMUM_{name}", value)


def settings(minimum_realism: float = 0.5, **changes: Any) -> config.ChooseSettings:
    return config.ChooseSettings(**{"minimum_realism": minimum_realism, "minimum_rank": 0.0, "minimum_words": 1, **changes})


def outcome(rows: list[Scored], minimum_realism: float = 0.5) -> dict[str, tuple[str, str]]:
    return {each.candidate_id: (each.verdict, each.reason) for each in choose(rows, settings(minimum_realism))}


def chosen(rows: list[Scored], minimum_realism: float = 0.5) -> list[str]:
    return [name for name, (verdict, _) in outcome(rows, minimum_realism).items() if verdict == "chosen"]


def test_the_original_rule() -> None:
    """Candidates below the realism threshold are dropped, whatever their other scores; the best of the rest is chosen."""
    rows = [
        row("0", realism=0.2, rank=0.99),
        row("1", realism=0.6, rank=0.4),
        row("2", realism=0.55, rank=0.7),
        row("3", realism=0.99, rank=0.6),
    ]
    assert outcome(rows) == {
        "t1_a-0": ("refused", "low_realism"),
        "t1_a-1": ("kept", "not_best"),
        "t1_a-2": ("chosen", ""),
        "t1_a-3": ("kept", "not_best"),
    }


def test_the_threshold_itself_passes() -> None:
    rows = [row("0", realism=0.7, rank=0.9), row("1", realism=0.6999, rank=0.95)]
    assert outcome(rows, 0.7) == {"t1_a-0": ("chosen", ""), "t1_a-1": ("refused", "low_realism")}
    assert chosen(rows, 0.0) == ["t1_a-1"]


def test_nothing_passes() -> None:
    rows = [row("0", realism=0.1), row("1", realism=0.2)]
    assert chosen(rows) == [] and [each.verdict for each in choose(rows, settings(0.5))] == ["refused", "refused"]
    assert choose([], settings(0.5)) == []


def test_an_empty_reply_is_refused() -> None:
    rows = [row("0", rank=0.9, reply=""), row("1", rank=0.8, reply=" \n"), row("2", rank=0.1)]
    assert outcome(rows) == {"t1_a-0": ("refused", "empty"), "t1_a-1": ("refused", "empty"), "t1_a-2": ("chosen", "")}


def test_one_reply_per_submission() -> None:
    rows = [
        row("0", rank=0.6, comment="t1_a"),
        row("1", rank=0.2, comment="t1_a"),
        row("0", rank=0.8, comment="t1_b"),
        row("1", rank=0.7, comment="t1_b"),
        row("0", rank=0.1, comment="t1_c", thread="t3_y"),
    ]
    assert outcome(rows) == {
        "t1_a-0": ("kept", "other_comment_in_submission"),
        "t1_a-1": ("kept", "not_best"),
        "t1_b-0": ("chosen", ""),
        "t1_b-1": ("kept", "not_best"),
        "t1_c-0": ("chosen", ""),
    }


def test_no_two_comments_get_the_same_reply() -> None:
    """The comment with the higher rank score gets it; the others get their next best candidate, or none."""
    rows = [
        row("0", rank=0.8, comment="t1_a", thread="t3_x", reply="Thanks a lot!"),
        row("0", rank=0.9, comment="t1_b", thread="t3_y", reply="thanks, a lot"),
        row("1", rank=0.7, comment="t1_a", thread="t3_x", reply="Try the library."),
        row("0", rank=0.6, comment="t1_c", thread="t3_z", reply="THANKS a lot"),
        row("1", rank=0.1, comment="t1_b", thread="t3_y", reply="Thanks a lot!!"),
    ]
    assert outcome(rows) == {
        "t1_a-0": ("refused", "same_reply_elsewhere"),
        "t1_b-0": ("chosen", ""),
        "t1_a-1": ("chosen", ""),
        "t1_c-0": ("refused", "same_reply_elsewhere"),
        "t1_b-1": ("kept", "not_best"),
    }


def test_a_reply_that_is_not_chosen_may_be_given_elsewhere() -> None:
    rows = [
        row("0", rank=0.9, comment="t1_a"),
        row("1", rank=0.8, comment="t1_a", reply="Thanks a lot!"),
        row("0", rank=0.85, comment="t1_d", reply="Thanks a lot!"),  # in the same submission
        row("0", rank=0.3, comment="t1_b", thread="t3_y", reply="Thanks a lot!"),
    ]
    assert chosen(rows) == ["t1_a-0", "t1_b-0"]


def test_a_tie_goes_to_the_smaller_id() -> None:
    rows = [row("2", rank=0.5), row("1", rank=0.5), row("3", rank=0.5)]
    assert chosen(rows) == chosen(rows[::-1]) == ["t1_a-1"]
    across = [row("0", comment="t1_b"), row("0", comment="t1_a")]
    assert chosen(across) == chosen(across[::-1]) == ["t1_a-0"]


def test_missing_scores() -> None:
    """Without a realism score no candidate is below the threshold. A candidate without a rank_score ranks below all that have one."""
    assert chosen([row("0", realism=None, rank=0.3), row("1", realism=None, rank=0.4)]) == ["t1_a-1"]
    assert chosen([row("0", rank=None), row("1", rank=0.0)]) == ["t1_a-1"]
    assert chosen([row("1", rank=None), row("0", rank=None)]) == ["t1_a-0"]


def test_earlier_verdicts_are_overwritten() -> None:
    rows = [row("0", rank=0.9, verdict="refused", reason="low_realism"), row("1", rank=0.3, verdict="chosen")]
    assert chosen(rows) == ["t1_a-0"]
    assert choose(choose(rows, settings(0.5)), settings(0.5)) == choose(rows, settings(0.5))


SCORE = st.none() | st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])
ROWS = st.lists(
    st.builds(
        row, realism=SCORE, rank=SCORE, comment=st.sampled_from(["t1_a", "t1_b", "t1_c"]), reply=st.sampled_from(["Dune.", "Emma.", ""])
    ),
    max_size=12,
).map(
    lambda rows: [
        row(str(n), each.realism_score, each.rank_score, each.comment_id, "t3_y" if each.comment_id == "t1_c" else "t3_x", each.reply)
        for n, each in enumerate(rows)
    ]
)  # fmt: skip


@given(rows=ROWS, seed=st.integers(0, 9), minimum_realism=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_order_of_rows_does_not_matter(rows: list[Scored], seed: int, minimum_realism: float) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert outcome(rows, minimum_realism) == outcome(shuffled, minimum_realism)
    assert [each.candidate_id for each in choose(shuffled, settings(minimum_realism))] == [each.candidate_id for each in shuffled]


@given(rows=ROWS)
def test_invariants(rows: list[Scored]) -> None:
    result = choose(rows, settings(0.5))
    assert max(Counter(each.thread_id for each in result if each.verdict == "chosen").values(), default=0) <= 1
    assert max(Counter(each.reply for each in result if each.verdict == "chosen").values(), default=0) <= 1
    for each in result:
        assert each.verdict in {"chosen", "kept", "refused"}
        assert (each.reason == "") == (each.verdict == "chosen")
        beaten = [other for other in result if other.thread_id == each.thread_id and other.verdict != "refused"]
        if each.verdict == "chosen":
            assert all((other.rank_score or 0) <= (each.rank_score or 0) for other in beaten)
            assert each.reply and (each.realism_score is None or each.realism_score >= 0.5)
        if each.verdict == "kept":
            assert any(other.verdict == "chosen" for other in beaten)


def test_the_summary_counts_comments_that_wait_for_another_comment() -> None:
    rows = choose([row("0", rank=0.6), row("0", comment="t1_b"), row("1", realism=0.1, comment="t1_b")], settings(0.5))
    assert summary(rows) == "1 of 2 comments get a reply; 1 without: another comment of the submission is answered"


def write_run(folder: Path, rows: list[Scored], comments: dict[str, str] | None = None, title: str = "T") -> None:
    """Write a run folder as `rank` leaves it, with these rows. comments: texts by id."""
    texts = comments or {row.comment_id: row.comment for row in rows}
    threads = {row.comment_id: row.thread_id for row in rows}
    taken = [Comment(name, threads[name], rows[0].subreddit, title, body, 1, 1, 0, "a", False, "") for name, body in texts.items()]
    schema.write_rows(folder / "comments.csv", Comment, taken)
    written = [Candidate(each.comment_id, each.candidate_id, 1, texts[each.comment_id], each.reply, "g", None) for each in rows]
    schema.write_rows(folder / "candidates.csv", Candidate, written)
    four = ("realism_score", "upvote_score", "relevance_score", "rank_score")
    scores = [Scores(each.comment_id, each.candidate_id, *(getattr(each, name) for name in four)) for each in rows]
    schema.write_rows(folder / "scores.csv", Scores, scores)


def test_scores_and_candidates_are_joined_on_ids() -> None:
    """Two comments with the same text keep their own candidates."""
    comments = [Comment(f"t1_{name}", f"t3_{name}", "s", "T", "Same text", 1, 1, 0, "a", False, "") for name in "ab"]
    candidates = [Candidate(f"t1_{name}", f"t1_{name}-{n}", n, "Same text", f"{name} {n}", "g", None) for n in range(2) for name in "ba"]
    scores = [Scores(each.comment_id, each.candidate_id, n / 10, None, None, n / 10) for n, each in enumerate(candidates)]
    rows = join(comments, candidates, scores[::-1])
    assert [(row.candidate_id, row.thread_id, row.reply, row.realism_score) for row in rows] == [
        ("t1_b-0", "t3_b", "b 0", 0.0), ("t1_a-0", "t3_a", "a 0", 0.1), ("t1_b-1", "t3_b", "b 1", 0.2), ("t1_a-1", "t3_a", "a 1", 0.3),
    ]  # fmt: skip
    with pytest.raises(UserError, match="t1_b-0 answers t1_b"):
        join(comments[:1], candidates, scores)
    with pytest.raises(UserError, match="run `rank` again"):
        join(comments, candidates, scores[1:])


def test_scores_of_other_candidates_are_refused(tmp_path: Path) -> None:
    """Candidates of another seed have the same ids."""
    comment = Comment("t1_a", "t3_a", "s", "T", "Which one?", 1, 1, 0, "a", False, "")
    schema.write_rows(tmp_path / "comments.csv", Comment, [comment])
    old, new = (Candidate("t1_a", "t1_a-0", seed, "Which one?", f"reply of seed {seed}", "g", None) for seed in (1, 2))
    scores = [Scores("t1_a", "t1_a-0", 0.9, 0.9, 0.9, 0.9)]
    made_from = {"input": [files.sha256_of(tmp_path / "comments.csv")]}
    schema.write_rows(tmp_path / "candidates.csv", Candidate, [old], made_from)
    schema.write_rows(tmp_path / "scores.csv", Scores, scores, {"candidates": files.sha256_of(tmp_path / "candidates.csv")})
    main(tmp_path)
    schema.write_rows(tmp_path / "candidates.csv", Candidate, [new], made_from)
    with pytest.raises(UserError, match=r"scores.csv: made from another candidates.csv; run `rank` again"):
        main(tmp_path)
    schema.write_rows(tmp_path / "comments.csv", Comment, [replace(comment, comment="Which two?")])
    schema.write_rows(tmp_path / "scores.csv", Scores, scores, {"candidates": files.sha256_of(tmp_path / "candidates.csv")})
    with pytest.raises(UserError, match=r"candidates.csv: made from another comments.csv; run `generate` again"):
        main(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("0", rank=0.6), row("1", realism=0.1), row("0", realism=0.15, comment="t1_b", thread="t3_y")]
    write_run(tmp_path, rows)
    before, start = (tmp_path / "scores.csv").read_bytes(), int(time.time())
    main(tmp_path)
    os.utime(tmp_path / "chosen.csv", (1, 1))  # as a copy of the run
    assert start <= approvals.offered_utc(tmp_path) <= time.time()
    message = capsys.readouterr().out
    assert "1 of 2 comments get a reply; 1 without: all candidates refused (low_realism 1)\n" in message
    assert [each.verdict for each in schema.read_rows(tmp_path / "scored.csv", Scored)] == ["chosen", "refused", "refused"]
    assert (tmp_path / "scores.csv").read_bytes() == before  # a stage does not change its input
    assert schema.read_rows(tmp_path / "chosen.csv", Scored) == [row("0", rank=0.6, verdict="chosen")]
    monkeypatch.setenv("BOT_CHOOSE__MINIMUM_REALISM", "0.05")
    main(tmp_path)
    assert "2 of 2" in capsys.readouterr().out
    assert [each.candidate_id for each in schema.read_rows(tmp_path / "chosen.csv", Scored)] == ["t1_a-0", "t1_b-0"]


def test_unfit_candidates_are_refused_and_the_next_best_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    replies = [
        "see https://example.org", "ask u/spez", "Any good books?", "Emma, I think, and then Dune.", "Dune is what I tell everybody.",
        "You are an idiot.", "Middlemarch.", "It is the one with the lighthouse.",
    ]  # fmt: skip
    rows = [row(str(n), rank=0.9 - n / 100, reply=reply) for n, reply in enumerate(replies)]
    rows.append(row("9", realism=0.1, reply="no https://example.org"))
    write_run(tmp_path, rows, {"t1_a": "Any good books?"}, "Books!")
    schema.write_rows(tmp_path / "context.csv", Context, [Context("t3_x", "t1_z", "t1_a", "Emma I think, and then Dune!")])
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as db:
        ledger.intend(db, ledger.Reply("t1_o", "t3_o", "books", "b", "0", "Dune is what I tell everybody"), 1)
    (tmp_path / "lm").mkdir()
    monkeypatch.setenv("BOT_GENERATE__MODEL", str(tmp_path / "lm"))
    main(tmp_path)
    assert {each.candidate_id[-1]: each.reason for each in schema.read_rows(tmp_path / "scored.csv", Scored)} == {
        "0": "link", "1": "ping", "2": "repeats_comment", "3": "copy_of_thread", "4": "copy_of_own", "5": "insult", "6": "",
        "7": "not_best", "9": "low_realism",
    }  # fmt: skip
    assert [each.reply for each in schema.read_rows(tmp_path / "chosen.csv", Scored)] == ["Middlemarch."]
    assert "not checked for copies of the training text" in capsys.readouterr().out
    copies.write(tmp_path / "lm", ["It is the one with the old lighthouse."])
    main(tmp_path)
    assert "not checked" not in capsys.readouterr().out


def test_the_texts_of_a_thread_are_normalised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independently of the number of answered comments and of their candidates."""
    rows = [row(str(n), comment=f"t1_{name}", reply=f"Reply {n} to {name}.") for name in "abcdefghij" for n in range(3)]
    write_run(tmp_path, rows, {f"t1_{name}": f"Question {name}?" for name in "abcdefghij"})
    schema.write_rows(tmp_path / "context.csv", Context, [Context("t3_x", f"t1_c{n}", "t3_x", f"Context number {n}.") for n in range(300)])
    plain, made = copies.plain, Counter[str]()

    def counted(body: str) -> str:
        made[body] += 1
        return plain(body)

    monkeypatch.setattr(copies, "plain", counted)
    monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "none.sqlite"))
    main(tmp_path)
    assert {made[f"Context number {n}."] for n in range(300)} == {1}


@pytest.mark.parametrize("least", [0.95, 0.8, 0.5])
def test_the_fast_search_finds_the_same_copies(least: float) -> None:
    """For passages with a few changed characters, the result equals that of comparing all pairs."""
    from rapidfuzz import fuzz

    dice = random.Random(4)
    matches = Counter[bool]()
    for _ in range(300):
        other = " ".join(
            dice.choice(["oven", "bread", "river", "a", "lantern", "of", "quiet", "seven"]) for _ in range(dice.randint(8, 40))
        )
        start = dice.randrange(len(other) // 2)
        letters = list(other[start : start + dice.randint(35, 90)])
        for _ in range(dice.randint(0, 6)):
            letters[dice.randrange(len(letters)) : dice.randrange(len(letters))] = dice.choice("xyz")
        printed = "".join(letters)
        ratio = fuzz.ratio(printed, other) >= 100 * least
        passage = copies.PASSAGE_CHARACTERS <= len(printed) < len(other) and fuzz.partial_ratio(printed, other) >= 100 * least
        assert copies.is_copy(printed, ["something else", other, ""], least) == (ratio or passage), (printed, other)
        matches[ratio or passage] += 1
    assert min(matches[True], matches[False]) > 10


def test_if_nothing_is_chosen_the_file_has_no_rows(tmp_path: Path) -> None:
    write_run(tmp_path, [row(realism=0.1)])
    main(tmp_path)
    assert schema.read_rows(tmp_path / "chosen.csv", Scored) == []


def test_short_repeating_and_low_ranked_replies_are_refused() -> None:
    rows = [
        row("0", rank=0.9, reply="Yes, a few."),
        row("1", rank=0.8, reply="There are ANY good books here"),
        row("2", rank=0.2, reply="The one about the lighthouse."),
        row("3", rank=0.3, reply="The one about the kettle."),
    ]
    reasons = {each.candidate_id: each.reason for each in choose(rows, settings(minimum_rank=0.25, minimum_words=4))}
    assert reasons == {"t1_a-0": "too_short", "t1_a-1": "repeats_comment", "t1_a-2": "low_rank", "t1_a-3": ""}
    assert [each.reason for each in choose([row("0", rank=None, reply="The one about the kettle.")], settings(minimum_rank=0.9))] == [""]
