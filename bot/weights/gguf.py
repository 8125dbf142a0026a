"""A quantised language model in one GGUF file -> an ordinary transformers folder."""

from __future__ import annotations

import json
import os
from pathlib import Path


class DiskFull(Exception):
    """The disk is full, and a library said so in words instead of by errno."""


def convert_gguf(path: Path, folder: Path, digits_alone: bool = False) -> None:
    """Write config, float16 safetensors and tokenizer of the model in `path` into `folder`.

    digits_alone: its tokenizer makes each digit a token (`tokenizer.ggml.pre` is smollm or starcoder), which transformers ignores.
    float16 suffices: a 4-bit weight is one of 16 steps of a float16 scale, and rounding their product to 11 bits is an error a
    hundred times below that of the quantisation itself.
    """
    os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it on import: three progress bars of transformers' otherwise
    import torch
    import transformers
    from safetensors import SafetensorError
    from tokenizers import pre_tokenizers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        packed = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        config = type(packed.config).from_dict({k: v for k, v in packed.config.to_dict().items() if k != "quantization_config"})
        # transformers refuses to save the model that it took from a GGUF, so its weights go into one made from the config
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16)
        model.load_state_dict(packed.state_dict())
        model.save_pretrained(folder)
        if digits_alone:  # and each breaks a run of spaces
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise (DiskFull(str(error)) if "No space left" in str(error) else error) from error
    # stored in half the space, but to be computed with in float32: CPUs are slow at float16 and training in it diverges
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
