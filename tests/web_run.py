"""Run folders with invented texts, and the web app as a process, for the tests of its pages.

python -m tests.web_run FOLDER        write such a run, to look at the pages by hand
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot import schema
from bot.cli import ROOT, die_with_parent, with_root
from bot.schema import Candidate, Comment, Context, Scored

SUBJECTS = ("the sourdough", "a folding bike", "the second season", "my tomato plants", "the library card", "an old film camera")
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
HOSTILE = f"{SCRIPT} \u202egnp.exe \x1b[31m " + "x" * 500 + " </textarea></div> " + "word " * 100  # 500 letters are wider than a screen
LONG_HOSTILE = f"{HOSTILE} {'x' * 5_000} {'word ' * 1_000}"
REPLIES = (
    "Mine needed a warmer spot, then it was fine after two days.",
    "The cheap one lasted longer than the good one for me.",
    "You could ask at the shop, they usually know.",
    "That happened to my neighbour as well.",
)


def write_run(run: Path, comments: int = 10, hostile: str = "") -> list[Comment]:
    """A run of `choose`: one comment a submission, the last two in one; four candidates each: kept, chosen, refused twice.

    hostile: this is the text of the first comment and of its chosen reply; the title and the author are hostile as well.
    """
    rows, context, scored = [], [], []
    for number in range(comments):
        thread = f"t3_{min(number, max(comments - 2, 0)):03}"
        name, subject = f"t1_{number:03}", SUBJECTS[number % len(SUBJECTS)]
        bad = bool(hostile) and not number
        comment = hostile if bad else f"Has anybody tried {subject} like this? It is my attempt number {number + 1}, and it failed again."
        title, author = (SCRIPT, SCRIPT[:40]) if bad else (f"What I learned about {subject}", f"reader_{number}")
        above, when = f"t1_a{number:02}", 1_760_000_000 + number
        link = "https://example.org/x"
        rows.append(Comment(name, thread, "books", title, comment, 3, when, 1, author, False, link, parent_id=above))
        context += [
            Context(thread, above, thread, f"I gave up on {subject} years ago.", "elder"),
            Context(thread, name, above, comment, author),
        ]
        last_of_two = comments > 1 and number == comments - 1
        second = ("kept", "other_comment_in_submission") if last_of_two else ("chosen", "")
        verdicts = [("kept", "not_best"), second, ("refused", "low_rank")]
        for each, (verdict, reason) in enumerate([*verdicts, ("refused", "insult")]):
            reply = hostile if bad and verdict == "chosen" else "You are an idiot." if reason == "insult" else f"{REPLIES[each]} ({number})"
            scores = (0.4 + each / 10, 0.5, 0.3, 0.7 if each == 1 else 0.6 - each / 10)
            scored.append(Scored(name, thread, "books", comment, f"{name}-{each}", reply, *scores, verdict, reason))
    schema.write_rows(run / "comments.csv", Comment, rows)
    schema.write_rows(run / "context.csv", Context, context)
    candidates = [Candidate(row.comment_id, row.candidate_id, 1, row.comment, row.reply, "tiny", -2.5) for row in scored]
    schema.write_rows(run / "candidates.csv", Candidate, candidates)
    schema.write_rows(run / "scored.csv", Scored, scored)
    schema.write_rows(run / "chosen.csv", Scored, [row for row in scored if row.verdict == "chosen"])
    return rows


# Settings of the web app for pages that answer no comment, so that its worker processes do not export the shipped models.
WITHOUT_MODELS = (
    '[generate]\nmodel = "none"\n[rank]\nrealism = ""\nupvote = ""\nrelevance = ""\nchoice = ""\n'
    "[rank.weights]\nrealism = 0\nupvote = 0\nrelevance = 0\nchoice = 0\n"
)


@contextmanager
def served(runs: Path, config: str = WITHOUT_MODELS, **environment: str) -> Iterator[str]:
    """`run_bot.py web` with this config, for a folder of run folders. Yields the printed URL."""
    (runs.parent / "config.toml").write_text(config)
    command = [sys.executable, "-P", "-m", "bot", "web", "--runs", str(runs), "--port", "0", "--config", str(runs.parent / "config.toml")]
    variables = with_root(os.environ) | {"BOT_WEB__STATE": str(runs.parent / "web.json"), **environment}
    with subprocess.Popen(
        command, env=variables, cwd=runs.parent, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(" ")[0]
        finally:
            process.kill()


if __name__ == "__main__":
    os.chdir(ROOT)
    write_run(Path(sys.argv[1]))
