"""train upvote with PyTorch: which of two replies to one comment gets more karma.

Reads  DATA/upvote_pairs_{train,val,test}.csv, of the training threads those of the half «rankers» (text.half_for), perhaps
       DATA/ranked_pairs.csv and harvest.csv, and an encoder in models/base/.
Writes OUT: a LoRA adapter, model.json and losses.csv; while it trains, OUT/checkpoint.pt. With --realism-out it reads
       DATA/realism_{train,val,test}.csv too, and writes a second ranker with the same adapter there.

    python run_bot.py train upvote --data data/prepared --rows 40000 --ranked-rows 10000
    python run_bot.py train upvote --data data/prepared --leave-out rage --leave-out wtf --out models/upvote-without
    python run_bot.py train upvote --data data/prepared --harvest data/harvest.csv

Siblings are encoded once and compared with each other: the loss of a pair is -log sigmoid(chosen - rejected) (Bradley and Terry 1952),
its mean over the pairs of a parent, then over parents. Only siblings are compared, so subreddit, age and exposure cancel. What the model
then says of one reply is made the probability that it does better than an average one, on validation pairs (`calibrated`).

Replies of our own (--harvest) have no siblings there: nobody else's karma is known. They are compared with one another (`own_groups`),
in one subreddit and at one age. Exposure differs between their threads, so this is weaker than a comparison of siblings: a reply may have
won by its thread's luck.

A subreddit counts by the square root of its size (`draw_evenly`), so that what is learnt is not the taste of the largest alone.

Subreddits that are left out give nothing, to training or calibration; the card holds the accuracy on each of them (`left_out_r/NAME_gap_5`
and `_gap_20`) and on all together, over their pairs of all three splits, beside «the longer wins» on the same pairs.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bot import files, schema, text
from bot.cli import UserError
from bot.evaluate import measures
from bot.rankers import batches_of_like_length
from bot.rankers.transformers import Transformers, encode_pair, logits
from bot.schema import Harvested, RankedPair, RealismRow, UpvotePair, sample_rows
from bot.train import encoders, loop
from bot.train.realism import read_realism, realism_task
from bot.train.tasks import Task, fit_and_measure
from bot.weights import bases

LORA_RANK = 32
MOST_SIBLINGS = 8  # encoded together; of a larger family each eight are a group of their own
LEAST_RANK_GAP = 2  # first against third: what Reddit lists second is hardly worse than the first
ENCODED = 32  # pairs at once
CALIBRATION_PAIRS = 1500


Better = tuple[tuple[str, str], tuple[str, str]]  # (comment, reply) of the one with more karma, and of the other


@dataclass(slots=True)
class Group:
    """Replies, each as (comment, reply), and which of them did better than which (places in `replies`)."""

    subreddit: str
    replies: list[tuple[str, str]]
    better: list[tuple[int, int]]


def train(
    base: str, data: Path, out: Path, rows: int, epochs: int, batch_tokens: int, learning_rate: float, seed: int,
    karma_gap: int, ranked_rows: int, leave_out: Sequence[str], harvest: Path | None, realism_out: Path | None,
) -> None:  # fmt: skip
    """`train_ranker.main` says what the options are. Raises UserError."""
    folder = bases.base_path(base)
    read = {each: schema.read_rows(data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "val", "test")}
    for each, found in read.items():
        if not found:
            raise UserError(f"{data}/upvote_pairs_{each}.csv: no rows; prepare more data")
    left_out = {name.lower() for name in leave_out}
    unknown = left_out - {row.subreddit.lower() for found in read.values() for row in found}
    if unknown:
        raise UserError(f"--leave-out {sorted(unknown)[0]}: no such subreddit in {data}/upvote_pairs_*.csv")
    realism = read_realism(data) if realism_out else {}
    # nothing of what is left out is learnt, so all three splits measure it
    unseen = [row for found in read.values() for row in found if row.subreddit.lower() in left_out]
    if left_out and not measures.measurable(unseen):
        raise UserError(f"--leave-out {', '.join(sorted(left_out))}: no pair with a karma gap of {measures.LARGE_GAPS[0]} to measure it on")
    familiar = [row for row in read["val"] if row.subreddit.lower() not in left_out]
    if not familiar:
        raise UserError(f"{data}/upvote_pairs_val.csv: no pair of a subreddit that isn't left out; leave fewer out")
    to_learn = [
        row for row in read["train"]
        if row.karma_gap >= karma_gap and text.half_for(row.thread_id) == "rankers" and row.subreddit.lower() not in left_out
    ]  # fmt: skip
    families = draw_evenly(groups(to_learn), rows, seed)
    if not families:
        raise UserError(f"{data}/upvote_pairs_train.csv: no pair of the half «rankers» with a karma gap of {karma_gap}; prepare more data")
    sources = {f"upvote_pairs_{each}.csv": len(found) for each, found in read.items()}
    own = own_groups(loop.own_replies(schema.read_rows(harvest, Harvested), left_out), karma_gap) if harvest else []
    families += own
    if ranked_rows:
        by_rank = schema.read_rows(data / "ranked_pairs.csv", RankedPair)
        sources["ranked_pairs.csv"] = len(by_rank)
        # they name no thread, so it is their comments that keep them apart from what measures
        measuring: list[UpvotePair | RealismRow] = [
            row for found in (read, realism) for each in ("val", "test") for row in found.get(each, [])
        ]
        others = {row.comment for row in measuring} | {row.comment for row in read["train"] if text.half_for(row.thread_id) == "judge"}
        weak = [
            row for row in by_rank
            if row.rank_gap >= LEAST_RANK_GAP and row.comment not in others and row.subreddit.lower() not in left_out
        ]  # fmt: skip
        families += draw_evenly(groups(weak), ranked_rows, seed)

    model, tokenizer = encoders.ranker_with_lora(folder, LORA_RANK, 2 if realism_out else 1, seed)
    encoded = [[encode_pair(tokenizer, *pair) for pair in group.replies] for group in families]
    sizes = [sum(len(ids) for ids, _ in group) for group in encoded]
    batches = loop.batches_by_length(range(len(families)), sizes.__getitem__, batch_tokens, epochs, seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        pairs = [pair for number in batch for pair in encoded[number]]
        parts = list(batches_of_like_length(pairs, ENCODED))
        order = torch.tensor([place for part in parts for place in part])
        scores = torch.cat([logits(model, tokenizer, [pairs[place] for place in part])[:, 0] for part in parts])[order.argsort()]
        start, losses = 0, []
        for number in batch:
            chosen, rejected = (start + torch.tensor(side) for side in zip(*families[number].better, strict=True))
            losses.append(-torch.nn.functional.logsigmoid(scores[chosen] - scores[rejected]).mean())
            start += len(encoded[number])
        return torch.stack(losses).mean()

    settings: dict[str, Any] = {
        "rows": sum(len(group.replies) for group in families), "ranked_rows": ranked_rows, "groups": len(families), "epochs": epochs,
        "batch_tokens": batch_tokens, "lora_rank": LORA_RANK, "karma_gap": karma_gap,
        "left_out": sorted(left_out), "own_rows": sum(len(group.replies) for group in own),
        "harvest_sha256": files.sha256_of(harvest) if harvest else "",
    }  # fmt: skip
    tasks = [
        Task(
            "upvote", out, settings, sources, batches, loss_of,
            calibrate=lambda ranker: calibrated(ranker, sample_rows(familiar, CALIBRATION_PAIRS, seed)),
            measure_more=lambda ranker: measures.evaluate_left_out(ranker, to_learn, unseen) if left_out else {},
        )
    ]  # fmt: skip
    if realism_out:
        tasks.append(
            realism_task(
                realism, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 1], realism_out, rows, epochs, batch_tokens, seed
            )
        )
    fit_and_measure(base, data, model, tasks, learning_rate, seed)


def groups(pairs: Iterable[UpvotePair | RankedPair]) -> list[Group]:
    """The pairs by parent, each distinct reply once. Each MOST_SIBLINGS of a large family are a group; pairs across are lost.

    >>> groups([RankedPair("s", "why", "so", "no", 1), RankedPair("s", "why", "so", "eh", 2)])
    [Group(subreddit='s', replies=[('why', 'so'), ('why', 'no'), ('why', 'eh')], better=[(0, 1), (0, 2)])]
    """
    by_parent: dict[tuple[str, str], list[UpvotePair | RankedPair]] = defaultdict(list)
    for pair in pairs:
        by_parent[pair.comment_id if isinstance(pair, UpvotePair) else pair.subreddit, pair.comment].append(pair)
    result = []
    for (_, comment), family in by_parent.items():
        place: dict[str, int] = {}
        for pair in family:
            place.setdefault(pair.chosen, len(place))
            place.setdefault(pair.rejected, len(place))
        by_group: dict[int, list[Better]] = defaultdict(list)
        for pair in family:
            if place[pair.chosen] // MOST_SIBLINGS == place[pair.rejected] // MOST_SIBLINGS:
                by_group[place[pair.chosen] // MOST_SIBLINGS].append(((comment, pair.chosen), (comment, pair.rejected)))
        result += [group_of(family[0].subreddit, better) for better in by_group.values()]
    return result


def group_of(subreddit: str, better: list[Better]) -> Group:
    replies = list(dict.fromkeys(reply for both in better for reply in both))
    return Group(subreddit.lower(), replies, [(replies.index(one), replies.index(other)) for one, other in better])


def own_groups(rows: Iterable[Harvested], karma_gap: int) -> list[Group]:
    """Replies of our own whose karma differs by karma_gap: each MOST_SIBLINGS that were harvested one after the other, in one subreddit
    and at one age, a day or a week.

    >>> from dataclasses import replace
    >>> row = Harvested("t1_r", "t1_c", "t3_b", "books", "why", "so", 25.0, 9, 0, False)
    >>> own_groups([row, replace(row, comment="how", reply="thus", karma=1), replace(row, age_hours=170.0, karma=0)], 5)
    [Group(subreddit='books', replies=[('why', 'so'), ('how', 'thus')], better=[(0, 1)])]
    """
    alike: dict[tuple[str, bool], list[Harvested]] = defaultdict(list)
    for row in rows:
        alike[row.subreddit.lower(), row.age_hours < 2 * loop.HARVEST_HOURS].append(row)
    result = []
    for (subreddit, _), members in alike.items():
        for start in range(0, len(members), MOST_SIBLINGS):
            both = [sorted(pair, key=lambda row: -row.karma) for pair in combinations(members[start : start + MOST_SIBLINGS], 2)]
            better = [
                ((one.comment, one.reply), (other.comment, other.reply)) for one, other in both if one.karma - other.karma >= karma_gap
            ]
            result += [group_of(subreddit, better)] if better else []
    return result


def draw_evenly(families: Sequence[Group], rows: int, seed: int) -> list[Group]:
    """Groups by chance, about `rows` replies together, of each subreddit in proportion to the square root of how many it has."""
    by_subreddit: dict[str, list[Group]] = defaultdict(list)
    for group in families:
        by_subreddit[group.subreddit].append(group)
    drawn: list[tuple[float, str, Group]] = []
    for subreddit, members in sorted(by_subreddit.items()):
        random.Random(f"{seed} {subreddit}").shuffle(members)
        root = sum(len(group.replies) for group in members) ** 0.5
        before = 0
        for group in members:
            drawn.append((before / root, subreddit, group))
            before += len(group.replies)
    result, count = [], 0
    for _, _, group in sorted(drawn, key=lambda each: each[:2]):
        if count >= rows:
            break
        result.append(group)
        count += len(group.replies)
    return result


def calibrated(ranker: Transformers, pairs: Sequence[UpvotePair]) -> tuple[float, float]:
    """scale and offset that make a logit the probability to do better than a sibling of these pairs' mean logit (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    chosen, rejected = (np.array(ranker.logits([(pair.comment, getattr(pair, side)) for pair in pairs])) for side in ("chosen", "rejected"))
    gaps = (chosen - rejected)[:, None]
    labels = [1] * len(gaps) + [0] * len(gaps)  # each pair both ways round
    fitted = LogisticRegression(fit_intercept=False, C=1e6).fit(np.concatenate([gaps, -gaps]), labels)
    scale = float(fitted.coef_[0, 0])
    return scale, -scale * float(np.concatenate([chosen, rejected]).mean())
