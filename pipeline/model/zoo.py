"""A network from its settings: ours, or any architecture of segmentation-models-pytorch."""

import inspect
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.model.unet import UNet, pad_to_multiple
from pipeline.recipe import UNetSettings, ZooSettings

# Mean and deviation of photographs (ImageNet's, as everyone uses them), on the scale 0 to 255.
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)


class Segmenter(nn.Module):
    """A network with its own normalisation, so that weights and what they expect of a picture cannot part."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Constants of the code, not weights: they do not belong into a checkpoint.
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image (n, 3, height, width), uint8 or float from 0 to 255, RGB → logits (n, 1, height, width)."""
        return self.network((image - self.mean) / self.deviation)


class AnySize(nn.Module):
    """Pads for a network that accepts only multiples of a number, and cuts its logits back."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        return self.network(pad_to_multiple(image, self.multiple))[..., :height, :width]


def build(settings: UNetSettings | ZooSettings) -> Segmenter:
    """The network of a recipe, with random weights unless it names a local file of encoder weights.

    Raises:
        UserError: no such architecture or encoder, options it does not take, or encoder weights that do not fit.
    """
    return Segmenter(UNet(settings) if isinstance(settings, UNetSettings) else _from_zoo(settings))


def parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters())


def _from_zoo(settings: ZooSettings) -> nn.Module:
    # Imported here, because it takes seconds and our own network does not need it.
    import segmentation_models_pytorch as smp

    architectures = {
        name: kind
        for name, kind in vars(smp).items()
        if inspect.isclass(kind) and issubclass(kind, smp.base.SegmentationModel)
    }
    if settings.name not in architectures:
        raise UserError(f"network.name: {settings.name!r} is not one of unet, {', '.join(sorted(architectures))}")
    try:
        network = architectures[settings.name](
            settings.encoder, encoder_weights=None, in_channels=3, classes=1, **settings.options
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"network: {settings.name} cannot be built with encoder {settings.encoder!r} and "
            f"options {settings.options} ({str(error)[:200]})"
        ) from None
    if settings.encoder_weights is not None:
        _load_encoder(network, settings.encoder_weights)
    # Five halvings are the most an encoder of that library makes; some transformers ask for as much regardless.
    return AnySize(network, 32)


def _load_encoder(network: nn.Module, path: Path) -> None:
    try:
        network.encoder.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: does not hold weights of this encoder ({str(error)[:200]})") from None
