"""evaluate: measure the rankers and what they pick on the test split, each measure's baselines in the same table.

Reads  DATA/realism_{train,test}.csv, upvote_pairs_{train,test}.csv, relevance_{train,test}.csv and lm_test.csv; for an upvote ranker that
       was trained on classes of karma, upvote_{train,test}.csv too; the rankers and the generator that the config names; with
       --candidates what `generate` wrote for comments of lm_test.csv.
Writes OUT/metrics.json and OUT/evaluation.html.

    python run_bot.py evaluate --data data/prepared --out data/evaluation
    python run_bot.py generate --in data/prepared/lm_test.csv --sample 100 --num-candidates 20 --out data/candidates_test.csv
    python run_bot.py evaluate --data data/prepared --out data/evaluation --candidates data/candidates_test.csv
    python run_bot.py evaluate --engine transformers                            instead of the config's engine, with which `run` ranks
    python run_bot.py evaluate --beside models/upvote-tfhub                     another upvote ranker on the same pairs and candidates
    python run_bot.py evaluate --left-out models/fold-1 --left-out models/fold-2   what `train upvote --leave-out` found of unseen subreddits

A part whose ranker or file isn't there is named as missing: on the screen, in metrics.json and on the page. measures.py measures rankers
(and makes the numbers of model cards), ranking_stage.py measures what they pick, judge.py judges that.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bot import config, files, rankers, schema
from bot.cli import UserError, with_root
from bot.evaluate import baselines, choices, judges, measures
from bot.evaluate.baselines import Pairs
from bot.evaluate.measures import ScoredRows
from bot.metrics import Array
from bot.schema import LmRow, sample_rows
from bot.weights import cards, serving

FILES = {"realism": "realism", "upvote": "upvote_pairs", "relevance": "relevance"}  # by kind
LIKELIHOOD_ROWS = 250  # test rows, and as many pairs, drawn by chance: a model of 135M takes a second for some four replies on two cores


Loaded = dict[str, tuple[cards.ModelCard, rankers.Ranker]]  # by kind


@dataclass
class Evaluation:
    """What was found (metrics.json), what the curves of the page are drawn from, and what could not be measured, with its reason."""

    metrics: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, ScoredRows] = field(default_factory=dict)  # by kind
    missing: list[str] = field(default_factory=list)

    def misses(self, what: str, why: str) -> None:
        self.missing.append(f"{what}: {why}")
        print(f"missing: {self.missing[-1]}", flush=True)


def load_rankers(settings: config.RankSettings, found: Evaluation) -> Loaded:
    """Those that are set and there, by kind. Raises UserError: a folder holds another kind, or no ranker is there."""
    loaded: Loaded = {}
    for kind in FILES:
        folder: Path | None = getattr(settings, kind)
        if folder is None or not (folder / cards.CARD_FILE).exists():
            found.misses(kind, f"rank.{kind} is not set" if folder is None else f"{folder} holds no model")
            continue
        card = cards.read_card(folder)
        if card.kind != kind:
            raise UserError(f"{folder}: a model of kind {card.kind}; set rank.{kind} to a folder of kind {kind}")
        loaded[kind] = card, rankers.load(settings.backend, folder, settings.precision)
    if not loaded:
        raise UserError("no ranker is set (rank.realism, rank.upvote, rank.relevance) and there; there is nothing to evaluate")
    return loaded


def evaluate_rankers(loaded: Loaded, data: Path, settings: config.Settings, beside: Sequence[Path], found: Evaluation) -> None:
    """Each ranker as its card measures it, generator likelihood beside realism and upvote, and other rankers beside upvote."""
    there: Loaded = {}
    for kind, (card, ranker) in loaded.items():
        files = [data / f"{FILES[kind]}_{each}.csv" for each in ("train", "test")]
        if absent := [str(file) for file in files if not file.exists()]:
            found.misses(kind, f"{', '.join(absent)} isn't there")
            continue
        there[kind] = card, ranker
        if kind != "relevance":
            found.tested[kind] = measures.score_test(card, ranker, data)
            if measures.encoder_of(card) is None:
                found.misses(f"{kind}, untuned encoder similarity", f"{card.base} is no encoder that PyTorch reads")
    add_likelihoods(settings, found)
    if tested := found.tested.get("upvote"):
        pairs = [(row.comment, reply) for row in tested.rows for reply in (row.chosen, row.rejected)]
        tested.scores |= {folder.name: scores_beside(folder, pairs, settings.rank).reshape(-1, 2) for folder in beside}
    elif beside:
        found.misses(", ".join(folder.name for folder in beside), "no upvote ranker to stand beside")
    for kind, (card, ranker) in there.items():
        found.metrics[kind] = measures.measure(card, ranker, data, found.tested.get(kind))
        show(kind, found.metrics[kind])


def add_likelihoods(settings: config.Settings, found: Evaluation) -> None:
    """Score a draw of each kind's test rows by how likely the generator holds the reply; for realism, the less likely the more real."""
    generate, what = settings.generate, "generator likelihood"
    if not found.tested:
        return None
    if settings.rank.backend == "tfhub-bert":
        return found.misses(what, "TensorFlow's rankers share no process with PyTorch")
    if generate.backend not in baselines.WITH_LIKELIHOODS:
        return found.misses(what, f"generate.backend {generate.backend} can't tell it for a given reply")
    if not generate.model.exists():
        return found.misses(what, f"no generator in {generate.model}")
    drawn = {kind: sample_rows(list(range(len(tested.rows))), LIKELIHOOD_ROWS, 1) for kind, tested in found.tested.items()}
    pairs = {
        kind: [
            (row.comment, reply)
            for row in (found.tested[kind].rows[number] for number in numbers)
            for reply in ([row.chosen, row.rejected] if kind == "upvote" else [row.reply])
        ]
        for kind, numbers in drawn.items()
    }
    told = iter(baselines.likelihoods(generate, [pair for each in pairs.values() for pair in each]))
    for kind, numbers in drawn.items():
        tested = found.tested[kind]
        scores = np.full(tested.scores["ranker"].shape, np.nan)
        for number in numbers:
            scores[number] = [next(told), next(told)] if kind == "upvote" else -next(told)
        tested.scores["generator_likelihood"] = scores


def check_beside(folders: Sequence[Path]) -> None:
    """Raises UserError: one is no upvote ranker, or its name wouldn't tell it from another scorer."""
    for folder in folders:
        if (kind := cards.read_card(folder).kind) != "upvote":
            raise UserError(f"--beside {folder}: a model of kind {kind}; name a ranker of kind upvote")
    names = [folder.name for folder in folders]
    if taken := next((name for name in names if names.count(name) > 1 or name in measures.UPVOTE_SCORERS), None):
        raise UserError(f"--beside: {taken} names more than one scorer; copy the ranker to a folder of another name")


def scores_beside(folder: Path, pairs: Pairs, settings: config.RankSettings) -> Array:
    """upvote_score of each pair by another ranker, (pairs,), in a process of its own: TensorFlow shares none with PyTorch.

    Its card says if it is of back end tfhub-bert; else it runs as the bot's rankers do. Raises UserError: `rank` can't score them.
    """
    engine = "transformers" if settings.backend == "tfhub-bert" else settings.backend
    told = {
        "BACKEND": cards.read_card(folder).settings.get("backend", engine), "PRECISION": settings.precision,
        "REALISM": "", "UPVOTE": str(folder.absolute()), "RELEVANCE": "", "WEIGHTS__UPVOTE": "1", "BATCH_SIZE": str(settings.batch_size),
    }  # fmt: skip
    environment = with_root(os.environ) | {f"BOT_RANK__{name}": value for name, value in told.items()}
    different = list(dict.fromkeys(pairs))
    with TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "pairs.csv", Path(scratch) / "scored.csv"
        schema.write_table(source, ["comment", "reply"], ({"comment": comment, "reply": reply} for comment, reply in different))
        command = [sys.executable, "-m", "bot", "rank", "--in", str(source), "--out", str(out)]
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False).returncode:
            raise UserError(f"--beside {folder}: can't be scored, the line above says why")
        scores = {pair: float(row["upvote_score"]) for pair, row in zip(different, schema.read_table(out)[1], strict=True)}
    return np.array([scores[pair] for pair in pairs])


def evaluate_left_out(folders: Sequence[Path], found: Evaluation) -> None:
    """What the cards of upvote rankers say of subreddits that they didn't learn from. Raises UserError: a card says nothing of any."""
    if not folders:
        return found.misses("subreddits left out of training", "no --left-out")
    cards = [cards.read_card(folder) for folder in folders]
    for folder, card in zip(folders, cards, strict=True):
        if not any(name.startswith(measures.LEFT_OUT) for name in card.metrics):
            raise UserError(f"--left-out {folder}: it left out no subreddit; name one trained by `train upvote --leave-out SUBREDDIT`")
    found.metrics["left_out"] = measures.gather_left_out(cards)
    show("upvote, subreddits left out of training", found.metrics["left_out"])


def evaluate_stage(
    loaded: Loaded, data: Path, candidates: Path | None, settings: config.Settings, beside: Sequence[Path], seed: int, found: Evaluation
) -> None:
    """Stock phrases; and of candidates, what is picked, as judges see it."""
    if not (data / "lm_test.csv").exists():
        return found.misses("stock phrases and ranking stage", f"{data}/lm_test.csv isn't there")
    people = schema.read_rows(data / "lm_test.csv", LmRow)
    scorers = {f"{kind}_score": ranker for kind, (_, ranker) in loaded.items()}
    if not any(getattr(settings.rank.weights, kind) for kind in loaded):
        return found.misses("stock phrases and ranking stage", f"rank.weights gives 0 to every ranker there is ({', '.join(loaded)})")
    encoder = measures.encoder_of(next(iter(loaded.values()))[0])
    found.metrics["stock_phrases"] = choices.measure_stock_phrases(people, scorers, settings.rank, encoder, seed)
    show("stock phrases", {"all": found.metrics["stock_phrases"]})
    if candidates is None:
        return found.misses("ranking stage, genericness", "no --candidates")
    read = choices.read_choices(candidates, people, scorers, settings.rank)
    for folder in beside:
        told = iter(scores_beside(folder, [(choice.comment, reply) for choice in read for reply in choice.candidates], settings.rank))
        for choice in read:
            choice.beside[folder.name] = [float(next(told)) for _ in choice.candidates]
    appointed: dict[str, judges.Judge] = {}
    found.metrics["judges"] = {}
    for name, (stem, _) in judges.JUDGES.items():
        absent = [f"{data}/{stem}_{each}.csv" for each in ("train", "test") if not (data / f"{stem}_{each}.csv").exists()]
        if absent:
            found.misses(f"judge {name}", f"{', '.join(absent)} isn't there")
            continue
        try:
            appointed[name], found.metrics["judges"][name] = judges.appoint(name, data, seed)
        except judges.NothingToLearn as error:
            found.misses(f"judge {name}", str(error))
    show("judge", found.metrics["judges"])
    found.metrics["ranking_stage"] = choices.measure_choices(
        read, list(scorers), settings.rank.weights, settings.choose.minimum_realism, appointed
    )
    show_choices(found.metrics["ranking_stage"])


HEADLINES = ("pairwise_accuracy", "hits_at_1", "roc_auc")  # the one measure by which subsets stand in one table


def show(kind: str, measured: dict[str, Any]) -> None:
    """Where there is more than one measure, a table of «all»: a column a scorer, a row a measure. Then one with a row a subset."""
    names = list(measures.main_subsets(measured))
    whole = [name for name in names if name == "all" or name.endswith("_classes")]
    for name in whole:
        told = _scorers(measured[name])
        columns = [f"{scorer}{_fewer(values)}" for scorer, values in told.items()]
        table = Table("", *columns, title=f"{kind}, {_facts(name, measured[name])}; 95 % intervals over threads")
        for each in dict.fromkeys(each for values in told.values() for each in values if each not in ("rows", "pairs")):
            table.add_row(
                "true (down) × predicted" if each == "confusion" else each, *(_cell(values.get(each)) for values in told.values())
            )
        _print(table)
    if rest := [name for name in names if name not in whole]:
        headline = next(each for each in HEADLINES if any(each in values for values in _scorers(measured[rest[0]]).values()))
        columns = list(dict.fromkeys(scorer for name in rest for scorer in _scorers(measured[name])))
        table = Table(headline, *columns, title=f"{kind}; 95 % intervals over threads")
        for name in rest:
            told = _scorers(measured[name])
            cells = [f"{_cell(told.get(scorer, {}).get(headline))}{_fewer(told.get(scorer, {}))}" for scorer in columns]
            table.add_row(_facts(name, measured[name]), *cells)
        _print(table)


def _scorers(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: values for name, values in content.items() if isinstance(values, dict)}


def _facts(name: str, content: dict[str, Any]) -> str:
    """The subset's name and its counts."""
    counts = ", ".join(f"{value:,} {each}" for each, value in content.items() if isinstance(value, int) and not isinstance(value, bool))
    return f"{name}{' (unseen in training)' if content.get('unseen_in_training') else ''}: {counts}"


def _fewer(values: dict[str, Any]) -> str:
    """The number of a scorer's rows or pairs, where it didn't score all."""
    return next((f" ({values[each]:,} {each})" for each in ("rows", "pairs") if each in values), "")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def show_choices(measured: dict[str, Any]) -> None:
    facts = f"{measured['comments']} comments, {measured['candidates']} candidates"
    columns = dict.fromkeys(column for values in measured["choices"].values() for column in values)
    table = Table("the pick", *columns, title=f"ranking stage, {facts}: win rates by judge, and how generic the picks are")
    for name, values in measured["choices"].items():
        table.add_row(name, *(_cell(values.get(column)) for column in columns))
    _print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    if isinstance(value[0], list):  # a confusion matrix
        return "\n".join(" ".join(f"{count:>6}" for count in row) for row in value)
    middle, low, high = value
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for metrics.json and evaluation.html")] = Path("data/evaluation"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names rankers and generator")] = None,
    candidates: Annotated[Path | None, typer.Option(help="candidates for comments of DATA/lm_test.csv, for the ranking stage")] = None,
    seed: Annotated[int, typer.Option(help="of what is drawn: comments, judges' training pairs")] = 1,
    engine: Annotated[
        Literal["ctranslate2", "transformers", "tfhub-bert"] | None,
        typer.Option(help="back end of the rankers, instead of the config's, with which `run` ranks; transformers is the reference"),
    ] = None,
    beside: Annotated[list[Path] | None, typer.Option(help="another upvote ranker to measure on the same pairs and candidates")] = None,
    left_out: Annotated[
        list[Path] | None, typer.Option(help="an upvote ranker trained with --leave-out, whose card says how it does on those subreddits")
    ] = None,
) -> None:
    """Measure the rankers and what they pick on the test split, beside their baselines."""
    from bot.evaluate import page

    settings, began = config.load(config_file), time.monotonic()
    if engine:
        settings = settings.model_copy(update={"rank": settings.rank.model_copy(update={"backend": engine})})
    beside, left_out = beside or [], left_out or []
    check_beside(beside)
    found = Evaluation()
    evaluate_left_out(left_out, found)
    loaded = load_rankers(settings.rank, found)
    evaluate_rankers(loaded, data, settings, beside, found)
    evaluate_stage(loaded, data, candidates, settings, beside, seed, found)
    folders = {kind: getattr(settings.rank, kind) for kind in loaded} | {"generator": settings.generate.model}
    folders |= {f"beside: {each.name}": each for each in beside} | {f"left out: {each.name}": each for each in left_out}
    options = [("--data", data), ("--config", config_file), ("--candidates", candidates), ("--engine", engine), ("--seed", seed)]
    options += [*(("--beside", each) for each in beside), *(("--left-out", each) for each in left_out)]
    made = {
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(time.monotonic() - began),
        "command": shlex.join(["python", "run_bot.py", "evaluate", *(str(part) for each in options if each[1] for part in each)]),
        "rank_backend": settings.rank.backend,
        "rank_precision": settings.rank.precision if settings.rank.backend == "ctranslate2" else "float32",
        "engine_of_run": not engine,
        "weights": settings.rank.weights.model_dump(),
        "minimum_realism": settings.choose.minimum_realism,
        "models": {name: {"folder": str(path), "sha256": serving.fingerprint(path)} for name, path in folders.items() if path.exists()},
        "data": str(data),
        "candidates": str(candidates) if candidates else None,
        "missing": found.missing,
    }
    result = {"made": made, **found.metrics}
    with files.atomic_writer(out / "metrics.json") as file:
        json.dump(result, file, indent=1, allow_nan=False)
    page.write(result, found.tested, out / "evaluation.html")
    print(out / "metrics.json", out / "evaluation.html", sep="\n")
