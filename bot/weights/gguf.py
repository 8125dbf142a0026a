"""Convert a quantised language model in a GGUF file to a transformers folder."""

from __future__ import annotations

import json
import os
from pathlib import Path


class DiskFull(Exception):
    """The disk is full, reported by a library without an errno."""


def convert_gguf(path: Path, folder: Path, split_digits: bool = False) -> None:
    """Write config, float16 safetensors and tokenizer of the model in `path` to `folder`.

    split_digits: the tokenizer makes each digit a token (`tokenizer.ggml.pre` is smollm or starcoder), which transformers ignores.
    float16 is sufficient: a 4-bit weight is a multiple of a float16 scale, and the error of rounding it to 11 bits is a hundred times
    smaller than that of the quantisation.
    """
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; hides three progress bars of transformers
    import torch
    import transformers
    from safetensors import SafetensorError
    from tokenizers import pre_tokenizers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        packed = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        config = type(packed.config).from_dict({k: v for k, v in packed.config.to_dict().items() if k != "quantization_config"})
        # transformers refuses to save a model loaded from GGUF, so copy the weights to a new model
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16)
        model.load_state_dict(packed.state_dict())
        model.save_pretrained(folder)
        if split_digits:  # a digit also ends a run of spaces
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise (DiskFull(str(error)) if "No space left" in str(error) else error) from error
    # stored as float16 to save space, but computed in float32: float16 is slow on CPUs and diverges in training
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
