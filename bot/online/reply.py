"""reply: try the bot on one comment, in the terminal. Nothing is posted and no file is written.

Reads  a comment, given as text, as `-` (standard input), or as the permalink of a comment on Reddit (which needs credentials).
Writes candidates as they are written, then all of them with their scores and reasons, then the reply that the bot would post.

    python run_bot.py reply "Which book made you laugh out loud on a train?" --subreddit books --title "Light reading"
    python run_bot.py reply https://www.reddit.com/r/books/comments/1abc/title/k9z8y7x/

It runs the stages of `run` with the same settings. The same text, options and seed give the same candidates.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot import cli, config, names, text
from bot.cli import UserError
from bot.online import answer
from bot.online.answer import Event, Question, Workers


def show(events: list[Event], console: Console) -> None:
    """Print the table of candidates, the chosen one first, and the reply."""
    last = events[-1]
    if last["type"] == "refused":
        console.print(Text(f"no reply, the comment is not answered: {last['phrase']} ({last['reason']})"))
        return
    replies = {event["number"]: event["reply"] for event in events if event["type"] == "candidate"}
    scores = {row["number"]: row for event in events if event["type"] == "scores" for row in event["rows"]}
    columns = [name for name in answer.SCORES if any(row[name] is not None for row in scores.values())]
    table = Table(box=box.HORIZONTALS, show_lines=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("candidate", ratio=3, overflow="fold")
    for name in columns:
        table.add_column(name.removesuffix("_score"), justify="right", no_wrap=True)
    table.add_column("verdict", ratio=2, overflow="fold")
    order = {"chosen": 0, "kept": 1, "refused": 2}
    for row in sorted(last["rows"], key=lambda row: (order[row["verdict"]], -(scores[row["number"]]["rank_score"] or 0))):
        number = row["number"]
        values = ("" if (value := scores[number][name]) is None else f"{value:.2f}" for name in columns)
        why = f"{row['verdict']}: {row['phrase']}" if row["phrase"] else row["verdict"]
        table.add_row(str(number + 1), Text(text.printable(replies[number])), *values, Text(why))
    console.print(table)
    chosen = last["chosen"]
    console.print(Text(answer.NOTHING if chosen is None else f"reply: {text.printable(replies[chosen])}"))


def question_of(comment: str, settings: config.Settings, config_file: Path | None) -> Question:
    """The question for a text, `-` or a permalink. Raises UserError if there is no comment."""
    if names.permalink_ids(comment, settings.reddit.url):
        return answer.fetched(comment, config_file)
    body = sys.stdin.read() if comment == "-" else comment
    if not body.strip():
        raise UserError("no comment; give its text, its permalink, or - for standard input")
    return Question(body)


def main(
    comment: Annotated[str, typer.Argument(help="the comment, its permalink, or - for standard input")],
    subreddit: Annotated[str, typer.Option(help="where the comment is")] = "",
    title: Annotated[str, typer.Option(help="the title of its submission")] = "",
    num_candidates: Annotated[int | None, typer.Option(min=1, max=1000, help="[default: generate.num_candidates]")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.01, max=5, help="[default: generate.temperature]")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same text")] = 1,
    model: Annotated[Path | None, typer.Option(help="folder of the generator [default: generate.model]")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Show what the bot would reply to a comment."""
    settings = answer.with_model(config.load(config_file), model)  # before the workers load another one
    question = question_of(comment, settings, config_file)
    question = replace(
        question,
        subreddit=subreddit or question.subreddit,
        title=title or question.title,
        num_candidates=num_candidates,
        temperature=temperature,
        seed=seed,
    )
    console, events = Console(highlight=False), []
    with Workers(settings) as workers:
        answers = workers.answer(question)
        with cli.waiting("loading the models"):
            first = next(answers)
        for event in chain([first], answers):
            events.append(event)
            if event["type"] == "candidate":
                console.print(Text(f"{event['number'] + 1:>3}  {text.printable(event['reply'])}"), style="dim")
    show(events, console)
