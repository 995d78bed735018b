"""Test images that cannot be predicted: collect them, list them, and fill their rows."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.masks import Size
from pipeline.data.rle import rle_format, runs_to_rle
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.inference.rows import ImageRows

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


def fallback_rows(competition: Competition, size: Size) -> ImageRows:
    """Build the rows of an image that cannot be predicted, without allocating its masks.

    Args:
        competition: whether masks may be empty, their plausible area, and the RLE format.
        size: (width, height) of the submitted masks.

    Returns:
        A row per class: empty where the competition allows it. Elsewhere an empty mask would void the whole file, so
        each is a centered box with the proportions of the image, whose area is in the middle of ``masks.area``.
    """
    format = rle_format(competition)
    runs = np.zeros((0, 2), dtype=np.int64)
    if not competition.masks.may_be_empty:
        side = (sum(competition.masks.area) / 2) ** 0.5
        # The runs lie along rows or columns.
        along, across = size if format.order == "row" else size[::-1]
        length, count = (max(1, round(total * side)) for total in (along, across))
        first, start = (across - count) // 2, (along - length) // 2
        if length == along:
            length, count = along * count, 1
        starts = (first + np.arange(count)) * along + start
        runs = np.column_stack([starts, np.full(count, length)])
    text = runs_to_rle(runs, format)
    return [(index, text) for index in range(competition.num_classes)]
