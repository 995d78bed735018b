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
from pipeline.inference.postprocess import binarize, upsample
from pipeline.metrics import dice_score, pixel_accuracy
from pipeline.models.device import ComputeDevice, to_device
from pipeline.models.zoo import SegmentationModel

DRAWN_SAMPLES = 4
THRESHOLD = 0.5


@torch.inference_mode()
def validate_model(
    model: SegmentationModel, loader: DataLoader[Any], samples: int, device: ComputeDevice, *, may_be_empty: bool
) -> tuple[dict[str, float], np.ndarray]:
    """Compute mean Dice and pixel accuracy at threshold 0.5, without test-time augmentation.

    Args:
        model: is put into evaluation mode.
        loader: batches from `pipeline.data.dataset.validation_loader`.
        samples: number of images that the loader yields.
        device: where the model is.
        may_be_empty: see `binarize`.

    Returns:
        ``{"dice": ..., "accuracy": ...}``, and a drawing (h, w, 3) uint8 RGB of a few predictions and their errors.
    """
    model.eval()
    scores: list[tuple[float, float]] = []
    drawn = set(np.linspace(0, samples - 1, DRAWN_SAMPLES).astype(int).tolist())
    rows = []
    for images, truths in tqdm(iterate(loader), desc="validate", total=len(loader), unit="batch", leave=False):
        with device.autocast():
            logits = model(to_device(images, device))
        for image, logit, truth in zip(images, logits.float(), truths, strict=True):
            truth = truth.to(device.device, non_blocking=True)
            probability = upsample(logit.sigmoid()[None], truth.shape)[0, 0]
            mask = binarize(probability, THRESHOLD, may_be_empty=may_be_empty)
            if len(scores) in drawn:
                rows.append(_draw_sample(image, mask, truth))
            scores.append((dice_score(mask, truth), pixel_accuracy(mask, truth)))
    dice, accuracy = np.mean(scores, axis=0).tolist()
    return {"dice": dice, "accuracy": accuracy}, tile_images(rows)


def _draw_sample(image: Tensor, mask: Tensor, truth: Tensor) -> list[np.ndarray]:
    """Draw the overlay and the errors of one image at the size of its mask."""
    height, width = truth.shape
    image_hwc = resize_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), (width, height))
    predicted, true = mask.cpu().numpy(), truth.cpu().numpy()
    return [draw_overlay(image_hwc, predicted), draw_errors(image_hwc, predicted, true)]
