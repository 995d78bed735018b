"""Give each of several trainings on one machine a GPU of its own."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.host import available_cores, count_gpus
from pipeline.paths import gpu_lock


@contextmanager
def take_gpu(poll: float = 1.0) -> Iterator[None]:
    """Wait for one of the first ``GPU_SLOTS`` GPUs, and let this process see only it. Must precede the import of torch.

    Does nothing without this environment variable, which ``make train-all GPUS=2`` sets. Without GPUs, the trainings
    share the cores.

    Args:
        poll: seconds between two looks for a free GPU.
    """
    slots = os.environ.get("GPU_SLOTS", "")
    if not slots:
        yield
        return
    gpus = count_gpus()
    if not gpus:
        os.environ["OMP_NUM_THREADS"] = str(max(1, available_cores() // int(slots)))
        yield
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = (visible.split(",") if visible else [str(number) for number in range(gpus)])[: int(slots)]
    with ExitStack() as stack:
        os.environ["CUDA_VISIBLE_DEVICES"] = _take_one(devices, stack, poll)
        yield


def _take_one(devices: list[str], stack: ExitStack, poll: float) -> str:
    while True:
        for device in devices:
            try:
                stack.enter_context(lock(gpu_lock(device), "this GPU is taken"))
            except UserError:
                continue
            return device
        time.sleep(poll)
