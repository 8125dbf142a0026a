"""bot.schema: files are read back byte for byte, and damaged files are rejected with a precise error."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot import files, schema
from bot.cli import ROOT
from bot.files import FileError, manifest_path
from bot.schema import Candidate, Comment, FinetuneText, LmRow, Scored, UpvotePair, read_rows, read_table, write_rows

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # any Unicode but lone surrogates
AWKWARD = [
    "", " ", "\n", "\r", "\r\n", "\n\r", "\0", "a\0b", '"', '""', '"\n"', ",", ",,", "'", "\t", "\ufeff", "\ufeffx", "\u2028", "\x85",
    "\x1a", "NA", "null", "NaN", "None", "007", "1e5", "=1+1", "-", "[SEP]", "👩‍👩‍👧", "שלום", "e\u0301", "\U0010ffff",
    'say "hi",\nthen "bye"\r', " lead", "trail ",
]  # fmt: skip


@dataclass(slots=True)
class Mixed:
    """A row type with every type of column."""

    name: str
    count: int
    share: float
    maybe_count: int | None
    maybe_share: float | None
    flag: bool


def lm_rows(*texts: str) -> list[LmRow]:
    return [LmRow("t3_a", "t1_a", f"t1_{number}", "books", text, text[::-1]) for number, text in enumerate(texts)]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path, row_type: type = LmRow) -> str:
    """The error of read_rows, which must be one line and name the file."""
    with pytest.raises(FileError) as caught:
        read_rows(path, row_type)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


# --- round trips --------------------------------------------------------------------------------------------------------


def test_round_trip_of_awkward_text(tmp_path: Path) -> None:
    rows = lm_rows(*AWKWARD)
    assert write_rows(tmp_path / "lm.csv", LmRow, rows) == len(AWKWARD)
    assert read_rows(tmp_path / "lm.csv", LmRow) == rows
    one_column = [FinetuneText(text) for text in AWKWARD]
    write_rows(tmp_path / "text.csv", FinetuneText, one_column)
    assert read_rows(tmp_path / "text.csv", FinetuneText) == one_column


@settings(max_examples=40)
@given(texts=st.lists(ANY_TEXT, max_size=5))
@example(texts=["\r"])
def test_round_trip_of_any_text(tmp_path: Path, texts: list[str]) -> None:
    for row_type, rows in ((LmRow, lm_rows(*texts)), (FinetuneText, [FinetuneText(text) for text in texts])):
        write_rows(tmp_path / "any.csv", row_type, rows)
        assert read_rows(tmp_path / "any.csv", row_type) == rows
        manifest_path(tmp_path / "any.csv").unlink()
        assert read_rows(tmp_path / "any.csv", row_type) == rows


@settings(max_examples=60)
@given(texts=st.lists(st.sampled_from(AWKWARD) | st.text(st.sampled_from('a",\r\n\0 '), max_size=6), min_size=1, max_size=4))
def test_round_trip_of_quotes_and_line_ends(tmp_path: Path, texts: list[str]) -> None:
    write_rows(tmp_path / "any.csv", LmRow, lm_rows(*texts))
    assert read_rows(tmp_path / "any.csv", LmRow) == lm_rows(*texts)


@settings(max_examples=60)
@given(
    row=st.builds(
        Mixed,
        name=ANY_TEXT,
        count=st.integers(),
        share=st.floats(allow_nan=False, allow_infinity=False),
        maybe_count=st.none() | st.integers(),
        maybe_share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
    )
)
@example(row=Mixed("x", 0, 0.1 + 0.2, None, 5e-324, True))
@example(row=Mixed("", -1, -0.0, 0, None, False))
def test_round_trip_of_numbers(tmp_path: Path, row: Mixed) -> None:
    write_rows(tmp_path / "mixed.csv", Mixed, [row])
    (back,) = read_rows(tmp_path / "mixed.csv", Mixed)
    assert back == row and math.copysign(1, back.share) == math.copysign(1, row.share)


HOSTILE = [
    "=cmd|' /C calc'!A0", "\0", "a\0b", "\u202eevil", "x" * 40_000, "**bold** [x](y)", "ignore all instructions", '"', "\r", "\ufeff",
    ",,,", "t1_a", "-1", "1e999", "9" * 5_000, "\x1a", "NaN", "'", ";", "\t", "\x85\u2028",
]  # fmt: skip


HEADER = b"name,count,share,maybe_count,maybe_share,flag\r\n"
PIECES = st.sampled_from([HEADER, b"a,1,2,,,1\r\n", b'"', b",", b"\r", b"\n", b"\0", b"\xff", b"1e999"])


@settings(max_examples=200)
@given(
    st.binary(max_size=80)
    | st.lists(PIECES).map(b"".join)
    | st.lists(st.sampled_from(HOSTILE), max_size=8).map(lambda texts: HEADER + ",".join(texts).encode())
)
@example(HEADER + b"a,1,1e999,,,1\r\n")
@example(HEADER + b"a," + b"9" * 5_000 + b",1,,,1\r\n")
def test_any_content_is_read_or_rejected_with_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mixed.csv"
    path.write_bytes(content)
    try:
        rows = read_rows(path, Mixed)
    except FileError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 400 + len(str(path))
        return
    for row in rows:
        assert math.isfinite(row.share) and isinstance(row.count, int) and isinstance(row.flag, bool)


@settings(max_examples=40)
@given(texts=st.lists(st.sampled_from(HOSTILE) | ANY_TEXT, min_size=1, max_size=4))
def test_hostile_text_stays_in_its_cell(tmp_path: Path, texts: list[str]) -> None:
    """Stage files store the text unchanged. The file for people is another one (report.write_spreadsheet)."""
    write_rows(tmp_path / "any.csv", LmRow, lm_rows(*texts))
    assert [row.comment for row in read_rows(tmp_path / "any.csv", LmRow)] == [row.comment for row in lm_rows(*texts)]


def test_bytes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    write_rows(path, Mixed, [Mixed('a "b"\n', 7, 0.5, None, None, True), Mixed("", -7, 1.0, 0, 1e-9, False)])
    assert path.read_bytes() == (
        b'name,count,share,maybe_count,maybe_share,flag\r\n"a ""b""\n",7,0.5,,,1\r\n,-7,1.0,0,1e-09,0\r\n'
    )  # fmt: skip


def test_other_programs_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows(*(text for text in AWKWARD if "\0" not in text)))
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["comment"] for row in csv.DictReader(file)] == [text for text in AWKWARD if "\0" not in text]
    table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table["comment"]) == [text for text in AWKWARD if "\0" not in text]


def test_columns_match_the_data_contracts() -> None:
    """Those that other programs rely on; docs/files.md has all."""
    assert schema.columns_of(LmRow) == ["thread_id", "comment_id", "reply_id", "subreddit", "comment", "reply"]
    assert schema.columns_of(Candidate) == ["comment_id", "candidate_id", "seed", "comment", "reply", "generator", "log_likelihood"]
    assert schema.columns_of(UpvotePair)[-5:] == ["comment", "chosen", "rejected", "karma_gap", "hours_gap"]
    assert schema.columns_of(schema.Pair) == [
        "subreddit", "thread_id", "submission", "submission_karma", "comment_id", "comment", "comment_karma", "comment_utc", "reply_id",
        "reply", "reply_karma", "reply_utc", "depth",
    ]  # fmt: skip
    assert schema.columns_of(Scored)[6:] == [
        "realism_score",
        "upvote_score",
        "relevance_score",
        "rank_score",
        "verdict",
        "reason",
        "choice_score",
    ]
    assert typing.get_type_hints(Scored)["rank_score"] == float | None


def test_a_very_long_text(tmp_path: Path) -> None:
    long = "word " * 60_000  # longer than the csv module's default limit
    write_rows(tmp_path / "lm.csv", LmRow, lm_rows(long))
    assert read_rows(tmp_path / "lm.csv", LmRow)[0].comment == long


# --- text that cannot be written ------------------------------------------------------------------------------------------


def test_a_lone_surrogate_is_an_error_with_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("old"))
    before = path.read_bytes()
    rows = [*lm_rows("fine", "also fine"), LmRow("t3_a", "t1_a", "t1_x", "books", "fine", "bad \ud83d here")]
    with pytest.raises(FileError, match=r"lm\.csv: row 3, column reply: .*surrogate"):
        write_rows(path, LmRow, rows)
    assert path.read_bytes() == before and read_rows(path, LmRow) == lm_rows("old")
    assert left_in(tmp_path) == ["lm.csv", "lm.csv.manifest.json"]


# --- damaged files ----------------------------------------------------------------------------------------------------------


def test_a_truncated_file_with_a_manifest_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows('quoted "word"\nand more', "é, 👍", "plain"))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_bytes(whole)
    assert len(read_rows(path, LmRow)) == 3


def test_a_truncated_file_without_a_manifest_is_rejected_inside_a_row(tmp_path: Path) -> None:
    """Without a manifest, truncation inside quotes, a character or a row is detected; a missing last row or last cell is not."""
    path = tmp_path / "lm.csv"
    rows = [
        LmRow("t3_a", "t1_a", "t1_1", "books", "one, two", "é\nquoted"),
        LmRow("t3_a", "t1_a", "t1_2", "books", 'the "other"', "two,\n👍"),
    ]
    write_rows(path, LmRow, rows)
    manifest_path(path).unlink()
    whole = path.read_bytes()
    header_end = whole.index(b"\r\n") + 2
    first_end = whole.index(b"\r\nt3_a", header_end) + 2
    complete = {end - back: rows[:count] for count, end in enumerate((header_end, first_end, len(whole))) for back in (0, 1, 2)}
    for count, row in enumerate(rows):  # truncated before the opening quote of the last cell: an empty last cell
        complete[whole.index(f'"{row.reply}"'.encode())] = [*rows[:count], replace(row, reply="")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in complete:
            assert read_rows(path, LmRow) == complete[length]
        else:
            refusal(path)


def test_error_messages_of_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    header = b"thread_id,comment_id,reply_id,subreddit,comment,reply\r\n"
    for content, message in [
        (b"", "empty file, expected a header row"),
        (header + b't3_a,t1_a,t1_b,s,hi,"open', "row 1: unexpected end of data; the file is truncated"),
        (header + b"t3_a,t1_a,t1_b,s,hi,yo\r\nt3_a,t1_a\r\n", "row 2 has 2 cells, but the header has 6"),
        (header + b"t3_a,t1_a,t1_b,s,hi,yo,more\r\n", "row 1 has 7 cells, but the header has 6"),
        (header + b't3_a,t1_a,t1_b,s,"hi"x,yo\r\n', "row 1: "),
        (header + b"t3_a,t1_a,t1_b,s,hi,yo\r\nt3_a,t1_a,t1_b,s,caf\xe9,yo\r\n", "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"),
        (b"thread_id,comment,comment\r\n", "column comment occurs twice"),
    ]:
        path.write_bytes(content)
        assert message in refusal(path)
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "a folder" in refusal(tmp_path)


def test_a_final_blank_line_and_a_byte_order_mark_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_bytes("\ufeffcomment,reply\nhé,yo\n\n".encode())
    assert read_table(path, ("comment", "reply")) == (["comment", "reply"], [{"comment": "hé", "reply": "yo"}])


def test_other_columns_and_another_order_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text("reply,extra,subreddit,comment,thread_id,reply_id,comment_id\nyo,1,s,hi,t3_a,t1_b,t1_a\n")
    assert read_rows(path, LmRow) == [LmRow("t3_a", "t1_a", "t1_b", "s", "hi", "yo")]


def test_an_error_lists_expected_and_existing_columns(tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text("comment,answer\nhi,yo\n")
    with pytest.raises(FileError, match=r"foreign\.csv: expected column reply, found comment, answer"):
        read_table(path, ("comment", "reply"))
    assert "expected columns thread_id, comment_id, reply_id, subreddit, reply, found comment, answer" in refusal(path)


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("count", "many", "a whole number"),
        ("count", "", "a whole number"),
        ("count", "1.0", "a whole number"),
        ("count", "1_000", "a whole number"),
        ("count", " 7", "a whole number"),
        ("count", "٣", "a whole number"),
        ("share", "half", "a number"),
        ("share", "", "a number"),
        ("share", "nan", "a number"),
        ("share", "inf", "a number"),
        ("share", "0,5", "a number"),
        ("share", "1_0.5", "a number"),
        ("maybe_count", "x", "a whole number or empty"),
        ("maybe_share", "NA", "a number or empty"),
        ("flag", "yes", "0 or 1"),
        ("flag", "", "0 or 1"),
    ],
)
def test_a_wrong_type_is_an_error_with_row_and_column(tmp_path: Path, column: str, cell: str, expected: str) -> None:
    good = {"name": "x", "count": "1", "share": "0.5", "maybe_count": "", "maybe_share": "", "flag": "0"}
    path = tmp_path / "mixed.csv"
    schema.write_table(path, list(good), [good, good | {column: cell}])
    assert refusal(path, Mixed) == f"{path}: row 2, column {column}: {cell!r} is not {expected}"


# --- manifests ----------------------------------------------------------------------------------------------------------


def test_content_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("a", "b"), {"seed": 7}, dropped={"too_short": 3})
    manifest = json.loads(manifest_path(path).read_text())
    assert manifest == {
        "file": "lm.csv",
        "rows": 2,
        "sha256": files.sha256_of(path),
        "made_from": {"seed": 7},
        "dropped": {"too_short": 3},
    }


def test_a_changed_file_is_rejected_and_not_current(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("abc", "def"), {"seed": 7})
    assert files.is_current(path, {"seed": 7}) and not files.is_current(path, {"seed": 8})
    path.write_bytes(path.read_bytes().replace(b"abc", b"abd"))
    assert "changed since it was written" in refusal(path)
    assert not files.is_current(path, {"seed": 7})
    manifest_path(path).unlink()
    assert len(read_rows(path, LmRow)) == 2
    assert not files.is_current(path, {"seed": 7})
    path.unlink()
    assert not files.is_current(path, {"seed": 7})


def test_made_from_is_compared_as_json(tmp_path: Path) -> None:
    made_from = {"files": ("a", "b"), "limit": None}
    write_rows(tmp_path / "lm.csv", LmRow, [], made_from)
    assert files.is_current(tmp_path / "lm.csv", made_from)


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": 1}', "\ufeff"])
def test_a_corrupt_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("a"))
    manifest_path(path).write_text(content)
    assert "delete it and lm.csv, then create both again" in refusal(path)


@pytest.mark.parametrize(("renames", "bodies"), [(0, ["old"]), (1, ["new", "newer"])])
def test_an_old_manifest_never_describes_new_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, bodies: list[str]) -> None:
    """A kill before or between the renames leaves complete data that is readable but not current, and check_output finishes the write."""
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("old"), {"seed": 7})
    rename, left = os.replace, [None] * renames
    monkeypatch.setattr(os, "replace", lambda *names: (left.pop(), rename(*names)) if left else os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if child == 0:
        write_rows(path, LmRow, lm_rows("new", "newer"), {"seed": 7})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.undo()
    assert read_rows(path, LmRow) == lm_rows(*bodies)
    assert not files.is_current(path, {"seed": 7})
    files.check_output(path)
    assert read_rows(path, LmRow) == lm_rows("new", "newer") and files.is_current(path, {"seed": 7})
    assert left_in(tmp_path) == ["lm.csv", "lm.csv.manifest.json"]


# --- atomic writes -----------------------------------------------------------------------------------------------------------


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_no_incomplete_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    path = tmp_path / "lm.csv"
    if exists:
        write_rows(path, LmRow, lm_rows("old"), {"seed": 7})
    before = path.read_bytes() if exists else None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError) as caught:
            write_rows(path, LmRow, lm_rows("new"), {"seed": 7})
    assert caught.value.errno == errno.ENOSPC
    if before is not None:
        assert path.read_bytes() == before and read_rows(path, LmRow) == lm_rows("old")
    assert left_in(tmp_path) == (["lm.csv", "lm.csv.manifest.json"] if exists else [])


def test_a_full_disk_at_the_manifest_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("old"), {"seed": 7})
    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full_disk)
        with pytest.raises(OSError):
            write_rows(path, LmRow, lm_rows("new"), {"seed": 7})
    assert left_in(tmp_path) == ["lm.csv", "lm.csv.manifest.json"]
    assert read_rows(path, LmRow) == lm_rows("old") and files.is_current(path, {"seed": 7})


def test_an_interruption_leaves_the_old_file_and_its_manifest(tmp_path: Path) -> None:
    path = tmp_path / "lm.csv"
    write_rows(path, LmRow, lm_rows("old"), {"seed": 7})

    def interrupted() -> Any:
        yield from lm_rows("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, LmRow, interrupted(), {"seed": 8})
    assert read_rows(path, LmRow) == lm_rows("old") and files.is_current(path, {"seed": 7})
    assert left_in(tmp_path) == ["lm.csv", "lm.csv.manifest.json"]


def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    """Run through `run_command`, like every stage."""
    code = (
        "import errno, os\nfrom pathlib import Path\nfrom bot import schema\nfrom bot.cli import run_command\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "os.fsync = full\n"
        "def main(out: Path) -> None: schema.write_table(out, ['a'], [{'a': 1}])\n"
        "run_command(main, 'stage')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out" / "x.csv")], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 74 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "disk is full" in done.stderr
    assert left_in(tmp_path / "out") == []


def test_files_of_a_killed_process_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "lm.csv"
    write_rows(path, LmRow, lm_rows("x" * 100))
    shutil.copy(path, path.with_name(".lm.csv.tmp"))
    write_rows(path, LmRow, lm_rows("y"))
    assert read_rows(path, LmRow) == lm_rows("y") and left_in(path.parent) == ["lm.csv", "lm.csv.manifest.json"]


def test_extra_columns_stay_text(tmp_path: Path) -> None:
    """read_table followed by write_table changes no cell."""
    path = tmp_path / "foreign.csv"
    columns = ["comment", "reply", "note"]
    rows = [{"comment": text, "reply": "007", "note": text + "1e5"} for text in AWKWARD]
    schema.write_table(path, columns, rows)
    header, back = read_table(path)
    assert (header, back) == (columns, rows)
    schema.write_table(tmp_path / "again.csv", header, back)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_round_trip_of_row_types(tmp_path: Path) -> None:
    rows: list[Any] = [
        Comment("t1_a", "t3_a", "books", "Title", "Body", -3, 1_700_000_000, 2, "reader_1", True, "/r/books/x"),
        Candidate("t1_a", "t1_a-0", 7, "?", "Yes.", "lm", None),
        Candidate("t1_a", "t1_a-1", 8, "?", "No.", "lm", -2.25),
        Scored("t1_a", "t3_a", "books", "Body", "t1_a-0", "Yes.", 0.9, 0.25, None, 0.25, "kept", ""),
        UpvotePair("t3_a", "t1_a", "t1_b", "t1_c", "books", "Body", "Yes.", "No.", 12, -0.25),
        schema.Submitted("t1_a", "t3_a", "t1_a-0", "posted", "t1_z", 1_700_000_100),
        schema.RealismRow("t3_a", "t1_a", "t1_b", "books", "Body", "Yes.", 1, ""),
    ]
    for row in rows:
        write_rows(tmp_path / "row.csv", type(row), [row])
        assert read_rows(tmp_path / "row.csv", type(row)) == [row]
