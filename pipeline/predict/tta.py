"""Test-time augmentation: predict a picture and its mirror images, turn the answers back, take the mean."""

from torch import Tensor

from pipeline.recipe import Flip

_AXES: dict[Flip, tuple[int, ...]] = {"none": (), "horizontal": (-1,), "vertical": (-2,), "both": (-2, -1)}


def flip(picture: Tensor, how: Flip) -> Tensor:
    """Mirror (…, h, w). Each flip undoes itself, so the same call turns a prediction back."""
    return picture.flip(_AXES[how]) if _AXES[how] else picture
