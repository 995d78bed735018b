"""Pieces, holes, borders and boxes are those of the painted mask, in both pixel orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from pipeline.data.regions import Regions, measure_regions
from pipeline.data.rle import mask_to_runs, merge_runs

ORDERS = st.sampled_from(["row", "column"])
MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def slow_regions(mask: np.ndarray) -> Regions:
    labels, pieces = ndimage.label(mask, np.ones((3, 3)))
    holes = ndimage.binary_fill_holes(mask) & ~mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not pieces:
        return Regions()
    return Regions(
        int(mask.sum()),
        pieces,
        int(np.bincount(labels[mask]).max()),
        ndimage.label(holes)[1],
        int(holes.sum()),
        (int(mask[0].sum()), int(mask[-1].sum()), int(mask[:, 0].sum()), int(mask[:, -1].sum())),
        (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
    )


@given(MASKS, ORDERS)
def test_regions_are_those_of_the_painted_mask(mask, order):
    assert measure_regions(mask_to_runs(mask, order), mask.shape, order) == slow_regions(mask)


@pytest.mark.parametrize("order", ["row", "column"])
def test_large_masks_with_ragged_edges(order):
    rng = np.random.default_rng(0)
    for density in (0.4, 0.5, 0.6):
        noise = ndimage.gaussian_filter(rng.normal(size=(120, 90)), 1.5)
        mask = noise > np.quantile(noise, density)
        assert measure_regions(mask_to_runs(mask, order), mask.shape, order) == slow_regions(mask)


def test_runs_may_touch_and_cross_the_ends_of_lines():
    runs = np.array([[1, 2], [3, 3], [6, 2]])
    mask = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], dtype=bool)
    assert measure_regions(runs, (2, 4)) == slow_regions(mask)


@given(st.lists(arrays(bool, (5, 7)), min_size=1, max_size=4), ORDERS)
def test_merged_runs_are_those_of_the_union(masks, order):
    merged = merge_runs([mask_to_runs(mask, order) for mask in masks])
    union = np.logical_or.reduce(masks)
    assert measure_regions(merged, union.shape, order) == slow_regions(union)
    assert (np.diff(merged.ravel()[::2]) > 0).all()
