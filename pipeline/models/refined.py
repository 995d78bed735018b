"""A second network that corrects the logits of the first one at a larger size.

Most wrong pixels lie near the edges of the mask, and the first network sees them at a third of the image's scale. The
second one sees them at full scale together with the first one's logits, which tell inside from outside, so it needs to
look at its surroundings only. BPR (https://arxiv.org/abs/2104.05239) refines patches along the edge this way; here the
network is convolutional over the whole image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.masks import Size
from pipeline.errors import UserError
from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.models.resize import resize_as_decoded, resize_images
from pipeline.models.unet import UNet
from pipeline.models.zoo import SegmentationModel, build_model
from pipeline.recipe import Recipe, RefineConfig

_MAX_LOGIT = 8.0
"""Logits are clamped to this magnitude: a probability of 0.9997."""
_UNSURE_LOGIT = 5.0
"""Pixels with a larger logit are taken as right, unless one that is not lies near."""
_MARGIN = 32
"""Pixels around those that are corrected too."""
_CONTEXT = 64
"""Pixels around the corrected ones that a CPU lets the second network see."""


def encode_logits(logits: Tensor) -> Tensor:
    """Map logits from -8 to 8 to the scale of colors, 0 to 255, float; larger ones are clamped."""
    return (logits.clamp(-_MAX_LOGIT, _MAX_LOGIT) + _MAX_LOGIT) * (255 / (2 * _MAX_LOGIT))


def decode_logits(code: Tensor) -> Tensor:
    """Invert `encode_logits`."""
    return code * (2 * _MAX_LOGIT / 255) - _MAX_LOGIT


class Refiner(SegmentationModel):
    """A UNet that adds a correction to logits; it begins with the correction 0.

    Args:
        network: takes the channels of the images and those of the logits, and returns the latter.
        channels: channels of the images.
    """

    def __init__(self, network: UNet, channels: int = 3) -> None:
        super().__init__(network, channels)
        self.multiple = network.multiple
        nn.init.zeros_(network.head.weight)
        assert network.head.bias is not None
        nn.init.zeros_(network.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, image channels + channels, h, w), with codes from `encode_logits`, to logits (n, channels, h, w)."""
        channels = self.mean.shape[1]
        colors = (image[:, :channels] - self.mean) / self.std
        logits = decode_logits(image[:, channels:])
        x = torch.cat([colors, logits / (_MAX_LOGIT / 2)], dim=1)
        if not torch.compiler.is_exporting():
            x = x.contiguous(memory_format=torch.channels_last)
        corrected: Tensor = self.network(x) + logits
        return corrected


class RefinedModel(SegmentationModel):
    """A first model at a small size and a refiner at the size of its input.

    Args:
        coarse: the first model.
        coarse_size: (width, height) of its input.
        refiner: the second model.
    """

    def __init__(self, coarse: SegmentationModel, coarse_size: Size, refiner: Refiner) -> None:
        super().__init__(coarse.network, coarse.mean.shape[1])
        self.mean, self.std = coarse.mean, coarse.std  # on the device of the model
        self.coarse_size = coarse_size
        self.refiner = refiner

    def coarse_logits(self, image: Tensor) -> Tensor:
        """Return the logits of the first model, resized to the image: (n, channels, h, w) float32."""
        with torch.autocast(image.device.type, enabled=False):  # bf16 would round the sums of colors
            resize = resize_as_decoded if torch.compiler.is_exporting() else resize_images
            resized = resize(image.float(), self.coarse_size)
        small = super().forward(resized)
        return F.interpolate(small.float(), image.shape[-2:], mode="bilinear", align_corners=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (n, image channels, h, w) from 0 to 255, uint8 or float, to logits (n, channels, h, w) float32."""
        logits = self.coarse_logits(image)
        pair = torch.cat([image.float(), encode_logits(logits)], dim=1)
        rows, columns = ((logits.abs() < _UNSURE_LOGIT).any(dim=1).any(dim=axis) for axis in (2, 1))
        rows, columns = _widen(rows, _MARGIN), _widen(columns, _MARGIN)
        corrected = rows[:, None, :, None] & columns[:, None, None, :]
        if image.device.type != "cpu" or torch.compiler.is_exporting():
            return torch.where(corrected, self.refiner(pair).float(), logits)
        # A CPU leaves out what an image does not need. Windows begin at a multiple of the network's factor, so that
        # pixels are pooled as in the whole image. Each image has its own, so the others in a batch change nothing.
        for number in range(len(image)):
            top, bottom = self._window(rows[number])
            left, right = self._window(columns[number])
            window = np.s_[number : number + 1, :, top:bottom, left:right]
            if bottom > top and right > left:
                refined = self.refiner(pair[window]).float()
                logits[window] = torch.where(corrected[window], refined, logits[window])
        return logits

    def _window(self, needed: Tensor) -> tuple[int, int]:
        """Return the range of the rows or columns that an image needs (side), with their surroundings."""
        found = needed.nonzero()
        if not len(found):
            return 0, 0
        first, multiple = int(found[0]) - _CONTEXT, self.refiner.multiple
        return max(0, first) // multiple * multiple, int(found[-1]) + 1 + _CONTEXT


def _widen(needed: Tensor, margin: int) -> Tensor:
    """Return the range from the first to the last True of each row (n, side), with a margin on both sides."""
    widened = F.max_pool1d(needed.float()[:, None], 2 * margin + 1, stride=1, padding=margin)[:, 0]
    # Sums, because ONNX has no running maximum.
    return (widened.cumsum(dim=1) > 0) & (widened.flip(1).cumsum(dim=1).flip(1) > 0)


def build_recipe_model(recipe: Recipe, classes: Classes = SINGLE_CLASS) -> SegmentationModel:
    """Build the model of a recipe with all its stages; see `pipeline.models.zoo.build_model`."""
    model = build_model(recipe.network, classes)
    if recipe.refine is None:
        return model
    return RefinedModel(model, recipe.input.size, build_refiner(recipe.refine, classes))


def build_refiner(config: RefineConfig, classes: Classes = SINGLE_CLASS) -> Refiner:
    """Build the second network of a recipe.

    Raises:
        UserError: the classes are exclusive, so their logits are not independent of each other.
    """
    if classes.exclusive:
        raise UserError("refine", "does not support exclusive classes", "remove the table, or set exclusive = false")
    network = UNet(config.network, classes.image_channels + classes.channels, classes.channels)
    return Refiner(network, classes.image_channels)
