"""extract: Reddit data or dialogues -> reply pairs, one Parquet file per month or corpus.

Reads  monthly dumps (`RC_YYYY-MM`, `RS_YYYY-MM` or `RS_v2_YYYY-MM`) and archives of one subreddit (`NAME_comments` and
       `NAME_submissions`, or `r_NAME_comments` and `r_NAME_posts`), each .zst, .bz2, .gz, .xz, plain or Parquet; or BigQuery tables with
       the same columns. Both use the same query, queries/reply_pairs.sql.
Writes OUT/YYYY-MM.parquet (columns of schema.Pair, unordered) and its manifest with the counts of replies that give no pair, by reason.

    python run_bot.py extract --source dumps --dumps DIR --from 2017-01 --to 2018-12 --out data/raw_data
    python run_bot.py extract --source bigquery --from 2017-01 --to 2018-12 --subreddit books --out data/raw_data
    python run_bot.py extract --load-bigquery --dumps DIR
    python run_bot.py extract --source cornell --in FOLDER_OR_ZIP       also chitchat, pairs: see bot/corpus/dialogues.py

`--from` and `--to` limit the month of the reply. Existing months are kept if their inputs and settings are unchanged. If a month fails,
the others are still extracted, and the error is reported at the end. A run without any pair and a
subreddit without any reply are errors. --load-bigquery instead loads dumps into your own dataset, one table
per month.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bot import cli, config, files, names, text
from bot.cli import UserError
from bot.conduct import words
from bot.corpus import dialogues, dumps, warehouse
from bot.corpus.warehouse import MonthCounts, Selection

STAGED = ".staged"


class Source(StrEnum):
    bigquery = "bigquery"
    dumps = "dumps"
    cornell = "cornell"
    chitchat = "chitchat"
    pairs = "pairs"


class Parents(StrEnum):
    comment = "comment"
    submission = "submission"
    both = "both"


def months_between(first: str, last: str) -> list[str]:
    """All months from first to last, inclusive.

    >>> months_between("2017-11", "2018-01")
    ['2017-11', '2017-12', '2018-01']
    """
    warehouse.check_months([first, last])
    if first > last:
        raise UserError(f"--from {first} is after --to {last}; swap them")
    months = [first]
    while months[-1] != last:
        months.append(warehouse.add_months(months[-1], 1))
    return months


def format_months(months: list[str]) -> str:
    """Format a sorted list of months, with ranges for consecutive ones.

    >>> format_months(["2016-12", "2017-01", "2017-02", "2017-05"])
    '2016-12 to 2017-02, 2017-05'
    """
    runs: list[list[str]] = []
    for month in months:
        if runs and warehouse.add_months(runs[-1][-1], 1) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def main(
    first: Annotated[str | None, typer.Option("--from", help="first month of the replies, YYYY-MM [default: the first dump's]")] = None,
    last: Annotated[str | None, typer.Option("--to", help="last month of the replies, YYYY-MM [default: the last dump's]")] = None,
    source: Annotated[Source, typer.Option(help="source of the data")] = Source.dumps,
    dump_folder: Annotated[
        Path | None, typer.Option("--dumps", help="folder with RC_YYYY-MM.zst (comments), RS_YYYY-MM.zst (submissions)")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--in", help="with --source cornell: folder or zip; pairs: JSON lines or CSV of comment, reply")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for YYYY-MM.parquet or corpus-NAME.parquet")] = Path("data/raw_data"),
    subreddit: Annotated[list[str] | None, typer.Option(help="subreddit to extract, repeatable [default: all]")] = None,
    lookback_months: Annotated[int, typer.Option(min=0, max=240, help="maximum age of a comment at the time of its reply, in months")] = 6,
    parents: Annotated[Parents, typer.Option(help="extract replies to comments, submissions or both")] = Parents.comment,
    drop_deleted_authors: Annotated[bool, typer.Option(help="omit texts whose author's account is deleted")] = False,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; [bigquery] has project and tables")] = None,
    max_gigabytes: Annotated[float, typer.Option(min=0, help="BigQuery: fail if more would be scanned")] = 50.0,
    load_bigquery: Annotated[bool, typer.Option("--load-bigquery", help="instead load the dumps into your BigQuery dataset")] = False,
) -> None:
    """Extract comment -> reply pairs from monthly dumps, BigQuery or dialogues, one Parquet file per month or corpus."""
    if source not in (Source.dumps, Source.bigquery):
        for_reddit = {"--from": first, "--to": last, "--dumps": dump_folder, "--subreddit": subreddit, "--load-bigquery": load_bigquery}
        if given := [name for name, value in for_reddit.items() if value]:
            raise UserError(f"{', '.join(given)}: only for Reddit data, not for --source {source}; remove it")
        return dialogues.extract(source, corpus, out)
    if corpus:
        raise UserError(f"--in {corpus}: only for --source cornell and pairs; use --dumps, or give that --source")
    loaded = config.load(config_file)
    settings = loaded.bigquery
    selection = Selection(
        tuple(sorted(map(plain_subreddit, subreddit or []))), lookback_months,
        parents is not Parents.submission, parents is not Parents.comment, drop_deleted_authors,
        tuple(sorted(words.BOTS.union(name.lower() for name in loaded.conduct.bots))),
    )  # fmt: skip
    if dump_folder is None and (load_bigquery or source is Source.dumps):
        raise UserError("--dumps is missing: give the folder with RC_YYYY-MM.zst, or use --source bigquery")
    if dump_folder is not None and not dump_folder.is_dir():
        raise UserError(f"{dump_folder}: no such folder; --dumps must be the folder with RC_YYYY-MM.zst")
    if source is Source.bigquery and not load_bigquery:
        if first is None or last is None:
            raise UserError("--from and --to are missing: give the first and the last month of the replies, YYYY-MM")
        months = months_between(first, last)
        check_outputs(out, months)
        return from_bigquery(months, selection, out, settings, max_gigabytes)
    assert dump_folder is not None
    if first and last and not load_bigquery:
        check_outputs(out, months_between(first, last))
    archives = any(dumps.archives(dump_folder).values())
    existing = dumps.months(dump_folder)
    if not existing and not archives:
        raise UserError(f"{dump_folder}: contains no RC_YYYY-MM.zst or NAME_comments.zst; --dumps must be the folder with the dumps")
    if not archives or (first and last):  # before anything is read
        months = months_between(first or existing[0], last or existing[-1])
        if not archives and not load_bigquery and not any(dumps.find(dump_folder, dumps.COMMENTS, month) for month in months):
            raise UserError(f"{dump_folder}: no RC_YYYY-MM.zst between {months[0]} and {months[-1]}")
    (out / STAGED).mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another extraction uses this folder; wait for it or give another --out"
    with files.lock(out / STAGED / ".lock", busy):  # two processes would delete each other's staged dumps
        from_folder(dump_folder, (first, last), selection, out, settings if load_bigquery else None)


def plain_subreddit(written: str) -> str:
    """A subreddit's name in lower case. Raises UserError if it is not one."""
    try:
        return names.subreddit_name(written)
    except ValueError as error:
        raise UserError(f"--subreddit {written}: {error}") from None


def check_outputs(out: Path, months: list[str]) -> None:
    for month in months:
        files.check_output(out / f"{month}.parquet")


def from_folder(
    folder: Path, ends: tuple[str | None, str | None], selection: Selection, out: Path, load_into: config.BigQuerySettings | None
) -> None:
    """Extract the dumps in a folder, or load them into BigQuery. ends: first and last month; None for that of the dumps.

    Archives are staged first, because their rows tell their months.
    """
    staging, existing = out / STAGED, dumps.months(folder)
    inside = [month for month in existing if (ends[0] or month) <= month <= (ends[1] or month)]
    buckets = 1 if load_into else dumps.buckets_for(folder, inside, selection.lookback_months)
    in_archives = dumps.archive_months(folder, staging, buckets, selection.bots, stable_hash=load_into is not None)
    existing = sorted({*existing, *in_archives[dumps.COMMENTS]})
    if not existing:
        raise UserError(f"{folder}: the archives have no comments; check --dumps")
    months = months_between(ends[0] or existing[0], ends[1] or existing[-1])
    if load_into:
        return load(folder, months, in_archives, staging, selection.bots, load_into)
    check_outputs(out, months)

    def has(kind: dumps.Kind, month: str) -> bool:
        return dumps.find(folder, kind, month) is not None or month in in_archives[kind]

    available = [month for month in months if has(dumps.COMMENTS, month)]
    if not available:
        raise UserError(f"{folder}: no comments between {months[0]} and {months[-1]}; the dumps begin in {existing[0]}")
    if missing := [month for month in months if month not in available]:
        print(f"{len(missing)} month{'s' * (len(missing) > 1)} without an RC_YYYY-MM.zst, skipped: {format_months(missing)}")
    needed = {each for month in available for each in warehouse.window(month, selection.lookback_months)}
    with_submissions = needed if in_archives[dumps.SUBMISSIONS] else {each for each in needed if has(dumps.SUBMISSIONS, each)}
    report_missing(available, {each for each in needed if has(dumps.COMMENTS, each)}, with_submissions, selection.lookback_months)
    report_archives(folder, staging)
    made_from = {
        month: {"files": {path.name: dumps.version(path) for path in dumps.files(folder, month, selection.lookback_months)}}
        for month in available
    }
    extract_months(
        available, selection, out, made_from,
        lambda month, file: dumps.extract_month(folder, month, selection, staging, buckets, file),
    )  # fmt: skip


def report_archives(folder: Path, staging: Path) -> None:
    """Print the lines of each archive, and which subreddits have no submissions."""
    archives = dumps.archives(folder)
    for paths in archives.values():
        for path in paths.values():
            lines = dumps.staged_lines(staging / path.name)
            print(f"{path.name}: {lines['read']:,} lines: {dumps.format_counts(lines) or 'all usable'}")
    if alone := [path.name for name, path in archives[dumps.COMMENTS].items() if name not in archives[dumps.SUBMISSIONS]]:
        print(f"no archive of submissions beside {', '.join(alone)}")


def from_bigquery(months: list[str], selection: Selection, out: Path, settings: config.BigQuerySettings, max_gigabytes: float) -> None:
    from bot.corpus import bigquery

    with bigquery.user_errors(settings):
        client = bigquery.connect(settings)
        tables = bigquery.tables(client, settings, months, selection.lookback_months)
        made_from = {month: {"project": client.project, "tables": tables[month].versions(client)} for month in months}
        with_comments, with_submissions = bigquery.months_found(client, settings, tables, selection.lookback_months)
        report_missing(months, with_comments, with_submissions, selection.lookback_months)
        missing = [each for each in months if not is_current(out / f"{each}.parquet", manifest_inputs(selection, made_from[each]))]
        scanned = {month: bigquery.bytes_scanned(client, month, selection, tables[month]) for month in missing}
    print(f"{len(missing)} of {len(months)} months to query; BigQuery would scan {sum(scanned.values()) / 1e9:,.1f} GB")
    if sum(scanned.values()) > max_gigabytes * 1e9:
        raise UserError(f"that is more than --max-gigabytes {max_gigabytes:g}; raise the limit, or reduce the months or --lookback-months")

    def query_month(month: str, file: IO[bytes]) -> MonthCounts:
        with bigquery.user_errors(settings):
            limit = bigquery.max_bytes_billed(scanned[month], tables[month])
            return warehouse.write_month(bigquery.rows(client, month, selection, tables[month], limit), file, selection.subreddits)

    extract_months(months, selection, out, made_from, query_month)


def manifest_inputs(selection: Selection, made_from: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a month's file for its manifest: its sources, the settings and the query."""
    query = hashlib.sha256((warehouse.query("", "") + text.DELETED_BODY + text.NOT_A_BOT + text.BOT_NAME).encode()).hexdigest()
    settings = {name: getattr(selection, name) for name in Selection.__slots__}
    return {**made_from, **settings, "subreddits": list(selection.subreddits), "bots": list(selection.bots), "query": query}


def is_current(target: Path, inputs: dict[str, Any]) -> bool:
    """True if the month's file is complete and was made from these inputs. False if its manifest is corrupt."""
    try:
        return files.is_current(target, inputs)
    except files.FileError:
        return False


def extract_months(
    months: list[str],
    selection: Selection,
    out: Path,
    made_from: dict[str, dict[str, Any]],
    extract: Callable[[str, IO[bytes]], MonthCounts],
) -> None:
    """Extract all months that are not current, continue if a month fails, and print a summary.

    Raises:
        UserError: some months failed; the message has each month and the reason.
    """

    def write(month: str, inputs: dict[str, Any], file: IO[bytes]) -> dict[str, Any]:
        counts = extract(month, file)
        facts = {
            "cross_month": counts.cross_month, "unjudged": counts.unjudged, "dropped": dict(sorted(counts.dropped.items())),
            "lines": counts.lines, "replies_in": dict(sorted(counts.subreddits.items())),
        }  # fmt: skip
        return {"rows": counts.pairs, "made_from": inputs, **facts}

    failed: dict[str, str] = {}
    done: dict[str, dict[str, Any]] = {}
    for month in cli.track(months, "months"):
        target = out / f"{month}.parquet"
        inputs = manifest_inputs(selection, made_from[month])
        if not is_current(target, inputs):
            files.manifest_path(target).unlink(missing_ok=True)
            target.unlink(missing_ok=True)  # do not leave an outdated file behind if this month fails
            try:
                files.write_with_manifest(target, partial(write, month, inputs))
            except UserError as error:
                failed[month] = str(error)
                continue
            except RuntimeError as error:
                if "interrupt" in str(error).lower():  # DuckDB's error for Ctrl-C
                    raise KeyboardInterrupt from None
                raise
        done[month] = files.read_manifest(target) or {}
    print_summary(done, out)
    if failed:
        raise UserError("; ".join(f"{month} failed: {why}" for month, why in failed.items()) + f"; {len(done)} other months are done")
    check_found(done, selection)


def check_found(done: dict[str, dict[str, Any]], selection: Selection) -> None:
    """Raises UserError if there is no pair at all, or no reply in one of the subreddits that were asked for."""
    silent = [name for name in selection.subreddits if not any(name in manifest["replies_in"] for manifest in done.values())]
    rows = sum(manifest["rows"] for manifest in done.values())
    where = f"{format_months(list(done))}: no reply in r/{', r/'.join(silent)}; check --subreddit" if silent else ""
    if done and not rows:
        raise UserError(where or f"{format_months(list(done))}: no reply pairs; check --dumps, --from, --to and --parents")
    if where:
        raise UserError(f"{where}; the {rows:,} pairs of the others are written")


def print_summary(done: dict[str, dict[str, Any]], out: Path) -> None:
    """Print the number of pairs of each month, and the counts of replies that give no pair."""
    if not done:
        return
    total = sum(manifest["rows"] for manifest in done.values())
    cross = sum(manifest["cross_month"] for manifest in done.values())
    table = Table("month", "pairs", "to an earlier month", "no pair", title="reply pairs", box=None)
    for month, manifest in done.items():
        table.add_row(month, f"{manifest['rows']:,}", f"{manifest['cross_month']:,}", f"{sum(manifest['dropped'].values()):,}")
    Console().print(table)
    dropped: Counter[str] = sum((Counter(manifest["dropped"]) for manifest in done.values()), Counter())
    for prefix, what in (("RC", "comment"), ("RS", "submission")):
        lines: Counter[str] = sum((Counter(manifest["lines"].get(prefix, {})) for manifest in done.values()), Counter())
        if lines:
            print(f"{lines['read']:,} lines in the months' own {what} dumps: {dumps.format_counts(lines) or 'all usable'}")
    print("replies that give no pair:", dumps.format_counts(dropped) or "none")
    share = f", {cross / total:.1%} of them to a comment of an earlier month" if total else ""
    print(f"{total:,} reply pairs from {len(done)} months in {out}{share}")
    if unjudged := sum(manifest["unjudged"] for manifest in done.values()):
        print(f"{unjudged:,} of the pairs have no submission, so it isn't known whether the submitter wrote the reply")


def report_missing(months: list[str], comments: set[str], submissions: set[str], lookback_months: int) -> None:
    """Print the months that are asked for or looked back to and have no comments or no submissions."""
    needed = sorted({each for month in months for each in warehouse.window(month, lookback_months)})
    if missing := [month for month in needed if month in comments and month not in submissions]:
        print(f"no submissions of {format_months(missing)}: replies to them and replies by their authors can't be found")
    if missing := [month for month in needed if month not in comments and month not in months]:
        print(f"looked back to, but no comments: {format_months(missing)}")


def load(
    folder: Path,
    months: list[str],
    in_archives: dict[dumps.Kind, set[str]],
    staging: Path,
    bots: tuple[str, ...],
    settings: config.BigQuerySettings,
) -> None:
    """Load the dumps of each month into a BigQuery table of its own. Tables that were loaded from the same dumps are kept."""
    from bot.corpus import bigquery

    archives = dumps.archives(folder)
    matches: list[tuple[dumps.Kind, str, list[Path]]] = []
    for month in months:
        for kind in (dumps.COMMENTS, dumps.SUBMISSIONS):
            path = dumps.find(folder, kind, month)
            paths = ([path] if path else []) + ([*archives[kind].values()] if month in in_archives[kind] else [])
            matches += [(kind, month, paths)] if paths else []
    if not matches:
        raise UserError(f"{folder}: no RC_YYYY-MM.zst or RS_YYYY-MM.zst between {months[0]} and {months[-1]}")
    with bigquery.user_errors(settings):
        client = bigquery.connect(settings)
        for kind, month, paths in cli.track(matches, "loading"):
            parquet = dumps.stage_as_one_file(paths, staging, kind, month, bots)
            try:
                version = [number for path in paths for number in dumps.version(path)]
                print(bigquery.load(client, settings, kind, month, parquet, version))
            finally:
                parquet.unlink()
