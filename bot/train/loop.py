"""The training loop: batches, learning rate schedule, progress bar, and a checkpoint to resume from. `fit` is the PyTorch version.

Reads and writes OUT/checkpoint.pt (`fit`), every two minutes.

`fit` takes the batches of the whole run, in order. They depend on the seed only, so a resumed run continues with the batches that the
interrupted run would have seen. PyTorch is imported inside functions because the TensorFlow trainers use this module too.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bot import files
from bot.cli import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
CHECKPOINT_SECONDS = 120.0
WARMUP = 0.05  # share of all steps
MAX_GRADIENT_NORM = 1.0


def device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where the hardware multiplies it faster than float32: recent GPUs, and CPUs with avx512_bf16."""
    import torch

    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=autocast_enabled())


def autocast_enabled() -> bool:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def cast_frozen_weights(model: torch.nn.Module) -> None:
    """Store frozen weights in bfloat16 if autocast would cast them at every step anyway: 20 % faster on two cores."""
    if autocast_enabled():
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()


def batches_by_length(items: Sequence[Item], length: Callable[[Item], int], max_tokens: int, epochs: int, seed: int) -> list[list[Item]]:
    """Shuffled batches of items of similar length. Each item occurs once per epoch.

    A batch has at most `max_tokens` (longest item times number of items); a longer item is a batch of its own.

    >>> sorted(len(batch) for batch in batches_by_length([5, 5, 9, 9], lambda n: n, 10, 1, 0))
    [1, 1, 2]
    """
    rng = random.Random(seed)
    result: list[list[Item]] = []
    for _ in range(epochs):
        order = list(items)
        rng.shuffle(order)
        epoch: list[list[Item]] = []
        for start in range(0, len(order), 2048):  # sorting within small pools keeps the overall order random
            batch: list[Item] = []
            for item in sorted(order[start : start + 2048], key=length):
                if batch and length(item) * (len(batch) + 1) > max_tokens:
                    epoch.append(batch)
                    batch = []
                batch.append(item)
            if batch:
                epoch.append(batch)
        rng.shuffle(epoch)
        result += epoch
    return result


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then cosine decay to a tenth of the peak (Loshchilov and Hutter 2017, arXiv:1608.03983).

    >>> learning_rate_at(50, 1000, 1.0), round(learning_rate_at(1000, 1000, 1.0), 6)
    (1.0, 0.1)
    """
    warmup_steps = max(1, round(steps * WARMUP))
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (0.55 + 0.45 * math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def fit(
    parameters: Sequence[torch.nn.Parameter],
    batches: Sequence[Item],
    loss_of: Callable[[Item], torch.Tensor],
    learning_rate: float,
    checkpoint: Path,
    settings: dict[str, Any],
    seed: int,
) -> list[float]:
    """Train `parameters` with AdamW, one step per batch, in order. Returns the loss of each step.

    Writes a checkpoint every two minutes and resumes from it if there is one. `settings` identifies the run: a checkpoint is only used
    if it was written with equal settings.

    Raises:
        UserError: the checkpoint belongs to a run with other settings, or cannot be read.
    """
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    losses: list[float] = []
    key = settings_key(settings)
    if checkpoint.exists():
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds of exception for a damaged file
            raise UserError(f"{checkpoint}: cannot be read ({error}); delete it to start again") from None
        check_settings(checkpoint, state["settings"], key)
        with torch.no_grad():
            for parameter, value in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
        print(f"resuming at step {len(losses)} of {len(batches)} ({checkpoint})")

    def one_step(step: int) -> float:
        torch.manual_seed(seed * len(batches) + step)  # the same dropout masks after a resume
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(batches), learning_rate)
        with autocast():
            loss = loss_of(batches[step])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def save() -> None:
        state = {
            "parameters": [parameter.detach() for parameter in parameters],
            "optimizer": optimizer.state_dict(),
            "losses": losses,
            "settings": key,
        }
        with files.atomic_binary_writer(checkpoint) as file:
            torch.save(state, file)

    run_steps(losses, len(batches), one_step, save)
    return losses


def run_steps(losses: list[float], steps: int, one_step: Callable[[int], float], save: Callable[[], None]) -> None:
    """Run the steps after those in `losses`, with a progress bar, and append each loss. Calls `save` every two minutes and at the end."""
    loss_column = TextColumn("{task.fields[loss]}")  # empty until there is one
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), loss_column)
    saved = time.monotonic()
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=steps, completed=len(losses), loss="")
        for step in range(len(losses), steps):
            losses.append(one_step(step))
            progress.update(task, advance=1, loss=f"loss {mean_of_last(losses):.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
                save()
                saved = time.monotonic()


def mean_of_last(losses: Sequence[float], steps: int = 50) -> float:
    """Mean loss over the last `steps` steps.

    >>> mean_of_last([9.0, 1.0, 3.0], 2)
    2.0
    """
    last = losses[-steps:]
    return sum(last) / len(last)


def settings_key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def check_settings(checkpoint: Path, stored: str, key: str) -> None:
    """Raises UserError if the checkpoint belongs to a run with other settings."""
    if stored != key:
        raise UserError(f"{checkpoint}: belongs to a run with other settings; delete it, or use another --out")
