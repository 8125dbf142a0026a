"""train upvote --backend tfhub-bert: predict the karma class of a reply (see rankers.karma_class). See tfhub_bert for the model.

Reads  DATA/upvote_{train,val,test}.csv, the encoder and, with --harvest, harvest.csv.
Writes OUT (see tfhub_bert).

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
from bot.train.card_text import INPUT_LENGTH, card_text
from bot.train.options import Harvest, Out, RankerOptions
from bot.train.realism_tfhub_bert import TFHubBase

LIMITS = (
    "Predicts the karma class of a reply from its text alone. The effects of subreddit, exposure and age on karma are noise to it, so only"
    f" compare candidates for the same comment. It says nothing about truth, tone or rules. {INPUT_LENGTH}"
)


class Classes(StrEnum):
    two = "2"
    four = "4"


@dataclass(frozen=True, kw_only=True)
class Options(RankerOptions):
    base: TFHubBase = "minilm-l6-tfhub"
    out: Out = Path("models/upvote-tfhub")
    classes: Annotated[Classes, typer.Option(help="karma classes: 4 (below 1, 1, 2 to 4, above 4) or 2 (up to 1, above 1)")] = Classes.four
    harvest: Harvest = None


def train(options: Options) -> None:
    """Raises UserError if a file or the encoder is missing or unusable, a class has no rows, or memory runs out."""
    classes = int(options.classes)
    read = {each: schema.read_rows(options.data / f"upvote_{each}.csv", UpvoteRow) for each in ("train", "val", "test")}
    ours = harvested.own_replies(schema.read_rows(options.harvest, Harvested)) if options.harvest else []
    own = [UpvoteRow(r.thread_id, r.comment_id, r.reply_id, r.subreddit, r.comment, r.reply, r.karma, None) for r in ours]
    settings = {"own_rows": len(own), "harvest_sha256": files.sha256_of(options.harvest) if options.harvest else ""}

    from bot.train import tfhub_bert

    tfhub_bert.train(
        options, "upvote", classes, read, lambda row: rankers.karma_class(row.reply_karma, classes),
        own, settings, card_text("upvote", LIMITS),
    )  # fmt: skip
