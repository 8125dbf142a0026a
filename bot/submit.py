"""submit: post what was chosen, into the sandbox only.

Reads  RUN/chosen.csv.
Writes RUN/submitted.csv, one row an attempt.

    python -m bot.submit --run data/runs/X

Posting to Reddit itself waits for the ledger and the conduct rules; until then anything but a loopback URL is refused. A comment that
already has our reply isn't answered again, so a run that was killed between a post and this file goes on without doubling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from bot import UserError, config, reddit, run_command, schema
from bot.reddit import Outcome
from bot.schema import Scored, Submitted

Post = Callable[[str, str], tuple[Outcome, str]]  # (comment_id, text) -> outcome, reply_id («» where there is none)


def submit(chosen: Iterable[Scored], answered: Mapping[str, str], post: Post) -> list[Submitted]:
    """Post each chosen reply whose comment isn't answered yet. answered: comment_id -> id of our reply there."""
    attempts = []
    for row in chosen:
        if row.comment_id in answered:
            outcome, reply_id = Outcome.POSTED, answered[row.comment_id]
        else:
            outcome, reply_id = post(row.comment_id, row.reply)
        attempts.append(Submitted(row.comment_id, row.thread_id, row.candidate_id, outcome.value, reply_id, int(time.time())))
    return attempts


def main(
    run: Annotated[Path, typer.Option(help="run folder: reads chosen.csv, writes submitted.csv")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Post what was chosen into the sandbox."""
    settings = config.load(config_file).reddit
    if not reddit.is_sandbox(settings.url):
        raise UserError("only the sandbox can be posted to (reddit.url: a loopback address); `run_bot.py run --sandbox --post` starts one")
    chosen = schema.read_rows(run / "chosen.csv", Scored)
    made_from = {"chosen": schema.sha256_of(run / "chosen.csv")}
    submitted = run / "submitted.csv"
    if schema.is_current(submitted, made_from):
        print(f"{submitted} is there already")
        return
    client = reddit.connect(settings)
    attempts = submit(chosen, reddit.own_replies(client), lambda comment_id, text: reddit.reply(client, comment_id, text))
    schema.write_rows(submitted, Submitted, attempts, made_from)
    posted = sum(attempt.outcome == Outcome.POSTED for attempt in attempts)
    print(f"{posted} of {len(attempts)} replies posted in the sandbox; {submitted}")


if __name__ == "__main__":
    run_command(main, "python -m bot.submit")
