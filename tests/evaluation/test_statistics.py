"""Intervals resample groups, hold for unseen groups, and gains are paired."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.statistics import Estimate, describe_gain, estimate_mean, paired_gain, prediction_interval


def test_interval_of_equal_images_of_a_group_is_that_of_the_groups():
    """Sixteen equal views of a car are one observation, not sixteen."""
    values = np.random.default_rng(0).normal(size=30)
    few = estimate_mean(values, np.arange(30))
    many = estimate_mean(values.repeat(16), np.arange(30).repeat(16))
    assert (few.low, few.high) == pytest.approx((many.low, many.high))
    standard_error = values.std() / np.sqrt(30)
    assert few.high - few.low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    assert few.value == pytest.approx(values.mean())


def test_sums_and_sizes_of_groups_are_resampled_together():
    """Otherwise the mean of equal values would have an interval."""
    sizes = np.array([1, 2, 3, 10, 20])
    estimate = estimate_mean(np.ones(sizes.sum()), np.arange(5).repeat(sizes))
    assert (estimate.low, estimate.value, estimate.high) == (1, 1, 1)


def test_as_many_bootstrap_samples_are_drawn_as_asked_for():
    values = np.random.default_rng(0).normal(size=30)
    assert estimate_mean(values, np.arange(30), samples=5) != estimate_mean(values, np.arange(30), samples=50)


def test_groups_of_different_size_are_weighted_by_their_images():
    values, groups = np.array([0.0, 0.0, 0.0, 1.0]), np.array(["a", "a", "a", "b"])
    estimate = estimate_mean(values, groups)
    assert estimate.value == 0.25
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_a_single_group_has_no_interval():
    estimate = estimate_mean(np.array([0.2, 0.4]), np.array(["a", "a"]))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.slow
def test_prediction_interval_holds_for_unseen_groups():
    """About 95 % of 300 made-up test sets fall inside; the interval of the mean holds far fewer."""
    rng = np.random.default_rng(1)
    inside = alone = 0
    for _ in range(300):
        cars = rng.normal(0.99, 0.002, 56)
        values, groups, test = cars[:40].repeat(4), np.arange(40).repeat(4), cars[40:].mean()
        expected = prediction_interval(values, groups, 16, samples=400)
        inside += expected.low <= test <= expected.high
        mean = estimate_mean(values, groups, samples=400)
        alone += mean.low <= test <= mean.high
    assert 0.89 < inside / 300 < 0.985
    assert alone / 300 < 0.8


@pytest.mark.parametrize("test_groups", [4, 20, 400])
def test_prediction_interval_has_the_variance_of_both_means(test_groups):
    rng = np.random.default_rng(0)
    cars = rng.normal(0.5, 0.05, 40)
    values, groups = cars.repeat(4), np.arange(40).repeat(4)
    expected = prediction_interval(values, groups, test_groups)
    assert expected.high - expected.low == pytest.approx(
        2 * 1.96 * cars.std() * np.sqrt(1 / 40 + 1 / test_groups), rel=0.1
    )
    assert expected.value == pytest.approx(cars.mean())
    assert expected == prediction_interval(values, groups, test_groups), "the same in every call"


def test_prediction_interval_stays_within_the_range_of_scores():
    values = np.array([0.2, 1.0, 1.0, 1.0, 1.0])
    expected = prediction_interval(values, np.arange(5), 1)
    assert 0 <= expected.low < 0.5
    assert expected.high == 1
    assert prediction_interval(1 - values, np.arange(5), 1).low == 0


@pytest.mark.parametrize(
    ("low", "high", "positive", "significant"),
    [(0.1, 0.3, True, True), (-0.3, -0.1, False, True), (-0.1, 0.1, False, False), (0.0, 0.1, False, False)],
)
def test_significance(low, high, positive, significant):
    estimate = Estimate(value=0.0, low=low, high=high)
    assert (estimate.is_positive, estimate.is_significant) == (positive, significant)
    assert Estimate(value=0.1, low=-0.2, high=0.3).signed() == "+0.100000 [-0.200000, +0.300000]"


@pytest.fixture
def tables(tmp_path):
    """Write scores of 20 groups of 16 images, and the same plus a difference; returns both paths."""

    def call(difference) -> tuple:
        rng = np.random.default_rng(0)
        group = np.repeat([f"car{number:02d}" for number in range(20)], 16)
        before = pd.DataFrame({"id": [f"{number:03d}.jpg" for number in range(320)], "group": group})
        before["score"] = rng.normal(0.99, 0.005, 20).repeat(16)
        after = before.assign(score=before.score + difference(rng)).sample(frac=1, random_state=0)
        before = before.sample(frac=1, random_state=1)
        paths = tmp_path / "before.csv", tmp_path / "after.csv"
        for table, path in zip((before, after), paths, strict=True):
            table.to_csv(path, index=False)
        return paths

    return call


def test_a_small_gain_on_every_group_is_significant(tables):
    """Far below the spread between groups: only the pairing shows it."""
    paths = tables(lambda rng: rng.normal(0.0003, 0.0002, 320))
    result = paired_gain(*paths)
    assert result.gain.is_significant
    scope = "20 groups and 320 images"
    assert describe_gain(paths) == f"{result.gain.signed()}, paired 95 % confidence interval over {scope}: significant"
    assert result.gain.low < result.gain.value < result.gain.high
    assert result.gain.value == pytest.approx(0.0003, abs=0.0001)
    assert (result.images, result.groups) == (320, 20)


def test_a_small_loss_is_significant_too(tables):
    result = paired_gain(*tables(lambda rng: rng.normal(-0.0003, 0.0002, 320)))
    assert result.gain.is_significant
    assert result.gain.value < 0


def test_a_gain_on_one_group_may_be_chance(tables):
    """It would look significant if images were resampled instead of groups."""
    lucky = np.r_[np.full(16, 0.01), np.zeros(304)]
    paths = tables(lambda rng: lucky + rng.normal(0, 1e-5, 320))
    result = paired_gain(*paths)
    assert result.gain.value > 0
    assert not result.gain.is_significant
    assert describe_gain(paths).endswith(
        "paired 95 % confidence interval over 20 groups and 320 images: not significant"
    )


def test_equal_tables_have_no_gain(tables):
    assert paired_gain(*tables(lambda rng: np.zeros(320))).gain == Estimate(value=0, low=0, high=0)


def test_classes_are_paired_apart(tmp_path):
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    before.write_text("id,class,group,score\na,1,g,0.1\na,NA,g,0.2\nb,1,g,0.3\nb,NA,g,0.4\n")
    assert paired_gain(before, before).images == 4
    after.write_text("id,class,group,score\na,1,g,0.1\na,NA,g,0.2\nb,1,g,0.3\nb,2,g,0.4\n")
    with pytest.raises(UserError, match="only one of them has b 2"):
        paired_gain(before, after)


def test_ids_and_groups_are_texts(tmp_path):
    """1, 01 and 1.0 are three ids, and NA is a group."""
    table = tmp_path / "oof.csv"
    table.write_text("id,group,score\n1,1,0.1\n01,01,0.2\n1.0,NA,0.3\n")
    result = paired_gain(table, table)
    assert (result.images, result.groups) == (3, 3)


def test_tables_that_do_not_match_are_refused(tables, tmp_path):
    before, after = tables(lambda rng: np.zeros(320))
    table = pd.read_csv(before).sort_values("id")
    table.head(300).to_csv(tmp_path / "short.csv", index=False)
    pd.concat([table] * 2).to_csv(tmp_path / "twice.csv", index=False)
    (tmp_path / "bad.csv").write_text("id,group\na,b\n")
    (tmp_path / "text.csv").write_text("id,group,score\na,b,\n")
    for name, what, fix in (
        (
            "short.csv",
            f"has not the same images as {after}: only one of them has 300.jpg",
            "evaluate the same folds with both",
        ),
        ("twice.csv", "repeats the id 000.jpg", "run `make evaluate` again"),
        ("none.csv", "cannot be read (No such file or directory)", "check the path"),
        (
            "bad.csv",
            """is not a table with columns id, group, score ("['score'] not in index")""",
            "run `make evaluate` again",
        ),
        (
            "text.csv",
            "is not a table with columns id, group, score (could not convert string to float: '')",
            "run `make evaluate` again",
        ),
    ):
        with pytest.raises(UserError) as error:
            paired_gain(tmp_path / name, after)
        assert str(error.value) == f"{tmp_path / name}: {what}; {fix}"
    with pytest.raises(UserError) as error:
        describe_gain([before])
    assert str(error.value) == 'FILES: names 1 files; give two: FILES="before/oof.csv after/oof.csv"'


def test_ids_classes_and_groups_are_texts(tmp_path):
    """Neither 1 and 01 nor NA and an empty text are the same."""
    rows = [("1", "1", "7"), ("1", "01", "07"), ("01", "1", "7"), ("01", "01", "07")]
    for name, score in (("before.csv", 0.5), ("after.csv", 0.75)):
        lines = [f"{id},{label},{group},{score}" for id, label, group in rows]
        (tmp_path / name).write_text("\n".join(["id,class,group,score", *lines]) + "\n")
    gain = paired_gain(tmp_path / "before.csv", tmp_path / "after.csv")
    assert (gain.images, gain.groups, gain.gain.value) == (4, 2, 0.25)
