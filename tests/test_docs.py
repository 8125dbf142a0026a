"""The documents: their commands exist and are run or marked as not run, their links lead somewhere, and docs/files.md is current.

A block of commands has a mark in the line before it: `<!-- run: NAME -->` if the test of that name runs it here, as it stands, or
`<!-- not run: REASON -->`. Options of both kinds are checked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from bot import __main__ as program
from bot.cli import ROOT, without_credentials
from bot.sandbox import server
from tests import tiny
from tests.test_notebooks import write_dumps

pytestmark = pytest.mark.usefixtures("warm")

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>run|not run): (?P<text>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
COMMAND = re.compile(r"^(?:python |make |export |touch |docker |\.ci/|cat )", re.MULTILINE)
DEPLOY = [ROOT / "deploy" / "crontab", *sorted((ROOT / "deploy").glob("*.service"))]
RESULTS = ("results.md", "history.md")  # commands of the past, with the folders of that day
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PYTHON = sys.executable


class Block(NamedTuple):
    document: str
    mark: str
    text: str
    body: str


def blocks() -> Iterator[Block]:
    """The blocks of commands of all documents."""
    for path in DOCUMENTS:
        for found in BLOCK.finditer(path.read_text(encoding="utf-8")):
            if COMMAND.search(found["body"]) and found["language"] in ("", "sh") and path.name not in RESULTS:
                yield Block(path.name, found["mark"] or "", found["text"] or "", found["body"])


def commands() -> Iterator[list[str]]:
    """The words of each `python run_bot.py …`, without comments."""
    for block in blocks():
        body = re.sub(r"^cat > .*?^END$", "", block.body, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
        for line in body.splitlines():
            if line.startswith("python run_bot.py"):
                yield shlex.split(line, comments=True)[2:]
    for path in DEPLOY:
        for command in re.findall(r"^(?!#  ).*python run_bot\.py ([^#>\n]*[^#>\s\\])", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield command.split()


def test_every_block_of_commands_is_marked() -> None:
    assert [(block.document, block.body) for block in blocks() if not block.mark] == []
    assert {block.text for block in blocks() if block.mark == "run"} == set(PATHS)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_stage_and_its_options_exist(words: list[str]) -> None:
    stage, arguments = program.find(words)
    assert stage, f"no such stage: {words}"
    app = typer.Typer(add_completion=False)
    app.command()(program.command_of(stage))
    typer.main.get_command(app).make_context(stage, arguments)  # raises an error for an unknown option or a wrong value


def test_targets_of_make_exist() -> None:
    used = {name for path in DOCUMENTS for name in re.findall(r"(?:^|`)make ([\w-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert used <= TARGETS and {"run", "test"} <= used


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_list_of_files_is_current() -> None:
    spec = importlib.util.spec_from_file_location("make_files", ROOT / "docs" / "make_files.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FILE.read_text(encoding="utf-8") == module.written(), "run `python docs/make_files.py`"


# --- three paths of a newcomer --------------------------------------------------------------------------------------------


def run_blocks(name: str, folder: Path, changes: dict[str, str], **variables: str) -> str:
    """Run the blocks with this mark, as one script, in `folder`. changes: text -> replacement. Returns what it printed."""
    found = [block.body for block in blocks() if (block.mark, block.text) == ("run", name)]
    script = "\n".join(dict.fromkeys(line for body in found for line in body.splitlines()))  # a line that stands twice is run once
    for text, replacement in changes.items():
        assert text in script, text
        script = script.replace(text, replacement)
    script = script.replace("python run_bot.py", f"{shlex.quote(PYTHON)} {shlex.quote(str(ROOT / 'run_bot.py'))}")
    environment = {**without_credentials(os.environ), "OMP_NUM_THREADS": "1", "COLUMNS": "120", **variables}
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models under the names of the real bases."""
    folder = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        from bot.weights import bases, pull

        patch.setattr(bases, "BASE_DIR", folder)
        pull.pull("smollm2-135m-instruct", tiny.language_model(folder / "lm"))
        pull.pull("minilm-l6", tiny.encoder(folder / "encoder", head=False))
    return folder


def see(folder: Path, bases: Path) -> None:
    """README: `make run` and what it calls. The whole of both commands, from nothing, is what CI does."""
    recipe = subprocess.run(["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "run_bot.py run --sandbox --limit 10" in recipe


def subreddit(folder: Path, bases: Path) -> None:
    """README: a dry run on a subreddit, with a sandbox in the place of Reddit."""
    lm = tiny.language_model(folder / "lm")
    with server.serve(folder / "sandbox.sqlite") as running:
        tiny_models = {"BOT_GENERATE__MODEL": str(lm), "BOT_GENERATE__MAX_NEW_TOKENS": "8"}
        run_blocks("subreddit", folder, {'"books"': '"sandbox_books"'}, BOT_REDDIT__URL=running.url, **tiny_models, **tiny_rankers(folder))
    (run,) = (folder / "data" / "runs").iterdir()
    assert "sandbox_books" in (run / "comments.csv").read_text(encoding="utf-8") and (run / "report.html").exists()


def train(folder: Path, bases: Path) -> None:
    """docs/training.md: from dumps to a run with one's own models."""
    write_dumps(folder / "DUMPS")
    (toml,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (folder / "mine.toml").write_text(toml, encoding="utf-8")
    own = {
        "BOT_RANK__CHOICE": "",
        "BOT_RANK__WEIGHTS__CHOICE": "0",
        "BOT_CONDUCT__COMMENT_CLASSIFIER": "",
        "BOT_CONDUCT__REPLY_CLASSIFIER": "",
    }
    fast = {f"train {task} --data": f"train {task} --no-evaluate --data" for task in ("lm", "realism", "upvote", "relevance")}
    run_blocks("train", folder, {"--sandbox": "--sandbox --limit 2", **fast}, BOT_BASES=str(bases), BOT_GENERATE__MAX_NEW_TOKENS="8", **own)
    (run,) = (folder / "data" / "runs").iterdir()
    assert "my-lm" in (run / "candidates.csv").read_text(encoding="utf-8") and (run / "report.html").exists()


def tiny_rankers(folder: Path) -> dict[str, str]:
    """Settings for two rankers with random weights."""
    two = {"BOT_RANK__REALISM": str(tiny.encoder(folder / "realism")), "BOT_RANK__UPVOTE": str(tiny.encoder(folder / "upvote", seed=5))}
    return two | {"BOT_RANK__RELEVANCE": "", "BOT_RANK__CHOICE": "", "BOT_RANK__WEIGHTS__CHOICE": "0", "BOT_RANK__WEIGHTS__RELEVANCE": "0"}


PATHS: dict[str, Callable[..., None]] = {"see": see, "subreddit": subreddit, "train": train}


@pytest.mark.parametrize("name", PATHS)
def test_the_path_of_a_newcomer(name: str, tmp_path: Path, bases: Path) -> None:
    PATHS[name](tmp_path, bases)
