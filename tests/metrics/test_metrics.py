"""Every metric equals an independent implementation, at one mask and at all thresholds at once."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data.instances import label_components
from pipeline.data.labels import Truth
from pipeline.inference.postprocess import Postprocess, binarize
from pipeline.metrics import MIN_AREAS, load_metric
from pipeline.metrics.counts import NUM_BINS, counts_by_threshold, probability_histogram
from pipeline.metrics.instances import best_ious
from tests.helpers import changed_competition

MASK_PAIRS = arrays(bool, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 7)))


def slow_score(name: str, mask: np.ndarray, truth: np.ndarray, beta: Fraction = Fraction(1, 2)) -> Fraction:
    """The definitions, with exact fractions and Python sets."""
    found, true = ({tuple(point) for point in np.argwhere(each)} for each in (mask, truth))
    both = len(found & true)
    if not found and not true:
        return Fraction(1)
    if name == "dice":
        return Fraction(2 * both, len(found) + len(true))
    if name == "iou":
        return Fraction(both, len(found | true))
    precision = Fraction(both, len(found)) if found else Fraction(0)
    recall = Fraction(both, len(true)) if true else Fraction(0)
    if not precision + recall:
        return Fraction(0)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@pytest.mark.parametrize("name", ["dice", "iou", "f_beta"])
@given(masks=MASK_PAIRS)
def test_pixel_metrics_equal_their_definition(competition, name, masks):
    metric = load_metric(changed_competition(competition, metric=name, beta=0.5))
    score = metric.score(torch.from_numpy(masks[:1]), Truth(masks[1:]))
    assert score == pytest.approx([float(slow_score(name, *masks))])


@pytest.mark.parametrize(
    ("name", "empty_truth", "empty_both", "half"),
    [
        ("dice", 0, 1, 2 / 3),
        ("iou", 0, 1, 1 / 2),
        ("f_beta", 0, 1, 5 / 6),
        ("map_iou", 0, 1, 0),
        ("f_beta_iou", 0, 1, 0),
    ],
)
def test_known_values(competition, name, empty_truth, empty_both, half):
    """`half`: all of the ground truth and as many pixels besides; its IoU of 0.5 is not above the lowest threshold."""
    metric = load_metric(changed_competition(competition, metric=name))
    empty, full, left = np.zeros((1, 2, 4), bool), np.ones((1, 2, 4), bool), np.zeros((1, 2, 4), bool)
    left[..., :2] = True

    def score(mask, truth):
        objects = ((np.flatnonzero(truth),) if truth.any() else (),)
        return metric.score(torch.from_numpy(mask), Truth(truth, objects)).tolist()

    assert score(full, empty) == [empty_truth]
    assert score(empty, empty) == [empty_both]
    assert score(full, full) == [1]
    assert score(full, left) == pytest.approx([half])


def slow_instance_score(name: str, predicted: list[set], true: list[set]) -> float:
    """Match every pair of objects at every IoU threshold by the definition of the evaluation pages."""
    scores = []
    for number in range(10, 20):
        threshold = Fraction(number, 20)
        pairs = [(p, t) for p in range(len(predicted)) for t in range(len(true))
                 if Fraction(len(predicted[p] & true[t]), len(predicted[p] | true[t])) > threshold]  # fmt: skip
        hits = len({p for p, _ in pairs})
        assert hits == len({t for _, t in pairs}), "above 0.5 the match is unique"
        misses, extra = len(true) - hits, len(predicted) - hits
        if not (hits or misses or extra):
            scores.append(1.0)
        elif name == "map_iou":
            scores.append(hits / (hits + misses + extra))
        else:
            scores.append(1.25 * hits / (1.25 * hits + 0.25 * misses + extra))
    return sum(scores) / 10


@pytest.mark.parametrize("name", ["map_iou", "f_beta_iou"])
@settings(deadline=None)
@given(mask=arrays(bool, (8, 9)), changed=st.sets(st.integers(0, 71), max_size=6))
def test_instance_metrics_equal_their_definition(competition, name, mask, changed):
    """The truth is the mask but for some pixels: objects of two independent masks hardly ever match."""
    masks = np.stack([mask, mask])
    masks[1].ravel()[sorted(changed)] ^= True
    metric = load_metric(changed_competition(competition, metric=name, beta=0.5, csv__rows="instance"))
    objects = []
    for mask in masks:
        labels, count = label_components(mask)
        objects.append([np.flatnonzero(labels.ravel() == number) for number in range(1, count + 1)])
    score = metric.score(torch.from_numpy(masks[:1]), Truth(masks[1:], (tuple(objects[1]),)))
    assert score == pytest.approx(
        [slow_instance_score(name, *([set(each.tolist()) for each in side] for side in objects))]
    )
    assert metric.score_objects(*label_components(masks[0]), objects[1]) == pytest.approx(score[0])


def test_probabilities_at_the_threshold_are_in_the_objects(competition):
    metric = load_metric(changed_competition(competition, metric="map_iou", csv__rows="instance"))
    truth = Truth(np.ones((1, 4, 5), bool), ((np.arange(20),),))
    observation = metric.observe(torch.full((1, 4, 5), 0.5), truth)
    assert observation.dtype == np.float32, "half the memory for all images"
    assert observation[0, :, 0].tolist() == (metric.thresholds <= 0.5).tolist()


def test_an_object_that_others_cover_has_no_area():
    areas, best = best_ious(np.array([[1, 1, 0]]), 3, [np.array([0, 1, 2])])
    assert (areas.tolist(), best.tolist()) == ([2, 0, 0], [pytest.approx(2 / 3), 0, 0])


def test_objects_of_exactly_the_smallest_area_stay(competition):
    objects = changed_competition(competition, metric="map_iou", csv__rows="instance", masks__may_be_empty=True)
    metric = load_metric(objects)
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 3:5, 3:5] = True
    observation = metric.observe(torch.from_numpy(mask).float(), Truth(mask, ((np.flatnonzero(mask),),)))
    assert [MIN_AREAS[number] * mask.size for number in (5, 6)] == [4, 12]
    assert observation[0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("dice", "Dice"),
        ("iou", "IoU"),
        ("f_beta", "F2"),
        ("map_iou", "mAP over IoU thresholds"),
        ("f_beta_iou", "F2 over IoU thresholds"),
    ],
)
def test_metrics_are_called_as_in_the_field(competition, name, label):
    metric = load_metric(changed_competition(competition, metric=name, beta=2.0))
    assert (metric.name, metric.label) == (name, label)


def test_best_iou_of_each_object():
    labels = np.array([[1, 1, 0, 2], [1, 1, 0, 2]], np.int32)
    areas, best = best_ious(labels, 2, [np.array([0, 1, 2]), np.array([4, 5]), np.array([3, 7])])
    assert areas.tolist() == [4, 2]
    assert best.tolist() == [pytest.approx(2 / 4), 1.0]


PROBABILITIES = arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32))


@settings(max_examples=30, deadline=None)
@given(PROBABILITIES, arrays(bool, (5, 6)), st.booleans())
@example(np.eye(5, 6, dtype=np.float32) * np.float32([0.1, 0.2, 0.3, 0.4, 0.9, 0]), np.zeros((5, 6), dtype=bool), False)
def test_counts_by_threshold_are_those_of_binarized_masks(probability, truth, may_be_empty):
    """The histogram and `binarize` agree on every mask, where it may not be empty too."""
    maps = torch.from_numpy(probability)[None]
    counts = counts_by_threshold(probability_histogram(maps, torch.from_numpy(truth)[None]), may_be_empty=may_be_empty)
    for level in range(1, NUM_BINS):
        postprocess = Postprocess((level / NUM_BINS,), (0.0,), may_be_empty=may_be_empty)
        mask = binarize(maps, postprocess)[0].numpy()
        assert counts[0, :, level].tolist() == [(mask & ~truth).sum(), (mask & truth).sum()]
        assert may_be_empty or mask.any()


def test_counts_of_many_images_are_those_of_each():
    histograms = np.random.default_rng(0).integers(0, 3, (2, 3, 2, NUM_BINS), dtype=np.int32)
    for image, class_index in np.ndindex(2, 3):
        histograms[image, class_index, :, 40 * image + 50 * class_index + 10 :] = 0
    counts = counts_by_threshold(histograms, may_be_empty=False)
    assert counts.dtype == np.int64
    for index in np.ndindex(2, 3):
        assert np.array_equal(counts[index], counts_by_threshold(histograms[index], may_be_empty=False))


def test_histogram_counts_every_pixel_of_every_class_once():
    probability = torch.tensor([[[0.0, 0.5, 1.0]], [[0.25, 0.999, 0.001]]])
    truth = torch.tensor([[[True, False, True]], [[False, False, True]]])
    histogram = probability_histogram(probability, truth)
    assert histogram.shape == (2, 2, NUM_BINS)
    assert [tuple(index) for index in np.argwhere(histogram)] == [
        (0, 0, 128), (0, 1, 0), (0, 1, 255), (1, 0, 64), (1, 0, 255), (1, 1, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("may_be_empty", [True, False])
@pytest.mark.parametrize("name", ["dice", "iou", "f_beta"])
def test_score_grid_of_pixel_metrics_equals_binarizing(competition, name, may_be_empty):
    """Scores at thresholds and smallest areas from a histogram are those of the masks.

    The second class has a true mask of nothing, and no probability reaches the highest thresholds.
    """
    metric = load_metric(changed_competition(competition, metric=name, masks__may_be_empty=may_be_empty))
    rng = np.random.default_rng(0)
    probability = torch.from_numpy(rng.random((2, 40, 50), dtype=np.float32) ** 4)
    probability[1] *= 0.85
    truth = Truth(rng.random((2, 40, 50)) > [[[0.9]], [[1.0]]])
    observations = metric.observe(probability, truth)
    assert (observations.shape, observations.dtype) == ((2, 2, NUM_BINS), np.int32)
    for class_index in range(2):
        grid = metric.score_grid(observations[class_index][None])[0]
        assert grid.shape == (len(metric.thresholds), len(metric.min_areas))
        for level, area in ((0, 0), (100, 3), (127, 4), (200, 5), (216, 0), (230, 6), (254, 6), (254, 0)):
            area = min(area, len(metric.min_areas) - 1)
            thresholds, areas = (metric.thresholds[level],) * 2, (metric.min_areas[area],) * 2
            masks = binarize(probability, Postprocess(thresholds, areas, may_be_empty=may_be_empty))
            assert grid[level, area] == pytest.approx(metric.score(masks, truth)[class_index])


def test_a_mask_of_exactly_the_smallest_area_is_scored(competition):
    metric = load_metric(changed_competition(competition, masks__may_be_empty=True))
    mask = np.zeros((1, 40, 50), bool)
    mask[0, 0, :2] = True
    grid = metric.score_grid(metric.observe(torch.from_numpy(mask).float(), Truth(mask)))[0]
    assert [MIN_AREAS[number] * mask.size for number in (3, 4)] == [2, 6]
    assert grid[128].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_a_mask_below_the_smallest_area_counts_as_empty(competition):
    metric = load_metric(changed_competition(competition, masks__may_be_empty=True))
    mask = np.zeros((1, 40, 50), bool)
    mask[0, 0, :2] = True
    grid = metric.score_grid(metric.observe(torch.from_numpy(mask).float(), Truth(np.zeros_like(mask))))[0]
    assert grid[128].tolist() == [0, 0, 0, 0, 1, 1, 1], "an empty prediction of an empty mask is right"


def test_score_grid_of_instance_metrics_equals_labeling(competition):
    objects = changed_competition(competition, metric="map_iou", csv__rows="instance", masks__may_be_empty=True)
    metric = load_metric(objects)
    rng = np.random.default_rng(0)
    probability = torch.from_numpy(np.kron(rng.random((8, 10), dtype=np.float32), np.ones((5, 5), np.float32)))[None]
    labels, count = label_components(np.kron(rng.random((8, 10)) > 0.7, np.ones((5, 5), bool)))
    truth = Truth(labels[None] > 0, (tuple(np.flatnonzero(labels == n + 1) for n in range(count)),))
    grid = metric.score_grid(metric.observe(probability, truth)[0][None])[0]
    for level, threshold in enumerate(metric.thresholds):
        assert grid[level, 0] == pytest.approx(metric.score(probability >= float(np.float32(threshold)), truth)[0])
    assert (grid[:, -1] == 0).all() or len(set(grid[0])) > 1, "the minimum area removes objects"


def test_minimum_areas_are_tried_only_where_masks_may_be_empty(competition):
    assert load_metric(competition).min_areas == (0.0,)
    assert load_metric(changed_competition(competition, masks__may_be_empty=True)).min_areas == MIN_AREAS
