"""chat: talk with the bot in the terminal. Nothing is posted and no file is written.

Reads  lines from standard input: each is a comment, answered through the pipeline of `run` with the same checks. Ctrl-D ends it.
Writes the bot's reply, or why there is none.

    python run_bot.py chat
    python run_bot.py chat --model models/lm-other

What was said before is judged with a comment, as on the page Chat of `web`: the person's earlier lines as texts above it, and the bot does
not repeat itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config, text
from bot.online import answer
from bot.online.answer import Event, Question, Workers

ABOVE_TEXTS = 5  # earlier texts of the same person, which are judged too
THREAD_TEXTS = 20  # texts with which a reply is compared
NOT_ANSWERED = "not answered: {}"


@dataclass(frozen=True)
class Turn:
    """A line of the person, and the bot's reply to it, empty if there was none."""

    line: str
    reply: str


def question(line: str, turns: Sequence[Turn]) -> Question:
    """The line as a comment, after what was said before."""
    lines, replies = [turn.line for turn in turns], [turn.reply for turn in turns if turn.reply]
    return question_after(line, len(turns) + 1, lines, lines, replies)


def question_after(line: str, seed: int, above: Sequence[str], thread: Sequence[str], own: Sequence[str]) -> Question:
    """The line as a comment, after a conversation. above: what this person wrote; thread: what everybody wrote; own: the bot's replies."""
    thread, own = thread[-THREAD_TEXTS:], own[-THREAD_TEXTS:]
    return Question(line, seed=seed, above=tuple(above[-ABOVE_TEXTS:]), thread=tuple(thread), own=tuple(own))


def outcome(events: Sequence[Event]) -> tuple[str, str]:
    """The reply, empty if there is none; and why there is none. events: all of a comment.

    >>> outcome([{"type": "candidate", "number": 0, "reply": "Yes."}, {"type": "choice", "chosen": 0, "rows": []}])
    ('Yes.', '')
    """
    last = events[-1]
    if last["type"] == "refused":
        return "", NOT_ANSWERED.format(last["phrase"])
    if last["chosen"] is None:
        return "", answer.NOTHING
    return next(str(event["reply"]) for event in events if event["type"] == "candidate" and event["number"] == last["chosen"]), ""


def typed_lines() -> Iterator[str]:
    """The lines of standard input that are not empty."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):
            import readline  # noqa: F401  # lets `input` edit lines and repeat earlier ones
    while True:
        try:
            line = input("you: " if is_terminal else "")
        except EOFError:
            return
        if line.strip():
            yield line


def main(
    model: Annotated[Path | None, typer.Option(help="folder of the generator [default: generate.model]")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Talk with the bot. Ctrl-D ends it."""
    settings = answer.with_model(config.load(config_file), model)
    turns: list[Turn] = []
    with Workers(settings) as workers:
        cli.say("the models are loading; Ctrl-D ends the chat")
        for line in typed_lines():
            try:
                with cli.waiting("writing and ranking candidates"):
                    reply, why = outcome([*workers.answer(question(line, turns))])
            except answer.Died as error:
                reply, why = "", str(error)
            turns.append(Turn(line, reply))
            print(text.printable(f"bot: {reply}" if reply else f"({why})"), flush=True)
    if sys.stdin.isatty():
        print()
