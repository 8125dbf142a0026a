"""Training data of upvote rankers: siblings (replies to one comment) that are compared with each other. Pure but for reading the files.

Reads  DATA/upvote_pairs_{train,val,test}.csv (of the training split only the rankers' half, see text.half_for); with a --rule other than
       gap DATA/upvote_train.csv, with --ranked-rows DATA/ranked_pairs.csv, with --harvest harvest.csv.

Only siblings are compared, so subreddit, age and exposure cancel out. The bot's own replies (--harvest) have no known siblings. They are
compared with each other within a subreddit and at the same age (`own_groups`). This is weaker than comparing siblings, because exposure
differs between threads: a reply may do better just because its thread did.

The number of rows drawn from a subreddit grows with the square root of its size (corpus.pairs.draw_evenly), so that the largest do not
dominate.

Subreddits given with --leave-out are used neither for training nor for calibration. `evaluate --model` measures the ranker on their pairs
from all three splits (card.settings["left_out"] lists them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from bot import files, schema, text
from bot.cli import UserError
from bot.corpus import karma_rules, pairs
from bot.schema import Harvested, RankedPair, RealismRow, UpvotePair, UpvoteRow, sample_rows
from bot.train import harvested
from bot.train.options import SiblingOptions

GROUP_SIZE = 8  # siblings encoded together; more siblings are divided into groups of eight
MIN_RANK_GAP = 2  # e.g. first against third: the reply that Reddit lists second is hardly worse than the first
CALIBRATION_PAIRS = 1500

Better = tuple[tuple[str, str], tuple[str, str]]  # (comment, reply) of the better reply, (comment, reply) of the worse
BySplit = dict[str, list[UpvotePair]]


@dataclass(slots=True)
class Group:
    """Replies that are compared with each other. replies: (comment, reply). better: pairs of indices in `replies`, better first."""

    subreddit: str
    replies: list[tuple[str, str]]
    better: list[tuple[int, int]]


@dataclass(frozen=True)
class Siblings:
    """groups: to train on. validation: pairs to calibrate on. sources: file name -> rows. settings: for the card."""

    groups: list[Group]
    validation: list[UpvotePair]
    sources: dict[str, int]
    settings: dict[str, Any]


class HasLogits(Protocol):
    def logits(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[float]: ...


def read(options: SiblingOptions, realism: dict[str, list[RealismRow]]) -> Siblings:
    """Read the training data. realism: rows by split of a realism ranker that is trained at the same time.

    Raises:
        UserError: a file is missing, or there is too little training data.
    """
    by_split = read_pairs(options)
    validation = sample_rows(calibration_pairs(options, by_split["val"]), CALIBRATION_PAIRS, options.seed)
    sources = {f"upvote_pairs_{each}.csv": len(rows) for each, rows in by_split.items()}
    own_rows = harvested.own_replies(schema.read_rows(options.harvest, Harvested), options.left_out) if options.harvest else []
    own = own_groups(own_rows, options.karma_gap)
    known = karma_rules.karmas(schema.read_rows(options.data / "upvote_train.csv", UpvoteRow)) if options.rule != "gap" else {}
    groups = sibling_groups(options, karma_rules.select(by_split["train"], known, options.rule, options.karma_gap)) + own
    if options.ranked_rows:
        ranked = schema.read_rows(options.data / "ranked_pairs.csv", RankedPair)
        sources["ranked_pairs.csv"] = len(ranked)
        groups += ranked_groups(options, ranked, by_split, realism)
    settings = {
        "rows": sum(len(group.replies) for group in groups), "ranked_rows": options.ranked_rows, "groups": len(groups),
        "epochs": options.epochs, "batch_tokens": options.batch_tokens, "karma_gap": options.karma_gap, "rule": options.rule,
        "threads": options.threads, "left_out": sorted(options.left_out), "own_rows": sum(len(group.replies) for group in own),
        "harvest_sha256": files.sha256_of(options.harvest) if options.harvest else "",
    }  # fmt: skip
    return Siblings(groups, validation, sources, settings)


def read_pairs(options: SiblingOptions) -> BySplit:
    """Split -> pairs. Raises UserError if a split has no rows, or no split has a subreddit of --leave-out."""
    read = {each: schema.read_rows(options.data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "val", "test")}
    for each, rows in read.items():
        if not rows:
            raise UserError(f"{options.data}/upvote_pairs_{each}.csv: no rows; prepare more data")
    unknown = options.left_out - {row.subreddit.lower() for rows in read.values() for row in rows}
    if unknown:
        raise UserError(f"--leave-out {sorted(unknown)[0]}: no such subreddit in {options.data}/upvote_pairs_*.csv")
    return read


def calibration_pairs(options: SiblingOptions, pairs: Sequence[UpvotePair]) -> list[UpvotePair]:
    """Validation pairs of subreddits that are not left out. Raises UserError if there are none."""
    kept = [row for row in pairs if row.subreddit.lower() not in options.left_out]
    if not kept:
        raise UserError(f"{options.data}/upvote_pairs_val.csv: --leave-out excludes every pair; leave fewer subreddits out")
    return kept


def sibling_groups(options: SiblingOptions, pairs: Sequence[UpvotePair]) -> list[Group]:
    """Groups of these training pairs, of the rankers' half or of all threads. Raises UserError if there are none."""
    kept = [
        row for row in pairs
        if (options.threads == "all" or text.half_for(row.thread_id) == "rankers")
        and row.subreddit.lower() not in options.left_out
    ]  # fmt: skip
    if not kept:
        file, gap = options.data / "upvote_pairs_train.csv", options.karma_gap
        raise UserError(f"{file}: no training pair of the rankers' half with a karma gap of {gap}; prepare more data")
    return evenly(group_by_comment(kept), options.rows, options.seed)


def ranked_groups(options: SiblingOptions, pairs: Sequence[RankedPair], read: BySplit, realism: dict[str, list[RealismRow]]) -> list[Group]:
    """Groups of ranked pairs. These have no thread id, so comments that occur in val, test or the judges' half are excluded."""
    held_out: list[UpvotePair | RealismRow] = [row for rows in (read, realism) for each in ("val", "test") for row in rows.get(each, [])]
    excluded = {row.comment for row in held_out} | {row.comment for row in read["train"] if text.half_for(row.thread_id) == "judge"}
    kept = [
        row for row in pairs
        if row.rank_gap >= MIN_RANK_GAP and row.comment not in excluded and row.subreddit.lower() not in options.left_out
    ]  # fmt: skip
    return evenly(group_by_comment(kept), options.ranked_rows, options.seed)


def group_by_comment(pairs: Iterable[UpvotePair | RankedPair]) -> list[Group]:
    """The pairs of each comment as groups of at most GROUP_SIZE distinct replies. Pairs between two groups are dropped.

    >>> group_by_comment([RankedPair("s", "why", "so", "no", 1), RankedPair("s", "why", "so", "eh", 2)])
    [Group(subreddit='s', replies=[('why', 'so'), ('why', 'no'), ('why', 'eh')], better=[(0, 1), (0, 2)])]
    """
    by_comment: dict[tuple[str, str], list[UpvotePair | RankedPair]] = defaultdict(list)
    for pair in pairs:
        by_comment[pair.comment_id if isinstance(pair, UpvotePair) else pair.subreddit, pair.comment].append(pair)
    result = []
    for (_, comment), siblings in by_comment.items():
        index: dict[str, int] = {}
        for pair in siblings:
            index.setdefault(pair.chosen, len(index))
            index.setdefault(pair.rejected, len(index))
        by_group: dict[int, list[Better]] = defaultdict(list)
        for pair in siblings:
            if index[pair.chosen] // GROUP_SIZE == index[pair.rejected] // GROUP_SIZE:
                by_group[index[pair.chosen] // GROUP_SIZE].append(((comment, pair.chosen), (comment, pair.rejected)))
        result += [group_of(siblings[0].subreddit, better) for better in by_group.values()]
    return result


def group_of(subreddit: str, better: list[Better]) -> Group:
    replies = list(dict.fromkeys(reply for both in better for reply in both))
    return Group(subreddit.lower(), replies, [(replies.index(one), replies.index(other)) for one, other in better])


def own_groups(rows: Iterable[Harvested], karma_gap: int) -> list[Group]:
    """Groups of the bot's own replies, with the pairs whose karma differs by at least karma_gap.

    A group is up to GROUP_SIZE consecutive rows of `harvest` from one subreddit and at one age (a day or a week).

    >>> from dataclasses import replace
    >>> row = Harvested("t1_r", "t1_c", "t3_b", "books", "why", "so", 25.0, 9, 0, False)
    >>> own_groups([row, replace(row, comment="how", reply="thus", karma=1), replace(row, age_hours=170.0, karma=0)], 5)
    [Group(subreddit='books', replies=[('why', 'so'), ('how', 'thus')], better=[(0, 1)])]
    """
    comparable: dict[tuple[str, bool], list[Harvested]] = defaultdict(list)
    for row in rows:
        comparable[row.subreddit.lower(), row.age_hours < 2 * harvested.HARVEST_HOURS].append(row)
    result = []
    for (subreddit, _), members in comparable.items():
        for start in range(0, len(members), GROUP_SIZE):
            pairs = [sorted(pair, key=lambda row: -row.karma) for pair in combinations(members[start : start + GROUP_SIZE], 2)]
            better = [
                ((one.comment, one.reply), (other.comment, other.reply)) for one, other in pairs if one.karma - other.karma >= karma_gap
            ]
            result += [group_of(subreddit, better)] if better else []
    return result


def evenly(groups: Sequence[Group], rows: int, seed: int) -> list[Group]:
    """Groups with about `rows` replies in total, see corpus.pairs.draw_evenly."""
    return pairs.draw_evenly(groups, lambda group: group.subreddit, lambda group: len(group.replies), rows, seed)


def calibrate_on_pairs(ranker: HasLogits, pairs: Sequence[UpvotePair]) -> tuple[float, float]:
    """Scale and offset that turn a logit into the probability of doing better than a sibling with the pairs' mean logit (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    chosen, rejected = (np.array(ranker.logits([(pair.comment, getattr(pair, side)) for pair in pairs])) for side in ("chosen", "rejected"))
    gaps = (chosen - rejected)[:, None]
    labels = [1] * len(gaps) + [0] * len(gaps)  # each pair in both orders
    fitted = LogisticRegression(fit_intercept=False, C=1e6).fit(np.concatenate([gaps, -gaps]), labels)
    scale = float(fitted.coef_[0, 0])
    return scale, -scale * float(np.concatenate([chosen, rejected]).mean())
