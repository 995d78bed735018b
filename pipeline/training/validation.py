"""Score a model on its validation images at their native size, during a training."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.data.dataset import iterate
from pipeline.data.draw import draw_errors, draw_overlay, tile_images, to_rgb
from pipeline.data.images import resize_image
from pipeline.data.labels import Truth
from pipeline.inference.postprocess import Postprocess, binarize, upsample
from pipeline.metrics import Metric
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice, to_device
from pipeline.models.zoo import SegmentationModel
from pipeline.training.ranks import ONE_PROCESS, Ranks

DRAWN_SAMPLES = 4


@torch.inference_mode()
def validate_model(
    model: SegmentationModel,
    loader: DataLoader[Any],
    samples: int,
    device: ComputeDevice,
    classes: Classes,
    metric: Metric,
    postprocess: Postprocess,
    ranks: Ranks = ONE_PROCESS,
) -> tuple[dict[str, float], np.ndarray]:
    """Compute the metric and the pixel accuracy, without test-time augmentation.

    Args:
        model: the model; it is put into evaluation mode.
        loader: batches from `pipeline.data.dataset.validation_loader`; of several ranks, each yields every
            `world_size`-th image, beginning with its own number.
        samples: number of images that the loaders of all ranks yield.
        device: device of the model.
        classes: classes of the model.
        metric: metric of the competition.
        postprocess: thresholds and rules.
        ranks: the processes that validate.

    Returns:
        Means over images and classes, ``{metric.name: ..., "accuracy": ...}``, with several classes also
        ``{"dice/<class>": ...}``; and a drawing (h, w, 3) uint8 RGB of a few predictions and their errors.
    """
    model.eval()
    results: list[tuple[np.ndarray, float]] = []
    drawn = set(np.linspace(0, samples - 1, DRAWN_SAMPLES).astype(int).tolist())
    rows: list[tuple[int, list[np.ndarray]]] = []
    bar = tqdm(total=len(loader), desc="validate", unit="batch", leave=False, disable=not ranks.is_main)
    for images, truths in iterate(loader):
        with device.autocast():
            logits = model(to_device(images, device))
        probabilities = classes.probabilities(logits)
        for image, small, truth in zip(images, probabilities, truths, strict=True):
            masks = binarize(upsample(small[None], truth.masks.shape[1:])[0], postprocess)
            number = ranks.rank + len(results) * ranks.world_size
            if number in drawn:
                rows.append((number, _draw_sample(image, masks, truth)))
            true = torch.from_numpy(truth.masks).to(masks.device, non_blocking=True)
            results.append((metric.score(masks, truth), float((masks == true).double().mean())))
        bar.update()
    bar.close()
    result = mean_scores(ranks.gather(results), metric.name, classes)
    return result, tile_images([row for _, row in sorted(ranks.gather(rows), key=itemgetter(0))])


def mean_scores(results: Sequence[tuple[np.ndarray, float]], name: str, classes: Classes) -> dict[str, float]:
    """Average the scores of images, per class and over the classes, as `validate_model` returns them.

    Args:
        results: the scores of the classes (classes,) float64, and the pixel accuracy, of each image.
        name: name of the metric.
        classes: classes of the model.
    """
    scores, accuracies = zip(*results, strict=True)
    by_class = np.mean(scores, axis=0)
    means = {name: float(by_class.mean()), "accuracy": float(np.mean(accuracies))}
    if classes.names:
        means |= {f"{name}/{each}": float(value) for each, value in zip(classes.names, by_class, strict=True)}
    return means


def _draw_sample(image: Tensor, masks: Tensor, truth: Truth) -> list[np.ndarray]:
    """Draw the overlay and the errors of one image at the size of its masks."""
    height, width = truth.masks.shape[1:]
    image_hwc = resize_image(to_rgb(np.ascontiguousarray(image.permute(1, 2, 0).numpy())), (width, height))
    predicted = masks.cpu().numpy()
    return [draw_overlay(image_hwc, predicted), draw_errors(image_hwc, predicted, truth.masks)]
