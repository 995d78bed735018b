"""Read the labels of a sample: mask files or run-length encoded rows, as masks and as objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.mask_cache import MaskCache
from pipeline.data.masks import Shape, read_mask, resize_mask_binary
from pipeline.data.readers import ImageReader
from pipeline.data.rle import expand_runs, mask_to_runs, merge_runs, parse_rle, rle_format, runs_to_mask
from pipeline.data.samples import Sample
from pipeline.errors import UserError


@dataclass(frozen=True)
class Truth:
    """The ground truth of one image at the size at which the competition scores it."""

    masks: np.ndarray
    """(classes, h, w) bool."""
    instances: tuple[tuple[np.ndarray, ...], ...] | None = None
    """Flat row-major pixel indices of each object of each class, if the metric compares objects."""


class LabelReader:
    """Read the labels of a competition's samples.

    Args:
        competition: its classes, kind of mask files and RLE format are used.
        cache: folder of merged masks, see `MaskCache`; None disables the cache.

    Attributes:
        images: reads the images that the labels belong to.
    """

    def __init__(self, competition: Competition, cache: Path | None = None) -> None:
        self.images = ImageReader(competition)
        self.positive = competition.masks.positive
        self.num_classes = competition.num_classes
        self.size = competition.images.size
        self.truth_size = competition.csv.size
        self.train_csv = Path(competition.csv.train or "")
        self.format = rle_format(competition)
        self.one_object = competition.csv.rows != "instance"
        settings = (self.positive, self.num_classes, self.format)
        self.cache = MaskCache(cache, settings) if cache else None

    def read_masks(self, sample: Sample) -> np.ndarray:
        """Read the masks of a labeled sample at the image's size; objects of one class are merged.

        Returns:
            (classes, h, w) bool.

        Raises:
            UserError: a mask file cannot be read, masks differ in size, or a row is not valid RLE.
        """
        if sample.rows is None and len(sample.masks) == 1 and self.num_classes == 1:
            return read_mask(sample.masks[0][1], self.positive, large=self.images.in_windows)[None]
        shape = (self.num_classes, *self.shape(sample))
        merge = partial(self._merge_objects, sample, shape)
        return self.cache.get(sample, shape, merge) if self.cache else merge()

    def read_truth(self, sample: Sample, *, instances: bool) -> Truth:
        """Read the labels at the size of submissions: that of the image, or ``csv.size``.

        Args:
            sample: a sample with a label.
            instances: whether to list the objects too. Where a row of the submission is not an object, the whole mask
                of a class is one object.
        """
        if not instances or self.one_object:
            masks = np.stack([self._to_truth_size(mask) for mask in self.read_masks(sample)])
            objects = [[mask] if mask.any() else [] for mask in masks] if instances else []
        else:
            objects = [[] for _ in range(self.num_classes)]
            for class_index, mask in self._objects(sample, self.shape(sample)):
                if (resized := self._to_truth_size(mask)).any():
                    objects[class_index].append(resized)
            empty = np.zeros(self.truth_size[::-1] if self.truth_size else self.shape(sample), dtype=bool)
            masks = np.stack([np.logical_or.reduce([empty, *found]) for found in objects])
        if not instances:
            return Truth(masks)
        return Truth(masks, tuple(tuple(expand_runs(mask_to_runs(mask)) for mask in found) for found in objects))

    def read_row_masks(self, sample: Sample) -> list[np.ndarray]:
        """Read the masks (h, w) bool of a labeled sample as a submission has them: one per class, or per object."""
        if self.one_object:
            return list(self.read_masks(sample))
        return [mask for _, mask in self._objects(sample, self.shape(sample))]

    def read_runs(self, sample: Sample) -> tuple[list[np.ndarray], Shape]:
        """Read the masks of a labeled sample as runs, of which an image of any size has few.

        Returns:
            For each class (n, 2) int64 in the pixel order of the competition; and the shape (h, w) of the image.

        Raises:
            UserError: as `read_masks`.
        """
        height, width = shape = self.shape(sample)
        found: list[list[np.ndarray]] = [[] for _ in range(self.num_classes)]
        for class_index, path in sample.masks:
            found[class_index].append(mask_to_runs(self._read_mask_file(path, shape), self.format.order))
        for class_index, rle in sample.rows or ():
            found[class_index].append(self._parse_row(sample, rle, height * width))
        empty = np.empty((0, 2), dtype=np.int64)
        return [merge_runs(runs) if runs else empty for runs in found], shape

    def area(self, sample: Sample) -> float:
        """Return the fraction of the image that is covered, the mean over the classes, 0 to 1."""
        return float(self.read_masks(sample).mean())

    def _to_truth_size(self, mask: np.ndarray) -> np.ndarray:
        return resize_mask_binary(mask, self.truth_size) if self.truth_size else mask

    def shape(self, sample: Sample) -> Shape:
        """Return the (height, width) of the image of a sample."""
        width, height = self.size or self.images.size(sample)
        return height, width

    def _merge_objects(self, sample: Sample, shape: Sequence[int]) -> np.ndarray:
        masks = np.zeros(shape, dtype=bool)
        for class_index, mask in self._objects(sample, shape[1:]):
            masks[class_index] |= mask
        return masks

    def _objects(self, sample: Sample, shape: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (index of the class, mask (h, w) bool) for every mask file or row."""
        height, width = shape
        for class_index, path in sample.masks:
            yield class_index, self._read_mask_file(path, shape)
        for class_index, rle in sample.rows or ():
            runs = self._parse_row(sample, rle, height * width)
            yield class_index, runs_to_mask(runs, (height, width), self.format.order)

    def _read_mask_file(self, path: Path, shape: Sequence[int]) -> np.ndarray:
        mask, (height, width) = read_mask(path, self.positive, large=self.images.in_windows), shape
        if mask.shape != (height, width):
            what = f"is {mask.shape[1]}×{mask.shape[0]}, but its image is {width}×{height}"
            raise UserError(path, what, "give both the same size; `make check` lists all such files")
        return mask

    def _parse_row(self, sample: Sample, rle: str, pixels: int) -> np.ndarray:
        try:
            return parse_rle(rle, pixels, self.format)
        except ValueError as error:
            raise UserError(self.train_csv, f"a row of {sample.id}: {error}", "run `make check`") from None
