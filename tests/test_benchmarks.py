"""The benchmark times the ways in turn, compares them round by round, and all ways do the same work."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network_stages import large_recipe
from benchmarks.rounds import compute_ratio, time_rounds
from benchmarks.speedrun import Record, Timing, describe, read_records
from benchmarks.stage import OURS, Outcome, Stage, Target, describe_rate
from benchmarks.usual import UsualUNet, encode_usual, parse_usual
from pipeline.data.rle import mask_to_rle, parse_rle
from pipeline.models.zoo import build_model, count_parameters
from pipeline.options import parse_overrides
from pipeline.recipe import load_recipe


def test_rounds_call_the_ways_in_turn(monkeypatch):
    calls = []
    monkeypatch.setattr("benchmarks.rounds.MIN_SECONDS", 0)
    seconds = time_rounds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls[4:] == ["a", "b"] * 3, "one call to warm up and one to count the repetitions come first"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_a_single_round_calls_every_way_once():
    calls = []
    time_rounds({"a": lambda: calls.append("a")}, 1)
    assert calls == ["a"]


def test_fast_calls_are_repeated_and_their_time_is_that_of_one():
    calls = []
    (seconds,) = time_rounds({"a": lambda: calls.append(1)}, 2).values()
    assert len(calls) > 1000
    assert max(seconds) < 1e-4


def test_ratios_are_computed_round_by_round():
    ratio = compute_ratio([2, 30, 8], [1, 10, 2])
    assert ratio == (3, 2, 4)
    assert str(ratio) == "3.00 (2.00-4.00)"


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(at_least=2), True),
        (Target(at_least=2.1), False),
        (Target("other", at_most=2), True),
        (Target("other", at_most=1.9), False),
        (Target(seconds=5, items=10), True),
        (Target(seconds=4.9, items=10), False),
        (None, None),
    ],
)
def test_a_target_is_met_by_the_median(target, met):
    stage = Stage("work", 2, "image", {}, target, "bound")
    outcome = Outcome(stage, {OURS: [1, 1, 9], "usual": [2, 2, 20], "other": [0.5, 0.5, 9], "limit": [0.25, 0.25, 9]})
    assert outcome.met() is met
    name, ours, others, ratios, limit, *_ = outcome.row()
    assert (name, ours) == ("work", "500 ms/image")
    assert others == "usual 1 s/image; other 250 ms/image"
    assert ratios == "2.00 (2.00-2.22); 0.50 (0.50-1.00)"
    assert limit == "bound: 125 ms/image, we reach 25%"


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s/x"), (0.0125, "12.5 ms/x"), (1.5e-5, "15 µs/x"), (2e-8, "0.02 µs/x")]
)
def test_rates_have_the_unit_that_suits_them(seconds, text):
    assert describe_rate(seconds, "x") == text


def test_the_usual_text_is_that_of_the_pipeline():
    mask = np.random.default_rng(0).random((40, 50)) > 0.6
    text = mask_to_rle(mask)
    assert encode_usual(mask) == text
    starts, lengths = parse_usual(text)
    assert np.array_equal(np.column_stack([starts, lengths]), parse_rle(text, mask.size))


def test_both_networks_of_31_million_parameters_do_the_same_work():
    ours, usual = build_model(large_recipe((64, 32), 1).network).network, UsualUNet()
    assert count_parameters(usual) == pytest.approx(31.04e6, rel=0.001)
    assert count_parameters(ours) == pytest.approx(count_parameters(usual), rel=0.001)
    flops = []
    for model in (ours, usual):
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(1, 3, 32, 64))
        flops.append(counter.get_total_flops())
    assert flops[0] == pytest.approx(flops[1], rel=0.001)


def test_records_are_recipes_of_their_own_and_rise():
    reference, *records = read_records()
    assert reference.recipe == "seed"
    assert [record.dice for record in records] == sorted({record.dice for record in records})
    for record in [reference, *records]:
        load_recipe(record.recipe, parse_overrides([record.set]))


def test_table_of_records_names_those_that_are_not_reached():
    easy, hard = Record(0.9, "cpu", "", "none"), Record(0.99, "cpu", "train.epochs=2", "steps")
    rest = ("EPYC", "abc", "2026-01-01")
    timings = [
        Timing(0.9, "cpu", "", 0, 1.0, 0.93, *rest),
        Timing(0.9, "cpu", "", 1, 3.0, 0.95, *rest),
        Timing(0.99, "cpu", "train.epochs=2", 0, 5.0, 0.98, *rest),
    ]
    rows = describe([easy, hard], timings).splitlines()[2:]
    assert rows == [
        "| 0.9 | `cpu` | none | 2.0 (1.0 to 3.0) | 0.94000 (0.93000 to 0.95000) | 2 | EPYC | abc |",
        "| 0.99 | `cpu` `train.epochs=2` | steps | 5.0 (5.0 to 5.0) | 0.98000 (0.98000 to 0.98000), not reached | 1 "
        "| EPYC | abc |",
    ]
