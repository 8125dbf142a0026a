"""Evaluation of one model on held-out rows, for `evaluate` and for the model's card.

Reads  for a ranker, the prepared files of its kind (DATA/{realism,upvote_pairs,upvote,relevance}_{train,test}.csv, and
       upvote_pairs_val.csv if card.settings["left_out"] names subreddits) and score files; for a generator, DATA/lm_{val,test}.csv; for a
       classifier of conduct, the held-out lines of data/conduct and DATA/lm_test.csv.
Writes the metrics of the card.

    python run_bot.py evaluate --model models/upvote --data data/prepared
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot import cli, schema
from bot.cli import UserError
from bot.conduct import where
from bot.corpus import karma_rules
from bot.corpus.karma_rules import Karmas
from bot.evaluate import realism, relevance, upvote
from bot.evaluate.measures import ScoredRows, TooFew, naming, rankers_half, read, sample_like_training
from bot.rankers import classifier, score, score_files
from bot.rankers.score_files import Scorer, Scores
from bot.schema import ConductLine, LabelledRow, LmRow, RealismRow, UpvotePair, UpvoteRow
from bot.train import conduct_transformers, graded, thresholds
from bot.weights import bases, cards


def untuned(card: cards.ModelCard, scores: Scores) -> Scorer | None:
    """Cosine similarity under the ranker's base before training; None if models/base has no such encoder."""
    with suppress(UserError):  # the base may be a URL
        if (bases.read_base(card.base) or {}).get("kind") == "encoder":
            return scores.of_base(card.base)
    return None


def training_pairs(card: cards.ModelCard, rows: list[UpvotePair], data: Path) -> list[UpvotePair]:
    """The pairs that an upvote ranker was trained on, before sampling."""
    left_out, rule = card.settings.get("left_out", []), card.settings.get("rule", "gap")
    known = read_karmas(data, ["train"]) if rule != "gap" else {}
    selected = karma_rules.select(rows, known, rule, card.settings.get("karma_gap", 0))
    kept = [row for row in selected if row.subreddit.lower() not in left_out]
    return kept if card.settings.get("threads") == "all" else rankers_half(kept)


def score_test(card: cards.ModelCard, ranker: Scorer, encoder: Scorer | None, data: Path) -> ScoredRows:
    """Test rows for a realism or upvote ranker, scored by it and its baselines. Raises UserError if a file is missing, TooFew."""
    if card.kind == "upvote":
        train, test = (read(data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "test"))
        with naming(data / "upvote_pairs_*.csv"):
            return upvote.score_pairs(ranker, encoder, sample_like_training(training_pairs(card, train, data), card), test)
    realism_train, realism_test = (read(data / f"realism_{each}.csv", RealismRow) for each in ("train", "test"))
    with naming(data / "realism_*.csv"):
        return realism.score_rows(ranker, encoder, sample_like_training(rankers_half(realism_train), card), realism_test)


def measure(card: cards.ModelCard, ranker: Scorer, encoder: Scorer | None, data: Path, tested: ScoredRows | None = None) -> dict[str, Any]:
    """Metrics of the ranker with this card. tested: the result of score_test, if it is already available. Raises as in score_test."""
    if card.kind == "relevance":
        train, rows = (read(data / f"relevance_{each}.csv", LabelledRow) for each in ("train", "test"))
        with naming(data / "relevance_*.csv"):
            return relevance.measure(ranker, encoder, sample_like_training(rankers_half(train, lambda row: row.label == 1), card), rows)
    tested = tested or score_test(card, ranker, encoder, data)
    with cli.waiting(f"measuring {card.kind}"):
        if card.kind == "realism":
            return realism.measure(tested)
        result = upvote.measure(tested, read_karmas(data, ["test"]))
    if "classes" in card.settings:
        upvote_train, upvote_test = (read(data / f"upvote_{each}.csv", UpvoteRow) for each in ("train", "test"))
        train_sample = sample_like_training(rankers_half(upvote_train), card)
        with naming(data / "upvote_train.csv"):
            result |= upvote.measure_classes(ranker, train_sample, upvote_test, card.settings["classes"])
    return result


def measure_left_out(card: cards.ModelCard, ranker: Scorer, data: Path) -> dict[str, Any]:
    """Metrics of an upvote ranker on its left-out subreddits, over their pairs of all splits; empty if it left none out."""
    left_out = set(card.settings.get("left_out", []))
    if not left_out:
        return {}
    pairs = {each: read(data / f"upvote_pairs_{each}.csv", UpvotePair) for each in ("train", "val", "test")}
    unseen = [row for rows in pairs.values() for row in rows if row.subreddit.lower() in left_out]
    with naming(data / "upvote_pairs_*.csv"):
        return upvote.measure_left_out(ranker, training_pairs(card, pairs["train"], data), unseen, read_karmas(data, pairs))


def read_karmas(data: Path, splits: Iterable[str]) -> Karmas:
    """The karma of the replies in DATA/upvote_SPLIT.csv; empty without these files, which DialogRPT's and SHP's rules need."""
    rows: list[UpvoteRow] = []
    for split in splits:
        if (path := data / f"upvote_{split}.csv").exists():
            rows += schema.read_rows(path, UpvoteRow)
    return karma_rules.karmas(rows)


def measure_model(folder: Path, data: Path, scores: Scores) -> dict[str, Any]:
    """Measure the model in `folder`, write the metrics into its card and return them. A generator keeps the metrics of its training.

    Raises UserError if the folder has no model with a card, or a file is missing.
    """
    card = cards.read_card(folder)
    if card.kind == "conduct":
        card.metrics = measure_conduct(folder, card, data)
    elif card.kind == "choice":
        card.metrics = measure_choice(scores.of_model(folder), [Path(name) for name in card.settings["graded"]])
    elif card.kind == "lm":
        card.metrics |= measure_generator(folder, card, data, scores.folder)
    else:
        ranker = scores.of_model(folder)
        card.metrics = measure(card, ranker, untuned(card, scores), data) | measure_left_out(card, ranker, data)
    cards.write_card(folder, card)
    return card.metrics


def measure_conduct(folder: Path, card: cards.ModelCard, data: Path) -> dict[str, Any]:
    """Misses and false refusals of a classifier of conduct, as it serves: on the lines held out from training, and on people's texts."""
    own = {name: card.settings[name] for name in ("side", "seed", "lines") if name in card.settings}  # older cards have no "lines"
    options = conduct_transformers.Options(data=data, **own)
    lines = [line for line in read(options.lines, ConductLine) if conduct_transformers.part_of(line.text) == "held_out"]
    people = conduct_transformers.peoples_texts(read(data / "lm_test.csv", LmRow), options, "test")
    if not lines or not people:
        raise TooFew(f"{data / 'lm_test.csv' if lines else options.lines}: no rows to measure; {'prepare' if lines else 'write'} more")
    serving = classifier.load(folder)
    applied, of_people = (
        classifier.of_texts(serving.logits, texts, options.side) >= 0 for texts in ([line.text for line in lines], people)
    )
    of_people[:, [label in where.TITLE_TOPICS for label in serving.labels]] = False  # these are no titles
    return thresholds.figures(applied, lines, of_people)


def measure_choice(ranker: Scorer, files: Sequence[Path]) -> dict[str, Any]:
    """How well a choice ranker, and two baselines, tell accepted candidates of the held-out comments of these files (train/graded.py)."""
    from sklearn.metrics import roc_auc_score

    rows = graded.read(files)["held_out"]
    accepted = [row.grade >= graded.ACCEPTABLE for row in rows]
    signals: dict[str, Any] = {
        "ranker": ranker(score.cleaned([(row.comment, row.reply) for row in rows]), "graded"),
        "shorter": [-len(row.reply) for row in rows],
    }
    if all(row.log_likelihood is not None for row in rows):
        signals["log_likelihood"] = [(row.log_likelihood or 0.0) * (len(row.reply.split()) + 1) for row in rows]
    result: dict[str, Any] = {"rows": len(rows), "comments": len({row.comment_id for row in rows}), "accepted": sum(accepted)}
    return result | {name: {"roc_auc": round(float(roc_auc_score(accepted, values)), 4)} for name, values in signals.items()}


def measure_generator(folder: Path, card: cards.ModelCard, data: Path, out: Path) -> dict[str, Any]:
    """Perplexity of the model and of its base, if any, on human replies of the validation and test split (see generators.perplexity).

    Separate processes write it to OUT/perplexity.MODEL.json.
    """
    result: dict[str, Any] = {}
    sources = [part for split in ("val", "test") for part in ("--in", str(data / f"lm_{split}.csv"))]
    for suffix, measured in [("", folder), *([("_base", bases.base_path(card.base))] if card.base else [])]:
        path = out / f"perplexity.{measured.name}.json"
        score_files.start(["perplexity", "--model", str(measured), "--card", str(folder), *sources, "--out", str(path), "--overwrite"], {})
        for name, values in json.loads(path.read_text(encoding="utf-8")).items():
            split = name.removeprefix("lm_")
            result[f"{split}_rows"] = values.pop("rows")
            result |= {f"{split}_{measure}{suffix}": value for measure, value in values.items()}
    return result
