"""Why is my mask all black, my Dice constant, my loss NaN? Stop a training that cannot succeed, and name the cause."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.competition import Competition, Sample
from pipeline.data.images import image_size, read_mask
from pipeline.errors import UserError
from pipeline.host import available_cores

_LOOKED_AT = 8
_PATIENCE = 200
"""Steps. A network that starts small may well predict nothing for dozens of them."""


def look_at_masks(samples: Sequence[Sample], competition: Competition) -> None:
    """Read a few masks, and the size of every pair, before hours are spent on them.

    Raises:
        UserError: a mask is not binary, is of another size than its image, or all of those looked at are empty.
    """
    _compare_sizes(samples)
    step = max(1, len(samples) // _LOOKED_AT)
    empty = []
    for sample in samples[::step]:
        assert sample.mask is not None
        if not read_mask(sample.mask, competition.masks.positive).any():
            empty.append(sample.mask)
    if len(empty) == len(samples[::step]) and not competition.masks.may_be_empty:
        raise UserError(
            f"{empty[0]}: is empty, as all {len(empty)} masks looked at; check masks.positive and the masks' folder"
        )


def _compare_sizes(samples: Sequence[Sample]) -> None:
    """A photo that lies on its side, and its mask that does not, would be squeezed into each other without a word."""
    with ThreadPoolExecutor(available_cores()) as pool:
        masks = pool.map(image_size, [sample.mask for sample in samples if sample.mask])
        images = pool.map(image_size, [sample.image for sample in samples])
        for sample, mask, image in zip(samples, masks, images, strict=True):
            if mask != image:
                raise UserError(
                    f"{sample.mask}: is {mask[0]}×{mask[1]}, but its image is {image[0]}×{image[1]}; run `make check`"
                )


class Watch:
    """Looks at what a training reports every few steps."""

    def __init__(self, competition: Competition) -> None:
        self.may_be_empty = competition.masks.may_be_empty
        self.silent_steps = 0

    def check(self, *, step: int, steps: int, loss: float, truth: float, predicted: float) -> None:
        """Judge the last `steps` steps.

        Args:
            step: of the training, counted from 1.
            steps: how many steps the means are over.
            loss: mean loss.
            truth: mean share of the pixels that the masks cover.
            predicted: mean share of the pixels that the network put into the mask.

        Raises:
            UserError: the loss is not finite, all masks were empty, or the network has predicted nothing for long.
        """
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {step}; lower train.learning_rate, "
                "or set train.precision to float32 to see if that is why"
            )
        if truth == 0 and not self.may_be_empty:
            raise UserError(
                f"all masks of the {steps} batches up to step {step} are empty; run `make check` on the masks"
            )
        self.silent_steps = self.silent_steps + steps if predicted == 0 and truth > 0 else 0
        if self.silent_steps >= _PATIENCE:
            raise UserError(
                f"the network has predicted no pixel in {self.silent_steps} steps up to step {step}; "
                f"check that images and masks belong together (`make check`), or change train.learning_rate"
            )
