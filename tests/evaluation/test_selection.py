"""A fitted choice is used only where it gains on groups it was not fitted on."""

import numpy as np
import pytest

from pipeline.evaluation.selection import PARTS, best_choice, ensemble_weight_grid, nested_scores, select
from pipeline.evaluation.statistics import estimate_mean
from pipeline.metrics.counts import NUM_BINS


@pytest.mark.parametrize(("members", "tried"), [(1, 1), (2, 5), (3, 16), (4, 35)])
def test_ensemble_weights_to_try(members, tried):
    grid = ensemble_weight_grid(members)
    assert len(grid) == len(set(grid)) == tried
    assert grid[0] == (1 / members,) * members
    assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in grid)
    assert {tuple(row) for row in np.eye(members)} <= set(grid), "each member alone"


def scores_by_threshold(best, noise, cars=40):
    """Scores by threshold that peak at the bin `best`, for cars of 4 views."""
    rng = np.random.default_rng(0)
    peaks = best + rng.normal(0, noise, (cars, 1))
    scores = 0.99 - ((np.arange(NUM_BINS) - peaks) / 2000) ** 2
    return np.repeat(scores, 4, axis=0), np.repeat([f"car{n}" for n in range(cars)], 4)


def test_a_real_gain_is_found():
    scores, groups = scores_by_threshold(best=90, noise=5)
    assert abs(best_choice(scores, 128) - 90) <= 2
    selection = select(scores, groups, 128)
    assert selection.gain.is_positive
    assert selection.used == selection.best


def test_noise_is_no_gain():
    scores, groups = scores_by_threshold(best=128, noise=60)
    selection = select(scores, groups, 128)
    assert not estimate_mean(nested_scores(scores, groups, 128) - scores[:, 128], groups).is_positive
    assert selection.used == 128


def test_equal_choices_leave_the_default():
    assert best_choice(np.ones((5, 3)), 2) == 2
    assert best_choice(np.array([[0.0, 1.0, 0.5]]), 2) == 1


def test_the_best_of_many_equal_choices_is_not_used():
    """Among hundreds of equal choices one always seems better on the images it was picked by."""
    groups = np.repeat([f"car{n}" for n in range(40)], 4)
    scores = np.random.default_rng(0).normal(size=(40, 300)).repeat(4, axis=0)
    scores[:, 0] -= scores[:, 0].mean()
    selection = select(scores, groups, 0)
    assert (scores[:, selection.best] - scores[:, 0]).mean() > 0.3
    assert selection.gain.value < 0.1
    assert selection.used == 0


def test_nested_scores_use_the_best_choice_on_all_other_parts():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    scores = rng.normal(size=(len(groups), 8))
    part_of_group = np.random.default_rng(0).permutation(30) % PARTS
    result = nested_scores(scores, groups, default=3)
    for image, group in enumerate(groups):
        others = [other for other in range(len(groups)) if part_of_group[groups[other]] != part_of_group[group]]
        means = [sum(scores[other, choice] for other in others) / len(others) for choice in range(8)]
        assert result[image] == scores[image, max(range(8), key=means.__getitem__)]


@pytest.mark.filterwarnings("error")
def test_a_single_group_is_scored_with_the_default():
    assert nested_scores(np.array([[1.0, 2.0], [3.0, 5.0]]), np.array(["a", "a"]), 0).tolist() == [1.0, 3.0]


def test_nested_scores_never_use_a_group_to_fit_its_own_choice():
    """Each group's own best choice is bad for all others, so fitting on itself would look perfect."""
    groups = np.arange(PARTS * 2)
    scores = np.full((len(groups), len(groups) + 1), 0.1)
    scores[:, 0] = 0.5
    scores[groups, groups + 1] = 10.0
    parts = np.random.default_rng(0).permutation(len(groups)) % PARTS
    result = nested_scores(scores, groups, default=0)
    for group in groups:
        others = scores[parts != parts[group]].mean(axis=0)
        assert result[group] == scores[group, int(others.argmax())]
    assert result.max() < 10, "no group was scored with its own choice"
