"""score: compute scores of (comment, reply) pairs. The only code that runs rankers over rows.

Reads  any CSV with the columns comment and reply.
Writes OUT: the columns of the input and the scores:

    python run_bot.py score --in pairs.csv --out scores.csv                        one column per ranker, and rank_score
    python run_bot.py score --in - --out - < pairs.csv > scores.csv
    python run_bot.py score --in pairs.csv --out scores.csv --model models/upvote  KIND_score of one ranker, with the kind from its card
    python run_bot.py score --in pairs.csv --out scores.csv --base minilm-l6       cosine of comment and reply under an untuned encoder
    python run_bot.py score --in pairs.csv --out scores.csv --likelihood           log_likelihood of the reply under generate.model

Scores are probabilities in [0, 1]. The column of a ranker that is not set (rank.relevance = "") is empty. rank_score combines the scores
with other signals, see rankers.score.rank_score; for one of them the input needs the column log_likelihood (mean per token, in nats).
cosine is in [-1, 1]; log_likelihood is the mean per token in nats. All values are written with full precision.

Intermediate scores are stored in `OUT.part`, several pairs per line. An interrupted run resumes from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, generators, rankers, schema
from bot.cli import UserError, progress_bar, redirect_messages
from bot.rankers import score
from bot.weights import bases, cards, serving

RANKERS = tuple(column.removesuffix("_score") for column in score.SCORES)
PART_PAIRS = 1000
LIKELIHOOD_PART_PAIRS = 40  # a model with 135M parameters needs about a second for four replies on two cores

Pairs = Sequence[tuple[str, str]]  # (comment, reply)


@dataclass(frozen=True)
class Scoring:
    """A way to score pairs."""

    columns: tuple[str, ...]
    made_with: dict[str, Any]  # for manifests: settings and the identities of the models
    load: Callable[[], Callable[[Pairs], list[score.Scores]]]  # loads the models and returns a function that scores pairs
    part_pairs: int = PART_PAIRS  # number of pairs scored at a time
    weights: config.RankWeights | None = None  # of rank_score; None: it is not written


# --- ways to score --------------------------------------------------------------------------------------------------------


def by_all(settings: config.RankSettings) -> Scoring:
    """Score with all rankers in the config, and rank_score."""

    def load() -> Callable[[Pairs], list[score.Scores]]:
        scorers = load_rankers(settings)
        return lambda pairs: score.score_pairs(pairs, scorers, settings.batch_size)

    folders = {name: getattr(settings, name) for name in RANKERS}
    identities = {name: serving.fingerprint(folder) for name, folder in folders.items() if folder}
    made_with = {"settings": settings.model_dump(mode="json"), "models": identities}
    return Scoring(score.SCORES, made_with, load, weights=settings.weights)


def load_rankers(settings: config.RankSettings) -> dict[str, rankers.Ranker]:
    """Load the configured rankers, by score column. Raises UserError if a model is missing or no ranker is configured."""
    folders = {f"{name}_score": getattr(settings, name) for name in RANKERS}
    configured = {column: folder for column, folder in folders.items() if folder is not None}
    loaded = {column: rankers.load(settings.backend, folder, settings.precision) for column, folder in configured.items()}
    if not loaded:
        raise UserError("no ranker is set; set rank.realism or rank.upvote to a model folder")
    return loaded


def by_model(model: Path, settings: config.RankSettings) -> Scoring:
    """Score with one ranker, using the back end in its card. Raises UserError if `model` is not a ranker."""
    card = cards.read_card(model)
    if f"{card.kind}_score" not in score.SCORES:
        raise UserError(f"{model}: a model of kind {card.kind}, not a ranker; give the folder of a ranker, or use --likelihood")
    name = rankers.back_end_for(card, settings.backend)
    precision = settings.precision if rankers.back_end(name).exported else "float32"
    made_with = {"model": serving.fingerprint(model), "backend": name, "precision": precision}
    return one_column(
        f"{card.kind}_score", made_with, lambda: rankers.load(name, model, settings.precision).score, batch_size=settings.batch_size
    )


def by_base(base: str) -> Scoring:
    """Score with the cosine under an untuned base encoder. Raises UserError if it is not installed."""
    return one_column("cosine", {"base": bases.base_sha256(base)}, lambda: rankers.load_base(base).cosines)


def by_likelihood(settings: config.GenerateSettings) -> Scoring:
    """Score with the log-likelihood under the generator, in float32. Raises UserError if its back end does not support this."""
    module = generators.likelihoods(settings.backend)
    made_with = {"model": serving.fingerprint(settings.model), "max_prompt_tokens": settings.max_prompt_tokens}
    how = one_column("log_likelihood", made_with, lambda: module().load(settings.model).log_likelihoods, settings=settings)
    return replace(how, part_pairs=LIKELIHOOD_PART_PAIRS)


def one_column(column: str, made_with: dict[str, Any], load: Callable[[], Callable[..., Any]], **options: Any) -> Scoring:
    """A Scoring with one column. load: returns the function that computes the values for (cleaned pairs, **options)."""

    def loaded() -> Callable[[Pairs], list[score.Scores]]:
        values_of = load()
        return lambda pairs: [{column: float(value)} for value in values_of(score.cleaned(pairs), **options)]

    return Scoring((column,), made_with, loaded)


# --- rows -----------------------------------------------------------------------------------------------------------------


@contextmanager
def scored_in_parts(pairs: Pairs, scoring: Scoring, out: Path, made_from: dict[str, Any]) -> Iterator[list[score.Scores]]:
    """Yield the scores of all pairs, for the caller to write to `out`. Resumes from the part of an interrupted run."""

    def parse(piece: list[dict[str, float | None]]) -> list[score.Scores]:
        return [{column: row[column] for column in scoring.columns} for row in piece]

    with files.part(out, made_from, parse) as part:
        done = [row for rows in part.done for row in rows]
        if done:
            print(f"resuming after {len(done):,} of {len(pairs):,} pairs")
        score_part = scoring.load()
        with progress_bar() as progress:
            task = progress.add_task("pairs", total=len(pairs), completed=len(done))
            for start in range(len(done), len(pairs), scoring.part_pairs):
                scores = score_part(pairs[start : start + scoring.part_pairs])
                part.add(scores)
                done += scores
                progress.update(task, completed=len(done))
        yield done


def made_from(source: Path, scoring: Scoring) -> dict[str, Any]:
    """The field made_from of a score file's manifest."""
    return {"input": files.sha256_of(source), **scoring.made_with}


def score_file(source: Path, out: Path, scoring: Scoring) -> int:
    """Write the rows of `source` with their scores to `out`. Returns the number of rows.

    Raises:
        UserError: a column or a model is missing.
    """
    columns, rows = schema.read_table(source, ("comment", "reply"))
    made = made_from(source, scoring)
    written = [*scoring.columns, *(["rank_score"] if scoring.weights else [])]
    likelihoods = schema.numbers(source, rows, "log_likelihood") if scoring.weights else [None] * len(rows)
    with scored_in_parts([(row["comment"], row["reply"]) for row in rows], scoring, out, made) as scores:
        result = (
            {**row, **own, **rank(scoring, own, score.Ranked(row["comment"], row["reply"], likelihood))}
            for row, own, likelihood in zip(rows, scores, likelihoods, strict=True)
        )
        return schema.write_table(out, [*(column for column in columns if column not in written), *written], result, made)


def rank(scoring: Scoring, scores: score.Scores, of: score.Ranked) -> score.Scores:
    """The column rank_score, if this way to score has one."""
    return {"rank_score": score.rank_score(scores, of, scoring.weights)} if scoring.weights else {}


def main(
    source: Annotated[Path, typer.Option("--in", help="any CSV with comment and reply; - for standard input")],
    out: Annotated[Path, typer.Option(help="output CSV; - for standard output")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    model: Annotated[Path | None, typer.Option(help="folder of one ranker, instead of those in the config")] = None,
    base: Annotated[str | None, typer.Option(help="untuned encoder in models/base: write the cosine of comment and reply")] = None,
    likelihood: Annotated[bool, typer.Option("--likelihood", help="write the log-likelihood under the generator")] = False,
    overwrite: files.Overwrite = False,
) -> None:
    """Score replies: realism, upvote and relevance, each a probability in [0, 1]."""
    settings = config.load(config_file)
    files.check_output(out, [source], overwrite)
    if sum((model is not None, base is not None, likelihood)) > 1:
        raise UserError("--model, --base and --likelihood exclude each other; give only one of them")
    if model is not None:
        scoring = by_model(model, settings.rank)
    elif base is not None:
        scoring = by_base(base)
    else:
        scoring = by_likelihood(settings.generate) if likelihood else by_all(settings.rank)
    with redirect_messages(out):
        print(f"{score_file(source, out, scoring):,} rows scored in {schema.display_name(out)}")
