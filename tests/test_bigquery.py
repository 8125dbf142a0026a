"""Extraction from BigQuery: the real client and a local emulator give the same rows as dumps."""

from __future__ import annotations

import http.server
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import duckdb
import google.auth
import pytest
import requests
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import RefreshError

from bot import config, files, schema
from bot.cli import ROOT, UserError
from bot.corpus import bigquery, extract
from bot.corpus.dumps import COMMENTS, SUBMISSIONS, duckdb_query
from bot.corpus.extract import Parents, Source
from bot.corpus.warehouse import Selection, parameters, query
from tests.test_extract import comment, pairs_of, submission, utc, write_dump

MONTHS = ("2016-11", "2016-12", "2017-01", "2017-02")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty emulator."""
    program = ROOT / ".venv-emulator" / "bin" / "bqemulator"
    assert program.exists(), "no BigQuery emulator; `make test` installs it"
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1], other.getsockname()[1]]
    log = (tmp_path_factory.mktemp("emulator") / "log").open("w")
    process = subprocess.Popen(
        [program, "start", "--rest-port", str(ports[0]), "--grpc-port", str(ports[1]), "--ephemeral", "--log-level", "error"],
        env={**os.environ, "HOME": str(ROOT / ".venv-emulator")}, stdout=log, stderr=log,
    )  # fmt: skip
    address = f"http://127.0.0.1:{ports[0]}"
    deadline = time.monotonic() + 60
    while True:
        try:
            requests.get(f"{address}/bigquery/v2/projects/none/datasets", timeout=5)
            break
        except requests.ConnectionError:
            assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()[-2000:]
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


def settings(path: Path, address: str, project: str = "tests") -> Path:
    path.write_text(f'[bigquery]\nproject = "{project}"\nendpoint = "{address}"\n')
    return path


DAYS = [f"{month}-{day:02d}" for month in MONTHS for day in (1, 9, 17, 28)]
BODIES = {
    "[deleted]": 3, " [Removed]": 2, "": 1, "\t": 1, "plain": 60, 'quotes " and, commas\nand lines': 20, "\U0001f600 \u05d0": 5, "x\0y": 1,
    "w " * 20_000: 1, "=1+1": 2, "[ Removed by Reddit on account of violating the [content policy](/help/contentpolicy). ]": 2,
    "[removed by moderator]\n": 2, "[ Removed by Reddit ] is all I see": 2,
}  # fmt: skip


def random_rows(rng: random.Random, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Random comments and submissions over MONTHS that include all special cases."""
    authors = ["[deleted]", None, "haiku_bot", "AutoModerator", "TitleBot2", "bot-of-books", *(f"reader_{n}" for n in range(40))]
    heads = [
        submission(
            f"s{n}", rng.choice(DAYS[:12]), title=rng.choice(["[deleted]", "A title", "B\ntitle", "[ Removed by Reddit ]"]),
            selftext=rng.choice(["", None, "[removed]", "text"]), author=rng.choice([f"author_of_s{n}", "weekly-bot", None]),
            score=rng.choice([None, 5]),
        )
        for n in range(60)
    ]  # fmt: skip
    rows: list[dict[str, Any]] = []
    for n in range(count):
        earlier = rng.choice(rows[-400:]) if rows else None
        thread = f"s{rng.randrange(66)}"  # six threads have no submission
        if earlier and rng.random() < 0.9:  # otherwise the parent is in another thread
            thread = earlier["link_id"][3:]
        # a submission, an earlier, a later and a missing comment, and the comment itself
        parents = [f"t3_{thread}", f"t1_{earlier['id']}" if earlier else "t1_none", f"t1_c{n + 1}", "t1_missing", f"t1_c{n}"]
        parent = rng.choices(parents, [30, 60, 3, 5, 2])[0]
        rows.append(
            comment(
                f"c{n}", parent, DAYS[n * len(DAYS) // count], link_id=f"t3_{thread}",
                subreddit=rng.choice(["Books", "movies", "MUSIC"]), body=rng.choices([*BODIES], [*BODIES.values()])[0],
                author=rng.choice([*authors, *[f"author_of_{thread}"] * 5]), score=rng.choice([None, -3, 0, 1, 2_000_000]),
            )
        )  # fmt: skip
    rows += [dict(row, score=rng.randrange(9)) for row in rng.sample(rows, count // 75)]  # duplicates
    return rows, heads


def as_in_old_dumps(row: dict[str, Any], number: int) -> dict[str, Any]:
    """The same comment in other notations: a parent that is null, without prefix or a number; a float time; half of a surrogate pair."""
    parent: Any = row["parent_id"]
    if parent == row["link_id"]:
        parent = [parent, None][number % 2]
    elif parent.startswith("t1_c"):
        parent = [parent, parent[3:], int(parent[3:], 36), str(int(parent[3:], 36))][number % 4]
    time_ = row["created_utc"]
    return row | {
        "parent_id": parent,
        "created_utc": [time_, float(time_), str(time_)][number % 3],
        "author_flair_text": ["\ud83d", "b"][number % 2],
    }


def random_dumps(folder: Path) -> Path:
    """Dumps with a few thousand rows, some of them unusable."""
    rows, heads = random_rows(random.Random(7), 3000)
    folder.mkdir()
    flawed = [b"{}", b"not json", comment("flawed", "t3_s1", body=None), comment("flawed", "t3_s1", created_utc="soon")]
    for month in MONTHS:
        comments = [
            row
            for row in rows
            if f"{utc(month + '-01') - 86400}" <= f"{row['created_utc']}" and row["created_utc"] < utc(month + "-28") + 86400
        ]
        written = [as_in_old_dumps(row, number) for number, row in enumerate(comments)]
        write_dump(folder / f"RC_{month}.zst", [*written, *flawed])
        if month != "2016-11":
            write_dump(folder / f"RS_{month}.zst", [row for row in heads if utc(month + "-01") <= row["created_utc"] <= utc(month + "-28")])
    return folder


@pytest.fixture(scope="module")
def loaded(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The dumps, and the config for the tables they were loaded into."""
    folder = tmp_path_factory.mktemp("bigquery")
    toml = settings(folder / "bigquery.toml", emulator)
    random_dumps(folder / "dumps")
    extract.main(MONTHS[0], MONTHS[-1], dump_folder=folder / "dumps", out=folder / "load", load_bigquery=True, config_file=toml)
    return folder / "dumps", toml


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parents": Parents.submission},
        {"parents": Parents.both, "lookback_months": 1, "drop_deleted_authors": True},
        {"parents": Parents.both, "subreddit": ["books", "Music"]},
        {"lookback_months": 0},
    ],
)
def test_bigquery_gives_the_same_rows_as_dumps(loaded: tuple[Path, Path], tmp_path: Path, options: dict) -> None:
    dumps, toml = loaded
    extract.main("2016-12", "2017-02", dump_folder=dumps, out=tmp_path / "dumps", **options)
    extract.main("2016-12", "2017-02", Source.bigquery, out=tmp_path / "bigquery", config_file=toml, **options)
    rules: set[str] = set()
    for month in MONTHS[1:]:
        from_dumps, from_bigquery = pairs_of(tmp_path / "dumps", month), pairs_of(tmp_path / "bigquery", month)
        assert len(from_dumps) > 15 and from_bigquery == from_dumps
        assert not any("[removed by" in f"{row}".lower() and "all I see" not in f"{row}" for row in from_dumps)
        one, other = (files.read_manifest(tmp_path / name / f"{month}.parquet") or {} for name in ("dumps", "bigquery"))
        assert one["dropped"] == other["dropped"] and one["cross_month"] == other["cross_month"]
        rules |= one["dropped"].keys()
    if options.get("parents") is not Parents.submission and options.get("lookback_months") != 0:
        assert rules >= {
            "bot_comment", "bot_reply", "deleted_comment", "deleted_reply", "duplicate_id", "own_parent", "parent_not_found", "self_reply",
            "submitter_reply",
        }  # fmt: skip


POLICY = "[ Removed by Reddit on account of violating the [content policy](/help/contentpolicy). ]"
APRIL, MAY = utc("2019-04-30"), utc("2019-05-02")


def line(name: str, parent: object, **changes: Any) -> dict[str, Any]:
    """A line of May in the thread of the submission tea1. A change to `...` leaves the key out."""
    row = comment(name, "", "2019-05-02", **{"parent_id": parent, "link_id": "t3_tea1", **changes})
    return {key: value for key, value in row.items() if value is not ...}


NOTATIONS: list[dict[str, Any] | bytes] = [
    line("c0002", None),  # the submission
    line("c0003", int("c0001", 36)),  # c0001 is a comment of April
    line("c0004", str(int("c0003", 36)), created_utc=float(MAY)),
    line("c0005", float(int("c0003", 36)), created_utc=str(MAY)),
    line("c0006", "c0005", created_utc=f"{MAY}.0", score=7.0),
    line("c0007", "t1_c0006", link_id="tea1", score="-3"),
    line("c0008", "tea1", link_id=int("tea1", 36), score=None),
    line("c0009", "t1_c0003", author=..., score=...),
    line("c0010", "t1_c0003", unused={"x": ["\ud83d", "\ude00 cut"]}),
    line("c0011", "t1_c0003", body="cut \ud83d, typed \\ud83d, whole \U0001f600"),
    line("c0012", "t1_c0003", body="[ Removed by Reddit ] is all I see"),
    line("c0013", None, link_id="t3_tea2"),  # the text of this submission is a notice
    # without a pair
    line("d0001", "t1_c0003", body=POLICY),
    line("d0002", "t1_d0001"),
    line("d0003", None, link_id="t3_tea3"),  # title and text are notices
    line("d0004", "c0999"),
    # unusable
    line("e0001", ...),
    line("e0002", "t1_c0003", body=...),
    line("e0003", {"a": 1}),
    line("e0004", "t1_c0003", created_utc="soon"),
    line("e0005", "t1_c0003", body=["text"]),
    b'{"id": "e0006", "body": "cu',
]
# reply, its comment and that one's depth, the reply's text and karma; all of the same second
STATED = [
    ("t1_c0002", "t3_tea1", -1, "text of c0002", 5),
    ("t1_c0003", "t1_c0001", 0, "text of c0003", 5),
    ("t1_c0004", "t1_c0003", 1, "text of c0004", 5),
    ("t1_c0005", "t1_c0003", 1, "text of c0005", 5),
    ("t1_c0006", "t1_c0005", 2, "text of c0006", 7),
    ("t1_c0007", "t1_c0006", 3, "text of c0007", -3),
    ("t1_c0008", "t3_tea1", -1, "text of c0008", None),
    ("t1_c0009", "t1_c0003", 1, "text of c0009", None),
    ("t1_c0010", "t1_c0003", 1, "text of c0010", 5),
    ("t1_c0011", "t1_c0003", 1, "cut \ufffd, typed \\ud83d, whole \U0001f600", 5),
    ("t1_c0012", "t1_c0003", 1, "[ Removed by Reddit ] is all I see", 5),
    ("t1_c0013", "t3_tea2", -1, "text of c0013", 5),
]


def test_notations_of_real_dumps_give_the_stated_rows_from_both(emulator: str, tmp_path: Path) -> None:
    toml, dumps = settings(tmp_path / "bigquery.toml", emulator, "notations"), tmp_path / "dumps"
    dumps.mkdir()
    write_dump(dumps / "RC_2019-04.zst", [comment("c0001", "", parent_id=None, link_id="t3_tea1", created_utc=str(APRIL))])
    write_dump(dumps / "RC_2019-05.zst", NOTATIONS)
    heads = [
        submission("tea1", created_utc=str(float(APRIL - 60)), title="Which pot?", selftext="For two."),
        submission("tea2", created_utc=APRIL, title="The ending", selftext=POLICY),
        submission("tea3", created_utc=APRIL, title="[ Removed by moderator ]", selftext="[removed]"),
    ]
    write_dump(dumps / "RS_2019-04.zst", heads)
    both: dict[str, Any] = {"parents": Parents.both, "config_file": toml}
    extract.main(dump_folder=dumps, out=tmp_path / "load", load_bigquery=True, config_file=toml)
    extract.main("2019-05", "2019-05", Source.dumps, dump_folder=dumps, out=tmp_path / "dumps_out", **both)
    extract.main("2019-05", "2019-05", Source.bigquery, out=tmp_path / "bigquery_out", **both)
    texts = {"t3_tea1": "Which pot?\n\nFor two.", "t3_tea2": "The ending", "t1_c0001": "text of c0001"}
    texts |= {name: body for name, _, _, body, _ in STATED}
    for name in ("dumps_out", "bigquery_out"):
        pairs = pairs_of(tmp_path / name, "2019-05")
        assert [(pair.reply_id, pair.comment_id, pair.depth, pair.reply, pair.reply_karma) for pair in pairs] == STATED
        assert [pair.comment for pair in pairs] == [texts[pair.comment_id] for pair in pairs]
        assert {pair.reply_utc for pair in pairs} == {MAY} and {pair.subreddit for pair in pairs} == {"books"}
        assert {pair.thread_id: pair.submission for pair in pairs} == {"t3_tea1": "Which pot?", "t3_tea2": "The ending"}
        times = {pair.comment_id: pair.comment_utc for pair in pairs}
        assert (times["t3_tea1"], times["t1_c0001"], times["t1_c0005"]) == (APRIL - 60, APRIL, MAY)
        manifest = files.read_manifest(tmp_path / name / "2019-05.parquet") or {}
        assert manifest["dropped"] == {"deleted_comment": 2, "deleted_reply": 1, "parent_not_found": 1}
        assert manifest["cross_month"] == 4  # to tea1 twice, to tea2 and to c0001
        if name == "dumps_out":
            assert manifest["lines"]["RC"] == {"read": len(NOTATIONS), "missing_key": 2, "wrong_type": 3, "unreadable": 1}


def test_googles_sql_engine_gives_the_same_rows() -> None:
    """The emulator runs DuckDB internally. This test analyses and runs BigQuery's query with Google's own SQL engine."""
    comments, submissions = random_rows(random.Random(9), 320)
    tables = {"comments": (COMMENTS, comments), "submissions": (SUBMISSIONS, submissions)}
    query_parameters = parameters("2017-01", Selection(lookback_months=1, with_submissions=True))
    kinds = {name: "ARRAY" if isinstance(value, list) else bigquery.kind_of(value) for name, value in query_parameters.items()}
    columns = {name: {key: bigquery.TYPES.get(key, "STRING") for key in kind.keys} for name, (kind, _) in tables.items()}

    def literal(value: Any) -> str:
        return "NULL" if value is None else json.dumps(value, ensure_ascii=False).replace("\0", "\\u0000")

    def inline(name: str) -> str:
        struct = ", ".join(f"{key} {kind}" for key, kind in columns[name].items())
        values = ", ".join("(" + ", ".join(literal(row[key]) for key in columns[name]) + ")" for row in tables[name][1])
        return f"(SELECT * FROM UNNEST(ARRAY<STRUCT<{struct}>>[{values}]))"

    rows = re.sub(r"@(\w+)", lambda match: literal(query_parameters[match[1]]), query("<comments>", "<submissions>"))
    rows = rows.replace("<comments>", inline("comments")).replace("<submissions>", inline("submissions"))
    request = {"sql": query("comments", "submissions"), "parameters": kinds, "tables": columns, "rows": rows}
    command = [ROOT / ".venv-emulator" / "bin" / "python", ROOT / "tests" / "google_sql.py"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    response = json.loads(done.stdout)
    expected = {name: "STRING" if kind is str else "INT64" for name, kind in get_type_hints(schema.Pair).items()}
    assert response["columns"] == {"rule": "STRING", "submitter_known": "BOOL", "cross_month": "BOOL"} | expected
    with duckdb.connect() as db:
        for name, (kind, content) in tables.items():
            db.execute(f"CREATE TABLE {name} ({', '.join(f'{key} {type_}' for key, type_ in columns[name].items())})")
            db.executemany(
                f"INSERT INTO {name} VALUES ({', '.join('?' * len(kind.keys))})", [[row[key] for key in kind.keys] for row in content]
            )
        ours = db.execute(duckdb_query(), query_parameters).fetchall()
    assert sorted(repr(tuple(row)) for row in response["answer"]) == sorted(map(repr, ours))
    assert len({row[0] for row in ours}) == 10  # a pair, and every rule except deleted_author


def test_no_author_name_is_loaded_and_a_second_load_keeps_the_tables(
    loaded: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dumps, toml = loaded
    client = bigquery.connect(config.load(toml).bigquery)
    rows = [dict(row) for row in client.list_rows("tests.reddit_comments.2017_01")]
    assert len(rows) > 500 and {"[deleted]", "_bot"} < {row["author"] for row in rows}
    assert not any("reader_" in str(row) or "author_of" in str(row) for row in rows)
    assert isinstance(rows[0]["created_utc"], int) and rows[0]["id"].startswith("c")
    extract.main("2017-01", "2017-01", dump_folder=dumps, out=tmp_path, load_bigquery=True, config_file=toml)
    assert "tests.reddit_comments.2017_01: already loaded from this dump, kept" in capsys.readouterr().out


def test_only_own_tables_are_replaced(emulator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = settings(tmp_path / "bigquery.toml", emulator, "others")
    client = bigquery.connect(config.load(toml).bigquery)
    (tmp_path / "dumps").mkdir()
    dump = tmp_path / "dumps" / "RC_2019-01.zst"
    write_dump(dump, [comment("a", "t3_s", "2019-01-02")])

    def load() -> list[str]:
        extract.main(dump_folder=tmp_path / "dumps", out=tmp_path / "out", load_bigquery=True, config_file=toml)
        return sorted(row["id"] for row in client.list_rows("others.reddit_comments.2019_01"))

    assert load() == ["a"]
    write_dump(dump, [comment("b", "t3_s", "2019-01-02")])  # the same number of rows
    assert load() == ["b"]
    table = client.get_table("others.reddit_comments.2019_01")
    table.description = "a table of mine"
    client.update_table(table, ["description"])
    write_dump(dump, [comment("c", "t3_s", "2019-01-02")])
    with pytest.raises(UserError, match="others.reddit_comments.2019_01: this table already exists and was not loaded by this program"):
        load()
    assert [row["id"] for row in client.list_rows("others.reddit_comments.2019_01")] == ["b"]


def test_finished_months_are_not_queried_again(
    loaded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, toml = loaded
    extract.main("2017-01", "2017-01", Source.bigquery, out=tmp_path, config_file=toml)
    before = (tmp_path / "2017-01.parquet").stat().st_mtime_ns
    extract.main("2017-01", "2017-02", Source.bigquery, out=tmp_path, config_file=toml)
    assert "1 of 2 months to query" in capsys.readouterr().out
    assert (tmp_path / "2017-01.parquet").stat().st_mtime_ns == before


def test_the_byte_limit_is_checked_before_any_query(
    loaded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The emulator reports 0 bytes for every dry run, so the size is patched."""
    _, toml = loaded
    monkeypatch.setattr(bigquery, "bytes_scanned", lambda *_: 30_000_000_000)
    with pytest.raises(UserError, match="more than --max-gigabytes 50; raise the limit"):
        extract.main("2017-01", "2017-02", Source.bigquery, out=tmp_path, config_file=toml)
    assert "2 of 2 months to query; BigQuery would scan 60.0 GB" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    extract.main("2017-01", "2017-02", Source.bigquery, out=tmp_path, config_file=toml, max_gigabytes=60)
    assert (tmp_path / "2017-02.parquet").exists()


def test_a_reloaded_table_is_queried_again(emulator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = settings(tmp_path / "bigquery.toml", emulator, "again")
    (tmp_path / "dumps").mkdir()
    for body in ("first", "second"):
        write_dump(
            tmp_path / "dumps" / "RC_2019-01.zst", [comment("a", "t3_s", "2019-01-02"), comment("b", "t1_a", "2019-01-03", body=body)]
        )
        extract.main(dump_folder=tmp_path / "dumps", out=tmp_path / "load", load_bigquery=True, config_file=toml)
        extract.main("2019-01", "2019-01", Source.bigquery, out=tmp_path / "out", config_file=toml)
        assert [pair.reply for pair in pairs_of(tmp_path / "out", "2019-01")] == [body]
        assert "1 of 1 months to query" in capsys.readouterr().out


def test_stopping_early_cancels_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = []

    class Job:
        def result(self, **_: object) -> Job:
            return self

        def to_arrow_iterable(self, **_: object) -> Iterator[str]:
            yield "a batch"
            yield "another"

        def cancel(self, **_: object) -> None:
            cancelled.append(True)

    monkeypatch.setattr(bigquery, "start_query", lambda *_: Job())
    client = bigquery.connect(config.BigQuerySettings(endpoint="http://127.0.0.1:9"))
    request = client, "2017-01", Selection(), bigquery.MonthTables((), ()), 1
    assert list(bigquery.rows(*request)) == ["a batch", "another"] and not cancelled
    batches = bigquery.rows(*request)
    next(batches)
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert cancelled == [True]


def test_a_query_whose_response_was_lost_is_cancelled_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the request: the job may exist, and only its name is known."""
    client = bigquery.connect(config.BigQuerySettings(endpoint="http://127.0.0.1:9"))
    jobs, cancelled = ["somebody_elses"], []

    def ask(_: str, job_id_prefix: str, **__: object) -> None:
        jobs.append(f"{job_id_prefix}1234")
        raise KeyboardInterrupt

    def cancel(name: str) -> Callable[..., None]:
        return lambda **_: cancelled.append(name)

    monkeypatch.setattr(client, "query", ask)
    monkeypatch.setattr(client, "list_jobs", lambda **_: [SimpleNamespace(job_id=name, cancel=cancel(name)) for name in jobs])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            list(bigquery.rows(client, "2017-01", Selection(), bigquery.MonthTables((), ()), 1))
    assert cancelled == jobs[1:] and len(set(jobs)) == 3


def test_the_billing_limit_is_slightly_above_the_dry_run() -> None:
    tables = bigquery.MonthTables(("a", "b"), ("c",))
    assert bigquery.max_bytes_billed(0, tables) == 3 * 10 * 2**20
    assert bigquery.max_bytes_billed(2_000_000_000, tables) == 2_200_000_000 + 3 * 10 * 2**20


def test_expired_credentials_and_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UserError, match=r"are no longer accepted \(expired\); run `gcloud auth"),
        bigquery.user_errors(config.BigQuerySettings()),
    ):
        raise RefreshError("expired")
    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), None))
    with pytest.raises(UserError, match="bigquery.project is empty: set it"):
        bigquery.connect(config.BigQuerySettings())


def test_a_missing_table(loaded: tuple[Path, Path], tmp_path: Path) -> None:
    _, toml = loaded
    with pytest.raises(UserError, match=r"^tests.reddit_comments.2017_03: table not found; .*--load-bigquery$"):
        extract.main("2017-03", "2017-03", Source.bigquery, out=tmp_path, config_file=toml)


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(UserError, match=r"^no Google credentials: run `gcloud auth application-default login`"):
        extract.main("2017-01", "2017-01", Source.bigquery, out=tmp_path)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(403, "access denied (403"), (404, "table or dataset not found (404"), (400, "request rejected (400"), (500, "no response (")],
)
def test_error_responses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, expected: str) -> None:
    class ErrorHandler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": {"code": status, "message": "Dataset fh-bigquery:reddit_comments\nsays no"}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(bigquery, "RETRY", Retry(initial=0.1, timeout=0.5))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ErrorHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        toml = settings(tmp_path / "refused.toml", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(UserError) as caught:
            extract.main("2017-01", "2017-01", Source.bigquery, out=tmp_path / "out", config_file=toml)
        server.shutdown()
    message = str(caught.value)
    assert expected in message and "\n" not in message and not (tmp_path / "out").exists()
    assert ("January 2025" in message) == (status == 403)


def test_an_unreachable_address_fails_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bigquery.RETRY.timeout is not None and bigquery.RETRY.timeout <= 30
    monkeypatch.setattr(bigquery, "RETRY", Retry(initial=0.1, timeout=0.5))
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        toml = settings(tmp_path / "dead.toml", f"http://127.0.0.1:{taken.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(UserError, match="no response .*check the network"):
            extract.main("2017-01", "2017-01", Source.bigquery, out=tmp_path / "out", config_file=toml)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "name", ["reddit_comments", "`x`.{month}", "a.b.c.{month}", "d.{month}`; DROP TABLE x", "d.{month} x", "d.t{month}{month}"]
)
def test_table_names_are_validated(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.toml").write_text(f"[bigquery]\ncomments = '{name}'\n")
    with pytest.raises(UserError, match="setting bigquery.comments"):
        config.load(tmp_path / "bad.toml")
