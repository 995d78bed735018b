"""The metric of volumes: Dice of the slices and the Hausdorff distance in three dimensions (UW-Madison GI Tract)."""

from dataclasses import dataclass

import numpy as np

from pipeline.metrics.pixels import dice_of_counts

DICE_WEIGHT, DISTANCE_WEIGHT = 0.4, 0.6


def hausdorff_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the Hausdorff distance of two masks in a cube of side 1, as a fraction of its diagonal.

    It is the largest distance of a voxel of one mask to the nearest voxel of the other one. Positions are divided by
    the shape of the volume.

    Args:
        first: (d, h, w) bool.
        second: bool, of the same shape.

    Returns:
        0 to 1; 1 if one of the masks is empty, NaN if both are.
    """
    if not first.any() or not second.any():
        return float("nan") if not (first.any() or second.any()) else 1.0
    # Nothing outside of the box of both masks matters.
    both = first | second
    ranges = [np.flatnonzero(both.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(found[0], found[-1] + 1) for found in ranges)
    return max(_farthest(first[box], second[box], first.shape), _farthest(second[box], first[box], first.shape))


def _farthest(mask: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance of a voxel of `mask` to the nearest one of `other`, both not empty."""
    from scipy.ndimage import distance_transform_edt

    distances = distance_transform_edt(~other, sampling=[1 / side for side in shape])
    return float(distances[mask].max() / 3**0.5)


@dataclass(frozen=True)
class VolumeMeasures:
    """Measures of one class of one volume."""

    dice: float
    """Sum of the Dice of the slices where the predicted or the true mask is not empty."""
    slices: int
    """Number of these slices."""
    distance: float
    """From `hausdorff_distance`."""


def measure_volume(predicted: np.ndarray, true: np.ndarray) -> VolumeMeasures:
    """Measure a predicted volume (d, h, w) bool against the ground truth of the same shape."""
    overlap, area, true_area = (mask.sum(axis=(1, 2)) for mask in (predicted & true, predicted, true))
    counted = (area + true_area) > 0
    dice = dice_of_counts(overlap, area, true_area)[counted]
    return VolumeMeasures(float(dice.sum()), int(counted.sum()), hausdorff_distance(predicted, true))


def combine_volumes(dice: np.ndarray, slices: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Combine measures to the score, 0 to 1.

    Slices of a class that are empty in both masks do not count, nor do such volumes.

    Args:
        dice: (..., n) float64, sums, see `VolumeMeasures`.
        slices: (..., n) numbers of slices.
        distances: (..., n) float64, with NaN for volumes that do not count.

    Returns:
        (...) float64: 0.4 × mean Dice + 0.6 × (1 − mean distance). If no slice counts, the mean Dice is 1; if no
            volume counts, the mean distance is 0.
    """
    counted = ~np.isnan(distances)
    total, volumes = slices.sum(axis=-1), counted.sum(axis=-1)
    mean_dice = np.where(total > 0, dice.sum(axis=-1) / np.maximum(total, 1), 1.0)
    mean_distance = np.where(counted, distances, 0).sum(axis=-1) / np.maximum(volumes, 1)
    score: np.ndarray = DICE_WEIGHT * mean_dice + DISTANCE_WEIGHT * (1 - mean_distance)
    return score
