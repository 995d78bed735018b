"""Score the masks of slices as volumes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from pipeline.competition import PixelOrder
from pipeline.config import Config
from pipeline.data.masks import Shape
from pipeline.data.rle import runs_to_mask
from pipeline.data.samples import RowKey, Sample
from pipeline.metrics.volumes import DICE_WEIGHT, DISTANCE_WEIGHT, combine_volumes, measure_volume

_RESAMPLES = 2000


class VolumeScore(Config):
    """The score of volumes, with its 95 % confidence interval (bootstrap over groups)."""

    score: float
    """From `combine_volumes`, 0 to 1."""
    low: float
    """Bounds of the interval."""
    high: float
    dice: float
    """Mean over the slices and classes where the predicted or the true mask is not empty."""
    distance: float
    """Mean Hausdorff distance over volumes and classes, as a fraction of the volume's diagonal."""
    volumes: int
    """Number of volumes."""

    def describe(self) -> str:
        """Describe it in one line."""
        return (
            f"{self.volumes} volumes: {DICE_WEIGHT} × Dice + {DISTANCE_WEIGHT} × (1 − distance) = {self.score:.5f}, "
            f"95 % confidence interval {self.low:.5f} to {self.high:.5f}; "
            f"Dice {self.dice:.5f}, Hausdorff distance {self.distance:.5f}"
        )


def score_volumes(
    samples: Sequence[Sample],
    classes: int,
    predicted: Mapping[RowKey, np.ndarray],
    true: Callable[[Sample], tuple[Sequence[np.ndarray], Shape]],
    order: PixelOrder,
) -> VolumeScore:
    """Score predicted masks; one volume at a time is held in memory.

    Args:
        samples: the slices.
        classes: number of classes.
        predicted: (id, index of the class) -> runs (n, 2) int64, for every slice and class.
        true: returns the runs of each class of a slice, and its shape (h, w).
        order: pixel order of the runs.

    Returns:
        The score over all volumes and classes.

    Raises:
        ValueError: the slices of a volume differ in size.
    """
    volumes: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        volumes[sample.volume].append(sample)
    groups, rows = [], []
    for slices in tqdm(volumes.values(), desc="volumes", delay=2):
        slices.sort(key=lambda sample: sample.depth)
        truth = [true(sample) for sample in slices]
        for number in range(classes):
            found = [predicted[sample.id, number] for sample in slices]
            masks = _paint(zip(found, (shape for _, shape in truth), strict=True), order)
            measures = measure_volume(masks, _paint(((runs[number], shape) for runs, shape in truth), order))
            groups.append(slices[0].group)
            rows.append((measures.dice, measures.slices, measures.distance))
    dice, counts, distances = np.array(rows).T
    low, high = _interval(np.array(groups), dice, counts, distances)
    return VolumeScore(
        score=float(combine_volumes(dice, counts, distances)),
        low=low,
        high=high,
        dice=float(dice.sum() / max(1, counts.sum())),
        distance=float(np.nanmean(distances)) if not np.isnan(distances).all() else 0.0,
        volumes=len(volumes),
    )


def _paint(slices: Iterable[tuple[np.ndarray, Shape]], order: PixelOrder) -> np.ndarray:
    """Paint the runs of slices of one shape: (d, h, w) bool."""
    return np.stack([runs_to_mask(runs, shape, order) for runs, shape in slices])


def _interval(groups: np.ndarray, dice: np.ndarray, counts: np.ndarray, distances: np.ndarray) -> tuple[float, float]:
    """Return the bounds of a percentile bootstrap over groups."""
    names, codes = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    scores = []
    for drawn in rng.integers(0, len(names), (_RESAMPLES, len(names))):
        chosen = np.concatenate([members[code] for code in drawn])
        scores.append(combine_volumes(dice[chosen], counts[chosen], distances[chosen]))
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)
