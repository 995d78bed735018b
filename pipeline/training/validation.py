"""Score a model on its validation images at their native size, during a training."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.data.dataset import iterate
from pipeline.data.draw import draw_errors, draw_overlay, tile_images
from pipeline.data.images import resize_image
from pipeline.data.labels import Truth
from pipeline.inference.postprocess import Postprocess, binarize, upsample
from pipeline.metrics import Metric
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice, to_device
from pipeline.models.zoo import SegmentationModel

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
) -> tuple[dict[str, float], np.ndarray]:
    """Compute the metric and the pixel accuracy, without test-time augmentation.

    Args:
        model: the model; it is put into evaluation mode.
        loader: batches from `pipeline.data.dataset.validation_loader`.
        samples: number of images that the loader yields.
        device: device of the model.
        classes: classes of the model.
        metric: metric of the competition.
        postprocess: thresholds and rules.

    Returns:
        Means over images and classes, ``{metric.name: ..., "accuracy": ...}``, with several classes also
        ``{"dice/<class>": ...}``; and a drawing (h, w, 3) uint8 RGB of a few predictions and their errors.
    """
    model.eval()
    scores: list[np.ndarray] = []
    accuracies: list[float] = []
    drawn = set(np.linspace(0, samples - 1, DRAWN_SAMPLES).astype(int).tolist())
    rows = []
    for images, truths in tqdm(iterate(loader), desc="validate", total=len(loader), unit="batch", leave=False):
        with device.autocast():
            logits = model(to_device(images, device))
        probabilities = classes.probabilities(logits)
        for image, small, truth in zip(images, probabilities, truths, strict=True):
            masks = binarize(upsample(small[None], truth.masks.shape[1:])[0], postprocess)
            if len(scores) in drawn:
                rows.append(_draw_sample(image, masks, truth))
            scores.append(metric.score(masks, truth))
            true = torch.from_numpy(truth.masks).to(masks.device, non_blocking=True)
            accuracies.append(float((masks == true).double().mean()))
    by_class = np.mean(scores, axis=0)
    result = {metric.name: float(by_class.mean()), "accuracy": float(np.mean(accuracies))}
    if classes.names:
        result |= {f"{metric.name}/{name}": float(value) for name, value in zip(classes.names, by_class, strict=True)}
    return result, tile_images(rows)


def _draw_sample(image: Tensor, masks: Tensor, truth: Truth) -> list[np.ndarray]:
    """Draw the overlay and the errors of one image at the size of its masks."""
    height, width = truth.masks.shape[1:]
    image_hwc = resize_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), (width, height))
    predicted = masks.cpu().numpy()
    return [draw_overlay(image_hwc, predicted), draw_errors(image_hwc, predicted, truth.masks)]
