"""Which pairs of siblings count as a preference, by the rules of two public datasets. Pure functions.

DialogRPT (Gao et al. 2020, arXiv:2009.06978): the karma differs by at least 20 in its test, and the ranks by at least half. A rank is the
place of a reply's karma among the distinct karma values of all replies to the comment, scaled to [0, 1].

SHP (Ethayarajh et al. 2022, arXiv:2110.08420): the later reply has at least twice the karma of the earlier one, so that longer exposure
cannot explain its karma.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from bot.schema import UpvotePair, UpvoteRow

MIN_RANK_GAP = 0.5  # DialogRPT
MIN_RATIO = 2.0  # SHP
PAIRS_OF_COMMENT = 5  # SHP: training pairs of a comment

Rule = Literal["gap", "dialogrpt", "shp"]
Karmas = Mapping[str, Mapping[str, int]]  # comment_id -> reply_id -> karma


def karmas(rows: Iterable[UpvoteRow]) -> Karmas:
    """The karma of the replies to each comment."""
    result: dict[str, dict[str, int]] = {}
    for row in rows:
        result.setdefault(row.comment_id, {})[row.reply_id] = row.reply_karma
    return result


def rank_gap(pair: UpvotePair, known: Karmas) -> float:
    """The difference between the ranks of the two replies, 0 to 1; 0 if the karma of one is not known.

    >>> pair = UpvotePair("t3_a", "t1_a", "t1_x", "t1_y", "s", "why", "so", "no", 30, 0.5)
    >>> rank_gap(pair, {"t1_a": {"t1_x": 31, "t1_y": 1, "t1_z": 90}}), rank_gap(pair, {})
    (0.5, 0.0)
    """
    siblings = known.get(pair.comment_id, {})
    if not {pair.chosen_id, pair.rejected_id} <= siblings.keys():
        return 0.0
    order = sorted(set(siblings.values()))
    places = [order.index(siblings[reply]) for reply in (pair.chosen_id, pair.rejected_id)]
    return (places[0] - places[1]) / max(1, len(order) - 1)


def is_dialogrpt(pair: UpvotePair, known: Karmas, karma_gap: int = 20) -> bool:
    """Whether DialogRPT's rule counts the pair."""
    return pair.karma_gap >= karma_gap and rank_gap(pair, known) >= MIN_RANK_GAP


def is_shp(pair: UpvotePair, known: Karmas) -> bool:
    """Whether SHP's rule counts the pair. A pair without real times (hours_gap 0) does not count.

    >>> pair = UpvotePair("t3_a", "t1_a", "t1_x", "t1_y", "s", "why", "so", "no", 3, 0.5)
    >>> is_shp(pair, {"t1_a": {"t1_x": 6, "t1_y": 3}}), is_shp(pair, {"t1_a": {"t1_x": 9, "t1_y": 6}})
    (True, False)
    """
    siblings = known.get(pair.comment_id, {})
    worse = siblings.get(pair.rejected_id)
    return pair.hours_gap > 0 and worse is not None and siblings.get(pair.chosen_id, 0) >= MIN_RATIO * max(1, worse)


def select(pairs: Sequence[UpvotePair], known: Karmas, rule: Rule, karma_gap: int) -> list[UpvotePair]:
    """The training pairs by a rule. gap: karma_gap alone; dialogrpt: also the rank gap; shp: up to PAIRS_OF_COMMENT pairs of a comment."""
    if rule == "gap":
        return [pair for pair in pairs if pair.karma_gap >= karma_gap]
    if rule == "dialogrpt":
        return [pair for pair in pairs if is_dialogrpt(pair, known, karma_gap)]
    count: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        if is_shp(pair, known) and count[pair.comment_id] < PAIRS_OF_COMMENT:
            count[pair.comment_id] += 1
            kept.append(pair)
    return kept
