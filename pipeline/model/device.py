"""The one place that looks at the hardware: which device, and which precision suits it."""

import contextlib
import logging
from dataclasses import dataclass

import torch

from pipeline.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A device and the precision its convolutions run in; losses and sums stay float32."""

    torch: torch.device
    precision: str
    """float32, bf16 or fp16."""
    reason: str

    @property
    def scaled(self) -> bool:
        """Whether gradients need scaling: fp16's small exponents lose them otherwise."""
        return self.precision == "fp16"

    @property
    def is_gpu(self) -> bool:
        """Whether work is queued on a CUDA device."""
        return self.torch.type == "cuda"

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which a network runs."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[self.precision])


def to_device(images: torch.Tensor, device: Device) -> torch.Tensor:
    """Send images (n, c, h, w) to the device, channels last in memory: the layout its convolutions are fastest in."""
    return images.to(device.torch, non_blocking=True, memory_format=torch.channels_last)


def choose(precision: str = "auto") -> Device:
    """The best device here, and the precision that suits it unless one is asked for; the reason is logged.

    Raises:
        UserError: the precision asked for does not work on this device.
    """
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    # Training shapes are fixed: let cuDNN try its algorithms once and keep the fastest.
    torch.backends.cudnn.benchmark = True
    suited, reason = _precision(kind)
    if precision not in ("auto", suited):
        if precision == "fp16" and kind != "cuda":
            raise UserError(f"train.precision: fp16 needs a CUDA device and this is {kind}; use auto")
        suited, reason = precision, "the recipe asks for it"
    device = Device(torch.device(kind), suited, reason)
    log.info("device: %s, %s (%s)", _name(kind), suited, reason)
    return device


def _precision(kind: str) -> tuple[str, str]:
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        if major >= 8:
            return "bf16", f"compute capability {major}.{minor} has it in hardware"
        return "fp16", f"compute capability {major}.{minor} has no bf16"
    if kind == "cpu":
        # Without such instructions bf16 is emulated, and slower than float32.
        if any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16")):
            return "bf16", "this processor has bf16 instructions"
        return "float32", "this processor has no bf16 instructions"
    return "float32", "nothing else is tested here"


def _name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else f"{kind}, {torch.get_num_threads()} threads"
