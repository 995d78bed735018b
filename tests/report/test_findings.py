"""Sentences and choices of the report, as pure functions of the table of scores."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.attributes import read_attributes
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.metrics.edges import dice_lost_by_distance
from pipeline.report.findings import (
    LOST_COLUMNS,
    choose_values,
    describe_failures,
    mask_area_ranges,
    missed_and_added,
    score_by_value,
)
from pipeline.report.run_page import choose_images
from tests.helpers import changed_competition


def make_table(count: int = 400, folds: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    lost = rng.dirichlet(np.ones(5), count) * rng.uniform(0, 0.02, (count, 1))
    table = pd.DataFrame(lost, columns=list(LOST_COLUMNS))
    table["id"] = [f"image{number:03}" for number in range(count)]
    table["group"] = [f"group{number // 4}" for number in range(count)]
    table["fold"] = [number // 4 % folds for number in range(count)]
    table["score"] = 1 - lost.sum(axis=1)
    table["area"] = rng.uniform(0.1, 0.5, count)
    table["predicted_area"] = table.area
    return table


def test_missed_and_added_pixels_follow_from_areas_and_lost_dice():
    rng = np.random.default_rng(1)
    truth, mask = (rng.random((40, 50)) < 0.5 for _ in range(2))
    lost = dict(zip(LOST_COLUMNS, dice_lost_by_distance(mask, truth), strict=True))
    table = pd.DataFrame([{**lost, "area": truth.mean(), "predicted_area": mask.mean()}])
    assert missed_and_added(table) == pytest.approx(((truth & ~mask).mean(), (mask & ~truth).mean()))
    assert missed_and_added(table.drop(columns="lost_1")) is None


def test_a_weak_value_is_named_and_a_lucky_one_is_not():
    table = make_table().assign(score=0.99)
    table.loc[::4, "score"] -= 0.1
    values = {"view": {id: str(number % 4 + 1) for number, id in enumerate(table.id)}}
    by_view = {name: score_by_value(table, of) for name, of in values.items()}
    (weak,) = [text for text in describe_failures(table, by_view, "Dice") if text.startswith("Weak")]
    assert weak.startswith("Weak: view 1, 0.07500 below the mean over 100 images")
    assert [one.value for one in choose_values(by_view["view"])] == ["1", "2", "3", "4"], "numbers keep their order"


def test_values_of_one_group_are_not_called_weak():
    table = make_table(16)
    table.loc[:3, "score"] = 0.5
    by_make = {
        "make": score_by_value(table, {id: f"make of {group}" for id, group in zip(table.id, table.group, strict=True)})
    }
    assert not [text for text in describe_failures(table, by_make, "Dice") if "Weak" in text]


def test_perfect_scores_have_no_failures():
    table = make_table(8).assign(score=1.0, **dict.fromkeys(LOST_COLUMNS, 0.0))
    assert describe_failures(table, {}, "Dice") == []


def test_area_ranges_are_quarters_and_tell_empty_masks_apart():
    table = make_table()
    table.loc[:9, "area"] = 0.0
    ranges = mask_area_ranges(table)
    sizes = pd.Series(ranges).value_counts()
    assert sizes.pop("0 %") == 10
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == 4
    assert mask_area_ranges(table.assign(area=0.3)) == {}


@pytest.mark.parametrize("count", [1, 5, 300, 400])
def test_chosen_images_fill_the_page_worst_first(count):
    table = make_table(count)
    sets = choose_images(table)
    assert len(sets) == min(count, 300)
    scores = table.set_index("id").score[list(sets)].tolist()
    assert scores == sorted(scores)
    assert next(iter(sets)) == table.id[table.score.idxmin()]
    names = {name for of in sets.values() for name in of}
    assert names >= {"Worst", "Random"}
    if count == 400:
        for fold in range(4):
            ids = [id for id, of in sets.items() if f"Worst of fold {fold}" in of]
            worst = table[table.fold == fold].nsmallest(len(ids), "score").id
            assert set(ids) == set(worst)


def test_attributes_come_from_the_table_and_from_names(competition, data, caplog):
    samples = load_training_samples(competition, data)
    settings = {"csv": "cars.csv", "key": "group", "columns": ["make"], "pattern": "_(?P<view>[0-9]+)$"}
    named = changed_competition(competition, attributes=settings)
    assert read_attributes(competition, data, samples)["alpha_01.jpg"] == {}
    assert read_attributes(named, data, samples)["alpha_01.jpg"] == {"view": "01"}
    assert "cars.csv: is missing" in caplog.text
    (data / "cars.csv").write_text("id,make\nalpha,<b>\nbeta,\n")
    attributes = read_attributes(named, data, samples)
    assert attributes["alpha_03.jpg"] == {"make": "<b>", "view": "03"}
    assert attributes["beta_01.jpg"] == {"view": "01"}
    (data / "cars.csv").write_text("id,model\n")
    with pytest.raises(UserError, match="has no column 'make', only id, model"):
        read_attributes(named, data, samples)
