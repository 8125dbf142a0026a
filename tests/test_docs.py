"""The documents: their commands exist and are run or marked as not run, their links lead somewhere, and docs/files.md is current.

A block of commands has a mark in the line before it: `<!-- run: NAME -->` if a test runs it here, as it stands, or
`<!-- not run: REASON -->`. Options of both kinds, and those of commands within a sentence, are checked. Other blocks name their language.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from bot import __main__ as program
from bot import sandbox, schema
from bot.cli import ROOT, without_credentials
from bot.export import to_ctranslate2
from bot.sandbox import server
from bot.schema import Candidate, Comment, RealismRow, Scored
from bot.weights import bases, cards, pull
from tests import lively, tiny
from tests.test_notebooks import write_dumps

PAST = [ROOT / "docs" / name for name in ("results.md", "history.md")]  # with commands of the past, and the folders of that day
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path not in PAST]
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>run|not run): (?P<text>[^>]+) -->\n)?^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE
)
LANGUAGES = {"", "text", "toml", "nginx"}
DEPLOY = [ROOT / "deploy" / "crontab", *sorted((ROOT / "deploy").glob("*.service"))]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PYTHON = sys.executable
HEADS = ["comment", "best", "reply", "realism", "upvote", "relevance"]  # words at the top of the table of a run


class Block(NamedTuple):
    document: str
    language: str
    mark: str
    text: str
    body: str


def blocks() -> Iterator[Block]:
    """The blocks of all documents, without the past ones."""
    for path in DOCUMENTS:
        for found in BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield Block(path.name, found["language"], found["mark"] or "", found["text"] or "", found["body"])


def commands() -> Iterator[list[str]]:
    """The words of each `python run_bot.py …`, without comments."""
    for block in blocks():
        body = re.sub(r"^cat > .*?^END$", "", block.body, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
        for line in body.splitlines():
            if line.strip().startswith("python run_bot.py"):
                yield shlex.split(line, comments=True)[2:]
    for path in DEPLOY:
        for command in re.findall(r"^(?!#  ).*python run_bot\.py ([^#>\n]*[^#>\s\\])", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield command.split()


def click_command(stage: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(program.command_of(stage))
    return typer.main.get_command(app)


def test_every_block_of_commands_is_marked() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES
    assert [(block.document, block.body) for block in blocks() if not block.language and not block.mark] == []
    assert {block.text for block in blocks() if block.mark == "run"} == PATHS
    for path in PAST:
        assert "no test runs" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_stage_and_its_options_exist(words: list[str]) -> None:
    stage, arguments = program.find(words)
    assert stage, f"no such stage: {words}"
    click_command(stage).make_context(stage, arguments)  # raises an error for an unknown option or a wrong value


def test_options_within_a_sentence_exist() -> None:
    """Such as `train lm --pairs 24000`, which begins with a stage, or with `python run_bot.py`."""
    seen, unknown = 0, []
    for path in DOCUMENTS:
        sentences = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", sentences):
            stage, arguments = program.find(code.removeprefix("python run_bot.py ").split())
            if options := re.findall(r"(?<!\S)--[a-z-]+", " ".join(arguments)) if stage else []:
                known = {
                    each for parameter in click_command(stage).params for each in (*parameter.opts, *parameter.secondary_opts, "--help")
                }
                seen += 1
                unknown += [(path.name, code) for each in options if each not in known]
    assert unknown == [] and seen > 20


def test_targets_of_make_exist() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*DOCUMENTS, *PAST))
    used = set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE))
    assert used <= TARGETS and {"run", "test"} <= used


def test_make_lists_its_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    listed = dict(re.fullmatch(r"make ([a-z-]+)  +(\S.*)", line).groups() for line in shown)  # type: ignore[union-attr]
    assert {"help", "setup", "run", "test", "test-cluster", "leaderboard"} <= listed.keys() <= TARGETS
    assert [line for line in shown if len(line) > 80] == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *PAST], ids=lambda path: path.name)
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

PATHS = {"see", "subreddit", "train"}  # marks of commands that are run here
PATH_LENGTH = 9  # commands, at most


def script(name: str) -> list[str]:
    """The commands of the blocks with this mark, in their order. A command that stands in two documents is run once."""
    found = [block.body for block in blocks() if (block.mark, block.text) == ("run", name)]
    lines = re.findall(r"^cat > [\s\S]*?^END$|^.+$", "\n".join(found), re.MULTILINE)
    return list(dict.fromkeys(re.sub(r" +# .*", "", line) for line in lines))


def in_shell(commands: Sequence[str], folder: Path, **variables: str) -> str:
    """Run the commands in `folder`, as they stand, and return what they printed. They stop at the first error."""
    text = "\n".join(commands).replace("python run_bot.py", f"{shlex.quote(PYTHON)} {shlex.quote(str(ROOT / 'run_bot.py'))}")
    environment = {**without_credentials(os.environ), "OMP_NUM_THREADS": "1", "COLUMNS": "120", **variables}
    done = subprocess.run(["bash", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def models(lively_models: Path, tmp_path: Path) -> dict[str, str]:
    """Settings for tiny models, with which some candidates of each comment are kept; see lively.write_config."""
    settings = tomllib.loads(lively.write_config(tmp_path, lively_models).read_text(encoding="utf-8"))
    rank = settings["rank"]
    groups = {"GENERATE": settings["generate"], "RANK": rank, "RANK__WEIGHTS": rank.pop("weights"), "CHOOSE": settings["choose"]}
    return {f"BOT_{group}__{name.upper()}": str(value) for group, values in groups.items() for name, value in values.items()}


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_path_is_short(name: str) -> None:
    assert 0 < len(script(name)) <= PATH_LENGTH


def test_see_it_work(tmp_path: Path, models: dict[str, str]) -> None:
    """README: the first command, without the set-up before it. CI runs both commands whole, from nothing."""
    assert script("see") == ["make run", "make test"]
    (tmp_path / "run_bot.py").symlink_to(ROOT / "run_bot.py")
    make = ["make", "--makefile", str(ROOT / "Makefile"), "--old-file", "setup", "--no-print-directory", f"PY={PYTHON}"]
    shown = in_shell([shlex.join([*make, "run"])], tmp_path, **models)

    (run,) = (tmp_path / "data" / "runs").iterdir()
    assert f"data/runs/{run.name}/report.html" in shown and (run / "report.html").exists()
    scored = schema.read_rows(run / "scored.csv", Scored)
    chosen = [row for row in scored if row.verdict == "chosen"]
    assert len({row.comment_id for row in scored}) == 10 and chosen and not (run / "submitted.csv").exists()
    # the table looks as in the README
    (sample,) = re.findall(r"```text\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[:1]
    summary = r"\d+ of 10 comments get a reply\. \d+ candidates: \d+ chosen, \d+ kept, \d+ refused"
    assert re.search(summary, " ".join(sample.split())) and re.search(summary, " ".join(shown.split()))
    assert sample.split()[: len(HEADS)] == HEADS and re.search(r"\s+".join(HEADS), shown)
    assert f"{len(chosen)} of 10 comments get a reply" in shown and "Dry run: nothing was sent." in shown


def test_a_dry_run_on_a_subreddit(tmp_path: Path, models: dict[str, str]) -> None:
    """README, as it stands, with a sandbox in the place of Reddit and of r/books."""
    commands = [line.replace('"books"', '"sandbox_books"') for line in script("subreddit")]
    assert commands != script("subreddit")
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        shown = in_shell(commands, tmp_path, BOT_REDDIT__URL=running.url, **models)
        assert running.store.comments_by(sandbox.USERNAME) == []
    checked = dict(re.findall(r"^(\S.*?)  +(ok|note|FAIL)  ", shown, re.MULTILINE))
    assert checked["config"] == checked["reads"] == checked["Reddit"] == "ok" and "FAIL" not in checked.values()
    (run,) = (tmp_path / "data" / "runs").iterdir()
    assert {row.subreddit for row in schema.read_rows(run / "comments.csv", Comment)} == {"sandbox_books"}
    verdicts = {row.verdict for row in schema.read_rows(run / "scored.csv", Scored)}
    assert {"chosen", "kept"} <= verdicts and (run / "report.html").exists()
    assert not (run / "submitted.csv").exists() and not list(tmp_path.rglob("ledger*"))


def test_own_models_from_own_dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/training.md: every command in this process, because each process would import PyTorch again."""
    monkeypatch.chdir(tmp_path)
    write_dumps(tmp_path / "DUMPS")
    (toml,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    Path("mine.toml").write_text(toml, encoding="utf-8")
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("smollm2-135m-instruct", tiny.language_model(tmp_path / "lm"))
    pull.pull("minilm-l6", tiny.encoder(tmp_path / "encoder", head=False))
    others = {"RANK__CHOICE": "", "RANK__WEIGHTS__CHOICE": 0, "GENERATE__MAX_NEW_TOKENS": 8, "BASES": bases.BASE_DIR}  # not trained here
    for line in script("train"):
        words = shlex.split(line)
        assert words[:2] == ["python", "run_bot.py"]
        fast = {"train": ["--no-evaluate"], "run": ["--limit", "2"]}.get(words[2], [])
        tiny.start_in_process([*words[2:], *fast], others)
        if words[2] == "train":  # here, as `generate` and `run` would start a process for it
            to_ctranslate2.export(Path(words[words.index("--out") + 1]), "int8")

    labels = Counter((row.label, bool(row.generator)) for row in schema.read_rows(Path("data/prepared/realism_train.csv"), RealismRow))
    assert labels.keys() == {(1, False), (0, True)}
    assert {name: cards.read_card(Path("models") / f"my-{name}").kind for name in ("lm", "realism", "upvote", "relevance")} == {
        name: name for name in ("lm", "realism", "upvote", "relevance")
    }
    (run,) = Path("data/runs").iterdir()
    candidates, scored = schema.read_rows(run / "candidates.csv", Candidate), schema.read_rows(run / "scored.csv", Scored)
    assert {row.generator for row in candidates} == {"ctranslate2:my-lm-int8"} and len(candidates) == 20
    assert len(scored) == 20 and all(None not in (row.realism_score, row.upvote_score, row.relevance_score) for row in scored)
    used = json.loads((run / "scores.csv.manifest.json").read_text(encoding="utf-8"))["made_from"]["settings"]
    assert all(used[name] == f"models/my-{name}" for name in ("realism", "upvote", "relevance"))
