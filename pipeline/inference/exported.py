"""The prediction of an ensemble as one module: images of any size in, probabilities of the same size out.

It holds what lies outside of the models in this pipeline (resizing, flips, averaging, upsampling), so that the exported
program needs nothing else.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.masks import Size
from pipeline.inference.tta import flip
from pipeline.models.classes import Classes
from pipeline.models.resize import resize_as_decoded
from pipeline.recipe import Flip


class ExportedEnsemble(nn.Module):
    """Average the probabilities of models and flips.

    Args:
        models: models in evaluation mode, in float32.
        flips: views to average.
        classes: classes of the models.
        size: (width, height) of the models' input.
    """

    def __init__(self, models: Sequence[nn.Module], flips: Sequence[Flip], classes: Classes, size: Size) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.flips = tuple(flips)
        self.classes = classes
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """Map images (n, 3, h, w) uint8 RGB to probabilities (n, classes, h, w) float32, 0 to 1."""
        height, width = image.shape[-2:]
        small = resize_as_decoded(image.float(), self.size)
        maps = [
            flip(self.classes.probabilities(model(flip(small, how))), how)
            for how in self.flips
            for model in self.models
        ]
        mean = torch.stack(maps).mean(dim=0)
        return F.interpolate(mean, (height, width), mode="bilinear", align_corners=False)
