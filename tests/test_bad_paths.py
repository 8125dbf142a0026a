"""Every stage, with each of its path options set to something else than it expects: one line, and no traceback."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bot.__main__ import STAGES, command_of
from bot.cli import ROOT

# What a path may be instead of what the stage expects. The last is a place that even root cannot write.
WRONG = ("missing", "folder", "binary", "binary/below", "empty.csv", "/proc/1/nothing/here")
# Arguments without which a stage would begin to work, or would wait for a person.
ALSO = {"extract": ["--source", "dumps"], "forget": ["somebody"], "unbench": ["books"], "prune": ["--older-than", "30d"],
        "models pull": ["minilm-l6"], "reply": ["Hello?"], "generate": ["--seed", "1"],
        "web": ["--port", "0"], "sandbox": ["--port", "0"]}  # fmt: skip
STATUSES = (1, 69, 77, 78)


def path_options(stage: str) -> Iterator[tuple[str, bool]]:
    """The options of a stage that take a path, each with whether it is required; an argument has an empty name."""
    function = command_of(stage)
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, *infos = typing.get_args(parameter.annotation)
        if "Path" not in str(kind) or not infos:
            continue
        declared = [each for each in (infos[0].default, *(infos[0].param_decls or ())) if str(each).startswith("--")]
        option = declared[0] if declared else f"--{name.replace('_', '-')}"
        yield "" if isinstance(infos[0], typer.models.ArgumentInfo) else option, parameter.default is inspect.Parameter.empty


def calls(stage: str) -> Iterator[list[str]]:
    """One call for each path option and each wrong value; the other required paths do not exist."""
    options = list(path_options(stage))
    for chosen, _ in options:
        for value in WRONG:
            others = [
                part for name, is_required in options if is_required and name != chosen for part in ([name] if name else []) + ["no.csv"]
            ]
            yield [*stage.split(), *ALSO.get(stage, []), *others, *([chosen] if chosen else []), value]


PROGRAM = """
import contextlib, io, json, sys, traceback, waitress, werkzeug.serving

def stop(*_, **__):
    raise SystemExit(0)

waitress.server.create_server = waitress.create_server = werkzeug.serving.BaseWSGIServer.serve_forever = stop  # where a stage would serve
from bot import cli
from bot.__main__ import command_of, find
for line in sys.stdin.read().splitlines():
    stage, arguments = find(line.split("\\t"))
    error = io.StringIO()
    status = 0
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.run_command(command_of(stage), stage, arguments)
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = "traceback"
    print(json.dumps([arguments, status, error.getvalue()]), file=sys.__stdout__, flush=True)
"""


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_wrong_path_gives_one_line(stage: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").touch()
    lines = ["\t".join(call) for call in calls(stage)]
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    if stage in ("models export", "reply"):  # otherwise, where nothing is wrong, they would export the shipped models
        environment["BOT_GENERATE__MODEL"] = "no-model"
    if stage == "web":  # its processes end more slowly in a fork
        del environment["WARM"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        input="\n".join(lines),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(lines), done.stderr
    for arguments, status, error in results:
        assert status == 0 or (status in STATUSES and last_line(error).startswith(f"{stage}: ")), f"{stage} {arguments}: {status}\n{error}"


def last_line(error: str) -> str:
    return (error.splitlines() or [""])[-1]
