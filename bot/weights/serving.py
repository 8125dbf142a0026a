"""TODO: bot.weights.serving"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot import config, files
from bot.cli import UserError, with_root
from bot.files import atomic_writer, sha256_of
from bot.weights import bases, cards, loading

SERVING = ".serving"  # beside a model's folder, its exports (see export_ct2)


def fingerprint(folder: Path) -> str:
    """sha256 over a model folder's files: the same model, the same fingerprint, wherever it lies. Left-overs of training, exports and the
    card's metrics don't count.

    Sums are noted in the .serving beside the folder, if there is one, with each file's inode, size and times, so that a run doesn't read a
    whole model to know it again (damage that leaves the times alone goes unnoticed). As in git's index, what changed less than two seconds
    ago isn't noted: it could change again at the same time.

    Raises UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{files.display_path(folder)}: no model here; train it (`python run_bot.py train --help`), or name another folder")
    store = folder.parent / SERVING / f".{folder.name}-sums.json"
    noted: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):  # none yet, or not as we write them
        noted = dict(json.loads(store.read_text(encoding="utf-8")))
    digest = hashlib.sha256()
    sums: dict[str, Any] = {}
    parts = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(parts):
        if name.parts[0].startswith("checkpoint.") or SERVING in name.parts or files.is_temporary(name):
            continue
        looked = time.time_ns()
        now = parts[name].stat()
        key = f"{name.as_posix()} {now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"
        found = noted.get(key) or (cards.identity(parts[name]) if name == Path(cards.CARD_FILE) else sha256_of(parts[name]))
        digest.update(f"{name.as_posix()} {found}\n".encode())
        if looked - max(now.st_mtime_ns, now.st_ctime_ns) > 2e9:
            sums[key] = found
    if sums != noted and store.parent.is_dir():
        with suppress(OSError), atomic_writer(store) as file:  # where nothing can be written, the model is read each time
            json.dump(sums, file)
    return digest.hexdigest()


SERVING_FILE = "serving.json"
HEAD_FILE = "head.npz"
AVX512 = {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"}  # without any of them CTranslate2 refuses to be told
REVISION = 2  # of what is written; another one makes every export anew


# --- what is there (no heavy import: the workers come by here) ------------------------------------------------------------


def serving_folder(source: Path, precision: config.Precision) -> Path:
    """Where the export of `source` belongs.

    >>> str(serving_folder(Path("models/lm"), "int8"))
    'models/.serving/lm-int8'
    """
    return source.parent / SERVING / f"{source.name}-{precision}"


def origin(source: Path) -> dict[str, Any]:
    """What an export depends on beside its precision. Raises UserError where there is no model."""
    base = bases.base_sha256(cards.read_card(source).base) if (source / "adapter_config.json").exists() else ""
    return {"source": fingerprint(source), "base": base, "revision": REVISION}


def is_current(source: Path, precision: config.Precision) -> bool:
    """True if the export is there and `source` is what it was made from. Raises UserError where there is no model."""
    loading.described_in(source)
    try:
        told = read_facts(serving_folder(source, precision))["made_from"]
    except UserError:
        return False
    return bool(told == origin(source))


def read_facts(folder: Path) -> dict[str, Any]:
    """serving.json. Raises UserError where `folder` is no serving folder."""
    try:
        facts: dict[str, Any] = json.loads((folder / SERVING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no serving folder ({error}); make it with `python run_bot.py models export`") from None
    return facts


def prefer_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Let CTranslate2 use AVX-512 on AMD's processors that have it; call it before the first model is loaded.

    CTranslate2 takes AVX2 unless told, since older processors of Intel's slow down under AVX-512. AMD's don't. Who sets CT2_FORCE_CPU_ISA
    decides.
    """
    told = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    if "AuthenticAMD" in told and set(told.split()) >= AVX512:
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def ready(source: Path, precision: config.Precision) -> Path:
    """The serving folder of `source`, exported by a process of its own if it isn't current.

    Raises:
        UserError: there is no model, or it can't be exported.
    """
    if not is_current(source, precision):
        command = [sys.executable, "-m", "bot", "models", "export", str(source), "--precision", precision]
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=with_root(os.environ), check=False).returncode:
            raise UserError(f"{source}: can't be exported, the line above says why; the back end transformers serves it as it is")
    return serving_folder(source, precision)
