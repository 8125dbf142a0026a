"""purge: remove every trace of comments that were deleted on Reddit.

Reads  FILE: one fullname per line, t1_… (comment or reply; abc alone means t1_abc) or t3_… (whole thread); blank lines and # lines are
       skipped. And every CSV and Parquet file under --data and each --also, at any depth.
Writes these files and their manifests again, without the rows that contain one of the ids. Files without such rows are not touched.
       gpt2_finetune.csv, which has no ids, is created again from the lm_train.csv beside it. Deletes pages of `report` and
       .part files of `generate` that contain one of the ids, the cache `.staged` of `extract`, the score files of `evaluate`, and
       temporary files of killed stages.

    python run_bot.py purge --ids FILE
    python run_bot.py purge --ids FILE --also /elsewhere/run --dry-run
    python run_bot.py purge --gone --config my.toml

--gone looks up all comments in the comments.csv, context.csv and harvest.csv of these folders on Reddit, a hundred per call, and purges
those that were deleted or removed there; comments of the local sandbox are looked up in the sandbox. Run `purge` while no other stage uses
these folders; after a kill, run it again to finish. Files that cannot be searched are not changed and are listed in the error at the end.
Dumps, BigQuery tables, trained models and the sandbox's own database are not changed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from bot import cli, config, files, schema, text
from bot.cli import UserError
from bot.corpus.extract import STAGED
from bot.files import FileError
from bot.posting.gone import gone_ids
from bot.rankers import score
from bot.reddit import client as reddit
from bot.schema import FinetuneText

LISTED = 8  # names in a message
ID_COLUMNS = ("comment_id", "reply_id", "parent_id", "thread_id", "chosen_id", "rejected_id")
FINETUNE, LM_TRAIN, PAGE, SPREADSHEET = "gpt2_finetune.csv", "lm_train.csv", "report.html", "for_spreadsheet.csv"
NOTHING = """
    .gitkeep metrics.json summary.txt log.jsonl sandbox.sqlite sandbox.sqlite-shm sandbox.sqlite-wal sandbox.log sandbox.url STOP
    ledger.sqlite ledger.sqlite-shm ledger.sqlite-wal ledger.sqlite.lock ledger.run.lock ledger.backup.jsonl
    web.json web.json.lock approvals.csv.lock blocks.lock
    comment_lines.csv reply_lines.csv README.md
"""  # files without text of real people, except for the ledger, which `forget` handles; the sandbox and data/conduct are invented
KINDS = {
    FINETUNE: "finetune",
    PAGE: "page",
    SPREADSHEET: "page",
    files.RUN_LOCK: "lock",
    "ranked_pairs.csv": "without ids",
} | dict.fromkeys(NOTHING.split(), "nothing")
SCORES = "scores"  # folder of the score files of `evaluate` and `train weights`, which have texts but no ids
FULLNAME = re.compile(r"t[13]_[0-9a-z]+")
BATCH_ROWS = 20_000  # rows of a Parquet file in memory at a time


# --- the ids and the files ----------------------------------------------------------------------------------------------


def parse_ids(lines: Iterable[str], where: str) -> set[str]:
    """Fullnames, one per line. where: the source of the lines, for errors.

    >>> sorted(parse_ids(["# deleted", "t1_abc", "", " def ", "t3_abc"], "ids.txt"))
    ['t1_abc', 't1_def', 't3_abc']
    """
    ids = set()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        name = line if "_" in line else f"t1_{line}"
        if not FULLNAME.fullmatch(name):
            raise UserError(f"{where}: line {number}: {line[:40]!r} is not an id; write t1_abc (comment or reply) or t3_abc (thread)")
        ids.add(name)
    return ids


def kind(path: Path) -> str:
    """What purge does with a file, judged by its name.

    >>> [kind(Path(name)) for name in ("lm_train.csv", ".lm_train.csv.tmp", "fakes.csv.part", "sandbox.sqlite", "RC_2017-01.zst")]
    ['table', 'leftover', 'part', 'nothing', 'other']
    >>> kind(Path("data/conduct/reply_lines.csv")), kind(Path("ranked_pairs.csv"))
    ('nothing', 'without ids')
    """
    name = path.name
    if files.is_temporary(path):
        return "leftover"
    if name.endswith(".manifest.json"):
        return "nothing"
    by_suffix = {".csv": "table", ".parquet": "table", ".part": "part"}
    return KINDS.get(name) or by_suffix.get(path.suffix.lower(), "other")


def files_in(folders: Iterable[Path], ids_file: Path | None, problems: list[str]) -> dict[str, list[Path]]:
    """All files under the folders except ids_file, by kind, each once, as its real path. `STAGED`: the caches, whose files are not listed.

    Links are followed, so that a raw_data folder on another disk is also searched.
    """
    tree: dict[str, set[Path]] = defaultdict(set)
    seen: set[Path] = set()

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    for top in folders:
        for name, folders_in_it, names in os.walk(top.resolve(), followlinks=True, onerror=unreadable):
            folder = Path(name).resolve()
            if folder in seen:
                folders_in_it.clear()
                continue
            seen.add(folder)
            if STAGED in folders_in_it:
                folders_in_it.remove(STAGED)
                tree[STAGED].add(folder / STAGED)
            for path in (folder / each for each in names):
                if ids_file is None or path.resolve() != ids_file.resolve():
                    tree[kind(path)].add(path.resolve())
    return defaultdict(list, {each: sorted(paths) for each, paths in tree.items()})


# --- searching ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Held:
    """The ids that a table contains. of_threads: the comments in its rows that belong to purged threads."""

    rows: int = 0
    removed: int = 0
    ids: set[str] = field(default_factory=set)
    of_threads: set[str] = field(default_factory=set)


def look(columns: list[str], rows: Iterable[list[Any]], ids: set[str]) -> Held:
    """Search rows for the ids. rows: for each row, the cells of `columns`.

    >>> held = look(["comment_id", "thread_id"], [["t1_a", "t3_x"], ["t1_b", "t3_y"], ["t1_c", "t3_x"]], {"t3_y", "t1_c"})
    >>> held.rows, held.removed, held.of_threads
    (3, 2, {'t1_b'})
    """
    held = Held()
    for cells in rows:
        held.rows += 1
        if ids.isdisjoint(cells):
            continue
        held.removed += 1
        held.ids |= ids.intersection(cells)
        named = dict(zip(columns, cells, strict=True))
        if named.get("thread_id") in ids and named.get("comment_id"):  # an empty cell would match in every file
            held.of_threads.add(named["comment_id"])
    return held


def columns_of(path: Path) -> list[str]:
    """The columns of a CSV or Parquet file."""
    if path.suffix.lower() == ".parquet":
        with schema.open_parquet(path) as file:
            return list(file.schema_arrow.names)
    return next(schema.read_cells(path))


def is_score_file(path: Path) -> bool:
    """Whether a CSV is a score file of `evaluate` or `train weights` (rankers.score_files): in a folder `scores`, with a manifest, and with
    texts but no ids. A person's own table in such a folder is searched like any other.
    """
    if path.parent.name != SCORES or path.suffix.lower() != ".csv" or not files.manifest_path(path).exists():
        return False
    first, *more = columns_of(path)
    return [first, *more[:1]] == ["comment", "reply"] and set(more[1:]) <= {*score.SCORES, "cosine", "log_likelihood"}


def id_columns(path: Path) -> list[str]:
    """The ID_COLUMNS that a table has. Raises FileError if it has none, since its content cannot be checked then."""
    columns = [name for name in columns_of(path) if name in ID_COLUMNS]
    if not columns:
        raise FileError(f"{path}: has none of the columns {', '.join(ID_COLUMNS)}; delete it or keep it elsewhere")
    return columns


def cells_of(path: Path, columns: list[str]) -> Iterator[list[Any]]:
    """The cells of `columns`, row by row."""
    if path.suffix.lower() == ".parquet":
        with schema.open_parquet(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield from _rows(batch, columns)
        return
    rows = schema.read_cells(path)
    header = next(rows)
    places = [header.index(column) for column in columns]
    for cells in rows:
        yield [cells[place] for place in places]


def names_in(path: Path) -> set[str]:
    """Every fullname in a text file.

    A page or a .part contains the fullname of each comment whose text or candidates it contains.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        return {name for line in file for name in FULLNAME.findall(line)}


def check_finetune(path: Path, train: Held | None) -> None:
    """Check that gpt2_finetune.csv was made from the lm_train.csv beside it, which has the ids. train: what lm_train.csv contains.

    Raises:
        FileError: there is no lm_train.csv, or it is not the one that this file was made from.
    """
    source = path.with_name(LM_TRAIN)
    if not source.exists():
        raise FileError(f"{path}: there is no {LM_TRAIN} beside it, so its ids are unknown; run `prepare` again, or delete it")
    if train is None or train.removed:
        return  # lm_train.csv already has an error, or both files will be written again
    rows = sum(1 for _ in schema.read_cells(path)) - 1
    files.check_manifest(path, rows)
    manifest, other = files.read_manifest(path), files.read_manifest(source)
    if rows != train.rows or (manifest and other and manifest["made_from"] != other["made_from"]):
        raise FileError(f"{path}: not made from the {LM_TRAIN} beside it, so its ids are unknown; run `prepare` again, or delete it")


# --- writing ------------------------------------------------------------------------------------------------------------


def kept_cells(path: Path, ids: set[str]) -> Iterator[list[str]]:
    """The header of a CSV file, then its rows without any of the ids."""
    rows = schema.read_cells(path)
    header = next(rows)
    places = [place for place, name in enumerate(header) if name in ID_COLUMNS]
    yield header
    for cells in rows:
        if ids.isdisjoint([cells[place] for place in places]):
            yield cells


def kept_batches(file: pq.ParquetFile, ids: set[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file without any of the ids, in order."""
    columns = [name for name in file.schema_arrow.names if name in ID_COLUMNS]
    for batch in file.iter_batches(BATCH_ROWS):
        yield batch.filter(pa.array([ids.isdisjoint(cells) for cells in _rows(batch, columns)], pa.bool_()))


def write_finetune(train: Path, ids: set[str]) -> None:
    """gpt2_finetune.csv as `prepare` makes it, from the rows of lm_train.csv without any of the ids."""
    rows = kept_cells(train, ids)
    header = next(rows)
    if missing := {"comment", "reply"} - set(header):
        raise FileError(f"{train}: expected column {', '.join(sorted(missing))}, found {', '.join(header)}; run `prepare` again")
    comment, reply = header.index("comment"), header.index("reply")
    texts = ([text.format_training_text(cells[comment], cells[reply])] for cells in rows)
    path = train.with_name(FINETUNE)
    schema.write_cells(path, schema.columns_of(FinetuneText), texts, files.read_manifest(path))


def delete_staged(folder: Path) -> None:
    """Delete the cache of `extract`. Its index is deleted first, so that after a kill the rest is not mistaken for a cache."""
    for note in folder.glob("*/staged.json"):
        note.unlink()
    shutil.rmtree(folder.resolve())
    if folder.is_symlink():
        folder.unlink()


def delete_scores(path: Path) -> None:
    """Delete a score file and its manifest."""
    files.manifest_path(path).unlink(missing_ok=True)
    path.unlink()


# --- purge --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One file to change. what: the message; do: makes the change; rows: number of rows to remove; ids: those that the file contains."""

    path: Path
    what: str
    do: Callable[[], object]
    rows: int = 0
    ids: frozenset[str] = frozenset()


def search(tables: Iterable[Path], ids: set[str], problems: list[str]) -> tuple[dict[Path, Held], set[str]]:
    """The ids in each table, in the order in which to write the tables; and all ids, including the comments of purged threads.

    Tables of candidates have comment_id but not thread_id; tables with both columns show which comments belong to a purged thread. The
    latter are read first and written last, so that this information is still available after a kill.
    """
    columns: dict[Path, list[str]] = {}
    for path in tables:
        with noted(problems, path):
            columns[path] = id_columns(path)
    wanted = set(ids)
    held: dict[Path, Held] = {}
    for with_thread in (True, False):
        these = [path for path in columns if ("thread_id" in columns[path]) is with_thread]
        looking_for = ids if with_thread else wanted
        for path in cli.track(these, "searching"):
            with noted(problems, path):
                held_here = look(columns[path], cells_of(path, columns[path]), looking_for)
                files.check_manifest(path, held_here.rows)
                wanted |= held_here.of_threads
                held[path] = held_here
    return dict(reversed(held.items())), wanted


def plan(tree: dict[str, list[Path]], ids: set[str], problems: list[str]) -> list[Step]:
    """All changes, in an order that may be interrupted at any point: files made from a table are changed before the table."""
    scores: list[Path] = []
    for path in tree["table"]:
        with noted(problems, path):
            scores += [path] if is_score_file(path) else []
    held, wanted = search([path for path in tree["table"] if path not in scores], ids, problems)
    for path in tree["finetune"]:
        with noted(problems, path):
            check_finetune(path, held.get(path.with_name(LM_TRAIN)))
    touched = {path.parent for path, each in held.items() if each.removed}
    steps = []
    for path in [*tree["part"], *tree["page"]]:
        with noted(problems, path):
            names = names_in(path)
            of_report = kind(path) == "page"
            if not wanted.isdisjoint(names) or (of_report and path.parent in touched):
                maker = f"`python run_bot.py report --run {shown(path.parent)}`" if of_report else "`generate`"
                steps.append(Step(path, f"deleted; {maker} creates it again", path.unlink, ids=frozenset(ids & names)))
    steps += [Step(path, "deleted; left over from a killed stage", path.unlink) for path in tree["leftover"] if path.exists()]
    steps += [Step(path, "deleted; a cache that `extract` creates again", partial(delete_staged, path)) for path in tree[STAGED]]
    steps += [Step(path, "deleted; a score file that `evaluate` creates again", partial(delete_scores, path)) for path in scores]
    for path, each in held.items():
        if each.removed:
            with_finetune = path.name == LM_TRAIN and path.with_name(FINETUNE).exists()
            what = f"{each.removed:,} of {each.rows:,} rows removed" + f"; {FINETUNE} created again from it" * with_finetune
            do = partial(remove_rows, path, wanted, with_finetune)
            steps.append(Step(path, what, do, each.removed, frozenset(each.ids & ids)))
    return steps


def remove_rows(path: Path, ids: set[str], with_finetune: bool) -> None:
    """Write a table again without the rows that contain one of the ids. Only rows and checksum change in its manifest."""
    if with_finetune:  # before lm_train.csv, whose rows show that this is necessary
        write_finetune(path, ids)
    manifest = files.read_manifest(path)
    if path.suffix.lower() == ".parquet":
        with schema.open_parquet(path) as file:
            schema.write_batches(path, file.schema_arrow, kept_batches(file, ids), manifest)
    else:
        header, rows = next(cells := kept_cells(path, ids)), cells
        schema.write_cells(path, header, rows, manifest)


@contextmanager
def noted(problems: list[str], path: Path) -> Iterator[None]:
    """Record a problem with one file, and continue with the others."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{path}: {error.strerror or str(error).splitlines()[0]}")


def shown(path: Path) -> str:
    """A path as a person would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def listed(names: list[str]) -> str:
    """
    >>> listed([str(number) for number in range(10)])
    '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
    """
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")


def _rows(batch: pa.RecordBatch, columns: list[str]) -> Iterator[list[Any]]:
    return map(list, zip(*(batch.column(name).to_pylist() for name in columns), strict=True))


def purge_command(
    ids_file: Annotated[
        Path | None, typer.Option("--ids", metavar="FILE", help="one id per line: t1_… a comment or reply, t3_… a whole thread")
    ] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="folder to search, with all its subfolders")] = Path("data"),
    also: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="another such folder; may be repeated")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be removed")] = False,
    gone: Annotated[bool, typer.Option("--gone", help="purge stored comments that are deleted on Reddit: of runs, harvest, judge")] = False,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings, for --gone")] = None,
) -> None:
    """Remove every trace of comments, replies and threads from extracts, prepared files and run folders."""
    folders = [data, *(also or [])]
    check_folders(folders)
    if (ids_file is None) is not gone:
        raise UserError("no comments given: use --ids FILE, or --gone for those that are deleted on Reddit")
    problems: list[str] = []
    if ids_file is not None:
        ids, where = read_ids(ids_file), str(ids_file)
    else:
        tables = files_in(folders, None, problems)["table"]
        ids, where = gone_ids(reddit.connect(config.load(config_file).reddit), tables, problems), "Reddit"
    if ids:
        problems += purge_files(ids, folders, dry_run, ids_file)
    else:
        print(f"{where}: {'contains no ids' if ids_file else 'shows all of these comments'}; nothing to do")
    if problems := list(dict.fromkeys(problems)):
        raise UserError(f"{len(problems)} not purged, which may contain traces: {'; '.join(problems)}")


def read_ids(path: Path) -> set[str]:
    """Read the file of --ids. Raises UserError if it cannot be read, or has a line that is not an id."""
    try:
        return parse_ids(path.read_text(encoding="utf-8-sig").splitlines(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"{path}: can't be read ({reason}); --ids takes a text file with one id per line") from None


def check_folders(folders: Iterable[Path]) -> None:
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UserError(f"{', '.join(absent)}: no such folder; --data and --also take folders to search")


def purge_files(ids: set[str], folders: Sequence[Path], dry_run: bool = False, ids_file: Path | None = None) -> list[str]:
    """Remove every trace of the ids from all files in the folders except ids_file. Prints what is done.

    Returns the problems with files that could not be searched; everything else was done.

    Raises:
        Busy: a run is in progress in one of the folders; nothing was done.
    """
    problems: list[str] = []
    tree = files_in(folders, ids_file, problems)
    done: list[Step] = []
    with ExitStack() as stack:
        if dry_run:
            print("dry run; nothing is changed:")
        else:
            for lock in tree["lock"]:
                stack.enter_context(files.run_folder(lock.parent))
            for note in tree["leftover"]:
                files.finish(note.with_name(note.name[1:].removesuffix(".manifest.json.tmp")))
            tree = files_in(folders, ids_file, [])  # including the files that were just written
        for step in plan(tree, ids, problems):
            with noted(problems, step.path):
                if not dry_run:
                    step.do()
                print(f"{shown(step.path)}: {step.what}")
                done.append(step)
    print(f"{sum(step.rows for step in done):,} rows removed from {sum(step.rows > 0 for step in done)} of {len(tree['table'])} files")
    if nowhere := sorted(ids.difference(*(step.ids for step in done))):
        print(f"{len(nowhere):,} of {len(ids):,} ids not in any file: {listed(nowhere)}")
    if tree["without ids"]:
        print(f"not searched, because they have no ids: {listed([shown(path) for path in tree['without ids']])}")
    if tree["other"]:
        print(f"not searched, neither CSV nor Parquet: {listed([shown(path) for path in tree['other']])}")
    print(
        "not changed: dumps and BigQuery tables (a new extraction brings the rows back: purge again), and models trained on the text before"
    )
    return problems
