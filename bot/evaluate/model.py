"""One model on held-out rows: what `evaluate` says of it, and its card holds.

Reads DATA/{realism,upvote_pairs,upvote,relevance}_{train,test}.csv as far as a ranker's kind asks for them, of an upvote ranker that left
subreddits out (card.settings["left_out"]) upvote_pairs_val.csv too, and score files; of a generator lm_{val,test}.csv.
Writes the card's metrics.

    python run_bot.py evaluate --model models/upvote --data data/prepared
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot.cli import UserError
from bot.evaluate import realism, relevance, upvote
from bot.evaluate.measures import ScoredRows, drawn, learnt, read
from bot.rankers import score_files
from bot.rankers.score_files import Scorer, Scores
from bot.schema import LabelledRow, RealismRow, UpvotePair, UpvoteRow
from bot.weights import bases, cards


def untuned(card: cards.ModelCard, scores: Scores) -> Scorer | None:
    """The cosine under the ranker's base before training; None where no such encoder is under models/base."""
    with suppress(UserError):  # a base that is an address names no folder
        if (bases.read_base(card.base) or {}).get("kind") == "encoder":
            return scores.of_base(card.base)
    return None


def learnt_pairs(card: cards.ModelCard, rows: list[UpvotePair]) -> list[UpvotePair]:
    """What an upvote ranker was given to learn from."""
    left_out, least_gap = card.settings.get("left_out", []), card.settings.get("karma_gap", 0)
    return learnt(rows, lambda row: row.karma_gap >= least_gap and row.subreddit.lower() not in left_out)


def score_test(card: cards.ModelCard, ranker: Scorer, encoder: Scorer | None, data: Path) -> ScoredRows:
    """Test rows of a realism or upvote ranker, scored by it and its baselines. Raises UserError: a file is missing or empty."""
    if card.kind == "upvote":
        train, test = (read(data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "test"))
        return upvote.score_pairs(ranker, encoder, drawn(learnt_pairs(card, train), card), test)
    people, rows = (read(data / f"realism_{each}.csv", RealismRow) for each in ("train", "test"))
    return realism.score_rows(ranker, encoder, drawn(learnt(people), card), rows)


def measure(card: cards.ModelCard, ranker: Scorer, encoder: Scorer | None, data: Path, tested: ScoredRows | None = None) -> dict[str, Any]:
    """What `evaluate` says of the ranker with this card. tested: what score_test returned, where that was called already."""
    if card.kind == "relevance":
        train, rows = (read(data / f"relevance_{each}.csv", LabelledRow) for each in ("train", "test"))
        return relevance.measure(ranker, encoder, drawn(learnt(train, lambda row: row.label == 1), card), rows)
    tested = tested or score_test(card, ranker, encoder, data)
    if card.kind == "realism":
        return realism.measure(tested)
    result = upvote.measure(tested)
    if "classes" in card.settings:
        of_karma, replies = (read(data / f"upvote_{each}.csv", UpvoteRow) for each in ("train", "test"))
        result |= upvote.measure_classes(ranker, drawn(learnt(of_karma), card), replies, card.settings["classes"])
    return result


def measure_left_out(card: cards.ModelCard, ranker: Scorer, data: Path) -> dict[str, Any]:
    """How an upvote ranker does on the subreddits that it learnt nothing of, over their pairs of all splits. Empty without any."""
    left_out = set(card.settings.get("left_out", []))
    if not left_out:
        return {}
    pairs = {each: read(data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "val", "test")}
    unseen = [row for rows in pairs.values() for row in rows if row.subreddit.lower() in left_out]
    return upvote.measure_left_out(ranker, learnt_pairs(card, pairs["train"]), unseen)


def measure_model(folder: Path, data: Path, scores: Scores) -> dict[str, Any]:
    """Measure the model in `folder` and write its card's metrics, which are returned. What training put there stays.

    Raises UserError: there is no model with a card, or a file is missing.
    """
    card = cards.read_card(folder)
    if card.kind == "lm":
        card.metrics |= measure_generator(folder, card, data, scores.folder)
    else:
        ranker = scores.of_model(folder)
        card.metrics = measure(card, ranker, untuned(card, scores), data) | measure_left_out(card, ranker, data)
    cards.write_card(folder, card)
    return card.metrics


def measure_generator(folder: Path, card: cards.ModelCard, data: Path, out: Path) -> dict[str, Any]:
    """Perplexity of people's replies of the validation and test split, and the same of the base; see generators.perplexity.

    Written to OUT/perplexity.MODEL.json by a process of its own.
    """
    result: dict[str, Any] = {}
    sources = [part for split in ("val", "test") for part in ("--in", str(data / f"lm_{split}.csv"))]
    for suffix, measured in (("", folder), ("_base", bases.base_path(card.base))):
        path = out / f"perplexity.{measured.name}.json"
        score_files.start(["perplexity", "--model", str(measured), "--card", str(folder), *sources, "--out", str(path), "--overwrite"], {})
        for name, values in json.loads(path.read_text(encoding="utf-8")).items():
            split = name.removeprefix("lm_")
            result[f"{split}_rows"] = values.pop("rows")
            result |= {f"{split}_{measure}{suffix}": value for measure, value in values.items()}
    return result
