"""Stop a training that cannot succeed and name the cause: wrong masks, mismatched sizes, NaN, empty predictions."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.competition import Competition
from pipeline.data.images import image_size
from pipeline.data.labels import LabelReader
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores

CHECKED_SAMPLES = 8
"""Samples whose labels are read before the training starts."""
MAX_EMPTY_STEPS = 200
"""The training stops after so many steps with only background predicted. A small network may start with dozens."""


def check_masks(samples: Sequence[Sample], competition: Competition) -> None:
    """Read the labels of a few samples and compare the size of every mask file with its image.

    Raises:
        UserError: a label cannot be read, a mask file differs in size from its image, or all labels that were read are
            empty.
    """
    if competition.windows is None:  # with windows, reading a mask compares its size
        _compare_sizes(samples)
    step = max(1, len(samples) // CHECKED_SAMPLES)
    reader = LabelReader(competition)
    # Images without a row in the CSV have empty masks, which say nothing about masks.positive or the RLE.
    labeled = [sample for sample in samples if sample.masks or sample.rows]
    if not labeled:
        raise UserError(str(competition.csv.train), "has no mask for any training image", "download it again")
    checked = labeled[::step]
    if not competition.masks.may_be_empty and not any(reader.read_masks(sample).any() for sample in checked):
        where = checked[0].masks[0][1] if checked[0].masks else str(competition.csv.train)
        what = f"is empty, and so are all {len(checked)} masks that were checked"
        raise UserError(where, what, "check masks.positive and masks.train")


def _compare_sizes(samples: Sequence[Sample]) -> None:
    """Catch images rotated by EXIF whose masks are not: both would be resized to the same shape without an error."""
    pairs = [(path, sample.image) for sample in samples for _, path in sample.masks[:1]]
    with ThreadPoolExecutor(available_cores()) as pool:
        masks = pool.map(image_size, [path for path, _ in pairs])
        images = pool.map(image_size, [path for _, path in pairs])
        for (path, _), mask, image in zip(pairs, masks, images, strict=True):
            if mask != image:
                what = f"is {mask[0]}×{mask[1]}, but its image is {image[0]}×{image[1]}"
                raise UserError(path, what, "give both the same size; `make check` lists all such files")


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
            UserError: the loss is not finite, all masks were empty, or only background was predicted for
                `MAX_EMPTY_STEPS` steps.
        """
        if not math.isfinite(loss):
            fix = "lower train.learning_rate, or set train.precision to float32 to see whether precision is the cause"
            raise UserError("training", f"the loss is {loss} at step {step}", fix)
        if true_area == 0 and not self.may_be_empty:
            what = f"all masks of the {steps} batches before step {step} are empty"
            raise UserError("training", what, "run `make check`")
        empty = predicted_area == 0 and true_area > 0
        self.steps_without_prediction = self.steps_without_prediction + steps if empty else 0
        if self.steps_without_prediction >= MAX_EMPTY_STEPS:
            what = f"the model predicts only background in the {self.steps_without_prediction} steps before step {step}"
            fix = "run `make check` to see whether images and masks match, or change train.learning_rate"
            raise UserError("training", what, fix)
