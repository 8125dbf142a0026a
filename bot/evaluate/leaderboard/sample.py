"""What the leaderboard measures on: comments of the test split with the replies of people, and comments for the page of samples.

The comments of the sandbox are invented, so a page with answers to them can be shown to everybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot import schema, text
from bot.conduct import topics
from bot.evaluate.measures import TooFew
from bot.sandbox import seed as sandbox
from bot.schema import LmRow, sample_rows

COMMENTS = 400  # test threads, with one comment each
SAMPLES = 20
SEED = 1
MEASURED_REPLY = 160  # characters: for likelihoods, so that models read the whole reply; encoder–decoders take the mean of the first tokens


@dataclass(frozen=True)
class Asked:
    """A comment of the test split and the replies of people, at least one. The first is the one that a generator is compared with."""

    thread_id: str
    comment_id: str
    comment: str
    replies: tuple[str, ...]


def draw(rows: Sequence[LmRow], count: int) -> list[Asked]:
    """One comment from each of `count` threads drawn at random: the one with most replies, the first in a tie.

    rows: those of lm_test.csv. As each thread has one comment, resampling comments is resampling threads. Raises TooFew without rows.
    """
    threads: dict[str, dict[str, list[LmRow]]] = {}
    for row in rows:
        threads.setdefault(row.thread_id, {}).setdefault(row.comment_id, []).append(row)
    if not threads:
        raise TooFew("lm_test.csv: no rows; prepare more data")
    comments = [max(own.values(), key=len) for own in sample_rows([*threads.values()], count, SEED)]
    return [Asked(own[0].thread_id, own[0].comment_id, own[0].comment, tuple(row.reply for row in own)) for own in comments]


def likelihood_pairs(asked: Sequence[Asked]) -> tuple[list[tuple[str, str]], list[str]]:
    """(comment, first reply) of the comments whose first reply has at most MEASURED_REPLY characters, and their threads."""
    short = [each for each in asked if len(each.replies[0]) <= MEASURED_REPLY]
    return [(each.comment, each.replies[0]) for each in short], [each.thread_id for each in short]


def sample_comments(sources: Sequence[Path]) -> list[tuple[str, str]]:
    """(id, comment) of SAMPLES comments for the page of samples: of the sandbox, or half of them of the sandbox and half of `sources`.
    The id depends on the text, so that older files do not answer another comment.

    sources: CSV files with a column comment.
    """
    invented = list(dict.fromkeys(_ordinary()))
    given = list(dict.fromkeys(text.clean(row["comment"]) for path in sources for row in schema.read_table(path, ["comment"])[1]))
    given = sample_rows([comment for comment in given if comment], SAMPLES // 2, SEED)
    drawn = [*sample_rows(invented, SAMPLES - len(given), SEED), *given]
    return [(f"sample_{text.fingerprint(comment)[:12]}", comment) for comment in drawn]


def _ordinary() -> Iterator[str]:
    """The sandbox's comments that an ordinary reader could answer."""

    def below(comments: Sequence[sandbox.Comment]) -> Iterator[str]:
        for each in comments:
            body = text.clean(each.body)
            is_person = each.author not in (sandbox.GONE, "AutoModerator") and "bot" not in each.author
            if is_person and each.karma > 0 and 30 <= len(body) <= 240 and body.isascii() and not topics.topic_of(body):
                yield body
            yield from below(each.replies)

    for submission in sandbox.SUBMISSIONS:
        if not (submission.over_18 or submission.locked or submission.archived):
            yield from below(submission.comments)
