"""From probabilities to masks: upsample and binarize."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.competition import Competition
from pipeline.metrics.counts import NUM_BINS


@dataclass(frozen=True)
class Postprocess:
    """Thresholds, minimum areas and rules that turn probabilities into masks."""

    thresholds: tuple[float, ...]
    """(classes,) Pixels with at least this probability are in the mask."""
    min_areas: tuple[float, ...]
    """(classes,) Minimum area as a fraction of the image. Smaller masks (or instances, if `instances`) are removed."""
    may_be_empty: bool
    """Whether masks of the competition may be empty."""
    exclusive: bool = False
    """Whether a pixel belongs to at most one class."""
    instances: bool = False
    """Whether `min_areas` applies to objects, which `pipeline.inference.rows` removes."""


def default_postprocess(competition: Competition, threshold: float) -> Postprocess:
    """Return one threshold for all classes and no minimum area."""
    return make_postprocess(competition, [threshold] * competition.num_classes, [0.0] * competition.num_classes)


def make_postprocess(competition: Competition, thresholds: Sequence[float], min_areas: Sequence[float]) -> Postprocess:
    """Return thresholds and minimum areas with the competition's rules."""
    return Postprocess(
        tuple(thresholds),
        tuple(min_areas),
        may_be_empty=competition.masks.may_be_empty,
        exclusive=competition.exclusive,
        instances=competition.csv.rows == "instance",
    )


def upsample(probability: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize probabilities (n, c, h, w) to `shape` = (height, width), bilinear.

    Probabilities are upsampled before thresholding: masks binarized at half scale cannot score above a Dice of 0.9986
    on Carvana, masks binarized at native size 0.99977.
    """
    height, width = shape
    if tuple(probability.shape[-2:]) == (height, width):
        return probability
    if probability.device.type != "cpu":
        return F.interpolate(probability, (height, width), mode="bilinear", align_corners=False)
    # OpenCV computes the same, apart from rounding, six times as fast.
    result = probability.new_empty((*probability.shape[:2], height, width))
    for plane, resized in zip(probability.flatten(0, 1).numpy(), result.flatten(0, 1).numpy(), strict=True):
        cv2.resize(plane, (width, height), dst=resized, interpolation=cv2.INTER_LINEAR)
    return result


def binarize(probability: Tensor, postprocess: Postprocess) -> Tensor:
    """Convert the probabilities of one image to masks.

    If `may_be_empty` is false and no pixel reaches the threshold, the largest k/256 not above the maximum probability
    is used, so the mask is never empty; see `pipeline.metrics.counts.counts_by_threshold`. Kaggle refuses a file with
    an empty mask of such a competition; the row scores near 0 in any case.

    Args:
        probability: (classes, h, w) float, 0 to 1.
        postprocess: thresholds, minimum areas and rules.

    Returns:
        (classes, h, w) bool.
    """
    masks = torch.stack([
        _threshold(map_hw, threshold, postprocess.may_be_empty)
        for map_hw, threshold in zip(probability, postprocess.thresholds, strict=True)
    ])  # fmt: skip
    if postprocess.exclusive:
        masks &= probability == probability.amax(dim=0, keepdim=True)
    if any(postprocess.min_areas) and not postprocess.instances:
        smallest = torch.tensor(postprocess.min_areas, device=masks.device) * masks[0].numel()
        masks &= (masks.sum(dim=(1, 2)) >= smallest.ceil()).view(-1, 1, 1)
    return masks


def _threshold(probability: Tensor, threshold: float, may_be_empty: bool) -> Tensor:
    if may_be_empty:
        return _at_least(probability, threshold)
    highest_bin = (probability.max() * NUM_BINS).floor().clamp(max=NUM_BINS - 1)
    return _at_least(probability, (highest_bin / NUM_BINS).clamp(max=threshold))


def _at_least(probability: Tensor, threshold: float | Tensor) -> Tensor:
    if probability.device.type != "cpu":
        return probability >= threshold
    # NumPy compares seven times as fast as torch.
    return torch.from_numpy(np.greater_equal(probability.numpy(), np.float32(threshold)))
