"""Calibration equals the means of the pixels of each bin."""

import numpy as np
import pytest
import torch

from pipeline.metrics import counts
from pipeline.metrics.calibration import CALIBRATION_BINS, calibration_curve, clamped_sums
from pipeline.metrics.counts import NUM_BINS, count_pixels, probability_histogram


@pytest.fixture
def maps():
    """Probabilities (2, h, w) as networks give them, mostly near 0 and 1, with the bounds of bins; and masks."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.1, 0.1, (2, 80, 70)).astype(np.float32)
    probability[0, 0] = np.linspace(0, 1, 70)
    probability[1, :2, :70] = np.arange(140).reshape(2, 70) / NUM_BINS
    probability[1, 2, :3] = 0, 1, 1 - 1 / NUM_BINS
    return torch.from_numpy(probability), torch.from_numpy(rng.random(probability.shape) < probability)


def test_curve_equals_the_means_of_its_pixels(maps):
    probability, truth = maps
    histograms, sums = probability_histogram(*maps), clamped_sums(probability)
    for number in range(2):
        values, true = probability[number].double().numpy().ravel(), truth[number].numpy().ravel()
        bins = np.minimum(values * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(int)
        curve = calibration_curve(histograms[number], sums[number])
        assert curve.shape == (CALIBRATION_BINS, 3)
        for bin, (mean, fraction, pixels) in enumerate(curve):
            inside = bins == bin
            assert pixels == inside.sum()
            assert fraction == pytest.approx(true[inside].mean())
            assert mean == pytest.approx(values[inside].mean(), abs=0.5 / NUM_BINS)


def test_outer_bins_are_exact():
    """Their centers, 0.002 and 0.998, are far from the means of the probabilities 0.0001 and 0.9999."""
    probability = torch.tensor([[[1e-4] * 300, [1 - 1e-4] * 300]])
    curve = calibration_curve(probability_histogram(probability, probability > 0.5)[0], clamped_sums(probability)[0])
    assert curve[[0, -1], 0] == pytest.approx([1e-4, 1 - 1e-4], abs=1e-7)
    assert curve[[0, -1], 1:].tolist() == [[0, 300], [1, 300]]
    assert not curve[1:-1].any()


def test_several_images_are_one_sum(maps):
    probability, truth = maps
    halves = [(probability[:1, rows], truth[:1, rows]) for rows in (slice(0, 30), slice(30, 80))]
    histogram = sum(probability_histogram(*half)[0] for half in halves)
    sums = sum(clamped_sums(half)[0] for half, _ in halves)
    whole = calibration_curve(probability_histogram(*maps)[0], clamped_sums(probability)[0])
    assert calibration_curve(histogram, sums) == pytest.approx(whole)


def test_both_ways_to_count_agree(maps, monkeypatch):
    """OpenCV's way on a CPU, and torch's way for other devices and huge images."""
    quick = probability_histogram(*maps)
    monkeypatch.setattr(counts, "_MAX_PIXELS", 0)
    assert (probability_histogram(*maps) == quick).all()
    assert quick.sum() == maps[0].numel()


def test_pixels_are_counted_per_class():
    masks, truth = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
    masks[0, :2], truth[0, 1:] = True, True
    truth[1, 0, 0] = True
    assert count_pixels(masks, truth).tolist() == [[5, 0], [10, 0], [15, 1]]
