"""Build a model from a recipe: our UNet or any architecture of segmentation-models-pytorch."""

import inspect
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.models.unet import UNet, pad_to_multiple
from pipeline.recipe import SMPConfig, UNetConfig

# ImageNet's mean and standard deviation, on the scale 0 to 255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class SegmentationModel(nn.Module):
    """A network with its input normalization: takes values from 0 to 255, returns logits.

    Args:
        network: maps (n, channels, h, w) float to logits.
        channels: channels of the images. Three are RGB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, channels: int = 3) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", MEAN), ("std", STD)):
            constants = values if channels == 3 else [sum(values) / 3] * channels
            # Not persistent: constants of the code do not belong into a weights file.
            self.register_buffer(name, torch.tensor(constants).view(1, channels, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (n, channels, h, w), such as RGB, from 0 to 255, uint8 or float, to logits (n, channels, h, w)."""
        logits: Tensor = self.network((image - self.mean) / self.std)
        return logits


class PadToMultiple(nn.Module):
    """Pad the input of a network that accepts only multiples of a number, and crop its output.

    Args:
        network: maps (n, c, h, w) float to logits (n, channels, h, w), for h and w that are multiples of `multiple`.
        multiple: required divisor of height and width.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, c, h, w) float to logits (n, channels, h, w) of the same height, width and dtype."""
        height, width = image.shape[-2:]
        logits: Tensor = self.network(pad_to_multiple(image, self.multiple))[..., :height, :width]
        return logits


def build_model(config: UNetConfig | SMPConfig, classes: Classes = SINGLE_CLASS) -> SegmentationModel:
    """Build the model that a recipe's ``[network]`` table describes.

    Weights are random unless the table gives a local file of encoder weights.

    Args:
        config: the table.
        classes: classes of the competition, and the channels of its images; the logits have one channel per class, and
            one more if they are exclusive.

    Returns:
        The model in training mode on the CPU, float32: images (n, image channels, h, w) from 0 to 255 to logits
        (n, channels, h, w).

    Raises:
        UserError: the architecture, the encoder or an option does not exist, or the encoder weights do not fit.
    """
    if isinstance(config, UNetConfig):
        network: nn.Module = UNet(config, classes.image_channels, classes.channels)
    else:
        network = _build_smp(config, classes)
    return SegmentationModel(network, classes.image_channels)


def count_parameters(model: nn.Module) -> int:
    """Count all parameters, trainable or frozen; buffers are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def _build_smp(config: SMPConfig, classes: Classes) -> nn.Module:
    # Imported here: the import takes seconds, and our own UNet does not need it.
    import segmentation_models_pytorch as smp

    architectures: dict[str, Any] = {
        name: kind
        for name, kind in vars(smp).items()
        if inspect.isclass(kind) and issubclass(kind, smp.base.SegmentationModel)
    }
    if config.name not in architectures:
        known = ", ".join(["unet", *sorted(architectures)])
        raise UserError("network.name", f"there is no architecture {config.name!r}", f"choose one of {known}")
    try:
        build = architectures[config.name]
        network: nn.Module = build(
            config.encoder,
            encoder_weights=None,
            in_channels=classes.image_channels,
            classes=classes.channels,
            **config.options,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"{config.name} cannot be built with encoder {config.encoder!r} and options {config.options}"
        raise UserError(
            "network", f"{what} ({str(error)[:200]})", "correct network.encoder or network.options"
        ) from None
    if config.encoder_weights is not None:
        _load_encoder(network.get_submodule("encoder"), config.encoder_weights)
    # Encoders of the library downsample at most five times; some transformers need this multiple in any case.
    return PadToMultiple(network, 32)


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    try:
        encoder.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        what = f"does not hold weights of this encoder ({str(error)[:200]})"
        raise UserError(path, what, "correct network.encoder or network.encoder_weights") from None
