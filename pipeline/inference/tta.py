"""Test-time augmentation (TTA): predict an image and its mirror images, undo the flips, average."""

from torch import Tensor

from pipeline.recipe import Flip

_DIMS: dict[Flip, tuple[int, ...]] = {"none": (), "horizontal": (-1,), "vertical": (-2,), "both": (-2, -1)}


def flip(x: Tensor, how: Flip) -> Tensor:
    """Flip (..., h, w). A flip is its own inverse, so the same call undoes it on the prediction."""
    return x.flip(_DIMS[how]) if _DIMS[how] else x
