"""Masks for galleries: read from files where they are encoded. Imports no torch, because several processes load it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pipeline.competition import Competition
from pipeline.data.images import image_size
from pipeline.data.labels import LabelReader
from pipeline.data.rle import RleFormat, rle_format
from pipeline.data.samples import Sample
from pipeline.paths import label_cache
from pipeline.report.gallery import MaskLoader, decode_masks
from pipeline.submission.rows import read_rows


def load_masks(competition: Competition, path: Path, images: Mapping[str, Path]) -> dict[str, MaskLoader]:
    """Read the rows of some images; the masks are decoded where they are encoded.

    Args:
        competition: its format is used.
        path: a submission, or a file in its format.
        images: id -> photo.

    Raises:
        UserError: the file cannot be read or lacks an image.
    """
    rows = read_rows(path, competition, list(images))
    size, format = competition.csv.size or competition.images.size, rle_format(competition)
    return {
        id: partial(
            _decode, image, size, [(row.class_index, row.rle) for row in rows[id]], competition.num_classes, format
        )
        for id, image in images.items()
    }


def _decode(
    image: Path, size: tuple[int, int] | None, rows: Sequence[tuple[int, str]], num_classes: int, format: RleFormat
) -> np.ndarray:
    width, height = size or image_size(image)
    return decode_masks(rows, num_classes, (height, width), format)


def read_true_masks(competition: Competition, sample: Sample) -> np.ndarray:
    """Read the true masks of a sample at the size of submissions, (classes, h, w) bool."""
    return LabelReader(competition, label_cache(competition.name)).read_truth(sample, instances=False).masks


def mark_parts(load: MaskLoader, pieces: Sequence[bool], holes: Sequence[bool]) -> np.ndarray:
    """Return the pieces apart from the largest one, and the holes, of the masks (classes, h, w) bool.

    Args:
        load: returns the masks.
        pieces: whether to mark the pieces of each class.
        holes: whether to mark its holes.
    """
    masks = load()
    marks = np.zeros_like(masks)
    for mask, mark, mark_pieces, mark_holes in zip(masks, marks, pieces, holes, strict=True):
        if mark_pieces:
            _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            mark |= mask & (labels != 1 + stats[1:, cv2.CC_STAT_AREA].argmax()) if len(stats) > 1 else False
        if mark_holes:
            outside = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)[
                1
            ]
            mark |= ~mask & (outside[1:-1, 1:-1] != outside[0, 0])
    return marks
