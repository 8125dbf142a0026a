"""report: the results of a run, as a page and as a table.

Reads  RUN/comments.csv, RUN/candidates.csv, RUN/scored.csv, RUN/chosen.csv, their manifests, and, if present, RUN/context.csv,
       RUN/skipped.csv and RUN/submitted.csv.
Writes RUN/report.html, a single self-contained file without scripts, and RUN/for_spreadsheet.csv, the candidates with every cell made safe
       to open in a spreadsheet. Prints the table, then the path of the page.

    python run_bot.py report --run data/runs/X

All text in a run was written by strangers or by a model, so it is not trusted: the page escapes it (and its content security policy blocks
loading anything), and the table prints it without control characters and without interpreting markup.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import jinja2
import typer
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot import files, names, schema, text
from bot.conduct.reasons import Reason
from bot.conduct.what import Unfit
from bot.conduct.when import Refusal
from bot.posting.ledger import Settled
from bot.reddit.outcomes import Outcome
from bot.report import plots
from bot.report.journal import read_submitted
from bot.schema import Candidate, Comment, Context, NotChosen, Scored, Skipped, Submitted, Verdict

# --- labels -----------------------------------------------------------------------------------------------------------
# Names in CSV files that have no entry here are shown unchanged.

SKIP_REASONS = schema.phrases(Reason)
CANDIDATE_REASONS = schema.phrases(NotChosen, Unfit)
VERDICTS = schema.phrases(Verdict)
OUTCOMES = {
    **{name: f"not posted, when checked again: {phrase}" for name, phrase in SKIP_REASONS.items()},
    **{name: f"not posted: {phrase}" for name, phrase in schema.phrases(Unfit).items()},
    **schema.phrases(Outcome, Refusal, Settled),
}
SCORES = {
    "realism_score": ("Realism", "probability that the reply was written by a person, from 0 to 1"),
    "upvote_score": ("Upvote", "how well the reply would do among other replies to the same comment, from 0 to 1"),
    "relevance_score": ("Relevance", "probability that the reply belongs to this comment, from 0 to 1"),
    "choice_score": ("Choice", "probability that a reader accepts the reply as an answer, from 0 to 1"),
    "rank_score": ("Rank", "the combined score by which candidates are ordered, from 0 to 1"),
}
# (file whose manifest has the setting, keys in the manifest, label, explanation)
SETTINGS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("comments", ("fetch", "subreddits"), "subreddits", "from which comments were fetched"),
    ("comments", ("fetch", "listing"), "listing", "order in which a subreddit's submissions were listed"),
    ("comments", ("fetch", "submissions"), "submissions", "per subreddit"),
    ("comments", ("fetch", "depth"), "maximum depth", "0 is a comment directly under the submission"),
    ("comments", ("fetch", "minimum_karma"), "minimum karma", "of a comment"),
    ("comments", ("fetch", "maximum_age_hours"), "maximum age", "of a comment, in hours"),
    ("comments", ("limit",), "limit", "maximum number of comments to answer"),
    ("candidates", ("settings", "model"), "generator", "folder of the model that wrote the candidates"),
    ("candidates", ("settings", "num_candidates"), "candidates", "per comment"),
    ("candidates", ("settings", "temperature"), "temperature", "of sampling; lower is more predictable"),
    ("candidates", ("settings", "top_p"), "top_p", "sampling from the most likely tokens that have this total probability"),
    ("candidates", ("settings", "max_new_tokens"), "maximum tokens", "in a candidate"),
    ("candidates", ("seed",), "seed", "the same seed and model give the same candidates"),
    ("candidates", ("model",), "generator checksum", "first 12 digits of the sha256 of the model's files"),
    ("scores", ("settings", "realism"), "realism ranker", "folder of the model"),
    ("scores", ("models", "realism"), "realism ranker checksum", "as above"),
    ("scores", ("settings", "upvote"), "upvote ranker", "folder of the model"),
    ("scores", ("models", "upvote"), "upvote ranker checksum", "as above"),
    ("scores", ("settings", "relevance"), "relevance ranker", "folder of the model"),
    ("scores", ("models", "relevance"), "relevance ranker checksum", "as above"),
    ("scores", ("settings", "choice"), "choice ranker", "folder of the model"),
    ("scores", ("models", "choice"), "choice ranker checksum", "as above"),
    ("scores", ("settings", "weights"), "weights", "of the signals in rank_score"),
    ("chosen", ("settings", "minimum_realism"), "realism threshold", "candidates with a lower realism score are refused"),
    ("chosen", ("settings", "minimum_rank"), "rank threshold", "candidates with a lower rank score are refused"),
    ("chosen", ("settings", "minimum_words"), "minimum words", "shorter candidates are refused"),
)
# Shown while the full list of settings is collapsed.
MAIN_SETTINGS = frozenset({
    "generator", "candidates", "temperature", "top_p", "seed", "realism ranker", "upvote ranker", "relevance ranker", "choice ranker",
    "rank threshold",
})  # fmt: skip

# --- a run --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """The content of a run folder. made_from: file -> `made_from` of its manifest.

    submitted: what became of the replies in chosen.csv, None if none of them was submitted (a dry run). submitted_before: rows of
    submitted.csv about other texts, from an earlier run of the same folder.
    """

    name: str
    comments: list[Comment]
    context: list[Context]
    skipped: list[Skipped]
    candidates: list[Candidate]
    scored: list[Scored]
    chosen: list[Scored]
    submitted: list[Submitted] | None
    submitted_before: int
    left_out: dict[str, int]  # comments without candidates, by reason
    made_from: dict[str, dict[str, Any]]


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises FileError if a file is missing or invalid."""

    def optional(name: str, row_type: type[schema.Row]) -> list[schema.Row]:
        return schema.read_rows(folder / name, row_type) if (folder / name).exists() else []

    submitted, submitted_before = read_submitted(folder)
    manifests = {stem: files.read_manifest(folder / f"{stem}.csv") or {} for stem in ("comments", "candidates", "scores", "chosen")}
    return Run(
        name=folder.resolve().name,
        comments=schema.read_rows(folder / "comments.csv", Comment),
        context=optional("context.csv", Context),
        skipped=optional("skipped.csv", Skipped),
        candidates=schema.read_rows(folder / "candidates.csv", Candidate),
        scored=schema.read_rows(folder / "scored.csv", Scored),
        chosen=schema.read_rows(folder / "chosen.csv", Scored),
        submitted=submitted,
        submitted_before=submitted_before,
        left_out=manifests["candidates"].get("left_out") or {},
        made_from={stem: manifest.get("made_from") or {} for stem, manifest in manifests.items()},
    )


def dig(tree: Any, keys: Sequence[str]) -> Any:
    """The value under nested keys; None if there is none.

    >>> dig({"settings": {"model": "m"}}, ["settings", "model"]), dig({}, ["settings", "model"])
    ('m', None)
    """
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def by_comment(rows: Iterable[Scored]) -> dict[str, list[Scored]]:
    """comment_id -> rows, highest rank_score first, then by candidate_id (the order of `choose`)."""
    groups: dict[str, list[Scored]] = {}
    for row in rows:
        groups.setdefault(row.comment_id, []).append(row)
    return {name: sorted(group, key=lambda row: (-(row.rank_score or 0.0), row.candidate_id)) for name, group in groups.items()}


def counted(names: Iterable[str]) -> str:
    """The names with their counts, most frequent first.

    >>> counted(["b", "a", "b"])
    'b 2, a 1'
    """
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def why_nothing(rows: Sequence[Scored], thread_answered: bool) -> str:
    """Why a comment with these candidates gets no reply.

    >>> why_nothing([], False)
    'nothing: no candidates were made'
    """
    if not rows:
        return "nothing: no candidates were made"
    refused = [row.reason for row in rows if row.verdict == "refused"]
    if len(refused) == len(rows):
        return f"nothing: all {len(rows)} refused ({counted(refused)})"
    if thread_answered:
        return "another comment of this submission was answered"
    return f"nothing: {len(rows) - len(refused)} of {len(rows)} kept, none chosen"


def sent(run: Run) -> str:
    """A sentence about what was submitted, where, and with which outcomes."""
    before = (
        f" An earlier run of this folder submitted {_many(run.submitted_before, 'other text', 'other texts')}."
        if run.submitted_before
        else ""
    )
    if run.submitted is None:
        return f"Nothing from this run was sent.{before}" if before else "Dry run: nothing was sent."
    where = " in the local sandbox" if dig(run.made_from, ["comments", "source"]) == "sandbox" else ""
    here = {comment.comment_id for comment in run.comments}
    own = [row for row in run.submitted if row.comment_id in here]
    waiting = [row for row in run.submitted if row.comment_id not in here]
    also = f" Waiting replies of other runs: {_posted(waiting)}." if waiting else ""
    return f"Submitted: {_posted(own, where)}.{also}{before}"


def _posted(rows: Sequence[Submitted], where: str = "") -> str:
    posted = sum(row.outcome == "posted" for row in rows)
    failed = counted(row.outcome for row in rows if row.outcome != "posted")
    return f"{posted} of {_many(len(rows), 'reply', 'replies')} posted{where}{f' ({failed})' if failed else ''}"


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


# --- the table ----------------------------------------------------------------------------------------------------------


def shorten(body: str, length: int) -> str:
    """At most `length` characters.

    >>> shorten("one two three", 8)
    'one two…'
    """
    return body if len(body) <= length else body[: length - 1].rstrip() + "…"


def number(value: float | None) -> str:
    """A score truncated to two decimals (0.499 must not look as if it reached 0.50); – if there is none.

    >>> number(0.4999), number(0.57), number(None)
    ('0.49', '0.57', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{math.floor(value * 100 + 1e-9) / 100:.2f}"


def table(run: Run, width: int) -> Table:
    """One row per comment: the comment, the chosen reply and its scores, or why there is no reply. width: of the terminal."""
    chosen = {row.comment_id: row for row in run.chosen}
    by_person = {
        row.comment_id: row.reply
        for row in run.submitted or []
        if row.reply and (row.comment_id not in chosen or chosen[row.comment_id].reply != row.reply)
    }
    threads = {row.thread_id for row in run.chosen}
    groups = by_comment(run.scored)
    result = Table(box=box.HORIZONTALS, show_lines=True, width=min(width, 180), pad_edge=False, header_style="bold")
    result.add_column("comment", ratio=4, overflow="fold")
    result.add_column("best reply", ratio=7, overflow="fold")
    for name in ("realism", "upvote", "relevance" if width >= 100 else "rele-\nvance"):
        result.add_column(name, justify="right", no_wrap=True)
    for comment in run.comments:
        quoted = Text(f"{text.printable(comment.author) or '(unknown)'}: ", style="dim")
        quoted.append(shorten(text.printable(comment.comment), max(40, int(width * 0.9))), style="not dim")
        row = chosen.get(comment.comment_id)
        if comment.comment_id in by_person:
            words = Text("a person’s choice: ", style="dim")
            words.append(text.printable(by_person[comment.comment_id]), style="not dim")
            result.add_row(quoted, words, *[Text("–", style="dim")] * 3)
        elif row is None:
            why = why_nothing(groups.get(comment.comment_id, []), comment.thread_id in threads)
            result.add_row(quoted, Text(text.printable(why), style="italic yellow"), *[Text("–", style="dim")] * 3)
        else:
            scores = (row.realism_score, row.upvote_score, row.relevance_score)
            result.add_row(quoted, Text(text.printable(row.reply)), *(Text(number(score)) for score in scores))
    return result


def print_table(folder: Path, console: Console | None = None) -> None:
    """Print a run as a table with its counts, in colour on a terminal.

    Raises:
        FileError: a file of the run is missing or invalid.
    """
    _print(read_run(folder), console or Console(highlight=False))


def _print(run: Run, console: Console) -> None:
    if not run.comments:
        why = counted(row.reason for row in run.skipped)
        words = f"No comments to answer; {len(run.skipped)} were skipped{f' ({why})' if why else ''}. {sent(run)}"
        console.print(Text(text.printable(words)))
        return
    console.print(table(run, console.width))
    verdicts = Counter(row.verdict for row in run.scored)
    reasons = counted(row.reason for row in run.scored if row.verdict == "refused")
    words = (
        f"{len(run.chosen)} of {_many(len(run.comments), 'comment gets', 'comments get')} a reply. "
        f"{_many(len(run.scored), 'candidate', 'candidates')}: {verdicts['chosen']} chosen, {verdicts['kept']} kept, "
        f"{verdicts['refused']} refused{f' ({reasons})' if reasons else ''}. {sent(run)}"
    )
    console.print(Text(text.printable(words)))


# --- spreadsheet --------------------------------------------------------------------------------------------------------


def safe_cell(body: str) -> str:
    """Text made safe for a spreadsheet: an apostrophe in front of anything that starts like a formula (OWASP, "CSV Injection").

    >>> safe_cell("=cmd|' /C calc'!A0"), safe_cell(" -1"), safe_cell("\\tx"), safe_cell("1 + 1 = 2")
    ("'=cmd|' /C calc'!A0", "' -1", "'\\tx", '1 + 1 = 2')
    """
    shown = text.BIDI.sub("\ufffd", text.UNPRINTABLE.sub("\ufffd", body))[:CELL_CHARACTERS]
    return f"'{shown}" if shown[:1] in ("\t", "\n", "\ufffd") or shown.lstrip()[:1] in _FORMULA else shown


CELL_CHARACTERS = 32_000  # a spreadsheet cell holds at most 32,767
_FORMULA = tuple("=+-@＝＋－＠")  # some spreadsheets also accept the full-width forms


def write_spreadsheet(rows: Iterable[Scored], path: Path) -> None:
    """Write the rows with every cell quoted, so that text never splits into cells, and with a byte order mark for UTF-8."""
    columns = schema.columns_of(Scored)
    with files.atomic_writer(path, newline="") as file:
        file.write("\ufeff")
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        for row in rows:
            cells = (getattr(row, column) for column in columns)
            writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])


# --- the page -----------------------------------------------------------------------------------------------------------


def plot(rows: Sequence[Scored], column: str, threshold: float | None = None) -> dict[str, str] | None:
    """Label, explanation and histogram of a score, for the template. None if no row has that score."""
    known = [(row.verdict, score) for row in rows if (score := getattr(row, column)) is not None and math.isfinite(score)]
    members = {verdict: [score for each, score in known if each == verdict] for verdict in Verdict}
    if not any(members.values()):
        return None
    label, meaning = SCORES[column]
    return {"label": label, "meaning": meaning, "svg": Markup(plots.score_svg(f"{label.lower()} score", members, threshold))}


def settings_rows(made_from: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(label, value, explanation) of the settings that the manifests contain."""
    rows = []
    for stem, keys, name, meaning in SETTINGS:
        value = dig(made_from, [stem, *keys])
        if value is None or value == []:
            continue
        if isinstance(value, dict):
            parts = [f"{each} {_plain(part)}" for each, part in value.items()]
        else:
            parts = [_plain(part) for part in (value if isinstance(value, list) else [value])]
        shown = ", ".join(parts)
        rows.append((name, shown[:12] if name.endswith("checksum") else shown, meaning))
    return rows


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def moment(utc: int) -> str:
    """Epoch seconds as date and time in UTC, or unchanged if they are out of range.

    >>> moment(1700000000)
    '14 Nov 2023, 22:13'
    """
    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=utc):%d %b %Y, %H:%M}"
    except OverflowError:
        return f"{utc} s"


def _card(comment: Comment, rows: list[Scored], run: Run, likelihoods: Mapping[tuple[str, str], float | None]) -> dict[str, Any]:
    """The data of one comment for the template."""
    chosen = next((row for row in run.chosen if row.comment_id == comment.comment_id), None)
    answered = next((row.comment_id for row in run.chosen if row.thread_id == comment.thread_id), None)
    # links into the sandbox stop working when the run ends
    linked = dig(run.made_from, ["comments", "source"]) != "sandbox" and is_web_address(comment.permalink)
    attempt = next((row for row in run.submitted or [] if row.comment_id == comment.comment_id), None)
    return {
        "comment": comment,
        "when": moment(comment.comment_utc),
        "link": comment.permalink if linked else "",
        "rows": [(row, likelihoods.get((row.comment_id, row.candidate_id))) for row in rows],
        "verdicts": Counter(row.verdict for row in rows),
        "chosen": chosen,
        "why": "" if chosen else why_nothing(rows, answered is not None),
        "answered": answered,
        "attempt": attempt,
        "reply_link": names.permalink(attempt.thread_id, attempt.reply_id) if linked and attempt and attempt.reply_id else "",
    }


def is_web_address(address: str) -> bool:
    """
    >>> [is_web_address(each) for each in ("https://www.reddit.com/r/x", "https:alert", "javascript:x", "http://[")]
    [True, False, False, False]
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def templates(*folders: Path) -> jinja2.Environment:
    """The page templates of some folders, with autoescape. Default: those of this module."""
    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(folders or (Path(__file__).parent,)),
    )


def page(run: Run, links: Sequence[tuple[str, str]] = ()) -> str:
    """The content of report.html. links: addresses and labels of other pages, shown at the top."""
    groups = by_comment(run.scored)
    likelihoods = {(row.comment_id, row.candidate_id): row.log_likelihood for row in run.candidates}
    cards = [_card(comment, groups.get(comment.comment_id, []), run, likelihoods) for comment in run.comments]
    columns = [name for name in SCORES if any(getattr(row, name) is not None for row in run.scored)]
    ordered_by = next((name for name in columns if all(getattr(row, name) == row.rank_score for row in run.scored)), "rank_score")
    if ordered_by != "rank_score":
        columns.remove("rank_score")  # it contains the same numbers
    threshold = dig(run.made_from, ["chosen", "settings", "minimum_realism"])
    thresholds = {"realism_score": threshold if isinstance(threshold, int | float) else None}
    histograms = [plot(run.scored, name, thresholds.get(name)) for name in columns if name != "rank_score"]
    environment = templates()
    environment.filters["visible"] = lambda body: text.UNPRINTABLE.sub("\ufffd", body)
    environment.filters["number"] = number
    environment.filters["share"] = lambda score: f"{100 * min(max(score, 0.0), 1.0):.1f}" if math.isfinite(score) else "0"
    environment.filters["plain"] = lambda name: name.replace("_", " ")
    return environment.get_template("report.html.j2").render(
        run=run,
        links=links,
        sent=sent(run),
        sections=[
            ("Chosen replies", [card for card in cards if card["chosen"] or card["attempt"]]),
            ("No reply", [card for card in cards if not card["chosen"] and not card["attempt"]]),
        ],
        columns=columns,
        ordered_by=ordered_by,
        scores=SCORES,
        thresholds=thresholds,
        verdict_counts=Counter(row.verdict for row in run.scored),
        skip_counts=Counter(row.reason for row in run.skipped).most_common(),
        left_out=run.left_out,
        refusal_counts=Counter(row.reason for row in run.scored if row.verdict == "refused").most_common(),
        kept_counts=Counter(row.reason for row in run.scored if row.verdict == "kept" and row.reason).most_common(),
        candidate_reasons=CANDIDATE_REASONS,
        skip_reasons=SKIP_REASONS,
        verdicts=VERDICTS,
        outcomes=OUTCOMES,
        generators=sorted({row.generator for row in run.candidates if row.generator}),
        settings=settings_rows(run.made_from),
        main_settings=MAIN_SETTINGS,
        plots=[each for each in histograms if each],
        with_likelihood=any(value is not None for value in likelihoods.values()),
        sandbox=dig(run.made_from, ["comments", "source"]) == "sandbox",
    )


def write_page(run: Run, path: Path) -> None:
    """Write report.html."""
    content = page(run)
    with files.atomic_writer(path) as file:
        file.write(content)


def main(run: Annotated[Path, typer.Option(help="run folder: reads its CSV files, writes report.html")]) -> None:
    """Report on a run: print a table and write a page."""
    page_file, spreadsheet = run / "report.html", run / "for_spreadsheet.csv"
    with files.run_folder(run):
        for path in (page_file, spreadsheet):
            files.check_output(path, is_ours=lambda _: True)  # in a run folder, files with these names are always replaced
        rows = read_run(run)
        write_page(rows, page_file)
        write_spreadsheet(rows.scored, spreadsheet)
    _print(rows, Console(highlight=False))
    sys.stdout.flush()
    print(page_file)
