"""Test images that cannot be predicted: collect them, list them, and fill their rows."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.masks import Size
from pipeline.data.samples import Sample
from pipeline.errors import UserError

log = logging.getLogger(__name__)

_LISTED = 20
"""Number of images in a list."""


class BrokenImagesError(UserError):
    """A submission is complete, but some of its rows are filled because their images cannot be predicted."""

    exit_code = 3


class BrokenImages:
    """Collect what is wrong with images while they are predicted; its methods may be called from several threads."""

    def __init__(self) -> None:
        self.unreadable: dict[str, str] = {}
        """Id -> why the image cannot be predicted."""
        self.damaged: dict[str, str] = {}
        """Id -> warning of the decoder about an image that is predicted all the same."""
        self._lock = threading.Lock()

    def add_unreadable(self, sample: Sample, error: UserError) -> None:
        """Note an image that cannot be predicted."""
        with self._lock:
            self.unreadable[sample.id] = f"{error.where}: {error.what}"

    def add_damaged(self, sample: Sample, warning: str) -> None:
        """Note an image that is predicted although its decoder has a warning."""
        with self._lock:
            self.damaged[sample.id] = f"{sample.image}: {warning}"

    def log_damaged(self) -> None:
        """Warn about images whose decoded pixels are partly wrong."""
        if self.damaged:
            _list(logging.WARNING, f"{len(self.damaged):,} damaged images are predicted as they decode", self.damaged)

    def log_unreadable(self) -> None:
        """List the images that cannot be predicted."""
        if self.unreadable:
            _list(logging.ERROR, f"{len(self.unreadable):,} images cannot be predicted", self.unreadable)

    def require_allowed(self, file: Path, images: int, allow: bool) -> None:
        """Refuse a file with filled rows.

        Args:
            file: where the complete file lies until it is accepted.
            images: number of all images.
            allow: whether to accept it.

        Raises:
            BrokenImagesError: there are filled rows, and `allow` is False.
        """
        if self.unreadable and not allow:
            what = (
                f"{len(self.unreadable):,} of {images:,} images cannot be predicted (listed above), so this file has "
                "fallback masks for them and is not used"
            )
            fix = "replace the images and run the same command again, or set ALLOW_BROKEN=1 (--allow-broken)"
            raise BrokenImagesError(file, what, fix)


def _list(level: int, title: str, lines: Mapping[str, str]) -> None:
    more = [f"and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    log.log(level, "%s", "\n  ".join([f"{title}:", *list(lines.values())[:_LISTED], *more]))


def fallback_masks(competition: Competition, size: Size) -> np.ndarray:
    """Return the masks of an image that cannot be predicted.

    Args:
        competition: whether masks may be empty, and their plausible area.
        size: (width, height) of the submitted masks.

    Returns:
        (classes, h, w) bool: empty masks where the competition allows them. Elsewhere an empty mask would void the
        whole file, so each is a centered box with the proportions of the image, whose area is in the middle of
        ``masks.area``.
    """
    width, height = size
    masks = np.zeros((competition.num_classes, height, width), dtype=bool)
    if not competition.masks.may_be_empty:
        side = (sum(competition.masks.area) / 2) ** 0.5
        box_height, box_width = max(1, round(height * side)), max(1, round(width * side))
        top, left = (height - box_height) // 2, (width - box_width) // 2
        masks[:, top : top + box_height, left : left + box_width] = True
    return masks
