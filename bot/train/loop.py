"""The training loop: batches, learning rate schedule, progress bar, and a checkpoint to resume from. `fit` is for PyTorch, `Run` for Keras.

Reads and writes OUT/checkpoint.pt (`fit`) or OUT/checkpoint.npz (`Run`), every two minutes.

`fit` takes the batches of the whole run, in order. They depend on the seed only, so a resumed run continues with the batches that the
interrupted run would have seen. PyTorch is imported inside functions because the TensorFlow trainers use this module too.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bot import cli, files
from bot.cli import UserError
from bot.schema import LossRow
from bot.train import processes

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
CHECKPOINT_SECONDS = 120.0
WARMUP = 0.05  # share of all steps
MAX_GRADIENT_NORM = 1.0


def device() -> torch.device:
    import torch

    return torch.device(processes.on_gpu() if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where the hardware multiplies it faster than float32: recent GPUs, and CPUs with avx512_bf16."""
    import torch

    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=autocast_enabled())


def autocast_enabled() -> bool:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


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
    batches: Sequence[list[Item]],
    loss_of: Callable[[list[Item]], torch.Tensor],
    learning_rate: float,
    checkpoint: Path,
    settings: dict[str, Any],
    seed: int,
    terms_of: Callable[[list[Item]], int] = len,
) -> tuple[list[float], float]:
    """Train `parameters` with AdamW, one step per batch, in order. Returns the loss of each step, and the hours without interruptions.

    loss_of: batch -> mean loss over the terms of the batch; terms_of: batch -> number of terms, by default the items. Processes that train
    together (`processes`) each call loss_of with their share of every batch.

    Writes a checkpoint every two minutes and resumes from it if there is one. `settings` identifies the run: a checkpoint is only used
    if it was written with equal settings.

    Raises:
        UserError: the checkpoint belongs to a run with other settings, or cannot be read.
    """
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    key = settings_key(settings)
    losses, seconds = resumed(checkpoint, key, parameters, optimizer)
    started = time.monotonic() - seconds
    if losses and processes.is_first():
        print(f"resuming at step {len(losses)} of {len(batches)} ({checkpoint})")

    def one_step(step: int) -> float:
        # the same dropout masks after a resume, and others in each process
        torch.manual_seed((seed * len(batches) + step) * processes.count() + processes.rank())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(batches), learning_rate)
        loss = torch.zeros((), device=device())
        if share := processes.share(batches[step]):
            with autocast():
                loss = loss_of(share) * (terms_of(share) / terms_of(batches[step]))
            loss.backward()
        loss = loss.detach()
        if processes.count() > 1:
            processes.add_up([*(gradient_of(parameter) for parameter in parameters), loss])
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def save() -> None:
        if processes.is_first():
            write_checkpoint(checkpoint, key, parameters, optimizer, losses, time.monotonic() - started)

    processes.connect(parameters, len(losses))
    run_steps(losses, len(batches), one_step, save)
    return losses, hours(time.monotonic() - started)


def write_checkpoint(
    path: Path,
    key: str,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    seconds: float,
) -> None:
    """Write what `resumed` reads. seconds: of training so far."""
    import torch

    state = {
        "parameters": [parameter.detach() for parameter in parameters],
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "seconds": seconds,
        "settings": key,
    }
    with files.atomic_binary_writer(path) as file:
        torch.save(state, file)


def hours(seconds: float) -> float:
    """For a card. At least 0.001, because 0 means that they are not known."""
    return max(0.001, round(seconds / 3600, 3))


def resumed(
    checkpoint: Path, key: str, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[list[float], float]:
    """The losses of the steps before the checkpoint, whose parameters and optimizer it restores, and their seconds; none without one."""
    import torch

    if not checkpoint.exists():
        return [], 0.0
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of exception for a damaged file
        raise UserError(f"{checkpoint}: cannot be read ({error}); delete it to start again") from None
    check_settings(checkpoint, state["settings"], key)
    with torch.no_grad():
        for parameter, value in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return state["losses"], state.get("seconds", 0.0)  # older versions did not write it


def gradient_of(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The gradient; zeros if the process's share of the batch did not need the parameter."""
    import torch

    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def check_finite(loss: float, name: str) -> None:
    """Raises UserError if the training has diverged."""
    if not math.isfinite(loss):
        raise UserError(f"{name} is {loss}; delete the checkpoint and lower --learning-rate")


def run_steps(losses: list[float], steps: int, one_step: Callable[[int], float], save: Callable[[], None]) -> None:
    """Run the steps after those in `losses`, with a progress bar, and append each loss. Calls `save` every two minutes and at the end.

    A log file gets no bar, but a line at each `save`. Raises UserError if a loss is not finite.
    """
    loss_column = TextColumn("{task.fields[loss]}")  # empty until there is one
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), loss_column)
    started = saved = time.monotonic()
    resumed_at = len(losses)
    with Progress(*columns, disable=not processes.is_first()) as progress:
        task = progress.add_task("training", total=steps, completed=len(losses), loss="")
        for step in range(len(losses), steps):
            loss = one_step(step)
            check_finite(loss, f"step {step + 1}: the loss")
            losses.append(loss)
            progress.update(task, advance=1, loss=f"loss {mean_of_last(losses):.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
                save()
                saved = time.monotonic()
                if processes.is_first() and not progress.console.is_terminal:
                    print(progress_line(step + 1, steps, resumed_at, saved - started, mean_of_last(losses)), flush=True)


def progress_line(step: int, steps: int, resumed_at: int, seconds: float, loss: float) -> str:
    """seconds: since the step `resumed_at`.

    >>> progress_line(300, 1200, 100, 600.0, 2.34567)
    'step 300 of 1200, loss 2.3457, 10 min, about 45 min left'
    """
    left = seconds / (step - resumed_at) * (steps - step)
    return f"step {step} of {steps}, loss {loss:.4f}, {seconds / 60:.0f} min, about {left / 60:.0f} min left"


def mean_of_last(losses: Sequence[float], steps: int = 50) -> float:
    """Mean loss over the last `steps` steps.

    >>> mean_of_last([9.0, 1.0, 3.0], 2)
    2.0
    """
    last = losses[-steps:]
    return sum(last) / len(last)


@dataclass
class Run:
    """A run of a Keras trainer, with what its checkpoint holds.

    key: see settings_key. state: the variables that training changes. kept: those whose values at the lowest validation loss are kept.
    """

    checkpoint: Path
    key: str
    state: Sequence[Any]
    kept: Sequence[Any] = ()
    losses: list[float] = field(default_factory=list)  # of each step
    val_losses: dict[int, float] = field(default_factory=dict)  # by step
    best: list[np.ndarray[Any, Any]] = field(default_factory=list)  # the values of `kept`
    seconds: float = 0.0  # of training, with its interruptions left out

    def timed_save(self) -> Callable[[], None]:
        """`save`, with the seconds from now on."""
        started = time.monotonic() - self.seconds

        def save() -> None:
            self.seconds = time.monotonic() - started
            self.save()

        return save

    def save(self) -> None:
        arrays = {f"state{index}": variable.numpy() for index, variable in enumerate(self.state)}
        arrays |= {f"best{index}": value for index, value in enumerate(self.best)}
        arrays |= {"val_steps": list(self.val_losses), "val_losses": list(self.val_losses.values())}
        with files.atomic_binary_writer(self.checkpoint) as file:
            np.savez(file, settings=np.array(self.key), losses=self.losses, seconds=self.seconds, **arrays)

    def resume(self, steps: int) -> None:
        """Read the checkpoint, if there is one. Raises UserError if it belongs to other settings or cannot be read."""
        if not self.checkpoint.exists():
            return
        try:
            with np.load(self.checkpoint) as archive:
                stored = {name: archive[name] for name in archive.files}
            settings = str(stored["settings"])
        except Exception as error:  # zipfile, zlib and numpy raise many kinds of exception for a damaged file
            raise UserError(f"{self.checkpoint}: cannot be read ({error}); delete it to start again") from None
        check_settings(self.checkpoint, settings, self.key)
        for index, variable in enumerate(self.state):
            variable.assign(stored[f"state{index}"])
        self.best = [stored[f"best{index}"] for index in range(len(self.kept)) if "best0" in stored]
        self.losses += stored["losses"].tolist()
        self.val_losses |= zip(stored["val_steps"].astype(int).tolist(), stored["val_losses"].tolist(), strict=True)
        self.seconds = float(stored.get("seconds", 0.0))  # older versions did not always write it
        print(f"resuming at step {len(self.losses)} of {steps} ({self.checkpoint})")

    def fit(
        self,
        epochs: Sequence[int],
        one_step: Callable[[int], float],
        validate: Callable[[], float],
        patience: int,
        show: Callable[[float], str],
    ) -> None:
        """Train until the lowest validation loss is `patience` epochs old, and leave `kept` with their values at that loss.

        epochs: the number of steps in each. show: a validation loss, as in the message after each epoch. Raises UserError: see `resume`,
        run_steps and check_finite.
        """
        self.resume(sum(epochs))
        save, end = self.timed_save(), 0
        for number, steps in enumerate(epochs, 1):
            end += steps
            run_steps(self.losses, end, one_step, save)
            if end not in self.val_losses:
                with cli.waiting("measuring the validation rows"):
                    loss = validate()
                check_finite(loss, f"epoch {number}: the validation loss")
                if loss < min(self.val_losses.values(), default=math.inf):
                    self.best = [variable.numpy() for variable in self.kept]
                self.val_losses[end] = loss
                save()
                means = f"loss {mean_of_last(self.losses, steps):.4f}, validation {show(loss)}"
                print(f"epoch {number} of {len(epochs)}: {means}", flush=True)
            if number - self.best_epoch >= patience:
                break
        for variable, value in zip(self.kept, self.best, strict=True):
            variable.assign(value)

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, from 1."""
        return int(np.argmin([*self.val_losses.values()])) + 1

    def rows(self) -> list[LossRow]:
        return [LossRow(step, loss, self.val_losses.get(step)) for step, loss in enumerate(self.losses, 1)]


def settings_key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def check_settings(checkpoint: Path, stored: str, key: str) -> None:
    """Raises UserError if the checkpoint belongs to a run with other settings."""
    if stored != key:
        raise UserError(f"{checkpoint}: belongs to a run with other settings; delete it, or use another --out")
