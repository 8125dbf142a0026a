"""The models on the leaderboard: which ones leaderboard.toml names, and what their cards say about them.

Reads leaderboard.toml: one line per model, NAME = FOLDER, in the table [generators] or [rankers]. A generator may have a table instead,
with `model`, any other setting of [generate] in config.example.toml, and `candidates`, a file that `generate` wrote elsewhere.

    [generators]
    smollm2 = "models/lm"
    warm = { model = "models/lm", temperature = 0.9 }
    gpu = { candidates = "data/candidates_gpu.csv" }

    [rankers]
    minilm-upvote = "models/upvote"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bot import cli, files, generators
from bot.cli import UserError
from bot.config import GenerateSettings
from bot.weights import bases, cards, loading

GENERATOR_BASELINES = ("person", "random", "retrieval")
RANKER_BASELINES = ("longer", "random", "tfidf")


@dataclass(frozen=True)
class Models:
    generators: dict[str, Generator]
    rankers: dict[str, Path]


@dataclass(frozen=True)
class Generator:
    """settings: None if only its candidates are at hand. candidates: None for the file in OUT/candidates."""

    settings: GenerateSettings | None
    candidates: Path | None = None


def read(path: Path) -> Models:
    """Read leaderboard.toml. Raises UserError if it is not valid."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as TOML ({cli.first_line(error)}); give another --models") from None
    if unknown := sorted(content.keys() - {"generators", "rankers"}):
        raise UserError(f"{path}: unknown table {unknown[0]}; use [generators] and [rankers]")
    tables: dict[str, Mapping[str, Any]] = {kind: content.get(kind, {}) for kind in ("generators", "rankers")}
    for kind, table in tables.items():
        taken = GENERATOR_BASELINES if kind == "generators" else RANKER_BASELINES
        if not isinstance(table, dict):
            raise UserError(f"{path}: {kind}: expected a table of models; write [{kind}] above lines NAME = FOLDER")
        for name in table:
            if name in taken or not re.fullmatch(r"\w[\w.-]*", name):
                raise UserError(
                    f"{path}: {kind}.{name}: not a name for a model; use letters, digits, '.', '_' and '-', and no baseline's name"
                )
    entries = {name: _generator(f"{path}: generators.{name}", value) for name, value in tables["generators"].items()}
    for name, value in tables["rankers"].items():
        if not isinstance(value, str):
            raise UserError(f"{path}: rankers.{name}: expected the folder of a ranker as text")
    return Models(entries, {name: Path(value) for name, value in tables["rankers"].items()})


def _generator(where: str, value: Any) -> Generator:
    options = {"model": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    candidates = options.pop("candidates", None)
    if not isinstance(candidates, str | None) or not (candidates or "model" in options):
        raise UserError(f"{where}: expected the folder of a generator, or a table with `model` or `candidates`")
    try:
        settings = GenerateSettings(**{"num_candidates": 1, **options}) if "model" in options else None
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        raise UserError(f"{where}.{'.'.join(map(str, first['loc']))}: {first['msg']}; see [generate] in config.example.toml") from None
    if settings and "backend" not in options:
        settings = settings.model_copy(update={"backend": _back_end_of(settings.model)})
    return Generator(settings, Path(candidates) if candidates else None)


def _back_end_of(folder: Path) -> str:
    """The back end in the model's card; empty for the default."""
    own = cards.read_card(folder).settings.get("backend", "") if (folder / cards.CARD_FILE).exists() else ""
    return own if own in generators.BACK_ENDS else ""


# --- facts ----------------------------------------------------------------------------------------------------------------


def facts(folder: Path, back_end: str = "") -> dict[str, Any]:
    """family, base, parameters, rows (of training), hours (of training), licence (of the base) and mb; without those that are not known.

    family: the model type in the configuration of transformers, such as "llama"; otherwise the back end. parameters: by the card, or those
    in safetensors files, with the base. mb: of the files in the folder and, for an adapter, of its base, in 10^6 bytes.

    Raises UserError if there is no model, or its card is invalid.
    """
    if not folder.is_dir():
        raise UserError(f"no model in {files.display_path(folder)}")
    card = cards.read_card(folder) if (folder / cards.CARD_FILE).exists() else None
    is_base = folder.absolute() == bases.BASE_DIR / folder.name
    base = card.base if card else folder.name if is_base else ""
    based = bases.base_folder(base) if base and loading.needs_base(folder) else None
    settings = card.settings if card else {}
    trained = (each["rows"] for name, each in (card.data if card else {}).items() if name.endswith("_train.csv"))
    result = {
        "family": bases.model_type_in(folder) or (based and bases.model_type_in(based)) or settings.get("backend", back_end),
        "base": base or ("none" if card else None),
        "parameters": (card.parameters if card else 0) or _parameters(folder, based),
        "rows": settings.get("pairs") or settings.get("rows") or next(trained, None),
        "hours": card.hours if card else 0,
        "licence": (card.licence if card else "") or bases.licence_of(base),
        "mb": round(sum(_bytes(each) for each in (folder, based) if each) / 1e6, 1),
    }
    return {name: value for name, value in result.items() if value}


def _parameters(folder: Path, base: Path | None) -> int:
    """Those in the safetensors files; 0 if there are none. An adapter adds to its base, layers replace those of the base."""
    from safetensors import safe_open

    def count(where: Path) -> int:
        total = 0
        for path in where.glob("*.safetensors"):
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    product = 1
                    for size in file.get_slice(name).get_shape():
                        product *= size
                    total += product
        return total

    if base is None:
        return count(folder)
    return count(base) + (0 if (folder / loading.LAYERS_FILE).exists() else count(folder))


def _bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file() and not each.name.startswith("checkpoint."))
