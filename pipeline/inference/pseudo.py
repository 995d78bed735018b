"""Predict pseudo-labels for a fold: masks of unlabeled images for the training of another recipe."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.groups import SampleGroups
from pipeline.data.pseudo import PseudoLabels, save_pseudo_labels
from pipeline.data.readers import ImageReader
from pipeline.data.rle import mask_to_rle, rle_format
from pipeline.data.samples import Sample, load_test_samples
from pipeline.errors import UserError
from pipeline.inference.broken import BrokenImages
from pipeline.inference.doubt import expected_dice_loss
from pipeline.inference.ensemble import choose_prediction_device, load_ensemble_member
from pipeline.inference.overlay import list_images
from pipeline.inference.postprocess import binarize, default_postprocess
from pipeline.inference.stream import predict_probabilities
from pipeline.models.checkpoint import fingerprint_weights
from pipeline.recipe import Recipe

log = logging.getLogger(__name__)


def write_pseudo_labels(
    competition: Competition,
    recipe: Recipe,
    data: Path,
    weights: Path,
    out: Path,
    images: Sequence[Path] = (),
    keep: float = 0.9,
) -> PseudoLabels:
    """Predict unlabeled images with the model of one fold, and write the masks of those that are surest.

    How sure a mask is follows from its own probabilities, see `pipeline.inference.doubt.expected_dice_loss`.

    Args:
        competition: describes the data.
        recipe: the recipe of the weights; its flips are used.
        data: the data folder.
        weights: the weights of the fold.
        out: the .csv file to write.
        images: files, and folders whose images are taken; the test images if there are none. An image whose name tells
            no group is a group of its own.
        keep: fraction of the images to keep, 0 to 1.

    Returns:
        What was kept.

    Raises:
        UserError: there are no images or no weights, or the channels of the images are slices of volumes.
    """
    if competition.images.slices:
        what = "is not supported by `make pseudo`"
        raise UserError("images.slices", what, "leave train.pseudo out")
    samples = _unlabeled_samples(competition, data, images) if images else load_test_samples(competition, data)
    member, metadata = load_ensemble_member([weights], choose_prediction_device([recipe]), recipe)
    postprocess = default_postprocess(competition, recipe.predict.threshold)
    format, broken = rle_format(competition), BrokenImages()
    found: list[tuple[float, Sample]] = []
    size, reader = competition.images.size, ImageReader(competition)
    for item in predict_probabilities([member], samples, watch=broken, expected_size=size, images=reader):
        mean = item.mean()
        masks = binarize(mean, postprocess)
        doubt = float(expected_dice_loss(mean, masks).max())
        rows = [(index, mask_to_rle(mask, format)) for index, mask in enumerate(masks.cpu().numpy()) if mask.any()]
        found.append((doubt, replace(item.sample, rows=tuple(rows))))
    broken.log_unreadable()
    largest = float(np.quantile([doubt for doubt, _ in found], keep)) if found else 0.0
    kept = [sample for doubt, sample in found if doubt <= largest]
    labels = PseudoLabels(metadata[0].held_out, fingerprint_weights(weights), len(found), len(kept), largest)
    save_pseudo_labels(out, kept, labels, data)
    log.info("%s: keeps %d of %d images, expected loss of Dice up to %.4f", out, len(kept), len(found), largest)
    return labels


def _unlabeled_samples(competition: Competition, data: Path, images: Sequence[Path]) -> list[Sample]:
    """List images of any folder."""
    groups = SampleGroups(competition, data)
    files = list_images(images)
    return [Sample(id=file.name, image=file, group=groups.find_group(file) or str(file)) for file in files]
