"""Files that are whole or not there: atomic writing, checksums, manifests, locks, resumable parts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bot import cli
from bot.cli import ROOT, UserError


class FileError(UserError):
    """A file that doesn't hold what its contract says; names file, row and column."""


# --- files, whole or not there ------------------------------------------------------------------------------------------


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".manifest.json")


@contextmanager
def atomic_writer(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under `path` whole, flushed to disk, or not at all.

    The temporary name is fixed, so what a killed process leaves behind is overwritten by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entry to disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(path: Path, rows: int, made_from: Mapping[str, Any], **extra: Any) -> None:
    """Put a manifest beside `path` (already in place). `extra` are facts about the file, such as counts of dropped rows."""
    content = {"file": path.name, "rows": rows, "sha256": sha256_of(path), "made_from": dict(made_from), **extra}
    with atomic_writer(manifest_path(path)) as file:
        json.dump(content, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest beside `path`, or None where there is none.

    Raises:
        SchemaError: the manifest isn't JSON or lacks its keys.
    """
    try:
        content = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError) as error:
        raise FileError(f"{manifest_path(path)}: not readable ({error}); delete it and make {path.name} again") from None
    if not isinstance(content, dict) or not {"rows", "sha256", "made_from"} <= content.keys():
        raise FileError(f"{manifest_path(path)}: rows, sha256 or made_from is missing; delete it and make {path.name} again")
    return content


def check_manifest(path: Path, rows: int) -> None:
    """Hold a file and the `rows` read from it to the manifest beside it, if there is one.

    Raises:
        SchemaError: another row count or checksum.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return
    if manifest["rows"] != rows:
        raise FileError(f"{path}: {rows} rows, its manifest says {manifest['rows']}; the file is truncated, make it again")
    if manifest["sha256"] != sha256_of(path):
        raise FileError(f"{path}: changed since it was written (sha256 differs from its manifest); make it again or delete the manifest")


def is_current(path: Path, made_from: Mapping[str, Any]) -> bool:
    """True if `path` is whole, unchanged since it was written, and was made from just this. How a killed run goes on where it stopped."""
    if not path.exists():
        return False
    manifest = read_manifest(path)
    if manifest is None or manifest["made_from"] != json.loads(json.dumps(dict(made_from))):
        return False
    return bool(manifest["sha256"] == sha256_of(path))


def read_part(part: Path, key: str) -> Iterator[Any]:
    """What a stage that was interrupted left in its `.part`: the JSON of each line after the first, which is `key`.

    Nothing where the first line is another, since that was made with other settings. A line cut in half ends it.
    """
    if not part.exists():
        return
    with part.open(encoding="utf-8") as file:
        if file.readline().rstrip("\n") != key:
            return
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


@contextmanager
def alone(lock_file: Path, waiting: str) -> Iterator[None]:
    """Hold the lock, and say `waiting` where another process does; the system lets go of it when a process dies."""
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


def remove(path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """Relative to the project where it lies in it: that is what a person can type."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
