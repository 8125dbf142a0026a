"""What --cluster does without Ray: tables, blocks, and errors in one line. tests/test_ray.py uses a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bot import cluster, files, schema
from bot.cli import ROOT, Busy, UserError
from bot.config import GenerateSettings, RankSettings
from bot.files import FileError
from bot.online import generate
from bot.rankers import score, scoring
from bot.schema import Candidate
from tests import tiny

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "[deleted]"), ("t1_c", "NA"), ("t1_c", "again"), ("t1_d", "My kettle boils.")]


def test_blocks_have_every_row_once_and_finished_ones_are_left_out() -> None:
    rows = [{"n": n} for n in range(11)]
    blocks = list(cluster.blocks_of(rows, 4, {0}))
    assert [(block.number, [row["n"] for row in block.rows]) for block in blocks] == [(1, [4, 5, 6, 7]), (2, [8, 9, 10])]
    assert [row for block in cluster.blocks_of(rows, 3) for row in block.rows] == rows


def test_the_block_folder_is_kept_only_for_the_same_inputs(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for made_from, kept in (({"seed": 1}, False), ({"seed": 1}, True), ({"seed": 2}, False)):
        with pytest.raises(RuntimeError), cluster.block_folder(out, made_from) as folder:
            assert (folder / "000000.parquet").exists() == kept
            (folder / "000000.parquet").write_bytes(b"x")
            with pytest.raises(Busy), cluster.block_folder(out, made_from):
                pass
            raise RuntimeError
    with cluster.block_folder(out, {"seed": 2}) as folder:
        pass
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(FileError, match="did not write it"), cluster.block_folder(out, {}):
        pass
    assert (folder / "mine.txt").exists()


def test_an_interrupted_clean_up_leaves_a_folder_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    remove = files.remove

    def interrupted(path: Path) -> None:
        remove(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), cluster.block_folder(out, {}) as folder:
        (folder / "000000.parquet").write_bytes(b"x")
        patch.setattr(files, "remove", interrupted)
    assert folder.exists()
    with cluster.block_folder(out, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_blocks_become_the_same_csv_as_without_a_cluster(tmp_path: Path) -> None:
    """Texts that look like numbers or nulls, quotes, and floats with all digits."""
    rows = [
        Candidate(f"t1_{n}", f"t1_{n}-0", n, body, "NA", "x", n / 3 if n else None)
        for n, body in enumerate(["007", 'a "b",\n', "null", ""])
    ]
    columns = schema.arrow_schema(Candidate)
    blocks = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, part in zip(blocks, (rows[:3], rows[3:]), strict=True):
        cluster.write_block(path, columns, [{name: getattr(row, name) for name in columns.names} for row in part])
    assert cluster.join(tmp_path / "out.csv", blocks, columns, {}, {}) == 4
    schema.write_rows(tmp_path / "expected.csv", Candidate, rows)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    assert cluster.join(tmp_path / "out.parquet", blocks, columns, {"seed": 1}, {"left_out": {}}) == 4
    assert pq.read_table(tmp_path / "out.parquet").schema.remove_metadata() == columns
    manifest = files.read_manifest(tmp_path / "out.parquet")
    assert manifest and manifest["rows"] == 4 and manifest["left_out"] == {}


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"comment": [1], "reply": ["x"]}), tmp_path / "number.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for sources, out, message in (
        (["empty"], "o.csv", "no Parquet files"),
        (["number.parquet"], "-", "end with .csv or .parquet"),
        (["number.parquet"], "o.json", "end with .csv or .parquet"),
    ):
        with pytest.raises(UserError, match=message):
            cluster.tables([tmp_path / name for name in sources], Path(out))
    for name, texts, message in (
        ("number.parquet", ["comment"], "type int64, expected text"),
        ("number.parquet", ["body"], "expected column body, found comment, reply"),
        ("broken.parquet", ["comment"], "not a valid Parquet file"),
        ("none.parquet", ["comment"], "no such file"),
        ("none.csv", ["comment"], "no such file"),
    ):
        with pytest.raises(FileError, match=message):
            cluster.columns_of(tmp_path / name, texts)


def test_a_null_text_is_empty_and_other_columns_stay(tmp_path: Path) -> None:
    pq.write_table(pa.table({"comment": ["a", None], "reply": ["b", "c"], "karma": [None, 2]}), tmp_path / "in.parquet")
    rows = list(cluster.rows_of(tmp_path / "in.parquet", scoring.INPUT))
    assert rows == [{"comment": "a", "reply": "b", "karma": None}, {"comment": "", "reply": "c", "karma": 2}]
    assert cluster.count_rows(tmp_path / "in.parquet") == 2


def test_a_worker_gives_the_rows_of_generate(tmp_path: Path) -> None:
    lm = tiny.language_model(tmp_path / "lm")
    settings = GenerateSettings(backend="transformers", model=lm, num_candidates=2, max_new_tokens=6)
    rows = [{"comment_id": comment_id, "comment": comment} for comment_id, comment in COMMENTS]
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], rows)
    generate.generate([tmp_path / "in.csv"], tmp_path / "out.csv", settings, 7)
    expected = schema.read_rows(tmp_path / "out.csv", Candidate)
    work = generate.load_worker(settings, 7)
    blocks = cluster.blocks_of([{"comment_id": i, "comment": c} for i, c in generate.answerable(rows)[0]], 2)
    made = [Candidate(**row) for block in blocks for row in work(block.rows)]
    assert [(row.candidate_id, row.seed, row.comment, row.reply) for row in made] == [
        (row.candidate_id, row.seed, row.comment, row.reply) for row in expected
    ]
    assert [row.log_likelihood for row in made] == pytest.approx([row.log_likelihood for row in expected], abs=tiny.rounding())


def test_a_worker_gives_the_rows_of_score(tmp_path: Path) -> None:
    settings = RankSettings(
        backend="transformers", realism=tiny.encoder(tmp_path / "ranker"), upvote=None, relevance=None, choice=None,
        weights={"realism": 1, "upvote": 0, "relevance": 0, "choice": 0},
    )  # fmt: skip
    how = scoring.by_all(settings)
    rows = [{"comment": "why?", "reply": f"because {n}", "log_likelihood": likelihood} for n, likelihood in enumerate(["", "-1.5", "-3"])]
    schema.write_table(tmp_path / "in.csv", ["comment", "reply", "log_likelihood"], rows)
    scoring.score_file(tmp_path / "in.csv", tmp_path / "out.csv", how)
    expected = schema.read_table(tmp_path / "out.csv")[1]
    for made, row in zip(scoring.load_worker(how)(rows), expected, strict=True):
        assert list(made) == list(row)
        assert (made["realism_score"], made["rank_score"]) == (float(row["realism_score"]), float(row["rank_score"]))
        assert made["upvote_score"] is None and set(score.SCORES) < set(made)
    with pytest.raises(UserError, match="log_likelihood is nan"):
        scoring.load_worker(how)([rows[0] | {"log_likelihood": float("nan")}])


def start(*arguments: str, folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", code] if code else [sys.executable, str(ROOT / "run_bot.py")]
    return subprocess.run([*program, *arguments], cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.usefixtures("cold")
def test_without_ray_one_line_says_what_to_install(tmp_path: Path) -> None:
    """Ray is hidden if it is installed."""
    tiny.language_model(tmp_path / "lm")
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], [{"comment_id": "t1_a", "comment": "Why?"}])
    (tmp_path / "my.toml").write_text('[generate]\nbackend = "transformers"\nmodel = "lm"\n')
    code = "import sys; sys.modules['ray'] = None; from bot.__main__ import main; main('run_bot.py')"
    arguments = ("generate", "--cluster", "local", "--in", "in.csv", "--out", "out.csv", "--config", "my.toml")
    done = start(*arguments, folder=tmp_path, code=code)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "requirements-cluster.txt" in done.stderr and not (tmp_path / "out.csv").exists()


@pytest.mark.usefixtures("cold")
def test_without_the_option_ray_is_not_imported(tmp_path: Path) -> None:
    code = "import sys, bot.online.generate, bot.rankers.scoring; print('bot.cluster' in sys.modules, 'ray' in sys.modules)"
    assert start(folder=tmp_path, code=code).stdout.strip() == "True False"


def test_what_a_cluster_cannot_do_is_refused(tmp_path: Path) -> None:
    settings = GenerateSettings(backend="openai-server", model=Path("x"))
    with pytest.raises(UserError, match="leave out --cluster"):
        generate.generate_on_cluster("local", [tmp_path / "in.csv"], tmp_path / "out.csv", settings, 1)
    with pytest.raises(UserError, match="give --in and --out"):
        generate.main(run=tmp_path, cluster_address="local")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:99999", ":6379", "host:", "127.0.0.1:²"])
def test_an_address_at_which_nothing_answers(address: str) -> None:
    with pytest.raises(UserError, match=f"no Ray cluster at {address}"):
        cluster.check_address(address)


def test_tables_that_no_worker_can_use_are_one_line(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["t1_a"]), pa.array(["Hi."]), pa.array(["Ho."])], names=["comment_id", "comment", "comment"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(FileError, match=r"twice\.parquet: column comment occurs more than once"):
        cluster.columns_of(tmp_path / "twice.parquet", ["comment_id", "comment"])
    late = pa.table({"comment": ["Hi."], "reply": ["Ho."], "when": pa.array([2**60], pa.timestamp("us"))})
    pq.write_table(late, tmp_path / "late.parquet")
    with pytest.raises(FileError, match=r"late\.parquet: a value cannot be read .*; leave out its column"):
        list(cluster.rows_of(tmp_path / "late.parquet", ["comment", "reply"]))
    assert list(cluster.rows_of(tmp_path / "late.parquet", ["comment"], ["comment"])) == [{"comment": "Hi."}]


def test_workers_get_settings_but_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"BOT_GENERATE__SEED": "1", "BOT_WEB__REDIS_URL": "redis://:hunter2@a", "BOT_REDDIT__URL": "x", "BOT_BASES": "own"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    passed = cluster.variables_of_workers()
    assert {*given} & {*passed} == {"BOT_GENERATE__SEED", "BOT_BASES"} and passed["BOT_BASES"] == str(tmp_path / "own")
