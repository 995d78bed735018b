"""Run-length encoding is exact in both directions, in every format, on generated and on real masks."""

import csv
import itertools
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.data.masks import read_mask
from pipeline.data.rle import (
    RleFormat,
    _find_changes,
    _join_numbers,
    _parse_numbers,
    count_overlap,
    expand_runs,
    mask_to_rle,
    mask_to_runs,
    parse_rle,
    rle_format,
    rle_to_mask,
    runs_to_mask,
)
from tests.helpers import changed_competition

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
ORDERS = st.sampled_from(["row", "column"])
FORMATS = st.builds(
    RleFormat,
    order=ORDERS,
    offsets=st.sampled_from(["absolute", "relative"]),
    base=st.sampled_from([0, 1]),
    empty=st.sampled_from(["", "-1", "-"]),
)
COLUMNS = RleFormat("column")


def slow_encode(mask, format):
    """A loop over pixels."""
    height, width = mask.shape
    pixels = [mask[y, x] for y in range(height) for x in range(width)]
    if format.order == "column":
        pixels = [mask[y, x] for x in range(width) for y in range(height)]
    numbers, start, origin = [], None, -format.base
    for position, inside in enumerate([*pixels, False]):
        if inside and start is None:
            start = position
        if not inside and start is not None:
            numbers += [start - origin, position - start]
            origin = position if format.offsets == "relative" else origin
            start = None
    return " ".join(map(str, numbers)) or format.empty


@given(MASKS, FORMATS)
def test_encoding_equals_a_slow_loop(mask, format):
    assert mask_to_rle(mask, format) == slow_encode(mask, format)


@given(MASKS, FORMATS)
def test_decoding_inverts_encoding(mask, format):
    decoded = rle_to_mask(mask_to_rle(mask, format), mask.shape, format)
    assert decoded.dtype == bool
    assert np.array_equal(decoded, mask)


@given(MASKS, ORDERS)
def test_runs_are_sorted_disjoint_and_expand_to_the_pixels(mask, order):
    runs = mask_to_runs(mask, order)
    assert (runs[1:, 0] > runs[:-1].sum(axis=1)).all()
    assert (runs[:, 1] > 0).all()
    pixels = (mask if order == "row" else mask.T).ravel()
    assert np.array_equal(expand_runs(runs), np.flatnonzero(pixels))
    assert np.array_equal(runs_to_mask(runs, mask.shape, order), mask)


def test_format_is_that_of_the_competition(competition):
    other = changed_competition(competition, csv__order="column", csv__offsets="relative", csv__base=0, csv__empty="-1")
    assert rle_format(other) == RleFormat("column", "relative", 0, "-1")
    assert rle_format(competition) == RleFormat()


def test_pixels_are_numbered_along_the_rows_by_default():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert mask_to_runs(mask).tolist() == [[1, 2], [5, 1]]
    assert np.array_equal(runs_to_mask(mask_to_runs(mask), (2, 3)), mask)


@pytest.mark.parametrize("empty", ["", "-1"])
def test_an_empty_mask_has_no_runs(empty):
    runs = parse_rle(empty, 12, RleFormat(empty=empty))
    assert (runs.shape, runs.dtype) == ((0, 2), np.int64)


def test_relative_numbers_beyond_the_image_are_refused():
    with pytest.raises(ValueError, match="a number is larger than the 12 pixels of the image"):
        parse_rle("1 2 13 1", 12, RleFormat(offsets="relative"))


def test_overlap_counts_common_pixels():
    """For every pair of masks of five pixels."""
    masks = [np.array(pixels).reshape(1, 5) for pixels in itertools.product([False, True], repeat=5)]
    for first, second in itertools.product(masks, masks):
        assert count_overlap(mask_to_runs(first), mask_to_runs(second)) == (first & second).sum()


@pytest.mark.parametrize(
    ("rows", "order", "text"),
    [
        ([[1, 0], [0, 0]], "row", "1 1"),
        ([[0, 0], [0, 1]], "row", "4 1"),
        ([[1, 1], [1, 1]], "row", "1 4"),
        ([[0, 0], [0, 0]], "row", ""),
        ([[0, 1], [1, 0]], "row", "2 2"),
        ([[0, 1, 1], [0, 0, 1]], "column", "3 1 5 2"),
    ],
)
def test_known_texts(rows, order, text):
    assert mask_to_rle(np.array(rows), RleFormat(order)) == text
    assert np.array_equal(rle_to_mask(text, np.shape(rows), RleFormat(order)), np.array(rows, dtype=bool))


def test_relative_offsets_of_siim():
    """Start of the first run, then the distance from the end of the previous run."""
    mask = np.array([[0, 0, 1, 1, 0, 1]], bool)
    relative = RleFormat(offsets="relative", base=0, empty="-1")
    assert mask_to_rle(mask, relative) == "2 2 1 1"
    assert np.array_equal(rle_to_mask("2 2 1 1", (1, 6), relative), mask)
    assert not rle_to_mask("-1", (1, 6), relative).any()


@pytest.mark.parametrize("values", [[[0, 255]], [[-1, 0]], [[0, 2]]])
def test_values_that_are_no_mask_are_refused(values):
    with pytest.raises(ValueError, match="expected only 0 and 1"):
        mask_to_rle(np.array(values))


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 1\)"):
        mask_to_rle(np.zeros((2, 2, 1), bool))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "1 numbers are not pairs"),
        ("1 1 5", "3 numbers are not pairs"),
        ("a 1", "'a' is not an integer"),
        ("1.0 1", "'1.0' is not an integer"),
        ("-1 1", "'-1' is not an integer"),
        ("² 1", "is not an integer"),
        ("0 1", r"run 1 \(0 1\) starts before pixel 1"),
        ("3 0", r"run 1 \(3 0\) has length 0$"),
        ("5 1 4 1", r"run 2 \(4 1\) starts before the previous run ends"),
        ("1 3 3 1", "starts before the previous run ends"),
        ("1 1 1 1", "starts before the previous run ends"),
        ("1 2 5 3 6 1", r"run 3 \(6 1\) starts before the previous run ends"),
        ("12 2", "leaves the image of 12 pixels"),
        ("13 1", "leaves the image of 12 pixels"),
        ("1 9223372036854775807", "leaves the image"),
        ("99999999999999999999 1", "^a number is too large$"),
    ],
)
def test_faulty_texts_are_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        rle_to_mask(text, (3, 4))


@given(st.text(alphabet="0123456789 -x\n", max_size=40), FORMATS)
def test_any_text_is_valid_or_a_value_error(text, format):
    try:
        runs = parse_rle(text, 12, format)
    except ValueError:
        return
    assert runs_to_mask(runs, (3, 4), format.order).sum() == runs[:, 1].sum()


def test_runs_that_touch_are_accepted():
    assert rle_to_mask("1 2 3 1", (1, 4)).tolist() == [[True, True, True, False]]


@pytest.mark.slow
def test_real_rows_byte_for_byte(shared_carvana):
    with (shared_carvana / "train_masks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1536
    for row in rows[::7]:  # all 16 views of a turntable
        mask = read_mask(shared_carvana / "train_masks" / row["img"].replace(".jpg", "_mask.gif"), positive=1)
        assert mask_to_rle(mask) == row["rle_mask"], row["img"]
        assert np.array_equal(rle_to_mask(row["rle_mask"], mask.shape), mask), row["img"]


def test_real_column_major_rows(shared_nuclei):
    with (shared_nuclei / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:40]
    for row in rows:
        mask = read_mask(shared_nuclei / "train" / "masks" / f"{row['id']}.png", positive=255)
        assert mask_to_rle(mask, COLUMNS) == row["rle_mask"], row["id"]


LONG = arrays(bool, st.integers(1, 200), elements=st.sampled_from([False, True]), fill=st.nothing())
STRETCHES = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=12).map(
    lambda parts: np.concatenate([np.full(length, value) for value, length in parts])
)
"""Long runs of equal pixels, so that many words of eight pixels are equal."""
STRIPES = st.tuples(arrays(bool, st.integers(1, 16)), st.integers(1, 12)).map(lambda parts: np.tile(*parts))


@given(LONG | STRETCHES | STRIPES)
@example(np.repeat([False, True, True, False], 8))
def test_changes_are_found_at_any_position(pixels):
    changes = [position for position in range(1, len(pixels)) if pixels[position] != pixels[position - 1]]
    assert _find_changes(pixels).tolist() == changes


@pytest.mark.parametrize("length", [8, 16, 24, 32, 40, 45])
@pytest.mark.parametrize("period", [1, 2, 4])
def test_changes_of_narrow_stripes_are_found(length, period):
    pixels = np.arange(length) % (2 * period) < period
    assert _find_changes(pixels).tolist() == list(range(period, length, period))


@pytest.mark.parametrize(
    "largest", [1, 9, 10, 999, 1000, 2_455_040, 9_999_999, 10**7, 2**31, 2**32 - 1, 2**32, 10**9, 9_999_999_999, 2**62]
)
@pytest.mark.parametrize("count", [1, 63, 64, 65, 500])
def test_many_numbers_are_written_as_python_writes_them(largest, count):
    rng = np.random.default_rng(count)
    numbers = (largest * rng.random(count) ** 8).astype(np.int64)
    numbers[rng.integers(count)] = largest
    assert _join_numbers(numbers) == " ".join(map(str, numbers.tolist()))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1 2\t3\r\n4", [1, 2, 3, 4]),
        (" 007 0 ", [7, 0]),
        (f"{2**63 - 1} 1", [2**63 - 1, 1]),
        (f"{2**63 - 2}", [2**63 - 2]),
        ("1\f2\v3", [1, 2, 3]),
    ],
)
def test_numbers_are_separated_by_any_white_space(text, numbers):
    assert _parse_numbers(text).tolist() == numbers


@pytest.mark.parametrize(
    "text", ["1 X", "1 2X", "X", "1,2", "1.0", "+1", "1_0", "1-2", "1e3", "\u00b2", "\u0663", "0x1"]
)
def test_other_text_is_no_number(text):
    with pytest.raises(ValueError, match="is not an integer"):
        _parse_numbers(text)


@pytest.mark.parametrize(
    ("text", "pixels", "runs"),
    [
        ("1 1", 1, [[0, 1]]),
        ("1 4", 4, [[0, 4]]),
        ("4 1", 4, [[3, 1]]),
        ("1 2 3 2", 4, [[0, 2], [2, 2]]),
        ("1 1", 2**62, [[0, 1]]),
        (f"{2**61} 1", 2**62 + 1, [[2**61 - 1, 1]]),
    ],
)
def test_runs_may_touch_each_other_and_the_ends(text, pixels, runs):
    assert parse_rle(text, pixels).tolist() == runs


@pytest.mark.parametrize(
    ("text", "pixels"),
    [("0 1", 9), ("1 0", 9), ("1 2 2 2", 9), ("9 2", 9), ("10 1", 9), ("1 10", 9), (f"1 1 2 {2**63 - 1}", 2**63 - 1)],
)
def test_runs_outside_or_out_of_order_are_refused(text, pixels):
    with pytest.raises(ValueError, match=r"run [12] "):
        parse_rle(text, pixels)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 2 3 2 4 1", "run 3 (4 1) starts before the previous run ends"), ("8 2 10 1", "run 2 (10 1) leaves the image")],
)
def test_the_first_faulty_run_is_named(text, message):
    """A run may touch the previous one, and the end of the image."""
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_rle(text, 9)
