"""The compiled loops give what `pipeline.data.rle` gives, and leave to it every text that is not regular."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data.rle import RleFormat, count_overlap, mask_to_runs, parse_rle, runs_to_rle
from pipeline.submission.compiled import count_common_pixels, parse_regular_rle, write_rle

FORMATS = st.builds(
    RleFormat, offsets=st.sampled_from(["absolute", "relative"]), base=st.sampled_from([0, 1]), empty=st.just("-1")
)
RUNS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 5000)), max_size=40).map(
    lambda pairs: np.array([
        (sum(map(sum, pairs[:place])) + gap, length) for place, (gap, length) in enumerate(pairs)
    ], dtype=np.int64).reshape(-1, 2)
)  # fmt: skip
"""Sorted and disjoint; they may touch."""
MASKS = arrays(bool, (1, 60))


@settings(deadline=None)  # the first call compiles
@given(RUNS, FORMATS)
def test_texts_are_those_of_numpy_and_parse_to_the_same_runs(runs, format):
    text = write_rle(runs, format)
    assert text == runs_to_rle(runs, format)
    parsed = parse_regular_rle(text, 10**9, format)
    if len(runs):
        assert np.array_equal(parsed, runs)
    else:
        assert parsed is None


@settings(deadline=None)
@given(st.text(alphabet="0123456789 -x\n", max_size=24), FORMATS)
@example("1 2 3 1", RleFormat())
@example("0 2 0 1", RleFormat(offsets="relative", base=0))
@example("3 2 5 8", RleFormat())
@example("3 2 5 9", RleFormat())
@example("12 1", RleFormat(base=0))
@example("99999999999999999999999 1", RleFormat())
def test_a_text_is_parsed_as_by_numpy_or_left_to_it(text, format):
    runs = parse_regular_rle(text, 12, format)
    if runs is not None:
        assert np.array_equal(runs, parse_rle(text, 12, format))
        assert text == " ".join(text.split(" ")), "numbers are separated by one space"


@pytest.mark.parametrize(
    "text", ["", "-1", " 1 1", "1 1 ", "1  1", "1\t1", "1 1 1", "0 1", "1 0", "3 2 4 1", "12 2", "\u0661 1"]
)
def test_other_texts_are_left_to_numpy(text):
    assert parse_regular_rle(text, 12, RleFormat(empty="-1")) is None


@pytest.mark.parametrize("number", [9, 10, 99, 100, 10**9, 10**18 - 1, 10**18, 2**62])
def test_numbers_of_any_length_are_written(number):
    assert write_rle(np.array([[number, number]]), RleFormat(base=0)) == f"{number} {number}"


@settings(deadline=None)
@given(MASKS, MASKS)
def test_common_pixels_are_counted(first, second):
    runs = mask_to_runs(first), mask_to_runs(second)
    assert count_common_pixels(*runs) == count_overlap(*runs) == (first & second).sum()
