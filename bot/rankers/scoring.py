"""score: compute scores of (comment, reply) pairs. The only code that runs rankers over rows.

Reads  any CSV with the columns comment and reply.
Writes OUT: the columns of the input and the scores:

    python run_bot.py score --in pairs.csv --out scores.csv                        one column per ranker, and rank_score
    python run_bot.py score --in - --out - < pairs.csv > scores.csv
    python run_bot.py score --cluster 10.0.0.5:6379 --in pairs.parquet --out scores.parquet           on a Ray cluster, see cluster.py
    python run_bot.py score --in pairs.csv --out scores.csv --model models/upvote  KIND_score of one ranker, with the kind from its card
    python run_bot.py score --in pairs.csv --out scores.csv --base minilm-l6       cosine of comment and reply under an untuned encoder
    python run_bot.py score --in pairs.csv --out scores.csv --likelihood           log_likelihood of the reply under generate.model

Scores are probabilities in [0, 1]. The column of a ranker that is not set (rank.upvote = "") is empty, and rank_score too if its weight in
rank.weights is not 0. rank_score combines the scores with other signals, see rankers.score.rank_score; for one of them the input needs the
column log_likelihood (mean per token, in nats). cosine is in [-1, 1]; log_likelihood is the mean per token in nats, and tokens the number
of tokens with the end, empty if the back end cannot count them. All values are written with full precision.

The manifest's `speed` has the pairs and seconds of what this process scored, without loading the models, and its peak memory in MB.

Intermediate scores are stored in `OUT.part`, several pairs per line. An interrupted run resumes from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from bot import cli, cluster, config, files, generators, rankers, schema
from bot.cli import Clock, UserError, WrongSettings, progress_bar, redirect_messages
from bot.rankers import score
from bot.weights import bases, cards, serving

if TYPE_CHECKING:
    import pyarrow as pa

RankerKind = Literal["realism", "upvote", "relevance", "choice"]
RANKERS: tuple[RankerKind, ...] = get_args(RankerKind)
PART_PAIRS = 1000
BLOCK_PARTS = 5  # parts in a block, with --cluster
LIKELIHOOD_PART_PAIRS = 40  # a model with 135M parameters needs about a second for four replies on two cores

INPUT = ("comment", "reply")
Pairs = Sequence[tuple[str, str]]  # (comment, reply)


@dataclass(frozen=True)
class Scoring:
    """A way to score pairs."""

    columns: tuple[str, ...]
    made_with: dict[str, Any]  # for manifests: settings and the identities of the models
    load: Callable[[], Callable[[Pairs], list[score.Scores]]]  # loads the models and returns a function that scores pairs
    part_pairs: int = PART_PAIRS  # number of pairs scored at a time
    weights: config.RankWeights | None = None  # of rank_score; None: it is not written


def folders(settings: config.RankSettings) -> dict[str, Path]:
    """Kind -> folder of the rankers in the config. Raises UserError if a folder has a model of another kind."""
    configured: dict[str, Path] = {}
    for kind in RANKERS:
        if folder := getattr(settings, kind):
            cards.check_kind(folder, f"rank.{kind}", kind)
            configured[kind] = folder
    return configured


def check_weights(settings: config.RankSettings) -> None:
    """Raises WrongSettings if a ranker that rank_score needs is not set. The other weights and choose.minimum_rank were fitted with it, so
    without it the threshold would let other replies pass.
    """
    for kind in RANKERS:
        if (weight := getattr(settings.weights, kind)) and not getattr(settings, kind):
            raise WrongSettings(
                f"rank.{kind} is not set, but rank.weights.{kind} is {weight:g}, and the other weights and choose.minimum_rank were fitted"
                " with it; add the lines that `python run_bot.py train weights` prints with this config"
            )


def without_rank_score(how: Scoring) -> Scoring:
    """The same with an empty column rank_score."""
    return replace(how, weights=config.RankWeights(**dict.fromkeys(config.RankWeights.model_fields, 0.0)))


# --- ways to score --------------------------------------------------------------------------------------------------------


def by_all(settings: config.RankSettings) -> Scoring:
    """Score with all rankers in the config, and rank_score. Raises UserError if a ranker is of another kind."""

    def load() -> Callable[[Pairs], list[score.Scores]]:
        scorers = load_rankers(settings)
        return lambda pairs: score.score_pairs(pairs, scorers, settings.batch_size)

    identities = {kind: serving.fingerprint(folder) for kind, folder in folders(settings).items()}
    made_with = {"settings": settings.model_dump(mode="json"), "models": identities}
    return Scoring(score.SCORES, made_with, load, weights=settings.weights)


def load_rankers(settings: config.RankSettings) -> dict[str, rankers.Ranker]:
    """Load the configured rankers, by score column.

    Raises:
        UserError: a model is missing or of another kind.
        WrongSettings: none is configured.
    """
    configured = folders(settings)
    loaded = {f"{kind}_score": rankers.load(settings.backend, folder, settings.precision) for kind, folder in configured.items()}
    if not loaded:
        raise WrongSettings("no ranker is set; set rank.choice or another one to a model folder")
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
    cards.check_kind(settings.model, "generate.model", "lm")
    made_with = {"model": serving.fingerprint(settings.model), "max_prompt_tokens": settings.max_prompt_tokens, "tokens": True}

    def load() -> Callable[[Pairs], list[score.Scores]]:
        generator = module().load(settings.model)
        count = getattr(generator, "token_counts", lambda pairs: [None] * len(pairs))

        def score_part(pairs: Pairs) -> list[score.Scores]:
            clean = score.cleaned(pairs)
            values = zip(generator.log_likelihoods(clean, settings=settings), count(clean), strict=True)
            return [{"log_likelihood": float(value), "tokens": tokens} for value, tokens in values]

        return score_part

    return Scoring(("log_likelihood", "tokens"), made_with, load, part_pairs=LIKELIHOOD_PART_PAIRS)


def one_column(column: str, made_with: dict[str, Any], load: Callable[[], Callable[..., Any]], **options: Any) -> Scoring:
    """A Scoring with one column. load: returns the function that computes the values for (cleaned pairs, **options)."""

    def loaded() -> Callable[[Pairs], list[score.Scores]]:
        values_of = load()
        return lambda pairs: [{column: float(value)} for value in values_of(score.cleaned(pairs), **options)]

    return Scoring((column,), made_with, loaded)


# --- rows -----------------------------------------------------------------------------------------------------------------


@contextmanager
def scored_in_parts(
    pairs: Pairs, scoring: Scoring, out: Path, made_from: dict[str, Any]
) -> Iterator[tuple[list[score.Scores], dict[str, float]]]:
    """Yield the scores of all pairs, for the caller to write to `out`, and the speed. Resumes from the part of an interrupted run."""

    def parse(piece: list[dict[str, float | None]]) -> list[score.Scores]:
        return [{column: row[column] for column in scoring.columns} for row in piece]

    with files.part(out, made_from, parse) as part:
        done = [row for rows in part.done for row in rows]
        if done:
            print(f"resuming after {len(done):,} of {len(pairs):,} pairs")
        with cli.waiting("loading the models"):
            score_part = scoring.load()
        before, clock = len(done), Clock()
        with progress_bar() as progress:
            task = progress.add_task("pairs", total=len(pairs), completed=len(done))
            for start in range(len(done), len(pairs), scoring.part_pairs):
                scores = score_part(pairs[start : start + scoring.part_pairs])
                part.add(scores)
                done += scores
                progress.update(task, completed=len(done))
        yield done, clock.facts(pairs=len(done) - before)


def made_from(source: Path, scoring: Scoring) -> dict[str, Any]:
    """The field made_from of a score file's manifest."""
    return {"input": files.sha256_of(source), **scoring.made_with}


def score_file(source: Path, out: Path, scoring: Scoring) -> int:
    """Write the rows of `source` with their scores to `out`. Returns the number of rows.

    Raises:
        UserError: a column or a model is missing.
    """
    columns, rows = schema.read_table(source, INPUT)
    made, written = made_from(source, scoring), written_columns(scoring)
    likelihoods = schema.numbers(source, rows, "log_likelihood") if scoring.weights else [None] * len(rows)
    with scored_in_parts(pairs_of(rows), scoring, out, made) as (scores, speed):
        result = with_scores(rows, scores, likelihoods, scoring)
        return schema.write_table(out, [*(column for column in columns if column not in written), *written], result, made, speed=speed)


def pairs_of(rows: Sequence[dict[str, Any]]) -> Pairs:
    return [(row["comment"], row["reply"]) for row in rows]


def written_columns(scoring: Scoring) -> list[str]:
    return [*scoring.columns, *(["rank_score"] if scoring.weights else [])]


def with_scores(
    rows: Sequence[dict[str, Any]], scores: Sequence[score.Scores], likelihoods: Sequence[float | None], scoring: Scoring
) -> Iterator[dict[str, Any]]:
    """The rows with the columns that this way to score writes."""
    for row, own, likelihood in zip(rows, scores, likelihoods, strict=True):
        yield {**row, **own, **rank(scoring, own, (row["comment"], row["reply"]), likelihood)}


def rank(scoring: Scoring, scores: score.Scores, pair: tuple[str, str], log_likelihood: float | None) -> score.Scores:
    """The column rank_score, if this way to score has one. The texts of the pair are cleaned first, as for the rankers."""
    if not scoring.weights:
        return {}
    (cleaned,) = score.cleaned([pair])
    return {"rank_score": score.rank_score(scores, score.Ranked(*cleaned, log_likelihood), scoring.weights)}


# --- on a cluster ---------------------------------------------------------------------------------------------------------


def score_on_cluster(address: str, source: Path, out: Path, scoring: Scoring) -> int:
    """Like `score_file`, with the workers of a Ray cluster. source: also a Parquet file, or a folder of them with the same columns.

    Raises:
        UserError: as in `score_file` and cluster.compute.
    """
    import pyarrow as pa

    cluster.check_address(address)
    tables, written = cluster.tables([source], out), written_columns(scoring)
    files.check_output(out, tables, True)  # main has checked --overwrite
    read = {path: cluster.columns_of(path, INPUT) for path in tables}
    columns = read[tables[0]]
    for path, own in read.items():
        if own.remove_metadata() != columns.remove_metadata():
            raise UserError(f"{path}: other columns than {tables[0]}; score it separately")
    block_rows = scoring.part_pairs * BLOCK_PARTS
    made = {"input": [files.sha256_of(path) for path in tables], **scoring.made_with, "block_rows": block_rows}
    if (existing := files.current_rows(out, made)) is not None:
        return existing

    def rows() -> Iterator[dict[str, Any]]:
        for path in tables:
            yield from cluster.rows_of(path, INPUT)

    for path in tables if scoring.weights else ():
        check_likelihoods(path, columns)
    count = sum(map(cluster.count_rows, tables))
    kinds = [(name, pa.int64() if name == "tokens" else pa.float64()) for name in written]
    result = pa.schema([*(each for each in columns if each.name not in written), *map(pa.field, *zip(*kinds, strict=True))])
    return cluster.compute(address, out, cluster.Job(rows, count, partial(load_worker, scoring), result, block_rows), made)


def check_likelihoods(path: Path, columns: pa.Schema) -> None:
    """Raises FileError if the column log_likelihood has something else than numbers."""
    import pyarrow as pa

    if "log_likelihood" not in columns.names:
        return
    kind = columns.field("log_likelihood").type
    if not cluster.is_parquet(path):
        schema.numbers(path, schema.read_table(path)[1], "log_likelihood")
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise files.FileError(f"{path}: column log_likelihood has the type {kind}, expected numbers; convert it")


def likelihood_of(row: dict[str, Any]) -> float | None:
    """A checked value of the column log_likelihood, None if it is empty or missing. Raises UserError if it is not finite."""
    value = row.get("log_likelihood")
    if value in (None, ""):
        return None
    if not math.isfinite(number := float(value)):
        raise UserError(f"log_likelihood is {number}; correct it")
    return number


def load_worker(scoring: Scoring) -> cluster.Work:
    """Load the models, and return a function that adds the scores to rows."""
    score_part = scoring.load()

    def work(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pairs = pairs_of(rows)
        starts = range(0, len(pairs), scoring.part_pairs)
        scores = [each for start in starts for each in score_part(pairs[start : start + scoring.part_pairs])]
        likelihoods = [likelihood_of(row) for row in rows] if scoring.weights else [None] * len(rows)
        return list(with_scores(rows, scores, likelihoods, scoring))

    return work


def main(
    source: Annotated[Path, typer.Option("--in", help="any CSV with comment and reply; - for standard input")],
    out: Annotated[Path, typer.Option(help="output CSV; - for standard output")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    model: Annotated[Path | None, typer.Option(help="folder of one ranker, instead of those in the config")] = None,
    base: Annotated[str | None, typer.Option(help="untuned encoder in models/base: write the cosine of comment and reply")] = None,
    likelihood: Annotated[bool, typer.Option("--likelihood", help="write the log-likelihood under the generator")] = False,
    cluster_address: cluster.Address = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Score replies: realism, upvote and relevance, each a probability in [0, 1]."""
    settings = config.load(config_file)
    if cluster_address is not None:
        on_any_machine = {name: cluster.with_absolute_paths(getattr(settings, name)) for name in ("rank", "generate")}
        settings, model = settings.model_copy(update=on_any_machine), model and model.absolute()
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
        if scoring.weights:
            try:
                check_weights(settings.rank)
            except WrongSettings as error:
                print(f"rank_score is left empty: {error}")
                scoring = without_rank_score(scoring)
        count = score_on_cluster(cluster_address, source, out, scoring) if cluster_address is not None else score_file(source, out, scoring)
        print(f"{count:,} rows scored in {schema.display_name(out)}")
