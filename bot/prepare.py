"""prepare: reply pairs -> cleaned, split training files; and, with --fakes, the realism files.

Reads  RAW/*.parquet (schema.Pair) and, for realism, a candidates.csv that `generate` wrote for the comments of OUT/lm_*.csv.
Writes OUT/lm_{train,val,test}.csv, gpt2_finetune.csv, upvote_{…}.csv, upvote_pairs_{…}.csv; with --fakes OUT/realism_{…}.csv instead.

    python -m bot.prepare --raw data/raw_data --out data/prepared
    python -m bot.prepare --out data/prepared --fakes data/fakes.csv
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import duckdb
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bot import UserError, run_command, schema, text
from bot.schema import FinetuneText, LmRow, Pair, RealismRow, UpvotePair, UpvoteRow

SPLITS = ("train", "val", "test")
SUBMISSION_CHARACTERS = 600  # of a submission's title and text, when that is what was replied to
SHORTEST_REPLY, LONGEST_REPLY = 2, 1000  # characters, after cleaning
COPY_PASTA_CHARACTERS = 40  # a text this long seen word for word again is a copy, not a coincidence


def no_text(pair: Pair) -> bool:
    """Nothing is left of comment or reply: deleted, or only a link, an image or a quote."""
    return text.is_deleted(pair.comment) or text.is_deleted(pair.reply)


def too_short(pair: Pair) -> bool:
    return len(pair.reply) < SHORTEST_REPLY


def too_long(pair: Pair) -> bool:
    return len(pair.reply) > LONGEST_REPLY or len(pair.comment) >= text.UNANSWERABLE_LENGTH


def mostly_not_letters(pair: Pair) -> bool:
    """Fewer than half of the reply's characters, spaces aside, are letters: tables, ASCII art, code.

    >>> mostly_not_letters(_pair("why", "(╯°□°)╯ ┻━┻")), mostly_not_letters(_pair("why", "Because 42."))
    (True, False)
    """
    visible = pair.reply.replace(" ", "")
    return sum(map(str.isalpha, visible)) * 2 < len(visible)


def parroted(pair: Pair) -> bool:
    """The reply says the comment again, but for case and punctuation."""
    return _letters(pair.reply) == _letters(pair.comment)


RULES: tuple[Callable[[Pair], bool], ...] = (no_text, too_short, too_long, mostly_not_letters, parroted)


def clean_pair(pair: Pair) -> Pair:
    comment = text.clean(pair.comment)
    if pair.comment_id.startswith("t3_"):
        comment = comment[:SUBMISSION_CHARACTERS]
    return replace(pair, comment=comment.strip(), reply=text.clean(pair.reply))


def keep(pairs: Iterable[Pair]) -> tuple[list[Pair], Counter[str]]:
    """Cleaned pairs that no rule drops, and how many each rule dropped (the first rule that applies counts)."""
    kept: list[Pair] = []
    dropped: Counter[str] = Counter()
    seen: set[bytes] = set()
    for pair in map(clean_pair, pairs):
        rule = next((rule.__name__ for rule in RULES if rule(pair)), None)
        if rule is None and len(pair.reply) >= COPY_PASTA_CHARACTERS:
            key = hashlib.blake2b(_letters(pair.reply).encode(), digest_size=12).digest()
            if key in seen:
                rule = "copy_pasta"
            seen.add(key)
        if rule:
            dropped[rule] += 1
        else:
            kept.append(pair)
    return kept, dropped


def sibling_pairs(pairs: Iterable[Pair], karma_gap: int, hours_gap: float) -> list[UpvotePair]:
    """Neighbours in time among the replies to one comment, at most `hours_gap` apart, whose karma differs by at least `karma_gap`.

    Only siblings are compared, so subreddit, age and exposure of the parent cancel; neighbours only, as DialogRPT does
    (Gao et al. 2020, arXiv:2009.06978), so that a thread with a thousand replies doesn't give a million pairs.
    """
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.reply_karma is not None and pair.reply_utc is not None:
            siblings[pair.comment_id].append(pair)
    rows = []
    for replies in siblings.values():
        replies.sort(key=lambda reply: (reply.reply_utc, reply.reply_id))
        for one, other in pairwise(replies):
            better, worse = (one, other) if (one.reply_karma or 0) > (other.reply_karma or 0) else (other, one)
            gap = (better.reply_karma or 0) - (worse.reply_karma or 0)
            hours = ((better.reply_utc or 0) - (worse.reply_utc or 0)) / 3600
            if gap >= karma_gap and abs(hours) <= hours_gap and better.reply != worse.reply:
                row = UpvotePair(
                    better.thread_id, better.comment_id, better.reply_id, worse.reply_id, better.subreddit, better.comment,
                    better.reply, worse.reply, gap, round(hours, 4),
                )  # fmt: skip
                rows.append(row)
    return rows


def realism_rows(people: Iterable[LmRow], fakes: Iterable[schema.Candidate]) -> list[RealismRow]:
    """For each comment that has a candidate: the candidates (label 0), then the person's reply (label 1).

    A comment with several candidates gives as many rows of each kind as it can: people's replies are not repeated. Candidates are
    cleaned as people's replies are, and as `rank` cleans both; otherwise a stray asterisk would tell them apart.
    """
    by_comment: dict[str, list[schema.Candidate]] = defaultdict(list)
    for fake in fakes:
        fake = replace(fake, reply=text.clean(fake.reply))
        if fake.reply:
            by_comment[fake.comment_id].append(fake)
    rows = []
    for row in people:
        for fake in by_comment.get(row.comment_id, []):
            rows.append(
                RealismRow(row.thread_id, row.comment_id, fake.candidate_id, row.subreddit, row.comment, fake.reply, 0, fake.generator)
            )
        if row.comment_id in by_comment:
            rows.append(RealismRow(row.thread_id, row.comment_id, row.reply_id, row.subreddit, row.comment, row.reply, 1, ""))
            # a second reply of a person to the same comment stays, its candidates are there already
            by_comment[row.comment_id] = []
    return rows


def read_pairs(raw: Path) -> tuple[list[Pair], dict[str, str]]:
    """All rows of RAW/*.parquet and the files' checksums.

    Raises:
        UserError: no such files, other columns or types, or a file that isn't what its manifest says.
    """
    files = sorted(raw.glob("*.parquet"))
    if not files:
        raise UserError(f"{raw}: no Parquet file; run `python run_bot.py extract` first, or give --raw")
    columns = schema.columns_of(Pair)
    typed = [f"CAST({name} AS {'VARCHAR' if kind is str else 'BIGINT'})" for name, kind in get_type_hints(Pair).items()]
    pairs: list[Pair] = []
    with duckdb.connect() as db:
        for file in track(files, description="reading", transient=True):
            try:
                rows = db.execute(f"SELECT {', '.join(typed)} FROM read_parquet(?)", [str(file)]).fetchall()
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{file}: not an extract with columns {', '.join(columns)} ({reason}); extract that month again") from None
            schema.check_manifest(file, len(rows))
            pairs += [Pair(*row) for row in rows]
    return pairs, {file.name: schema.sha256_of(file) for file in files}


def main(
    raw: Annotated[Path, typer.Option(help="folder of extracts")] = Path("data/raw_data"),
    out: Annotated[Path, typer.Option(help="folder for the training files")] = Path("data/prepared"),
    minimum_karma: Annotated[int, typer.Option(help="lm files: leave out replies with less karma")] = 1,
    karma_gap: Annotated[int, typer.Option(min=1, help="upvote pairs: least difference in karma")] = 2,
    hours_gap: Annotated[float, typer.Option(min=0, help="upvote pairs: most hours between the two")] = 1.0,
    fakes: Annotated[Path | None, typer.Option(help="candidates.csv for the comments of OUT/lm_*.csv: write the realism files")] = None,
) -> None:
    """Clean and split reply pairs into training files."""
    if fakes is not None:
        return write_realism(out, fakes)
    pairs, files = read_pairs(raw)
    kept, dropped = keep(track(pairs, description="cleaning", transient=True))
    made_from = {"files": files, "minimum_karma": minimum_karma, "karma_gap": karma_gap, "hours_gap": hours_gap}
    split = {pair.thread_id: text.split_for(pair.thread_id) for pair in kept}

    lm = [pair for pair in kept if pair.comment_id.startswith("t1_") and (pair.reply_karma or 0) >= minimum_karma]
    lm_rows = [LmRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply) for p in lm]
    upvote_rows = [
        UpvoteRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply, p.reply_karma, p.reply_utc)
        for p in kept
        if p.reply_karma is not None and p.reply_utc is not None
    ]
    upvote_pairs = sibling_pairs(kept, karma_gap, hours_gap)
    table = Table("file", *SPLITS, title=f"{len(pairs):,} reply pairs read")
    for name, row_type, rows in (("lm", LmRow, lm_rows), ("upvote", UpvoteRow, upvote_rows), ("upvote_pairs", UpvotePair, upvote_pairs)):
        counts = [write_split(out, name, row_type, rows, each, split, made_from, dict(dropped)) for each in SPLITS]
        table.add_row(name, *(f"{count:,}" for count in counts))
    finetune = (FinetuneText(text.format_training_text(r.comment, r.reply)) for r in lm_rows if split[r.thread_id] == "train")
    count = schema.write_rows(out / "gpt2_finetune.csv", FinetuneText, finetune, made_from)
    table.add_row("gpt2_finetune", f"{count:,}", "", "")
    Console().print(table)
    print("dropped:", ", ".join(f"{rule} {count:,}" for rule, count in dropped.most_common()) or "nothing")


def write_realism(out: Path, fakes: Path) -> None:
    people = [row for each in SPLITS for row in schema.read_rows(out / f"lm_{each}.csv", LmRow)]
    rows = realism_rows(people, schema.read_rows(fakes, schema.Candidate))
    if not rows:
        raise UserError(f"{fakes}: none of its comment_ids stands in {out}/lm_*.csv; generate from one of those files")
    made_from = {"fakes": schema.sha256_of(fakes)}
    split = {row.thread_id: text.split_for(row.thread_id) for row in rows}
    for each in SPLITS:
        count = write_split(out, "realism", RealismRow, rows, each, split, made_from, {})
        print(f"{out}/realism_{each}.csv: {count:,} rows")


def write_split(
    out: Path,
    name: str,
    row_type: type,
    rows: list[Any],
    each: str,
    split: dict[str, str],
    made_from: dict[str, Any],
    dropped: dict[str, int],
) -> int:
    chosen = (row for row in rows if split[row.thread_id] == each)
    return schema.write_rows(out / f"{name}_{each}.csv", row_type, chosen, made_from, dropped=dropped)


def _letters(body: str) -> str:
    return "".join(character for character in body.lower() if character.isalnum())


def _pair(comment: str, reply: str) -> Pair:
    return Pair("s", "t3_1", "", None, "t1_1", comment, None, None, "t1_2", reply, None, None, None)


if __name__ == "__main__":
    run_command(main, "python -m bot.prepare")
