"""Score a model on images that are predicted in windows, during a training."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from pipeline.data.draw import draw_errors, draw_overlay, tile_images, to_rgb
from pipeline.data.labels import Truth
from pipeline.data.samples import Sample
from pipeline.data.window_reader import WindowReader
from pipeline.data.windows import Window
from pipeline.inference.ensemble import Ensemble, EnsembleMember
from pipeline.inference.postprocess import Postprocess, binarize
from pipeline.inference.windows import predict_bands
from pipeline.metrics.counts import NUM_BINS
from pipeline.metrics.pixels import PixelMetric
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice
from pipeline.models.zoo import SegmentationModel
from pipeline.recipe import Recipe
from pipeline.training.ranks import Ranks
from pipeline.training.validation import DRAWN_SAMPLES, mean_scores


@torch.inference_mode()
def validate_in_windows(
    model: SegmentationModel,
    samples: Sequence[Sample],
    windows: WindowReader,
    recipe: Recipe,
    device: ComputeDevice,
    classes: Classes,
    metric: PixelMetric,
    postprocess: Postprocess,
    ranks: Ranks,
) -> tuple[dict[str, float], np.ndarray]:
    """Compute the metric and the pixel accuracy of the validation images, from histograms summed over bands.

    Args:
        model: the model; it is put into evaluation mode.
        samples: this process's part of the validation images; every sample has a label.
        windows: reads images and masks.
        recipe: its input and batch size are used.
        device: device of the model.
        classes: classes of the model.
        metric: metric of the competition.
        postprocess: its thresholds are used.
        ranks: the processes that validate.

    Returns:
        The scores as `pipeline.training.validation.validate_model` names them, and a drawing (h, w, 3) uint8.
    """
    model.eval()
    member = EnsembleMember(Ensemble([model], ("none",), device, classes), recipe)
    results: list[tuple[np.ndarray, float]] = []
    rows: list[list[np.ndarray]] = []
    for sample in tqdm(samples, desc="validate", unit="img", leave=False, disable=not ranks.is_main):
        total = np.zeros((classes.count, 2, NUM_BINS), dtype=np.int64)
        drawn: tuple[int, list[np.ndarray]] = (-1, [])
        for band in predict_bands([member], sample, windows):
            truth = windows.read_masks(sample, band.window)
            total += metric.observe(band.by_member[0], Truth(truth))
            found = int(truth.sum())
            if len(rows) < DRAWN_SAMPLES and found > drawn[0]:
                masks = binarize(band.by_member[0], postprocess).numpy()
                drawn = found, _draw(sample, windows, band.window, masks, truth)
        results.append(_score(total, metric, postprocess))
        rows += [drawn[1]] if drawn[1] else []
    result = mean_scores(ranks.gather(results), metric.name, classes)
    return result, tile_images(ranks.gather(rows)[:DRAWN_SAMPLES])


def _score(histograms: np.ndarray, metric: PixelMetric, postprocess: Postprocess) -> tuple[np.ndarray, float]:
    """Return the score of each class, and the pixel accuracy, at the thresholds."""
    scores, right = [], 0
    for histogram, threshold in zip(histograms, postprocess.thresholds, strict=True):
        choice = int(np.abs(metric.thresholds - threshold).argmin())
        scores.append(metric.score_grid(histogram[None])[0, choice, 0])
        # Thresholds are the lower bounds of the bins from the second one on.
        right += int(histogram[0, : choice + 1].sum() + histogram[1, choice + 1 :].sum())
    return np.array(scores), right / int(histograms.sum())


def _draw(
    sample: Sample, windows: WindowReader, band: Window, masks: np.ndarray, truth: np.ndarray
) -> list[np.ndarray]:
    """Draw a part of a band, as wide as a window, where most of the true mask is."""
    width, height = min(band.width, windows.config.size[0]), band.height
    columns = truth.any(axis=0).sum(axis=0)
    left = int(np.convolve(columns, np.ones(width), mode="valid").argmax())
    part = np.s_[:, :, left : left + width]
    image = to_rgb(windows.read_image(sample, Window(band.left + left, band.top, width, height)))
    return [draw_overlay(image, masks[part]), draw_errors(image, masks[part], truth[part])]
