"""Training in several processes, on one or more machines, as started by torchrun or `accelerate launch`.

    torchrun --nproc-per-node 2 run_bot.py train lm --data data/prepared --out models/lm
    accelerate launch --multi_gpu --num_processes 2 run_bot.py train upvote

Every process has the whole model and trains on its share of each batch; the gradients are added up. So the result does not depend on the
number of processes, except for rounding and the masks of dropout, and a run may be resumed with another number. One GPU per process, or
the CPU. Process 0 writes the checkpoint and the model; on several machines OUT must be on a file system that all of them see, to resume.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from bot.cli import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
# of torchrun
GROUP = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "ROLE_NAME",
    "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def count() -> int:
    """How many processes train together."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """The number of this process among them."""
    return _number("RANK", 0) if count() > 1 else 0


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if value and not value.isdecimal():
        raise UserError(f"{name} is {value!r} in the environment, expected a number; unset it, or start with torchrun")
    return int(value) if value else default


def check() -> None:
    """Raises UserError if only some of the variables of torchrun are set."""
    if count() > 1 and not (rank() < count() and os.environ.get("MASTER_ADDR") and os.environ.get("MASTER_PORT")):
        raise UserError(f"WORLD_SIZE is {count()} in the environment, but not what else torchrun sets; unset it, or start with torchrun")


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def on_gpu() -> str:
    """The name of this process's GPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def without_group(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that this process starts, and that runs alone."""
    by_torchrun = ("OMP_NUM_THREADS",) if "TORCHELASTIC_RUN_ID" in environment and environment.get("OMP_NUM_THREADS") == "1" else ()
    return {
        name: value
        for name, value in environment.items()
        if name not in GROUP and not name.startswith("TORCHELASTIC_") and name not in by_torchrun
    }


def share(batch: list[Item]) -> list[Item]:
    """The items of a batch that this process trains on; may be empty. Items at equal distances, because neighbours have similar lengths."""
    return batch[rank() :: count()]


def connect(parameters: Sequence[torch.Tensor], step: int) -> None:
    """Wait for the other processes, and begin with the parameters of the first. step: the one after which training resumes.

    Raises UserError if the step is not that of the other processes.
    """
    if count() == 1:
        return
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if is_first():
            print(f"waiting for {count()} processes", flush=True)
        if torch.cuda.is_available():
            torch.cuda.set_device(on_gpu())
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    steps = torch.tensor([step, -step], device=parameters[0].device)
    distributed.all_reduce(steps, distributed.ReduceOp.MAX)
    if int(steps[0]) != -int(steps[1]):
        raise UserError(f"the processes resume after different steps ({-int(steps[1])} and {int(steps[0])}); give them the same --out")
    for parameter in parameters:
        distributed.broadcast(parameter.data, 0)


def disconnect() -> None:
    """The end of the training, so that the processes that do not save the model end."""
    if count() == 1:
        return
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over several processes. All of them must call this with tensors of the same shapes."""
    import torch
    from torch import distributed

    flat = torch.cat([each.reshape(-1).float() for each in tensors])
    distributed.all_reduce(flat)
    for own, total in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
        own.copy_(total.view_as(own))
