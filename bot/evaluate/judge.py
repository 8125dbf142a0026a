"""Blind pairwise reading by people: is the pick better than another candidate for the same comment? (judges.py has judges that are models.)

Reads  scored files, such as RUN/scored.csv (titles come from a comments.csv next to it); judgements.csv; a sheet that was filled in.
Writes judgements.csv, one row per answer, appended and flushed to disk; sheet.csv, the pairs for readers elsewhere.

    python run_bot.py judge RUN/scored.csv --reader ann                           in the terminal (bot/web/judge.py has the command)
    python run_bot.py judge RUN/scored.csv --sheet sheet.csv                      a sheet to fill in
    python run_bot.py judge RUN/scored.csv --reader bob --answers sheet.csv       takes in its answers
    python run_bot.py judge table data/judgements.csv

The pick is the chosen candidate, or with --by the best by a score. It stands beside a random other candidate for the comment, refused or
not, that has a text and a different one. Each place has the pick equally often, in an order that depends on the seed; nothing that a reader
sees depends on which is the pick. Pairwise choice by people is ACUTE-Eval's method (Li et al. 2019, arXiv:1909.03087).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from bot import files, metrics, schema, text
from bot.cli import UserError
from bot.evaluate import show
from bot.schema import BlindPair, Judgement, NotChosen, SheetAnswer, SheetRow, Verdict

JUDGEMENTS = Path("data/judgements.csv")
VERDICT = "verdict"
SHORT_WORDS = 3  # "LOL", "This", "I agree too"
BETTER = {"1": 1, "2": 2, "=": 0, "0": 0, "first": 1, "second": 2, "equal": 0}
ACCEPTABLE = {"y": True, "yes": True, "1": True, "n": False, "no": False, "0": False}


class Answer(NamedTuple):
    """better: 1, 2, or 0 for equal."""

    better: int
    first_acceptable: bool
    second_acceptable: bool


class Option(NamedTuple):
    """A candidate that may be shown. value: the highest of a comment is its pick; None: cannot be the pick."""

    comment_id: str
    candidate_id: str
    subreddit: str
    comment: str
    reply: str
    value: float | None


# --- pairs ----------------------------------------------------------------------------------------------------------------


def draw_pairs(
    options: Iterable[Option], seed: int, source: str = "", sha256: str = "", by: str = VERDICT, titles: Mapping[str, str] | None = None
) -> tuple[list[BlindPair], Counter[str]]:
    """One pair per comment, in random order; and how many comments have none, by reason. The order of the options does not matter.

    Of equal values the smaller candidate_id is the pick, as in `choose`. The pick is first in half of the pairs (one more if odd).

    >>> replies = ["No idea.", "no  IDEA.", "Because."]
    >>> options = [Option("t1_a", f"t1_a-{n}", "books", "Why?", reply, n / 2) for n, reply in enumerate(replies)]
    >>> pairs, without = draw_pairs(options, seed=1)
    >>> [(pair.pick, pair.first, pair.second) for pair in pairs], dict(without)
    ([(1, 'Because.', 'no  IDEA.')], {})
    """
    rng = random.Random(f"{seed} {sha256} {by}")
    groups: dict[str, list[Option]] = defaultdict(list)
    for option in sorted(options, key=lambda each: (each.comment_id, each.candidate_id)):
        groups[option.comment_id].append(option)
    drawn: list[tuple[Option, Option]] = []
    without: Counter[str] = Counter()
    for group in groups.values():
        pick = max((each for each in group if each.value is not None), key=lambda each: each.value or 0.0, default=None)
        others = [each for each in group if pick and _same(each.reply) != _same(pick.reply)]
        if pick is None or not others:
            without["no pick" if pick is None else "no other candidate"] += 1
            continue
        drawn.append((pick, rng.choice(others)))
    places = [1 + number % 2 for number in range(len(drawn))]
    rng.shuffle(places)
    pairs = []
    for (pick, other), place in zip(drawn, places, strict=True):
        first, second = (pick, other) if place == 1 else (other, pick)
        key = json.dumps([sha256, by, seed, pick.comment_id, first.candidate_id, second.candidate_id])
        title = (titles or {}).get(pick.comment_id, "")
        pairs.append(
            BlindPair(
                f"p{hashlib.sha256(key.encode()).hexdigest()[:15]}", source, sha256, by, pick.comment_id, pick.subreddit, title,
                pick.comment, first.candidate_id, first.reply, second.candidate_id, second.reply, place,
            )
        )  # fmt: skip
    return sorted(pairs, key=lambda pair: pair.pair_id), without


def _same(reply: str) -> str:
    """Equal for replies that a reader cannot tell apart."""
    return " ".join(reply.split()).casefold()


def read_options(path: Path, by: str) -> list[Option]:
    """The candidates of a scored file that have a text.

    Raises:
        FileError: a column is missing, or a value of `by` is neither a number nor empty.
    """
    _, rows = schema.read_table(path, ["comment_id", "candidate_id", "comment", "reply", by])
    options = []
    for number, row in enumerate(rows, start=1):
        try:
            value = _value(row[by], by)
        except ValueError:
            raise files.FileError(f"{path}: row {number}, column {by}: {row[by][:40]!r} is not a number; give another --by") from None
        if row["reply"].strip() and row.get("reason") != NotChosen.EMPTY:
            where = (row["comment_id"], row["candidate_id"], row.get("subreddit", ""))
            options.append(Option(*where, row["comment"], row["reply"], value))
    return options


def _value(cell: str, by: str) -> float | None:
    if by == VERDICT:
        return 1.0 if cell == Verdict.CHOSEN else None
    value = float(cell) if cell else None
    if value is not None and not math.isfinite(value):
        raise ValueError(cell)
    return value


def read_titles(scored: Path) -> dict[str, str]:
    """comment_id -> title, from the comments.csv next to a scored file; empty if there is none or it has no titles."""
    path = scored.with_name("comments.csv")
    header, rows = schema.read_table(path) if path.exists() else ([], [])
    return {row["comment_id"]: row["title"] for row in rows} if {"comment_id", "title"} <= set(header) else {}


def read_pairs(paths: Iterable[Path], by: str, seed: int) -> tuple[list[BlindPair], Counter[str]]:
    """The pairs of several files, mixed so that a reader cannot tell them apart; and how many comments have none, by reason.

    Raises:
        FileError: as `read_options`.
        UserError: no comment of any file has a pair.
    """
    pairs: dict[str, BlindPair] = {}
    without: Counter[str] = Counter()
    for path in paths:
        drawn, left_out = draw_pairs(read_options(path, by), seed, str(path), files.sha256_of(path), by, read_titles(path))
        pairs |= {pair.pair_id: pair for pair in drawn}
        without += left_out
    if not pairs:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in without.items()) or "no candidates"
        raise UserError(f"no comment has a pick and another candidate to compare ({reasons}); give other scored files or another --by")
    return [pairs[pair_id] for pair_id in sorted(pairs)], without


# --- answers --------------------------------------------------------------------------------------------------------------


def is_judgements(path: Path) -> bool:
    """True if the file has the columns of judgements.csv."""
    try:
        return next(schema.read_cells(path)) == schema.columns_of(Judgement)
    except files.FileError:
        return False


@dataclass(frozen=True)
class Reading:
    """One reader's way through the pairs. The file `out` is its only state, so that several tabs, terminals and readers can share it."""

    pairs: Sequence[BlindPair]
    out: Path
    who: str

    def answered(self) -> list[str]:
        """The pair_ids that this reader has answered, in the order of answering."""
        known = {pair.pair_id for pair in self.pairs}
        rows = schema.read_rows(self.out, Judgement) if self.out.exists() else []
        return [row.pair_id for row in rows if row.who == self.who and row.pair_id in known]

    def next_pair(self, answered: Iterable[str]) -> BlindPair | None:
        """The first pair that is not answered."""
        done = set(answered)
        return next((pair for pair in self.pairs if pair.pair_id not in done), None)

    def record(self, answers: Mapping[str, Answer]) -> int:
        """Append answers by pair_id. Pairs that the reader has answered before are ignored. Returns the number of new ones."""
        by_id = {pair.pair_id: pair for pair in self.pairs}
        with self._locked():
            answered = set(self.answered())
            new = {pair_id: answer for pair_id, answer in answers.items() if pair_id not in answered}
            now = int(time.time())
            rows = [Judgement(**asdict(by_id[each]), who=self.who, judged_utc=now, **answer._asdict()) for each, answer in new.items()]
            if rows:
                schema.append_rows(self.out, Judgement, rows)
        return len(rows)

    def undo(self, pair_id: str) -> bool:
        """Remove the answer to a pair, if it is this reader's last one."""
        with self._locked():
            if self.answered()[-1:] != [pair_id]:
                return False
            header, *rows = schema.read_cells(self.out)
            who, pair = header.index("who"), header.index("pair_id")
            schema.write_cells(self.out, header, [row for row in rows if (row[who], row[pair]) != (self.who, pair_id)], None)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with files.wait_for_lock(self.out.with_name(f".{self.out.name}.lock"), f"{self.out}: waiting for another process"):
            yield


# --- terminal -------------------------------------------------------------------------------------------------------------

PROMPTS = ("better: 1, 2 or = (u undo, q quit) ", "reply 1 acceptable: y or n ", "reply 2 acceptable: y or n ")
KEYS = ("12=", "yn", "yn")


def read_in_terminal(reading: Reading, ask: Callable[[str], str] = input, console: Console | None = None) -> None:
    """Show the pairs that are not answered and record the answers, until all are read, `q` or the end of input.

    An answer is three keys in one line (`1yn`) or in several. `u` clears what was typed for this pair, or else removes the last answer.
    """
    console = console or Console(highlight=False)
    keys, shown = "", ""  # shown: the pair on the screen
    while (pair := reading.next_pair(answered := reading.answered())) is not None:
        if keys and pair.pair_id != shown:
            console.print("answered elsewhere before; not recorded again")
            keys = ""
        if not keys:
            _show(pair, len(answered), len(reading.pairs), console)
            shown = pair.pair_id
        try:
            typed = "".join(ask(PROMPTS[len(keys)]).lower().split())
        except EOFError:
            return
        for key in typed:
            if key == "q":
                return
            if key == "u":
                if not keys and not (answered and reading.undo(answered[-1])):
                    console.print("nothing to undo")
                keys = ""
                break
            if key not in KEYS[len(keys)]:
                console.print(Text(f"{key!r} is none of {' '.join(KEYS[len(keys)])}"))
                break
            keys += key
            if len(keys) == len(KEYS):
                if not reading.record({pair.pair_id: Answer(BETTER[keys[0]], keys[1] == "y", keys[2] == "y")}):
                    console.print("answered elsewhere before; not recorded again")
                keys = ""
                break  # the rest of the line was typed before the next pair was shown


def _show(pair: BlindPair, done: int, total: int, console: Console) -> None:
    console.rule(f"{done + 1} of {total}")
    for name, body in ((f"r/{pair.subreddit}", pair.title), ("comment", pair.comment), ("1", pair.first), ("2", pair.second)):
        lines = "\n".join(map(text.printable, body.split("\n")))
        console.print(Text.assemble((f"{text.printable(name)}  ", "bold"), lines), soft_wrap=False)


# --- sheets ---------------------------------------------------------------------------------------------------------------


def write_sheet(pairs: Iterable[BlindPair], path: Path) -> None:
    """Write a blind sheet that is safe to open in a spreadsheet. It has no manifest, because readers fill it in."""
    from bot.report.report import safe_cell  # imports matplotlib

    columns = schema.columns_of(SheetRow)
    shown = (SheetRow(*(safe_cell(getattr(pair, column)) for column in columns[:-3])) for pair in pairs)
    schema.write_cells(path, columns, [[getattr(row, column) for column in columns] for row in shown], None)


def read_answers(path: Path, pairs: Iterable[BlindPair]) -> dict[str, Answer]:
    """The answers of a sheet that was filled in, by pair_id. Rows without any answer are ignored.

    Raises:
        FileError: a row has part of an answer, an invalid one, or a pair_id that is not in `pairs` or occurs twice.
    """
    known, answers = {pair.pair_id for pair in pairs}, {}
    for number, row in enumerate(schema.read_rows(path, SheetAnswer), start=1):
        cells = [cell.strip().lower() for cell in (row.better, row.first_acceptable, row.second_acceptable)]
        if not any(cells):
            continue
        if row.pair_id not in known:
            raise files.FileError(
                f"{path}: row {number}: pair_id {row.pair_id[:40]!r} is not in these scored files;"
                " give the files, --by and --seed of the sheet"
            )
        if row.pair_id in answers:
            raise files.FileError(f"{path}: row {number}: pair_id {row.pair_id} occurs twice; keep one")
        allowed_by_column: tuple[Mapping[str, object], ...] = (BETTER, ACCEPTABLE, ACCEPTABLE)
        for cell, column, allowed in zip(cells, schema.columns_of(SheetAnswer)[1:], allowed_by_column, strict=True):
            if cell not in allowed:
                raise files.FileError(f"{path}: row {number}, column {column}: {cell[:40]!r} is none of {', '.join(allowed)}")
        answers[row.pair_id] = Answer(BETTER[cells[0]], ACCEPTABLE[cells[1]], ACCEPTABLE[cells[2]])
    return answers


# --- table ----------------------------------------------------------------------------------------------------------------


def summarize(rows: Sequence[Judgement]) -> dict[str, Any]:
    """Counts, and shares with Wilson intervals (None if there is nothing to count), of one source.

    A pair that several people have read counts as one, with the mean of their answers: its judgements are not independent.
    """
    picks = {row.pair_id: (row.comment, row.first if row.pick == 1 else row.second) for row in rows}
    acceptable = [(row.pair_id, (row.first_acceptable, row.second_acceptable), row.pick - 1) for row in rows]
    return {
        "pairs": len(picks),
        "readers": len({row.who for row in rows}),
        "pick better, where one is": _share((row.pair_id, row.better == row.pick) for row in rows if row.better),
        "equal": _share((row.pair_id, not row.better) for row in rows),
        "pick acceptable": _share((pair_id, both[pick]) for pair_id, both, pick in acceptable),
        "random candidate acceptable": _share((pair_id, both[1 - pick]) for pair_id, both, pick in acceptable),
        "pick repeats three words of the comment": _share((key, metrics.repeats_ngram(*texts)) for key, texts in picks.items()),
        f"pick of at most {SHORT_WORDS} words": _share((key, len(reply.split()) <= SHORT_WORDS) for key, (_, reply) in picks.items()),
    }


def _share(values: Iterable[tuple[str, bool]]) -> metrics.Interval | None:
    by_pair: dict[str, list[bool]] = defaultdict(list)
    for pair_id, value in values:
        by_pair[pair_id].append(value)
    means = [sum(each) / len(each) for each in by_pair.values()]
    return metrics.wilson_interval(sum(means), len(means)) if means else None


def table_command(judgements: Annotated[Path, typer.Argument(help="the answers of `judge`")] = JUDGEMENTS) -> None:
    """Show what people answered, for each scored file: how often the pick is better, and how often it is acceptable."""
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for row in schema.read_rows(judgements, Judgement):
        groups[row.by, row.source_sha256].append(row)
    if not groups:
        raise UserError(f"{judgements}: no answers yet; read pairs with `run_bot.py judge`")
    show.show_judgements({(rows[0].source, *key): summarize(rows) for key, rows in groups.items()})
