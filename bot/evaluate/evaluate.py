"""evaluate: measure the rankers and what they pick on the test split, each measure's baselines in the same table; or one model, for its
card.

Reads  DATA/realism_{train,test}.csv, upvote_pairs_{train,test}.csv, relevance_{train,test}.csv and lm_test.csv; for an upvote ranker that
       was trained on classes of karma, upvote_{train,test}.csv too; with --candidates what `generate` wrote for comments of lm_test.csv.
Writes OUT/metrics.json, OUT/evaluation.html, and OUT/scores/: score files (see rankers.score_files), which `score` makes of the models that
       the config names, each in a process of its own. Those that are current already are read as they are.

    python run_bot.py evaluate --data data/prepared --out data/evaluation
    python run_bot.py generate --in data/prepared/lm_test.csv --sample 100 --num-candidates 20 --out data/candidates_test.csv
    python run_bot.py evaluate --data data/prepared --out data/evaluation --candidates data/candidates_test.csv
    python run_bot.py evaluate --engine transformers                            instead of the config's engine, with which `run` ranks
    python run_bot.py evaluate --beside models/upvote-tfhub                     another upvote ranker on the same pairs and candidates
    python run_bot.py evaluate --left-out models/fold-1 --left-out models/fold-2   rankers of `train upvote --leave-out`, by their cards
    python run_bot.py evaluate --model models/upvote --data data/prepared       one model, see model.py; writes its card's metrics instead

A part whose ranker or file isn't there is named as missing: on the screen, in metrics.json and on the page.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bot import config, files, generators, rankers, schema
from bot.cli import UserError
from bot.corpus.compared import STEMS
from bot.evaluate import choices, judges, model, show, upvote
from bot.evaluate.measures import ScoredRows
from bot.rankers.score_files import Scorer, Scores
from bot.schema import LmRow, sample_rows
from bot.weights import cards, serving

LIKELIHOOD_ROWS = 250  # test rows, and as many pairs, drawn at random: a large model takes a second for a few


@dataclass(frozen=True)
class Ranker:
    folder: Path
    card: cards.ModelCard
    scorer: Scorer


@dataclass
class Evaluation:
    """What was measured (metrics.json), what the curves of the page are drawn from, and what could not be measured, with its reason."""

    data: Path
    settings: config.Settings
    scores: Scores
    beside: dict[str, Scorer] = field(default_factory=dict)  # other upvote rankers, by name
    metrics: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, ScoredRows] = field(default_factory=dict)  # by kind
    missing: list[str] = field(default_factory=list)

    def misses(self, what: str, why: str) -> None:
        self.missing.append(f"{what}: {why}")
        print(f"missing: {self.missing[-1]}", flush=True)

    def lacks_files(self, what: str, names: Iterable[str]) -> bool:
        """Whether a file of DATA isn't there; then `what` is missing."""
        absent = [str(self.data / name) for name in names if not (self.data / name).exists()]
        if absent:
            self.misses(what, f"{', '.join(absent)} isn't there")
        return bool(absent)


def find_rankers(run: Evaluation) -> dict[str, Ranker]:
    """Those that are set and there, by kind. Raises UserError: a folder holds another kind, or no ranker is there."""
    there: dict[str, Ranker] = {}
    for kind in STEMS:
        folder: Path | None = getattr(run.settings.rank, kind)
        if folder is None or not (folder / cards.CARD_FILE).exists():
            run.misses(kind, f"rank.{kind} is not set" if folder is None else f"{folder} holds no model")
            continue
        card = cards.read_card(folder)
        if card.kind != kind:
            raise UserError(f"{folder}: a model of kind {card.kind}; set rank.{kind} to a folder of kind {kind}")
        there[kind] = Ranker(folder, card, run.scores.of_model(folder))
    if not there:
        raise UserError("no ranker is set (rank.realism, rank.upvote, rank.relevance) and there; there is nothing to evaluate")
    return there


def evaluate_rankers(run: Evaluation, there: dict[str, Ranker]) -> None:
    """Each ranker as its card measures it, generator likelihood beside realism and upvote, and other rankers beside upvote."""
    there = {kind: each for kind, each in there.items() if not run.lacks_files(kind, [f"{STEMS[kind]}_{s}.csv" for s in ("train", "test")])}
    encoders = {kind: model.untuned(ranker.card, run.scores) for kind, ranker in there.items()}
    for kind, ranker in there.items():
        if encoders[kind] is None:
            run.misses(f"{kind}, untuned encoder similarity", f"{ranker.card.base} is no encoder under models/base")
        if kind != "relevance":
            run.tested[kind] = model.score_test(ranker.card, ranker.scorer, encoders[kind], run.data)
    if run.tested:
        add_likelihoods(run)
    if tested := run.tested.get("upvote"):
        pairs = [(row.comment, row.chosen) for row in tested.rows] + [(row.comment, row.rejected) for row in tested.rows]
        tested.scores |= {name: upvote.sides(scorer(pairs, "upvote_pairs_test")) for name, scorer in run.beside.items()}
    elif run.beside:
        run.misses(", ".join(run.beside), "no upvote ranker to stand beside")
    for kind, ranker in there.items():
        run.metrics[kind] = model.measure(ranker.card, ranker.scorer, encoders[kind], run.data, run.tested.get(kind))
        show.show(kind, run.metrics[kind])


def add_likelihoods(run: Evaluation) -> None:
    """Score a draw of each kind's test rows by how likely the generator holds the reply; for realism, the less likely the more real."""
    generate, what = run.settings.generate, "generator likelihood"
    if not generators.back_end(generate.backend).likelihoods:
        return run.misses(what, f"generate.backend {generate.backend} can't tell it for a given reply")
    if not generate.model.exists():
        return run.misses(what, f"no generator in {generate.model}")
    drawn = {kind: sample_rows(list(range(len(tested.rows))), LIKELIHOOD_ROWS, 1) for kind, tested in run.tested.items()}
    pairs = {
        kind: [
            (row.comment, reply)
            for row in (run.tested[kind].rows[number] for number in numbers)
            for reply in ([row.chosen, row.rejected] if kind == "upvote" else [row.reply])
        ]
        for kind, numbers in drawn.items()
    }
    likelihoods = iter(run.scores.likelihoods([pair for each in pairs.values() for pair in each], "likelihood").tolist())
    for kind, numbers in drawn.items():
        tested = run.tested[kind]
        scores = np.full(tested.scores["ranker"].shape, np.nan)
        for number in numbers:
            scores[number] = [next(likelihoods), next(likelihoods)] if kind == "upvote" else -next(likelihoods)
        tested.scores["generator_likelihood"] = scores


def check_beside(folders: Sequence[Path], own: Path | None) -> None:
    """own: the config's upvote ranker. Raises UserError: one is no upvote ranker, or its name wouldn't tell it from another scorer."""
    for folder in folders:
        if (kind := cards.read_card(folder).kind) != "upvote":
            raise UserError(f"--beside {folder}: a model of kind {kind}; name a ranker of kind upvote")
    names = [folder.name for folder in folders]
    taken = (*upvote.SCORERS, own.name if own else "")
    if twice := next((name for name in names if names.count(name) > 1 or name in taken), None):
        raise UserError(f"--beside: {twice} names more than one scorer; copy the ranker to a folder of another name")


def evaluate_left_out(run: Evaluation, folders: Sequence[Path]) -> None:
    """What the cards of upvote rankers say of subreddits that they didn't learn from. Raises UserError: a card says nothing of any."""
    if not folders:
        return run.misses("subreddits left out of training", "no --left-out")
    those = [cards.read_card(folder) for folder in folders]
    for folder, card in zip(folders, those, strict=True):
        if not any(name.startswith(upvote.LEFT_OUT) for name in card.metrics):
            raise UserError(f"--left-out {folder}: it left out no subreddit; name one trained by `train upvote --leave-out SUBREDDIT`")
    run.metrics["left_out"] = upvote.gather_left_out(those)
    show.show("upvote, subreddits left out of training", run.metrics["left_out"])


def evaluate_stage(run: Evaluation, there: dict[str, Ranker], candidates: Path | None, seed: int) -> None:
    """Stock phrases; and of candidates, what is picked, as judges see it."""
    if run.lacks_files("stock phrases and ranking stage", ["lm_test.csv"]):
        return None
    weights = run.settings.rank.weights
    if not any(getattr(weights, kind) for kind in there):
        return run.misses("stock phrases and ranking stage", f"rank.weights gives 0 to every ranker there is ({', '.join(there)})")
    people = schema.read_rows(run.data / "lm_test.csv", LmRow)
    scorers = {f"{kind}_score": ranker.scorer for kind, ranker in there.items()}
    encoder = model.untuned(next(iter(there.values())).card, run.scores)
    run.metrics["stock_phrases"] = choices.measure_stock_phrases(people, scorers, weights, encoder, seed)
    show.show("stock phrases", {"all": run.metrics["stock_phrases"]})
    if candidates is None:
        return run.misses("ranking stage, genericness", "no --candidates")
    read = choices.read_choices(candidates, people, scorers, weights, run.beside)
    appointed = appoint_judges(run, seed)
    minimum_realism = run.settings.choose.minimum_realism
    run.metrics["ranking_stage"] = choices.measure_choices(read, list(scorers), weights, minimum_realism, appointed)
    show.show_choices(run.metrics["ranking_stage"])


def appoint_judges(run: Evaluation, seed: int) -> dict[str, judges.Judge]:
    """Those that can be fitted."""
    appointed: dict[str, judges.Judge] = {}
    run.metrics["judges"] = {}
    for name, (kind, _) in judges.JUDGES.items():
        if run.lacks_files(f"judge {name}", [f"{STEMS[kind]}_{each}.csv" for each in ("train", "test")]):
            continue
        try:
            appointed[name], run.metrics["judges"][name] = judges.appoint(name, run.data, seed)
        except judges.NothingToLearn as error:
            run.misses(f"judge {name}", str(error))
    show.show("judge", run.metrics["judges"])
    return appointed


def facts(run: Evaluation, there: dict[str, Ranker], others: dict[str, Path]) -> dict[str, Any]:
    """What metrics.json says of how it was made. others: more model folders, by what they are."""
    rank = run.settings.rank
    names = list(dict.fromkeys(rankers.back_end_for(each.card, rank.backend) for each in there.values()))
    precisions = dict.fromkeys(rank.precision if rankers.back_end(name).exported else "float32" for name in names)
    folders = {kind: each.folder for kind, each in there.items()} | {"generator": run.settings.generate.model} | others
    return {
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rank_backend": ", ".join(names),
        "rank_precision": ", ".join(precisions),
        "weights": rank.weights.model_dump(),
        "minimum_realism": run.settings.choose.minimum_realism,
        "models": {name: {"folder": str(path), "sha256": serving.fingerprint(path)} for name, path in folders.items() if path.exists()},
        "data": str(run.data),
        "missing": run.missing,
    }


# What is written into OUT, and how it begins: by that it is known again, and may be written over.
OURS = {"metrics.json": '"made": {', "evaluation.html": "<title>Evaluation"}


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for metrics.json, evaluation.html and scores/")] = Path("data/evaluation"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names rankers and generator")] = None,
    candidates: Annotated[Path | None, typer.Option(help="candidates for comments of DATA/lm_test.csv, for the ranking stage")] = None,
    seed: Annotated[int, typer.Option(help="of what is drawn: comments, judges' training pairs")] = 1,
    engine: Annotated[
        str | None,
        typer.Option(help="back end of the rankers, instead of the config's, with which `run` ranks"),
    ] = None,
    beside: Annotated[list[Path] | None, typer.Option(help="another upvote ranker to measure on the same pairs and candidates")] = None,
    left_out: Annotated[
        list[Path] | None, typer.Option(help="an upvote ranker trained with --leave-out, whose card says how it does on those subreddits")
    ] = None,
    one: Annotated[Path | None, typer.Option("--model", help="measure this model only, and write its card's metrics")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Measure the rankers and what they pick on the test split, beside their baselines."""
    settings, began, beside, left_out = config.load(config_file), time.monotonic(), beside or [], left_out or []
    if not one:
        for name, sign in OURS.items():
            files.check_output(out / name, [], overwrite, lambda path, sign=sign: sign in path.read_text("utf-8", "replace")[:2000])  # type: ignore[misc]
    if engine:
        settings = settings.model_copy(update={"rank": settings.rank.model_copy(update={"backend": rankers.back_end_name(engine)})})
    scores = Scores(out / "scores", settings)
    if one:
        if candidates or beside or left_out:
            raise UserError("--model measures one model by itself; leave --candidates, --beside and --left-out out")
        return show.show_model(cards.read_card(one).kind, model.measure_model(one, data, scores))
    check_beside(beside, settings.rank.upvote)
    run = Evaluation(data, settings, scores, {folder.name: scores.of_model(folder) for folder in beside})
    evaluate_left_out(run, left_out)
    there = find_rankers(run)
    evaluate_rankers(run, there)
    evaluate_stage(run, there, candidates, seed)
    options = [("--data", data), ("--config", config_file), ("--candidates", candidates), ("--engine", engine), ("--seed", seed)]
    options += [*(("--beside", each) for each in beside), *(("--left-out", each) for each in left_out)]
    others = {f"beside: {each.name}": each for each in beside} | {f"left out: {each.name}": each for each in left_out}
    made = {
        **facts(run, there, others),
        "seconds": round(time.monotonic() - began),
        "command": shlex.join(["python", "run_bot.py", "evaluate", *(str(part) for each in options if each[1] for part in each)]),
        "engine_of_run": not engine,
        "candidates": str(candidates) if candidates else None,
    }
    write({"made": made, **run.metrics}, run.tested, out)


def write(result: dict[str, Any], tested: dict[str, ScoredRows], out: Path) -> None:
    from bot.evaluate import page  # matplotlib takes a second

    with files.atomic_writer(out / "metrics.json") as file:
        json.dump(result, file, indent=1, allow_nan=False)
    page.write(result, tested, out / "evaluation.html")
    print(out / "metrics.json", out / "evaluation.html", sep="\n")
