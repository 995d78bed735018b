"""Metrics of objects: predicted objects are matched to ground-truth objects at ten IoU thresholds.

An object is one instance of a class. A predicted object is a true positive at threshold t if its IoU with a
ground-truth object is greater than t. From 0.5 on, an object can have only one such partner, because objects of one
kind do not overlap.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.data.instances import Splitter
from pipeline.data.labels import Truth

if TYPE_CHECKING:
    from torch import Tensor

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100
"""0.5, 0.55, ... 0.95 (evaluation pages of Data Science Bowl 2018, TGS Salt, Airbus and Sartorius)."""
PROBABILITY_THRESHOLDS = np.arange(20, 85, 5) / 100
"""Thresholds of the probability to try. Objects are labeled anew for each of them, so there are few."""


class MatchesFormula(Protocol):
    """A score from counts of objects, arrays that broadcast."""

    def __call__(self, true_positives: np.ndarray, predicted: np.ndarray, true: int) -> np.ndarray: ...


def precision_of_matches(true_positives: np.ndarray, predicted: np.ndarray, true: int) -> np.ndarray:
    """Compute Kaggle's average precision TP / (TP + FP + FN); 1 if there are no objects at all.

    `InstanceMetric` takes the mean over IoU thresholds.

    Args:
        true_positives: (...) integer, number of matched objects.
        predicted: (...) integer, number of predicted objects; it broadcasts with `true_positives`.
        true: number of ground-truth objects.

    Returns:
        (...) float64, 0 to 1.
    """
    total = predicted + true - true_positives
    return np.where(total > 0, true_positives / np.maximum(total, 1), 1.0)


def f_beta_of_matches(true_positives: np.ndarray, predicted: np.ndarray, true: int, beta: float) -> np.ndarray:
    """Compute (1 + β²)·TP / ((1 + β²)·TP + β²·FN + FP); 1 if there are no objects at all.

    Args:
        true_positives: (...) integer, number of matched objects.
        predicted: (...) integer, number of predicted objects; it broadcasts with `true_positives`.
        true: number of ground-truth objects.
        beta: β > 1 weights recall higher, β < 1 precision.

    Returns:
        (...) float64, 0 to 1.
    """
    total = beta**2 * true + predicted
    return np.where(total > 0, (1 + beta**2) * true_positives / np.where(total > 0, total, 1), 1.0)


def best_ious(labels: np.ndarray, count: int, truth: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the area of each predicted object and its highest IoU with a ground-truth object.

    Args:
        labels: (h, w) integer: 0 background, 1 to `count` the predicted objects.
        count: number of predicted objects.
        truth: (pixels,) int64 flat row-major pixel indices of each ground-truth object.

    Returns:
        areas (count,) int64 in pixels; best IoU (count,) float64.
    """
    flat = labels.ravel()
    areas = np.bincount(flat, minlength=count + 1)[1:]
    best = np.zeros(count)
    for pixels in truth:
        overlap = np.bincount(flat[pixels])[1:]
        touched = np.flatnonzero(overlap)
        iou = overlap[touched] / (areas[touched] + len(pixels) - overlap[touched])
        best[touched] = np.maximum(best[touched], iou)
    return areas, best


class InstanceMetric:
    """Mean over `IOU_THRESHOLDS` of a score of the objects of one class of one image.

    Args:
        name: name in the competition's file.
        label: name in texts.
        formula: computes the score from counts of objects.
        split: function that labels the objects of a mask.
        min_areas: minimum areas of an object to try, as fractions of the image; the first is 0.
    """

    needs_instances = True

    def __init__(
        self, name: str, label: str, formula: MatchesFormula, split: Splitter, min_areas: tuple[float, ...]
    ) -> None:
        self.name = name
        self.label = label
        self.formula = formula
        self.split = split
        self.min_areas = min_areas
        self.thresholds = PROBABILITY_THRESHOLDS

    def observe(self, probability: "Tensor", truth: Truth) -> np.ndarray:
        """Score a prediction at every threshold and minimum area: (classes, thresholds, min_areas) float32."""
        maps = probability.cpu().numpy()
        return np.stack([
            [self._scores(probability_hw >= threshold, truth, number) for threshold in self.thresholds]
            for number, probability_hw in enumerate(maps)
        ]).astype(np.float32)  # fmt: skip

    def score_grid(self, observations: np.ndarray) -> np.ndarray:
        """Return the observations (n, thresholds, min_areas) of one class as float64: they are scores already."""
        return observations.astype(np.float64)

    def score(self, masks: "Tensor", truth: Truth) -> np.ndarray:
        """Score binary masks (classes, h, w) bool against the ground truth: (classes,) float64."""
        return np.array([
            self._scores(mask, truth, number)[0] for number, mask in enumerate(masks.cpu().numpy())
        ])  # fmt: skip

    def score_objects(self, labels: np.ndarray, count: int, truth: Sequence[np.ndarray]) -> float:
        """Score labeled objects of one class against the ground truth; arguments as `best_ious`.

        Returns:
            The mean of the score over `IOU_THRESHOLDS`, 0 to 1.
        """
        areas, best = best_ious(labels, count, truth)
        return float(self._mean_score(areas, best, len(truth), 0))

    def _scores(self, mask: np.ndarray, truth: Truth, class_index: int) -> list[float]:
        """Score a mask (h, w) bool at every minimum area."""
        assert truth.instances is not None
        labels, count = self.split(mask)
        objects = truth.instances[class_index]
        areas, best = best_ious(labels, count, objects)
        return [self._mean_score(areas, best, len(objects), np.ceil(area * mask.size)) for area in self.min_areas]

    def _mean_score(self, areas: np.ndarray, best: np.ndarray, true: int, min_area: float) -> float:
        large = areas >= min_area
        true_positives = (best[large][None] > IOU_THRESHOLDS[:, None]).sum(axis=1)
        return float(self.formula(true_positives, large.sum(), true).mean())


def f_beta_matches(beta: float) -> MatchesFormula:
    """Return `f_beta_of_matches` with a fixed β."""
    return partial(f_beta_of_matches, beta=beta)
