"""bot.corpus.dialogues on invented conversations in the formats of the corpora, whole and damaged; and what `prepare` makes of them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bot import files, schema, text
from bot.cli import ROOT, UserError
from bot.corpus import dialogues, extract, pairs, prepare
from bot.corpus.extract import Source
from bot.schema import LmRow, Pair
from tests.hostile import ANY_TEXT
from tests.test_prepare import pair, write_extract

SEPARATOR = " +++$+++ "


def line(name: str, said: str) -> str:
    return SEPARATOR.join([name, "u0", "m0", "ANNA", said])


def conversation(*names: str) -> str:
    return SEPARATOR.join(["u0", "u1", "m0", str(list(names))])


SAID = ["Where did you put the kettle?", "In the garden, of course.", "Whose idea was that?", "The goat's."]


def write_cornell(folder: Path, lines: list[str | bytes], conversations: list[str | bytes], end: bytes = b"\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in (("movie_lines.txt", lines), ("movie_conversations.txt", conversations)):
        encoded = [row if isinstance(row, bytes) else row.encode("cp1252") for row in each]
        (folder / name).write_bytes(b"".join(row + end for row in encoded))
    return folder


def four_lines(folder: Path, *more: str | bytes, conversations: tuple[str | bytes, ...] = ()) -> Path:
    lines = [line(f"L{number}", said) for number, said in enumerate(SAID)]
    return write_cornell(folder, [*lines, *more], [conversation("L0", "L1", "L2", "L3"), *conversations])


def extracted(tmp_path: Path, source: Source, path: Path | None) -> tuple[list[Pair], dict[str, Any]]:
    """Run `extract`; the pairs in order and the manifest."""
    out = tmp_path / "out"
    extract.main(source=source, corpus=path, out=out)
    [target] = out.glob("*.parquet")
    columns = ", ".join(schema.columns_of(Pair))
    rows = [Pair(*row) for row in duckdb.sql(f"SELECT {columns} FROM read_parquet('{target}')").fetchall()]
    manifest = files.read_manifest(target) or {}
    assert manifest["rows"] == len(rows) and manifest["sha256"] == files.sha256_of(target)
    return rows, manifest


def texts(rows: list[Pair]) -> list[tuple[str, str]]:
    return [(row.comment, row.reply) for row in rows]


# --- films ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "subfolder", "zip"])
def test_consecutive_lines_are_pairs(kind: str, tmp_path: Path) -> None:
    path = four_lines(tmp_path / "films" / ("inside" if kind == "subfolder" else ""))
    if kind != "folder":
        path = tmp_path / "films"
    if kind == "zip":
        path = tmp_path / "films.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in (tmp_path / "films").iterdir():
                archive.write(each, f"cornell movie-dialogs corpus/{each.name}")
                archive.writestr(f"__MACOSX/cornell movie-dialogs corpus/._{each.name}", b"\0\0")
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    assert texts(rows) == [(SAID[0], SAID[1]), (SAID[1], SAID[2]), (SAID[2], SAID[3])]
    assert [row.depth for row in rows] == [0, 1, 2] and {row.subreddit for row in rows} == {"corpus-cornell"}
    assert len({row.thread_id for row in rows}) == 1
    assert [row.comment_id for row in rows[1:]] == [row.reply_id for row in rows[:-1]]
    first = rows[0]
    unknown = (first.submission_karma, first.comment_karma, first.reply_karma, first.comment_utc, first.reply_utc, first.submission)
    assert unknown == (None, None, None, None, None, "")
    assert manifest["dropped"] == {} and manifest["conversations"] == 1
    assert manifest["lines"] == {"movie_lines.txt": {"read": 4}, "movie_conversations.txt": {"read": 1}}


def test_ids_are_fullnames_that_depend_only_on_the_corpus_and_its_ids(tmp_path: Path) -> None:
    rows, _ = extracted(tmp_path, Source.cornell, four_lines(tmp_path / "films"))
    ids = {name for row in rows for name in (row.thread_id, row.comment_id, row.reply_id)}
    assert len(ids) == 5 and all(re.fullmatch(r"t[13]_[0-9a-f]{15}", name) for name in ids)
    # the first digits of the SHA-256 of the corpus, NUL and the id of the line
    assert rows[0].comment_id == "t1_" + hashlib.sha256(b"cornell\0L0").hexdigest()[:15]
    changed = write_cornell(tmp_path / "more", [line("L9", "Hm."), line("L1", "Yes."), line("L0", "No?")], [conversation("L0", "L1")])
    assert extracted(tmp_path, Source.cornell, changed)[0][0].comment_id == rows[0].comment_id


DAMAGE: list[tuple[str, str | bytes, str]] = [  # file, line, its flaw
    ("lines", "L9 +++$+++ u0 +++$+++ m0 +++$+++ Too few.", "wrong_fields"),
    ("lines", line("L9", f"Too{SEPARATOR}many."), "wrong_fields"),
    ("lines", "L9\tu0\tm0\tANNA\tTabs.", "wrong_fields"),
    ("lines", "", "blank"),
    ("lines", "  ", "blank"),
    ("lines", line("L9", "N\0L"), "nul"),
    ("lines", line("L1", "The same id again."), "duplicate_id"),
    ("lines", line("L9", "x" * (1 << 20)), "too_long"),
    ("lines", line("L9", "Nobody answers."), "in_no_conversation"),
    ("lines", line("L9", "Ünïcode.").encode(), "as_utf_8"),
    ("conversations", "u0 +++$+++ u1 +++$+++ ['L0', 'L1']", "wrong_fields"),
    ("conversations", "u0 +++$+++ u1 +++$+++ m0 +++$+++ ['L0', 'L1", "unreadable"),
    ("conversations", "u0 +++$+++ u1 +++$+++ m0 +++$+++ L0, L1", "unreadable"),
    ("conversations", "u0 +++$+++ u1 +++$+++ m0 +++$+++ " + "[" * 100_000, "unreadable"),
    ("conversations", "u0 +++$+++ u1 +++$+++ m0 +++$+++ [__import__('os')]", "unreadable"),
    ("conversations", conversation("L0"), "single_line"),
    ("conversations", conversation(), "single_line"),
    ("conversations", conversation("L0", "L1", "L2", "L3"), "repeated_line"),
    ("conversations", conversation("L8", "L3"), "repeated_line"),
    ("conversations", conversation("L8", "L9", "L8"), "repeated_line"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "damaged", "flaw"), DAMAGE)
def test_a_damaged_line_is_counted_and_the_others_are_read(
    where: str, damaged: str | bytes, flaw: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = four_lines(tmp_path / "films", *([damaged] if where == "lines" else []), conversations=(damaged,) * (where != "lines"))
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    assert len(rows) == 3
    counts = Counter(manifest["lines"][f"movie_{where}.txt"])
    assert counts[flaw] == 1 and counts["read"] == (5 if where == "lines" else 2)
    other = {"as_utf_8": {"in_no_conversation"}}.get(flaw, set())
    assert counts.keys() == {"read", flaw} | other
    printed = capsys.readouterr().out.splitlines()
    assert [each for each in printed if flaw in each] == [each for each in printed if each.startswith(f"movie_{where}.txt: ")]


def test_pairs_without_a_line_or_a_text_are_counted(tmp_path: Path) -> None:
    path = four_lines(
        tmp_path / "films", line("L5", ""), line("L6", "").rstrip(), line("L7", "(leaves)"), line("L8", "Wait!"),
        conversations=(conversation("L8", "L404", "L5", "L6", "L7"), conversation("L500", "L501")),
    )  # fmt: skip
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    assert len(rows) == 3 and manifest["dropped"] == {"missing_line": 3, "no_text": 2}
    assert manifest["lines"]["movie_lines.txt"] == {"read": 8}


def test_a_line_cut_off_at_the_end(tmp_path: Path) -> None:
    path = four_lines(tmp_path / "films")
    whole = (path / "movie_lines.txt").read_bytes()
    (path / "movie_lines.txt").write_bytes(whole[:-3])  # in the text: the rest is used, but counted
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    assert rows[-1].reply == "The goat'" and manifest["lines"]["movie_lines.txt"]["no_line_end"] == 1
    (path / "movie_lines.txt").write_bytes(whole[:-25])  # in the separators
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    counts = manifest["lines"]["movie_lines.txt"]
    assert (len(rows), counts["no_line_end"], counts["wrong_fields"], manifest["dropped"]) == (2, 1, 1, {"missing_line": 1})


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_encodings_and_line_ends(end: bytes, tmp_path: Path) -> None:
    said = [b"Caf\xe9 \x96 don\x92t!", "Naïve café.".encode(), b"\xa3 5", b"Plain."]
    lines = [line(f"L{number}", "").encode() + each for number, each in enumerate(said)]
    path = write_cornell(tmp_path / "films", [*lines], [conversation("L0", "L1", "L2", "L3")], end)
    rows, manifest = extracted(tmp_path, Source.cornell, path)
    assert [rows[0].comment, *(row.reply for row in rows)] == ["Café – don’t!", "Naïve café.", "£ 5", "Plain."]
    assert manifest["lines"]["movie_lines.txt"]["as_utf_8"] == 1


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("There's no <u>why</u>.", "There's no why."),
        ("<I>He</I> did, <B>not</B> I.<br/>Ask!", "He did, not I. Ask!"),
        ('<font color="red">Red.</font>', "Red."),
        ("Is 3 < 4 > 2?", "Is 3 < 4 > 2?"),
        ("Come in, <Joe>.", "Come in, <Joe>."),
        ("(to Anna) Now. (beat) Go!", "Now.  Go!"),
        ("[Within] Who's there?", "Who's there?"),
        ("[Where is the money?] [In the boat.]", "Where is the money? In the boat."),
        ("Sixteen.[10]", "Sixteen."),
        ("Well [unclosed", "Well [unclosed"),
        ("[removed]", ""),
    ],
)
def test_tags_and_stage_directions(written: str, spoken: str) -> None:
    assert dialogues.spoken(written) == spoken


def damaged_zip(path: Path, kind: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/movie_lines.txt", "\n".join(line(f"L{number}", said) for number, said in enumerate(SAID)))
        if kind != "missing":
            archive.writestr("a/movie_conversations.txt", conversation("L0", "L1"))
        if kind == "twice":
            archive.writestr("b/movie_lines.txt", "")
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    if kind == "changed":
        path.write_bytes(content.replace(b"goat", b"moat"))
    first = content.index(b"PK\x01\x02")  # in the list of members: the version that is needed, and a name in UTF-8
    if kind == "newer":
        path.write_bytes(content[: first + 6] + b"\x63" + content[first + 7 :])
    if kind == "inner names":  # in front of the file itself
        path.write_bytes(content[:7] + b"\x08" + content[8:30] + b"\xff" + content[31:])
    if kind == "names":
        path.write_bytes(content[: first + 9] + b"\x08" + content[first + 10 : first + 46] + b"\xff" + content[first + 47 :])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "has no movie_conversations.txt"),
        ("twice", "has 2 files movie_lines.txt; keep one"),
        ("cut", "neither a folder nor a valid zip file"),
        ("changed", "movie_lines.txt cannot be read .*; download it again"),
        ("newer", "neither a folder nor a valid zip file"),
        ("names", "neither a folder nor a valid zip file"),
        ("inner names", "movie_lines.txt cannot be read .*; download it again"),
    ],
)
def test_unusable_zips(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        extracted(tmp_path, Source.cornell, damaged_zip(tmp_path / "films.zip", kind))
    assert "\n" not in str(error.value) and not list((tmp_path / "out").glob("*"))


def test_files_of_another_format_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"movie_lines.txt.* contains no pair \(.*wrong_fields 2.*\); is it the right file\?"):
        extracted(tmp_path, Source.cornell, write_cornell(tmp_path / "films", ["a,b", "c,d"], [conversation("L0", "L1")]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: has no movie_lines.txt; --in must be the corpus with"):
        extracted(tmp_path, Source.cornell, tmp_path / "empty")
    with pytest.raises(UserError, match=r"nowhere: no such file or folder; correct --in"):
        extracted(tmp_path, Source.cornell, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"--in is missing: give the folder or zip of the corpus"):
        extracted(tmp_path, Source.cornell, None)


def test_a_failed_extraction_leaves_the_earlier_one(tmp_path: Path) -> None:
    rows, _ = extracted(tmp_path, Source.cornell, four_lines(tmp_path / "films"))
    with pytest.raises(UserError, match="contains no pair"):
        extracted(tmp_path, Source.cornell, write_cornell(tmp_path / "other", ["a"], ["b"]))
    assert len(prepare.read_pairs(tmp_path / "out")[0]) == len(rows) == 3


# --- chats ------------------------------------------------------------------------------------------------------------------------


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """Install a package with the name and the data file of chitchat-dataset."""
    package = tmp_path / "site" / "chitchat_dataset"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "dataset.json").write_text(content)
    monkeypatch.delitem(sys.modules, "chitchat_dataset", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")


def message(said: str, sender: str, time: str) -> dict[str, str]:
    return {"text": said, "timestamp": time, "sender": sender}


def test_turns_of_a_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = "1970-01-02T00:00:"
    chat = [
        [message("Hello", "a", f"{day}01Z"), message("is it <em>raining</em>?", "a", f"{day}02Z")],
        [message("Only (a bit) here", "b", f"{day}05")],
        [message(" ", "a", "soon")],
        [],
        [message("Bye!", "a", "soon")],
        [message("Bye.", "b", f"{day}09Z")],
    ]
    data = {"x": {"messages": chat, "prompt": "Rain?", "start": ""}, "y": {"messages": chat[:1]}, "z": {"messages": 3}, "w": {}, "v": "no",
            "u": {"messages": chat, "prompt": 5}, "\ud800": {"messages": [chat[4], chat[5]]}}  # fmt: skip
    install(tmp_path, monkeypatch, json.dumps(data))
    rows, manifest = extracted(tmp_path, Source.chitchat, None)
    assert texts(rows) == [("Hello is it raining?", "Only (a bit) here"), ("Bye!", "Bye."), ("Bye!", "Bye.")]
    assert [(row.comment_utc, row.reply_utc, row.depth, row.submission) for row in rows] == [
        (86401, 86405, 0, "Rain?"), (None, 86409, 4, "Rain?"), (None, 86409, 0, ""),
    ]  # fmt: skip
    assert {row.subreddit for row in rows} == {"corpus-chitchat"} and {row.reply_karma for row in rows} == {None}
    assert manifest["lines"] == {"dataset.json": {"read": 7, "single_line": 1, "wrong_type": 4}} and manifest["dropped"] == {"no_text": 3}


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", "3"])
def test_a_damaged_package(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, content)
    with pytest.raises(UserError, match=r"install chitchat-dataset==\S+ again"):
        extracted(tmp_path, Source.chitchat, None)


def test_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chitchat_dataset", None)
    version = re.search(r"^chitchat-dataset==\S+$", (ROOT / "requirements.txt").read_text(), re.M)
    assert version
    with pytest.raises(UserError, match=rf"the package {version[0]} is not installed; run `pip install {version[0]}`"):
        extracted(tmp_path, Source.chitchat, None)
    with pytest.raises(UserError, match=r"--in x: --source chitchat reads an installed package; remove --in"):
        extracted(tmp_path, Source.chitchat, Path("x"))


def test_all_chats_of_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own test counts 131,569 pairs; in some, one of the texts is blank."""
    monkeypatch.delitem(sys.modules, "chitchat_dataset", raising=False)
    pytest.importorskip("chitchat_dataset")
    counts = dialogues.Counts()
    with dialogues.chitchat_file() as path:
        rows = list(dialogues.chitchat(path, counts))
    assert len(rows) + counts.dropped["no_text"] == 131_569 and 0 < counts.dropped["no_text"] < 100
    assert all(row.comment_utc and row.reply_utc for row in rows)


# --- files of pairs ---------------------------------------------------------------------------------------------------------------

PAIRS = [("Any good books?", "Dune, twice."), ("Is it long?", 'Very.\nBut "good".'), ("Any good books?", "Emma; obviously.")]


def as_json(rows: list[tuple[str, str]]) -> bytes:
    return b"".join(json.dumps({"comment": comment, "reply": reply}).encode() + b"\n" for comment, reply in rows)


def as_csv(rows: list[tuple[str, str]], delimiter: str = ",", header: tuple[str, ...] = ("comment", "reply"), end: str = "\r\n") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, header, restval="7", delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(
        {name: row[("comment", "reply").index(name.lower())] for name in header if name.lower() in ("comment", "reply")} for row in rows
    )
    return file.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "content", "corpus"),
    [
        ("film.jsonl", as_json(PAIRS), "film"),
        ("My Film_pairs.v2.JSONL", b"\xef\xbb\xbf\n\n" + as_json(PAIRS), "my-film-pairs-v2"),
        ("film.jsonl.gz", gzip.compress(as_json(PAIRS)), "film"),
        ("film.ndjson.zst", zstandard.ZstdCompressor().compress(as_json(PAIRS)), "film"),
        ("film", as_json(PAIRS).replace(b"\n", b"\r\n"), "film"),
        ("film.csv", as_csv(PAIRS), "film"),
        ("2017-01.csv", as_csv(PAIRS), "2017-01"),
        ("film.csv.gz", gzip.compress(as_csv(PAIRS, end="\n")), "film"),
        ("film.csv", b"\xef\xbb\xbf" + as_csv(PAIRS, ";", ("id", "Reply", "Comment", "note")), "film"),
        ("film.tsv.zst", zstandard.ZstdCompressor().compress(b"\n" + as_csv(PAIRS, "\t", ("reply", "comment"))), "film"),
    ],
)
def test_formats_of_pairs(name: str, content: bytes, corpus: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    rows, manifest = extracted(tmp_path, Source.pairs, tmp_path / name)
    assert texts(rows) == PAIRS and manifest["dropped"] == {}
    assert {row.subreddit for row in rows} == {f"corpus-{corpus}"} and (tmp_path / "out" / f"corpus-{corpus}.parquet").exists()
    assert {(row.depth, row.reply_karma, row.reply_utc) for row in rows} == {(None, None, None)}
    assert len({row.reply_id for row in rows}) == 3
    assert rows[0].comment_id == rows[2].comment_id != rows[1].comment_id and rows[0].thread_id == rows[2].thread_id != rows[1].thread_id


def test_a_reply_that_is_the_next_comment_goes_on_with_the_conversation(tmp_path: Path) -> None:
    rows = [("one", "two"), ("two", "three"), ("three", "four"), ("two", "five"), ("other", "one"), ("six", "seven")]
    (tmp_path / "chain.jsonl").write_bytes(as_json(rows))
    threads = [row.thread_id for row in extracted(tmp_path, Source.pairs, tmp_path / "chain.jsonl")[0]]
    assert threads[0] == threads[1] == threads[2] == threads[3] and len(set(threads)) == 3


def test_conversations_of_shuffled_pairs(tmp_path: Path) -> None:
    long = [f"line {number} of the first conversation, which is a long one" for number in range(4)]
    chain = [*pairwise(long), (long[3], "Yes."), ("Yes.", "So it is.")]  # the last pair follows the one before it only if it stands there
    rows = [chain[2], ("Who?", "Yes."), chain[0], ("other", "No."), chain[4], chain[1], chain[3]]
    (tmp_path / "shuffled.jsonl").write_bytes(as_json(rows))
    found = extracted(tmp_path, Source.pairs, tmp_path / "shuffled.jsonl")[0]
    threads = {(row.comment, row.reply): row.thread_id for row in found}
    assert len({threads[pair] for pair in chain[:4]}) == 1 and len(set(threads.values())) == 4


@pytest.mark.parametrize(
    ("suffix", "damaged", "flaw"),
    [
        ("jsonl", b"{not json}", "unreadable"),
        ("jsonl", b'{"comment": "a", "repl', "unreadable"),
        ("jsonl", b'["comment", "reply"]', "unreadable"),
        ("jsonl", b'{"comment": ' + b"9" * 5_000 + b', "reply": "x"}', "unreadable"),
        ("jsonl", b"{" * 100_000, "unreadable"),
        ("jsonl", b'{"comment": ' + b"[" * 100_000, "unreadable"),
        ("jsonl", b'{"comment": "a"}', "missing_key"),
        ("jsonl", b'{"comment": "a", "reply": null}', "missing_key"),
        ("jsonl", b'{"comment": "a", "reply": 7}', "wrong_type"),
        ("jsonl", b'{"comment": "a", "reply": "caf\xe9"}', "not_utf_8"),
        ("jsonl", b'{"comment": "a", "reply": "b\\u0000c"}', "nul"),
        ("jsonl", b'{"comment": "a", "reply": "' + b"x" * (1 << 20) + b'"}', "too_long"),
        ("jsonl", b"   ", "blank"),
        ("csv", b"only one", "wrong_fields"),
        ("csv", b"one,two,three", "wrong_fields"),
        ("csv", b'"a"b,c', "broken_quotes"),
        ("csv", b"caf\xe9,c", "not_utf_8"),
        ("csv", b"a\0b,c", "nul"),
        ("csv", b"", "blank"),
        ("csv", b",", "blank"),
    ],
)
def test_a_damaged_pair_is_counted_and_the_others_are_read(
    suffix: str, damaged: bytes, flaw: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (
        (as_json(PAIRS[:1]), as_json(PAIRS[1:])) if suffix == "jsonl" else (as_csv(PAIRS[:1]), as_csv(PAIRS[1:])[len(as_csv([])) :])
    )
    path = tmp_path / f"film.{suffix}"
    path.write_bytes(before + damaged + b"\n" + after)
    rows, manifest = extracted(tmp_path, Source.pairs, path)
    assert texts(rows) == PAIRS
    assert {name: count for name, count in manifest["lines"][path.name].items() if name != "read"} == {flaw: 1}
    assert f"film.{suffix}: " in capsys.readouterr().out


def test_an_unclosed_quote_counts_all_its_lines(tmp_path: Path) -> None:
    (tmp_path / "film.csv").write_text('comment,reply\nWhy?,Because.\nWho?,"Me\na,b\nc,d\n')
    rows, manifest = extracted(tmp_path, Source.pairs, tmp_path / "film.csv")
    assert texts(rows) == [("Why?", "Because.")] and manifest["lines"]["film.csv"] == {"read": 5, "broken_quotes": 3}


def test_repeated_and_empty_pairs_are_counted(tmp_path: Path) -> None:
    (tmp_path / "film.jsonl").write_bytes(as_json([*PAIRS, PAIRS[0], ("Why?", " "), ("<i></i>", "So."), ("[deleted]", "Why?")]))
    rows, manifest = extracted(tmp_path, Source.pairs, tmp_path / "film.jsonl")
    assert texts(rows) == [*PAIRS, ("[deleted]", "Why?")]  # `prepare` drops and counts it
    assert manifest["dropped"] == {"duplicate": 1, "no_text": 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("film.csv", b"question,answer\na,b\n", "neither JSON lines nor CSV with one column comment and one column reply"),
        ("film.csv", b"comment,reply\ra,b\r", "neither JSON lines nor CSV"),
        ("film.csv", b"comment,reply,reply\na,b,c\n", "neither JSON lines nor CSV"),
        ("film.bin", bytes(range(256)) * 9, "neither JSON lines nor CSV"),
        ("film.csv", "comment,reply\na,b\n".encode("utf-16"), "UTF-16, expected UTF-8; save it as UTF-8"),
        ("film.json", b'[{"comment": "a", "reply": "b"}]', "a JSON array, expected JSON lines"),
        ("film.json", b'[\n{"comment": "a", "reply": "b"}\n]', "a JSON array, expected JSON lines"),
        ("film.jsonl", b'{"parent": "a", "child": "b"}\n', r"contains no pair \(film.jsonl: 1 lines: missing_key 1; no pair: none\)"),
        ("film.jsonl", b"\n\n", "contains no pair"),
        ("film.csv", b"comment,reply\n", "contains no pair"),
        ("film.jsonl", b"", "the file is empty"),
        ("film.jsonl.gz", gzip.compress(as_json(PAIRS))[:-9], "not a valid gz file"),
        ("film.jsonl.zst", zstandard.ZstdCompressor().compress(as_json(PAIRS))[:-3], "not a valid zst file"),
        ("film.jsonl.gz", as_json(PAIRS), "not a valid gz file"),
        ("reddit.jsonl", as_json(PAIRS), "reddit cannot be the name of a file of pairs; rename it"),
        ("cornell.csv", as_csv(PAIRS), "cornell cannot be the name of a file of pairs"),
    ],
)
def test_files_that_hold_no_pairs(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        extracted(tmp_path, Source.pairs, tmp_path / name)
    assert "\n" not in str(error.value) and str(error.value).isprintable() and name in str(error.value)
    assert not list((tmp_path / "out").glob("*"))


# --- any input --------------------------------------------------------------------------------------------------------------------

PIECES = st.one_of(st.sampled_from([SEPARATOR, "\n", "L0", "L1", "['L0', 'L1']", "[", "'", ",", '"', ";", "\0", "\r", "{", "}"]), ANY_TEXT)
NOISE = st.lists(PIECES, max_size=8).map(lambda each: "".join(each).encode("utf-8", "surrogatepass"))


def has_contract(rows: list[Pair]) -> None:
    """Texts are not empty and can be written; a reply occurs once; no line is in two conversations."""
    assert all(
        row.comment.strip() and row.reply.strip() and text.well_formed(row.comment + row.reply) == row.comment + row.reply for row in rows
    )
    assert len({row.reply_id for row in rows}) == len(rows)
    threads = {(name, row.thread_id) for row in rows for name in (row.comment_id, row.reply_id)}
    assert len(threads) == len({name for name, _ in threads})


@given(NOISE | st.binary(max_size=200), NOISE | st.binary(max_size=200))
def test_any_film_files_give_pairs_in_the_contract(lines: bytes, conversations: bytes) -> None:
    counts = dialogues.Counts()
    good = "\n".join(line(f"L{number}", said) for number, said in enumerate(SAID)).encode()
    has_contract(list(dialogues.cornell([good, b"\n", lines], [conversations, b"\n", conversation("L2", "L3").encode()], counts)))
    for name, blocks in (("movie_lines.txt", good + b"\n" + lines), ("movie_conversations.txt", conversations + b"\n.")):
        assert counts.lines[name]["read"] == len(blocks.removesuffix(b"\n").split(b"\n"))


@given(st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=6))
def test_any_conversations_count_every_pair_once(listed: list[list[int]]) -> None:
    counts = dialogues.Counts()
    lines = "\n".join(line(f"L{number}", said) for number, said in enumerate(SAID)) + "\n"
    conversations = "".join(conversation(*(f"L{number}" for number in each)) + "\n" for each in listed)
    rows = list(dialogues.cornell([lines.encode()], [conversations.encode()], counts))
    has_contract(rows)
    used: set[int] = set()
    expected = Counter[str]()
    for each in listed:
        if len(each) < 2:
            expected["single_line"] += 1
        elif len(set(each)) < len(each) or used & set(each):
            expected["repeated_line"] += 1
        else:
            used |= set(each)
            expected["pairs"] += len(each) - 1
    of_conversations = counts.lines["movie_conversations.txt"]
    assert {name: of_conversations[name] for name in ("single_line", "repeated_line")} == {
        name: expected[name] for name in ("single_line", "repeated_line")
    }
    assert len(rows) + counts.dropped["missing_line"] == expected["pairs"]


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=5), NOISE, st.sampled_from(["jsonl", "csv"]))
def test_any_pairs_give_pairs_in_the_contract(tmp_path: Path, rows: list[tuple[str, str]], noise: bytes, suffix: str) -> None:
    well_formed = [(text.well_formed(comment), text.well_formed(reply)) for comment, reply in rows]
    path = tmp_path / f"any.{suffix}"
    path.write_bytes((as_json(rows) if suffix == "jsonl" else as_csv(well_formed)) + noise)
    counts = dialogues.Counts()
    has_contract(found := list(dialogues.pairs("any", path, counts)))
    usable = {
        tuple(map(dialogues.without_tags, row)) for row in well_formed if "\0" not in "".join(row) and all(map(dialogues.without_tags, row))
    }
    if suffix == "jsonl":  # noise after CSV may continue its last row
        assert usable <= set(texts(found))


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_lines_do_not_depend_on_the_blocks(blocks: list[bytes]) -> None:
    from bot.corpus.pair_files import lines_of

    counts: Counter[str] = Counter()
    whole = list(lines_of([b"".join(blocks)], Counter()))
    assert list(lines_of(blocks, counts)) == whole and counts["read"] == len(whole)


# --- from the corpora to training files --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 conversations of four film lines, and 300 threads of Reddit."""
    folder = tmp_path_factory.mktemp("mixture")
    lines = [line(f"L{number}", f"<i>Line</i> number {number} speaks of {'abcdefghij'[number % 10] * 4}.") for number in range(160)]
    path = write_cornell(folder / "films", [*lines], [conversation(*(f"L{4 * first + each}" for each in range(4))) for first in range(40)])
    extract.main(source=Source.cornell, corpus=path, out=folder / "raw")
    reddit = [
        pair(f"question {number}?", f"Answer {number}.", number, thread_id=f"t3_{number}", comment_id=f"t1_c{number}")
        for number in range(300)
    ]
    write_extract(folder / "raw", reddit)
    return folder / "raw"


def lm(folder: Path) -> dict[str, list[LmRow]]:
    return {split: schema.read_rows(folder / f"lm_{split}.csv", LmRow) for split in prepare.SPLITS}


def test_from_films_to_training_files(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main(raw, tmp_path / "out", minimum_karma=3)
    rows = lm(tmp_path / "out")
    everything = [row for each in rows.values() for row in each]
    assert Counter(row.subreddit for row in everything) == {"corpus-cornell": 120, "books": 300}
    assert "Line number 1 speaks of bbbb." in {row.reply for row in everything}
    threads = {split: {row.thread_id for row in each} for split, each in rows.items()}
    assert sum(map(len, threads.values())) == len(set().union(*threads.values())) == 340  # a conversation is in one split
    for split in prepare.SPLITS:
        upvote = schema.read_rows(tmp_path / "out" / f"upvote_{split}.csv", schema.UpvoteRow)
        assert {row.subreddit for row in upvote} == {"books"}
        manifest = files.read_manifest(tmp_path / "out" / f"upvote_{split}.csv") or {}
        assert manifest["left_out"] == {"no_karma_or_time": 120}
    manifest = files.read_manifest(tmp_path / "out" / "lm_train.csv") or {}
    assert manifest["corpora"] == {"cornell": 120, "reddit": 300} and manifest["left_out"] == {"to_submission": 0, "low_karma": 0}
    relevance = schema.read_rows(tmp_path / "out" / "relevance_train.csv", schema.LabelledRow)
    assert {row.label for row in relevance if row.subreddit == "corpus-cornell"} == {0, 1}
    counts = re.search(r"│ cornell +│ 120 +│ 120 +│ (\d+) +│ (\d+) +│ (\d+) +│ 0 +│\n", capsys.readouterr().out)
    assert counts and [*map(int, counts.groups())] == [sum(row.subreddit == "corpus-cornell" for row in each) for each in rows.values()]


def test_a_mixture_of_corpora(raw: Path, tmp_path: Path) -> None:
    prepare.main(raw, tmp_path / "all")
    prepare.main(raw, tmp_path / "mixed", mixture=["cornell=1", "reddit=2"])
    prepare.main(raw, tmp_path / "films", mixture=["cornell=1", "reddit=0"])
    whole, mixed, films = (lm(tmp_path / name) for name in ("all", "mixed", "films"))
    counts = Counter(row.subreddit for row in mixed["train"])
    films_in_all = sum(row.subreddit == "corpus-cornell" for row in whole["train"])
    assert counts == {"corpus-cornell": films_in_all, "books": 2 * films_in_all} and 90 < films_in_all < 120
    chosen = {row.reply_id for row in mixed["train"]}
    assert len(chosen) == counts.total() and chosen < {row.reply_id for row in whole["train"]}
    assert {row.subreddit for row in films["train"]} == {"corpus-cornell"}
    for split in ("val", "test"):
        assert mixed[split] == whole[split] == films[split]
    finetune = schema.read_rows(tmp_path / "mixed" / "gpt2_finetune.csv", schema.FinetuneText)
    assert [row.text for row in finetune] == [text.format_training_text(row.comment, row.reply) for row in mixed["train"]]
    manifest = files.read_manifest(tmp_path / "mixed" / "lm_train.csv") or {}
    assert manifest["made_from"]["mixture"] == {"cornell": 1.0, "reddit": 2.0}
    assert manifest["left_out"]["mixture"] == len(whole["train"]) - len(mixed["train"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["cornell"], "--mixture cornell: give each corpus once, as NAME=WEIGHT"),
        (["cornell=-1"], "NAME=WEIGHT"),
        (["cornell=nan"], "NAME=WEIGHT"),
        (["cornell=1", "cornell=2"], "give each corpus once"),
        (["cornell=0", "reddit=0"], "all weights are 0"),
        (["cornell=1", "reddit=1", "film=1"], "no training row is from film; the corpora are cornell, reddit"),
        (["cornell=1"], "reddit has no weight; add reddit=WEIGHT, or reddit=0 to leave it out"),
    ],
)
def test_mixtures_that_do_not_fit(weights: list[str], message: str, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        prepare.main(raw, tmp_path / "out", mixture=weights)
    assert not (tmp_path / "out").exists()


@given(st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1))
def test_a_mixture_has_the_shares_of_its_weights(corpora: dict[str, tuple[int, int]]) -> None:
    rows = [LmRow("", "", f"{name}{number}", f"corpus-{name}", "", "") for name, (count, _) in corpora.items() for number in range(count)]
    weights = {name: weight for name, (_, weight) in corpora.items()}
    if not any(weights.values()):
        return
    mixed = pairs.mix(rows, weights)
    counts = Counter(pairs.corpus_of(row.subreddit) for row in mixed)
    assert [row for row in rows if row in mixed] == mixed  # in order, none twice
    total = sum(weights.values())
    assert all(abs(counts[name] - len(mixed) * weight / total) <= 2 for name, weight in weights.items())
    assert any(counts[name] == count for name, (count, weight) in corpora.items() if weight)  # as many as possible


# --- options ----------------------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bot", "extract", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_line(tmp_path: Path) -> None:
    path = four_lines(tmp_path / "films", "")
    done = run("--source", "cornell", "--in", str(path), "--out", str(tmp_path / "raw"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "movie_lines.txt: 5 lines: blank 1", "movie_conversations.txt: 1 lines: all usable", "no pair: none",
        f"{tmp_path}/raw/corpus-cornell.parquet: 3 pairs of 1 conversations, without karma",
    ]  # fmt: skip
    wrong = run("--source", "pairs", "--in", str(path), "--out", str(tmp_path / "raw"))
    assert (wrong.returncode, wrong.stdout) == (1, "") and wrong.stderr.count("\n") == 1 and "not a file; --in must be" in wrong.stderr


def test_options_of_the_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--from, --subreddit: only for Reddit data, not for --source cornell; remove it"):
        extract.main("2017-01", source=Source.cornell, subreddit=["books"], corpus=tmp_path, out=tmp_path)
    with pytest.raises(UserError, match=r"--in .*: only for --source cornell and pairs"):
        extract.main(dump_folder=tmp_path, corpus=tmp_path, out=tmp_path)
    with pytest.raises(UserError, match="would destroy the input"):
        (tmp_path / "corpus-film.parquet").write_bytes(as_json(PAIRS))
        (tmp_path / "film.jsonl").hardlink_to(tmp_path / "corpus-film.parquet")
        extract.main(source=Source.pairs, corpus=tmp_path / "film.jsonl", out=tmp_path)
