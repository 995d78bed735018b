"""The UNet of Ronneberger, Fischer and Brox (2015, arXiv:1505.04597), with the three changes nearly everyone makes:
padded convolutions, so that the mask is as large as the picture; normalisation; and, if one likes, bilinear
enlargement on the way up.

    picture ─ stem ─ ▣ ───────────────────────────── ▣ ─ head ─ logits       width     filters
                      ↘ ▣ ───────────────────── ▣ ↗                          2 width
                          ↘ ▣ ───────────── ▣ ↗                              4 width
                              ↘ … bottom … ↗                                 …, at most `widest`
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.recipe import UNetSettings


class UNet(nn.Module):
    """Logits of one class for pictures of any size.

    Args:
        settings: width, depth, up-sampling, normalisation and stem; see `UNetSettings`.
        channels: of the picture.
    """

    def __init__(self, settings: UNetSettings, channels: int = 3) -> None:
        super().__init__()
        widths = [min(settings.width * 2**level, settings.widest) for level in range(settings.depth + 1)]
        self.stem = settings.stem
        self.multiple = settings.stem * 2**settings.depth
        self.down = nn.ModuleList()
        before = channels * self.stem**2
        for width in widths:
            self.down.append(double_conv(before, width, settings.norm))
            before = width
        self.up = nn.ModuleList(
            Up(below, beside, settings.up, settings.norm)
            for below, beside in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.head = nn.Conv2d(widths[0], self.stem**2, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (n, channels, height, width), normalised → logits (n, 1, height, width)."""
        height, width = image.shape[-2:]
        x = F.pixel_unshuffle(pad_to_multiple(image, self.multiple), self.stem)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        return F.pixel_shuffle(self.head(x), self.stem)[..., :height, :width]


class Up(nn.Module):
    """Enlarge what comes from below to twice its size, put it beside what comes across, convolve twice."""

    def __init__(self, below: int, beside: int, up: str, norm: str) -> None:
        super().__init__()
        if up == "transpose":
            self.enlarge: nn.Module = nn.ConvTranspose2d(below, beside, kernel_size=2, stride=2)
        else:
            # Fewer channels first: the enlargement costs less, and both joined halves weigh the same.
            self.enlarge = nn.Sequential(
                nn.Conv2d(below, beside, kernel_size=1), nn.Upsample(scale_factor=2, mode="bilinear")
            )
        self.convolve = double_conv(2 * beside, beside, norm)

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        """(n, below, h, w) and (n, beside, 2h, 2w) → (n, beside, 2h, 2w)."""
        return self.convolve(torch.cat([beside, self.enlarge(below)], dim=1))


def double_conv(before: int, after: int, norm: str) -> nn.Sequential:
    """Twice: 3×3 convolution, normalisation, ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            # A normalisation subtracts the mean, and the bias with it.
            nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=norm == "none"),
            normalisation(norm, after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def normalisation(norm: str, channels: int) -> nn.Module:
    """The layer called `norm`: "batch"; "group", which does not mind a batch of one; or "none"."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(max(groups for groups in range(1, 9) if channels % groups == 0), channels)
    return nn.Identity()


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (n, c, h, w) until both sides are multiples: 1918 → 1920 for 32."""
    bottom, right = (-side % multiple for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
