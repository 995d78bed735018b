"""Run-length encoding: exact both ways, in both orders, on made and on real masks."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.data.masks import read_mask
from pipeline.data.rle import mask_to_rle, rle_to_mask

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
ORDERS = st.sampled_from(["row", "column"])


def slow_encode(mask: np.ndarray, order: str) -> str:
    """A loop that no one could misread."""
    pixels = [mask[y, x] for y in range(mask.shape[0]) for x in range(mask.shape[1])]
    if order == "column":
        pixels = [mask[y, x] for x in range(mask.shape[1]) for y in range(mask.shape[0])]
    text, start = [], None
    for number, inside in enumerate([*pixels, False], start=1):
        if inside and start is None:
            start = number
        if not inside and start is not None:
            text += [start, number - start]
            start = None
    return " ".join(map(str, text))


@given(MASKS, ORDERS)
def test_encode_equals_slow_loop(mask, order):
    assert mask_to_rle(mask, order) == slow_encode(mask, order)


@given(MASKS, ORDERS)
def test_decode_undoes_encode(mask, order):
    decoded = rle_to_mask(mask_to_rle(mask, order), mask.shape, order)
    assert decoded.dtype == bool
    assert np.array_equal(decoded, mask)


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
    assert mask_to_rle(np.array(rows), order) == text
    assert np.array_equal(rle_to_mask(text, np.shape(rows), order), np.array(rows, dtype=bool))


@pytest.mark.parametrize("values", [[[0, 255]], [[-1, 0]], [[0, 2]]])
def test_encode_refuses_values_that_are_not_a_mask(values):
    with pytest.raises(ValueError, match="expected only 0 and 1"):
        mask_to_rle(np.array(values))


def test_encode_refuses_other_dimensions():
    with pytest.raises(ValueError, match=r"\(2, 2, 1\)"):
        mask_to_rle(np.zeros((2, 2, 1), bool))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "do not make pairs"),
        ("1 1 5", "do not make pairs"),
        ("a 1", "'a' is not a whole number"),
        ("1.0 1", "'1.0' is not a whole number"),
        ("-1 1", "'-1' is not a whole number"),
        ("² 1", "is not a whole number"),
        ("0 1", "starts below pixel 1"),
        ("3 0", "has length 0"),
        ("5 1 4 1", "starts before"),
        ("1 3 3 1", "starts before"),
        ("1 1 1 1", "starts before"),
        ("12 2", "leaves the image of 12 pixels"),
        ("13 1", "leaves the image of 12 pixels"),
        ("1 9223372036854775807", "leaves the image"),
        ("99999999999999999999 1", "too large"),
    ],
)
def test_decode_names_the_fault(text, reason):
    with pytest.raises(ValueError, match=reason):
        rle_to_mask(text, (3, 4))


def test_decode_accepts_runs_that_touch():
    assert rle_to_mask("1 2 3 1", (1, 4)).tolist() == [[True, True, True, False]]


def test_all_real_rows_byte_for_byte(shared_carvana):
    with (shared_carvana / "train_masks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1536
    for row in rows:
        mask = read_mask(shared_carvana / "train_masks" / row["img"].replace(".jpg", "_mask.gif"), positive=1)
        assert mask_to_rle(mask) == row["rle_mask"], row["img"]
        assert np.array_equal(rle_to_mask(row["rle_mask"], mask.shape), mask), row["img"]


def test_real_column_rows(shared_nuclei):
    with (shared_nuclei / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:40]
    for row in rows:
        mask = read_mask(shared_nuclei / "train" / "masks" / f"{row['id']}.png", positive=255)
        assert mask_to_rle(mask, "column") == row["rle_mask"], row["id"]
