"""Metrics of one mask against another, computed from three pixel counts: Dice, IoU, F-beta."""

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.data.labels import Truth
from pipeline.metrics.counts import NUM_BINS, count_pixels, counts_by_threshold, probability_histogram

if TYPE_CHECKING:
    from torch import Tensor


class CountsFormula(Protocol):
    """A score from pixel counts, arrays that broadcast."""

    def __call__(self, overlap: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray: ...


def dice_of_counts(overlap: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute 2·|X∩Y| / (|X|+|Y|); 1 if both masks are empty (evaluation page of the Carvana challenge).

    Args:
        overlap: (...) integer, number of pixels in both masks.
        predicted: (...) integer, number of pixels of the predicted mask.
        true: (...) integer, number of pixels of the ground-truth mask. The three arrays broadcast.

    Returns:
        (...) float64, 0 to 1.
    """
    total = predicted + true
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)


def iou_of_counts(overlap: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute |X∩Y| / |X∪Y| (Jaccard index); 1 if both masks are empty. See `dice_of_counts`."""
    union = predicted + true - overlap
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)


def f_beta_of_counts(overlap: np.ndarray, predicted: np.ndarray, true: np.ndarray, beta: float) -> np.ndarray:
    """Compute (1 + β²)·TP / ((1 + β²)·TP + β²·FN + FP); 1 if both masks are empty. See `dice_of_counts`.

    β > 1 weights recall higher, β < 1 precision (van Rijsbergen 1979).
    """
    total = beta**2 * true + predicted
    return np.where(total > 0, (1 + beta**2) * overlap / np.where(total > 0, total, 1), 1.0)


class PixelMetric:
    """A metric of the mask of one class of one image, determined by pixel counts.

    Args:
        name: name in the competition's file.
        label: name in texts.
        formula: computes the score from pixel counts.
        may_be_empty: whether masks of the competition may be empty; see `pipeline.inference.postprocess.binarize`.
        min_areas: minimum areas of a mask to try, as fractions of the image; the first is 0.
    """

    needs_instances = False

    def __init__(
        self, name: str, label: str, formula: CountsFormula, *, may_be_empty: bool, min_areas: tuple[float, ...]
    ) -> None:
        self.name = name
        self.label = label
        self.formula = formula
        self.may_be_empty = may_be_empty
        self.min_areas = min_areas
        # At threshold 0 every pixel would be in the mask.
        self.thresholds = np.arange(1, NUM_BINS) / NUM_BINS

    def observe(self, probability: "Tensor", truth: Truth) -> np.ndarray:
        """Summarize a prediction: the histogram (classes, 2, NUM_BINS) int32, which determines every score."""
        import torch

        true = torch.from_numpy(truth.masks).to(probability.device)
        return probability_histogram(probability, true).astype(np.int32)

    def score_grid(self, observations: np.ndarray) -> np.ndarray:
        """Score images of one class at every threshold and minimum area.

        Args:
            observations: (n, 2, NUM_BINS) of one class, from `observe`.

        Returns:
            (n, thresholds, min_areas) float64.
        """
        background, overlap = np.moveaxis(
            counts_by_threshold(observations, may_be_empty=self.may_be_empty)[..., 1:], -2, 0
        )
        pixels, true = observations.sum(axis=(1, 2)), observations[:, 1].sum(axis=-1)
        predicted = background + overlap
        grid = np.empty((*predicted.shape, len(self.min_areas)))
        for number, min_area in enumerate(self.min_areas):
            empty = predicted < np.ceil(min_area * pixels)[:, None]
            grid[..., number] = self.formula(np.where(empty, 0, overlap), np.where(empty, 0, predicted), true[:, None])
        return grid

    def score(self, masks: "Tensor", truth: Truth) -> np.ndarray:
        """Score binary masks (classes, h, w) bool against the ground truth: (classes,) float64."""
        import torch

        return self.formula(*count_pixels(masks, torch.from_numpy(truth.masks).to(masks.device)))


def f_beta_formula(beta: float) -> CountsFormula:
    """Return `f_beta_of_counts` with a fixed β."""
    return partial(f_beta_of_counts, beta=beta)
