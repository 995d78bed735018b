"""Models that need no training."""

import torch
from torch import nn

from pipeline.models.device import ComputeDevice

CPU = ComputeDevice(torch.device("cpu"), "float32", "test")


class Redness(nn.Module):
    """Solve the tiny competition: red is object."""

    def forward(self, image):
        return (image[:, :1].float() - image[:, 2:].float()) / 20


class Constant(nn.Module):
    """Return the same logit everywhere."""

    def __init__(self, logit, channels=1):
        super().__init__()
        self.logit = logit
        self.channels = channels

    def forward(self, image):
        return torch.full((len(image), self.channels, *image.shape[2:]), self.logit)


class Slope(nn.Module):
    """Return logits that rise to the right and to the bottom, whatever the image: not symmetric."""

    def forward(self, image):
        height, width = image.shape[-2:]
        ramp = torch.linspace(-1, 1, width)[None] + 3 * torch.linspace(-1, 1, height)[:, None]
        return ramp.expand(len(image), 1, height, width)
