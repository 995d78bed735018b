"""Measure out-of-fold predictions of images that are predicted in windows, band by band."""

from collections.abc import Generator, Sequence

import numpy as np
import torch

from pipeline.competition import Competition
from pipeline.data.labels import Truth
from pipeline.data.samples import Sample
from pipeline.data.window_reader import WindowReader
from pipeline.evaluation.observe import EXPECTED_LOSS, LOST_COLUMNS, Observer
from pipeline.evaluation.selection import ensemble_weight_grid
from pipeline.inference.ensemble import EnsembleMember
from pipeline.inference.postprocess import binarize
from pipeline.inference.rows import ImageRows
from pipeline.inference.stream import mean_probability
from pipeline.inference.windows import Band, BandMasks, predict_bands
from pipeline.metrics.calibration import clamped_sums
from pipeline.metrics.counts import NUM_BINS, count_pixels
from pipeline.metrics.edges import dice_lost_by_distance
from pipeline.metrics.pixels import PixelMetric


def observe_windows(
    observer: Observer,
    competition: Competition,
    members: Sequence[EnsembleMember],
    samples: Sequence[Sample],
    windows: WindowReader,
    fold: int,
) -> Generator[tuple[str, ImageRows]]:
    """Predict the samples of a fold and measure them, as `Observer.observe` does with whole images.

    Distances to the true edge are computed within each band, so pixels near its border can get a larger one.

    Args:
        observer: receives the measurements.
        competition: its classes and the format of its rows are used.
        members: the models.
        samples: every one has a label.
        windows: reads images and masks.
        fold: number of the fold.

    Yields:
        The id of each sample and the rows of its predicted masks, at the size of its region.
    """
    for sample in samples:
        image = _Image(observer, competition, len(members), sample, windows)
        for band in predict_bands(members, sample, windows, unflipped=True):
            image.add(band)
        yield sample.id, image.finish(fold)


class _Image:
    """The measurements of one image, which add up over its bands."""

    def __init__(
        self, observer: Observer, competition: Competition, members: int, sample: Sample, windows: WindowReader
    ) -> None:
        assert isinstance(observer.metric, PixelMetric)
        self.observer, self.metric = observer, observer.metric
        self.sample, self.windows = sample, windows
        self.masks = BandMasks(competition, observer.postprocess, windows.region(sample))
        self.grid = ensemble_weight_grid(members)
        classes = competition.num_classes
        self.observations = np.zeros((len(self.grid), classes, 2, NUM_BINS), dtype=np.int64)
        self.counts, self.plain = (np.zeros((3, classes), dtype=np.int64) for _ in range(2))
        self.lost = np.zeros((classes, len(LOST_COLUMNS)))
        self.right = 0
        self.has_plain = False

    def add(self, band: Band) -> None:
        """Measure a band."""
        true = self.windows.read_masks(self.sample, band.window)
        mean = mean_probability(band.by_member)
        for number, weights in enumerate(self.grid):
            probability = mean if number == 0 else mean_probability(band.by_member, weights)
            self.observations[number] += self.metric.observe(probability, Truth(true))
        self.observer.sums += clamped_sums(mean)
        masks = self.masks.add(mean)
        counts = count_pixels(masks, torch.from_numpy(true))
        self.counts += counts
        self.right += int((masks.numpy() == true).sum())
        for number, (mask, truth) in enumerate(zip(masks.numpy(), true, strict=True)):
            self.lost[number] += dice_lost_by_distance(mask, truth) * counts[1:, number].sum()
        if band.unflipped is not None:
            self.has_plain = True
            unflipped = binarize(mean_probability(band.unflipped), self.observer.postprocess)
            self.plain += count_pixels(unflipped, torch.from_numpy(true))

    def finish(self, fold: int) -> ImageRows:
        """Hand the measurements to the observer; return the rows of the masks."""
        _, predicted, true = self.counts
        pixels = self.masks.pixels * len(true)
        lost = (self.lost / np.maximum(predicted + true, 1)[:, None]).mean(axis=0)
        self.observer.rows.append({
            "id": self.sample.id,
            "group": self.sample.group,
            "fold": fold,
            "accuracy": self.right / pixels,
            "area": int(true.sum()) / pixels,
            "predicted_area": int(predicted.sum()) / pixels,
            **dict(zip(LOST_COLUMNS, lost.tolist(), strict=True)),
            EXPECTED_LOSS: float(np.mean(self.masks.doubts())),
        })  # fmt: skip
        self.observer.observations.append(self.observations)
        self.observer.histogram += self.observations[0]
        if self.has_plain:
            gain = self.metric.formula(*self.counts) - self.metric.formula(*self.plain)
            self.observer.flip_gains.append(float(gain.mean()))
        return self.masks.rows()
