"""evaluate: measure the rankers and the candidates they pick on the test split, next to baselines; or one model, for its card.

Reads  DATA/realism_{train,test}.csv, upvote_pairs_{train,test}.csv, relevance_{train,test}.csv and lm_test.csv; for an upvote ranker
       trained on karma classes also upvote_{train,test}.csv; with --candidates, the output of `generate` for comments of lm_test.csv.
Writes OUT/metrics.json, OUT/evaluation.html, and OUT/scores/: the score files (see rankers.score_files) of the models in the config, which
       `score` writes, one process per model. Score files that are up to date are reused.

    python run_bot.py evaluate --data data/prepared --out data/evaluation
    python run_bot.py generate --in data/prepared/lm_test.csv --sample 100 --num-candidates 20 --out data/candidates_test.csv
    python run_bot.py evaluate --data data/prepared --out data/evaluation --candidates data/candidates_test.csv
    python run_bot.py evaluate --engine transformers                            another back end than the config's, which `run` uses
    python run_bot.py evaluate --beside models/upvote-tfhub                     another upvote ranker on the same pairs and candidates
    python run_bot.py evaluate --left-out models/fold-1 --left-out models/fold-2   cards of rankers from `train upvote --leave-out`
    python run_bot.py evaluate --model models/upvote --data data/prepared       one model (see model.py); only writes its card's metrics
    python run_bot.py evaluate --model models/choice                            a choice ranker reads the graded files of its card, not DATA

A part whose ranker or file is missing, or whose file has too few rows, is skipped and listed as missing: on the terminal, in metrics.json
and on the page.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bot import cli, config, files, generators, rankers
from bot.cli import UserError
from bot.corpus.compared import STEMS
from bot.evaluate import choices, judges, measures, model, show, upvote
from bot.evaluate.measures import ScoredRows, TooFew
from bot.rankers import scoring
from bot.rankers.score_files import Scorer, Scores
from bot.schema import LmRow, sample_rows
from bot.weights import cards, serving

LIKELIHOOD_ROWS = 250  # test rows, and as many pairs, drawn at random: a large model needs a second for a few


@dataclass(frozen=True)
class Ranker:
    folder: Path
    card: cards.ModelCard
    scorer: Scorer


@dataclass
class Evaluation:
    """State of one evaluation: the metrics (for metrics.json), the scored rows (for the curves of the page), and the missing parts."""

    data: Path
    settings: config.Settings
    scores: Scores
    beside: dict[str, Scorer] = field(default_factory=dict)  # other upvote rankers, by name
    metrics: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, ScoredRows] = field(default_factory=dict)  # by kind
    missing: list[str] = field(default_factory=list)

    def skip(self, part: str, reason: str) -> None:
        """Record a part that is not measured."""
        self.missing.append(f"{part}: {reason}")
        print(f"missing: {self.missing[-1]}", flush=True)

    @contextmanager
    def skipping(self, part: str) -> Iterator[None]:
        """Skip `part` if the block, which measures it, has too few rows."""
        try:
            yield
        except TooFew as error:
            self.skip(part, str(error))

    def lacks_files(self, part: str, names: Iterable[str]) -> bool:
        """Whether a file of DATA is missing; if so, records that `part` is skipped."""
        absent = [str(self.data / name) for name in names if not (self.data / name).exists()]
        if absent:
            self.skip(part, f"no file {', '.join(absent)}")
        return bool(absent)


def find_rankers(run: Evaluation) -> dict[str, Ranker]:
    """kind -> ranker, for the rankers in the config. Raises UserError if a folder holds another kind, or there is no ranker at all."""
    available: dict[str, Ranker] = {}
    for kind in scoring.RANKERS:
        folder: Path | None = getattr(run.settings.rank, kind)
        if folder is None or not (folder / cards.CARD_FILE).exists():
            run.skip(kind, f"rank.{kind} is not set" if folder is None else f"no model in {folder}")
            continue
        cards.check_kind(folder, f"rank.{kind}", kind)
        available[kind] = Ranker(folder, cards.read_card(folder), run.scores.of_model(folder))
    if not available:
        raise UserError(f"nothing to evaluate: none of rank.{', rank.'.join(scoring.RANKERS)} is set to a folder with a model")
    return available


def evaluate_rankers(run: Evaluation, available: dict[str, Ranker]) -> None:
    """Measure each ranker as for its card, and add generator likelihood (realism, upvote) and the rankers of --beside (upvote)."""
    available = {
        kind: each
        for kind, each in available.items()
        if kind in STEMS and not run.lacks_files(kind, [f"{STEMS[kind]}_{split}.csv" for split in ("train", "test")])
    }  # the choice ranker learns from graded candidates; `evaluate --model` measures it
    encoders = {kind: model.untuned(ranker.card, run.scores) for kind, ranker in available.items()}
    for kind, ranker in available.items():
        if encoders[kind] is None:
            run.skip(f"{kind}, untuned encoder similarity", f"{ranker.card.base} is not an encoder in models/base")
        if kind != "relevance":
            with run.skipping(kind):
                run.tested[kind] = model.score_test(ranker.card, ranker.scorer, encoders[kind], run.data)
    if run.tested:
        add_likelihoods(run)
    if tested := run.tested.get("upvote"):
        pairs = [(row.comment, row.chosen) for row in tested.rows] + [(row.comment, row.rejected) for row in tested.rows]
        tested.scores |= {name: upvote.sides(scorer(pairs, "upvote_pairs_test")) for name, scorer in run.beside.items()}
    elif run.beside:
        run.skip(", ".join(run.beside), "no upvote ranker to compare with")
    for kind, ranker in available.items():
        if kind in run.tested or kind == "relevance":
            with run.skipping(kind):
                run.metrics[kind] = model.measure(ranker.card, ranker.scorer, encoders[kind], run.data, run.tested.get(kind))
                show.show(kind, run.metrics[kind])


def add_likelihoods(run: Evaluation) -> None:
    """Add the generator's likelihood of the reply for a random sample of each kind's test rows. For realism, less likely is more real."""
    generate, part = run.settings.generate, "generator likelihood"
    if not generators.back_end(generate.backend).likelihoods:
        return run.skip(part, f"generate.backend {generate.backend} cannot compute the likelihood of a given reply")
    if not generate.model.exists():
        return run.skip(part, f"no generator in {generate.model}")
    drawn = {kind: sample_rows(list(range(len(tested.rows))), LIKELIHOOD_ROWS, 1) for kind, tested in run.tested.items()}
    pairs = {
        kind: [
            (row.comment, reply)
            for row in (run.tested[kind].rows[index] for index in indices)
            for reply in ([row.chosen, row.rejected] if kind == "upvote" else [row.reply])
        ]
        for kind, indices in drawn.items()
    }
    likelihoods = iter(run.scores.likelihoods([pair for each in pairs.values() for pair in each], "likelihood").tolist())
    for kind, indices in drawn.items():
        tested = run.tested[kind]
        scores = np.full(tested.scores["ranker"].shape, np.nan)
        for index in indices:
            scores[index] = [next(likelihoods), next(likelihoods)] if kind == "upvote" else -next(likelihoods)
        tested.scores["generator_likelihood"] = scores


def check_beside(folders: Sequence[Path], own: Path | None) -> None:
    """own: the config's upvote ranker. Raises UserError if a folder is not an upvote ranker, or its name is that of another scorer."""
    for folder in folders:
        cards.read_card(folder)  # raises UserError if there is none
        cards.check_kind(folder, "--beside", "upvote")
    names = [folder.name for folder in folders]
    taken = (*upvote.SCORERS, own.name if own else "")
    if duplicate := next((name for name in names if names.count(name) > 1 or name in taken), None):
        raise UserError(f"--beside: two scorers are called {duplicate}; copy the ranker to a folder with another name")


def evaluate_left_out(run: Evaluation, folders: Sequence[Path]) -> None:
    """Collect the results on left-out subreddits from the cards of upvote rankers. Raises UserError if a card has none."""
    if not folders:
        return run.skip("subreddits left out of training", "no --left-out")
    left_out_cards = [cards.read_card(folder) for folder in folders]
    for folder, card in zip(folders, left_out_cards, strict=True):
        if not any(name.startswith(upvote.LEFT_OUT) for name in card.metrics):
            raise UserError(
                f"--left-out {folder}: its card has no metrics of left-out subreddits; "
                "train it with `train upvote --leave-out SUBREDDIT` and run `evaluate --model` on it"
            )
    run.metrics["left_out"] = upvote.merge_left_out(left_out_cards)
    show.show("upvote, subreddits left out of training", run.metrics["left_out"])


def evaluate_stage(run: Evaluation, available: dict[str, Ranker], candidates: Path | None, seed: int) -> None:
    """Measure stock phrases and, with `candidates`, the picks of the ranking stage by the judges."""
    part = "stock phrases and ranking stage"
    if run.lacks_files(part, ["lm_test.csv"]):
        return None
    weights = run.settings.rank.weights
    human: list[LmRow] = []
    with run.skipping(part):
        human = measures.read(run.data / "lm_test.csv", LmRow)
    if not human:
        return None
    scorers = {f"{kind}_score": ranker.scorer for kind, ranker in available.items()}
    encoder = model.untuned(next(iter(available.values())).card, run.scores)
    run.metrics["stock_phrases"] = choices.measure_stock_phrases(human, scorers, weights, encoder, seed)
    show.show("stock phrases", {"all": run.metrics["stock_phrases"]})
    if candidates is None:
        return run.skip("ranking stage, genericness", "no --candidates")
    read = choices.read_choices(candidates, human, scorers, run.beside)
    used = available.get("upvote")
    if with_all := used is not None and used.card.settings.get("threads") == "all":
        run.skip("judge liked", "the upvote ranker was trained on the judges' half of the threads, too (threads: all)")
    fitted = fit_judges(run, seed, without=("liked",) if with_all else ())
    with cli.waiting("measuring the choices"):
        run.metrics["ranking_stage"] = choices.measure_choices(read, list(scorers), weights, run.settings.choose, fitted)
    show.show_choices(run.metrics["ranking_stage"])


def fit_judges(run: Evaluation, seed: int, without: Sequence[str] = ()) -> dict[str, judges.Judge]:
    """name -> judge, for the judges that have training and test data. without: names of judges that are left out."""
    fitted: dict[str, judges.Judge] = {}
    run.metrics["judges"] = {}
    for name, (kind, _) in judges.JUDGES.items():
        if name in without or run.lacks_files(f"judge {name}", [f"{STEMS[kind]}_{each}.csv" for each in ("train", "test")]):
            continue
        with run.skipping(f"judge {name}"):
            fitted[name], run.metrics["judges"][name] = judges.fit_judge(name, run.data, seed)
    show.show("judge", run.metrics["judges"])
    return fitted


def provenance(run: Evaluation, available: dict[str, Ranker], others: dict[str, Path]) -> dict[str, Any]:
    """How the results were made, for metrics.json. others: more model folders, by label."""
    rank = run.settings.rank
    names = list(dict.fromkeys(rankers.back_end_for(each.card, rank.backend) for each in available.values()))
    precisions = dict.fromkeys(rank.precision if rankers.back_end(name).exported else "float32" for name in names)
    folders = {kind: each.folder for kind, each in available.items()} | {"generator": run.settings.generate.model} | others
    return {
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rank_backend": ", ".join(names),
        "rank_precision": ", ".join(precisions),
        "weights": rank.weights.model_dump(),
        "choose": run.settings.choose.model_dump(mode="json"),
        "models": {name: {"folder": str(path), "sha256": serving.fingerprint(path)} for name, path in folders.items() if path.exists()},
        "data": str(run.data),
        "missing": run.missing,
    }


# Output files, and the marker near their beginning by which an earlier output is recognised and may be replaced.
OUTPUT_MARKERS = {"metrics.json": '"made": {', "evaluation.html": "<title>Evaluation"}


def check_outputs(out: Path, markers: Mapping[str, str], overwrite: bool) -> None:
    """Raises FileError if a file may not be written. markers: file name -> marker, as in OUTPUT_MARKERS."""

    def is_ours(path: Path) -> bool:
        return markers[path.name] in path.read_text("utf-8", "replace")[:2000]

    for name in markers:
        files.check_output(out / name, [], overwrite, is_ours)


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder for metrics.json, evaluation.html and scores/")] = Path("data/evaluation"),
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings that name the rankers and the generator")] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="output of `generate` for comments of DATA/lm_test.csv, to evaluate the ranking stage")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed for drawing comments and the judges' training pairs")] = 1,
    engine: Annotated[str | None, typer.Option(help="back end of the rankers [default: the config's, as in `run`]")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="another upvote ranker to measure on the same pairs and candidates; repeatable")
    ] = None,
    left_out: Annotated[
        list[Path] | None,
        typer.Option(help="upvote ranker trained with --leave-out, to include the left-out results of its card; repeatable"),
    ] = None,
    one: Annotated[Path | None, typer.Option("--model", help="measure only this model and write the metrics into its card")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Measure the rankers and the candidates they pick on the test split, next to baselines."""
    settings, started, beside, left_out = config.load(config_file), time.monotonic(), beside or [], left_out or []
    if not one:
        check_outputs(out, OUTPUT_MARKERS, overwrite)
    if engine:
        settings = settings.model_copy(update={"rank": settings.rank.model_copy(update={"backend": rankers.back_end_name(engine)})})
    scores = Scores(out / "scores", settings)
    if one:
        if candidates or beside or left_out:
            raise UserError("--model measures a single model; drop --candidates, --beside and --left-out")
        kind = cards.read_card(one).kind
        files.check_output(one / cards.CARD_FILE, is_ours=lambda _: True)
        return show.show_model(kind, model.measure_model(one, data, scores))
    if not left_out and not any(data.glob("*_test.csv")):
        raise UserError(f"{data}: no prepared files, such as upvote_pairs_test.csv; give the folder that `prepare` wrote")
    check_beside(beside, settings.rank.upvote)
    run = Evaluation(data, settings, scores, {folder.name: scores.of_model(folder) for folder in beside})
    evaluate_left_out(run, left_out)
    available = find_rankers(run)
    evaluate_rankers(run, available)
    evaluate_stage(run, available, candidates, seed)
    options = [("--data", data), ("--config", config_file), ("--candidates", candidates), ("--engine", engine), ("--seed", seed)]
    options += [*(("--beside", each) for each in beside), *(("--left-out", each) for each in left_out)]
    others = {f"beside: {each.name}": each for each in beside} | {f"left out: {each.name}": each for each in left_out}
    given = [str(part) for each in options if each[1] not in (None, "") for part in each]
    made = {
        **provenance(run, available, others),
        "seconds": round(time.monotonic() - started),
        "command": shlex.join(["python", "run_bot.py", "evaluate", *given]),
        "engine_of_run": not engine,
        "candidates": str(candidates) if candidates else None,
    }
    write({"made": made, **run.metrics}, run.tested, out)


def write(result: dict[str, Any], tested: dict[str, ScoredRows], out: Path) -> None:
    """Write metrics.json and evaluation.html. tested: kind -> scored test rows, for the curves."""
    from bot.evaluate import page  # importing matplotlib takes a second

    with files.atomic_writer(out / "metrics.json") as file:
        json.dump(result, file, indent=1, allow_nan=False)
    page.write(result, tested, out / "evaluation.html")
    print(out / "metrics.json", out / "evaluation.html", sep="\n")
