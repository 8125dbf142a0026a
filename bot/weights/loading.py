"""Load a transformers model: a full folder, or trained layers or an adapter with their base. And how TensorFlow is imported."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bot import cli, files
from bot.cli import UserError
from bot.weights import bases, cards

LAYERS_FILE = "layers.safetensors"  # all weights but the embeddings, in half precision


def quiet() -> None:
    """Silence progress bars and warnings of transformers. Errors are still raised."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft looks for the base by the name in the adapter


@contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Import TensorFlow or Keras in this block: with fewer messages about the machine, and without the optional packages that Keras imports
    where they are installed. Nothing here uses them with Keras, and they take a third of the time.
    """
    has_gpu = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))  # of Linux, of WSL
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if has_gpu else "3")  # 3: without the error that there is no GPU
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # otherwise no GPU memory is left for other processes
    os.environ["KERAS_BACKEND"] = "tensorflow"
    unused = [name for name in ("IPython", "matplotlib", "pandas", "sklearn") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]  # None: the import fails as if it were not installed
    try:
        yield
    finally:
        for name in unused:
            del sys.modules[name]


def keep_freed_memory(one_heap: bool = False) -> None:
    """Let glibc keep freed memory for the next tensors. Otherwise the process requests the same pages from the system again and again.

    one_heap: let all threads share one heap, because a heap of a thread cannot keep more than 64 MiB. Slightly slower for small tensors.
    Call it before threads are started.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    # malloc.h: M_MMAP_THRESHOLD (at most 32 MiB in older releases), M_TRIM_THRESHOLD, M_ARENA_MAX
    if set_option and set_option(-3, 32 << 20):
        set_option(-1, 1 << 30)
        if one_heap:
            set_option(-8, 1)


def load(path: Path, auto_class: Any, **options: Any) -> tuple[Any, Any]:
    """Load a model in float32, in evaluation mode, and its tokenizer. An adapter is merged into the base that its card names,
    and trained layers replace those of the base.

    auto_class: one of transformers' AutoModelFor… classes. options: arguments for its from_pretrained.

    Raises:
        UserError: the model is missing, incomplete or of another kind, or its base is not installed.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    quiet()
    folder = transformers_folder(path)
    generator = auto_class is AutoModelForCausalLM
    if (path / cards.CARD_FILE).exists() and (cards.read_card(path).kind == "lm") != generator:
        raise _wrong_kind(path, generator)
    with one_line(path):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = auto_class.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, **options)
        if (path / LAYERS_FILE).exists():
            load_layers(model, path)
        elif folder != path:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, path).merge_and_unload()
        elif report["missing_keys"] and auto_class is not AutoModel:  # transformers fills a missing head with random weights
            raise _wrong_kind(path, generator)
        if model.config.is_encoder_decoder:
            raise UserError(f"{files.display_path(path)}: {bases.ENCODER_DECODER}")
    return model.eval(), tokenizer


@contextmanager
def one_line(path: Path, remedy: str = "pull or train it again") -> Iterator[None]:
    """Turn any error in the block, which loads or tries the model in `path`, into a UserError: libraries raise errors of many types."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{files.display_path(path)}: the model cannot be loaded ({reason(error)}); {remedy}") from error


def reason(error: Exception) -> str:
    """The first line of an error's message. If it is only the name of a missing attribute or key, the line states that.

    >>> try: "".heads
    ... except AttributeError as error: reason(error)
    'the model has no "heads"'
    """
    if isinstance(error, AttributeError) and error.name:
        return f'the model has no "{error.name}"'
    return f'the config has no "{error.args[0]}"' if isinstance(error, KeyError) and error.args else cli.first_line(error)


def load_layers(model: Any, path: Path) -> None:
    """Replace the model's weights by those in `path`. Raises ValueError if a weight other than an embedding is missing or unknown."""
    from safetensors.torch import load_file

    result = model.load_state_dict({name: value.float() for name, value in load_file(path / LAYERS_FILE).items()}, strict=False)
    wrong = result.unexpected_keys + [name for name in result.missing_keys if ".embeddings." not in f".{name}"]
    if wrong:
        raise ValueError(f"{LAYERS_FILE}: missing or unknown weight {wrong[0]}")


def _wrong_kind(path: Path, generator: bool) -> UserError:
    kind = "generator" if generator else "ranker"
    return UserError(f"{files.display_path(path)}: the model is not a {kind}; set the folder of a {kind} in the config")


def needs_base(path: Path) -> bool:
    """True if the folder has an adapter or layers, which are useless without their base."""
    return (path / "adapter_config.json").exists() or (path / LAYERS_FILE).exists()


def transformers_folder(path: Path) -> Path:
    """The folder with the configuration and tokenizer of a transformers model: its own, or for an adapter or layers that of the base.

    Raises:
        UserError: there is no model, it is not a transformers model, or its base is not installed.
    """
    folder = bases.base_path(cards.read_card(path).base) if needs_base(path) else path
    if not (folder / "config.json").exists():
        if (folder / "hparams.json").exists():
            raise UserError(
                f"{files.display_path(path)}: a checkpoint of gpt-2-simple; set generate.backend to gpt-2-simple, "
                "or convert it to a transformers folder (`python run_bot.py models convert`)"
            )
        if (path / cards.CARD_FILE).exists() and (back_end := cards.read_card(path).settings.get("backend")):
            where = "generate.backend" if cards.read_card(path).kind == "lm" else "rank.backend"
            raise UserError(
                f'{files.display_path(path)}: a model of back end {back_end}; set {where} = "{back_end}" or another folder in the config'
            )
        if (path / "server.toml").exists():
            raise UserError(
                f"{files.display_path(path)}: stands for a model on a server; add --engine openai-server, or set generate.backend"
            )
        raise UserError(
            f"{files.display_path(path)}: no model here; train one (`python run_bot.py train --help`), or set another folder in the config"
        )
    return folder
