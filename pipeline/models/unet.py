"""UNet (Ronneberger, Fischer and Brox 2015, https://arxiv.org/abs/1505.04597).

Differences from the paper: padded convolutions, so the output has the size of the input; normalization layers; and,
by default, bilinear upsampling instead of transposed convolutions::

    image ── stem ── ▣ ─────────────────────────────── ▣ ── head ── logits      width filters
                      ↘ ▣ ─────────────────────── ▣ ↗                           2 × width
                          ↘ ▣ ─────────────── ▣ ↗                               4 × width
                              ↘ … bottleneck … ↗                                …, at most max_width
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.recipe import UNetConfig


class UNet(nn.Module):
    """UNet for images of any size.

    Args:
        config: width, depth, upsampling, normalization and stem.
        in_channels: channels of the image.
        out_channels: channels of the logits.
    """

    def __init__(self, config: UNetConfig, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        widths = [min(config.width * 2**level, config.max_width) for level in range(config.depth + 1)]
        self.stem = config.stem
        self.multiple = config.stem * 2**config.depth
        self.encoder = nn.ModuleList()
        channels = in_channels * config.stem**2
        for width in widths:
            self.encoder.append(double_conv(channels, width, config.norm))
            channels = width
        self.decoder = nn.ModuleList(
            UpBlock(channels, skip_channels, config.up, config.norm)
            for channels, skip_channels in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.head = nn.Conv2d(widths[0], out_channels * config.stem**2, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image: (n, in_channels, h, w) float, normalized.

        Returns:
            (n, out_channels, h, w) logits.
        """
        height, width = image.shape[-2:]
        x = F.pixel_unshuffle(pad_to_multiple(image, self.multiple), self.stem)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()  # the bottleneck is no skip connection
        for block in self.decoder:
            x = block(x, skips.pop())
        return F.pixel_shuffle(self.head(x), self.stem)[..., :height, :width]


class UpBlock(nn.Module):
    """Upsample by 2, concatenate the skip connection, apply a double convolution.

    Args:
        in_channels: channels of the coarser level.
        skip_channels: channels of the skip connection and of the output.
        up: "transpose" (transposed convolution) or "bilinear" (1×1 convolution, bilinear upsampling).
        norm: "batch", "group" or "none", see `norm_layer`.
    """

    def __init__(self, in_channels: int, skip_channels: int, up: str, norm: str) -> None:
        super().__init__()
        if up == "transpose":
            self.upsample: nn.Module = nn.ConvTranspose2d(in_channels, skip_channels, kernel_size=2, stride=2)
        else:
            # Reduce the channels first: upsampling costs less, and both inputs of the concatenation are as wide.
            self.upsample = nn.Sequential(
                nn.Conv2d(in_channels, skip_channels, kernel_size=1), nn.Upsample(scale_factor=2, mode="bilinear")
            )
        self.conv = double_conv(2 * skip_channels, skip_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Merge x (n, in_channels, h, w) and skip (n, skip_channels, 2h, 2w) into (n, skip_channels, 2h, 2w)."""
        merged: Tensor = self.conv(torch.cat([skip, self.upsample(x)], dim=1))
        return merged


def double_conv(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    """Build twice: 3×3 convolution, normalization, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        norm: "batch", "group" or "none", see `norm_layer`.

    Returns:
        A module that maps (n, in_channels, h, w) to (n, out_channels, h, w).
    """
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            # Without a bias where a normalization subtracts the mean anyway.
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=norm == "none"),
            norm_layer(norm, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Build a normalization layer: "batch"; "group" (for a batch size of 1), with up to 8 groups; or "none"."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(max(groups for groups in range(1, 9) if channels % groups == 0), channels)
    return nn.Identity()


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Replicate the last row and column of (n, c, h, w) until both sides are multiples: 1918 -> 1920 for 32."""
    bottom, right = (-side % multiple for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
