"""generate: write candidate replies for every comment.

Reads  RUN/comments.csv; or, with --in, one or more CSV files with the columns comment_id and comment.
Writes RUN/candidates.csv, or --out: exactly num_candidates rows per comment, in the order of the comments.

    python run_bot.py generate --run data/runs/X
    python run_bot.py generate --in lm_train.csv --in lm_val.csv --in lm_test.csv --out fakes.csv --sample 4500 --num-candidates 1 --seed 7
    python run_bot.py generate --in - --out - < comments.csv > candidates.csv

Finished comments are kept in `OUT.part` (one JSON array of candidates per line), from which a killed run resumes. With `--out -` the table
goes to standard output, without a part file or a manifest; messages go to standard error.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, generators, schema, text
from bot.cli import UserError, progress_bar, redirect_messages
from bot.conduct.reasons import Reason
from bot.schema import Candidate
from bot.weights import serving


def answerable(rows: Iterable[dict[str, str]]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(comment_id, comment) of the rows that can be answered, each id once, and the number of omitted rows by reason.

    >>> answerable([{"comment_id": "a", "comment": "hi"}, {"comment_id": "b", "comment": "[deleted]"}])
    ([('a', 'hi')], {'deleted': 1})
    """
    taken: dict[str, str] = {}
    left_out: dict[str, int] = {}
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
            taken[row["comment_id"]] = body
            continue
        left_out[str(reason)] = left_out.get(reason, 0) + 1
    return list(taken.items()), left_out


def generate(
    sources: Sequence[Path], out: Path, settings: config.GenerateSettings, seed: int, sample: int | None = None, overwrite: bool = False
) -> int:
    """Write `out` for the comments of all `sources`; returns the number of candidates. Does nothing if `out` exists and is current.

    Raises:
        UserError: `out` may not be written, a column is missing, no comment can be answered, or there is no model.
    """
    files.check_output(out, sources, overwrite)
    table = [row for source in sources for row in schema.read_table(source, ("comment_id", "comment"))[1]]
    comments, left_out = answerable(table)
    if sample is not None and sample < len(comments):
        comments = [comments[index] for index in sorted(random.Random(seed).sample(range(len(comments)), sample))]
    made_from = {
        "input": [files.sha256_of(source) for source in sources],
        "model": serving.fingerprint(settings.model),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "sample": sample,
    }
    if files.is_current(out, made_from):
        print(f"{out} exists and is current")
        return int((files.read_manifest(out) or {})["rows"])
    for reason, count in left_out.items():
        print(f"{count} comments left out: {reason}")
    if table and not comments:
        names, reasons = ", ".join(map(schema.display_name, sources)), ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise UserError(f"{names}: no comment can be answered ({reasons})")
    with files.part(out, made_from, _candidates) as part:
        done = answered(comments, part, settings, seed)
        rows = (candidate for comment_id, _ in comments for candidate in done[comment_id])
        count = schema.write_rows(out, Candidate, rows, made_from, left_out=left_out)
    print(f"{count:,} candidates for {len(comments):,} comments in {schema.display_name(out)}")
    return count


def answered(
    comments: Sequence[tuple[str, str]], part: files.Part[list[Candidate]], settings: config.GenerateSettings, seed: int
) -> dict[str, list[Candidate]]:
    """The candidates for each comment, by its id. Those in `part` are not generated again; new ones are added to it."""
    done = {candidates[0].comment_id: candidates for candidates in part.done}
    if done:
        print(f"resuming after {len(done)} of {len(comments)} comments")
    # sorted by length, because a batch is padded to its longest comment
    left = sorted((pair for pair in comments if pair[0] not in done), key=lambda pair: len(pair[1]))
    generator = generators.load(settings.backend, settings.model, settings.precision) if left else None
    with progress_bar() as progress:
        task = progress.add_task("comments", total=len(comments), completed=len(done))
        for candidates in generator.sample(left, settings, seed) if generator else ():
            if len(candidates) != settings.num_candidates:
                raise AssertionError(f"{settings.backend} returned {len(candidates)} candidates instead of {settings.num_candidates}")
            part.add([asdict(candidate) for candidate in candidates])
            done[candidates[0].comment_id] = candidates
            progress.advance(task)
    return done


def _candidates(piece: list[dict[str, Any]]) -> list[Candidate]:
    """A comment's candidates in the form in which `answered` stores them. Raises TypeError or IndexError for anything else."""
    candidates = [Candidate(**each) for each in piece]
    return [candidates[0], *candidates[1:]]


def main(
    run: Annotated[Path | None, typer.Option(help="run folder: reads comments.csv, writes candidates.csv")] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--in", help="any CSV with comment_id and comment (-: standard input); may be repeated"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the CSV to write, with --in; - for standard output")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    num_candidates: Annotated[
        int | None, typer.Option(min=1, max=1000, help="candidates per comment [default: generate.num_candidates]")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same text")] = 1,
    sample: Annotated[int | None, typer.Option(min=1, help="use only this many comments, drawn at random")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Write candidate replies for comments."""
    if (run is None) == (not sources) or (not sources) != (out is None):
        raise UserError("give either --run DIR, or --in FILE.csv and --out FILE.csv")
    settings = config.load(config_file).generate
    if num_candidates:
        settings = settings.model_copy(update={"num_candidates": num_candidates})
    if run is not None:
        with files.run_folder(run):
            generate([run / "comments.csv"], run / "candidates.csv", settings, seed, sample, overwrite)
    elif sources and out is not None:
        with redirect_messages(out):
            generate(sources, out, settings, seed, sample, overwrite)
