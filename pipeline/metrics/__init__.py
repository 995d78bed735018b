"""The competition's metric by name.

The modules import torch only where they compute on tensors: to score a finished submission starts in half the time.
"""

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.competition import Competition
from pipeline.data.instances import splitter
from pipeline.data.labels import Truth
from pipeline.metrics.instances import InstanceMetric, f_beta_matches, precision_of_matches
from pipeline.metrics.pixels import PixelMetric, dice_of_counts, f_beta_formula, iou_of_counts

if TYPE_CHECKING:
    from torch import Tensor

MIN_AREAS = (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)
"""Minimum areas of a mask or object to try, as fractions of the image."""


class Metric(Protocol):
    """Interface of the metrics. Scores are per class, 0 to 1, higher is better; the leaderboard has their mean."""

    name: str
    label: str
    thresholds: np.ndarray
    """(t,) thresholds of the probability to try, rising."""
    min_areas: tuple[float, ...]
    """Minimum areas to try, as fractions of the image; the first is 0."""
    needs_instances: bool
    """Whether `Truth.instances` is needed."""

    def observe(self, probability: "Tensor", truth: Truth) -> np.ndarray:
        """Summarize a prediction (classes, h, w), float 0 to 1, as an array (classes, ...) for `score_grid`."""

    def score_grid(self, observations: np.ndarray) -> np.ndarray:
        """Score the observations (n, ...) of one class at every choice: (n, thresholds, min_areas) float64."""

    def score(self, masks: "Tensor", truth: Truth) -> np.ndarray:
        """Score binary masks (classes, h, w) bool: (classes,) float64."""


def load_metric(competition: Competition) -> Metric:
    """Return the metric of a competition."""
    may_be_empty = competition.masks.may_be_empty
    min_areas = MIN_AREAS if may_be_empty else (0.0,)
    pixel_metric = partial(PixelMetric, may_be_empty=may_be_empty, min_areas=min_areas)
    match competition.metric:
        case "dice":
            return pixel_metric("dice", "Dice", dice_of_counts)
        case "dice_hausdorff":
            # The Dice of slices guides the training and the choices; pipeline.submission.volumes scores volumes.
            return pixel_metric("dice_hausdorff", "Dice of slices", dice_of_counts)
        case "iou":
            return pixel_metric("iou", "IoU", iou_of_counts)
        case "f_beta":
            return pixel_metric("f_beta", f"F{competition.beta:g}", f_beta_formula(competition.beta))
        case "map_iou":
            split = splitter(competition)
            return InstanceMetric("map_iou", "mAP over IoU thresholds", precision_of_matches, split, min_areas)
        case "f_beta_iou":
            label = f"F{competition.beta:g} over IoU thresholds"
            return InstanceMetric(
                "f_beta_iou", label, f_beta_matches(competition.beta), splitter(competition), min_areas
            )
