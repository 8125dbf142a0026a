"""Python runs this when it starts, in tests without the fixture `cold`: a program of the bot continues in a fork of server.py.

The fork has the same arguments, environment, working folder and open files. This process waits for it, passes signals on and ends with its
status. Other programs start as usual, and so do processes of multiprocessing, which inherit more open files, and all programs until the
server is ready.
"""

import os
import sys


def program() -> list[str]:
    """The words of `python [-P] -m bot… WORDS`, `python …/run_bot.py WORDS` or `python -c CODE WORDS` without python; empty for others."""
    words = [word for word in sys.orig_argv[1:] if word != "-P"]
    of_bot = (words[:1] == ["-c"] and not words[1].startswith("from multiprocessing")) or (
        words[:1] == ["-m"] and words[1].split(".")[0] == "bot"
    )
    return words if of_bot or (words and os.path.basename(words[0]) == "run_bot.py") else []  # noqa: PTH119


def continue_in_fork(address: str, words: list[str]) -> int:
    """Returns the exit status, negative if a signal killed the fork."""
    import json
    import signal
    import socket

    passed = {number: signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)}
    request = {
        "words": words,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "parent": os.getppid(),
        "ignored": [number for number, ignored in passed.items() if ignored],
    }
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        socket.send_fds(link, [b"\0"], [0, 1, 2])
        link.sendall(json.dumps(request).encode() + b"\n")
        for number, ignored in passed.items():
            if not ignored:
                signal.signal(number, lambda number, _: link.sendall(bytes([number])))
        return int(link.recv(16) or -signal.SIGKILL)


def wake(address: str) -> None:
    """Have the server started, without waiting for it, because its imports take longer than some programs may take to start."""
    import contextlib
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as link:
        link.connect(address)


def main() -> None:
    words, address = program(), os.environ.get("WARM")
    if not words or not address:
        return
    if not os.path.exists(f"{address}.ready"):  # noqa: PTH110
        wake(address)
        return
    status = continue_in_fork(address, words)
    if status < 0:
        import signal

        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


main()
