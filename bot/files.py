"""Atomic writes of files and folders, manifests, resumable parts, locks, and the rules for overwriting an output.

    with files.atomic_writer(path) as file: ...              text; atomic_binary_writer: bytes
    with files.atomic_folder(path) as folder: ...            a whole folder
    files.write_with_manifest(path, write)                   a file and its manifest, both or neither
    files.check_output(path, inputs, overwrite)              before a stage starts: may this file be written?
    with files.part(out, made_from, parse) as part: ...      finished pieces that an interrupted stage resumes from
    with files.run_folder(folder): ...                       lock a run folder

Temporary names are in the same folder as the target: `.NAME.tmp` for a file, `.NAME.partial` for a folder (`.NAME.old` for the folder it
replaces), `NAME.part` for the finished pieces of a long job. The names are fixed, so the next process removes what a killed one left.
Anything found under the first three names is deleted and created again; a planted link is never followed.
"""

from __future__ import annotations

import fcntl
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

STANDARD = Path("-")  # standard input or output, for stages that read or write one table


class FileError(UserError):
    """A file that violates its contract or cannot be written. The message names the file, row and column."""


# --- names ----------------------------------------------------------------------------------------------------------------


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".manifest.json")


def temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def is_temporary(path: PurePath) -> bool:
    """True for the temporary name of a file that is being written or that a killed process left.

    >>> is_temporary(Path(".lm.csv.tmp")), is_temporary(Path("lm.csv"))
    (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(".tmp")


def part_path(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def partial_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def leftovers(folder: Path) -> list[Path]:
    """Folders that a killed process left next to `folder`, which is written atomically."""
    return [path for path in (partial_path(folder), _old_path(folder)) if os.path.lexists(path)]


def _old_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def display_path(path: Path) -> str:
    """The path for messages: relative to the project if it is inside it, so that the user can type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def remove(path: Path) -> None:
    """Delete a file, a link (not its target) or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- atomic files ---------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_writer(path: Path, newline: str | None = None, is_private: bool = False) -> Iterator[IO[str]]:
    """Write a UTF-8 text file atomically: it appears at `path` complete and flushed to disk, or not at all.

    is_private: only this user may read it.

    Raises:
        FileError: `path` is a link, a folder or a device.
        Busy: another process is writing it.
    """
    with _temporary(path, "x", encoding="utf-8", newline=newline) as file:
        if is_private:
            os.fchmod(file.fileno(), 0o600)
        yield file
        _move_into_place(file, path)


@contextmanager
def atomic_binary_writer(path: Path) -> Iterator[IO[bytes]]:
    """Like `atomic_writer`, for bytes."""
    with _temporary(path, "xb") as file:
        yield file
        _move_into_place(file, path)


def write_with_manifest(path: Path, write: Callable[[IO[bytes]], Mapping[str, Any] | None]) -> None:
    """Write a file and its manifest atomically.

    write: writes the content and returns the fields of the manifest (rows, made_from and others), or None for no manifest.

    Both are on disk before the old manifest is removed, so a manifest always describes the file next to it, and a kill loses neither:
    `finish` does the remaining renames.

    Raises:
        FileError: `path` is a link, a folder or a device.
        Busy: another process is writing it.
    """
    target = manifest_path(path)
    with _temporary(path, "xb") as file:
        facts = write(file)
        flush(file)
        if facts is not None:
            content = {**facts, "file": path.name, "sha256": sha256_of(temporary_path(path))}
            with _temporary(target, "x", encoding="utf-8") as manifest:
                json.dump(content, manifest, indent=1, sort_keys=True, ensure_ascii=False)
                manifest.write("\n")
                flush(manifest)
        target.unlink(missing_ok=True)
        temporary_path(path).replace(path)
        if facts is not None:
            temporary_path(target).replace(target)
        sync_folder(path.parent)


def finish(path: Path) -> None:
    """Complete the renames of a `write_with_manifest` that was killed after data and manifest were written."""
    target, data = manifest_path(path), temporary_path(path)
    manifest = temporary_path(target)
    if target.exists() or manifest.is_symlink() or not manifest.is_file() or _is_held(data) or _is_held(path):
        return
    try:
        sha256 = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        return  # killed while the manifest was written
    if data.is_file() and not data.is_symlink() and sha256_of(data) == sha256:
        data.replace(path)
    if path.is_file() and sha256_of(path) == sha256:
        manifest.replace(target)


@contextmanager
def _temporary(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """Create the temporary file, locked, and delete it on error. What a killed process left is removed."""
    if kind := special_kind(path):
        raise FileError(f"{path}: {kind}; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    _remove_left(temporary, path)
    try:
        file = temporary.open(mode, **options)  # mode x: O_EXCL, which does not follow links
    except FileExistsError:
        raise _being_written(path) from None
    with file:
        _hold(file.fileno(), temporary, path)
        try:
            yield file
        except BaseException:  # removed while it is locked, so it cannot be another process's
            with suppress(OSError):
                remove(temporary)
            raise


def _remove_left(temporary: Path, path: Path) -> None:
    """Remove the temporary file or folder of a killed process. Raises Busy if a living one is writing it."""
    try:
        left = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError:  # a link, for example
        remove(temporary)
        return
    try:
        _hold(left, temporary, path)
        remove(temporary)
    finally:
        os.close(left)


def _hold(handle: int, at: Path, path: Path) -> None:
    """Lock an open file or folder, which is at `at`, until it is closed. Raises Busy if another process holds, or has just finished it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _being_written(path) from None
    except OSError:  # a file system without locks
        pass
    try:
        is_there = os.path.samestat(os.fstat(handle), at.stat(follow_symlinks=False))
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise _being_written(path)


def _is_held(path: Path) -> bool:
    """Whether another process is writing the file at `path`."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _being_written(path: Path) -> Busy:
    return Busy(f"{path}: another process is writing it; wait for it, or give another name")


def _move_into_place(file: IO[Any], path: Path) -> None:
    """Rename the temporary file while it is locked."""
    flush(file)
    temporary_path(path).replace(path)
    sync_folder(path.parent)


def flush(file: IO[Any]) -> None:
    """Flush a file to disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- atomic folders -------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_folder(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a new folder to fill. It appears at `path` complete or not at all, and replaces an existing folder.

    durable: flush the files to disk first, so that they survive a power failure. Not needed for a large cache.

    Raises:
        Busy: another process is writing it.
    """
    new = partial_path(path)
    _remove_left(new, path)
    try:
        new.mkdir(parents=True)
        handle = os.open(new, os.O_RDONLY)
    except (FileExistsError, FileNotFoundError):
        raise _being_written(path) from None
    try:
        _hold(handle, new, path)
        try:
            restore(path)
            yield new
            replace_folder(new, path, durable)
        except BaseException:
            with suppress(OSError):
                remove(new)
            raise
    finally:
        os.close(handle)


def replace_folder(new: Path, path: Path, durable: bool = True) -> None:
    """Rename `new` to `path` on the same disk, replacing an existing folder. If `durable`, also make its files world-readable."""
    for each in sorted(new.rglob("*")) if durable else ():
        if each.is_file() and not each.is_symlink():
            each.chmod(0o644)  # safetensors creates files that only the owner can read
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
    """Restore the old folder after a kill between the two renames of `replace_folder`."""
    if not os.path.lexists(path) and _old_path(path).is_dir():
        _old_path(path).rename(path)


# --- checks of outputs ----------------------------------------------------------------------------------------------------


def check_output(
    path: Path, inputs: Iterable[Path] = (), overwrite: bool | None = None, is_ours: Callable[[Path], bool] | None = None
) -> None:
    """Check before a stage starts that the file `path` may be written.

    An output never replaces an input, link, device, folder or a file that this project did not write.

    overwrite: True if `--overwrite` was given, which permits replacing a foreign file; None if the stage has no such option.
    is_ours: returns True if an existing file was written by this project. Default: it has a manifest.

    Raises:
        FileError: the file must not or cannot be written.
    """
    if path == STANDARD:
        return
    if not path.name:
        raise FileError(f"{path}: is a folder; give another output")
    companions = (manifest_path(path), part_path(path))
    try:
        for each in (path, *companions):
            if kind := special_kind(each):
                raise FileError(f"{each}: {kind}; give another output")
        for source in inputs:
            if any(_is_same(each, source) for each in (path, *companions, temporary_path(path), temporary_path(companions[0]))):
                raise FileError(f"{path}: writing it would destroy the input {source}; give another output")
        finish(path)
        if path.exists() and not overwrite and not (is_ours or has_manifest)(path):
            remedy = "move it or give another output" if overwrite is None else "give another output or --overwrite"
            raise FileError(f"{path}: already exists, and this project did not write it; {remedy}")
        _check_writable(path.parent)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror}); give another output") from None


Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an existing file or model, even if this command did not write it")]


def check_output_folder(path: Path, inputs: Iterable[Path], overwrite: bool | None, is_ours: Callable[[Path], bool]) -> None:
    """Like `check_output`, for a folder. An existing folder is replaced only with --overwrite, and only if this project wrote it."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FileError(f"{path}: {'a link' if path.is_symlink() else 'a file'}; give the name of a folder")
        restore(path)
        for source in inputs:
            if any(_is_same(path, each) for each in (source.resolve(), *source.resolve().parents)):
                raise FileError(f"{path}: writing it would destroy the input {source}; give another output")
        if path.exists() and any(path.iterdir()):
            if not is_ours(path):
                raise FileError(f"{path}: contains files that this project did not write; give another output")
            if not overwrite:
                raise FileError(f"{path}: already exists; give another output or --overwrite")
        _check_writable(path.parent)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror}); give another output") from None


def special_kind(path: Path) -> str:
    """What `path` is if it is not a regular file ("a link", "a folder"); empty for a regular file and if it does not exist."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder"
    return "not a regular file" if path.exists() and not path.is_file() else ""


def _is_same(path: Path, other: Path) -> bool:
    """True if both paths are the same file, including hard links and symbolic links."""
    return path.exists() and other.exists() and path.samefile(other)


def _check_writable(folder: Path) -> None:
    """Raise FileError or OSError if no file can be created in `folder`, or the folder cannot be created."""
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not existing.is_dir():
        raise FileError(f"{existing}: not a folder; give another output")
    tempfile.TemporaryFile(dir=existing).close()


# --- manifests ------------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Raises FileError if there is no such file."""
    if path == STANDARD:
        return hashlib.sha256(standard_input()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise FileError(f"{path}: {'a folder' if isinstance(error, IsADirectoryError) else 'no such file'}; give another path") from None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of `path`, or None if there is none.

    Raises:
        FileError: the manifest is not JSON, or a required key is missing or of another type.
    """
    try:
        content = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise FileError(f"{manifest_path(path)}: not readable ({error}); delete it and {path.name}, then create both again") from None
    types = {"rows": int, "sha256": str, "made_from": dict}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), of) for key, of in types.items()):
        raise FileError(
            f"{manifest_path(path)}: rows, sha256 or made_from is missing or invalid; delete it and {path.name}, then create both again"
        )
    return content


def has_manifest(path: Path) -> bool:
    """True if the file has a manifest that names it, i.e. this project wrote it. Also True if the manifest is corrupt."""
    try:
        manifest = read_manifest(path)
    except FileError:
        return True
    return manifest is not None and manifest.get("file") == path.name


def check_manifest(path: Path, rows: int) -> None:
    """Compare a file and its row count with the manifest, if there is one.

    Raises:
        FileError: the row count or checksum differs.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return
    if manifest["rows"] != rows:
        raise FileError(f"{path}: {rows} rows, but its manifest says {manifest['rows']}; the file is truncated, create it again")
    if manifest["sha256"] != sha256_of(path):
        raise FileError(f"{path}: changed since it was written (sha256 differs from its manifest); create it again or delete the manifest")


def is_current(path: Path, made_from: Mapping[str, Any]) -> bool:
    """True if `path` is complete, unchanged, and was made from exactly these inputs, so that the stage has nothing to do."""
    if not path.exists():
        return False
    manifest = read_manifest(path)
    if manifest is None or manifest["made_from"] != json.loads(json.dumps(dict(made_from))):
        return False
    return bool(manifest["sha256"] == sha256_of(path))


def current_rows(path: Path, made_from: Mapping[str, Any]) -> int | None:
    """The number of rows if `path` is current (see is_current), which is printed; otherwise None, and the stage writes it."""
    if not is_current(path, made_from):
        return None
    print(f"{path} exists and is current")
    return int((read_manifest(path) or {})["rows"])


# --- standard input -------------------------------------------------------------------------------------------------------


@functools.cache
def standard_input() -> bytes:
    """The content of standard input, cached because a stage needs it for the rows and for the checksum."""
    if sys.stdin is None or sys.__stdin__ is None:
        raise UserError("standard input is closed; give --in FILE")
    return sys.stdin.buffer.read()


def open_input(path: Path, **options: Any) -> IO[str]:
    """Open a text file, or standard input for `-`."""
    return io.TextIOWrapper(io.BytesIO(standard_input()), **options) if path == STANDARD else path.open(**options)


# --- parts, from which an interrupted stage resumes -----------------------------------------------------------------------

Piece = TypeVar("Piece")


@dataclass
class Part(Generic[Piece]):
    """done: the pieces that an interrupted stage has finished."""

    done: list[Piece] = field(default_factory=list)
    file: IO[bytes] | None = None

    def add(self, piece: Any) -> None:
        """Store a finished piece as JSON."""
        if self.file is not None:
            self.file.write(json.dumps(piece).encode() + b"\n")
            self.file.flush()


@contextmanager
def part(out: Path, made_from: Mapping[str, Any], parse: Callable[[Any], Piece]) -> Iterator[Part[Piece]]:
    """Open `OUT.part`, which stores the finished pieces of a long job: one line with `made_from`, then one line of JSON per piece.

    parse: converts the JSON of a piece and raises if it is invalid. The first truncated or invalid line and all lines after it are
    discarded. Everything is discarded if `made_from` differs. The file is deleted at the end and kept if the job is interrupted.

    Raises:
        Busy: another process is writing it.
    """
    if out == STANDARD:
        yield Part()
        return
    path, key = part_path(out), json.dumps(made_from, sort_keys=True).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.stat().st_nlink > 1):  # not our file
        path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
        _hold(file.fileno(), path, out)
        done, length = _read_part(file, key, parse)
        file.seek(length)
        file.truncate()
        if not length:
            file.write(key)
            file.flush()
        yield Part(done, file)
        path.unlink()


def _read_part(file: IO[bytes], key: bytes, parse: Callable[[Any], Piece]) -> tuple[list[Piece], int]:
    """The valid pieces and the length in bytes up to the end of the last one. Length 0 if the job cannot be resumed from this file."""
    done: list[Piece] = []
    length = len(key) if file.readline() == key else 0
    for line in file if length else ():
        try:
            if not line.endswith(b"\n"):
                break
            done.append(parse(json.loads(line)))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            break
        length += len(line)
    return done, length


# --- locks ----------------------------------------------------------------------------------------------------------------


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock. Raises Busy with the message `busy` if another process holds it. The system releases it when the process dies."""
    from filelock import FileLock, Timeout

    file_lock = FileLock(path, blocking=False)
    try:
        file_lock.acquire()
    except Timeout:
        raise Busy(busy) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror})") from None
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def wait_for_lock(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock. If another process holds it, print `waiting` and wait."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        cli.say(waiting)
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


RUN_LOCK = ".lock"
RUN_TABLES = ("comments", "context", "skipped", "candidates", "scores", "scored", "chosen", "submitted")  # .csv, with manifests
RUN_FILES = (
    "report.html", "for_spreadsheet.csv", "log.jsonl", "metrics.json", "summary.txt", "sandbox.sqlite", "sandbox.log", "sandbox.url",
    "ledger.sqlite", "ledger.backup.jsonl", "approvals.csv",
)  # fmt: skip
_RUN_NAMES = frozenset([*RUN_FILES, *(f"{name}.csv" for name in RUN_TABLES)])
_RUN_HELD = "REPLY_BOT_RUN_HELD"  # set by `run` for its stages: its process id and the folder that it has locked


@contextmanager
def run_folder(folder: Path, make: bool = False) -> Iterator[dict[str, str]]:
    """Lock a run folder. Used by `run` and by every stage that works in a run folder. make: create the folder if it does not exist.

    Yields an environment variable that lets stages started by this process work under its lock.

    Raises:
        Busy: another process has locked the folder.
        UserError: the folder does not exist, or contains a foreign file with a name that runs use.
    """
    try:
        _check_run_folder(folder, make)
        new, was_locked = not folder.exists(), (folder / RUN_LOCK).exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it contains names and texts of users
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); give another run folder") from None
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / RUN_LOCK, f"{folder}: another run is using this folder; wait for it or give another folder"))
        except Busy:
            if os.environ.get(_RUN_HELD) != f"{os.getppid()} {folder.resolve()}":  # only children of the run may use its lock
                raise
        try:
            yield {_RUN_HELD: f"{os.getpid()} {folder.resolve()}"}
        except BaseException:
            if new and [each.name for each in folder.iterdir()] == [RUN_LOCK]:  # nothing was written
                shutil.rmtree(folder)
            elif not was_locked and not (make and new) and not is_used(folder):  # a foreign folder does not become one of runs
                (folder / RUN_LOCK).unlink(missing_ok=True)
            raise


def _check_run_folder(folder: Path, make: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a run folder")
    if not make and not folder.exists():
        raise UserError(f"{folder}: no such run folder; create one with `run` or `fetch`")
    if foreign := next((name for name in RUN_FILES if not is_run(folder) and os.path.lexists(folder / name)), None):
        raise FileError(f"{folder / foreign}: already exists, but the folder contains no run; move it or give another run folder")
    _check_writable(folder)


def is_run(folder: Path) -> bool:
    """True for a folder that was used by a run or by `fetch`."""
    return (folder / RUN_LOCK).exists() or has_manifest(folder / "comments.csv")


def is_used(folder: Path) -> bool:
    """True if a run or `fetch` wrote something into the folder."""
    return has_manifest(folder / "comments.csv") or any(os.path.lexists(folder / name) for name in RUN_FILES)


def foreign_in_run(folder: Path) -> Path | None:
    """The first file in a run folder whose name runs do not use, or None. Folders and links always count as foreign."""
    for path in sorted(folder.iterdir()):
        name = path.name.removeprefix(".").removesuffix(".tmp") if is_temporary(path) else path.name
        for end in (".manifest.json", ".part", ".lock", "-wal", "-shm"):
            name = name.removesuffix(end)
        if path.is_symlink() or not path.is_file() or (name not in _RUN_NAMES and path.name not in (RUN_LOCK, "ledger.run.lock")):
            return path
    return None
