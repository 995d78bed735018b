"""The parts of the lost Dice equal their definition, and their sum is 1 - Dice."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.metrics.edges import EDGE_DISTANCES, dice_lost_by_distance

MASK_PAIRS = arrays(bool, st.tuples(st.just(2), st.integers(1, 12), st.integers(1, 14)))


def slow_parts(mask: np.ndarray, truth: np.ndarray) -> list[float]:
    """Compare every wrong pixel with every pixel of the other kind."""
    parts = [0] * (len(EDGE_DISTANCES) + 1)
    for point in np.argwhere(mask != truth):
        others = np.argwhere(truth != truth[tuple(point)])
        nearest = ((others - point) ** 2).sum(axis=1).min() if len(others) else np.inf
        parts[sum(nearest > bound**2 for bound in EDGE_DISTANCES)] += 1
    return [part / max(1, mask.sum() + truth.sum()) for part in parts]


@given(masks=MASK_PAIRS)
@example(masks=np.zeros((2, 3, 3), bool))
@example(masks=np.ones((2, 1, 1), bool))
def test_parts_equal_their_definition(masks):
    assert dice_lost_by_distance(*masks).tolist() == pytest.approx(slow_parts(*masks))


@pytest.mark.parametrize("seed", range(3))
def test_parts_far_from_the_edge(seed):
    """Masks of which a single pixel is true: every distance up to 40 pixels occurs, near the border of the image too."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((41, 30), bool)
    truth[rng.integers(41), rng.integers(30)] = True
    mask = rng.random(truth.shape) < 0.5
    for each in (mask, ~mask):
        for true in (truth, ~truth):
            assert dice_lost_by_distance(each, true).tolist() == pytest.approx(slow_parts(each, true))


def test_a_straight_edge_three_pixels_off():
    """One column at each distance. The border of the image, which both masks touch, is no edge."""
    truth, mask = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    truth[:, :40] = mask[:, :43] = True
    total = 60 * (40 + 43)
    assert dice_lost_by_distance(mask, truth).tolist() == [60 / total] * 3 + [0, 0]
    mask[30, 50] = True
    assert dice_lost_by_distance(mask, truth)[-1] == 1 / (total + 1)


def test_without_an_edge_all_is_beyond():
    full, empty = np.ones((5, 5), bool), np.zeros((5, 5), bool)
    assert dice_lost_by_distance(full, empty).tolist() == [0, 0, 0, 0, 1]
    assert dice_lost_by_distance(empty, full).tolist() == [0, 0, 0, 0, 1]
