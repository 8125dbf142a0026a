"""A process that has imported the frameworks and forks for each program that sitecustomize.py sends, because imports take most of the time
of a stage with a tiny model. Nothing of the bot is imported before the fork.

    python tests/warm/server.py N        N: the file descriptor of a listening Unix socket
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def import_frameworks() -> None:
    sys.path[0] = str(ROOT)
    with contextlib.suppress(ImportError):  # first, see conftest.py
        import triton  # type: ignore[import-not-found]  # noqa: F401
    from bot.weights import loading

    with loading.importing_tensorflow():
        import tensorflow
        import tf_keras  # noqa: F401
    import ctranslate2  # noqa: F401
    import peft  # noqa: F401
    import praw  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch  # noqa: F401
    import typer  # noqa: F401
    from transformers import AutoModelForCausalLM, BertForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast  # noqa: F401

    del tensorflow
    for name in [name for name in sys.modules if name.split(".")[0] == "bot"]:  # some read the environment when they are imported
        del sys.modules[name]
    gc.freeze()


def serve(descriptor: int) -> list[str]:
    """Returns the words of the program, in a fork for each request."""
    import_frameworks()
    with socket.socket(fileno=descriptor) as door:
        Path(f"{door.getsockname()}.ready").touch()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
        while True:
            link, _ = door.accept()
            if not os.fork():
                break
            link.close()
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with link:
        _, descriptors, _, _ = socket.recv_fds(link, 1, 3)
        if not descriptors:  # it only woke the server
            os._exit(0)
        with link.makefile("rb", buffering=0) as lines:
            request = json.loads(lines.readline())
        stage = os.fork()
        if stage:
            for descriptor in descriptors:
                os.close(descriptor)
            keep(link, stage)
    die_with_parent()
    return become(request, descriptors)


def keep(link: socket.socket, stage: int) -> None:
    """Pass signals to the stage until it ends, and kill it if its caller dies."""
    ended = os.pidfd_open(stage)
    watched = [link.fileno(), ended]
    while ended not in (ready := select.select(watched, [], [])[0]) and ready:
        for number in link.recv(16) or [signal.SIGKILL]:
            os.kill(stage, number)
            if number == signal.SIGKILL:
                watched = [ended]
    status = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the caller was killed
        link.sendall(str(status).encode())
    os._exit(0)


def become(request: dict[str, Any], descriptors: list[int]) -> list[str]:
    """Make this process like the one that sent the request. Returns the words of its program."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.getppid = lambda: request["parent"]
    for number in (signal.SIGINT, signal.SIGTERM):
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw: Any = open(number, "wb", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        lines = name == "stderr" or os.isatty(number)
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=lines, write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return list(request["words"])


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG, man 2 prctl


def run(words: list[str]) -> int:
    """Run the program in this process. Returns its exit status."""
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    status = run(serve(int(sys.argv[1])))
    threading._shutdown()  # type: ignore[attr-defined]  # joins threads, like the end of the interpreter
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 255)  # without freeing all modules, which would copy their memory


main()
