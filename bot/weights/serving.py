"""Serving folders: exports of models for CTranslate2 in models/.serving, and the fingerprint that tells whether one is current.

The exports are written by export/to_ctranslate2.py. Workers import this module, so it imports no heavy package.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot import cli, config, files
from bot.cli import UserError, with_root
from bot.files import atomic_writer, sha256_of
from bot.weights import bases, cards, loading, servers

SERVING = ".serving"  # folder with exports, next to the model folders


def fingerprint(folder: Path) -> str:
    """The sha256 over the files of a model folder, without training checkpoints, exports and the metrics in the card. Of server.toml,
    only what the text depends on counts.

    It does not depend on the path. If there is a .serving folder next to the model, checksums are cached there with each file's inode, size
    and times, so that an unchanged model is not read again (damage that leaves the times unchanged is not detected). As in git's index,
    files that changed in the last two seconds are not cached, because they could change again with the same time.

    Raises UserError if the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{files.display_path(folder)}: no model here; train it (`python run_bot.py train --help`), or give another folder")
    store = folder.parent / SERVING / f".{folder.name}-sums.json"
    cached: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):  # missing or invalid
        cached = dict(json.loads(store.read_text(encoding="utf-8")))
    digest = hashlib.sha256()
    sums: dict[str, Any] = {}
    parts = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(parts):
        if name.parts[0].startswith("checkpoint.") or SERVING in name.parts or files.is_temporary(name):
            continue
        now = time.time_ns()
        status = parts[name].stat()
        key = f"{name.as_posix()} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        if name == Path(servers.FILE):
            checksum = servers.identity(parts[name])  # never cached: it depends on another file
        else:
            checksum = cached.get(key) or (cards.identity(parts[name]) if name == Path(cards.CARD_FILE) else sha256_of(parts[name]))
        digest.update(f"{name.as_posix()} {checksum}\n".encode())
        if now - max(status.st_mtime_ns, status.st_ctime_ns) > 2e9:
            sums[key] = checksum
    if sums != cached and store.parent.is_dir():
        with suppress(OSError), atomic_writer(store) as file:  # without write permission, the model is read every time
            json.dump(sums, file)
    return digest.hexdigest()


SERVING_FILE = "serving.json"
HEAD_FILE = "head.npz"
AVX512 = {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"}  # CTranslate2 requires all of them
REVISION = 4  # of the export format; after a change all models are exported again


def serving_folder(source: Path, precision: config.Precision) -> Path:
    """The folder for the export of `source`.

    >>> str(serving_folder(Path("models/lm"), "int8"))
    'models/.serving/lm-int8'
    """
    return source.parent / SERVING / f"{source.name}-{precision}"


def origin(source: Path) -> dict[str, Any]:
    """The inputs of an export other than its precision. Raises UserError if there is no model.

    A base that is not installed is taken to be the one that the card names, so that an export can be used without its base.
    """
    base = ""
    if loading.needs_base(source):
        card = cards.read_card(source)
        base = str((bases.read_base(card.base) or {}).get("sha256", card.base_sha256))
    return {"source": fingerprint(source), "base": base, "revision": REVISION}


def is_current(source: Path, precision: config.Precision) -> bool:
    """True if the export exists and was made from the present `source`. Raises UserError if there is no model, or, without a current
    export, no base of it."""
    with suppress(UserError):
        if read_facts(serving_folder(source, precision))["made_from"] == origin(source):
            return True
    loading.transformers_folder(source)
    return False


def read_facts(folder: Path) -> dict[str, Any]:
    """Read serving.json. Raises UserError if `folder` is not a serving folder."""
    try:
        facts: dict[str, Any] = json.loads((folder / SERVING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a serving folder ({error}); create it with `python run_bot.py models export`") from None
    return facts


def prefer_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Let CTranslate2 use AVX-512 on AMD processors that support it. Call it before the first model is loaded.

    CTranslate2 uses AVX2 by default, because older Intel processors slow down under AVX-512. AMD processors do not. If CT2_FORCE_CPU_ISA is
    already set, it is not changed.
    """
    content = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    if "AuthenticAMD" in content and set(content.split()) >= AVX512:
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def ensure_exported(source: Path, precision: config.Precision) -> Path:
    """The serving folder of `source`. If it is not current, it is exported in a separate process.

    Raises:
        UserError: there is no model, or it cannot be exported.
    """
    if not is_current(source, precision):
        finish_export(start_export([source], precision))
    return serving_folder(source, precision)


EXPORT = ("models", "export")


def start_export(sources: Sequence[Path], precision: config.Precision) -> subprocess.Popen[str]:
    """Start a process that exports the sources. It dies with this one."""
    return subprocess.Popen(
        cli.stage_command(*EXPORT, *map(str, sources), "--precision", precision),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=with_root(os.environ), preexec_fn=cli.die_with_parent,
    )  # fmt: skip


def finish_export(process: subprocess.Popen[str]) -> None:
    """Wait for a process of start_export and show its messages. Raises UserError with its error, in one line instead of two."""
    prefix, errors = f"python -m bot {' '.join(EXPORT)}: ", []
    with process:
        for line in process.stderr or ():
            if line.startswith(prefix):
                errors.append(line.removeprefix(prefix).strip())
            else:
                sys.stderr.write(line)
    if process.returncode:
        raise UserError(errors[-1] if errors else "the export of a model failed, see the error above")
