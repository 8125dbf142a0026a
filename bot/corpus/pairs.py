"""Cleaned replies -> rows of the training files of generator and rankers. Pure functions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from typing import TypeVar

from bot import schema, text
from bot.schema import LabelledRow, LmRow, Pair, RankedPair, RealismRow, UpvotePair, UpvoteRow

Item = TypeVar("Item")

CORPUS, REDDIT = "corpus-", "reddit"  # prefix of the name of a corpus in the column subreddit; no subreddit has a hyphen


def corpus_of(subreddit: str) -> str:
    """The corpus of a row: "reddit", or the name of a corpus of dialogues.

    >>> corpus_of("books"), corpus_of("corpus-cornell")
    ('reddit', 'cornell')
    """
    return subreddit.removeprefix(CORPUS) if subreddit.startswith(CORPUS) else REDDIT


def has_votes(reply: Pair) -> bool:
    """Whether people voted on the reply, even if its karma is not known."""
    return reply.reply_karma is not None or corpus_of(reply.subreddit) == REDDIT


def lm_rows(replies: Iterable[Pair], minimum_karma: int) -> list[LmRow]:
    """Replies with at least this karma, and all replies of corpora without karma. Unknown karma on Reddit counts as 0."""
    good = (each for each in replies if not has_votes(each) or (each.reply_karma or 0) >= minimum_karma)
    return [LmRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply) for p in good]


def mix(rows: Sequence[LmRow], weights: Mapping[str, float], seed: int = 1) -> list[LmRow]:
    """As many rows as possible, without repeating one, so that each corpus has a share in proportion to its weight; at random, in order.

    weights: of each corpus in `rows`; 0 for a corpus to leave out. Corpora with a weight above 0 must have rows.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[corpus_of(row.subreddit)].append(place)
    rows_per_weight = min(len(places[name]) / weight for name, weight in weights.items() if weight)
    drawn = (schema.sample_rows(places[name], round(weight * rows_per_weight), seed) for name, weight in weights.items())
    return [rows[place] for place in sorted(place for each in drawn for place in each)]


def upvote_rows(replies: Iterable[Pair]) -> list[UpvoteRow]:
    """Replies with known karma and time."""
    return [
        UpvoteRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply, p.reply_karma, p.reply_utc)
        for p in replies
        if p.reply_karma is not None and p.reply_utc is not None
    ]


def sibling_pairs(
    pairs: Iterable[Pair], karma_gap: int, hours_gap: float, neighbours: int = 1, untimed: Collection[str] = ()
) -> list[UpvotePair]:
    """Pair each reply with the next `neighbours` siblings in time that are at most `hours_gap` apart and differ by at least `karma_gap`.

    Only siblings (replies to the same comment) are compared, so subreddit, age and exposure of the parent cancel out. One neighbour is
    DialogRPT's rule (Gao et al. 2020, arXiv:2009.06978); without a limit, a comment with a thousand replies would give half a million
    pairs. untimed: months ("2023-04") whose times are not real. Their siblings are ordered at random, and hours_gap is ignored and set to
    0 in the rows.
    """
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.reply_karma is not None and pair.reply_utc is not None:
            siblings[pair.comment_id].append(pair)
    rows = []
    for comment_id, replies in siblings.items():
        real = not any(month_of(reply) in untimed for reply in replies)
        replies.sort(key=lambda reply: (reply.reply_utc, reply.reply_id))
        if not real:
            replies.sort(key=lambda reply: reply.reply_id)  # a fixed order before shuffling, independent of the times
            random.Random(comment_id).shuffle(replies)
        for place, one in enumerate(replies):
            for other in replies[place + 1 : place + 1 + neighbours]:
                better, worse = (one, other) if (one.reply_karma or 0) > (other.reply_karma or 0) else (other, one)
                gap = (better.reply_karma or 0) - (worse.reply_karma or 0)
                hours = ((better.reply_utc or 0) - (worse.reply_utc or 0)) / 3600 if real else 0.0
                if gap >= karma_gap and abs(hours) <= hours_gap and better.reply != worse.reply:
                    row = UpvotePair(
                        better.thread_id, comment_id, better.reply_id, worse.reply_id, better.subreddit, better.comment,
                        better.reply, worse.reply, gap, round(hours, 4),
                    )  # fmt: skip
                    rows.append(row)
    return rows


def month_of(reply: Pair) -> str:
    """The month of the reply's time in UTC, such as "2023-04"."""
    return datetime.fromtimestamp(reply.reply_utc or 0, UTC).strftime("%Y-%m")


def ranked_pairs(replies: Iterable[Pair], rank: Mapping[str, int]) -> list[RankedPair]:
    """Pair each reply with every sibling that Reddit listed below it. rank: position by reply_id, starting at 1."""
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for reply in replies:
        siblings[reply.comment_id].append(reply)
    return [
        RankedPair(one.subreddit, one.comment, one.reply, other.reply, rank[other.reply_id] - rank[one.reply_id])
        for group in siblings.values()
        for one, other in permutations(group, 2)
        if rank[one.reply_id] < rank[other.reply_id] and one.reply != other.reply
    ]


def draw_evenly(items: Iterable[Item], subreddit: Callable[[Item], str], size: Callable[[Item], int], rows: int, seed: int) -> list[Item]:
    """Items drawn at random with about `rows` rows in total, from each subreddit in proportion to the square root of its rows.

    size: the number of rows of an item.
    """
    by_subreddit: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_subreddit[subreddit(item)].append(item)
    drawn: list[tuple[float, str, Item]] = []
    for name, members in sorted(by_subreddit.items()):
        random.Random(f"{seed} {name}").shuffle(members)
        root = sum(map(size, members)) ** 0.5
        before = 0
        for item in members:
            drawn.append((before / root, name, item))
            before += size(item)
    result, count = [], 0
    for _, _, item in sorted(drawn, key=lambda each: each[:2]):
        if count >= rows:
            break
        result.append(item)
        count += size(item)
    return result


def relevance_rows(rows: Sequence[LmRow]) -> list[LabelledRow]:
    """For each row, its own reply (label 1) and a random reply from another thread of the same subreddit (label 0).

    Subreddits with only one thread give no rows. Call it with the rows of one split, so that no reply moves to another split.
    """
    by_subreddit: dict[str, list[LmRow]] = defaultdict(list)
    for row in rows:
        by_subreddit[row.subreddit.lower()].append(row)
    result = []
    for name, members in by_subreddit.items():
        if len({row.thread_id for row in members}) < 2:
            continue
        rng = random.Random(name)
        for row in members:
            other = row
            while other.thread_id == row.thread_id:
                other = rng.choice(members)
            where = (row.thread_id, row.comment_id)
            result.append(LabelledRow(*where, row.reply_id, row.subreddit, row.comment, row.reply, 1))
            if other.reply != row.reply:
                result.append(LabelledRow(*where, other.reply_id, row.subreddit, row.comment, other.reply, 0))
    return result


def realism_rows(people: Iterable[LmRow], fakes: Iterable[schema.Candidate]) -> list[RealismRow]:
    """For each comment with candidates: its candidates (label 0), then the human replies (label 1).

    Human replies are not repeated for comments with several candidates. Candidates are cleaned in the same way as human replies, and as in
    `rank`; otherwise a stray asterisk would give them away.
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
            # keep further human replies to the same comment, but do not repeat its candidates
            by_comment[row.comment_id] = []
    return rows
