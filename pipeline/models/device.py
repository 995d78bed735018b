"""Choose the device and the precision that suits it. The only module that looks at the hardware."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.host import available_cores, keep_freed_memory, processor_name

log = logging.getLogger(__name__)

PREDICT_ON_CPU = "predict on the CPU: set CUDA_VISIBLE_DEVICES to an empty text"


@dataclass(frozen=True)
class ComputeDevice:
    """A device and the precision of its convolutions. Losses and sums are float32 in any case."""

    device: torch.device
    precision: str
    """"float32", "bf16" or "fp16"."""
    reason: str
    """Why this precision."""

    @property
    def needs_grad_scaler(self) -> bool:
        """Whether gradients must be scaled: small ones underflow in fp16."""
        return self.precision == "fp16"

    @property
    def is_cuda(self) -> bool:
        """Whether this is a CUDA device."""
        return self.device.type == "cuda"

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which a model runs in this precision."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[self.precision])


def to_device(images: torch.Tensor, device: ComputeDevice) -> torch.Tensor:
    """Copy images (n, c, h, w) to the device in channels-last memory format, the fastest for its convolutions."""
    return images.to(device.device, non_blocking=True, memory_format=torch.channels_last)


def choose_device(precision: str = "auto", *, deterministic: bool = False) -> ComputeDevice:
    """Choose the best device of this machine and log it with its precision and the reason.

    Args:
        precision: "float32", "bf16", "fp16", or "auto" for the one that suits the device.
        deterministic: use only operations that give the same bits each time; slower on a GPU.

    Raises:
        UserError: the device does not support the precision.
    """
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    # Input shapes are constant: let cuDNN time its algorithms once and keep the fastest, not always the same.
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix is multiplied
    if kind == "cpu":
        keep_freed_memory()
    suitable, reason = _suitable_precision(kind)
    if precision not in ("auto", suitable):
        if precision == "fp16" and kind != "cuda":
            raise UserError("train.precision", f"fp16 needs a CUDA device, and this is {kind}", "use auto")
        suitable, reason = precision, "set by the recipe"
    device = ComputeDevice(torch.device(kind), suitable, reason)
    log.info("device: %s, %s (%s)", _device_name(kind), suitable, reason)
    return device


def describe_hardware(device: ComputeDevice) -> str:
    """Return the processor or GPU, the cores of the processor and the precision: ``NVIDIA H100, 16 cores, bf16``."""
    name = torch.cuda.get_device_name(device.device) if device.is_cuda else processor_name()
    if device.device.type == "mps":
        name += " GPU"
    cores = available_cores()
    return f"{name}, {cores} core{'s' if cores > 1 else ''}, {device.precision}"


def peak_gpu_memory(device: ComputeDevice) -> float | None:
    """Return the most GiB of GPU memory held since `release_gpu_memory`; None without a CUDA device."""
    return torch.cuda.max_memory_reserved(device.device) / 2**30 if device.is_cuda else None


def release_gpu_memory(device: ComputeDevice) -> None:
    """Return cached memory to a GPU, and begin to measure its peak anew."""
    if device.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device.device)


def _suitable_precision(kind: str) -> tuple[str, str]:
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        if major >= 8:
            return "bf16", f"compute capability {major}.{minor} supports it"
        return "fp16", f"compute capability {major}.{minor} has no bf16"
    if kind == "cpu":
        # Without instructions bf16 is emulated and slower than float32. So is AVX-512's bf16 on Intel's processors, at
        # half the rate of float32 (docs/experiments.md); those that are fast have AMX.
        features = torch.cpu.get_capabilities()
        fast_avx512 = features.get("avx512_bf16") and "Intel" not in str(features.get("cpu_name"))
        if features.get("amx_bf16") or fast_avx512:
            return "bf16", "this processor has fast bf16 instructions"
        return "float32", "this processor has no fast bf16 instructions"
    return "float32", f"half precision is not tested on {kind}"


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else f"{kind}, {torch.get_num_threads()} threads"


@contextlib.contextmanager
def explain_out_of_memory(where: str | Path, batch_size: int, fix: str) -> Iterator[None]:
    """Turn an out-of-memory error of a GPU into a UserError.

    Args:
        where: the file that states the batch size.
        batch_size: images per batch.
        fix: what the user should do.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise UserError(where, f"a batch of {batch_size} does not fit into the memory of this GPU", fix) from None
