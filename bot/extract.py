"""extract: years of Reddit -> one Parquet file of reply pairs a month.

Reads  a folder of monthly dumps (`RC_YYYY-MM.zst`, `RS_YYYY-MM.zst`).
Writes OUT/YYYY-MM.parquet (columns of schema.Pair) and its manifest.

    python -m bot.extract --source dumps --dumps DIR --from 2017-01 --to 2018-12 --out data/raw_data

`--from` and `--to` bound the month of the reply. Months that are there already, made from the same files with the same settings, are kept.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from bot import UserError, run_command, schema
from bot.warehouse import dumps as warehouse


class Source(StrEnum):
    dumps = "dumps"


class Parents(StrEnum):
    comment = "comment"
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
    dumps: Annotated[Path, typer.Option(help="folder with RC_YYYY-MM.zst (comments) and RS_YYYY-MM.zst (submissions)")],
    first: Annotated[str, typer.Option("--from", help="first month of the replies, YYYY-MM")],
    last: Annotated[str, typer.Option("--to", help="last month of the replies, YYYY-MM")],
    source: Annotated[Source, typer.Option(help="where the text lies")] = Source.dumps,
    out: Annotated[Path, typer.Option(help="folder for YYYY-MM.parquet")] = Path("data/raw_data"),
    subreddit: Annotated[list[str] | None, typer.Option(help="may be given several times; none means all")] = None,
    lookback_months: Annotated[int, typer.Option(min=0, help="how many months older than its reply a comment may be")] = 6,
    parents: Annotated[Parents, typer.Option(help="what can be replied to: comments, or submissions too")] = Parents.comment,
    drop_deleted_authors: Annotated[bool, typer.Option(help="leave out texts whose author is gone")] = False,
) -> None:
    """Extract comment -> reply pairs from monthly dumps, one Parquet file a month."""
    months = months_between(first, last)
    if not dumps.is_dir():
        raise UserError(f"{dumps}: no such folder; --dumps names the one that holds RC_YYYY-MM.zst")
    absent = [month for month in months if not (dumps / f"RC_{month}.zst").exists()]
    months = [month for month in months if month not in absent]
    if not months:
        raise UserError(f"{dumps}: no RC_YYYY-MM.zst between {first} and {last}")
    if absent:
        print(f"{len(absent)} month{'s' * (len(absent) > 1)} without an RC_YYYY-MM.zst, left out: {spans(absent)}")
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for month in track(months, description="months", transient=True):
        target = out / f"{month}.parquet"
        window = [warehouse.add_months(month, -back) for back in range(lookback_months + 1)]
        files = [path for each in window for path in (dumps / f"RC_{each}.zst", dumps / f"RS_{each}.zst") if path.exists()]
        made_from = {
            "files": {path.name: path.stat().st_size for path in files},
            "subreddits": sorted(name.lower() for name in subreddit or []),
            "lookback_months": lookback_months,
            "parents": parents.value,
            "drop_deleted_authors": drop_deleted_authors,
        }
        if schema.is_current(target, made_from):
            count = int((schema.read_manifest(target) or {})["rows"])
        else:
            schema.manifest_path(target).unlink(missing_ok=True)
            count = warehouse.extract_month(
                dumps, month, lookback_months, subreddit or [], parents is Parents.both, drop_deleted_authors, out / ".staged", target
            )
            schema.write_manifest(target, count, made_from)
        total += count
    print(f"{total:,} reply pairs from {len(months)} months in {out}")


if __name__ == "__main__":
    run_command(main, "python -m bot.extract")
