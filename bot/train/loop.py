"""What every training here shares: batches, learning rate, progress, a checkpoint that can be resumed; and `fit`, the loop in PyTorch.

`fit` is given the batches of the whole run in order. They are made from the seed alone, so that a resumed run sees what the broken one
would have seen. PyTorch is imported by the functions that use it, since what trains with TensorFlow imports this module too.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bot import files, text
from bot.cli import UserError
from bot.schema import Harvested

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
CHECKPOINT_SECONDS = 120.0
WARMUP = 0.05  # share of all steps
LARGEST_GRADIENT = 1.0  # norm
HARVEST_HOURS = 24  # votes are in by then


def own_replies(rows: Iterable[Harvested], left_out: Iterable[str] = ()) -> list[Harvested]:
    """Of `harvest`'s rows those that an upvote ranker learns from, cleaned: the last look of each reply that is at least a day old.

    What was removed or deleted counts as disliked, whatever its karma was. A reply whose comment is gone is left out: there is nothing to
    learn it from; so are those in threads of the other splits and of the judges' half, and in subreddits (lower case) of left_out.

    >>> row = Harvested("t1_r", "t1_c", "t3_b", "books", "Any good *books*?", "Dune.", 1.5, 1, 0, False)
    >>> later = replace(row, age_hours=25.0, karma=7)
    >>> [(each.comment, each.karma) for each in own_replies([later, row])], own_replies([row]), own_replies([later], ["books"])
    ([('Any good books?', 7)], [], [])
    >>> own_replies([replace(later, removed=True)])[0].karma
    0
    """
    latest: dict[str, Harvested] = {}
    for row in rows:
        if row.age_hours >= HARVEST_HOURS and (row.reply_id not in latest or row.age_hours > latest[row.reply_id].age_hours):
            latest[row.reply_id] = row
    result = []
    for row in latest.values():
        comment, reply = text.clean(row.comment), text.clean(row.reply)
        is_ours = text.split_for(row.thread_id) == "train" and text.half_for(row.thread_id) == "rankers"
        if comment and reply and is_ours and row.subreddit.lower() not in left_out:
            karma = min(row.karma, 0) if row.removed else row.karma
            result.append(replace(row, comment=comment, reply=reply, karma=karma))
    return result


def device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where the machine multiplies it faster than float32: newer GPUs, and CPUs with avx512_bf16."""
    import torch

    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=autocast_enabled())


def autocast_enabled() -> bool:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def store_frozen_as_computed(model: torch.nn.Module) -> None:
    """Keep the weights that aren't trained in bfloat16 where autocast would cast them at every step: a fifth faster on two cores."""
    if autocast_enabled():
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()


def batches_by_length(items: Sequence[Item], length: Callable[[Item], int], most_tokens: int, epochs: int, seed: int) -> list[list[Item]]:
    """Batches of items of like length, shuffled; each at most `most_tokens` (longest item times number of items), each item once an epoch.

    >>> sorted(len(batch) for batch in batches_by_length([5, 5, 9, 9], lambda n: n, 10, 1, 0))
    [1, 1, 2]
    """
    chance = random.Random(seed)
    result: list[list[Item]] = []
    for _ in range(epochs):
        order = list(items)
        chance.shuffle(order)
        epoch: list[list[Item]] = []
        for start in range(0, len(order), 2048):  # sorting small pools keeps the order random at large
            batch: list[Item] = []
            for item in sorted(order[start : start + 2048], key=length):
                if batch and length(item) * (len(batch) + 1) > most_tokens:
                    epoch.append(batch)
                    batch = []
                batch.append(item)
            if batch:
                epoch.append(batch)
        chance.shuffle(epoch)
        result += epoch
    return result


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak (Loshchilov and Hutter 2017, arXiv:1608.03983).

    >>> learning_rate_at(50, 1000, 1.0), round(learning_rate_at(1000, 1000, 1.0), 6)
    (1.0, 0.1)
    """
    warm = max(1, round(steps * WARMUP))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.55 + 0.45 * math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def fit(
    parameters: Sequence[torch.nn.Parameter],
    batches: Sequence[Item],
    loss_of: Callable[[Item], torch.Tensor],
    learning_rate: float,
    checkpoint: Path,
    settings: dict[str, Any],
    seed: int,
) -> list[float]:
    """Train `parameters` with AdamW on every batch once, in order; returns the loss of each step.

    A checkpoint is written every two minutes, and read at the start where there is one. `settings` is what the run was started with.

    Raises:
        UserError: the checkpoint belongs to other settings, or isn't readable.
    """
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    losses: list[float] = []
    key = settings_key(settings)
    if checkpoint.exists():
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a garbled file
            raise UserError(f"{checkpoint}: not readable ({error}); delete it to start again") from None
        check_settings(checkpoint, state["settings"], key)
        with torch.no_grad():
            for parameter, value in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
        print(f"going on at step {len(losses)} of {len(batches)} ({checkpoint})")

    def one_step(step: int) -> float:
        torch.manual_seed(seed * len(batches) + step)  # so that dropout after a resume is what it would have been
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(batches), learning_rate)
        with autocast():
            loss = loss_of(batches[step])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
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
        write_checkpoint(checkpoint, lambda file: torch.save(state, file))

    take_steps(losses, len(batches), one_step, save)
    return losses


def take_steps(losses: list[float], steps: int, one_step: Callable[[int], float], save: Callable[[], None]) -> None:
    """Take the steps that `losses` lacks and append the loss of each, with a progress bar; `save` every two minutes and after the last."""
    shown_loss = TextColumn("loss {task.fields[loss]:.4f}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), shown_loss)
    saved = time.monotonic()
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=steps, completed=len(losses), loss=math.nan)
        for step in range(len(losses), steps):
            losses.append(one_step(step))
            recent = losses[-50:]
            progress.update(task, advance=1, loss=sum(recent) / len(recent))
            if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
                save()
                saved = time.monotonic()


def settings_key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def check_settings(checkpoint: Path, found: str, key: str) -> None:
    """Raises UserError if the checkpoint is of a run with other settings."""
    if found != key:
        raise UserError(f"{checkpoint}: belongs to a run with other settings; delete it, or give another --out")


def write_checkpoint(checkpoint: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill the checkpoint, which is there whole, flushed to disk, or as it was."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_suffix(".tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(checkpoint)
    files.sync_folder(checkpoint.parent)
