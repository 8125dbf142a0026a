"""Blind pairwise reading: pairs, answers, undo, sheets, the table, the terminal and the page."""

from __future__ import annotations

import csv
import io
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bot import cli, files, metrics, schema
from bot.__main__ import command_of
from bot.cli import UserError
from bot.evaluate import judge
from bot.evaluate.judge import Answer, Option, Reading
from bot.posting import purge
from bot.schema import BlindPair, Judgement, Scored
from bot.web import server
from bot.web.judge import make_pages
from tests import visiting

SCRIPT = "<script>alert(1)</script> \"quoted\" & 'single'"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &#34;quoted&#34; &amp; &#39;single&#39;"


def scored_rows(comments: int = 6, candidates: int = 4) -> list[Scored]:
    """Candidate 1 of each comment is chosen, the last one has the best upvote_score, and candidate 0 is empty."""
    rows = []
    for number in range(comments):
        for each in range(candidates):
            verdict, reason = ("refused", "empty") if each == 0 else ("chosen", "") if each == 1 else ("refused", "insult")
            reply = "" if each == 0 else f"reply {each} to number {number}"
            ids = (f"t1_{number}", f"t3_{number}", "books", f"comment number {number}", f"t1_{number}-{each}")
            rows.append(Scored(*ids, reply, None, each / 10, 0.5, 0.9 - each / 10, verdict, reason))
    return rows


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    path = tmp_path / "scored.csv"
    schema.write_rows(path, Scored, scored_rows())
    schema.write_table(
        tmp_path / "comments.csv", ["comment_id", "title"], [{"comment_id": f"t1_{each}", "title": f"title {each}"} for each in range(6)]
    )
    return path


@pytest.fixture
def reading(scored: Path) -> Reading:
    return Reading(judge.read_pairs([scored], "verdict", 1)[0], scored.with_name("judgements.csv"), "ann")


def run(arguments: str, capsys: pytest.CaptureFixture[str], stage: str = "judge") -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.run_command(command_of(stage), f"run_bot.py {stage}", arguments.split())
    return (ended.value.code, *capsys.readouterr())


def picked(pair: BlindPair) -> tuple[str, str]:
    """The candidate ids of the pick and of the other candidate."""
    return (pair.first_id, pair.second_id) if pair.pick == 1 else (pair.second_id, pair.first_id)


# --- pairs ----------------------------------------------------------------------------------------------------------------


def options(comments: int, *replies: str, values: tuple[float | None, ...] = ()) -> list[Option]:
    given = values or (1.0, *[None] * (len(replies) - 1))
    return [
        Option(f"t1_{comment:03}", f"t1_{comment:03}-{number}", "books", "why?", reply, given[number])
        for comment in range(comments)
        for number, reply in enumerate(replies)
    ]


def test_pairs_depend_on_the_seed_and_not_on_the_order_of_rows() -> None:
    rows = options(40, "one", "two", "three", "four")
    pairs = judge.draw_pairs(rows, 1)[0]
    assert judge.draw_pairs(rows[::-1], 1)[0] == pairs
    other = {pair.comment_id: pair for pair in judge.draw_pairs(rows, 2)[0]}
    assert any(picked(pair)[1] != picked(other[pair.comment_id])[1] for pair in pairs)
    assert any(pair.pick != other[pair.comment_id].pick for pair in pairs)
    assert [pair.comment_id for pair in pairs] not in ([*other], sorted(other))
    assert not {pair.pair_id for pair in pairs} & {pair.pair_id for pair in other.values()}


def test_each_side_has_the_pick_equally_often_and_each_candidate_is_drawn() -> None:
    pairs = judge.draw_pairs(options(300, "one", "two", "three", "four"), 3)[0]
    assert Counter(pair.pick for pair in pairs) == {1: 150, 2: 150}
    assert {picked(pair)[0][-2:] for pair in pairs} == {"-0"}
    drawn = Counter(picked(pair)[1][-2:] for pair in pairs)
    assert drawn.keys() == {"-1", "-2", "-3"} and min(drawn.values()) > 70
    first_half = Counter(pair.pick for pair in pairs[:150])
    assert min(first_half.values()) > 50  # sides are shuffled, not in blocks
    assert Counter(pair.pick for pair in judge.draw_pairs(options(7, "one", "two"), 3)[0]) == {1: 4, 2: 3}


def test_a_pair_never_has_the_same_reply_twice() -> None:
    pairs, without = judge.draw_pairs(options(50, "Same here.", "same  HERE. ", "Different"), 1)
    assert {picked(pair)[1][-2:] for pair in pairs} == {"-2"} and len(pairs) == 50 and not without
    assert judge.draw_pairs(options(2, "Same", "same"), 1) == ([], {"no other candidate": 2})
    assert judge.draw_pairs(options(2, "One", "Two", values=(None, None)), 1) == ([], {"no pick": 2})


def test_equal_values_go_to_the_smaller_id_and_missing_ones_are_never_picked() -> None:
    pairs = judge.draw_pairs(options(20, "one", "two", "three", "four", values=(None, 0.0, 0.0, -1.0))[::-1], 1)[0]
    assert {picked(pair)[0][-2:] for pair in pairs} == {"-1"}


@pytest.mark.parametrize(("by", "pick"), [("verdict", "-1"), ("upvote_score", "-3"), ("rank_score", "-1")])
def test_the_pick_is_the_chosen_one_or_the_best_by_a_score(scored: Path, by: str, pick: str) -> None:
    pairs, without = judge.read_pairs([scored], by, 1)
    assert {picked(pair)[0][-2:] for pair in pairs} == {pick} and len(pairs) == 6 and not without
    assert not any(id_.endswith("-0") for pair in pairs for id_ in (pair.first_id, pair.second_id))  # empty
    assert {(pair.comment_id[3:], pair.title[6:], pair.comment[15:]) for pair in pairs} == {(str(n),) * 3 for n in range(6)}


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("realism_score", r"no comment has a pick .*no pick: 6"),
        ("reply", r"scored.csv: row 2, column reply: 'reply 1 to number 0' is not a number"),
        ("mood", r"expected column mood"),
    ],
)
def test_a_score_that_is_missing(scored: Path, by: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge.read_pairs([scored], by, 1)


def test_any_scored_files_can_be_mixed(scored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "scores.csv"
    columns = ["comment_id", "candidate_id", "comment", "reply", "sense_score"]
    schema.write_table(other, columns, [dict(zip(columns, ["t1_9", f"t1_9-{n}", "why", f"so {n}", n], strict=True)) for n in (9, 10)])
    with pytest.raises(UserError, match="expected column verdict"):
        judge.read_pairs([other], "verdict", 1)
    pairs = judge.read_pairs([other], "sense_score", 1)[0]
    assert [picked(pair) for pair in pairs] == [("t1_9-10", "t1_9-9")]
    twice = tmp_path / "twice.csv"
    schema.write_rows(twice, Scored, scored_rows(5))
    both = judge.read_pairs([scored, twice, scored], "verdict", 1)[0]
    sources = [Path(pair.source).name for pair in both]
    assert Counter(sources) == {"scored.csv": 6, "twice.csv": 5} and sources != sorted(sources) and sources != sorted(sources)[::-1]
    assert [pair.pair_id for pair in both] == sorted(pair.pair_id for pair in both)


# --- answers --------------------------------------------------------------------------------------------------------------


def test_reading_resumes_at_the_first_unread_pair(reading: Reading) -> None:
    before = int(time.time())
    for count, pair in enumerate(reading.pairs[:3], start=1):
        assert reading.next_pair(reading.answered()) == pair
        assert reading.record({pair.pair_id: Answer(count % 3, True, False)}) == 1
        assert len(schema.read_rows(reading.out, Judgement)) == count  # on disk at once
    again = Reading(reading.pairs, reading.out, "ann")
    assert again.next_pair(again.answered()) == reading.pairs[3]
    assert Reading(reading.pairs, reading.out, "bob").answered() == []
    assert again.record({reading.pairs[0].pair_id: Answer(2, True, True)}) == 0
    row = schema.read_rows(reading.out, Judgement)[0]
    pair = reading.pairs[0]
    assert (row.who, row.better, row.first_acceptable, row.second_acceptable) == ("ann", 1, True, False)
    assert before <= row.judged_utc <= time.time() and row.source_sha256 == files.sha256_of(Path(row.source))
    assert all(getattr(row, column) == getattr(pair, column) for column in schema.columns_of(BlindPair))


def test_undo_removes_only_the_readers_last_answer(reading: Reading) -> None:
    one, two, three = (pair.pair_id for pair in reading.pairs[:3])
    bob = Reading(reading.pairs, reading.out, "bob")
    for pair_id in (one, two):
        reading.record({pair_id: Answer(1, True, True)})
        bob.record({pair_id: Answer(2, False, False)})
    assert not reading.undo(one) and not reading.undo(three)
    assert reading.undo(two) and reading.answered() == [one] and bob.answered() == [one, two]
    assert reading.undo(one) and not reading.undo(one) and reading.answered() == []
    assert [row.who for row in schema.read_rows(reading.out, Judgement)] == ["bob", "bob"]
    reading.record({three: Answer(0, True, True)})
    assert reading.answered() == [three]


def test_concurrent_answers_are_all_recorded(reading: Reading) -> None:
    def answer_all(better: int) -> None:
        for pair in reading.pairs:
            Reading(reading.pairs, reading.out, "ann").record({pair.pair_id: Answer(better, True, True)})

    threads = [threading.Thread(target=answer_all, args=(better,)) for better in (0, 1, 2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(reading.answered()) == sorted(pair.pair_id for pair in reading.pairs)


def test_rows_are_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    row = schema.SheetAnswer("a", 'say "hi",\r\n', "", "é")
    schema.append_rows(path, schema.SheetAnswer, [row])
    path.write_bytes(path.read_bytes().removesuffix(b"\r\n"))  # as some editors do
    schema.append_rows(path, schema.SheetAnswer, [row, row])
    assert schema.read_rows(path, schema.SheetAnswer) == [row] * 3
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        schema.append_rows(path, schema.SheetAnswer, [row])
    with pytest.raises(files.FileError, match="not valid Unicode"):
        schema.append_rows(path, schema.SheetAnswer, [schema.SheetAnswer("\udcff", "", "", "")])
    (tmp_path / "link.csv").symlink_to(path)
    with pytest.raises(files.FileError, match="link.csv: a link; give another file"):
        schema.append_rows(tmp_path / "link.csv", schema.SheetAnswer, [row])
    assert path.read_bytes() == before
    with pytest.raises(files.FileError, match="expected the columns"):
        schema.append_rows(path, Judgement, [])
    assert path.read_bytes() == before


# --- terminal -------------------------------------------------------------------------------------------------------------


def typed(reading: Reading, *lines: str) -> str:
    left = list(lines)

    def ask(prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    console = Console(file=io.StringIO(), width=100)
    judge.read_in_terminal(reading, ask, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def answers_in(reading: Reading) -> list[tuple[int, bool, bool]]:
    return [(row.better, row.first_acceptable, row.second_acceptable) for row in schema.read_rows(reading.out, Judgement)]


def test_keys_in_the_terminal(reading: Reading) -> None:
    shown = typed(reading, "1yn", "=", "Y", "y", "2 n y q", "x", "1y9", "n")
    assert answers_in(reading) == [(1, True, False), (0, True, True), (2, False, True), (1, True, False)]
    assert "'x' is none of 1 2 =" in shown and "'9' is none of y n" in shown and shown.count(" of 6") >= 4
    assert reading.pairs[0].title in shown and reading.pairs[0].first in shown and "chosen" not in shown and "t1_" not in shown
    typed(reading, "1", "u", "2nn", "u", "u", "1nn", "q", "1yy")  # u clears "1"; then it removes two answers
    assert answers_in(reading)[3:] == [(1, False, False)]
    typed(reading, *["=nn"] * 9)
    assert len(answers_in(reading)) == 6
    assert "nothing to undo" in typed(Reading(reading.pairs, reading.out, "bob"), "u")


def test_keys_for_a_pair_that_was_answered_elsewhere_are_not_taken_for_the_next(reading: Reading) -> None:
    """In another tab, by the same person, after the first key."""
    first, second, *_ = reading.pairs
    lines = iter(["2", "y", "1", "n", "y"])

    def ask(prompt: str) -> str:
        if prompt.startswith("reply 1") and first.pair_id not in reading.answered():
            reading.record({first.pair_id: Answer(1, True, False)})
        if (line := next(lines, None)) is None:
            raise EOFError
        return line

    console = Console(file=io.StringIO(), width=100)
    judge.read_in_terminal(reading, ask, console)
    assert isinstance(console.file, io.StringIO)
    assert "answered elsewhere" in console.file.getvalue() and console.file.getvalue().count(" of 6") == 3
    assert [row.pair_id for row in schema.read_rows(reading.out, Judgement)] == [first.pair_id, second.pair_id]
    assert answers_in(reading) == [(1, True, False), (1, False, True)]


def test_an_interrupt_loses_nothing(reading: Reading) -> None:
    lines = iter(["1yy", "2y"])

    def ask(prompt: str) -> str:
        for line in lines:
            return line
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge.read_in_terminal(reading, ask, Console(file=io.StringIO()))
    assert answers_in(reading) == [(1, True, True)]


def test_hostile_text_in_the_terminal(tmp_path: Path) -> None:
    body = "[bold]x[/bold] [/] \x1b[31mred \u202eevil\nline 2"
    pairs = judge.draw_pairs([Option("t1_a", f"t1_a-{n}", "s", body, f"{body} {n}", float(n)) for n in (0, 1)], 1)[0]
    shown = typed(Reading(pairs, tmp_path / "j.csv", "ann"), "q")
    assert "[bold]x[/bold] [/] [31mred evil\nline 2" in shown and "\x1b" not in shown and "\u202e" not in shown


# --- sheets ---------------------------------------------------------------------------------------------------------------


def test_a_sheet_and_its_answers(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, out = tmp_path / "sheet.csv", tmp_path / "judgements.csv"
    status, printed, _ = run(f"{scored} --sheet {sheet}", capsys)
    assert status == 0 and printed.startswith(f"{sheet}: 6 pairs; fill in better (first, second or equal)")
    text = sheet.read_text(encoding="utf-8")
    assert "chosen" not in text and not re.search(r"t1_\d-\d", text)
    header, rows = schema.read_table(sheet)
    assert header[:7] == ["pair_id", "comment_id", "subreddit", "title", "comment", "first", "second"]
    answers = ["1 1 0", "Second y n", "0 No YES", "equal 0 0", "", "first n n"]
    for row, cells in zip(rows, answers, strict=True):
        row.update(zip(header[7:], cells.split() or ["", " ", ""], strict=True))
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    status, printed, _ = run(f"{scored} --answers {sheet} --out {out} --reader bob", capsys)
    assert status == 0 and "5 new answers of 5" in printed and "5 of 6 pairs read by bob" in printed
    reading = Reading(judge.read_pairs([scored], "verdict", 1)[0], out, "bob")
    assert answers_in(reading) == [(1, True, False), (2, True, False), (0, False, True), (0, False, False), (1, False, False)]
    assert reading.answered() == [row["pair_id"] for row, cells in zip(rows, answers, strict=True) if cells]
    assert "0 new answers of 5" in run(f"{scored} --answers {sheet} --out {out} --reader bob", capsys)[1]
    for other in ("--seed 2", "--by upvote_score"):
        status, _, error = run(f"{scored} --answers {sheet} --out {out} --reader bob {other}", capsys)
        assert status == 1 and "is not in these scored files" in error
    status, _, error = run(f"{scored} --sheet {sheet}", capsys)
    assert status == 1 and f"{sheet}: already exists" in error  # it may be filled in


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{0},3,1,1"], "row 1, column better: '3' is none of 1, 2, =, 0, first, second, equal"),
        (["{0},1,1,1", "{1},1,,1"], "row 2, column first_acceptable: '' is none of y"),
        (["{0},1,1,maybe"], "row 1, column second_acceptable: 'maybe'"),
        (["{0},1,1,1", "{0},2,1,1"], "row 2: pair_id .* occurs twice"),
    ],
)
def test_a_sheet_with_invalid_answers_is_refused_as_a_whole(
    reading: Reading, scored: Path, rows: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [pair.pair_id for pair in reading.pairs]
    answered = tmp_path / "answered.csv"
    answered.write_text("pair_id,better,first_acceptable,second_acceptable\n" + "\n".join(row.format(*ids) for row in rows))
    status, _, error = run(f"{scored} --answers {answered} --reader ann --out {reading.out}", capsys)
    assert status == 1 and error.count("\n") == 1 and re.search(message, error), error
    assert not reading.out.exists()


def test_cells_of_a_sheet_are_not_formulas(tmp_path: Path) -> None:
    pairs = judge.draw_pairs([Option("t1_a", f"t1_a-{n}", "s", "=1+1", f"@cmd {n}", float(n)) for n in (0, 1)], 1)[0]
    judge.write_sheet(pairs, tmp_path / "sheet.csv")
    _, (row,) = schema.read_table(tmp_path / "sheet.csv")
    assert row["comment"] == "'=1+1" and row["first"].startswith("'@cmd")


def test_purge_removes_a_comment_from_judgements_and_sheets(reading: Reading, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = reading.out.with_name("sheet.csv")
    judge.write_sheet(reading.pairs, sheet)
    reading.record({pair.pair_id: Answer(1, True, True) for pair in reading.pairs})
    gone = reading.pairs[2].comment_id
    assert purge.purge_files({gone}, [reading.out.parent]) == []
    for path in (reading.out, sheet):
        assert [row["comment_id"] for row in schema.read_table(path)[1]] == [p.comment_id for p in reading.pairs if p.comment_id != gone]
    assert len(reading.answered()) == 5 and reading.undo(reading.pairs[5].pair_id)


# --- table ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (20, 20, 0.8389, 1.0)],
)
def test_wilson_intervals_of_newcombe_1998(successes: int, trials: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx((successes / trials, low, high), abs=5e-5)


def judged(number: int, better: int, acceptable: str, who: str = "ann", pick: int = 1, reply: str = "a reply of five words") -> Judgement:
    texts = (reply, "another") if pick == 1 else ("another", reply)
    pair = BlindPair(
        f"p{number}", "s.csv", "ab" * 32, "verdict", "t1_a", "s", "", "Look at this old house", "i", texts[0], "j", texts[1], pick
    )
    answer = (better, acceptable[0] == "y", acceptable[1] == "y")
    return Judgement(*(getattr(pair, column) for column in schema.columns_of(BlindPair)), who, 0, *answer)


def test_the_table_counts_picks_on_either_side() -> None:
    rows = [
        judged(1, 1, "yn"), judged(2, 2, "ny", pick=2), judged(3, 2, "yy"), judged(4, 0, "nn", reply="lol, this old HOUSE"),
        judged(5, 2, "ny", pick=2, reply="So true, lol"),
    ]  # fmt: skip
    table = judge.summarize(rows)
    assert (table["pairs"], table["readers"]) == (5, 1)
    expected = {
        "pick better, where one is": (3, 4), "equal": (1, 5), "pick acceptable": (4, 5), "random candidate acceptable": (1, 5),
        "pick repeats three words of the comment": (1, 5), "pick of at most 3 words": (1, 5),
    }  # fmt: skip
    assert {name: table[name] for name in expected} == {name: metrics.wilson_interval(*counts) for name, counts in expected.items()}


def test_a_pair_that_two_people_read_counts_once() -> None:
    table = judge.summarize([judged(1, 1, "yy"), judged(1, 2, "yn", who="bob"), judged(2, 1, "yy"), judged(3, 0, "nn")])
    assert (table["pairs"], table["readers"]) == (3, 2)
    assert table["pick better, where one is"] == metrics.wilson_interval(1.5, 2)
    assert table["random candidate acceptable"] == metrics.wilson_interval(1.5, 3)
    assert judge.summarize([judged(1, 0, "nn")])["pick better, where one is"] is None


def test_the_table_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "j.csv"
    schema.append_rows(path, Judgement, [])
    status, _, error = run(str(path), capsys, "judge table")
    assert status == 1 and "no answers yet" in error
    schema.append_rows(path, Judgement, [judged(n, 1 + (n >= 46), "yn") for n in range(89)])
    status, shown, _ = run(str(path), capsys, "judge table")
    assert status == 0 and re.search(r"pairs\W+89\b", shown) and "s.csv" in shown and "abababab" in shown
    assert "0.517 [0.415, 0.618]" in shown and "1.000 [0.959, 1.000]" in shown


def test_the_command_reads_standard_input(scored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = scored.with_name("judgements.csv")
    monkeypatch.setattr(sys, "stdin", io.StringIO("1yn\n2yy\n"))
    status, shown, _ = run(f"{scored} --out {out} --reader ann", capsys)
    assert status == 0 and "2 of 6 pairs read by ann" in shown and len(schema.read_rows(out, Judgement)) == 2
    status, _, error = run(f"{scored} --out {out} --port 0 --sheet {scored.with_name('sheet.csv')}", capsys)
    assert status == 1 and "exclude each other" in error
    status, _, error = run(f"{scored} --out {scored}", capsys)
    assert status == 1 and "would destroy the input" in error


# --- page -----------------------------------------------------------------------------------------------------------------


def client(reading: Reading) -> visiting.Visitor:
    return visiting.Visitor(server.make_app(make_pages(lambda _: reading)))


def pair_in(page: str) -> str:
    match = re.search(r'id="answer".*?name="pair_id" value="(\w+)"', page, re.DOTALL)
    return match[1] if match else ""


def test_the_page_goes_through_all_pairs(reading: Reading) -> None:
    web = client(reading)
    for done, pair in enumerate(reading.pairs):
        page = web.get("/").text
        assert pair_in(page) == pair.pair_id and f"{done} of 6 pairs read" in page and pair.title in page and pair.second in page
        assert "t1_" not in page and "verdict" not in page and "scored.csv" not in page
        data = {"pair_id": pair.pair_id, "better": "=12"[done % 3], "first_acceptable": "y", "second_acceptable": "n"}
        answer = web.post("/answer", data=data, headers={"Origin": "http://localhost"})
        assert (answer.status_code, answer.location) == (303, "/")
    assert "All 6 pairs are read" in web.get("/").text
    assert answers_in(reading) == [(number % 3, True, False) for number in range(6)]


def test_two_tabs_and_undo(reading: Reading) -> None:
    one, two = client(reading), client(reading)
    first, second = (pair.pair_id for pair in reading.pairs[:2])
    assert pair_in(one.get("/").text) == pair_in(two.get("/").text) == first
    data = {"pair_id": first, "better": "1", "first_acceptable": "y", "second_acceptable": "y"}
    one.post("/answer", data=data)
    late = two.post("/answer", data={**data, "better": "2"}, follow_redirects=True).text
    assert "already answered" in late and pair_in(late) == second and answers_in(reading) == [(1, True, True)]
    one.post("/answer", data={**data, "pair_id": second})
    assert "Nothing was removed" in two.post("/undo", data={"pair_id": first}, follow_redirects=True).text
    undone = one.post("/undo", data={"pair_id": second}, follow_redirects=True).text
    assert "was removed" in undone and pair_in(undone) == second and reading.answered() == [first]


def test_hostile_text_is_escaped_on_the_page(tmp_path: Path) -> None:
    pairs = judge.draw_pairs([Option("t1_a", f"t1_a-{n}", SCRIPT, SCRIPT, f"{SCRIPT} \x1b {n}", float(n)) for n in (0, 1)], 1)[0]
    pairs[0].title = SCRIPT
    answer = client(Reading(pairs, tmp_path / "j.csv", SCRIPT)).get("/")
    assert answer.text.count(ESCAPED) == 6 and "alert(1)</script>" not in answer.text and "\x1b" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?! src)|<style|\son\w+=|\sstyle=", answer.text)


def test_the_page_refuses_other_sites_and_wrong_forms(reading: Reading) -> None:
    web = client(reading)
    data = {"pair_id": reading.pairs[0].pair_id, "better": "1", "first_acceptable": "y", "second_acceptable": "y"}
    for origin in ("http://evil.example", "null", "http://localhost:81"):
        assert web.post("/answer", data=data, headers={"Origin": origin}).status_code == 403
    assert web.get("/", headers={"Host": "evil.example"}).status_code == 400
    for wrong in ({"better": "3"}, {"pair_id": "x"}, {"first_acceptable": ""}, {"second_acceptable": "perhaps"}):
        assert web.post("/answer", data={**data, **wrong}).status_code == 400
    assert web.post("/answer", data={**data, "more": "x" * 200_000}).status_code == 413
    assert not reading.out.exists()


def test_a_port_in_use(reading: Reading) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="is not available; give another --port"):
        server.listen(taken.getsockname()[1])
