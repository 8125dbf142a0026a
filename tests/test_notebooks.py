"""The notebooks, executed in order with invented Reddit data and tiny models, each with the files of the previous ones."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
import zstandard
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from bot import files, metrics, schema, text
from bot.cli import ROOT
from bot.report import notebook, plots
from bot.schema import Candidate, Comment, LmRow, LossRow, RealismRow, Scored, UpvotePair, UpvoteRow
from bot.weights import bases, cards, pull
from tests import tiny

JUPYTER = ROOT / "notebooks" / "requirements.txt"  # for `make notebook`
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "0_quickstart", "1_extract_and_prepare", "2_finetune_gpt2", "3_train_realism", "4_train_upvote", "5_generate_candidates",
    "6_rank_and_choose", "7_other_models",
]  # fmt: skip
THREADS = {"train": 24, "val": 5, "test": 8}
WORDS = sorted({word.strip("?!.,") for line in tiny.TEXT for word in line.lower().split()})
GENERATORS = ["transformers", "gpt-2-simple"]
RANKERS = ["transformers", "tfhub-bert"]
# the generator of each framework with the rankers of the other
PAIRINGS = [
    ("gpt-2-simple", "transformers"),
    ("transformers", "tfhub-bert"),
]
PLANTED = {"nothing_left": "> quoted", "bot_notice": "I am a bot, and this action was performed automatically.", "too_short": "k"}


# --- form ---------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def python_of(cell: Any) -> ast.Module:
    """The parsed code of a cell, with IPython's syntax transformed to Python."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def tagged(content: Any, tag: str) -> list[Any]:
    return [cell for cell in content.cells if tag in cell.metadata.get("tags", [])]


def test_there_are_eight_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path: Path) -> None:
    content = read(path)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code), "committed with outputs"
    # has a Colab badge for this notebook, and begins with what it takes and writes
    assert "https://colab.research.google.com/github/" in content.cells[0].source
    assert f"/blob/main/notebooks/{path.name}" in content.cells[0].source
    assert sum(cell.source.count('REPOSITORY = "https://github.com/') for cell in content.cells) == 1 and "REPOSITORY = " in code[0].source
    assert all(f"**{each}:**" in content.cells[0].source for each in ("Hardware", "Time", "Writes"))
    # parameters, then set-up, before anything else; the quickstart has both in one of its three cells
    quick = path == NOTEBOOKS[0]
    set_up = code[0 if quick else 1]
    assert tagged(content, "parameters") == code[: int(not quick)] and tagged(content, "set-up") == [set_up]
    assert len(code) == 3 if quick else all(isinstance(line, ast.Assign) for line in python_of(code[0]).body)
    assert "git clone" in set_up.source and "notebook.set_up(WORK, DRIVE)" in set_up.source
    # no logic: no functions, classes or models; and text between the cells
    for cell in code:
        nodes = list(ast.walk(python_of(cell)))
        assert not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.While) for node in nodes)
        assert not re.search(r"\b(torch|tensorflow|transformers)\b", " ".join(imports(nodes)))
        assert len(cell.source.splitlines()) <= 30
    assert sum(cell.cell_type == "markdown" for cell in content.cells) >= len(code) - 4


def imports(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_address_of_the_repository_is_in_one_place(tmp_path: Path) -> None:
    """In pyproject.toml; address.py writes it into the notebooks."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    notebooks = sorted((tmp_path / "notebooks").glob("*.ipynb"))
    call = [sys.executable, str(tmp_path / "notebooks" / "address.py")]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "", "run `python notebooks/address.py`"
    project = tmp_path / "pyproject.toml"
    before = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["urls"]["repository"]
    old, new = before.removeprefix("https://github.com/"), "some-body/my.bot"
    project.write_text(project.read_text(encoding="utf-8").replace(before, f"https://github.com/{new}.git"), encoding="utf-8")
    subprocess.run(call, capture_output=True, check=True)
    for path in notebooks:
        content = path.read_text(encoding="utf-8")
        assert old not in content and content.count(f"{new}/blob/main/") == 1 and content.count(f'https://github.com/{new}\\"') == 1
        assert content.replace(new, old) == (ROOT / "notebooks" / path.name).read_text(encoding="utf-8")
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert [path for path in documents if f"github.com/{old}" in path.read_text(encoding="utf-8")] == []


def test_all_notebooks_have_one_default_back_end() -> None:
    backends = {
        path.stem: re.findall(r'^(?:RANKER_)?BACKEND = "(.+?)"', cell.source, re.MULTILINE)
        for path in NOTEBOOKS
        for cell in tagged(read(path), "parameters")
    }
    assert sum(map(len, backends.values())) >= 6 and {each for found in backends.values() for each in found} == {GENERATORS[0]}


def test_make_notebook_opens_the_quickstart_with_pinned_packages() -> None:
    done = subprocess.run(["make", "--dry-run", "notebook"], cwd=ROOT, capture_output=True, text=True, check=True)
    *_, program, opened = done.stdout.splitlines()[-1].split()
    assert program == "jupyterlab" and ROOT / opened == NOTEBOOKS[0]
    pins = [
        re.findall(r"^([\w.-]+)==(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE) for path in (JUPYTER, ROOT / "requirements.txt")
    ]
    assert dict(pins[0])["jupyterlab"] and not dict(pins[0]).keys() & dict(pins[1]).keys()  # each package is pinned in one place


def test_notebooks_never_post() -> None:
    assert not any(
        "submit" in re.findall(r'"(\w+)"', cell.source) or "--post" in cell.source for path in NOTEBOOKS for cell in read(path).cells
    )


# --- execution ----------------------------------------------------------------------------------------------------------


def threads() -> dict[str, str]:
    """Thread id -> split, with the numbers of THREADS."""
    result: dict[str, str] = {}
    remaining = dict(THREADS)
    for number in range(10_000):
        split = text.split_for(f"t3_s{number}")
        if remaining[split]:
            result[f"s{number}"] = split
            remaining[split] -= 1
    return result


def write_dumps(folder: Path) -> int:
    """Write the dumps of a month, with three comments per thread and four replies to each. Returns the number of replies to comments."""
    rng = random.Random(1)
    start = int(datetime(2017, 1, 9, tzinfo=UTC).timestamp())
    comments: list[dict[str, Any]] = []

    def add_comment(thread: str, parent: str, karma: int, body: str = "") -> str:
        number = len(comments)
        body = body or " ".join(rng.choices(WORDS, k=rng.randint(5, 10))).capitalize() + "."
        comments.append({
            "id": f"c{number}", "parent_id": parent, "link_id": f"t3_{thread}", "subreddit": "books", "author": f"person_{number}",
            "body": body, "score": karma, "created_utc": start + 60 * number,
        })  # fmt: skip
        return f"t1_c{number}"

    for thread in threads():
        for _ in range(3):
            parent = add_comment(thread, f"t3_{thread}", 5)
            for karma in (1, 1 + rng.randint(2, 30), -rng.randint(0, 3), 1 + rng.randint(2, 300)):
                add_comment(thread, parent, karma)
    for body in PLANTED.values():
        add_comment(next(iter(threads())), "t1_c0", 1, body)
    submissions = [
        {
            "id": thread,
            "title": "Which book?",
            "selftext": "",
            "subreddit": "books",
            "author": f"asks_{thread}",
            "score": 70,
            "created_utc": start,
        }
        for thread in threads()
    ]
    folder.mkdir()
    for name, rows in (("RC_2017-01.zst", comments), ("RS_2017-01.zst", submissions)):
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        (folder / name).write_bytes(zstandard.ZstdCompressor().compress(lines))
    return sum(row["parent_id"].startswith("t1_") for row in comments)


class Bench:
    """The folder that all notebooks share, and the executed notebooks."""

    def __init__(self, folder: Path):
        self.dumps, self.work, self.bases = folder / "dumps", folder / "work", folder / "bases"
        self.replies = write_dumps(self.dumps)
        self.executed: dict[str, Any] = {}

    def run(self, name: str, **parameters: object) -> Any:
        """Execute a notebook in its folder with these parameters, once per set of parameters."""
        key = name + json.dumps(parameters, default=str)
        if key not in self.executed:
            content = read(ROOT / "notebooks" / f"{name}.ipynb")
            injected = "\n".join(f"{each} = {value!r}" for each, value in {"WORK": str(self.work), **parameters}.items())
            position = content.cells.index(tagged(content, "parameters")[0]) + 1
            content.cells.insert(position, nbformat.v4.new_code_cell(injected, metadata={"tags": ["injected-parameters"]}))
            loaded = "import sys\nsorted({'torch', 'tensorflow', 'transformers'} & set(sys.modules))"
            content.cells.append(nbformat.v4.new_code_cell(loaded))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("BOT_BASES", str(self.bases))  # here, because conftest removes such settings before each test
                NotebookClient(content, timeout=900, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
            if folder := os.environ.get("EXECUTED_NOTEBOOKS"):
                nbformat.write(content, Path(folder) / f"{name}.{len(self.executed)}.ipynb")
            self.executed[key] = content
        return self.executed[key]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Tiny models under the names of the real bases; and no network access, in the kernels and stages too."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")  # the discard port, where nothing listens
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            patch.setenv(name, "1")  # with models this small, threads on busy cores mostly wait for each other
        patch.setattr(bases, "BASE_DIR", folder / "bases")
        pull.pull("smollm2-135m-instruct", tiny.language_model(folder / "lm"))
        pull.pull("minilm-l6", tiny.encoder(folder / "encoder", head=False))
        pull.pull("124M", tiny.gpt2_checkpoint(folder / "124M", n_ctx=1024))
        yield Bench(folder)


def test_set_up_clones_the_repository_into_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start in Colab, without the installation of packages."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    content = read(NOTEBOOKS[1])
    content.cells = [*tagged(content, "parameters"), *tagged(content, "set-up")]
    content.cells.insert(1, nbformat.v4.new_code_cell(f"REPOSITORY = {str(ROOT)!r}"))
    content.cells.append(nbformat.v4.new_code_cell("from bot import cli\nprint(cli.ROOT, WORK.resolve(), notebook.python())"))
    NotebookClient(content, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    clone = tmp_path / "reply-bot"
    assert outputs(content)[-1].text == f"{clone} {clone}/data/notebooks {sys.executable}\n"


def first(bench: Bench) -> Any:
    return bench.run("1_extract_and_prepare", DUMPS=str(bench.dumps), FIRST="2017-01", LAST="2017-01", PARENTS="comment")


def second(bench: Bench, backend: str) -> Any:
    first(bench)
    small = {
        "transformers": {"PAIRS": 200, "EPOCHS": 2, "LEARNING_RATE": 1e-2},
        "gpt-2-simple": {"STEPS": 4, "ACCUMULATE": 1, "GPT2_LEARNING_RATE": 1e-2, "SAVE_INTERVAL": 2, "SAMPLE_INTERVAL": 0},
    }
    return bench.run("2_finetune_gpt2", BACKEND=backend, SAMPLES=3, **small[backend])


def third(bench: Bench, backend: str) -> Any:
    second(bench, "transformers")
    small = {"FAKES": 100, "MAX_NEW_TOKENS": 8, "EPOCHS": 2, "BATCH_TOKENS": 256, "LEARNING_RATE": 1e-3, "TFHUB_LEARNING_RATE": 1e-3}
    return bench.run("3_train_realism", BACKEND="transformers", RANKER_BACKEND=backend, **small)


def fourth(bench: Bench, backend: str) -> Any:
    first(bench)
    small = {"ROWS": 100, "BATCH_TOKENS": 512, "LEARNING_RATE": 1e-3, "TFHUB_LEARNING_RATE": 1e-3}
    return bench.run("4_train_upvote", RANKER_BACKEND=backend, **small)


def fifth(bench: Bench, backend: str) -> Any:
    second(bench, backend)
    return bench.run("5_generate_candidates", RUN_NAME=backend, BACKEND=backend, LIMIT=3, NUM_CANDIDATES=4, MAX_NEW_TOKENS=8)


def sixth(bench: Bench, generator: str, backend: str) -> Any:
    fifth(bench, generator)
    third(bench, backend)
    fourth(bench, backend)
    lenient = {"MINIMUM_REALISM": 0.001, "MINIMUM_RANK": 0.0, "MINIMUM_WORDS": 1}
    return bench.run("6_rank_and_choose", RUN_NAME=generator, RANKER_BACKEND=backend, **lenient)


def outputs(content: Any) -> list[Any]:
    return [output for cell in content.cells for output in cell.get("outputs", [])]


def printed(content: Any) -> str:
    return "".join(output.text for output in outputs(content) if output.output_type == "stream")


def check(content: Any, figures: int, tables: int) -> None:
    """Check the numbers of figures and tables, and that there are no errors and no frameworks loaded in the kernel."""
    results = [output.data for output in outputs(content) if output.output_type == "execute_result"]
    assert not [output for output in outputs(content) if output.output_type == "error"]
    assert sum("image/png" in data for data in results) == figures
    assert sum("<table" in data.get("text/html", "") for data in results) == tables
    assert results[-1]["text/plain"] == "[]"


def test_first(bench: Bench) -> None:
    check(first(bench), figures=5, tables=1)
    facts = files.read_manifest(bench.work / "data" / "prepared" / "lm_train.csv")
    assert facts is not None and facts["read"] == bench.replies == sum(THREADS.values()) * 12 + len(PLANTED)
    assert {rule: count for rule, count in facts["dropped"].items() if count} == dict.fromkeys(PLANTED, 1)
    rows = {each: schema.read_rows(bench.work / "data" / "prepared" / f"lm_{each}.csv", LmRow) for each in THREADS}
    assert {each: len({row.thread_id for row in own}) for each, own in rows.items()} == THREADS
    assert len(schema.read_rows(bench.work / "data" / "prepared" / "upvote_pairs_test.csv", UpvotePair)) >= THREADS["test"] * 3


@pytest.mark.parametrize("backend", GENERATORS)
def test_second(bench: Bench, backend: str) -> None:
    content = second(bench, backend)
    check(content, figures=1, tables=2)
    folder = bench.work / "models" / f"lm-{backend}"
    losses, card = schema.read_rows(folder / "losses.csv", LossRow), cards.read_card(folder)
    base = {"transformers": "smollm2-135m-instruct", "gpt-2-simple": "124M"}[backend]
    assert card.base == base and card.base_sha256 == bases.base_sha256(base)  # the tiny model of this name
    steps = [row.train_loss for row in losses if row.train_loss is not None]
    assert len(steps) >= 4 and steps[-1] < steps[0] and card.hours > 0 and card.parameters > 10_000
    assert card.metrics["val_perplexity"] < card.metrics["val_perplexity_base"]
    assert len(schema.read_rows(bench.work / "data" / f"samples-{backend}.csv", Candidate)) == 6
    assert "val_perplexity_base" in str(outputs(content))
    other = {"transformers": "--steps", "gpt-2-simple": "--pairs"}[backend]
    assert "python run_bot.py train lm" in printed(content) and other not in printed(content)


@pytest.mark.parametrize("backend", RANKERS)
def test_third(bench: Bench, backend: str) -> None:
    check(third(bench, backend), figures=5, tables=2)
    rows = {each: schema.read_rows(bench.work / "data" / "prepared" / f"realism_{each}.csv", RealismRow) for each in THREADS}
    fakes = {each: sum(row.label == 0 for row in own) for each, own in rows.items()}
    assert 70 < sum(fakes.values()) <= 100 and min(fakes.values()) >= 5
    assert {row.generator.split()[0] for own in rows.values() for row in own if not row.label} == {"transformers:lm-transformers"}
    scored = notebook.table(bench.work / "data" / f"realism_test_scored-{backend}.csv")
    assert len(scored) == len(rows["test"]) and scored["realism_score"].between(0, 1).all() and "upvote_score" not in scored
    card = cards.read_card(bench.work / "models" / f"realism-{backend}")
    assert card.hours > 0 and card.parameters > 10_000
    assert card.kind == "realism" and scored["realism_score"].nunique() > 10
    assert card.metrics["all"]["ranker"]["roc_auc"][0] == pytest.approx(metrics.roc_auc(scored["label"], scored["realism_score"]), abs=1e-3)


@pytest.mark.parametrize("backend", RANKERS)
def test_fourth(bench: Bench, backend: str) -> None:
    check(fourth(bench, backend), figures=5, tables=2)
    scored = notebook.table(bench.work / "data" / f"upvote_test_scored-{backend}.csv")
    rows = schema.read_rows(bench.work / "data" / "prepared" / "upvote_test.csv", UpvoteRow)
    assert list(scored["reply_id"]) == [row.reply_id for row in rows] and scored["upvote_score"].nunique() > 10
    assert "realism_score" not in scored
    card = cards.read_card(bench.work / "models" / f"upvote-{backend}")
    assert card.settings["rows"] == 100
    pairs = plots.scored_pairs(notebook.table(bench.work / "data" / "prepared" / "upvote_pairs_test.csv"), scored)
    accuracy = metrics.pairwise_accuracy(pairs["chosen_score"], pairs["rejected_score"])
    assert card.metrics["all"]["ranker"]["pairwise_accuracy"][0] == pytest.approx(accuracy, abs=0.02)


@pytest.mark.parametrize("backend", GENERATORS)
def test_fifth(bench: Bench, backend: str) -> None:
    check(fifth(bench, backend), figures=2, tables=3)
    comments = schema.read_rows(bench.work / "runs" / backend / "comments.csv", Comment)
    candidates = schema.read_rows(bench.work / "runs" / backend / "candidates.csv", Candidate)
    assert len(comments) == 3 and all(comment.subreddit.startswith("sandbox_") for comment in comments)
    assert [row.comment_id for row in candidates] == [comment.comment_id for comment in comments for _ in range(4)]
    assert {row.generator for row in candidates} == {f"{backend}:lm-{backend}"}


@pytest.mark.parametrize(("generator", "backend"), PAIRINGS)
def test_sixth(bench: Bench, generator: str, backend: str) -> None:
    content = sixth(bench, generator, backend)
    check(content, figures=1, tables=2)
    run = bench.work / "runs" / generator
    scored, chosen = schema.read_rows(run / "scored.csv", Scored), schema.read_rows(run / "chosen.csv", Scored)
    assert len(scored) == 12 and all(row.realism_score is not None and row.upvote_score is not None for row in scored)
    assert chosen == [row for row in scored if row.verdict == "chosen"] and 1 <= len(chosen) <= 3
    page = next(output.data["text/html"] for output in outputs(content) if "iframe" in output.get("data", {}).get("text/html", ""))
    assert "<iframe sandbox srcdoc=" in page and "Dry run: nothing was sent." in page
    assert not (run / "submitted.csv").exists()


def test_quickstart(bench: Bench, tmp_path: Path) -> None:
    """With tiny models in the place of the shipped ones."""
    content = read(NOTEBOOKS[0])
    for cell in content.cells:
        cell.source = cell.source.replace('"data/notebooks"', repr(str(tmp_path))).replace('"--limit", 5', '"--limit", 2')
    own = {"GENERATE__MODEL": bench.bases / "smollm2-135m-instruct", "GENERATE__MAX_NEW_TOKENS": 8, "GENERATE__NUM_CANDIDATES": 3}
    own |= {"RANK__REALISM": tiny.encoder(tmp_path / "realism"), "RANK__UPVOTE": "", "RANK__RELEVANCE": "", "RANK__CHOICE": ""}
    own |= {"RANK__WEIGHTS__CHOICE": 0, "RANK__WEIGHTS__RELEVANCE": 0, "CHOOSE__MINIMUM_RANK": 0, "CHOOSE__MINIMUM_REALISM": 0}
    own |= {"CONDUCT__COMMENT_CLASSIFIER": "", "CONDUCT__REPLY_CLASSIFIER": ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BASES": bench.bases, **own}.items():
            patch.setenv(f"BOT_{name}", str(value))
        NotebookClient(content, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    run = tmp_path / "quickstart"
    comments = schema.read_rows(run / "comments.csv", Comment)
    assert len(comments) == 2 and len(schema.read_rows(run / "scored.csv", Scored)) == 6
    (page,) = [output.data["text/html"] for output in outputs(content) if "iframe" in output.get("data", {}).get("text/html", "")]
    assert "Dry run: nothing was sent." in page and comments[0].comment[:20] in page
    _, _, reply = printed(content).partition("python run_bot.py reply ")
    assert "I baked bread" in reply and "realism" in reply


def test_seventh(bench: Bench, tmp_path: Path) -> None:
    """In a folder of its own, with the files of notebooks 1 and 3, so that the leaderboard has only the new models."""
    third(bench, "transformers")
    shutil.copytree(bench.work / "data" / "prepared", tmp_path / "data" / "prepared")
    rng = random.Random(2)
    glove = tmp_path / "glove.8d.txt"
    glove.write_text("".join(f"{word} {' '.join(f'{rng.gauss(0, 1):.3f}' for _ in range(8))}\n" for word in WORDS), encoding="utf-8")
    content = bench.run(
        "7_other_models", WORK=str(tmp_path), GENERATORS=["keras-seq2seq", "keras-transformer"], PAIRS=120, EPOCHS=2, WIDTH=16,
        VOCABULARY=300,
        BATCH_TOKENS=600, LEARNING_RATE=1e-2, GLOVE=str(glove), RANKER_EPOCHS=3, UNITS=8, RANKER_LEARNING_RATE=1e-2,
    )  # fmt: skip
    check(content, figures=2, tables=1)
    card = cards.read_card(tmp_path / "models" / "realism-glove-bilstm")
    assert card.hours > 0 and card.parameters > 1000
    assert card.base == glove.name and 0 <= card.metrics["all"]["ranker"]["roc_auc"][0] <= 1
    board = json.loads((tmp_path / "data" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    for name in ("lm-keras-seq2seq", "lm-keras-transformer"):
        losses = schema.read_rows(tmp_path / "models" / name / "losses.csv", LossRow)
        steps = [row.train_loss for row in losses if row.train_loss is not None]
        assert steps[-1] < steps[0]
        assert board["generators"][name]["bits"][0] > 0 and board["generators"][name]["hours"] > 0
    assert board["rankers"]["realism-glove-bilstm"]["pairs_per_second"] > 0
    assert "Leaderboard" in next(output.data["text/html"] for output in outputs(content) if "iframe" in str(output.get("data")))
