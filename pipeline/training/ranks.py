"""The processes (ranks) that train one model together, started by torchrun; or one process, without torchrun."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import UserError

Value = TypeVar("Value")

_TIMEOUT = timedelta(hours=4)
"""Longest wait for another rank, such as for the main one while it cuts tiles. torchrun ends all if one fails."""


@dataclass(frozen=True)
class Ranks:
    """This process and how it talks to the others. With one process, all methods return what they are given."""

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    """Processes on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add a tensor over the ranks.

        The gradient is the sum of all ranks' gradients. If all compute the same loss from the result, it is
        `world_size` times too large, which DistributedDataParallel divides by.
        """
        if self.world_size == 1:
            return values
        if values.requires_grad and torch.is_grad_enabled():
            total: Tensor = _SumOfRanks.apply(values)
            return total
        total = values.clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over the ranks."""
        return self.sum(values) / self.world_size if self.world_size > 1 else values

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is true on any rank. Without it, ranks would stop at different steps."""
        if self.world_size == 1:
            return flags
        # On the CPU, so that a GPU does not wait.
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes)
        return tuple(bool(vote) for vote in votes.tolist())

    def broadcast(self, value: Value) -> Value:
        """Return the main process's value."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, items: Sequence[Any]) -> list[Any]:
        """Return the items of all ranks, those of rank 0 first."""
        if self.world_size == 1:
            return list(items)
        parts: list[Any] = [None] * self.world_size
        dist.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]


class _SumOfRanks(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, outer: Tensor) -> Tensor:
        total = outer.contiguous().clone()
        dist.all_reduce(total)
        return total


ONE_PROCESS = Ranks()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started, each with a GPU of its own where there are GPUs.

    Yields:
        The ranks; `ONE_PROCESS` if torchrun did not start this process.

    Raises:
        UserError: this machine has fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ONE_PROCESS
        return
    if torch.cuda.is_available():
        if int(os.environ["LOCAL_WORLD_SIZE"]) > (gpus := torch.cuda.device_count()):
            what = f"has {gpus} GPUs for {os.environ['LOCAL_WORLD_SIZE']} processes"
            raise UserError("this machine", what, f"set GPUS={gpus}")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if int(os.environ["RANK"]) > 0:
        logging.getLogger("pipeline").setLevel(logging.WARNING)  # the main process logs for all
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    leave_together = False
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
        leave_together = True
    except (KeyboardInterrupt, SystemExit):
        leave_together = True  # torchrun signals all
        raise
    finally:
        # After an error of one rank, NCCL would wait here for the others, which wait for this one.
        if leave_together:
            dist.destroy_process_group()
