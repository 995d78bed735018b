"""Measure out-of-fold predictions one by one, and keep numbers only."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Competition
from pipeline.data.samples import Sample
from pipeline.evaluation.selection import ensemble_weight_grid
from pipeline.host import available_cores
from pipeline.inference.doubt import expected_dice_loss
from pipeline.inference.postprocess import Postprocess, binarize
from pipeline.inference.rows import ImageRows, RowEncoder
from pipeline.inference.stream import Prediction, mean_probability
from pipeline.metrics import Metric
from pipeline.metrics.calibration import clamped_sums
from pipeline.metrics.counts import NUM_BINS, probability_histogram
from pipeline.metrics.edges import EDGE_DISTANCES, dice_lost_by_distance
from pipeline.metrics.pixels import PixelMetric
from pipeline.parallel import prefetch

LOST_COLUMNS = tuple(f"lost_{name}" for name in (*EDGE_DISTANCES, "beyond"))
"""Columns of ``oof.csv`` with the Dice that is lost near the true edge; see `dice_lost_by_distance`."""
EXPECTED_LOSS = "expected_loss"
"""Column of ``oof.csv`` with the Dice that the probabilities expect to lose; see `expected_dice_loss`."""


class _Masks(NamedTuple):
    """The masks of one image, (classes, h, w) bool."""

    sample: Sample
    true: np.ndarray
    predicted: Tensor
    """On the device."""
    expected_loss: float
    """Mean over the classes."""


class Observer:
    """Collect scores, statistics and masks of predictions, in their order.

    Masks are made with equal ensemble weights and `postprocess`; only `observations` know other choices.

    Args:
        competition: its classes and the format of its rows are used.
        metric: the metric of the competition.
        postprocess: the default threshold and rules.
    """

    def __init__(self, competition: Competition, metric: Metric, postprocess: Postprocess) -> None:
        self.metric = metric
        self.postprocess = postprocess
        self.encoder = RowEncoder(competition, postprocess)
        self.rows: list[dict[str, Any]] = []
        """id, group, fold, the figures of `measure_masks`, and `EXPECTED_LOSS`, of each image."""
        self.observations: list[np.ndarray] = []
        """(ensemble weights, classes, ...) of each image, from `metric.observe`."""
        self.flip_gains: list[float] = []
        """How much better the score of each image is than without flips; empty if there are none."""
        self.histogram = np.zeros((competition.num_classes, 2, NUM_BINS), np.int64)
        """Pixels of all images, from `probability_histogram`."""
        self.sums = np.zeros((competition.num_classes, 2))
        """Probabilities of all images, from `clamped_sums`."""

    def observe(self, predictions: Generator[Prediction], fold: int) -> Generator[tuple[str, ImageRows]]:
        """Measure the predictions of a fold; yield the id of each image and the rows of its predicted masks.

        Probabilities are observed one after the other. Threads do what the masks alone determine, as for a submission.
        """

        def finish(item: _Masks) -> tuple[_Masks, dict[str, float], ImageRows]:
            masks = item.predicted.cpu().numpy()
            return item, measure_masks(masks, item.true), self.encoder.encode(masks)

        threads = available_cores()
        with ThreadPoolExecutor(threads) as pool, closing(predictions):
            for item, figures, rows in prefetch(pool, finish, map(self._observe_one, predictions), 2 * threads):
                row = {"id": item.sample.id, "group": item.sample.group, "fold": fold, **figures}
                self.rows.append(row | {EXPECTED_LOSS: item.expected_loss})
                yield item.sample.id, rows

    def _observe_one(self, item: Prediction) -> _Masks:
        """Observe the probabilities of an image; return its masks."""
        assert item.truth is not None
        mean = item.mean()
        grid = ensemble_weight_grid(len(item.by_member))
        by_weights = [self.metric.observe(mean, item.truth)]  # equal weights are the first
        by_weights += [self.metric.observe(item.mean(weights), item.truth) for weights in grid[1:]]
        self.observations.append(np.stack(by_weights))
        if isinstance(self.metric, PixelMetric):
            self.histogram += by_weights[0]
        else:
            self.histogram += probability_histogram(mean, torch.from_numpy(item.truth.masks).to(mean.device))
        self.sums += clamped_sums(mean)
        masks = binarize(mean, self.postprocess)
        if item.unflipped is not None:
            plain = binarize(mean_probability(item.unflipped), self.postprocess)
            gain = self.metric.score(masks, item.truth) - self.metric.score(plain, item.truth)
            self.flip_gains.append(float(gain.mean()))
        return _Masks(item.sample, item.truth.masks, masks, float(expected_dice_loss(mean, masks).mean()))


def measure_masks(masks: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Measure predicted masks against the ground truth, both (classes, h, w) bool.

    Returns:
        Fractions of all pixels: accuracy, area (true) and predicted_area. Means over the classes: `LOST_COLUMNS`.
    """
    areas = {"accuracy": masks == true, "area": true, "predicted_area": masks}
    figures = {name: np.count_nonzero(pixels) / masks.size for name, pixels in areas.items()}
    lost = np.mean([dice_lost_by_distance(mask, truth) for mask, truth in zip(masks, true, strict=True)], axis=0)
    return figures | dict(zip(LOST_COLUMNS, lost.tolist(), strict=True))
