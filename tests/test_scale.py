"""The simulation of a long prediction agrees with what can be computed by hand."""

from dataclasses import replace

import pytest

from benchmarks.scale import Plan, simulate

PLAN = Plan(3_600_000, 10, 1000, 100, 1e9, 1e9, 1e9, 5, 10)


@pytest.mark.parametrize("workers", [1, 10, 100, 1000])
def test_without_failures_and_limits_time_is_divided_by_the_workers(workers):
    outcome = simulate(PLAN, workers)
    assert outcome.hours == pytest.approx(100 / workers)
    assert (outcome.failures, outcome.repeated_images, outcome.limited_by) == (0, 0, "workers")


def test_more_workers_than_parts_are_idle():
    assert simulate(replace(PLAN, parts=10), 1000).hours == pytest.approx(10)


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ({"store_mb_per_second": 2.0}, "bandwidth of the store"),
        ({"store_requests_per_second": 20.0}, "requests to the store"),
    ],
)
def test_store_limits_the_rate(limit, name):
    outcome = simulate(replace(PLAN, **limit), 100)
    assert outcome.limited_by == name
    assert outcome.hours == pytest.approx(50)


def test_failures_cost_their_replacement_and_what_was_not_written():
    outcome = simulate(replace(PLAN, hours_between_failures=1), 10)
    assert outcome.failures == pytest.approx(100, rel=0.4)
    assert 0 < outcome.repeated_images <= outcome.failures * 100
    assert outcome.hours == pytest.approx(10 + outcome.failures / 10 * 5 / 60, rel=0.1)
