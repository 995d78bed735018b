"""Resize images as tensors, the same way as `pipeline.data.images` resizes decoded files."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.images import TOLERANCE
from pipeline.data.masks import Size


def resize_as_decoded(image: Tensor, size: Size) -> Tensor:
    """Resize (n, c, h, w) float as `pipeline.data.images.resize_image` does: halve as often as possible, then bilinear.

    Both steps are one product with a matrix per axis, which is made from the size of the image, so an exported program
    accepts any size. Differs from `resize_image` by its rounding to integers, and where a side is odd.

    Args:
        image: the images.
        size: (width, height) of the result.
    """
    height, width = image.shape[-2:]
    # scalar_tensor keeps the size symbolic in an exported program.
    sides = [torch.scalar_tensor(side, dtype=torch.float32, device=image.device) for side in (height, width)]
    ratio = torch.minimum(sides[0] / size[1], sides[1] / size[0]) / TOLERANCE
    factor = ratio.clamp(min=1).log2().floor().exp2()
    rows = _resize_matrix(torch.arange(height, device=image.device), sides[0], size[1], factor)
    columns = _resize_matrix(torch.arange(width, device=image.device), sides[1], size[0], factor)
    return rows @ image @ columns.T


def resize_images(image: Tensor, size: Size) -> Tensor:
    """Resize (n, c, h, w) float as `resize_as_decoded`, a fixed number of halvings, in a quarter of its time.

    Args:
        image: the images.
        size: (width, height) of the result.
    """
    height, width = image.shape[-2:]
    while height % 2 == width % 2 == 0 and min(width / 2 / size[0], height / 2 / size[1]) >= TOLERANCE:
        height, width = height // 2, width // 2
        image = F.avg_pool2d(image, 2)
    skips = width >= 2 * size[0] or height >= 2 * size[1]  # then bilinear interpolation would leave pixels out
    return F.interpolate(image, size[::-1], mode="bilinear", align_corners=False, antialias=skips)


def _resize_matrix(pixels: Tensor, side: Tensor, size: int, factor: Tensor) -> Tensor:
    """Return (size, side) float32: the weight of each pixel in each new one.

    Args:
        pixels: (side,) 0, 1, 2, ...
        side: their number.
        size: number of new pixels.
        factor: 1, 2, 4, ...: blocks of so many pixels are averaged first.
    """
    blocks = side / factor
    centers = (torch.arange(size, device=pixels.device) + 0.5) * (blocks / size) - 0.5
    centers = torch.minimum(centers.clamp(min=0), (blocks - 1).clamp(min=0))
    weights = (1 - (centers[:, None] - (pixels / factor).floor()[None]).abs()).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
