"""TODO: bot.train.encoders"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.train import loop

if TYPE_CHECKING:
    pass


def ranker_with_lora(base: Path, rank: int, outputs: int, seed: int) -> tuple[Any, Any]:
    """An encoder with that many outputs, as a LoRA model (peft) that is ready to train, and its tokenizer.

    Sentence encoders pool by mean, so the pooler that BERT's head reads comes as it was made, by chance and next to nothing: behind it
    a head hardly learns. Such a pooler (its bias is all 0) begins as the identity. In any case it is trained whole, as the head is.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)  # before the head is made
    plain, tokenizer = encoder_to_train(AutoModelForSequenceClassification, base, num_labels=outputs)
    whole = ["classifier"]
    if pooler := getattr(plain.base_model, "pooler", None):  # BERT has one, not every encoder
        whole.append("pooler")
        if not pooler.dense.bias.any():
            torch.nn.init.eye_(pooler.dense.weight)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", modules_to_save=whole, task_type="SEQ_CLS")
    model: Any = get_peft_model(plain, lora).to(loop.device())
    model.train()
    return model, tokenizer


def encoder_to_train(auto_class: Any, base: Path, **options: Any) -> tuple[Any, Any]:
    """A base encoder of transformers and its tokenizer; options go to from_pretrained.

    Without dropout, which one or two epochs don't need. On CPUs with plain attention: there it trains faster than PyTorch's fused one.
    """
    import torch
    from transformers import AutoTokenizer

    from bot.weights import loading

    loading.quiet()
    if loop.device().type == "cpu":
        options["attn_implementation"] = "eager"
    model = auto_class.from_pretrained(base, local_files_only=True, dtype=torch.float32, **options)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    loading.keep_freed_memory()
    return model, AutoTokenizer.from_pretrained(base, local_files_only=True)


def save_adapter(model: Any, base: str, out: Path) -> None:
    """Write a LoRA adapter (peft's model) in half precision into `out`; it is merged in float32 when it is loaded."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half()
    model.peft_config["default"].base_model_name_or_path = base  # a name that base_path knows, not this machine's folder
    model.save_pretrained(out, save_embedding_layers=False)  # else peft would ask the hub for the base
    (out / "README.md").unlink(missing_ok=True)  # peft's empty template; model.json is the card
