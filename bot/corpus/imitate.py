"""prepare imitate: the replies that a generator should learn to write.

Reads  OUT/upvote_{train,val,test}.csv; with --ranked, replies in Reddit's own order (as `prepare ranked`); with --also, CSV files with the
       columns of schema.LmRow, such as data/replies/invented.csv.
Writes OUT/imitate_train.csv (schema.LmRow), which `train lm --imitate` reads instead of lm_train.csv.

    python run_bot.py prepare imitate --ranked pairs.jsonl.zst --also data/replies/invented.csv --rows 150000

Each reply is either kept or counted under the first rule that drops it. In order:

    to_submission   the reply is to a submission
    held_out        its thread, or for --ranked its comment, is in the validation or test split
    low_karma       of several replies to the comment, it is not above the median karma, or not in the better half of Reddit's order; an
                    only reply has a karma below MIN_KARMA
    short, long     fewer than 4 or more than 80 words
    echo            it repeats three consecutive words of the comment, which `choose` would refuse
    frequent        the same reply was given to FREQUENT comments or more, such as "Thank you!"

Rows are then drawn from each subreddit in proportion to the square root of its number of rows, so that the largest do not dominate.
Rows of --also are kept as they are.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bot import cli, files, metrics, schema, text
from bot.cli import UserError
from bot.corpus import pairs, prepare, rules
from bot.schema import LmRow, UpvoteRow

FILE = "imitate_train.csv"
PICKED = "-picked"  # the end of the reply_id of a row that a generator wrote, see train/picked.py
MIN_KARMA = 2  # of an only reply; each reply starts with 1
MIN_WORDS, MAX_WORDS = 4, 80
FREQUENT = 4  # comments


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply and how it was received. is_liked: see `liked`."""

    row: LmRow
    is_liked: bool


def liked(standings: Mapping[str, float]) -> set[str]:
    """The ids of the replies to one comment that are worth imitating. standings: karma by reply id, or minus the place in Reddit's order.

    >>> sorted(liked({"t1_a": 9, "t1_b": 2, "t1_c": 2})), liked({"t1_a": 1}), liked({"t1_a": 2})
    (['t1_a'], set(), {'t1_a'})
    >>> sorted(liked({"a": -1, "b": -2, "c": -3, "d": -4}))
    ['a', 'b']
    """
    if len(standings) == 1:
        return {name for name, standing in standings.items() if standing >= MIN_KARMA}
    middle = statistics.median(standings.values())
    return {name for name, standing in standings.items() if standing > middle}


def with_karma(rows: Iterable[UpvoteRow]) -> list[Reply]:
    """Replies with known karma."""
    by_comment: dict[str, list[UpvoteRow]] = defaultdict(list)
    for row in rows:
        by_comment[row.comment_id].append(row)
    result = []
    for own in by_comment.values():
        good = liked({row.reply_id: row.reply_karma for row in own})
        result += [
            Reply(LmRow(row.thread_id, row.comment_id, row.reply_id, row.subreddit, row.comment, row.reply), row.reply_id in good)
            for row in own
        ]
    return result


def with_rank(replies: Iterable[schema.Pair], rank: Mapping[str, int]) -> list[Reply]:
    """Replies with a known place in Reddit's order, starting at 1. An only reply counts as liked."""
    by_comment: dict[str, list[schema.Pair]] = defaultdict(list)
    for reply in replies:
        by_comment[reply.comment_id].append(reply)
    result = []
    for own in by_comment.values():
        good = liked({reply.reply_id: -rank[reply.reply_id] for reply in own}) if len(own) > 1 else {own[0].reply_id}
        result += [
            Reply(LmRow("", each.comment_id, each.reply_id, each.subreddit, each.comment, each.reply), each.reply_id in good)
            for each in own
        ]
    return result


def keep(replies: Iterable[Reply], held_out: Collection[str]) -> tuple[list[LmRow], dict[str, int]]:
    """The replies worth imitating, and the number of the others by rule. held_out: comments of the validation and test split."""
    replies = list(replies)
    frequency = Counter(each.row.reply.casefold() for each in replies)
    kept: list[LmRow] = []
    dropped = dict.fromkeys(("to_submission", "held_out", "low_karma", "short", "long", "echo", "frequent"), 0)
    for each in replies:
        if rule := _rule_against(each, held_out, frequency):
            dropped[rule] += 1
        else:
            kept.append(each.row)
    return kept, dropped


def _rule_against(each: Reply, held_out: Collection[str], frequency: Mapping[str, int]) -> str | None:
    row, words = each.row, len(each.row.reply.split())
    checks = (
        ("to_submission", row.comment_id.startswith("t3_")),
        ("held_out", text.split_for(row.thread_id) != "train" if row.thread_id else row.comment in held_out),
        ("low_karma", not each.is_liked),
        ("short", words < MIN_WORDS),
        ("long", words > MAX_WORDS),
        ("echo", metrics.repeats_ngram(row.comment, row.reply)),
        ("frequent", frequency[row.reply.casefold()] >= FREQUENT),
    )
    return next((rule for rule, applies in checks if applies), None)


def main(
    out: Annotated[Path, typer.Option(help="folder with the training files, also the output folder")] = prepare.OUT,
    ranked: Annotated[Path | None, typer.Option(help="JSON lines of replies in Reddit's order, as for `prepare ranked`")] = None,
    also: Annotated[list[Path] | None, typer.Option(help="CSV with the columns of lm_train.csv; repeatable")] = None,
    rows: Annotated[int, typer.Option(min=1, help="rows to write, without those of --also")] = 150_000,
    seed: Annotated[int, typer.Option()] = 1,
    overwrite: files.Overwrite = False,
) -> None:
    """Choose the replies that a generator should learn to write."""
    inputs = [*([ranked] if ranked else []), *(also or [])]
    files.check_output(out / FILE, inputs, overwrite)
    read = {split: schema.read_rows(out / f"upvote_{split}.csv", UpvoteRow) for split in prepare.SPLITS}
    replies = with_karma(read["train"])
    if ranked:
        of_file, rank = prepare.read_ranked(ranked)
        replies += with_rank(rules.keep(cli.track(of_file, "cleaning"))[0], rank)
    held_out = {row.comment for split in ("val", "test") for row in read[split]}
    kept, dropped = keep(replies, held_out)
    drawn = pairs.draw_evenly(kept, lambda row: row.subreddit.lower(), lambda row: 1, rows, seed)
    added = [row for path in also or [] for row in schema.read_rows(path, LmRow)]
    if not drawn and not added:
        raise UserError(f"{out}/upvote_train.csv: no reply is worth imitating ({dropped}); prepare more data")
    made_from = {
        "files": {path.name: files.sha256_of(path) for path in [*(out / f"upvote_{split}.csv" for split in prepare.SPLITS), *inputs]},
        "rows": rows, "seed": seed,
    }  # fmt: skip
    count = schema.write_rows(out / FILE, LmRow, [*drawn, *added], made_from, read=len(replies), dropped=dropped, added=len(added))
    table = Table("rule")
    table.add_column("replies", justify="right")
    steps = {"read": len(replies)} | {f"- {rule}": number for rule, number in dropped.items()}
    for name, number in (steps | {"= kept": len(kept), "drawn": len(drawn), "+ --also": len(added)}).items():
        table.add_row(name, f"{number:,}")
    Console().print(table)
    print(f"{out / FILE}: {count:,} rows of {len({row.subreddit.lower() for row in drawn}):,} subreddits")
