"""bot.posting.purge: purge removes all traces of the given ids and changes nothing else."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from bot import files, schema, text
from bot.cli import ROOT, UserError
from bot.posting import purge as purging
from bot.report import report
from bot.schema import Candidate, Comment, Context, FinetuneText, LmRow, Pair, RealismRow, Scored, Skipped, Submitted, UpvotePair, UpvoteRow

MADE = {"files": {"RC_2017-01.zst": 123}, "lookback_months": 6}
THREADS, COMMENTS, REPLIES = 4, 3, 3  # threads; comments per thread; replies per comment
TABLES = {
    "lm_train": LmRow,
    "lm_val": LmRow,
    "upvote_train": UpvoteRow,
    "upvote_pairs_train": UpvotePair,
    "realism_train": RealismRow,
    "comments": Comment,
    "context": Context,
    "skipped": Skipped,
    "candidates": Candidate,
    "fakes": Candidate,
    "scored": Scored,
    "chosen": Scored,
    "submitted": Submitted,
}


# --- a data folder ----------------------------------------------------------------------------------------------------------
# All ids have the same length, so none is part of another, and every text contains the id of its comment or reply: «says <id>».


def says(name: str) -> str:
    return f'It says {name[3:]}, "quoted",\r\n\nNA \r 007, [SEP] ünï 🎉, says {name[3:]}'


def pairs() -> list[Pair]:
    """The comments of each thread, each with replies. One reply to a comment is also the comment of another pair, as on Reddit."""
    rows = []
    for thread in range(THREADS):
        for comment in range(COMMENTS):
            place = f"{thread}{comment}"
            name, title = f"t1_c{place}x", f"Title thr{thread}"
            for number in range(REPLIES):
                reply = f"t1_r{place}{number}"
                where = ("books", f"t3_thr{thread}", title, 9)
                rows.append(Pair(*where, name, says(name), 4, 1_500_000_000, reply, says(reply), number, 1_500_000_060 + number, 0))
            answer = f"t1_a{place}x"
            rows.append(
                Pair("books", f"t3_thr{thread}", title, None, reply, says(reply), None, None, answer, says(answer), 1, 1_500_000_100, 2)
            )
    return rows


def write_extract(path: Path, rows: Iterable[Pair], **extra: Any) -> None:
    """Write an extract like bot.corpus.extract."""
    types = {name: pa.string() if hint is str else pa.int64() for name, hint in get_type_hints(Pair).items()}
    columns = pa.schema([pa.field(name, types[name]) for name in schema.columns_of(Pair)])
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{name: getattr(row, name) for name in columns.names} for row in rows], columns)
    write_parquet(path, table, row_group_size=7, **extra)


def write_parquet(path: Path, table: pa.Table, row_group_size: int, **extra: Any) -> None:
    """Write a Parquet file with a manifest."""

    def write(file: IO[bytes]) -> dict[str, Any]:
        pq.write_table(table, file, compression="zstd", row_group_size=row_group_size)
        return {"rows": len(table), "made_from": MADE, **extra}

    files.write_with_manifest(path, write)


def candidate(comment_id: str, number: int = 0) -> Candidate:
    return Candidate(comment_id, f"{comment_id}-{number}", 7, "?", f"Generated for {comment_id[3:]}, {number}", "g", -1.5)


def build(data: Path) -> Path:
    """A data folder with a file of each kind that the stages write."""
    rows = pairs()
    write_extract(data / "raw_data" / "2017-01.parquet", rows[:20], dropped={"deleted": 3}, cross_month=1)
    write_extract(data / "raw_data" / "2017-02.parquet", rows[20:], dropped={}, cross_month=0)
    write_extract(data / "raw_data" / "2017-03.parquet", [])
    staged = data / "raw_data" / ".staged" / "RC_2017-01.zst"
    (staged / "bucket=0").mkdir(parents=True)
    pq.write_table(pa.table({"id": ["c00x"], "link_id": ["t3_thr0"], "body": [says("t1_c00x")]}), staged / "bucket=0" / "piece0_0.parquet")
    (staged / "staged.json").write_text('{"made_from": {}, "lines": {"read": 1}}')

    prepared = data / "prepared"
    lm = [LmRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply) for p in rows]
    upvote = [UpvoteRow(p.thread_id, p.comment_id, p.reply_id, "books", p.comment, p.reply, p.reply_karma or 0, 15) for p in rows]
    siblings = [
        UpvotePair(a.thread_id, a.comment_id, b.reply_id, a.reply_id, "books", a.comment, b.reply, a.reply, 1, 0.5)
        for a, b in pairwise(rows)
        if a.comment_id == b.comment_id
    ]
    comments = sorted({p.comment_id: p for p in rows if p.comment_id.startswith("t1_c")}.items())
    realism = [RealismRow(p.thread_id, c, f"{c}-0", "books", p.comment, candidate(c).reply, 0, "g") for c, p in comments]
    for name, of_type, table in (
        ("lm_train", LmRow, lm[:40]),
        ("lm_val", LmRow, lm[40:]),
        ("upvote_train", UpvoteRow, upvote),
        ("upvote_pairs_train", UpvotePair, siblings),
        ("realism_train", RealismRow, realism),
    ):
        schema.write_rows(prepared / f"{name}.csv", of_type, table, MADE, dropped={"no_text": 1, "too_short": 2})
    texts = (FinetuneText(text.format_training_text(row.comment, row.reply)) for row in lm[:40])
    schema.write_rows(prepared / "gpt2_finetune.csv", FinetuneText, texts, MADE)
    schema.write_rows(data / "fakes.csv", Candidate, [candidate(c) for c, _ in comments], {"seed": 7}, left_out={"deleted": 1})

    for name, these in (("first", comments[:4]), ("second", comments[6:])):
        run = data / "runs" / name
        taken = [
            Comment(c, p.thread_id, "books", p.submission, p.comment, 4, 1_500_000_000, 1, "reader", False, f"/r/books/{c[3:]}")
            for c, p in these
        ]
        candidates = [candidate(c, number) for c, _ in these for number in range(2)]
        scored = [
            Scored(c, p.thread_id, "books", p.comment, f"{c}-{n}", candidate(c, n).reply, 0.5, None, None, 0.25, v, "")
            for c, p in these
            for n, v in ((0, "chosen"), (1, "kept"))
        ]
        chosen = [row for row in scored if row.verdict == "chosen"]
        context = [Context(p.thread_id, p.reply_id, p.comment_id, p.reply) for p in rows if p.comment_id in dict(these)]
        schema.write_rows(run / "comments.csv", Comment, taken, {"source": "reddit"}, subreddits={"books": "read"})
        schema.write_rows(run / "context.csv", Context, context, {"source": "reddit"})
        schema.write_rows(run / "skipped.csv", Skipped, [Skipped("t1_s00x", "t3_thr0", "books", "too_old")], {"source": "reddit"})
        schema.write_rows(run / "candidates.csv", Candidate, candidates, {"input": "x"}, left_out={})
        schema.write_rows(run / "scored.csv", Scored, scored, {"candidates": "x"})
        schema.write_rows(run / "chosen.csv", Scored, chosen, {"scored": "x"})
        attempts = [Submitted(row.comment_id, row.thread_id, row.candidate_id, "posted", "t1_o00x", 1) for row in chosen]
        schema.write_rows(run / "submitted.csv", Submitted, attempts, {"chosen": "x"})
        report.write_page(report.read_run(run), run / "report.html")
        (run / ".lock").touch()
        (run / "sandbox.sqlite").write_bytes(b"SQLite format 3\0 invented")
    (data / "evaluation").mkdir()
    (data / "evaluation" / "metrics.json").write_text("{}")
    return data


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("template") / "data")


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def purge(folder: Path, *names: str, dry_run: bool = False, also: list[Path] | None = None) -> None:
    ids = folder.parent / "ids.txt"
    ids.write_text("\n".join(names), encoding="utf-8")
    purging.purge_command(ids, folder, also, dry_run)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def places(folder: Path, *words: str) -> set[str]:
    """The files that contain one of the words, in Parquet files also in compressed columns."""
    result = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
            result |= {str(path.relative_to(folder)) for word in words if word.encode() in content}
    return result


def check_contracts(data: Path, only_manifests: bool = True) -> None:
    """Check that the stages can read every file, and that every file has a manifest and matches it."""
    for path in [*data.rglob("*.csv"), *data.rglob("*.parquet")]:
        manifest = files.read_manifest(path)
        assert manifest is not None or not only_manifests, path
        if path.suffix == ".csv":
            schema.read_rows(path, TABLES.get(path.stem, FinetuneText))
        else:
            table = pq.read_table(path)
            assert table.column_names == schema.columns_of(Pair)
            files.check_manifest(path, len(table))


# --- what is removed, and what is kept --------------------------------------------------------------------------------------


def test_no_trace_of_a_comment_is_left(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(data)
    stood = places(data, "c00x")
    purge(data, "t1_c00x")
    assert places(data, "c00x") == set()
    check_contracts(data)
    out = capsys.readouterr().out
    assert "raw_data/2017-01.parquet: 3 of 20 rows removed" in out and "first/comments.csv: 1 of 4 rows removed" in out
    assert "lm_train.csv: 3 of 40 rows removed; gpt2_finetune.csv created again from it" in out
    assert "first/report.html: deleted; `python run_bot.py report --run" in out and "new extraction brings the rows back" in out
    after = tree(data)
    gone = {"raw_data/.staged/RC_2017-01.zst/bucket=0/piece0_0.parquet", "raw_data/.staged/RC_2017-01.zst/staged.json"}
    assert before.keys() - after.keys() == gone | {"runs/first/report.html"} and not after.keys() - before.keys()
    files = {name for name in after if not name.endswith(".manifest.json") and before[name] != after[name]}
    assert files == {
        "raw_data/2017-01.parquet", "fakes.csv", "runs/first/comments.csv", "runs/first/context.csv", "runs/first/candidates.csv",
        "runs/first/scored.csv", "runs/first/chosen.csv", "runs/first/submitted.csv", "prepared/lm_train.csv", "prepared/upvote_train.csv",
        "prepared/gpt2_finetune.csv", "prepared/upvote_pairs_train.csv", "prepared/realism_train.csv",
    }  # fmt: skip
    assert stood == files | {"runs/first/report.html", "raw_data/.staged/RC_2017-01.zst/bucket=0/piece0_0.parquet"}
    assert {name for name in after if before[name] != after[name]} == files | {f"{name}.manifest.json" for name in files}
    report.write_page(report.read_run(data / "runs" / "first"), data / "runs" / "first" / "report.html")


def test_the_other_rows_are_kept_in_order(data: Path, template: Path) -> None:
    """Purges a reply that is a comment in another pair, one that is the better of two siblings, and one that is in no file."""
    gone = {"t1_r002", "t1_r110", "t1_nowhere"}
    purge(data, *gone)
    for name, of_type in TABLES.items():
        for path in data.rglob(f"{name}.csv"):
            rows = schema.read_rows(template / path.relative_to(data), of_type)
            columns = [column for column in schema.columns_of(of_type) if column in purging.ID_COLUMNS]
            expected = [row for row in rows if gone.isdisjoint(getattr(row, column) for column in columns)]
            assert schema.read_rows(path, of_type) == expected, path
    assert places(data, "r002", "r110") == set()
    assert "says c00x" in (data / "prepared" / "lm_train.csv").read_text()  # the comment that was replied to is kept
    left = schema.read_rows(data / "prepared" / "lm_train.csv", LmRow)
    texts = [row.text for row in schema.read_rows(data / "prepared" / "gpt2_finetune.csv", FinetuneText)]
    assert texts == [text.format_training_text(row.comment, row.reply) for row in left] and len(texts) == 37


def test_an_extract_keeps_its_shape_and_manifest(data: Path, template: Path) -> None:
    purge(data, "t1_c00x", "t1_c10x")
    old, new = template / "raw_data" / "2017-01.parquet", data / "raw_data" / "2017-01.parquet"
    before, after = pq.read_table(old), pq.read_table(new)
    assert after.schema.equals(before.schema, check_metadata=True)
    kept = [row for row in before.to_pylist() if row["comment_id"] not in ("t1_c00x", "t1_c10x")]
    assert after.to_pylist() == kept and len(kept) == 14
    metadata = pq.ParquetFile(new).metadata
    assert {metadata.row_group(0).column(place).compression for place in range(13)} == {"ZSTD"}
    assert files.is_current(new, MADE)  # extract keeps the month
    manifest = files.read_manifest(new)
    assert manifest == (files.read_manifest(old) or {}) | {"rows": 14, "sha256": files.sha256_of(new)}
    assert manifest["dropped"] == {"deleted": 3} and manifest["cross_month"] == 1


def test_a_thread_is_removed_with_the_candidates_for_its_comments(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """candidates.csv and fakes.csv have no thread ids; comments.csv and lm_train.csv have the comments of the thread."""
    purge(data, "t3_thr1")
    assert places(data, "thr1", "c10x", "c11x", "c12x", "r100") == set()
    check_contracts(data)
    assert len(schema.read_rows(data / "fakes.csv", Candidate)) == 9
    assert {row.comment_id for row in schema.read_rows(data / "runs" / "first" / "candidates.csv", Candidate)} == {
        "t1_c00x", "t1_c01x", "t1_c02x",
    }  # fmt: skip
    assert "not in any file" not in capsys.readouterr().out
    purge(data, "t3_thr0", "t3_thr2", "t3_thr3")
    assert places(data, "says", "Generated") == set()
    check_contracts(data)


def test_an_empty_comment_id_in_a_purged_thread_matches_no_other_row(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "threads.csv").write_text("thread_id,comment_id\nt3_x,\nt3_x,t1_a\nt3_y,\n")
    (data / "candidates.csv").write_text("comment_id,reply\n,kept\nt1_a,gone\nt1_b,kept\n")
    purge(data, "t3_x")
    assert (data / "threads.csv").read_text() == "thread_id,comment_id\nt3_y,\n"
    assert (data / "candidates.csv").read_text() == "comment_id,reply\n,kept\nt1_b,kept\n"


def test_a_dry_run_prints_the_same_and_changes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / ".fakes.csv.tmp").write_text("half")
    before = tree(data)
    purge(data, "c00x", "t3_thr1", "t1_nowhere", dry_run=True)
    printed = capsys.readouterr().out
    assert tree(data) == before
    purge(data, "c00x", "t3_thr1", "t1_nowhere")
    assert printed == "dry run; nothing is changed:\n" + capsys.readouterr().out
    assert (
        re.search(r"^[0-9]+ rows removed from [0-9]+ of 23 files$", printed, re.M) and "1 of 3 ids not in any file: t1_nowhere\n" in printed
    )


def test_a_second_purge_changes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    purge(data, "t1_c00x")
    before = tree(data)
    capsys.readouterr()
    purge(data, "t1_c00x")
    assert tree(data) == before
    assert "0 rows removed from 0 of 23 files\n1 of 1 ids not in any file: t1_c00x\n" in capsys.readouterr().out


ids = st.sampled_from(["t1_a", "t1_b", "t1_c", "t3_x", "t1_a-0", "", " t1_a", "T1_A", "a"])
cells = st.one_of(ids, st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.sampled_from(['"', ",", "\r", "\n", "\r\n", "''"]))


@given(
    rows=st.lists(st.tuples(ids, cells, ids, cells), max_size=12),
    gone=st.sets(st.sampled_from(["t1_a", "t1_b", "t3_x", "t1_q"]), min_size=1),
)
def test_rows_kept_are_exactly_those_without_an_id(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], gone: set[str]
) -> None:
    data = tmp_path_factory.mktemp("property") / "data"
    columns = ["comment_id", "comment", "reply_id", "reply"]
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    schema.write_table(data / "a.csv", columns, table, {"seed": 1}, note="kept")
    pq.write_table(pa.Table.from_pylist(table, pa.schema([(name, pa.string()) for name in columns])), data / "a.parquet")
    (data / "bare.csv").write_bytes((data / "a.csv").read_bytes())
    before = tree(data)
    purge(data, *gone)
    kept = [row for row in table if row["comment_id"] not in gone and row["reply_id"] not in gone]
    assert schema.read_table(data / "a.csv") == schema.read_table(data / "bare.csv") == (columns, kept)
    assert pq.read_table(data / "a.parquet").to_pylist() == kept
    manifest = files.read_manifest(data / "a.csv") or {}
    assert (manifest["rows"], manifest["made_from"], manifest["note"]) == (len(kept), {"seed": 1}, "kept")
    assert {path.name for path in data.iterdir()} == {"a.csv", "a.csv.manifest.json", "a.parquet", "bare.csv"}
    if kept == table:
        assert tree(data) == before
    schema.write_table(data / "b.csv", columns, kept)
    assert (data / "a.csv").read_bytes() == (data / "b.csv").read_bytes()


def test_an_extract_in_many_batches_with_empty_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH_ROWS", 10)
    chance = random.Random(1)
    names = [chance.choice([None, "t1_a", "t1_b", "t1_c"]) for _ in range(95)]
    table = pa.table({"n": pa.array(range(95), pa.int32()), "reply_id": names, "comment_id": ["t1_z"] * 95})
    write_parquet(tmp_path / "data" / "a.parquet", table, row_group_size=40)
    purge(tmp_path / "data", "t1_b")
    left = pq.read_table(tmp_path / "data" / "a.parquet")
    assert left.schema == table.schema and left["n"].to_pylist() == [n for n, name in enumerate(names) if name != "t1_b"]
    files.check_manifest(tmp_path / "data" / "a.parquet", len(left))


# --- files beside the tables -------------------------------------------------------------------------------------------------


def test_files_of_killed_stages(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Temporary files are deleted, but generate's .part files, which contain hours of work, only with candidates for a purged comment."""
    for name in (
        ".fakes.csv.tmp",
        "raw_data/.2017-01.parquet.tmp",
        "runs/first/.report.html.tmp",
        "prepared/.lm_val.csv.manifest.json.tmp",
    ):
        (data / name).write_text("c00x")
    line = '[{"comment_id": "%s", "candidate_id": "%s-0", "seed": 1, "reply": "r", "generator": "g", "log_likelihood": null}]\n'
    (data / "old.csv.part").write_text("{}\n" + line % ("t1_c00x", "t1_c00x") + '[{"comment_id": "t1_c')
    (data / "new.csv.part").write_text("{}\n" + line % ("t1_c01x", "t1_c01x") + '[{"comment_id": "t1_c')
    purge(data, "t1_c00x")
    assert places(data, "c00x") == set() and not list(data.rglob("*.tmp"))
    assert not (data / "old.csv.part").exists() and (data / "new.csv.part").exists()
    assert "data/old.csv.part: deleted" in capsys.readouterr().out.replace(os.sep, "/")
    check_contracts(data)


def test_a_page_with_comments_that_are_no_longer_in_a_table(data: Path) -> None:
    """After another fetch, a run was killed before its report, so the page still shows the previous comments."""
    page = (data / "runs" / "first" / "report.html").read_bytes()
    (data / "runs" / "second" / "report.html").write_bytes(page)
    purge(data, "t1_c00x")
    assert not (data / "runs" / "second" / "report.html").exists() and (data / "runs" / "second" / "comments.csv").exists()


def test_a_page_is_deleted_with_any_row_of_its_run(data: Path) -> None:
    """Even for a row of context.csv, which the page only counts."""
    assert b"r002" not in (data / "runs" / "first" / "report.html").read_bytes()
    purge(data, "t1_r002")
    assert not (data / "runs" / "first" / "report.html").exists() and (data / "runs" / "second" / "report.html").exists()


def test_gpt2_finetune_without_its_lm_train(data: Path) -> None:
    (data / "prepared" / "lm_train.csv").unlink()
    with pytest.raises(
        UserError, match=r"1 not purged.*gpt2_finetune\.csv: there is no lm_train\.csv beside it.*run `prepare` again, or delete"
    ):
        purge(data, "t1_c00x")
    assert places(data, "c00x") == {"prepared/gpt2_finetune.csv"}


def test_gpt2_finetune_of_another_lm_train(data: Path) -> None:
    """prepare was killed after lm_train.csv, which no longer has the rows, so their places in gpt2_finetune.csv are unknown."""
    train = data / "prepared" / "lm_train.csv"
    rows = schema.read_rows(train, LmRow)
    left = [row for row in rows if row.comment_id != "t1_c00x"]
    for new, made_from in ((left, MADE), ([*left, *left[:3]], {"files": "others"})):
        schema.write_rows(train, LmRow, new, made_from)
        with pytest.raises(UserError, match=r"gpt2_finetune\.csv: not made from the lm_train\.csv beside it"):
            purge(data, "t1_c00x")
    schema.write_rows(train, LmRow, rows, MADE)
    purge(data, "t1_c00x")
    assert places(data, "c00x") == set()


def test_a_file_without_a_manifest_gets_none(data: Path) -> None:
    for name in ("fakes.csv", "prepared/gpt2_finetune.csv", "raw_data/2017-01.parquet"):
        files.manifest_path(data / name).unlink()
    (data / "mine.csv").write_bytes('\ufeffnote,parent_id\n"a ""b"", c",t1_c00x\n007,t1_c01x\n\n1e5,é\n'.encode())
    purge(data, "t1_c00x")
    assert places(data, "c00x") == set()
    assert (data / "mine.csv").read_bytes() == "note,parent_id\r\n007,t1_c01x\r\n1e5,é\r\n".encode()
    for name in ("fakes.csv", "prepared/gpt2_finetune.csv", "raw_data/2017-01.parquet", "mine.csv"):
        assert not files.manifest_path(data / name).exists()


def test_files_that_cannot_be_searched_are_reported_and_the_others_are_purged(data: Path) -> None:
    bad = {
        "truncated.csv": b'comment_id,reply\nt1_c00x,"half a',
        "short.csv": b"comment_id,reply\nt1_c00x\n",
        "empty.csv": b"",
        "latin.csv": b"comment_id,reply\nt1_c00x,\xe9t\xe9\n",
        "twice.csv": b"comment_id,comment_id\nt1_c00x,t1_c00x\n",
        "texts.csv": b"comment,reply\nIt says c00x,no\n",
        "raw_data/cut.parquet": (data / "raw_data" / "2017-01.parquet").read_bytes()[:500],
    }
    for name, content in bad.items():
        (data / name).write_bytes(content)
    schema.write_rows(data / "changed.csv", Candidate, [candidate("t1_c00x")])
    changed = (data / "changed.csv").read_bytes() + b"t1_c00x,by hand,1,c,r,g,\r\n"
    (data / "changed.csv").write_bytes(changed)
    pq.write_table(pa.table({"id": ["c00x"], "body": ["x"]}), data / "dump.parquet")
    with pytest.raises(UserError) as caught:
        purge(data, "t1_c00x")
    message = str(caught.value)
    assert message.startswith("9 not purged") and "\n" not in message
    for name, why in {
        "truncated.csv": "unexpected end of data", "short.csv": "row 1 has 1 cells", "empty.csv": "empty file", "latin.csv": "not UTF-8",
        "twice.csv": "occurs twice", "texts.csv": "has none of the columns comment_id", "raw_data/cut.parquet": "not a valid Parquet file",
        "changed.csv": "its manifest says 1", "dump.parquet": "has none of the columns",
    }.items():  # fmt: skip
        assert re.search(rf"{re.escape(name)}: [^;]*{why}", message), (name, message)
    assert {name: (data / name).read_bytes() for name in bad} == bad and (data / "changed.csv").read_bytes() == changed
    assert places_but(data, "c00x", {*bad, "changed.csv", "dump.parquet"}) == set()


def places_but(data: Path, word: str, names: set[str]) -> set[str]:
    for name in names:
        (data / name).unlink()
    return places(data, word)


def test_a_full_disk_leaves_every_file_whole(data: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"12 not purged.*No space left on device"):
            purge(data, "t1_c00x")
    assert not list(data.rglob("*.tmp"))
    before, after = tree(template), tree(data)
    assert {name for name in before if before[name] != after.get(name)} == {name for name in before if ".staged" in name} | {
        "runs/first/report.html"
    }


def test_links_are_followed_and_other_folders_searched(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """raw_data on another disk, a circular link, and a run folder in another place, given twice."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data / "raw_data").rename(elsewhere / "raw_data")
    (data / "raw_data").symlink_to(elsewhere / "raw_data")
    (data / "runs" / "first").rename(elsewhere / "first")
    (data / "circle").symlink_to(data)
    (data / "RC_2017-01.zst").write_bytes(b"dump")
    purge(data, "t1_c00x", also=[elsewhere / "first", elsewhere / "first"])
    assert places(data, "c00x") == places(elsewhere, "c00x") == set()
    out = capsys.readouterr().out
    assert out.count("comments.csv") == 1 and out.count("2017-01.parquet: 3") == 1
    assert "neither CSV nor Parquet" in out and "RC_2017-01.zst" in out and "sandbox.sqlite" not in out
    assert (data / "raw_data").is_symlink() and not (elsewhere / "raw_data" / ".staged").exists()


def test_nothing_is_purged_while_a_run_is_active(data: Path) -> None:
    before = tree(data)
    with FileLock(data / "runs" / "second" / ".lock"), pytest.raises(UserError, match=r"second: another run is using this folder"):
        purge(data, "t1_c00x")
    assert tree(data) == before
    purge(data, "t1_c00x")
    assert places(data, "c00x") == set()


# --- kill -9 --------------------------------------------------------------------------------------------------------------------


def purge_until(data: Path, step: int) -> None:
    """In a child process: purge, but kill the process before the `step`-th rename, deletion or opening of a file for writing."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "os.rmdir") or (
            event == "open" and isinstance(arguments[1], str) and set("wx") & set(arguments[1])
        ):
            left -= str(data.parent) in str(arguments[0]) or event == "os.rmdir"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    sys.addaudithook(hook)
    purging.purge_command(data.parent / "ids.txt", data, None, False)


def test_a_killed_purge_finishes_when_repeated(template: Path, tmp_path: Path) -> None:
    names = ("t1_c00x", "t3_thr1")
    whole = Path(shutil.copytree(template, tmp_path / "whole" / "data"))
    purge(whole, *names)
    expected = tree(whole)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["bot.posting.purge", "tests.test_purge"])
    step, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        step += 1 if step < 20 else 2  # later steps repeat for each file
        data = Path(shutil.copytree(template, tmp_path / str(step) / "data"))
        (data.parent / "ids.txt").write_text("\n".join(names))
        process = processes.Process(target=purge_until, args=(data, step))
        process.start()
        process.join()
        status = process.exitcode or 0
        assert status in (0, -signal.SIGKILL)
        check_contracts_after_a_kill(data)
        purge(data, *names)
        # parquet-cpp and csv write the same bytes from the same rows, so the whole folder can be compared
        assert tree(data) == expected, f"killed at step {step}"
        shutil.rmtree(data)
    assert step > 60


def check_contracts_after_a_kill(data: Path) -> None:
    shown_as_staged = data / "raw_data" / ".staged" / "RC_2017-01.zst"
    if (shown_as_staged / "staged.json").exists():
        assert (shown_as_staged / "bucket=0" / "piece0_0.parquet").exists()  # otherwise extract would use an incomplete dump
    shutil.rmtree(data / "raw_data" / ".staged", ignore_errors=True)
    check_contracts(data, only_manifests=False)


# --- the command ----------------------------------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, str(ROOT / "run_bot.py"), "purge", *arguments]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def test_the_command(data: Path, tmp_path: Path) -> None:
    """--data defaults to `data`; the file of ids in that folder is not treated as a table."""
    (data / "ids.csv").write_text("# deleted this week\r\n\r\nt1_c00x\r\n  c01x  \r\n")
    done = command("--ids", "data/ids.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data/prepared/lm_train.csv: 6 of 40 rows removed; gpt2_finetune.csv created again from it\n" in done.stdout
    assert places(data, "c00x", "c01x") == {"ids.csv"} and "ids.csv" not in done.stdout
    (data / "bad.csv").write_text("comment_id,reply\nt1_c02x\n")
    failed = command("--ids", "data/ids.csv", "--data", "data", cwd=tmp_path)
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1
    assert failed.stderr.startswith("run_bot.py purge: 1 not purged, which may contain traces: ")
    shown = command("--help", cwd=tmp_path)
    assert shown.returncode == 0 and "--dry-run" in shown.stdout and "--also" in shown.stdout


@pytest.mark.parametrize(
    "line", ["t2_user", "t1_", "T1_abc", "t1_abc t1_def", "https://reddit.com/x", "t1_a-b", "größe", "T3", "t3_x,t1_y"]
)
def test_invalid_ids(line: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"ids\.txt: line 3: .* is not an id; write t1_abc") as caught:
        purge(tmp_path / "data", "t1_abc", "", line)
    assert repr(line) in str(caught.value)


def test_wrong_folders_and_files(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(data)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        purge(data, "t1_c00x", also=[tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"absent\.txt: can't be read \(No such file or directory\); --ids takes"):
        purging.purge_command(tmp_path / "absent.txt", data, None, False)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"binary: can't be read \(not UTF-8\)"):
        purging.purge_command(tmp_path / "binary", data, None, False)
    purge(data, "# nothing", "")
    assert "contains no ids; nothing to do" in capsys.readouterr().out
    assert tree(data) == before


def test_csv_and_json_are_written_as_the_stages_write_them(data: Path, template: Path) -> None:
    """A purged file has the same format as a file written by its stage."""
    purge(data, "t1_c00x")
    rows = [row for row in schema.read_rows(template / "fakes.csv", Candidate) if row.comment_id != "t1_c00x"]
    schema.write_rows(data / "again" / "fakes.csv", Candidate, rows, {"seed": 7}, left_out={"deleted": 1})
    for name in ("fakes.csv", "fakes.csv.manifest.json"):
        assert (data / name).read_bytes() == (data / "again" / name).read_bytes()
    assert json.loads((data / "fakes.csv.manifest.json").read_text())["rows"] == 11
    with (data / "fakes.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 12


def test_score_files_are_deleted_and_ranked_pairs_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have texts but no ids; score files can be made again."""
    scores, mine = (tmp_path / "evaluation" / "scores" / name for name in ("graded.lm.csv", "mine.csv"))
    for path in (scores, tmp_path / "ranked_pairs.csv"):
        schema.write_cells(path, ["comment", "reply", "log_likelihood"], [["why", "so", "-1"]], {"made_from": {}})
    schema.write_cells(mine, ["comment_id", "reply"], [["t1_gone", "so"], ["t1_b", "no"]], {"made_from": {}})
    (tmp_path / "ids.txt").write_text("t1_gone\n")
    purging.purge_command(tmp_path / "ids.txt", tmp_path)
    assert [row["comment_id"] for row in schema.read_table(mine, ("comment_id",))[1]] == ["t1_b"]  # a person's own table
    assert not scores.exists() and not files.manifest_path(scores).exists() and (tmp_path / "ranked_pairs.csv").exists()
    printed = capsys.readouterr().out
    assert "a score file that `evaluate` creates again" in printed and "not searched, because they have no ids: " in printed
