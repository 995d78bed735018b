"""Counts of thresholds give the masks of binarize, bit for bit."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.inference.levels import count_levels
from pipeline.inference.postprocess import Postprocess, binarize

THRESHOLDS = sorted({step / 100 for step in range(1, 100)} | {0.4961})
PROBABILITIES = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 1.0, *map(np.float32, THRESHOLDS), *(np.float32(step / 256) for step in range(256))]),
)


def rules(classes: int, threshold: float, may_be_empty: bool, exclusive: bool) -> Postprocess:
    return Postprocess((threshold,) * classes, (0.0,) * classes, may_be_empty, exclusive)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)), elements=PROBABILITIES),
    st.sampled_from(THRESHOLDS),
    st.booleans(),
    st.booleans(),
)
def test_masks_and_areas_are_those_of_binarize(probability, threshold, may_be_empty, exclusive):
    postprocess = rules(len(probability), threshold, may_be_empty, exclusive)
    levels = count_levels(torch.from_numpy(probability), THRESHOLDS, postprocess)
    expected = binarize(torch.from_numpy(probability), postprocess).numpy()
    assert np.array_equal(levels.masks(threshold), expected)
    areas = [row[THRESHOLDS.index(threshold)] for row in levels.areas()]
    assert areas == expected.sum(axis=(1, 2)).tolist()


def test_an_image_larger_than_a_strip_is_counted_completely():
    probability = torch.from_numpy(np.random.default_rng(0).random((1, 1500, 1000), dtype=np.float32))
    postprocess = rules(1, 0.37, True, False)
    levels = count_levels(probability, THRESHOLDS, postprocess)
    assert np.array_equal(levels.masks(0.37), binarize(probability, postprocess).numpy())
