"""judge: the command and the page for blind pairwise reading. The rest is in bot/evaluate/judge.py.

Reads  scored files, and a comments.csv next to them.
Writes judgements.csv (--out); or sheet.csv (--sheet).

    python run_bot.py judge RUN/scored.csv --port 8001            read on a page, on 127.0.0.1 only
    python run_bot.py judge RUN/scored.csv --by upvote_score      read in the terminal

Each answer is one form, and the next page shows the next pair. An answer to a pair that was already answered, such as in another tab, is
ignored.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from flask import Blueprint, abort, redirect, render_template, request, url_for

from bot import files
from bot.cli import UserError
from bot.evaluate import judge
from bot.evaluate.judge import ACCEPTABLE, BETTER, Answer, Reading
from bot.web import server

NOTES = {
    "answered": "That pair was already answered, perhaps in another tab. This answer was not saved.",
    "undone": "The last answer was removed.",
    "not_last": "That answer is no longer the last one. Nothing was removed.",
}


def make_pages(reading_of: Callable[[str], Reading], runs: Callable[[], Sequence[str]] | None = None) -> Blueprint:
    """The pages of blind reading: the next pair, and the forms for an answer and for undo.

    reading_of: the reading of a run by its name, for the current visitor. runs: the names of the runs to choose from, on a page of its own;
    None if there is only one reading, which needs no name and starts at /.
    """
    pages = Blueprint("judge", __name__)
    at = "/<run>/" if runs else "/"

    def back(run: str, note: str | None) -> Any:
        return redirect(url_for("judge.show", run=run or None, note=note), 303)

    if runs is not None:

        @pages.get("/")
        def index() -> str:
            return render_template("judge_runs.html.j2", runs=runs())

    @pages.get(at)
    def show(run: str = "") -> str:
        reading = reading_of(run)
        answered = reading.answered()
        return render_template(
            "judge.html.j2",
            run=run or None,
            pair=reading.next_pair(answered),
            done=len(answered),
            total=len(reading.pairs),
            last=answered[-1] if answered else None,
            who=reading.who,
            note=NOTES.get(request.args.get("note", "")),
        )

    @pages.post(f"{at}answer")
    def answer(run: str = "") -> Any:
        reading, form = reading_of(run), request.form
        pair_id, better, first, second = (form.get(name, "") for name in ("pair_id", "better", "first_acceptable", "second_acceptable"))
        if better not in BETTER or not {first, second} <= ACCEPTABLE.keys() or pair_id not in {pair.pair_id for pair in reading.pairs}:
            abort(400)
        new = reading.record({pair_id: Answer(BETTER[better], ACCEPTABLE[first], ACCEPTABLE[second])})
        return back(run, None if new else "answered")

    @pages.post(f"{at}undo")
    def undo(run: str = "") -> Any:
        return back(run, "undone" if reading_of(run).undo(request.form.get("pair_id", "")) else "not_last")

    return pages


def main(
    scored: Annotated[list[Path], typer.Argument(help="scored files, such as RUN/scored.csv; their pairs are mixed")],
    by: Annotated[
        str, typer.Option(help="how to determine the pick: verdict (the chosen candidate), or a score, such as rank_score")
    ] = judge.VERDICT,
    out: Annotated[Path, typer.Option(help="answers are appended to this file; the same command resumes")] = judge.JUDGEMENTS,
    reader: Annotated[str, typer.Option(help="name of the reader [default: the login name]")] = "",
    seed: Annotated[int, typer.Option(help="chooses the other candidate, the sides and the order")] = 1,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="serve a page on this port of 127.0.0.1; 0 for any free one")] = None,
    sheet: Annotated[Path | None, typer.Option(help="write a blind sheet that other readers can fill in")] = None,
    answers: Annotated[Path | None, typer.Option(help="read the answers from a sheet that was filled in")] = None,
) -> None:
    """Read pairs of candidates blind: which is better, and is each acceptable?"""
    if sum(each is not None for each in (port, sheet, answers)) > 1:
        raise UserError("--port, --sheet and --answers exclude each other; give only one of them")
    if sheet is not None:
        files.check_output(sheet, scored)
    else:
        files.check_output(out, [*scored, *([answers] if answers else [])], is_ours=judge.is_judgements)
    if answers is not None and not reader:
        raise UserError("--answers also needs --reader NAME: the answers of a sheet are those of the person who filled it in")
    pairs, without = judge.read_pairs(scored, by, seed)
    for reason, count in without.items():
        print(f"{count} comments left out: {reason}")
    if sheet is not None:
        judge.write_sheet(pairs, sheet)
        print(f"{sheet}: {len(pairs)} pairs; fill in better (first, second or equal), first_acceptable and second_acceptable (yes or no)")
        return
    reading = Reading(pairs, out, reader or user_name())
    if answers is not None:
        given = judge.read_answers(answers, pairs)
        print(f"{reading.record(given)} new answers of {len(given)}")
    elif port is not None:
        server.serve(server.make_app(make_pages(lambda _: reading)), server.listen(port))
    else:
        judge.read_in_terminal(reading)
    print(f"{len(reading.answered())} of {len(pairs)} pairs read by {reading.who}: {out}; `run_bot.py judge table {out}` shows the results")


def user_name() -> str:
    """The name of this machine's user. Raises UserError if it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UserError("this user has no name; give --reader NAME") from None
