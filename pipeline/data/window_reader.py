"""Read windows of large images and of their masks."""

from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.images import resize_image
from pipeline.data.labels import LabelReader
from pipeline.data.masks import Shape, Size
from pipeline.data.samples import Sample
from pipeline.data.windows import LineRuns, Window, block_window, cut_runs
from pipeline.errors import UserError

_KEPT_BYTES = 500_000_000
"""Memory for the runs of masks; each process of a data loader has its own reader."""


class WindowReader:
    """Read windows of the images and masks of a competition; whole masks are only held as runs.

    Args:
        competition: its ``[windows]`` table is used.
        labels: reads images and masks.
    """

    def __init__(self, competition: Competition, labels: LabelReader) -> None:
        assert competition.windows is not None
        self.config = competition.windows
        self.labels = labels
        self._runs: dict[Path, tuple[list[np.ndarray], Shape]] = {}
        self._objects: dict[str, list[LineRuns]] = {}
        self._bytes = 0

    def region(self, sample: Sample) -> Window:
        """Return the part of the image that belongs to a sample: all of it, or its block.

        Raises:
            UserError: the header of the image cannot be read, or the margin leaves nothing of the block.
        """
        region = block_window(self.labels.images.size(sample), sample.block, self.config.margin)
        if min(region.width, region.height) < 1:
            what = f"has nothing left in {sample.id}, because windows.margin is {self.config.margin}"
            raise UserError(sample.image, what, "set a smaller windows.margin or fewer windows.blocks")
        return region

    def read_image(self, sample: Sample, window: Window, size: Size | None = None) -> np.ndarray:
        """Read a window of an image.

        What lies outside of the region is never read, because it may belong to another fold; the last pixels of the
        region are repeated instead.

        Args:
            sample: the sample.
            window: begins in the region of the sample.
            size: (width, height) of the result; None keeps that of the window.

        Returns:
            (h, w, channels) uint8.

        Raises:
            UserError: see `pipeline.data.readers.ImageReader.read_window`.
        """
        inside = window.clipped(self.region(sample))
        image = self.labels.images.read_window(sample, inside)
        missing = [(0, window.height - inside.height), (0, window.width - inside.width), (0, 0)]
        image = np.pad(image, missing, mode="edge") if inside != window else image
        return image if size is None else resize_image(image, size)

    def read_masks(self, sample: Sample, window: Window) -> np.ndarray:
        """Read a window of the masks of a labeled sample, as `read_image`: (classes, h, w) bool.

        Raises:
            UserError: a mask file cannot be read, or a row is not valid RLE.
        """
        inside, (runs, shape) = window.clipped(self.region(sample)), self._read_runs(sample)
        order = self.labels.format.order
        masks = np.stack([cut_runs(each, shape, order, inside).paint(inside.width, inside.height) for each in runs])
        missing = [(0, 0), (0, window.height - inside.height), (0, window.width - inside.width)]
        return np.pad(masks, missing, mode="edge") if inside != window else masks

    def objects(self, sample: Sample) -> list[LineRuns]:
        """Return the objects of each class of a labeled sample, with coordinates in its region.

        Raises:
            UserError: see `read_masks`.
        """
        if sample.id not in self._objects:
            runs, shape = self._read_runs(sample)
            region = self.region(sample)
            objects = [cut_runs(each, shape, self.labels.format.order, region) for each in runs]
            self._make_room(sum(each.line.nbytes * 3 for each in objects))
            self._objects[sample.id] = objects
        return self._objects[sample.id]

    def area(self, sample: Sample) -> float:
        """Return the fraction of the region that is covered, the mean over the classes, 0 to 1; errors as `objects`."""
        region, objects = self.region(sample), self.objects(sample)
        return sum(runs.area for runs in objects) / (region.width * region.height * len(objects))

    def _read_runs(self, sample: Sample) -> tuple[list[np.ndarray], Shape]:
        if sample.image not in self._runs:
            runs, shape = self.labels.read_runs(sample)
            self._make_room(sum(each.nbytes for each in runs))
            self._runs[sample.image] = runs, shape
        return self._runs[sample.image]

    def _make_room(self, size: int) -> None:
        """Forget everything if `size` bytes more would exceed the limit."""
        if self._bytes + size > _KEPT_BYTES:
            self._runs.clear()
            self._objects.clear()
            self._bytes = 0
        self._bytes += size
