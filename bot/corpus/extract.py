"""extract: years of Reddit -> one Parquet file of reply pairs a month.

Reads  monthly dumps (`RC_YYYY-MM`, `RS_YYYY-MM`; .zst, .bz2, .gz, .xz, plain or Parquet), or tables of the same in BigQuery. Both are
       asked the same: queries/reply_pairs.sql.
Writes OUT/YYYY-MM.parquet (columns of schema.Pair, rows in no order) and its manifest, which counts what gave no pair, by reason.

    python run_bot.py extract --source dumps --dumps DIR --from 2017-01 --to 2018-12 --out data/raw_data
    python run_bot.py extract --source bigquery --from 2017-01 --to 2018-12 --subreddit books --out data/raw_data
    python run_bot.py extract --load-bigquery --dumps DIR

`--from` and `--to` bound the month of the reply. Months that are there already, made from the same with the same settings, are kept; a
month that fails is named at the end, with the rest done. --load-bigquery puts dumps into your own dataset instead, a table a month.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bot import config, files, text
from bot.cli import UserError
from bot.corpus import dumps, warehouse
from bot.corpus.warehouse import MonthCounts, Wanted

STAGED = ".staged"


class Source(StrEnum):
    bigquery = "bigquery"
    dumps = "dumps"


class Parents(StrEnum):
    comment = "comment"
    submission = "submission"
    both = "both"


def months_between(first: str, last: str) -> list[str]:
    """All months from first to last, both included.

    >>> months_between("2017-11", "2018-01")
    ['2017-11', '2017-12', '2018-01']
    """
    for month in (first, last):
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            raise UserError(f"{month!r} is not a month; write YYYY-MM, such as 2017-01")
    if first > last:
        raise UserError(f"--from {first} lies after --to {last}; swap them")
    months = [first]
    while months[-1] != last:
        months.append(warehouse.add_months(months[-1], 1))
    return months


def spans(months: list[str]) -> str:
    """Ascending months in words, neighbours drawn together.

    >>> spans(["2016-12", "2017-01", "2017-02", "2017-05"])
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
    source: Annotated[Source, typer.Option(help="where the text lies")] = Source.dumps,
    dump_folder: Annotated[
        Path | None, typer.Option("--dumps", help="folder with RC_YYYY-MM.zst (comments), RS_YYYY-MM.zst (submissions)")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for YYYY-MM.parquet")] = Path("data/raw_data"),
    subreddit: Annotated[list[str] | None, typer.Option(help="may be given several times; none means all")] = None,
    lookback_months: Annotated[int, typer.Option(min=0, max=240, help="how many months older than its reply a comment may be")] = 6,
    parents: Annotated[Parents, typer.Option(help="what can be replied to")] = Parents.comment,
    drop_deleted_authors: Annotated[bool, typer.Option(help="leave out texts whose author is gone")] = False,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; [bigquery] names project and tables")] = None,
    max_gigabytes: Annotated[float, typer.Option(min=0, help="BigQuery: refuse to scan more than this")] = 50.0,
    load_bigquery: Annotated[bool, typer.Option("--load-bigquery", help="put the dumps into your BigQuery dataset, instead")] = False,
) -> None:
    """Extract comment -> reply pairs from monthly dumps or BigQuery, one Parquet file a month."""
    wanted = Wanted(
        tuple(sorted(name.lower().removeprefix("/").removeprefix("r/") for name in subreddit or [])), lookback_months,
        parents is not Parents.submission, parents is not Parents.comment, drop_deleted_authors,
    )  # fmt: skip
    if dump_folder is None and (load_bigquery or source is Source.dumps):
        raise UserError("--dumps is missing: the folder that holds RC_YYYY-MM.zst; or take --source bigquery")
    if dump_folder is not None and not dump_folder.is_dir():
        raise UserError(f"{dump_folder}: no such folder; --dumps names the one that holds RC_YYYY-MM.zst")
    if first is None or last is None:
        if dump_folder is None:
            raise UserError("--from and --to are missing: the months of the replies, YYYY-MM")
        if not (there := dumps.months(dump_folder)):
            raise UserError(f"{dump_folder}: no RC_YYYY-MM.zst in it; --dumps names the folder with the monthly dump files")
        first, last = first or there[0], last or there[-1]
    months = months_between(first, last)
    for month in [] if load_bigquery else months:
        files.check_output(out / f"{month}.parquet")
    settings = config.load(config_file).bigquery
    if source is Source.bigquery and not load_bigquery:
        return from_bigquery(months, wanted, out, settings, max_gigabytes)
    assert dump_folder is not None
    if not load_bigquery and not any(dumps.find(dump_folder, dumps.COMMENTS, month) for month in months):
        raise UserError(f"{dump_folder}: no RC_YYYY-MM.zst between {months[0]} and {months[-1]}")
    (out / STAGED).mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another extraction is at work there; wait for it, or give another --out"
    with files.hold(out / STAGED / ".lock", busy):  # two would take each other's staged dumps away
        if load_bigquery:
            load(dump_folder, months, out / STAGED, settings)
        else:
            from_dumps(dump_folder, months, wanted, out)


def from_dumps(folder: Path, months: list[str], wanted: Wanted, out: Path) -> None:
    there = [month for month in months if dumps.find(folder, dumps.COMMENTS, month) is not None]
    if absent := [month for month in months if month not in there]:
        print(f"{len(absent)} month{'s' * (len(absent) > 1)} without an RC_YYYY-MM.zst, left out: {spans(absent)}")
    buckets = dumps.buckets_for(folder, there, wanted.lookback_months)
    made_from = {
        month: {"files": {path.name: dumps.version(path) for path in dumps.files(folder, month, wanted.lookback_months)}} for month in there
    }
    each_month(
        there, wanted, out, made_from,
        lambda month, file: dumps.extract_month(folder, month, wanted, out / STAGED, buckets, file),
    )  # fmt: skip


def from_bigquery(months: list[str], wanted: Wanted, out: Path, settings: config.BigQuerySettings, max_gigabytes: float) -> None:
    from bot.corpus import bigquery

    with bigquery.explained(settings):
        client = bigquery.connect(settings)
        tables = bigquery.tables(client, settings, months, wanted.lookback_months)
        made_from = {month: {"project": client.project, "tables": tables[month].described(client)} for month in months}
        missing = [month for month in months if not is_made(out / f"{month}.parquet", described(wanted, made_from[month]))]
        scanned = {month: bigquery.bytes_scanned(client, month, wanted, tables[month]) for month in missing}
    print(f"{len(missing)} of {len(months)} months to query; BigQuery would scan {sum(scanned.values()) / 1e9:,.1f} GB")
    if sum(scanned.values()) > max_gigabytes * 1e9:
        raise UserError(
            f"that is more than --max-gigabytes {max_gigabytes:g}; raise it to spend that, or ask for fewer months or --lookback-months"
        )

    def one(month: str, file: IO[bytes]) -> MonthCounts:
        with bigquery.explained(settings):
            most = bigquery.most_bytes(scanned[month], tables[month])
            return warehouse.write_month(bigquery.rows(client, month, wanted, tables[month], most), month, file)

    each_month(months, wanted, out, made_from, one)


def described(wanted: Wanted, made_from: dict[str, Any]) -> dict[str, Any]:
    """What a month's file is made from: its sources, the settings and the query."""
    query = hashlib.sha256((warehouse.query("", "") + text.DELETED_BODY + text.BOT_NAME).encode()).hexdigest()
    settings = {name: getattr(wanted, name) for name in Wanted.__slots__}
    return {**made_from, **settings, "subreddits": list(wanted.subreddits), "query": query}


def is_made(target: Path, current: dict[str, Any]) -> bool:
    """True if the month's file is whole and made from just this; one with a garbled manifest is made again like any broken one."""
    try:
        return files.is_current(target, current)
    except files.FileError:
        return False


def each_month(
    months: list[str], wanted: Wanted, out: Path, made_from: dict[str, dict[str, Any]], extract: Callable[[str, IO[bytes]], MonthCounts]
) -> None:
    """Make what isn't there yet, go on when a month fails, and print what came of all.

    Raises:
        UserError: months failed; names each and why.
    """

    def filled(month: str, current: dict[str, Any], file: IO[bytes]) -> dict[str, Any]:
        counts = extract(month, file)
        facts = {"cross_month": counts.cross_month, "dropped": dict(sorted(counts.dropped.items())), "lines": counts.lines}
        return {"rows": counts.pairs, "made_from": current, **facts}

    failed: dict[str, str] = {}
    done: dict[str, dict[str, Any]] = {}
    for month in track(months, description="months", transient=True):
        target = out / f"{month}.parquet"
        current = described(wanted, made_from[month])
        if not is_made(target, current):
            files.manifest_path(target).unlink(missing_ok=True)
            target.unlink(missing_ok=True)  # made from something else: better none than one that passes for this
            try:
                files.write_with_manifest(target, partial(filled, month, current))
            except UserError as error:
                failed[month] = str(error)
                continue
            except RuntimeError as error:
                if "interrupt" in str(error).lower():  # so DuckDB passes on a Ctrl-C
                    raise KeyboardInterrupt from None
                raise
        done[month] = files.read_manifest(target) or {}
    show(done, out)
    if failed:
        raise UserError("; ".join(f"{month} failed: {why}" for month, why in failed.items()) + f"; {len(done)} other months are done")


def show(done: dict[str, dict[str, Any]], out: Path) -> None:
    """The pairs of each month, and all that gave none."""
    if not done:
        return
    total = sum(manifest["rows"] for manifest in done.values())
    cross = sum(manifest["cross_month"] for manifest in done.values())
    table = Table("month", "pairs", "to an earlier month's", "no pair", title="reply pairs", box=None)
    for month, manifest in done.items():
        table.add_row(month, f"{manifest['rows']:,}", f"{manifest['cross_month']:,}", f"{sum(manifest['dropped'].values()):,}")
    Console().print(table)
    dropped: Counter[str] = sum((Counter(manifest["dropped"]) for manifest in done.values()), Counter())
    for prefix, what in (("RC", "comment"), ("RS", "submission")):
        lines: Counter[str] = sum((Counter(manifest["lines"].get(prefix, {})) for manifest in done.values()), Counter())
        if lines:
            print(f"{lines['read']:,} lines in the months' own {what} dumps: {dumps.counted(lines) or 'all usable'}")
    print("replies that give no pair:", dumps.counted(dropped) or "none")
    share = f", {cross / total:.1%} of them to a comment of an earlier month" if total else ""
    print(f"{total:,} reply pairs from {len(done)} months in {out}{share}")


def load(folder: Path, months: list[str], staging: Path, settings: config.BigQuerySettings) -> None:
    """Put each dump of these months into BigQuery as a table of its own; those that are there with as many rows are kept."""
    from bot.corpus import bigquery

    found = [
        (kind, month, path) for month in months for kind in (dumps.COMMENTS, dumps.SUBMISSIONS) if (path := dumps.find(folder, kind, month))
    ]
    if not found:
        raise UserError(f"{folder}: no RC_YYYY-MM.zst or RS_YYYY-MM.zst between {months[0]} and {months[-1]}")
    with bigquery.explained(settings):
        client = bigquery.connect(settings)
        for kind, month, path in track(found, description="loading", transient=True):
            parquet = dumps.as_one_file(path, staging, kind)
            try:
                print(bigquery.load(client, settings, kind, month, parquet, dumps.version(path)))
            finally:
                parquet.unlink()
