"""From the masks of an image to the rows of a submission: one per image, per class or per object."""

from collections.abc import Iterator

import numpy as np

from pipeline.competition import Competition
from pipeline.data.instances import splitter
from pipeline.data.rle import mask_to_rle, rle_format
from pipeline.inference.postprocess import Postprocess

ImageRows = list[tuple[int, str]]
"""(index of the class, RLE) of each row of one image."""


class RowEncoder:
    """Encode masks as rows.

    Args:
        competition: its kind of rows and its RLE format are used.
        postprocess: its minimum areas are used.
    """

    def __init__(self, competition: Competition, postprocess: Postprocess) -> None:
        self.format = rle_format(competition)
        self.instances = competition.csv.rows == "instance"
        self.split = splitter(competition)
        self.min_areas = postprocess.min_areas

    def encode(self, masks: np.ndarray) -> ImageRows:
        """Encode the masks (classes, h, w) bool of one image.

        Returns:
            One row per class; or one per object, and one empty row for a class without objects.
        """
        rows: ImageRows = []
        for class_index, mask in enumerate(masks):
            if not self.instances:
                rows.append((class_index, mask_to_rle(mask, self.format)))
                continue
            objects = self._objects(mask, self.min_areas[class_index])
            texts = [mask_to_rle(object_mask, self.format) for object_mask in objects]
            rows += [(class_index, text) for text in texts or [self.format.empty]]
        return rows

    def _objects(self, mask: np.ndarray, min_area: float) -> Iterator[np.ndarray]:
        """Yield the objects of a mask that are large enough, each as a mask (h, w) bool."""
        labels, count = self.split(mask)
        areas = np.bincount(labels.ravel())
        smallest = np.ceil(min_area * mask.size)
        return (labels == number for number in range(1, count + 1) if areas[number] >= smallest)
