"""models convert: convert a gpt-2-simple checkpoint to a transformers folder.

Reads  FOLDER: checkpoint, model*.index, model*.data-…, hparams.json, encoder.json, vocab.bpe; model.json if it exists
Writes OUT, atomically: config.json, model.safetensors, tokenizer.json, tokenizer_config.json, and the card

    python run_bot.py models convert models/lm-124M --out models/lm-124M-transformers

gpt-2-simple trains with `<|startoftext|>` and `<|endoftext|>` as ordinary text. tokenizer_config.json has these texts, for
bot.generators.transformers. PyTorch is not needed: TensorFlow reads the weights, and safetensors writes NumPy arrays.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import files
from bot.cli import UserError
from bot.weights import cards


def convert(folder: Path, out: Path, overwrite: bool = False) -> None:
    """Convert a checkpoint.

    Raises:
        UserError: `folder` is not a complete checkpoint, or `out` exists (with `overwrite`: and is not a model).
    """
    models = ("config.json", cards.CARD_FILE)
    files.check_output_folder(out, [folder], overwrite, lambda path: any((path / name).exists() for name in models))

    from bot.generators.gpt_2_simple import END, START, open_checkpoint

    checkpoint, hparams, bpe = open_checkpoint(folder)
    card = cards.read_card(folder) if (folder / cards.CARD_FILE).exists() else None
    end = bpe.encoder[END]
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "vocab_size": hparams.n_vocab, "n_positions": hparams.n_ctx, "n_embd": hparams.n_embd, "n_head": hparams.n_head,
        "n_layer": hparams.n_layer, "bos_token_id": end, "eos_token_id": end, "tie_word_embeddings": True, "dtype": "float32",
    }  # fmt: skip
    tokenizer_config = {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END,
        "add_prefix_space": False, "clean_up_tokenization_spaces": False, "model_max_length": hparams.n_ctx,
        "spelt_start": START, "spelt_end": END,
    }  # fmt: skip
    with files.atomic_folder(out) as new:
        write_weights(checkpoint, new / "model.safetensors")
        tokenizer(bpe).save(str(new / "tokenizer.json"))
        for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
            (new / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if card is not None:
            card.notes = f"{card.notes} Converted from gpt-2-simple's layout.".strip()
            cards.write_card(new, card)


def transformers_name(name: str) -> str:
    """The name in transformers for a variable of gpt-2-simple.

    >>> transformers_name("model/h11/attn/c_attn/w"), transformers_name("model/wte"), transformers_name("model/ln_f/g")
    ('transformer.h.11.attn.c_attn.weight', 'transformer.wte.weight', 'transformer.ln_f.weight')
    """
    *path, last = re.sub(r"^model/(?:h(\d+)/)?", lambda m: f"h/{m[1]}/" if m[1] else "", name).split("/")
    ends = {"w": ["weight"], "g": ["weight"], "b": ["bias"]}.get(last, [last, "weight"])
    return ".".join(["transformer", *path, *ends])


def write_weights(checkpoint: Path, target: Path) -> None:
    """Write the weights as safetensors.

    Both formats store a matrix as (inputs, outputs); gpt-2-simple has an additional first dimension of 1, for a convolution of width 1.

    Raises UserError if the file of the weights is truncated or damaged.
    """
    import tensorflow as tf
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {}
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        for name in reader.get_variable_to_shape_map():
            if name.startswith("model/"):
                value = reader.get_tensor(name)
                tensors[transformers_name(name)] = value[0] if name.endswith("/w") else value
    except (tf.errors.OpError, RuntimeError, IndexError, ValueError) as error:
        raise UserError(f"{checkpoint.parent}: {checkpoint.name} is damaged ({error}); pull or train it again") from None
    try:
        save_file(tensors, target, metadata={"format": "pt"})
    except SafetensorError as error:
        raise (OSError(errno.ENOSPC, "", str(target)) if "No space left" in str(error) else error) from error


def tokenizer(bpe: Any) -> Any:
    """Convert gpt-2-simple's encoder to a tokenizer of the tokenizers library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    result = Tokenizer(models.BPE(vocab=bpe.encoder, merges=list(bpe.bpe_ranks)))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    return result


def convert_command(
    folder: Annotated[Path, typer.Argument(help="gpt-2-simple checkpoint: a trained model, or models/base/124M")],
    out: Annotated[Path, typer.Option(help="output folder")],
    overwrite: files.Overwrite = False,
) -> None:
    """Convert a gpt-2-simple checkpoint to a transformers folder, for generate.backend = "transformers"."""
    convert(folder, out, overwrite)
    print(files.display_path(out))
