"""Files and folders that are there whole or not at all, and what an output may be written over.

    with files.atomic_writer(path) as file: ...              text; atomic_binary_writer: bytes
    with files.atomic_folder(path) as folder: ...            a whole folder
    files.write_with_manifest(path, write)                   a file with its manifest, both or neither
    files.check_output(path, inputs, overwrite)              before a stage starts: may this file be written?
    with files.part(out, made_from, parse) as part: ...      work in pieces that a stopped stage resumes
    with files.run_folder(folder): ...                       a run folder, locked

What is being written lies beside its place: a file as `.NAME.tmp`, a folder as `.NAME.partial` (the one that it replaces as `.NAME.old`),
the finished pieces of a long work as `NAME.part`. The names are fixed, so that the next process removes what a killed one left. Whatever
lies under the first three is removed and made anew: a link planted there is never followed.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Annotated, Any, Generic, TypeVar

import typer

from bot import cli
from bot.cli import ROOT, Busy, UserError

STANDARD = Path("-")  # standard input or standard output, for the stages that take one table


class FileError(UserError):
    """A file that doesn't hold what its contract says, or can't be written; names file, row and column."""


# --- names ----------------------------------------------------------------------------------------------------------------


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".manifest.json")


def temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def is_temporary(path: PurePath) -> bool:
    """True for the name of a file that is being written, or that a killed process left.

    >>> is_temporary(Path(".lm.csv.tmp")), is_temporary(Path("lm.csv"))
    (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(".tmp")


def part_path(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def partial_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def leftovers(folder: Path) -> list[Path]:
    """What a killed process left beside a folder that is written whole."""
    return [path for path in (partial_path(folder), _old_path(folder)) if os.path.lexists(path)]


def _old_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def shown(path: Path) -> str:
    """Relative to the project where it lies in it: that is what a person can type."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a whole folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- a file, whole or not there -------------------------------------------------------------------------------------------


@contextmanager
def atomic_writer(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under `path` whole, flushed to disk, or not at all.

    Raises:
        FileError: `path` is a link, a folder or a device.
    """
    with _temporary(path, "x", encoding="utf-8", newline=newline) as file:
        yield file
    _into_place(path)


@contextmanager
def atomic_binary_writer(path: Path) -> Iterator[IO[bytes]]:
    """As `atomic_writer`, for bytes."""
    with _temporary(path, "xb") as file:
        yield file
    _into_place(path)


def write_with_manifest(path: Path, write: Callable[[IO[bytes]], Mapping[str, Any] | None]) -> None:
    """Let `write` fill the file; it returns what the manifest says (rows, made_from, and other facts), or None for no manifest.

    Both are on disk before the old manifest goes, so that a manifest always speaks of the file beside it, and a kill loses neither:
    `finish` does the renames that are left.

    Raises:
        FileError: `path` is a link, a folder or a device.
    """
    target = manifest_path(path)
    with _temporary(path, "xb") as file:
        facts = write(file)
        flush(file)
        if facts is not None:
            content = {**facts, "file": path.name, "sha256": sha256_of(temporary_path(path))}
            with _temporary(target, "x", encoding="utf-8") as note:
                json.dump(content, note, indent=1, sort_keys=True, ensure_ascii=False)
                note.write("\n")
    target.unlink(missing_ok=True)
    temporary_path(path).replace(path)
    if facts is not None:
        temporary_path(target).replace(target)
    sync_folder(path.parent)


def finish(path: Path) -> None:
    """Do the renames that a kill kept `write_with_manifest` from: the next manifest lies there, and the data that it speaks of."""
    target, data = manifest_path(path), temporary_path(path)
    note = temporary_path(target)
    if target.exists() or note.is_symlink() or not note.is_file():
        return
    try:
        sha256 = json.loads(note.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        return  # killed while it was written
    if data.is_file() and not data.is_symlink() and sha256_of(data) == sha256:
        data.replace(path)
    if path.is_file() and sha256_of(path) == sha256:
        note.replace(target)


@contextmanager
def _temporary(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """A new file under the temporary name, flushed to disk in the end, removed where anything goes wrong."""
    if kind := _not_a_file(path):
        raise FileError(f"{path}: {kind}; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        remove(temporary)
        with temporary.open(mode, **options) as file:  # mode x: O_EXCL, which follows no link
            yield file
            flush(file)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise


def _into_place(path: Path) -> None:
    temporary_path(path).replace(path)
    sync_folder(path.parent)


def flush(file: IO[Any]) -> None:
    """To disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entry to disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- a folder, whole or not there -----------------------------------------------------------------------------------------


@contextmanager
def atomic_folder(path: Path, durable: bool = True) -> Iterator[Path]:
    """A new folder to fill, which appears under `path` whole or not at all, in the place of the one that is there.

    durable: flush it to disk first, so that it survives a power cut; a cache of many gigabytes need not.
    """
    new = partial_path(path)
    try:
        restore(path)
        remove(new)
        new.mkdir(parents=True)
        yield new
        put_folder(new, path, durable)
    except BaseException:
        with suppress(OSError):
            remove(new)
        raise


def put_folder(new: Path, path: Path, durable: bool = True) -> None:
    """Rename `new`, on the same disk, to `path`, in the place of the folder that is there; its files are readable for everybody."""
    for each in sorted(new.rglob("*")) if durable else ():
        if each.is_file() and not each.is_symlink():
            each.chmod(0o644)  # safetensors writes for the owner only
            with each.open("rb+") as file:
                os.fsync(file.fileno())
        elif each.is_dir() and not each.is_symlink():
            sync_folder(each)
    old = _old_path(path)
    remove(old)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    sync_folder(path.parent)
    remove(old)


def restore(path: Path) -> None:
    """Put the folder back that a kill between the two renames of `put_folder` took away."""
    if not os.path.lexists(path) and _old_path(path).is_dir():
        _old_path(path).rename(path)


# --- what an output may be written over -----------------------------------------------------------------------------------


def check_output(
    path: Path, inputs: Iterable[Path] = (), overwrite: bool | None = None, is_ours: Callable[[Path], bool] | None = None
) -> None:
    """Before a stage starts: may the file `path` be written? An output goes over no input, link, device, folder or file of somebody else.

    overwrite: `--overwrite` was given, which permits a file of somebody else; None where the stage has no such option. is_ours: whether a
    file that is there is the project's own; where it isn't given, one with a manifest beside it is.

    Raises:
        FileError: it may not, or it can't be written.
    """
    if path == STANDARD:
        return
    beside = (manifest_path(path), part_path(path))
    try:
        for each in (path, *beside):
            if kind := _not_a_file(each):
                raise FileError(f"{each}: {kind}; give another output")
        for source in inputs:
            if any(_is_same(each, source) for each in (path, *beside, temporary_path(path), temporary_path(beside[0]))):
                raise FileError(f"{path}: writing it would destroy the input {source}; give another output")
        finish(path)
        if path.exists() and not overwrite and not (is_ours or has_manifest)(path):
            how = "move it, or give another output" if overwrite is None else "give another output, or --overwrite"
            raise FileError(f"{path}: is there already, and nothing shows that this project wrote it; {how}")
        _check_writable(path.parent)
    except OSError as error:
        raise FileError(f"{path}: can't be written ({error.strerror}); give another output") from None


Overwrite = Annotated[bool, typer.Option("--overwrite", help="also over a file or a model that is there and isn't this command's own")]


def check_output_folder(path: Path, inputs: Iterable[Path], overwrite: bool | None, is_ours: Callable[[Path], bool]) -> None:
    """The same for a folder that is written whole. What is there is replaced with --overwrite alone, and only where it is the project's."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FileError(f"{path}: {'a link' if path.is_symlink() else 'a file'}; give the name of a folder")
        restore(path)
        for source in inputs:
            if any(_is_same(path, each) for each in (source.resolve(), *source.resolve().parents)):
                raise FileError(f"{path}: writing it would destroy the input {source}; give another output")
        if path.exists() and any(path.iterdir()):
            if not is_ours(path):
                raise FileError(f"{path}: holds something that this project didn't write; give another output")
            if not overwrite:
                raise FileError(f"{path}: is there already; give another output, or --overwrite")
        _check_writable(path.parent)
    except OSError as error:
        raise FileError(f"{path}: can't be written ({error.strerror}); give another output") from None


def _not_a_file(path: Path) -> str:
    """What stands under this name and is no ordinary file; empty for a file, and for nothing."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder"
    return "not an ordinary file" if path.exists() and not path.is_file() else ""


def _is_same(path: Path, other: Path) -> bool:
    """One file under two names, links included."""
    return path.exists() and other.exists() and path.samefile(other)


def _check_writable(folder: Path) -> None:
    """Raises FileError or OSError where no file can be made in `folder`, or the folder itself can't be made."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise FileError(f"{there}: not a folder; give another output")
    tempfile.TemporaryFile(dir=there).close()


# --- manifests ------------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    if path == STANDARD:
        return hashlib.sha256(standard_input()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest beside `path`, or None where there is none.

    Raises:
        FileError: the manifest isn't JSON or lacks its keys.
    """
    try:
        content = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, UnicodeDecodeError) as error:
        raise FileError(f"{manifest_path(path)}: not readable ({error}); delete it and {path.name}, and make that again") from None
    if not isinstance(content, dict) or not {"rows", "sha256", "made_from"} <= content.keys():
        raise FileError(f"{manifest_path(path)}: rows, sha256 or made_from is missing; delete it and {path.name}, and make that again")
    return content


def has_manifest(path: Path) -> bool:
    """True where the manifest beside a file speaks of it, so that the project wrote it; also where the manifest is garbled."""
    try:
        manifest = read_manifest(path)
    except FileError:
        return True
    return manifest is not None and manifest.get("file") == path.name


def check_manifest(path: Path, rows: int) -> None:
    """Hold a file and the `rows` read from it to the manifest beside it, if there is one.

    Raises:
        FileError: another row count or checksum.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return
    if manifest["rows"] != rows:
        raise FileError(f"{path}: {rows} rows, its manifest says {manifest['rows']}; the file is truncated, make it again")
    if manifest["sha256"] != sha256_of(path):
        raise FileError(f"{path}: changed since it was written (sha256 differs from its manifest); make it again or delete the manifest")


def is_current(path: Path, made_from: Mapping[str, Any]) -> bool:
    """True if `path` is whole, unchanged since it was written, and was made from just this: then a stage has nothing to do."""
    if not path.exists():
        return False
    manifest = read_manifest(path)
    if manifest is None or manifest["made_from"] != json.loads(json.dumps(dict(made_from))):
        return False
    return bool(manifest["sha256"] == sha256_of(path))


# --- standard input -------------------------------------------------------------------------------------------------------


@functools.cache
def standard_input() -> bytes:
    """All of it, read once and kept: a stage reads its input for the rows and for the checksum."""
    return sys.stdin.buffer.read()


def open_input(path: Path, **options: Any) -> IO[str]:
    """A text file, or standard input."""
    return io.TextIOWrapper(io.BytesIO(standard_input()), **options) if path == STANDARD else path.open(**options)


# --- parts that a stopped stage resumes -----------------------------------------------------------------------------------

Piece = TypeVar("Piece")


@dataclass
class Part(Generic[Piece]):
    """done: the pieces that a stopped stage left."""

    done: list[Piece] = field(default_factory=list)
    file: IO[bytes] | None = None

    def add(self, piece: Any) -> None:
        """Keep a finished piece, as JSON."""
        if self.file is not None:
            self.file.write(json.dumps(piece).encode() + b"\n")
            self.file.flush()


@contextmanager
def part(out: Path, made_from: Mapping[str, Any], parse: Callable[[Any], Piece]) -> Iterator[Part[Piece]]:
    """`OUT.part`: the finished pieces of a work that takes long, a line of JSON each, after one that says what they are made from.

    parse: a piece from its JSON. The first line that `parse` refuses, that is cut in half or holds something else, and all after it, go;
    all goes where it was made from something else. The file is removed in the end, and stays where the work is interrupted.
    """
    if out == STANDARD:
        yield Part()
        return
    path, key = part_path(out), json.dumps(made_from, sort_keys=True).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    done, length = _read_part(path, key, parse)
    if not length:
        path.unlink(missing_ok=True)
    with path.open("r+b" if length else "xb") as file:
        file.seek(length)
        file.truncate()
        if not length:
            file.write(key)
            file.flush()
        yield Part(done, file)
    path.unlink()


def _read_part(path: Path, key: bytes, parse: Callable[[Any], Piece]) -> tuple[list[Piece], int]:
    """The pieces, and the bytes up to the end of the last; 0 where the file is none that may be resumed."""
    done: list[Piece] = []
    if not path.is_file() or path.is_symlink() or path.stat().st_nlink > 1:  # a file that has another name is somebody's
        return done, 0
    with path.open("rb") as file:
        length = len(key) if file.readline() == key else 0
        for line in file if length else ():
            try:
                if not line.endswith(b"\n"):
                    break
                done.append(parse(json.loads(line)))
            except (ValueError, TypeError, LookupError, AttributeError):
                break
            length += len(line)
    return done, length


# --- locks ----------------------------------------------------------------------------------------------------------------


@contextmanager
def hold(lock_file: Path, busy: str) -> Iterator[None]:
    """Hold the lock. Raises Busy with that text where another process does; the system lets go of it when a process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(busy) from None
    except OSError as error:
        raise UserError(f"{lock_file}: can't be locked ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(lock_file: Path, waiting: str) -> Iterator[None]:
    """Hold the lock, and say `waiting` and wait where another process does."""
    from filelock import FileLock, Timeout

    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        cli.say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


RUN_LOCK = ".lock"
RUN_TABLES = ("comments", "context", "skipped", "candidates", "scores", "scored", "chosen", "submitted")  # .csv, with manifests
RUN_FILES = (
    "report.html", "for_spreadsheet.csv", "log.jsonl", "metrics.json", "summary.txt", "sandbox.sqlite", "sandbox.log", "sandbox.url",
    "ledger.sqlite", "ledger.backup.jsonl",
)  # fmt: skip
_RUN_NAMES = frozenset([*RUN_FILES, *(f"{name}.csv" for name in RUN_TABLES)])
_RUN_HELD = "REPLY_BOT_RUN_HELD"  # in the environment of the stages that `run` starts: its process id and the folder that it holds


@contextmanager
def run_folder(folder: Path, make: bool = False) -> Iterator[dict[str, str]]:
    """Hold a run folder: `run` does, and so does each stage that works in one. make: make it where there is none.

    Yields the environment variable that lets the stages which this process starts work under its lock.

    Raises:
        Busy: another process holds it.
        UserError: no such folder, or it has a file of somebody else under a name that runs use.
    """
    try:
        _check_run_folder(folder, make)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's names and words
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror}); give another run folder") from None
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(folder / RUN_LOCK, f"{folder}: another run holds this folder; wait for it, or give another one"))
        except Busy:
            if os.environ.get(_RUN_HELD) != f"{os.getppid()} {folder.resolve()}":  # a run's own stage is its child, so none is mistaken
                raise
        yield {_RUN_HELD: f"{os.getpid()} {folder.resolve()}"}


def _check_run_folder(folder: Path, make: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a run folder")
    if not make and not folder.exists():
        raise UserError(f"{folder}: no such run folder; `run` makes one, and so does `fetch`")
    if foreign := next((name for name in RUN_FILES if not is_run(folder) and os.path.lexists(folder / name)), None):
        raise FileError(f"{folder / foreign}: is there already, and no run was here; move it, or give another run folder")
    _check_writable(folder)


def is_run(folder: Path) -> bool:
    """True for a folder in which a run, or `fetch`, has been."""
    return (folder / RUN_LOCK).exists() or has_manifest(folder / "comments.csv")


def foreign_in_run(folder: Path) -> Path | None:
    """A file of a run folder that is none of a run's own, by its name; a folder or a link is always foreign."""
    for path in sorted(folder.iterdir()):
        name = path.name.removeprefix(".").removesuffix(".tmp") if is_temporary(path) else path.name
        for end in (".manifest.json", ".part", ".lock", "-wal", "-shm"):
            name = name.removesuffix(end)
        if path.is_symlink() or not path.is_file() or (name not in _RUN_NAMES and path.name not in (RUN_LOCK, "ledger.run.lock")):
            return path
    return None
