"""generate: write candidate replies for every comment.

Reads  RUN/comments.csv; or, with --in, one or more CSV files with the columns comment_id and comment; or, with --text, one comment.
       Back ends that use them also read the columns subreddit, title and parent_id, where they are, and RUN/context.csv.
Writes RUN/candidates.csv, or --out: exactly num_candidates rows per comment, in the order of the comments; none for a comment for which the
       back end fails, which the manifest's `left_out` counts by reason; the same command asks again for those whose reason may pass, such
       as a time-out of a server. The manifest's `speed` has the words and seconds of the processes that wrote them, without loading the
       model, and their peak memory in MB.

    python run_bot.py generate --run data/runs/X
    python run_bot.py generate --in lm_train.csv --in lm_val.csv --in lm_test.csv --out fakes.csv --sample 4500 --num-candidates 1 --seed 7
    python run_bot.py generate --in - --out - < comments.csv > candidates.csv
    python run_bot.py generate --text "Which book made you laugh?" --temperature 0.9 | python run_bot.py score --in - --out -
    python run_bot.py generate --cluster 10.0.0.5:6379 --in data/raw_data --out fakes.parquet --num-candidates 1

With --cluster a Ray cluster generates blocks of BLOCK_COMMENTS comments (see cluster.py); tables are CSV or Parquet. The rows of a block
are those that `generate` writes for a file with its comments.

Finished comments are kept in `OUT.part` (one JSON array of candidates per line), from which a killed run resumes. With `--out -` the table
goes to standard output, without a part file or a manifest; messages go to standard error.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import cli, cluster, config, files, generators, schema, text
from bot.cli import Clock, UserError, progress_bar, redirect_messages
from bot.conduct.reasons import Reason
from bot.generators import PASSING, Failed, Place
from bot.schema import Candidate, Context
from bot.weights import serving

INPUT = ("comment_id", "comment")
TEXT_ID = "text"  # the comment_id of --text
UNASKED = "server_error"  # in a manifest: comments that were not asked for after an error
ANCESTORS = 8  # comments above a comment, at most
BLOCK_COMMENTS = 500  # with --cluster: three minutes for ten candidates each on two cores


def answerable(rows: Iterable[dict[str, str]]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(comment_id, comment) of the rows that can be answered, each id once, and the number of omitted rows by reason.

    >>> answerable([{"comment_id": "a", "comment": "hi"}, {"comment_id": "b", "comment": "[deleted]"}])
    ([('a', 'hi')], {'deleted': 1})
    """
    left_out: Counter[str] = Counter()
    return list(each_answerable(rows, left_out)), dict(left_out)


def each_answerable(rows: Iterable[Mapping[str, str]], left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The comments of `answerable`, one by one. left_out: the omitted rows are added to it."""
    taken: set[str] = set()
    for row in rows:
        body = text.clean(row["comment"])
        if not body:
            reason = Reason.EMPTY
        elif text.is_deleted(row["comment"]) or text.is_deleted(body):
            reason = Reason.DELETED
        elif len(row["comment"]) >= text.UNANSWERABLE_LENGTH:
            reason = Reason.TOO_LONG
        elif row["comment_id"] in taken:
            reason = Reason.SAME_ID
        else:
            taken.add(row["comment_id"])
            yield row["comment_id"], body
            continue
        left_out[str(reason)] += 1


def chain(parent_id: str, others: Mapping[str, Context]) -> list[tuple[str, str]]:
    """(author, text) of the comments above a comment, oldest first; at most ANCESTORS. parent_id: of the comment; others: by their ids."""
    above: dict[str, Context] = {}
    while (row := others.get(parent_id)) and parent_id not in above and len(above) < ANCESTORS:
        above[parent_id] = row
        parent_id = row.parent_id
    return [(row.author, row.comment) for row in reversed(above.values())]


def places_of(rows: Sequence[Mapping[str, str]], context: Sequence[Context]) -> dict[str, Place]:
    """Where each comment is, by comment_id, as far as the columns subreddit, title and parent_id tell. context: other comments there.

    >>> rows = [{"comment_id": "b", "comment": "x", "subreddit": "books", "parent_id": "a"}]
    >>> places_of(rows, [Context("t", "a", "t", "*Why?*")])
    {'b': Place(subreddit='books', title='', above=('Why?',))}
    """
    known = {row["comment_id"]: Context("", row["comment_id"], row.get("parent_id", ""), row["comment"]) for row in rows}
    others = known | {row.comment_id: row for row in context}
    result: dict[str, Place] = {}
    for row in rows:
        above = [text.readable(body) for _, body in chain(row.get("parent_id", ""), others)]
        place = Place(row.get("subreddit", ""), text.readable(row.get("title", "")), tuple(filter(None, above)))
        result.setdefault(row["comment_id"], place)
    return result


def generate(
    sources: Sequence[Path],
    out: Path,
    settings: config.GenerateSettings,
    seed: int,
    sample: int | None = None,
    overwrite: bool = False,
    comment: str | None = None,
    context: Path | None = None,
) -> int:
    """Write `out` for the comments of all `sources`, or for one comment; returns the number of candidates. Does nothing if `out` exists and
    is current, unless comments are missing in it for a reason that may pass.

    context: a context.csv, for back ends that read where comments are.

    Raises:
        UserError: `out` may not be written, a column is missing, no comment can be answered, there is no model, or all comments fail.
    """
    files.check_output(out, [*sources, *([context] if context else [])], overwrite)
    table = [row for source in sources for row in schema.read_table(source, ("comment_id", "comment"))[1]]
    if comment is not None:
        table = [{"comment_id": TEXT_ID, "comment": comment}]
    comments, left_out = answerable(table)
    comments = [comments[index] for index in sorted(drawn(len(comments), sample, seed))]
    reads_places = generators.back_end(settings.backend).reads_places
    context = context if reads_places and context and context.exists() else None
    read = [*sources, *([context] if context else [])]
    made_from = origin(read, settings, seed, sample)
    made_from["input"] += [text.fingerprint(comment)] if comment is not None else []
    kept = unfinished(out, made_from)
    if not kept and (existing := files.current_rows(out, made_from)) is not None:
        return existing
    report(sources, len(comments), left_out)
    places = places_of(table, schema.read_rows(context, Context) if context else []) if reads_places else {}
    with files.part(out, made_from, _candidates) as part:
        done, failed, speed = answered(comments, part, settings, seed, places, kept)
        left_out |= failed
        if kept:
            speed = together((files.read_manifest(out) or {}).get("speed", {}), speed)
        rows = (candidate for comment_id, _ in comments for candidate in done.get(comment_id, []))
        count = schema.write_rows(out, Candidate, rows, made_from, left_out=left_out, speed=speed)
    print(f"{count:,} candidates for {len(done):,} comments in {schema.display_name(out)}")
    return count


def unfinished(out: Path, made_from: Mapping[str, Any]) -> list[list[Candidate]]:
    """The candidates for each comment in `out` if it is current but lacks comments for a reason that may pass; otherwise nothing."""
    if not files.is_current(out, made_from) or not PASSING & (files.read_manifest(out) or {}).get("left_out", {}).keys():
        return []
    return [list(group) for _, group in groupby(schema.read_rows(out, Candidate), key=lambda row: row.comment_id)]


def together(earlier: Mapping[str, float], speed: Mapping[str, float]) -> dict[str, float]:
    """The speed of two processes that wrote parts of a table.

    >>> together({"words": 9, "seconds": 2.0, "peak_mb": 70.5}, {"words": 3, "seconds": 0.5, "peak_mb": 60.0})
    {'words': 12, 'seconds': 2.5, 'peak_mb': 70.5}
    """
    return {name: max(earlier.get(name, 0), value) if name == "peak_mb" else earlier.get(name, 0) + value for name, value in speed.items()}


def drawn(count: int, sample: int | None, seed: int) -> Collection[int]:
    """Which of the comments are used: all, or `sample` of them at random.

    >>> drawn(3, None, 1), len(drawn(30, 4, 1))
    (range(0, 3), 4)
    """
    return range(count) if sample is None or sample >= count else {*random.Random(seed).sample(range(count), sample)}


def origin(read: Sequence[Path], settings: config.GenerateSettings, seed: int, sample: int | None) -> dict[str, Any]:
    """The field made_from of the manifest. read: the files with the comments."""
    return {
        "input": [files.sha256_of(path) for path in read], "model": serving.fingerprint(settings.model),
        "settings": settings.model_dump(mode="json"), "seed": seed, "sample": sample,
    }  # fmt: skip


def report(sources: Sequence[Path], comments: int, left_out: Mapping[str, int]) -> None:
    """Print how many comments are left out. Raises UserError if none is left."""
    for reason, count in left_out.items():
        print(f"{count} comments left out: {reason}")
    if left_out and not comments:
        names, reasons = (
            ", ".join(map(schema.display_name, sources)) or "--text",
            ", ".join(f"{count} {reason}" for reason, count in left_out.items()),
        )
        raise UserError(f"{names}: no comment can be answered ({reasons})")


def answered(
    comments: Sequence[tuple[str, str]],
    part: files.Part[list[Candidate]],
    settings: config.GenerateSettings,
    seed: int,
    places: Mapping[str, Place],
    kept: Sequence[list[Candidate]] = (),
) -> tuple[dict[str, list[Candidate]], dict[str, int], dict[str, float]]:
    """The candidates for each comment, by its id, the number of comments that failed by reason, and the speed.

    Those in `part` and `kept` are not generated again; new ones are added to `part`. Raises UserError if all comments fail.
    """
    done = {candidates[0].comment_id: candidates for candidates in (*kept, *part.done)}
    if done:
        print(f"resuming after {len(done)} of {len(comments)} comments")
    left = [pair for pair in comments if pair[0] not in done]
    generator = None
    if left:
        with cli.waiting("loading the generator"):
            generator = generators.load(settings.backend, settings.model, settings.precision)
    clock, words = Clock(), 0
    failed: dict[str, int] = {}
    with progress_bar() as progress:
        task = progress.add_task("writing candidates, by comment", total=len(comments), completed=len(done))
        more = generators.with_places(settings.backend, places)
        answers = sampled(generator, left, settings, seed, **more) if generator else iter(())
        for candidates in until_an_error(answers) if kept else answers:
            if isinstance(candidates, Failed):
                print(f"{candidates.comment_id} left out: {candidates.reason} ({candidates.detail})")
                failed[candidates.reason] = failed.get(candidates.reason, 0) + 1
                continue
            part.add([asdict(candidate) for candidate in candidates])
            done[candidates[0].comment_id] = candidates
            words += sum(len(candidate.reply.split()) for candidate in candidates)
            progress.advance(task)
    if missing := len(comments) - len(done) - sum(failed.values()):  # not asked for, after an error
        failed[UNASKED] = failed.get(UNASKED, 0) + missing
    if failed and not done:
        reasons = ", ".join(f"{count} {reason}" for reason, count in failed.items())
        raise UserError(f"{settings.model}: no comment could be answered ({reasons}); see the lines above")
    return done, failed, clock.facts(words=words)


def until_an_error(answers: Iterator[list[Candidate]]) -> Iterator[list[Candidate]]:
    """The answers, up to an error, which is printed: where a table is only completed, it is no reason to stop."""
    try:
        yield from answers
    except UserError as error:
        print(f"{error}; the table keeps the candidates that it has")


def sampled(
    generator: generators.Generator, comments: Iterable[tuple[str, str]], settings: config.GenerateSettings, seed: int, **more: Any
) -> Iterator[list[Candidate]]:
    """The candidates for each comment, or Failed, in any order. more: see generators.with_places."""
    by_length = sorted(comments, key=lambda pair: len(pair[1]))  # because a batch is padded to its longest comment
    for candidates in generator.sample(by_length, settings, seed, **more):
        if not isinstance(candidates, Failed) and len(candidates) != settings.num_candidates:
            raise AssertionError(f"{settings.backend} returned {len(candidates)} candidates instead of {settings.num_candidates}")
        yield candidates


# --- on a cluster ---------------------------------------------------------------------------------------------------------


def generate_on_cluster(
    address: str,
    sources: Sequence[Path],
    out: Path,
    settings: config.GenerateSettings,
    seed: int,
    sample: int | None = None,
    overwrite: bool = False,
) -> int:
    """Like `generate`, with the workers of a Ray cluster. Comments are read when they are needed; their ids are kept in memory.

    Raises:
        UserError: as in `generate` and cluster.compute, or the back end asks a server.
    """
    if generators.back_end(settings.backend).asks_server:
        raise UserError(f"generate.backend {settings.backend} asks a server, which more machines do not speed up; leave out --cluster")
    cluster.check_address(address)
    tables = cluster.tables(sources, out)
    files.check_output(out, tables, overwrite)
    for path in tables:
        cluster.columns_of(path, INPUT)
    settings = cluster.with_absolute_paths(settings)
    made_from = origin(tables, settings, seed, sample) | {"block_rows": BLOCK_COMMENTS}
    if (existing := files.current_rows(out, made_from)) is not None:
        return existing

    def comments(left_out: Counter[str]) -> Iterator[tuple[str, str]]:
        return each_answerable((row for path in tables for row in cluster.rows_of(path, INPUT, INPUT)), left_out)

    left_out: Counter[str] = Counter()
    count = sum(1 for _ in comments(left_out))
    report(tables, count, left_out)
    used = drawn(count, sample, seed)

    def rows() -> Iterator[dict[str, Any]]:
        for number, (comment_id, comment) in enumerate(comments(Counter())):
            if number in used:
                yield {"comment_id": comment_id, "comment": comment}

    job = cluster.Job(rows, len(used), partial(load_worker, settings, seed), schema.arrow_schema(Candidate), BLOCK_COMMENTS)
    written = cluster.compute(address, out, job, made_from, left_out=dict(left_out))
    print(f"{written:,} candidates for {len(used):,} comments in {out}")
    return written


def load_worker(settings: config.GenerateSettings, seed: int) -> cluster.Work:
    """Load the generator, and return a function that computes the candidates, in the order of the comments."""
    generator = generators.load(settings.backend, settings.model, settings.precision)

    def work(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        comments = [(row["comment_id"], row["comment"]) for row in rows]
        made = {candidates[0].comment_id: candidates for candidates in sampled(generator, comments, settings, seed)}
        return [asdict(candidate) for comment_id, _ in comments for candidate in made[comment_id]]

    return work


def _candidates(piece: list[dict[str, Any]]) -> list[Candidate]:
    """A comment's candidates in the form in which `answered` stores them. Raises TypeError or IndexError for anything else."""
    candidates = [Candidate(**each) for each in piece]
    return [candidates[0], *candidates[1:]]


def main(
    run: Annotated[Path | None, typer.Option(help="run folder: reads comments.csv, writes candidates.csv")] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--in", metavar="FILE", help="any CSV with comment_id and comment (-: standard input); may be repeated"),
    ] = None,
    comment: Annotated[str | None, typer.Option("--text", help="one comment, instead of --in")] = None,
    out: Annotated[
        Path | None, typer.Option(help="the CSV to write, with --in or --text; - for standard output, the default with --text")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    num_candidates: Annotated[
        int | None, typer.Option(min=1, max=1000, help="candidates per comment [default: generate.num_candidates]")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="folder of the generator [default: generate.model]")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.01, max=5, help="[default: generate.temperature]")] = None,
    engine: Annotated[str | None, typer.Option(help=f"{', '.join(generators.BACK_ENDS)} [default: generate.backend]")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same text")] = 1,
    sample: Annotated[int | None, typer.Option(min=1, help="use only this many comments, drawn at random")] = None,
    cluster_address: cluster.Address = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Write candidate replies for comments."""
    if comment is not None:
        out = out or files.STANDARD
    if [run is not None, bool(sources), comment is not None].count(True) != 1 or (run is None) != (out is not None):
        raise UserError("give either --run DIR, or --in FILE.csv and --out FILE.csv, or --text COMMENT")
    given = {"num_candidates": num_candidates, "model": model, "temperature": temperature, "backend": engine}
    settings = config.load(config_file).generate
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    generators.back_end(settings.backend)  # an unknown one is reported first
    if cluster_address is not None:
        if not sources or out is None:
            raise UserError("--cluster: give --in and --out; a run has too few comments for a cluster")
        generate_on_cluster(cluster_address, sources, out, settings, seed, sample, overwrite)
    elif run is not None:
        with files.run_folder(run):
            generate([run / "comments.csv"], run / "candidates.csv", settings, seed, sample, overwrite, context=run / "context.csv")
    elif out is not None:
        with redirect_messages(out):
            generate(sources or [], out, settings, seed, sample, overwrite, comment)
