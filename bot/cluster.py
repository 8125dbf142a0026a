"""Compute blocks of rows on a Ray cluster, for `generate` and `score` with --cluster.

    python -m pip install -r requirements-cluster.txt                                       on every machine
    python run_bot.py generate --cluster local --in comments.parquet --out fakes.parquet    a Ray of its own on this machine
    python run_bot.py score --cluster 10.0.0.5:6379 --in fakes.parquet --out scores.csv     a cluster, from one of its machines

Reads  CSV and Parquet files, and folders of Parquet files. A CSV file is read into memory, Parquet in batches.
Writes OUT, CSV or Parquet depending on its name, and its manifest. Finished blocks are kept as Parquet files in `OUT.blocks`, from which
       the same command resumes; the folder is deleted when OUT is complete.

Each machine with CPUs has one worker, which loads the models once and uses all CPUs and GPUs, as on one machine. Machines may join and
leave: the block of a worker that dies is computed again by another. Only this process writes, and it writes each block once, so no row is
lost or doubled. The project and its models must have the same paths on all machines; variables that begin with BOT_ are passed on.

Plain actors are used instead of Ray Data. In Ray 2.60 its checkpoints are in an alpha version, find rows by a column of ids (`score` needs
none), and are read into memory as a whole; a write of several files is not complete at once; and blocks do not keep their rows.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from bot import cli, files, schema
from bot.cli import UserError, progress_bar
from bot.files import FileError

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

Row = dict[str, Any]
Work = Callable[[list[Row]], list[Row]]  # computes a block

MAX_DEATHS = 3  # of workers: with the same block, or while starting on the same machine
READ_ROWS = 10_000  # rows of a Parquet file in memory at a time
LISTED = 8  # blocks in a message
OBJECT_STORE_BYTES = 128 * 2**20  # of `local`; Ray's default is a third of the memory, and a block has less than a megabyte
POLL_SECONDS = 5.0
CONNECT_SECONDS = 10.0
NOTE, LOCK = "blocks.manifest.json", "blocks.lock"

Address = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS|local", help="compute on the machines of a Ray cluster, or on a local Ray")
]


class Job(NamedTuple):
    """What to compute."""

    rows: Callable[[], Iterator[Row]]  # the input, the same for each call
    input_rows: int  # their number
    load: Callable[[], Work]  # called once by each worker: loads the models
    columns: pa.Schema  # of the computed rows
    block_rows: int


Section = TypeVar("Section", bound="BaseModel")


def with_absolute_paths(settings: Section) -> Section:
    """The same settings, also valid in another working folder, such as that of a worker."""
    return settings.model_copy(update={name: value.absolute() for name, value in settings if isinstance(value, Path)})


# --- tables ---------------------------------------------------------------------------------------------------------------


def tables(sources: Sequence[Path], out: Path) -> list[Path]:
    """The files to read: the sources, and the Parquet files in those that are folders.

    Raises:
        UserError: a folder has none, a name does not end with .csv or .parquet, or standard input or output is given.
    """
    parts: list[Path] = []
    for source in sources:
        within = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not within:
            raise UserError(f"{source}: no Parquet files in this folder; give another one, or files")
        parts += within
    for path in [*parts, out]:
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise UserError(f"{path}: with --cluster the names of tables end with .csv or .parquet; give another name")
    return parts


def is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def columns_of(path: Path, texts: Sequence[str]) -> pa.Schema:
    """The columns of a table and their types; those of CSV are text. Raises FileError if one of `texts` is missing or not text."""
    import pyarrow as pa

    if is_parquet(path):
        if not path.exists():
            raise FileError(f"{path}: no such file; check the path")
        with schema.open_parquet(path) as file:
            columns = file.schema_arrow
    else:
        columns = pa.schema([(name, pa.string()) for name in next(schema.read_cells(path))])
    if duplicates := {name for name in columns.names if columns.names.count(name) > 1}:
        raise FileError(f"{path}: column {schema.one_line(min(duplicates))} occurs more than once; rename one")
    for name in texts:
        if name not in columns.names:
            raise FileError(f"{path}: expected column {name}, found {schema.one_line(', '.join(columns.names))}; rename or add it")
        kind = columns.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise FileError(f"{path}: column {name} has the type {kind}, expected text; convert it")
    return columns


def count_rows(path: Path) -> int:
    if not is_parquet(path):
        return len(schema.read_table(path)[1])
    with schema.open_parquet(path) as file:
        return int(file.metadata.num_rows)


def rows_of(path: Path, texts: Sequence[str], names: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a table that `columns_of` has checked. texts: columns in which a null becomes empty. names: the columns to read."""
    if not is_parquet(path):
        yield from schema.read_table(path, texts)[1]
        return
    with schema.open_parquet(path) as file:
        files.check_manifest(path, file.metadata.num_rows)
        for batch in file.iter_batches(READ_ROWS, columns=names):
            try:
                rows = batch.to_pylist()
            except (ValueError, OverflowError) as error:  # Python has no time that late or early
                raise FileError(f"{path}: a value cannot be read ({cli.first_line(error)}); leave out its column") from None
            for row in rows:
                yield row | {name: row[name] or "" for name in texts}


# --- blocks ---------------------------------------------------------------------------------------------------------------


@dataclass
class Block:
    """number: from 0. deaths: of workers that were computing it."""

    number: int
    rows: list[Row]
    deaths: int = 0


def blocks_of(rows: Iterable[Row], size: int, finished: frozenset[int] | set[int] = frozenset()) -> Iterator[Block]:
    """Split rows into blocks, without the finished ones.

    >>> [(block.number, len(block.rows)) for block in blocks_of([{}] * 5, 2, {1})]
    [(0, 2), (2, 1)]
    """
    left, number = iter(rows), 0
    while block := list(islice(left, size)):
        if number not in finished:
            yield Block(number, block)
        number += 1


def compute(address: str, out: Path, job: Job, made_from: Mapping[str, Any], **extra: Any) -> int:
    """Compute all blocks and write `out`. Returns the number of rows. Resumes from `OUT.blocks`. extra: further fields of the manifest.

    Raises:
        UserError: Ray is not installed, there is no such cluster, no worker starts, or blocks failed; the others are then finished.
    """
    total = -(-job.input_rows // job.block_rows)
    failed: dict[int, str] = {}
    with block_folder(out, made_from) as folder:
        paths = [folder / f"{number:06d}.parquet" for number in range(total)]
        finished = {number for number, path in enumerate(paths) if path.exists()}
        if finished:
            print(f"resuming after {len(finished):,} of {total:,} blocks")
        if len(finished) < total:
            with connected(address) as ray, progress_bar() as progress:
                task = progress.add_task("blocks", total=total, completed=len(finished))
                for number, result in Workers(ray, job.load).computed(blocks_of(job.rows(), job.block_rows, finished)):
                    if isinstance(result, str):
                        failed[number] = result
                    else:
                        write_block(paths[number], job.columns, result)
                    progress.advance(task)
        if failed:
            listed = "; ".join(f"{number} ({reason})" for number, reason in sorted(failed.items())[:LISTED])
            more = f"; and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
            raise UserError(
                f"{len(failed)} of {total} blocks failed: {listed}{more}. The others are kept in {folder}; repeat the command to compute"
                f" those that failed (block N has the rows from N × {job.block_rows} + 1)"
            )
        return join(out, paths, job.columns, made_from, extra)


@contextmanager
def block_folder(out: Path, made_from: Mapping[str, Any]) -> Iterator[Path]:
    """The folder `OUT.blocks`, locked, without blocks that were made from something else. Deleted at the end, unless there is an error.

    Raises:
        FileError: it exists, and this project did not write it.
        Busy: another process uses it.
    """
    folder = out.with_name(out.name + ".blocks")
    if (
        folder.is_symlink()
        or (folder.exists() and not folder.is_dir())
        or (folder.is_dir() and any(folder.iterdir()) and not is_ours(folder))
    ):
        raise FileError(f"{folder}: already exists, and this project did not write it; move it or give another output")
    folder.mkdir(parents=True, exist_ok=True)
    with files.lock(folder / LOCK, f"{out}: another process is writing it; wait for it, or give another name"):
        note, content = folder / NOTE, json.dumps(made_from, indent=1, sort_keys=True) + "\n"
        if not note.exists() or note.read_text(encoding="utf-8") != content:
            clear(folder)
            with files.atomic_writer(note) as file:
                file.write(content)
        yield folder
        clear(folder)
        shutil.rmtree(folder)


def clear(folder: Path) -> None:
    """Delete all but the lock, which marks the folder as ours if this is interrupted."""
    for path in folder.iterdir():
        if path.name != LOCK:
            files.remove(path)


def is_ours(folder: Path) -> bool:
    return (folder / LOCK).exists()


def write_block(path: Path, columns: pa.Schema, rows: list[Row]) -> None:
    import pyarrow as pa

    schema.write_batches(path, columns, [pa.RecordBatch.from_pylist(rows, schema=columns)], None)


def join(out: Path, paths: list[Path], columns: pa.Schema, made_from: Mapping[str, Any], extra: Mapping[str, Any]) -> int:
    """Write the rows of all blocks, in order, and the manifest. Returns the number of rows."""

    def batches() -> Iterator[pa.RecordBatch]:
        for path in paths:
            with schema.open_parquet(path) as file:
                yield from file.iter_batches()

    if is_parquet(out):
        return schema.write_batches(out, columns, batches(), {"made_from": dict(made_from), **extra})
    return schema.write_table(out, columns.names, (row for batch in batches() for row in batch.to_pylist()), made_from, **extra)


# --- workers --------------------------------------------------------------------------------------------------------------


class Worker:
    """The process of a machine, as a Ray actor."""

    def start(self, load: Callable[[], Work]) -> None:
        self.work = load()

    def compute(self, rows: list[Row]) -> list[Row]:
        return self.work(rows)


@dataclass
class Workers:
    """One worker per machine. A machine is left out if its worker cannot start."""

    ray: Any
    load: Callable[[], Work]
    actors: dict[str, Any] = field(default_factory=dict)  # by id of the machine
    running: dict[Any, tuple[str, Block | None]] = field(default_factory=dict)  # what a worker does, by the reference to its result
    again: deque[Block] = field(default_factory=deque)  # blocks whose worker died
    deaths: Counter[str] = field(default_factory=Counter)  # of workers that were starting, by machine
    left_out: dict[str, str] = field(default_factory=dict)  # machine -> why
    has_started: bool = False  # a worker did

    def computed(self, blocks: Iterator[Block]) -> Iterator[tuple[int, list[Row] | str]]:
        """Yield the number of each block with its rows, or with the reason why it failed, as soon as it is computed.

        Raises UserError if no worker starts on any machine. If one did, and its machine died, another machine is waited for.
        """
        upcoming, is_waiting = next(blocks, None), False
        while upcoming or self.again or any(block for _, block in self.running.values()):
            if upcoming or self.again:
                self.start()
            if not self.running:
                if self.left_out and not self.has_started:
                    raise UserError(f"no worker is left: {'; '.join(sorted(set(self.left_out.values())))}")
                if not is_waiting:
                    cli.say("waiting for a machine with CPUs")
                is_waiting = True
                time.sleep(POLL_SECONDS)
                continue
            for reference in self.ray.wait([*self.running], timeout=POLL_SECONDS)[0]:
                machine, block = self.running.pop(reference)
                result = self.result(machine, block, reference)
                self.has_started |= machine in self.actors
                if machine in self.actors and (following := self.again.popleft() if self.again else upcoming):
                    if following is upcoming:
                        upcoming = next(blocks, None)
                    self.running[self.actors[machine].compute.remote(following.rows)] = machine, following
                else:
                    self.stop(machine)  # nothing to do; it is started again if another worker dies
                if block and result is not None:
                    yield block.number, result

    def start(self) -> None:
        """Start a worker on each machine that has none."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for node in self.ray.nodes():
            machine, has = node["NodeID"], node["Resources"]
            if node["Alive"] and has.get("CPU") and machine not in self.left_out and machine not in self.actors:
                where = NodeAffinitySchedulingStrategy(machine, soft=False)
                needs = {"num_cpus": has["CPU"], "num_gpus": has.get("GPU", 0), "max_restarts": 0, "scheduling_strategy": where}
                self.actors[machine] = self.ray.remote(Worker).options(**needs).remote()
                self.running[self.actors[machine].start.remote(self.load)] = machine, None

    def result(self, machine: str, block: Block | None, reference: Any) -> list[Row] | str | None:
        """The rows of a block, the reason why it failed, or None if there is neither, because it will be computed again or was no block."""
        try:
            rows: list[Row] | None = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # raised by the project's code
            cause = error.cause or error
            reason = cli.first_line(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {cli.first_line(cause)}"
            if block is None:
                self.leave_out(machine, reason)
            return reason
        except self.ray.exceptions.RayError as error:  # the worker, its machine or the connection died
            self.stop(machine)
            if block is None:
                self.deaths[machine] += 1
                if self.deaths[machine] >= MAX_DEATHS:
                    self.leave_out(machine, f"its worker died {MAX_DEATHS} times when it started ({cli.first_line(error)})")
                return None
            block.deaths += 1
            if block.deaths >= MAX_DEATHS:
                return f"{MAX_DEATHS} workers died while computing it ({cli.first_line(error)})"
            self.again.append(block)
            return None
        return rows

    def stop(self, machine: str) -> None:
        if actor := self.actors.pop(machine, None):
            self.ray.kill(actor)  # it may live behind a broken connection

    def leave_out(self, machine: str, reason: str) -> None:
        self.stop(machine)
        self.left_out[machine] = reason
        cli.say(f"machine {machine[:8]} is left out: {reason}")


def check_address(address: str) -> None:
    """Raises UserError if nothing answers there: Ray would try for minutes."""
    if address == "local":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise _no_cluster(address, "not of the form HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_cluster(address, cli.first_line(error)) from None


def _no_cluster(address: str, why: str) -> UserError:
    return UserError(f"no Ray cluster at {address} ({why}); start one with `ray start --head`, or check the address")


def variables_of_workers() -> dict[str, str]:
    """The environment variables that workers get, which everybody in the cluster can read: settings, but not those of Reddit and `web`."""
    settings = {name: value for name, value in os.environ.items() if name.upper().startswith("BOT_")}
    passed = {name: value for name, value in settings.items() if not name.upper().startswith(("BOT_REDDIT__", "BOT_WEB__"))}
    if bases := passed.get("BOT_BASES"):
        passed["BOT_BASES"] = str(Path(bases).absolute())  # workers run in another folder
    return {**passed, "PYTHONPATH": cli.with_root(os.environ)["PYTHONPATH"]}


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`, or to a new one on this machine (`local`), which ends with this process.

    Raises UserError if Ray is not installed or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics to its makers
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("--cluster needs Ray; install it with `python -m pip install -r requirements-cluster.txt`") from None
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables_of_workers()}}
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # as without Ray; its default is 15
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")  # Ray kills a worker that starts slower, on a busy machine
        cores = len(os.sched_getaffinity(0))
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:  # some of its errors have no class of their own
        if address == "local":
            raise UserError(f"Ray did not start on this machine ({cli.first_line(error)}); repeat the command") from None
        raise _no_cluster(address, cli.first_line(error)) from None
    try:
        yield ray
    finally:
        ray.shutdown()
