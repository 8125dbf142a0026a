"""TODO: bot.weights.loading"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from bot import cli, files
from bot.cli import UserError
from bot.weights import bases, cards

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
        raise UserError(
            f"{files.display_path(path)}: the model can't be loaded ({cli.first_line(error)}); pull or train it again"
        ) from None
    return model.eval(), tokenizer


def described_in(path: Path) -> Path:
    """The folder of transformers with the configuration and tokenizer of a model: its own, or that of the base that an adapter lies over.

    Raises:
        UserError: there is no model, or it isn't one of transformers', or its base has not been pulled.
    """
    folder = bases.base_path(cards.read_card(path).base) if (path / "adapter_config.json").exists() else path
    if (path / "saved_model.pb").exists():
        raise UserError(
            f'{files.display_path(path)}: a model of back end tfhub-bert; set rank.backend = "tfhub-bert" or another folder in the config'
        )
    if not (folder / "config.json").exists():
        if (folder / "hparams.json").exists():
            raise UserError(
                f"{files.display_path(path)}: a checkpoint of gpt-2-simple; set generate.backend to gpt-2-simple, "
                "or make a transformers folder of it (`python run_bot.py models convert`)"
            )
        raise UserError(
            f"{files.display_path(path)}: no model here; train one (`python run_bot.py train --help`), or name another folder in the config"
        )
    return folder
