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
then says of one reply is made the probability that it does better than an average one, on validation pairs (`calibrated_pairs`).

Replies of our own (--harvest) have no siblings there: nobody else's karma is known. They are compared with one another (`own_groups`),
in one subreddit and at one age. Exposure differs between their threads, so this is weaker than a comparison of siblings: a reply may have
won by its thread's luck.

A subreddit counts by the square root of its size (`draw_evenly`), so that what is learnt is not the taste of the largest alone.

Subreddits that are left out give nothing, to training or calibration: `evaluate --model` measures the ranker on them, over their pairs of
all three splits (card.settings["left_out"] has their names).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bot import files, schema, text
from bot.cli import UserError
from bot.rankers import Encoded, batches_of_like_length
from bot.schema import Harvested, RankedPair, RealismRow, UpvotePair, sample_rows
from bot.train import encoders, harvested, loop, realism_transformers
from bot.train.options import Harvest, Out, RankerOptions
from bot.weights import bases

if TYPE_CHECKING:
    import torch

    from bot.rankers.transformers import Transformers

MOST_SIBLINGS = 8  # encoded together; of a larger family each eight are a group of their own
LEAST_RANK_GAP = 2  # first against third: what Reddit lists second is hardly worse than the first
ENCODED = 32  # pairs at once
CALIBRATION_PAIRS = 1500


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    out: Out = Path("models/upvote")
    karma_gap: Annotated[int, typer.Option(min=1, help="least difference in karma of the pairs to learn")] = 5
    ranked_rows: Annotated[int, typer.Option(min=0, help="replies of DATA/ranked_pairs.csv to learn besides")] = 0
    leave_out: Annotated[
        list[str], typer.Option(help="a subreddit to learn nothing of, but to measure; may be given several times")
    ] = field(default_factory=list)  # fmt: skip
    harvest: Harvest = None
    realism_out: Annotated[
        Path | None,
        typer.Option(help="learn realism besides, on the same encoder, and write that ranker here; one forward pass serves both"),
    ] = None

    @property
    def folders(self) -> list[Path]:
        return [self.out, *([self.realism_out] if self.realism_out else [])]

    @property
    def left_out(self) -> set[str]:
        """In lower case."""
        return {name.lower() for name in self.leave_out}


Better = tuple[tuple[str, str], tuple[str, str]]  # (comment, reply) of the one with more karma, and of the other
BySplit = dict[str, list[UpvotePair]]


@dataclass(slots=True)
class Group:
    """Replies, each as (comment, reply), and which of them did better than which (places in `replies`)."""

    subreddit: str
    replies: list[tuple[str, str]]
    better: list[tuple[int, int]]


def train(options: Options) -> None:
    """Raises UserError: options contradict each other, a file or the base is missing, or there is too little to learn from."""
    check(options)
    folder = bases.base_path(options.base)
    read = read_pairs(options)
    familiar = sample_rows(familiar_pairs(options, read["val"]), CALIBRATION_PAIRS, options.seed)
    realism = realism_transformers.read_rows(options.data) if options.realism_out else {}
    sources = {f"upvote_pairs_{each}.csv": len(rows) for each, rows in read.items()}
    ours = harvested.own_replies(schema.read_rows(options.harvest, Harvested), options.left_out) if options.harvest else []
    own = own_groups(ours, options.karma_gap)
    families = sibling_groups(options, read["train"]) + own
    if options.ranked_rows:
        by_rank = schema.read_rows(options.data / "ranked_pairs.csv", RankedPair)
        sources["ranked_pairs.csv"] = len(by_rank)
        families += ranked_groups(options, by_rank, read, realism)

    from bot.rankers.transformers import encode_pair, logits

    model, tokenizer = encoders.ranker_with_lora(folder, len(options.folders), options.seed)
    encoded = [[encode_pair(tokenizer, *pair) for pair in group.replies] for group in families]
    sizes = [sum(len(ids) for ids, _ in group) for group in encoded]
    batches = loop.batches_by_length(range(len(families)), sizes.__getitem__, options.batch_tokens, options.epochs, options.seed)

    def loss_of(batch: list[int]) -> torch.Tensor:
        some = [families[n] for n in batch], [encoded[n] for n in batch]
        return batch_loss(*some, lambda pairs: logits(model, tokenizer, pairs)[:, 0])

    settings: dict[str, Any] = {
        "rows": sum(len(group.replies) for group in families), "ranked_rows": options.ranked_rows, "groups": len(families),
        "epochs": options.epochs, "batch_tokens": options.batch_tokens, "karma_gap": options.karma_gap,
        "left_out": sorted(options.left_out), "own_rows": sum(len(group.replies) for group in own),
        "harvest_sha256": files.sha256_of(options.harvest) if options.harvest else "",
    }  # fmt: skip
    calibrate = lambda ranker: calibrated_pairs(ranker, familiar)  # noqa: E731
    tasks = [encoders.Task("upvote", options.out, settings, sources, batches, loss_of, calibrate)]
    if options.realism_out:
        besides = replace(options, out=options.realism_out)
        of_realism = realism_transformers.realism_task(besides, realism, tokenizer, lambda pairs: logits(model, tokenizer, pairs)[:, 1])
        tasks.append(of_realism)
    encoders.fit(options, model, tasks)


# --- what is learnt from ------------------------------------------------------------------------------------------------


def check(options: Options) -> None:
    """Raises UserError: the options contradict each other."""
    if not options.realism_out:
        return
    if options.realism_out.resolve() == options.out.resolve():
        raise UserError(f"--realism-out and --out are the same folder, {options.out}; give two")
    if (options.realism_out / "checkpoint.pt").exists():
        raise UserError(f"{options.realism_out}/checkpoint.pt: of a training that was interrupted; finish that, or delete it")
    if options.leave_out:
        raise UserError("--realism-out learns from every subreddit, so that --leave-out would leave nothing out; drop one of them")


def read_pairs(options: Options) -> BySplit:
    """Raises UserError: a split has no rows, or a subreddit to leave out is in none."""
    read = {each: schema.read_rows(options.data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "val", "test")}
    for each, rows in read.items():
        if not rows:
            raise UserError(f"{options.data}/upvote_pairs_{each}.csv: no rows; prepare more data")
    unknown = options.left_out - {row.subreddit.lower() for rows in read.values() for row in rows}
    if unknown:
        raise UserError(f"--leave-out {sorted(unknown)[0]}: no such subreddit in {options.data}/upvote_pairs_*.csv")
    return read


def familiar_pairs(options: Options, pairs: Sequence[UpvotePair]) -> list[UpvotePair]:
    """Validation pairs of subreddits that are not left out. Raises UserError where there is none."""
    familiar = [row for row in pairs if row.subreddit.lower() not in options.left_out]
    if not familiar:
        raise UserError(f"{options.data}/upvote_pairs_val.csv: no pair of a subreddit that isn't left out; leave fewer out")
    return familiar


def sibling_groups(options: Options, pairs: Sequence[UpvotePair]) -> list[Group]:
    """Groups of training pairs that rankers may learn from. Raises UserError where there is none."""
    to_learn = [
        row for row in pairs
        if row.karma_gap >= options.karma_gap
        and text.half_for(row.thread_id) == "rankers"
        and row.subreddit.lower() not in options.left_out
    ]  # fmt: skip
    if not to_learn:
        file, gap = options.data / "upvote_pairs_train.csv", options.karma_gap
        raise UserError(f"{file}: no pair of the half «rankers» with a karma gap of {gap}; prepare more data")
    return draw_evenly(groups(to_learn), options.rows, options.seed)


def ranked_groups(options: Options, pairs: Sequence[RankedPair], read: BySplit, realism: dict[str, list[RealismRow]]) -> list[Group]:
    """Groups of pairs by rank. They name no thread, so it is their comments that keep them apart from what measures."""
    held_out: list[UpvotePair | RealismRow] = [row for rows in (read, realism) for each in ("val", "test") for row in rows.get(each, [])]
    others = {row.comment for row in held_out} | {row.comment for row in read["train"] if text.half_for(row.thread_id) == "judge"}
    weak = [
        row for row in pairs
        if row.rank_gap >= LEAST_RANK_GAP and row.comment not in others and row.subreddit.lower() not in options.left_out
    ]  # fmt: skip
    return draw_evenly(groups(weak), options.ranked_rows, options.seed)


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
        alike[row.subreddit.lower(), row.age_hours < 2 * harvested.HARVEST_HOURS].append(row)
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


# --- loss and probability -----------------------------------------------------------------------------------------------


def batch_loss(families: Sequence[Group], encoded: Sequence[Sequence[Encoded]], logits_of: encoders.Logits) -> torch.Tensor:
    """Mean loss (nats) of groups, each the mean over its pairs. encoded: the replies of each."""
    import torch

    pairs = [pair for group in encoded for pair in group]
    parts = list(batches_of_like_length(pairs, ENCODED))
    order = torch.tensor([place for part in parts for place in part])
    scores = torch.cat([logits_of([pairs[place] for place in part]) for part in parts])[order.argsort()]
    start, losses = 0, []
    for group in families:
        chosen, rejected = (start + torch.tensor(side) for side in zip(*group.better, strict=True))
        losses.append(-torch.nn.functional.logsigmoid(scores[chosen] - scores[rejected]).mean())
        start += len(group.replies)
    return torch.stack(losses).mean()


def calibrated_pairs(ranker: Transformers, pairs: Sequence[UpvotePair]) -> tuple[float, float]:
    """scale and offset that make a logit the probability to do better than a sibling of these pairs' mean logit (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    chosen, rejected = (np.array(ranker.logits([(pair.comment, getattr(pair, side)) for pair in pairs])) for side in ("chosen", "rejected"))
    gaps = (chosen - rejected)[:, None]
    labels = [1] * len(gaps) + [0] * len(gaps)  # each pair both ways round
    fitted = LogisticRegression(fit_intercept=False, C=1e6).fit(np.concatenate([gaps, -gaps]), labels)
    scale = float(fitted.coef_[0, 0])
    return scale, -scale * float(np.concatenate([chosen, rejected]).mean())
