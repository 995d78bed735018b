"""Find out which RLE format would make mask files agree with the rows of a CSV."""

from collections.abc import Sequence
from itertools import product, starmap
from typing import Literal

import numpy as np

from pipeline.competition import Competition, PixelOrder
from pipeline.data.masks import read_mask
from pipeline.data.rle import RleFormat, mask_to_runs, parse_rle, rle_format
from pipeline.data.samples import Sample
from pipeline.errors import UserError

TRIED_SAMPLES = 20
ORDERS: tuple[PixelOrder, ...] = ("row", "column")
OFFSETS: tuple[Literal["absolute", "relative"], ...] = ("absolute", "relative")
BASES = (0, 1)


def explain_rle(competition: Competition, samples: Sequence[Sample], rows: dict[str, str]) -> str | None:
    """Return the keys of the ``[csv]`` table that make most masks agree with their rows.

    Args:
        competition: its RLE format is the one that does not agree.
        samples: samples with mask files that differ from their rows.
        rows: RLE by id.

    Returns:
        Such as ``set csv.order = "column"``; None if no format makes them agree.
    """
    masks = []
    for sample in samples[:TRIED_SAMPLES]:
        try:
            mask = read_mask(sample.masks[0][1], competition.masks.positive, large=competition.windows is not None)
            masks.append((mask, rows[sample.id]))
        except UserError:
            continue
    stated = rle_format(competition)
    for format in starmap(RleFormat, product(ORDERS, OFFSETS, BASES, [stated.empty])):
        agreeing = sum(_agrees(mask, text, format) for mask, text in masks)
        if masks and 2 * agreeing > len(masks):
            changes = [
                f"csv.{key} = {value!r}".replace("'", '"')
                for key in ("order", "offsets", "base")
                if (value := getattr(format, key)) != getattr(stated, key)
            ]
            return f"set {' and '.join(changes)}: then {agreeing} of {len(masks)} agree"
    return None


def _agrees(mask: np.ndarray, text: str, format: RleFormat) -> bool:
    try:
        runs = parse_rle(text, mask.size, format)
    except ValueError:
        return False
    expected = mask_to_runs(mask, format.order)
    return len(runs) == len(expected) and bool((runs == expected).all())
