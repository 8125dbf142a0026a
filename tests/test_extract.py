"""bot.corpus.extract on small generated dumps with the format of the public monthly ones."""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot import cli, files, schema
from bot.cli import ROOT, UserError
from bot.corpus import dumps as dump_files
from bot.corpus import extract, warehouse
from bot.corpus.extract import Parents
from bot.schema import Pair
from tests import count_pairs


def utc(day: str) -> int:
    """Epoch seconds of noon, for a day such as 2017-01-31."""
    return int(datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp())


def comment(name: str, parent: str, day: str = "2017-01-10", **changes: Any) -> dict[str, Any]:
    """A line of RC_….zst. t3_s is the submission."""
    return {
        "id": name, "parent_id": parent, "link_id": "t3_s", "subreddit": "books", "author": f"author_of_{name}", "body": f"text of {name}",
        "score": 5, "created_utc": utc(day), "edited": False, "gilded": 0,
    } | changes  # fmt: skip


def submission(name: str = "s", day: str = "2017-01-09", **changes: Any) -> dict[str, Any]:
    """A line of RS_….zst."""
    return {
        "id": name, "title": f"title of {name}", "selftext": f"selftext of {name}", "subreddit": "books", "author": f"author_of_{name}",
        "score": 70, "created_utc": utc(day),
    } | changes  # fmt: skip


def write_dump(path: Path, rows: list[dict[str, Any] | bytes], window_log: int | None = None) -> None:
    """Write a zstd file of JSON lines. Bytes are written unchanged."""
    lines = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    if window_log is None:
        path.write_bytes(zstandard.ZstdCompressor().compress(lines))
    else:
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
        frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        path.write_bytes(frame.compress(lines) + frame.flush())


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    (tmp_path / "dumps").mkdir()
    return tmp_path / "dumps"


def pairs_of(folder: Path, month: str = "2017-01") -> list[Pair]:
    columns = ", ".join(schema.columns_of(Pair))
    return [
        Pair(*row)
        for row in duckdb.sql(f"SELECT {columns} FROM read_parquet('{folder / month}.parquet') ORDER BY reply_utc, reply_id").fetchall()
    ]


def extracted(dumps: Path, first: str = "2017-01", last: str = "2017-01", **options: Any) -> list[Pair]:
    """Run `extract` on the dumps and return the pairs of all months."""
    out = dumps.parent / "out"
    try:
        extract.main(first, last, dump_folder=dumps, out=out, **options)
    except UserError as error:
        if "no reply pairs" not in str(error):
            raise
    return [pair for month in extract.months_between(first, last) if (out / f"{month}.parquet").exists() for pair in pairs_of(out, month)]


STAGED = [".staged/.lock", ".staged/RC_2017-01.zst/bucket=0/piece0_0.parquet", ".staged/RC_2017-01.zst/staged.json"]


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def counted(dumps: Path, month: str = "2017-01") -> tuple[dict[str, int], dict[str, int]]:
    """The counts in the month's manifest: replies without a pair by rule, and unusable lines by flaw."""
    manifest = files.read_manifest(dumps.parent / "out" / f"{month}.parquet")
    assert manifest is not None
    return manifest["dropped"], manifest["lines"]["RC"]


def ids(pairs: list[Pair]) -> list[tuple[str, str]]:
    return sorted((pair.comment_id, pair.reply_id) for pair in pairs)


# --- pairs --------------------------------------------------------------------------------------------------------------------


def test_all_columns_of_a_pair(dumps: Path) -> None:
    write_dump(
        dumps / "RC_2017-01.zst", [comment("a", "t3_s", score=4), comment("b", "t1_a", "2017-01-11", score=-2, body='yes,\n"no" é👍')]
    )
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    assert extracted(dumps) == [
        Pair(
            subreddit="books", thread_id="t3_s", submission="title of s", submission_karma=70,
            comment_id="t1_a", comment="text of a", comment_karma=4, comment_utc=utc("2017-01-10"),
            reply_id="t1_b", reply='yes,\n"no" é👍', reply_karma=-2, reply_utc=utc("2017-01-11"), depth=0,
        )
    ]  # fmt: skip


def test_no_file_contains_author_names(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s", author="Zebedee_1"), comment("b", "t1_a", author="Zebedee_2")])
    write_dump(dumps / "RS_2017-01.zst", [submission(author="Zebedee_3")])
    assert len(extracted(dumps, parents=Parents.both)) == 2
    path = dumps.parent / "out" / "2017-01.parquet"
    columns = [name for name, *_ in duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()]
    assert columns == schema.columns_of(Pair)
    written = [*(dumps.parent / "out").rglob("*.parquet")]
    assert len(written) == 3  # including the staged files
    for each in written:
        assert "Zebedee" not in str(duckdb.sql(f"SELECT * FROM read_parquet('{each}')").fetchall())
    assert files.read_manifest(path)["rows"] == 2  # type: ignore[index]


def test_depth_is_that_of_the_comment(dumps: Path) -> None:
    chain = [
        comment("a", "t3_s"),
        comment("b", "t1_a"),
        comment("c", "t1_b"),
        comment("d", "t1_c"),
        comment("z", "t1_y"),
        comment("y", "t1_gone"),
    ]
    write_dump(dumps / "RC_2017-01.zst", chain)
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    depths = {pair.comment_id: pair.depth for pair in extracted(dumps, parents=Parents.both)}
    assert depths == {"t3_s": -1, "t1_a": 0, "t1_b": 1, "t1_c": 2, "t1_y": None}


def test_a_comment_that_is_its_own_parent(dumps: Path) -> None:
    loop = [comment("a", "t1_a", author="[deleted]"), comment("b", "t1_a"), comment("c", "t1_d"), comment("d", "t1_c")]
    write_dump(dumps / "RC_2017-01.zst", loop)
    pairs = extracted(dumps)
    assert ids(pairs) == [("t1_a", "t1_b"), ("t1_c", "t1_d"), ("t1_d", "t1_c")]
    assert {pair.depth for pair in pairs} == {None}
    assert counted(dumps)[0] == {"own_parent": 1}


def test_replies_to_submissions_are_optional(dumps: Path) -> None:
    rows = [comment("a", "t3_s"), comment("b", "t1_a"), comment("c", "t3_u", link_id="t3_u"), comment("own", "t3_s", author="author_of_s")]
    rows += [comment(f"d{n}", f"t3_{n}", link_id=f"t3_{n}") for n in range(6)]
    write_dump(dumps / "RC_2017-01.zst", rows)
    gone = [
        submission("0", title="[deleted by user]", selftext="[removed]"),
        submission("1", title=" "),
        submission("2", author="AutoModerator"),
        submission("3", author="weekly_bot"),
        submission("4", selftext="[Removed] "),
        submission("5", selftext=None),
    ]
    write_dump(dumps / "RS_2017-01.zst", [submission(), submission("u", selftext=""), *gone])
    assert ids(extracted(dumps)) == [("t1_a", "t1_b")]
    assert counted(dumps)[0] == {}  # replies to submissions are not counted as dropped
    assert ids(extracted(dumps, parents=Parents.submission)) == [
        ("t3_4", "t1_d4"), ("t3_5", "t1_d5"), ("t3_s", "t1_a"), ("t3_u", "t1_c"),
    ]  # fmt: skip
    assert counted(dumps)[0] == {"bot_comment": 2, "deleted_comment": 2, "self_reply": 1}
    pairs = extracted(dumps, parents=Parents.both)
    assert {(pair.comment_id, pair.reply_id): pair.comment for pair in pairs} == {
        ("t1_a", "t1_b"): "text of a",
        ("t3_s", "t1_a"): "title of s\n\nselftext of s",
        ("t3_u", "t1_c"): "title of u",
        ("t3_4", "t1_d4"): "title of 4",
        ("t3_5", "t1_d5"): "title of 5",
    }


# --- rules ----------------------------------------------------------------------------------------------------------------------


def test_deleted_and_removed_bodies(dumps: Path) -> None:
    gone = ["[deleted]", "[removed]", " [Removed] ", "[ Removed by Reddit ]", "[deleted by user]", "", "  ", "\n\n", "\t", "[deleted]\n"]
    rows = [comment("a", "t3_s"), comment("fine", "t1_a", body="I deleted it")]
    for number, body in enumerate(gone):
        rows += [comment(f"r{number}", "t1_a", body=body), comment(f"under{number}", f"t1_r{number}")]
    write_dump(dumps / "RC_2017-01.zst", rows)
    assert ids(extracted(dumps)) == [("t1_a", "t1_fine")]


def test_bots(dumps: Path) -> None:
    names = ["AutoModerator", "automoderator", "haiku_bot", "RemindMeBot", "BOT"]
    rows = [comment("a", "t3_s"), comment("fine", "t1_a", author="botanist")]
    for number, author in enumerate(names):
        rows += [comment(f"r{number}", "t1_a", author=author), comment(f"under{number}", f"t1_r{number}")]
    write_dump(dumps / "RC_2017-01.zst", rows)
    assert ids(extracted(dumps)) == [("t1_a", "t1_fine")]


def test_bots_of_the_config(dumps: Path, tmp_path: Path) -> None:
    """A name that looks like a person's, added to the list; `fetch` uses the same setting."""
    rows = [comment("a", "t3_s"), comment("b", "t1_a", author="Tide_Table"), comment("c", "t1_a", author="tide_tables")]
    write_dump(dumps / "RC_2017-01.zst", [*rows, comment("d", "t1_b")])
    assert ids(extracted(dumps)) == [("t1_a", "t1_b"), ("t1_a", "t1_c"), ("t1_b", "t1_d")]
    (tmp_path / "my.toml").write_text('[conduct]\nbots = ["tide_table"]\n')
    assert ids(extracted(dumps, config_file=tmp_path / "my.toml")) == [("t1_a", "t1_c")]
    assert counted(dumps)[0] == {"bot_reply": 1, "bot_comment": 1}


def test_replies_to_oneself(dumps: Path) -> None:
    rows = [
        comment("a", "t3_s", author="reader_1"),
        comment("b", "t1_a", author="reader_1"),
        comment("c", "t1_a", author="reader_2"),
        comment("d", "t1_b", author="[deleted]"),
        comment("e", "t1_d", author="[deleted]"),  # both accounts are deleted, so they count as different people
        comment("f", "t1_a", author=None),
    ]
    write_dump(dumps / "RC_2017-01.zst", rows)
    assert ids(extracted(dumps)) == [("t1_a", "t1_c"), ("t1_a", "t1_f"), ("t1_b", "t1_d"), ("t1_d", "t1_e")]
    assert counted(dumps)[0] == {"self_reply": 1}
    assert ids(extracted(dumps, drop_deleted_authors=True)) == [("t1_a", "t1_c")]
    assert counted(dumps)[0] == {"deleted_author": 3, "self_reply": 1}


def test_replies_by_the_submitter(dumps: Path) -> None:
    rows = [
        comment("a", "t3_s", author="reader_1"),
        comment("b", "t1_a", author="author_of_s"),
        comment("c", "t1_b", author="reader_1"),
        comment("e", "t3_other", link_id="t3_other"),
        comment("d", "t1_e", author="author_of_s", link_id="t3_other"),  # in another user's thread
    ]
    write_dump(dumps / "RC_2017-01.zst", rows)
    write_dump(dumps / "RS_2017-01.zst", [submission(), submission("other", author="[deleted]")])
    assert ids(extracted(dumps)) == [("t1_b", "t1_c"), ("t1_e", "t1_d")]
    assert counted(dumps)[0] == {"submitter_reply": 1}
    (dumps / "RS_2017-01.zst").unlink()  # then the submitter is unknown
    assert ids(extracted(dumps)) == [("t1_a", "t1_b"), ("t1_b", "t1_c"), ("t1_e", "t1_d")]


def test_subreddits_in_any_case(dumps: Path) -> None:
    rows = [comment(f"{n}a", "t3_s", subreddit=n) for n in ("AskBooks", "books", "Movies")]
    rows += [comment(f"{n}b", f"t1_{n}a", subreddit=n) for n in ("AskBooks", "books", "Movies")]
    write_dump(dumps / "RC_2017-01.zst", rows)
    assert {pair.subreddit for pair in extracted(dumps, subreddit=["ASKBOOKS", "movies"])} == {"AskBooks", "Movies"}
    with pytest.raises(UserError, match="no reply in r/book; check --subreddit$"):
        extracted(dumps, subreddit=["book"])
    with pytest.raises(UserError, match="no reply in r/movie; check --subreddit; the 1 pairs of the others are written"):
        extracted(dumps, subreddit=["books", "movie"])
    assert {pair.subreddit for pair in extracted(dumps)} == {"AskBooks", "books", "Movies"}


def test_duplicate_ids_are_counted_once(dumps: Path) -> None:
    rows = [comment("a", "t3_s"), comment("a", "t3_s"), comment("b", "t1_a"), comment("b", "t1_a"), comment("c", "t1_b")]
    write_dump(dumps / "RC_2017-01.zst", rows)
    write_dump(dumps / "RC_2016-12.zst", rows)  # the same rows again in another month's file
    write_dump(dumps / "RS_2017-01.zst", [submission(), submission()])
    write_dump(dumps / "RS_2016-12.zst", [submission()])
    assert ids(extracted(dumps, parents=Parents.both)) == [("t1_a", "t1_b"), ("t1_b", "t1_c"), ("t3_s", "t1_a")]
    assert counted(dumps)[0] == {"duplicate_id": 7}  # two files with five rows each have three ids


# --- months -----------------------------------------------------------------------------------------------------------------------


def test_a_reply_in_a_later_month(dumps: Path) -> None:
    write_dump(dumps / "RC_2016-12.zst", [comment("a", "t3_s", "2016-12-31"), comment("old", "t1_a", "2016-12-31")])
    write_dump(dumps / "RC_2017-01.zst", [comment("b", "t1_a", "2017-01-01"), comment("c", "t1_b", "2017-01-02")])
    write_dump(dumps / "RS_2016-12.zst", [submission(day="2016-12-30")])
    pairs = extracted(dumps)
    assert ids(pairs) == [("t1_a", "t1_b"), ("t1_b", "t1_c")]  # the reply of December is not in January's file
    assert [(pair.depth, pair.submission, pair.comment_utc) for pair in pairs] == [
        (0, "title of s", utc("2016-12-31")),
        (1, "title of s", utc("2017-01-01")),
    ]
    assert ids(extracted(dumps, lookback_months=0)) == [("t1_b", "t1_c")]
    both = extracted(dumps, "2016-12", "2017-01")
    assert ids(both) == [("t1_a", "t1_b"), ("t1_a", "t1_old"), ("t1_b", "t1_c")]
    manifests = [files.read_manifest(dumps.parent / "out" / f"{month}.parquet") for month in ("2016-12", "2017-01")]
    assert [manifest["cross_month"] for manifest in manifests if manifest] == [0, 1]


def test_the_first_and_last_second_of_a_month(dumps: Path) -> None:
    midnight = warehouse.month_start("2017-02")
    rows = [
        comment("a", "t3_s", created_utc=midnight - 1), comment("b", "t1_a", created_utc=midnight - 1),
        comment("c", "t1_a", created_utc=midnight),
    ]  # fmt: skip
    write_dump(dumps / "RC_2017-01.zst", rows)
    write_dump(dumps / "RC_2017-02.zst", [])
    extract.main("2017-01", "2017-02", dump_folder=dumps, out=dumps.parent / "out")
    assert ids(pairs_of(dumps.parent / "out", "2017-01")) == [("t1_a", "t1_b")]
    assert ids(pairs_of(dumps.parent / "out", "2017-02")) == [("t1_a", "t1_c")]


def test_a_missing_submission_file(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    (pair,) = extracted(dumps, parents=Parents.both)
    assert (pair.thread_id, pair.submission, pair.submission_karma, pair.depth) == ("t3_s", "", None, 0)


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        ([comment("a", "t3_s"), comment("b", "t1_a", body="[removed]")], [], "deleted_reply 1"),
        ([comment("a", "t3_s"), comment("b", "t1_a")], ["--parents", "submission"], "parent_not_found 1"),  # no file of submissions
    ],
)
def test_a_run_without_a_pair_ends_with_an_error(
    dumps: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], options: list[str], reason: str
) -> None:
    write_dump(dumps / "RC_2017-01.zst", rows)
    with pytest.raises(SystemExit) as end:
        cli.run_command(extract.main, "extract", ["--dumps", str(dumps), "--out", str(dumps.parent / "out"), *options])
    printed = capsys.readouterr()
    message = "extract: 2017-01: no reply pairs; check --dumps, --from, --to and --parents\n"
    assert (end.value.code, printed.err) == (1, message)
    assert f"replies that give no pair: {reason}\n" in printed.out


def test_months_without_a_dump_are_reported_in_one_line(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for month in ("2017-01", "2017-02", "2017-06"):
        write_dump(dumps / f"RC_{month}.zst", [comment("a", "t3_s", f"{month}-01"), comment("b", "t1_a", f"{month}-02")])
    extract.main("2016-12", "2017-07", dump_folder=dumps, out=dumps.parent / "out", lookback_months=0)
    printed = capsys.readouterr().out.split("\n")
    assert "5 months without an RC_YYYY-MM.zst, skipped: 2016-12, 2017-03 to 2017-05, 2017-07" in printed
    extract.main("2017-02", "2017-03", dump_folder=dumps, out=dumps.parent / "out", lookback_months=0)
    assert "1 month without an RC_YYYY-MM.zst, skipped: 2017-03" in capsys.readouterr().out
    extract.main("2017-01", "2017-02", dump_folder=dumps, out=dumps.parent / "out", lookback_months=0)
    assert "skipped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2017", "2017-02", "'2017' is not a month; use YYYY-MM"),
        ("2017-13", "2017-02", "'2017-13' is not a month"),
        ("2017-01", "2017-1", "'2017-1' is not a month"),
        ("2017-02", "2017-01", "--from 2017-02 is after --to 2017-01"),
        ("2017-02", "2017-03", "no RC_YYYY-MM.zst between 2017-02 and 2017-03"),
    ],
)
def test_invalid_months(dumps: Path, first: str, last: str, message: str) -> None:
    write_dump(dumps / "RC_2017-01.zst", [])
    with pytest.raises(UserError) as caught:
        extract.main(first, last, dump_folder=dumps, out=dumps.parent / "out")
    assert message in str(caught.value) and not (dumps.parent / "out").exists()


def test_by_default_all_months_with_a_dump_are_extracted(dumps: Path) -> None:
    for month in ("2017-02", "2016-12"):
        write_dump(dumps / f"RC_{month}.zst", [comment("a", "t3_s", f"{month}-01"), comment("b", "t1_a", f"{month}-02")])
    (dumps / "readme.txt").write_text("RC_2031-01 isn't there")
    (dumps / "RC_2031-01.zst.part").write_bytes(b"")
    out = dumps.parent / "out"
    extract.main(dump_folder=dumps, out=out)
    assert sorted(path.name for path in out.glob("*.parquet")) == ["2016-12.parquet", "2017-02.parquet"]
    extract.main(last="2016-12", dump_folder=dumps, out=out / "other")
    assert sorted(path.name for path in (out / "other").glob("*.parquet")) == ["2016-12.parquet"]
    with pytest.raises(UserError, match="--from and --to are missing"):
        extract.main(source=extract.Source.bigquery, out=out)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such folder"):
        extract.main("2017-01", "2017-01", dump_folder=tmp_path / "none", out=tmp_path / "out")


# --- the dump files ---------------------------------------------------------------------------------------------------------------


def test_numbers_as_text_in_old_dumps(dumps: Path) -> None:
    rows = [
        comment("a", "t3_s", score="12", created_utc=str(utc("2017-01-10"))),
        comment("b", "t1_a", score="-3", created_utc=float(utc("2017-01-11"))),
        comment("c", "t1_a", score=7.0, created_utc=f"{utc('2017-01-12')}.0"),
        comment("d", "t1_a", score=None),
        comment("e", "t1_a", score="hidden"),
        comment("lost", "t1_a", created_utc=None),
    ]
    del rows[3]["edited"]
    write_dump(dumps / "RC_2017-01.zst", rows)
    pairs = {pair.reply_id: pair for pair in extracted(dumps)}
    assert {name: (pair.reply_karma, pair.reply_utc) for name, pair in pairs.items()} == {
        "t1_b": (-3, utc("2017-01-11")),
        "t1_c": (7, utc("2017-01-12")),
        "t1_d": (None, utc("2017-01-10")),
        "t1_e": (None, utc("2017-01-10")),
    }
    assert pairs["t1_b"].comment_karma == 12
    assert counted(dumps)[1] == {"missing_key": 1, "read": 6}


INVALID_LINES = [
    b'{"id": "cut", "parent_id": "t1_a", "bod', b"", b"   ", b"[1, 2]", b"7", b"null", b'"text"', b"\xff\xfe\x00\x01", b"\0\0\0",
    b'{"id": "latin", "body": "caf\xe9"}', b'{"id": {"a": 1}, "body": [1]}', b"{} {}", b'{"error": 404}', b"<html>",
]  # fmt: skip


def test_invalid_lines_are_skipped(dumps: Path) -> None:
    good = [comment("a", "t3_s"), *(comment(f"r{number}", "t1_a") for number in range(len(INVALID_LINES)))]
    write_dump(dumps / "RC_2017-01.zst", [row for both in zip(good, INVALID_LINES, strict=False) for row in both] + good[-1:])
    assert ids(extracted(dumps)) == sorted(("t1_a", f"t1_r{number}") for number in range(len(INVALID_LINES)))
    # blank lines are not counted
    assert counted(dumps)[1] == {"missing_key": 1, "read": 2 * len(INVALID_LINES) - 1, "unreadable": len(INVALID_LINES) - 3}


def test_hostile_rows_are_kept_unchanged_or_counted(dumps: Path) -> None:
    bodies = {
        "nul": "a\0b", "pairs": "\U0001f600 \u200f\u05d0", "long": "word " * 8_000, "quotes": 'a "b", c\r\n\td', "formula": "=1+1",
        "separator": "x [SEP] y <|endoftext|>", "edges": " \u2028 z ",
    }  # fmt: skip
    rows: list[dict[str, Any] | bytes] = [comment("a", "t3_s"), *(comment(name, "t1_a", body=body) for name, body in bodies.items())]
    rows += [
        json.dumps(comment("surrogate", "t1_a", body="a \ud800 b")).encode(),
        comment("no_time", "t1_a", created_utc="yesterday"),
        comment("infinite", "t1_a", created_utc=1e300),
        comment("milliseconds", "t1_a", created_utc=utc("2017-01-12") * 1000),
        comment("microseconds", "t1_a", created_utc=utc("2017-01-12") * 10**6),
        comment("negative", "t1_a", created_utc=-utc("2017-01-12")),
        comment("no_body", "t1_a", body=None),
        comment("nowhere", "t1_a", subreddit=None),
        comment("number", "t1_a", body=7),
        comment("orphan", "t1_gone"),
        json.dumps(comment("half", "t1_a")).encode()[:60],
    ]
    write_dump(dumps / "RC_2017-01.zst", rows)
    assert {pair.reply_id[3:]: pair.reply for pair in extracted(dumps)} == bodies | {"surrogate": "a \ufffd b"}
    dropped, lines = counted(dumps)
    assert dropped == {"parent_not_found": 1}
    assert lines == {"read": len(rows), "unreadable": 1, "wrong_type": 6, "missing_key": 2}


def test_a_chain_of_two_thousand_replies(dumps: Path) -> None:
    write_dump(
        dumps / "RC_2017-01.zst",
        [comment(f"c{n}", f"t1_c{n - 1}" if n else "t3_s", created_utc=utc("2017-01-10") + n) for n in range(2000)],
    )
    pairs = extracted(dumps)
    assert len(pairs) == 1999
    assert [pair.depth for pair in pairs] == [n if n <= 400 else None for n in range(1999)]


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz", ".ndjson", ".json", ".jsonl", "", ".parquet"])
def test_all_formats_give_the_same_pairs(dumps: Path, suffix: str) -> None:
    rows = [comment("a", "t3_s"), *(comment(f"r{n}", "t1_a", score=n, body=f"é {n}\n") for n in range(50))]
    write_dump(dumps / "RC_2017-01.zst", [*rows])
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    expected = extracted(dumps, parents=Parents.both)
    assert len(expected) == 51 and {pair.submission for pair in expected} == {"title of s"}
    for name, content in (("RC_2017-01", rows), ("RS_2017-01", [submission()])):
        (dumps / f"{name}.zst").unlink()
        plain = b"".join(json.dumps(row).encode() + b"\n" for row in content)[:-1]  # without the final line break
        path = dumps / f"{name}{suffix}"
        if suffix == ".parquet":
            (dumps.parent / "plain.json").write_bytes(plain)
            duckdb.sql(f"COPY (SELECT * REPLACE (make_timestamp(created_utc * 1000000) AS created_utc)"
                       f" FROM read_json('{dumps.parent}/plain.json', columns={{{COLUMNS[name[:2]]}}})) TO '{path}'")  # fmt: skip
        else:
            path.write_bytes({".bz2": bz2.compress, ".gz": gzip.compress, ".xz": lzma.compress}.get(suffix, bytes)(plain))
    assert extracted(dumps, parents=Parents.both) == expected
    if suffix in (".bz2", ".gz", ".xz"):
        path = dumps / f"RC_2017-01{suffix}"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match=f"RC_2017-01{suffix}: not a valid {suffix[1:]} file"):
            extracted(dumps)
        path.write_bytes(b"something else")
        with pytest.raises(UserError, match=f"RC_2017-01{suffix}: not a valid {suffix[1:]} file"):
            extracted(dumps)


COLUMNS = {
    "RC": "id: 'VARCHAR', parent_id: 'VARCHAR', link_id: 'VARCHAR', subreddit: 'VARCHAR', author: 'VARCHAR', body: 'VARCHAR', score: 'INT',"
    "created_utc: 'BIGINT'",
    "RS": "id: 'VARCHAR', title: 'VARCHAR', selftext: 'VARCHAR', author: 'VARCHAR', score: 'INT', created_utc: 'BIGINT'",
}


def test_a_parquet_dump_with_missing_columns(dumps: Path) -> None:
    duckdb.sql(f"COPY (SELECT 'a' AS id, 'text' AS body) TO '{dumps}/RC_2017-01.parquet'")
    with pytest.raises(
        UserError, match=r"expected columns id, parent_id, .* found id, body \(parent_id, link_id, subreddit, created_utc missing\)"
    ):
        extracted(dumps)


def test_two_files_for_one_month(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s")])
    (dumps / "RC_2017-01.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"RC_2017-01.zst and RC_2017-01.gz are the same month; keep one"):
        extracted(dumps)


def test_a_failed_month_is_reported_and_the_others_are_extracted(dumps: Path) -> None:
    for month in ("2017-01", "2017-02", "2017-03"):
        write_dump(
            dumps / f"RC_{month}.zst",
            [comment("a" + month[-1], "t3_s", f"{month}-01"), comment("b" + month[-1], f"t1_a{month[-1]}", f"{month}-02")],
        )
    path = dumps / "RC_2017-02.zst"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match=r"^2017-02 failed: .*RC_2017-02.zst: not a valid zst file.*; 2 other months are done$"):
        extract.main("2017-01", "2017-03", dump_folder=dumps, out=dumps.parent / "out", lookback_months=0)
    before = {each: (dumps.parent / "out" / f"{each}.parquet").stat().st_mtime_ns for each in ("2017-01", "2017-03")}
    path.write_bytes(whole)
    assert len(extracted(dumps, "2017-01", "2017-03", lookback_months=0)) == 3
    assert before == {each: (dumps.parent / "out" / f"{each}.parquet").stat().st_mtime_ns for each in before}


DAYS = ["2016-11-30", "2016-12-31", "2017-01-01", "2017-01-31", "2017-02-01"]
texts = st.sampled_from([*["one", "two", "three\nlines", "four "] * 4, "[deleted]", " [removed]", ""])
authors = st.sampled_from([*["ann", "bob", "cy", "[deleted]"] * 4, "author_of_s0", "some_bot", "AutoModerator"])


@st.composite
def thread_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """12 to 25 comments. Most reply to an earlier comment of the thread; some to a later, foreign or missing comment or to themselves."""
    rows: list[dict[str, Any]] = []
    for number in range(draw(st.integers(12, 25))):
        thread = draw(st.sampled_from(["t3_s0", "t3_s1"]))
        earlier = [f"t1_{row['id']}" for row in rows if row["link_id"] == thread]
        invalid = [f"t1_x{number}", f"t1_x{number + 1}", "t1_gone", *(f"t1_{row['id']}" for row in rows[:1])]
        parent = draw(st.sampled_from([*(earlier[-3:] * 6), thread, *invalid[: draw(st.integers(0, 4))]]))
        day = DAYS[min(number * len(DAYS) // 25 + draw(st.integers(0, 1)), len(DAYS) - 1)]
        rows.append(comment(f"x{number}", parent, day, link_id=thread, author=draw(authors), body=draw(texts)))
    return rows


submissions = st.builds(
    submission,
    st.sampled_from(["s0", "s1"]),
    st.sampled_from(DAYS[1:3]),
    author=st.sampled_from(["author_of_s0", "ann", "helper-bot"]),
    title=texts,
    selftext=texts,
)
compared: list[int] = []
several_buckets: list[bool] = []  # whether they had more than one


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(thread_rows(), st.lists(submissions, max_size=2, unique_by=lambda row: row["id"]))
def test_extract_agrees_with_count_pairs(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], heads: list[dict[str, Any]]
) -> None:
    """Random threads give the same rows as an independent implementation, also with several buckets and pieces."""
    folder = tmp_path_factory.mktemp("random") / "dumps"
    folder.mkdir()
    for month in ("2016-11", "2016-12", "2017-01", "2017-02"):
        write_dump(folder / f"RC_{month}.zst", [row for row in rows if count_pairs.month_of(row["created_utc"]) == month])
        if month != "2016-11":
            write_dump(folder / f"RS_{month}.zst", [row for row in heads if count_pairs.month_of(row["created_utc"]) == month])
    heads = [row for row in heads if count_pairs.month_of(row["created_utc"]) != "2016-11"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump_files, "CHUNK_BYTES", 300)
        patch.setattr(dump_files, "BUCKET_BYTES", 400)
        several_buckets.append(dump_files.buckets_for(folder, ["2016-12", "2017-01", "2017-02"], 1) > 1)
        pairs = extracted(folder, "2016-12", "2017-02", parents=Parents.both, lookback_months=1)
    expected = count_pairs.pairs(folder, "2016-12", "2017-02", lookback=1)
    by_id = {pair.reply_id: (pair.comment_id, pair.comment, pair.reply, pair.depth) for pair in pairs}
    assert len(by_id) == len(pairs)
    assert by_id == {name: row for month, group in expected.items() if not month.startswith("cross") for name, row in group.items()}
    crossing = sum(len(group) for month, group in expected.items() if month.startswith("cross"))
    manifests = [files.read_manifest(folder.parent / "out" / f"{month}.parquet") or {} for month in ("2016-12", "2017-01", "2017-02")]
    assert sum(manifest["cross_month"] for manifest in manifests) == crossing
    # every comment of the month is either a pair or counted under a rule
    for month, manifest in zip(("2016-12", "2017-01", "2017-02"), manifests, strict=True):
        total = sum(count_pairs.month_of(row["created_utc"]) == month for row in rows)
        assert manifest["rows"] + sum(manifest["dropped"].values()) == total == manifest["lines"]["RC"]["read"]
    compared.append(len(pairs))


def test_the_comparison_covered_enough_pairs() -> None:
    assert {*several_buckets} == {False, True}
    assert len(compared) >= 12 and sum(compared) >= 20


def test_long_windows(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")], window_log=31)
    write_dump(dumps / "RS_2017-01.zst", [submission()], window_log=28)
    packed = (dumps / "RC_2017-01.zst").read_bytes()
    assert zstandard.get_frame_parameters(packed).window_size == 2**31
    with pytest.raises(zstandard.ZstdError, match=r"(?i)memory"):  # the usual reader fails
        zstandard.ZstdDecompressor().stream_reader(packed).read()
    assert [pair.submission for pair in extracted(dumps)] == ["title of s"]


def test_a_window_on_disk_decompresses_correctly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distant matches, two frames with an empty one between them, and the window released after every block."""
    monkeypatch.setattr(dump_files, "CHUNK_BYTES", 1)
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    far = os.urandom(300_000)
    whole = [far + bytes(3_000_000) + far, b"", b"second frame" * 50_000]
    packed = b""
    for part in whole:
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed += compressor.compress(part) + compressor.flush()
    (tmp_path / "RC_2017-01.zst").write_bytes(packed)
    assert zstandard.get_frame_parameters(packed).window_size == 2**31
    assert b"".join(dump_files.blocks(tmp_path / "RC_2017-01.zst", tmp_path)) == b"".join(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["RC_2017-01.zst"]
    (tmp_path / "RC_2017-01.zst").write_bytes(packed[:400_000] + b"garbled" + packed[400_007:])
    with pytest.raises(UserError, match=r"not a valid zst file \("):
        list(dump_files.blocks(tmp_path / "RC_2017-01.zst", tmp_path))


def test_a_file_with_several_frames(dumps: Path) -> None:
    """Parallel compressors and `cat` produce such files."""
    path = dumps / "RC_2017-01.zst"
    whole = b""
    for row in (comment("a", "t3_s"), comment("b", "t1_a"), comment("c", "t1_a")):
        write_dump(path, [row])
        whole += path.read_bytes()
    path.write_bytes(whole)
    assert ids(extracted(dumps)) == [("t1_a", "t1_b"), ("t1_a", "t1_c")]


@pytest.mark.parametrize("window_log", [None, 28])
def test_a_truncated_dump_is_a_clear_error(dumps: Path, window_log: int | None) -> None:
    """At any length; and no file is left that a later run would accept as complete."""
    path, out = dumps / "RC_2017-01.zst", dumps.parent / "out"
    write_dump(
        path, [comment("a", "t3_s"), *(comment(f"r{number}", "t1_a", body=os.urandom(40).hex()) for number in range(300))], window_log
    )
    whole = path.read_bytes()
    assert len(whole) > 10_000
    for length in (0, 1, 4, 9, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            extract.main("2017-01", "2017-01", dump_folder=dumps, out=out)
        message = str(caught.value)
        assert (
            message.startswith(f"2017-01 failed: {path}: not a valid zst file") and "download it again" in message and "\n" not in message
        )
        assert left_in(out) == [".staged/.lock"]
    path.write_bytes(whole)
    assert len(extracted(dumps)) == 300


@pytest.mark.parametrize("content", [b"id,body\n1,x\n" * 50, b"\x28\xb5\x2f\xfd" + b"\xff" * 50, b"\0" * 100])
def test_a_file_that_is_not_zstd(dumps: Path, content: bytes) -> None:
    (dumps / "RC_2017-01.zst").write_bytes(content)
    with pytest.raises(UserError, match=r"RC_2017-01\.zst: not a valid zst file"):
        extract.main("2017-01", "2017-01", dump_folder=dumps, out=dumps.parent / "out")


def test_a_corrupt_byte(dumps: Path) -> None:
    path = dumps / "RS_2017-01.zst"
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    write_dump(path, [submission(str(number), selftext=os.urandom(40).hex()) for number in range(100)])
    content = bytearray(path.read_bytes())
    content[6] ^= 0xFF  # in the block's header
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"RS_2017-01\.zst"):
        extract.main("2017-01", "2017-01", dump_folder=dumps, out=dumps.parent / "out")


def test_paths_with_quotes(tmp_path: Path) -> None:
    folder = tmp_path / 'reader\'s "dumps"'
    folder.mkdir()
    write_dump(folder / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    write_dump(folder / "RS_2017-01.zst", [submission()])
    extract.main("2017-01", "2017-01", dump_folder=folder, out=tmp_path / "reader's out")
    manifest = files.read_manifest(tmp_path / "reader's out" / "2017-01.parquet")
    assert manifest is not None and manifest["rows"] == 1


# --- repeated and killed runs -------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    write_dump(dumps / "RC_2017-02.zst", [comment("c", "t1_b", "2017-02-10")])
    extracted(dumps, "2017-01", "2017-02")
    files = sorted(path for path in (dumps.parent / "out").rglob("*") if path.is_file())
    assert len(files) == 9  # two months with manifests, both staged with staged.json, and the lock
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(extracted(dumps, "2017-01", "2017-02")) == 2
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_changed_settings_or_files_extract_a_month_again(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    assert len(extracted(dumps)) == 1
    with pytest.raises(UserError, match="no reply in r/movies; check --subreddit"):
        extracted(dumps, subreddit=["movies"])
    assert len(extracted(dumps)) == 1
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    assert [pair.submission for pair in extracted(dumps)] == ["title of s"]
    old = (dumps / "RC_2017-01.zst").stat().st_mtime - 1_000_000
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a"), comment("c", "t1_a")])
    os.utime(dumps / "RC_2017-01.zst", (old, old))  # `cp -p` and rsync restore a file like this
    assert len(extracted(dumps)) == 2


def test_a_damaged_month_is_extracted_again(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    extracted(dumps)
    path = dumps.parent / "out" / "2017-01.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    assert len(extracted(dumps)) == 1


@pytest.mark.parametrize("moment", ["duckdb.connect", "zstandard.ZstdDecompressor", "json.dump", "os.replace"])
def test_restart_after_a_kill(dumps: Path, moment: str) -> None:
    rows = [comment("a", "t3_s"), *(comment(f"r{number}", "t1_a") for number in range(20))]
    write_dump(dumps / "RC_2017-01.zst", rows)
    out = dumps.parent / "out"
    module, name = moment.rsplit(".", 1)
    code = (
        f"import os, {module} as module; from pathlib import Path; from bot.corpus import extract\n"
        f"module.{name} = lambda *_, **__: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        f"extract.main('2017-01', '2017-01', dump_folder=Path({str(dumps)!r}), out=Path({str(out)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert len(extracted(dumps)) == 20
    assert left_in(out) == [*STAGED, "2017-01.parquet", "2017-01.parquet.manifest.json"]


@pytest.mark.usefixtures("cold")
def test_pandas_is_not_imported(dumps: Path) -> None:
    """Importing it takes longer than extracting a small month."""
    write_dump(dumps / "RC_2016-12.zst", [comment("a", "t3_s", "2016-12-31")])
    write_dump(dumps / "RC_2017-01.zst", [comment("b", "t1_a")])
    out = dumps.parent / "out"
    code = (
        f"import sys; from pathlib import Path; from bot.corpus import extract\n"
        f"extract.main('2017-01', '2017-01', dump_folder=Path({str(dumps)!r}), out=Path({str(out)!r}))\n"
        f"sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True)
    assert (files.read_manifest(out / "2017-01.parquet") or {})["cross_month"] == 1


def test_a_full_disk_leaves_no_incomplete_file(dumps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a")])
    out = dumps.parent / "out"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            extract.main("2017-01", "2017-01", dump_folder=dumps, out=out)
    assert left_in(out) == STAGED  # the staged file is complete
    assert len(extracted(dumps)) == 1


def test_rows_of_another_month_and_unusable_submissions_are_counted(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = [comment("late", "t1_a", "2017-02-01"), comment("early", "t3_s", "2016-12-31")]
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("r", "t1_a"), *late])
    write_dump(dumps / "RS_2017-01.zst", [submission(), b"{}", b"cut"])
    assert ids(extracted(dumps)) == [("t1_a", "t1_r")]
    manifest = files.read_manifest(dumps.parent / "out" / "2017-01.parquet") or {}
    assert manifest["lines"] == {"RC": {"read": 4, "other_month": 2}, "RS": {"read": 3, "unreadable": 2}}
    printed = capsys.readouterr().out
    assert "4 lines in the months' own comment dumps: other_month 2" in printed
    assert "3 lines in the months' own submission dumps: unreadable 2" in printed


def test_a_dump_without_usable_lines_fails(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [b"<html>", b"{}", comment("a", "t3_s", body=None)])
    with pytest.raises(UserError, match=r"2017-01 failed: .*RC_2017-01.zst: none of its 3 lines is usable \(unreadable 2, missing_key 1\)"):
        extracted(dumps)


def test_a_byte_order_mark_is_ignored(dumps: Path) -> None:
    rows = [comment("a", "t3_s"), comment("r", "t1_a")]
    (dumps / "RC_2017-01.json").write_bytes(codecs.BOM_UTF8 + b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    (dumps / "RC_2017-01.zst").unlink(missing_ok=True)
    assert ids(extracted(dumps)) == [("t1_a", "t1_r")]


@pytest.mark.parametrize("line", [comment("long", "t1_a", body="x" * (40 << 20)), b"x" * (90 << 20)], ids=["a comment", "no JSON"])
def test_a_line_of_many_megabytes_is_a_clear_error(dumps: Path, line: dict[str, Any] | bytes) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), line, comment("r", "t1_a")])
    with pytest.raises(UserError, match=r"2017-01 failed: .*RC_2017-01.zst: contains a line longer than 16 MiB"):
        extracted(dumps)


def test_a_corrupt_parquet_dump_is_a_clear_error(dumps: Path) -> None:
    (dumps / "RC_2017-01.zst").unlink(missing_ok=True)
    (dumps / "RC_2017-01.parquet").write_bytes(b"PAR1 and no more of it PAR1")
    with pytest.raises(UserError, match=r"RC_2017-01.parquet: not a valid Parquet file .*; download it again"):
        extracted(dumps)


def test_a_month_with_a_corrupt_manifest_is_extracted_again(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("r", "t1_a")])
    extracted(dumps)
    (dumps.parent / "out" / "2017-01.parquet.manifest.json").write_text("{")
    assert ids(extracted(dumps)) == [("t1_a", "t1_r")]


def test_a_folder_without_dumps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no RC_YYYY-MM.zst"):
        extract.main(dump_folder=tmp_path, out=tmp_path / "out")


def test_no_author_name_is_staged(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s", author="ann"), comment("r", "t1_a", author="haiku_bot")])
    extracted(dumps)
    staged = [str(path) for path in (dumps.parent / "out" / ".staged").rglob("*.parquet")]
    authors = {author for (author,) in duckdb.sql(f"SELECT author FROM read_parquet({staged}, union_by_name=true)").fetchall()}
    assert "_bot" in authors and not authors & {"ann", "haiku_bot"}


# --- other names and forms ------------------------------------------------------------------------------------------------------------


def test_months_without_submissions_that_were_asked_for_are_named(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for month in ("2017-01", "2017-02", "2017-03"):
        rows = [comment(f"a{month[-1]}", "t3_s", f"{month}-05"), comment(f"b{month[-1]}", f"t1_a{month[-1]}", f"{month}-06")]
        write_dump(dumps / f"RC_{month}.zst", rows)
    write_dump(dumps / "RS_2017-02.zst", [submission()])
    extract.main(dump_folder=dumps, out=dumps.parent / "out", parents=Parents.both, lookback_months=0)
    printed = capsys.readouterr().out
    assert "no submissions of 2017-01, 2017-03: replies to them and replies by their authors can't be found" in printed
    assert "2 of the pairs have no submission" in printed  # the comments' own replies of January and March


def test_archives_of_subreddits_and_other_names(dumps: Path) -> None:
    write_dump(dumps / "tea_comments.zst", [comment("a", "t3_s"), comment("b", "t1_a", "2017-02-03")])
    write_dump(dumps / "tea_submissions.zst", [submission()])
    (dumps / "r_maps_comments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [comment("c", "t3_u", link_id="t3_u")]))
    (dumps / "r_maps_posts.jsonl").write_text(json.dumps(submission("u")) + "\n")
    out = dumps.parent / "out"
    extract.main(dump_folder=dumps, out=out, parents=Parents.both)
    assert ids(pairs_of(out)) == [("t3_s", "t1_a"), ("t3_u", "t1_c")] and ids(pairs_of(out, "2017-02")) == [("t1_a", "t1_b")]
    plain = (dumps / "r_maps_comments.jsonl").read_bytes()
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)):
        (dumps / f"r_maps_comments{suffix}").write_bytes(compress(plain))
        next(each for each in dumps.glob("r_maps_comments.*") if each.suffix != suffix).unlink()
        again = dumps.parent / f"out{suffix}"
        extract.main(dump_folder=dumps, out=again, parents=Parents.both)
        assert ids(pairs_of(again)) == [("t3_s", "t1_a"), ("t3_u", "t1_c")]
    write_dump(dumps / "r_tea_posts.zst", [submission()])
    with pytest.raises(UserError, match="r_tea_posts.zst and tea_submissions.zst are the same archive"):
        extract.main(dump_folder=dumps, out=out, parents=Parents.both)


def test_two_names_of_one_month_of_submissions(dumps: Path) -> None:
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s")])
    write_dump(dumps / "RS_v2_2017-01.zst", [submission()])
    assert ids(extracted(dumps, parents=Parents.both)) == [("t3_s", "t1_a")]
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    with pytest.raises(UserError, match="RS_2017-01.zst and RS_v2_2017-01.zst are the same month"):
        extracted(dumps, parents=Parents.both)


@pytest.mark.parametrize("parent", [30_000_278_016, "30000278016", 30_000_278_016.0, "ds5e2o0", "t1_ds5e2o0"])
def test_parents_as_numbers_and_without_prefix(dumps: Path, parent: object) -> None:
    name = "ds5e2o0"
    assert int(name, 36) == 30_000_278_016
    rows = [comment(name, "t3_s", parent_id=None), comment("b", "t1_", parent_id=parent, created_utc=str(float(utc("2017-01-11"))))]
    rows += [comment("c", "", parent_id={"a": 1}), comment("d", "", parent_id=True), comment("e", "", parent_id=7)]
    write_dump(dumps / "RC_2017-01.zst", rows)
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    pairs = extracted(dumps, parents=Parents.both)
    assert [(pair.comment_id, pair.reply_id, pair.depth) for pair in pairs] == [("t3_s", f"t1_{name}", -1), (f"t1_{name}", "t1_b", 0)]
    assert counted(dumps) == ({"parent_not_found": 1}, {"read": 5, "wrong_type": 2})


SUBMISSION = "zy1"  # 46585 in base 10


@pytest.mark.parametrize("link", [f"t3_{SUBMISSION}", SUBMISSION, 46_585, "46585", 46_585.0])
def test_a_parent_that_is_the_submission_in_any_notation(dumps: Path, link: object) -> None:
    parents = [f"t3_{SUBMISSION}", SUBMISSION, 46_585, "46585", 46_585.0, None]
    rows = [comment(f"a{number}", "", parent_id=parent, link_id=link) for number, parent in enumerate(parents)]
    write_dump(dumps / "RC_2017-01.zst", [*rows, comment("b", "t1_a2", link_id=link)])
    write_dump(dumps / "RS_2017-01.zst", [submission(SUBMISSION)])
    pairs = {pair.reply_id: (pair.comment_id, pair.depth) for pair in extracted(dumps, parents=Parents.both)}
    assert pairs == {**{f"t1_a{number}": ("t3_zy1", -1) for number in range(6)}, "t1_b": ("t1_a2", 0)}


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (2_116_316_161, "z00001"), (12_345, "9ix"), (12_345.0, "9ix"), ("2116316161", "z00001"), ("12345", "12345"), ("1e5", "1e5"),
        ("t1_1e5", "1e5"), ("z00001", "z00001"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("parquet", [False, True])
def test_ids_as_numbers_and_as_texts(dumps: Path, written: object, plain: str, parquet: bool) -> None:
    rows = [comment("x", "t3_s", id=written, body="What now?"), comment("b", f"t1_{plain}")]
    if parquet:
        (dumps / "rows.ndjson").write_text(json.dumps(rows[0]))
        query = f"SELECT * REPLACE (parent_id::VARCHAR AS parent_id) FROM read_json('{dumps}/rows.ndjson')"
        duckdb.sql(f"COPY ({query}) TO '{dumps}/RC_2016-12.parquet'")
        (dumps / "rows.ndjson").unlink()
        write_dump(dumps / "RC_2017-01.zst", rows[1:])
    else:
        write_dump(dumps / "RC_2017-01.zst", rows)
    assert [(pair.comment_id, pair.reply_id) for pair in extracted(dumps, lookback_months=1)] == [(f"t1_{plain}", "t1_b")]


def test_ids_that_are_neither(dumps: Path) -> None:
    flawed: list[object] = [True, {"a": 1}, [1], 1.5, "two words"]
    rows = [comment("x", "t3_s", id=each) for each in flawed]
    write_dump(dumps / "RC_2017-01.zst", [*rows, comment("1e5", "t3_s"), comment("b", "", parent_id="1e5")])
    assert ids(extracted(dumps)) == [("t1_1e5", "t1_b")]
    assert counted(dumps)[1] == {"read": 7, "wrong_type": 5}


def test_archives_of_profiles(dumps: Path) -> None:
    profile = {"subreddit": "u_some-body", "link_id": "t3_v"}
    write_dump(dumps / "u_some-body_comments.zst", [comment("d", "t3_v", **profile), comment("e", "t1_d", **profile)])
    write_dump(dumps / "u_some-body_submissions.zst", [submission("v")])
    out = dumps.parent / "out"
    extract.main(dump_folder=dumps, out=out, parents=Parents.both)
    assert ids(pairs_of(out)) == [("t1_d", "t1_e"), ("t3_v", "t1_d")]


def test_halves_of_surrogates(dumps: Path) -> None:
    lines = [
        json.dumps(comment("b", "t1_a")).encode()[:-1] + rb', "unused": {"x": ["\uD83D", "\ude00"]}}',
        json.dumps(comment("c", "t1_a", body="BODY")).encode().replace(b"BODY", rb"\ud83d\ude00 \\ud83d \uDE00"),
    ]
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), *lines])
    assert {pair.reply_id: pair.reply for pair in extracted(dumps)} == {"t1_b": "text of b", "t1_c": "\U0001f600 \\ud83d \ufffd"}


def test_missing_submissions_are_reported(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dump(dumps / "RC_2016-12.zst", [comment("z", "t3_r", "2016-12-10", link_id="t3_r")])
    write_dump(dumps / "RC_2017-01.zst", [comment("a", "t3_s"), comment("b", "t1_a"), comment("y", "t1_z", link_id="t3_r")])
    write_dump(dumps / "RS_2017-01.zst", [submission()])
    assert len(extracted(dumps, lookback_months=1)) == 2
    printed = capsys.readouterr().out
    assert "no submissions of 2016-12:" in printed and "1 of the pairs have no submission" in printed
