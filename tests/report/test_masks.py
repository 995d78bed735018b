"""Marked parts, changed pixels and the choice of images are what they say."""

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from pipeline.report.look_page import choose_first, describe_choice
from pipeline.report.masks import mark_parts
from pipeline.report.submission_pair_page import describe_areas
from pipeline.report.views import MaskNames, index_masks, list_views, view_layers


@given(arrays(bool, (2, 9, 8)))
def test_marks_are_holes_and_the_pieces_apart_from_a_largest_one(masks):
    load = partial(np.copy, masks)
    assert not mark_parts(load, [False, False], [False, False]).any()
    holes = mark_parts(load, [False, False], [True, True])
    pieces = mark_parts(load, [True, False], [False, False])
    for mask, marked in zip(masks, holes, strict=True):
        assert (marked == ndimage.binary_fill_holes(mask) & ~mask).all()
    assert not pieces[1].any()
    labels, count = ndimage.label(masks[0], np.ones((3, 3)))
    rest = masks[0] & ~pieces[0]
    assert ndimage.label(rest, np.ones((3, 3)))[1] == min(1, count)
    assert rest.sum() == np.bincount(labels[masks[0]], minlength=1).max()


@given(st.integers(0, 2**12 - 1))
def test_what_changed_is_where_exactly_one_prediction_is_right(bits):
    truth, before, after = (
        np.array([bits >> shift & 1 for shift in range(4 * n, 4 * n + 4)], bool)[None] for n in range(3)
    )
    view = list_views(MaskNames(predicted="a", other="b"), truth=True, other=True)[0]
    layers = {color: mask for mask, color, _ in view_layers(view, [index_masks(truth, before, after)])}
    fixed, broken = (layers.get(fill.color, np.zeros_like(truth)) for fill in view.fills)
    assert (fixed == (after == truth) & (before != truth)).all()
    assert (broken == (before == truth) & (after != truth)).all()


@given(st.integers(1, 90), st.integers(10, 60), st.randoms())
def test_the_first_images_are_chosen_in_order(count, most, random):
    ordered = [f"image{number}" for number in range(count)]
    sets = {name: random.sample(ordered, random.randint(1, count)) for name in ("a", "b")}
    chosen = choose_first(ordered, sets, most)
    assert len(chosen) == min(count, most)
    assert list(chosen) == [id for id in ordered if id in chosen]
    assert set(ordered[: min(count, most) * 6 // 10]) <= chosen.keys()
    for id, names in chosen.items():
        assert [name for name in names if name != "Random"] == [name for name, ids in sets.items() if id in ids]
    assert any("Random" in names for names in chosen.values()) == (count > most)


def test_texts():
    assert describe_choice(3, 3, "the worst") == "All 3 images, the worst first."
    assert describe_choice(300, 5000, "the worst").startswith("300 of 5,000 images, the worst first; ")
    assert describe_areas(0, 0, "b") == "no masks"
    assert describe_areas(100, 100, "b") == "equal areas"
    assert describe_areas(0, 5, "b") == "only b has a mask"
    assert describe_areas(5, 0, "b") == "b has no mask"
    assert describe_areas(100, 112, "b") == "b is 12 % larger"
    assert describe_areas(100, 75, "b") == "b is 25 % smaller"
