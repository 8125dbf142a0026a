"""train upvote --backend tfhub-bert: the class of a reply's karma, see rankers.karma_class; see tfhub_bert for the model.

Reads  DATA/upvote_{train,val,test}.csv, perhaps harvest.csv, and the encoder.
Writes OUT, see tfhub_bert.

    python run_bot.py train upvote --backend tfhub-bert --classes 4 --data data/prepared --out models/upvote-tfhub
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import files, rankers, schema
from bot.schema import Harvested, UpvoteRow
from bot.train import harvested
from bot.train.options import Harvest, Out, RankerOptions
from bot.train.realism_tfhub_bert import TFHubBase
from bot.train.words import READ, words

LIMITS = (
    "It guesses the class of a reply's karma from the text alone: what subreddit, exposure and age do to karma is noise to it, so compare"
    f" candidates of one comment only. It says nothing about truth, tone or rules. {READ}"
)


class Classes(StrEnum):
    two = "2"
    four = "4"


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    base: TFHubBase = "minilm-l6-tfhub"
    out: Out = Path("models/upvote-tfhub")
    classes: Annotated[Classes, typer.Option(help="4 classes of karma (<1, 1, 2 to 4, >4) or 2 (>1)")] = Classes.four
    harvest: Harvest = None


def train(options: Options) -> None:
    """Raises UserError: a file or the encoder is missing or unfit, a class has no rows, or memory is full."""
    classes = int(options.classes)
    read = {each: schema.read_rows(options.data / f"upvote_{each}.csv", UpvoteRow) for each in ("train", "val", "test")}
    ours = harvested.own_replies(schema.read_rows(options.harvest, Harvested)) if options.harvest else []
    own = [UpvoteRow(r.thread_id, r.comment_id, r.reply_id, r.subreddit, r.comment, r.reply, r.karma, None) for r in ours]
    settings = {"own_rows": len(own), "harvest_sha256": files.sha256_of(options.harvest) if options.harvest else ""}

    from bot.train import tfhub_bert

    tfhub_bert.train(
        options, "upvote", classes, read, lambda row: rankers.karma_class(row.reply_karma, classes), own, settings, words("upvote", LIMITS)
    )
