"""Stop a training that cannot succeed and name the cause: wrong masks, mismatched sizes, NaN, empty predictions."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.competition import Competition
from pipeline.data.images import image_size
from pipeline.data.masks import read_mask
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores

CHECKED_MASKS = 8
"""Masks that are decoded before the training starts."""
PATIENCE = 200
"""Steps without any predicted pixel before the training is stopped. A small network may predict none for dozens."""


def check_masks(samples: Sequence[Sample], competition: Competition) -> None:
    """Decode a few masks and compare the size of every mask with its image.

    Raises:
        UserError: a mask is not binary or differs in size from its image, or all decoded masks are empty.
    """
    _compare_sizes(samples)
    step = max(1, len(samples) // CHECKED_MASKS)
    masks = [sample.mask for sample in samples[::step] if sample.mask]
    empty = [path for path in masks if not read_mask(path, competition.masks.positive).any()]
    if len(empty) == len(masks) and not competition.masks.may_be_empty:
        what = f"is empty, and so are all {len(empty)} masks that were checked"
        raise UserError(empty[0], what, "check masks.positive and the folder of masks")


def _compare_sizes(samples: Sequence[Sample]) -> None:
    """Catch images rotated by EXIF whose masks are not: both would be resized to the same shape without an error."""
    with ThreadPoolExecutor(available_cores()) as pool:
        masks = pool.map(image_size, [sample.mask for sample in samples if sample.mask])
        images = pool.map(image_size, [sample.image for sample in samples])
        for sample, mask, image in zip(samples, masks, images, strict=True):
            if mask != image:
                what = f"is {mask[0]}×{mask[1]}, but its image is {image[0]}×{image[1]}"
                raise UserError(str(sample.mask), what, "run `make check`")


class TrainingMonitor:
    """Check the figures that a training reports every few steps.

    Args:
        may_be_empty: whether masks of the competition may be empty.
    """

    def __init__(self, *, may_be_empty: bool) -> None:
        self.may_be_empty = may_be_empty
        self.steps_without_prediction = 0

    def update(self, *, step: int, steps: int, loss: float, true_area: float, predicted_area: float) -> None:
        """Check the means of the last `steps` steps.

        Args:
            step: number of the last step, from 1.
            steps: number of steps in the means.
            loss: mean loss.
            true_area: mean fraction of the pixels covered by the masks.
            predicted_area: mean fraction of the pixels predicted as mask.

        Raises:
            UserError: the loss is not finite, all masks were empty, or no pixel was predicted for `PATIENCE` steps.
        """
        if not math.isfinite(loss):
            fix = "lower train.learning_rate, or set train.precision to float32 to see whether precision is the cause"
            raise UserError("", f"the loss is {loss} at step {step}", fix)
        if true_area == 0 and not self.may_be_empty:
            raise UserError("", f"all masks of the {steps} batches before step {step} are empty", "run `make check`")
        empty = predicted_area == 0 and true_area > 0
        self.steps_without_prediction = self.steps_without_prediction + steps if empty else 0
        if self.steps_without_prediction >= PATIENCE:
            what = f"no pixel was predicted in the {self.steps_without_prediction} steps before step {step}"
            fix = "run `make check` to see whether images and masks match, or change train.learning_rate"
            raise UserError("", what, fix)
