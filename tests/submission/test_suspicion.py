"""Damaged masks are found without ground truth, and what is normal in a file is not suspicious."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.regions import measure_regions
from pipeline.data.rle import mask_to_runs
from pipeline.submission.measure import COLUMNS
from pipeline.submission.suspicion import (
    REASONS,
    beyond_usual,
    box_overlap,
    describe_reasons,
    find_suspicions,
    usual_values,
)

SHAPE = (80, 120)
VIEWS = 8


def ellipse(car: int, view: int) -> np.ndarray:
    """A mask whose width depends on the view and whose height depends on the car."""
    rng = np.random.default_rng([car, view])
    width, height = 30 + 3 * view + rng.normal(0, 0.3), 18 + car % 5 + rng.normal(0, 0.3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return ((x - 60) / width) ** 2 + ((y - 42 - car % 3) / height) ** 2 < 1


def table_of(masks: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = []
    for id, mask in masks.items():
        regions = measure_regions(mask_to_runs(mask), SHAPE)
        rows.append((id, 0, *SHAPE, *regions[:5], *regions.borders, *regions.box))
    return pd.DataFrame(rows, columns=list(COLUMNS))


MASKS = {f"car{car}_{view}": ellipse(car, view) for car in range(6) for view in range(VIEWS)}
GROUPS = {id: id[:4] for id in MASKS}
PROPERTIES = {id: {"view": id[5:], "make": id[:4]} for id in MASKS}


def suspicions(masks, doubts=None, may_be_empty=False) -> pd.DataFrame:
    return find_suspicions(table_of(masks), GROUPS, PROPERTIES, doubts or {}, may_be_empty=may_be_empty)


DAMAGES = {
    "Empty": lambda mask: mask & False,
    "Area": lambda mask: mask & (np.arange(SHAPE[1]) < 45),
    "Place and size": lambda mask: np.roll(mask, -14, axis=0),
    "Pieces": lambda mask: mask & (np.arange(SHAPE[1]) % 30 > 5),
    "Holes": lambda mask: mask & ~np.pad(np.ones((8, 14), bool), ((38, 34), (50, 56))),
    "Border": lambda mask: mask | (np.arange(SHAPE[0])[:, None] < 2),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_mask_ranks_first_with_its_reason(name):
    table = suspicions(MASKS | {"car3_5": DAMAGES[name](MASKS["car3_5"])})
    assert table.id[0] == "car3_5"
    assert table.suspicion[0] > 10 * table.suspicion[1]
    assert name in describe_reasons(table.iloc[0])
    assert [reason.name for reason in REASONS if table[reason.column][0] > 0] == [
        reason.name for reason in REASONS if reason.name in describe_reasons(table.iloc[0])
    ]


def test_undamaged_masks_have_no_reason():
    assert suspicions(MASKS).suspicion.max() < 0.02


def test_a_mask_of_another_view_is_found_though_its_group_has_such_masks():
    table = suspicions(MASKS | {"car2_0": MASKS["car2_7"]})
    assert table.id[0] == "car2_0"
    assert table.usual_area[0] == pytest.approx(MASKS["car2_0"].sum(), rel=0.05)


def test_what_most_masks_have_is_not_suspicious():
    holed = {id: mask & ~np.pad(np.ones((8, 14), bool), ((38, 34), (50, 56))) for id, mask in MASKS.items()}
    assert suspicions(holed).hollow.max() < 0.02
    half_empty = {id: mask & (id[5] > "4") for id, mask in MASKS.items()}
    assert suspicions(half_empty, may_be_empty=True).suspicion.max() < 0.05
    assert suspicions(half_empty)[["empty"]].sum().item() == sum(id[5] <= "4" for id in MASKS)


def test_without_other_reasons_the_doubt_of_the_model_ranks():
    doubts = {(id, 0): 0.01 + 0.0001 * number for number, id in enumerate(MASKS)}
    doubts["car1_1", 0] = 0.2
    table = suspicions(MASKS, doubts)
    assert table.id[0] == "car1_1"
    assert describe_reasons(table.iloc[0]) == {"Model in doubt": "the model expects to lose 0.200 Dice"}


def test_classes_are_compared_apart_and_images_without_groups_with_all():
    table = pd.concat([table_of(MASKS), table_of({id: mask[:, ::-1] & False for id, mask in MASKS.items()})])
    table["class_index"] = np.repeat([0, 1], len(MASKS))
    own = {id: id for id in MASKS}
    found = find_suspicions(table, own, {}, {}, may_be_empty=True)
    assert found.suspicion.max() < 0.05
    assert found.box_off.max() == 0, "images that have nothing in common can have their objects anywhere"
    assert len(found) == 2 * len(MASKS)
    damaged = suspicions(MASKS | {"car3_5": MASKS["car3_5"] & False})
    assert describe_reasons(damaged.iloc[0], "rust")["Empty"] == "rust: no pixel is in the mask"


@given(st.lists(st.floats(0, 1), min_size=5, max_size=30), st.floats(0.1, 10))
def test_excess_is_scale_free_and_spares_half(values, factor):
    series = pd.Series(values)
    excess = beyond_usual(series)
    assert (excess >= 0).all()
    assert (excess[series <= series.median()] == 0).all()
    np.testing.assert_allclose(beyond_usual(series * factor), excess * factor, atol=1e-9)


def test_median_polish_finds_both_effects_and_leaves_small_levels_alone():
    rows, columns = np.repeat(np.arange(6), 7), np.tile(np.arange(7), 6)
    values = pd.Series(10.0 * rows + columns**2)
    factors = [pd.Series(rows), pd.Series(columns)]
    np.testing.assert_allclose(usual_values(values, factors), values, atol=0.5)
    alone = usual_values(pd.Series([1.0, 2, 3, 9]), [pd.Series(["a", "a", "b", None])])
    assert alone.tolist() == [2.5] * 4


def test_box_overlap():
    boxes = pd.DataFrame({"x0": [0, 0], "y0": [0, 0], "x1": [2, 2], "y1": [2, 2]})
    others = pd.DataFrame({"x0": [1, 5], "y0": [0, 5], "x1": [3, 6], "y1": [2, 6]})
    assert box_overlap(boxes, others).tolist() == pytest.approx([1 / 3, 0])
