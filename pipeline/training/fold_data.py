"""The data of one fold as a training takes it: pairs to train on, and a function that validates."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pipeline.competition import Competition
from pipeline.data import dataset
from pipeline.data.augment import Augmentation
from pipeline.data.labels import LabelReader
from pipeline.data.samples import Sample
from pipeline.data.window_dataset import WindowDataset
from pipeline.data.window_reader import WindowReader
from pipeline.errors import UserError
from pipeline.inference.postprocess import default_postprocess
from pipeline.metrics import load_metric
from pipeline.metrics.pixels import PixelMetric
from pipeline.models.classes import classes_of
from pipeline.models.device import ComputeDevice
from pipeline.models.zoo import SegmentationModel
from pipeline.recipe import Recipe
from pipeline.training.ranks import Ranks
from pipeline.training.validation import validate_model
from pipeline.training.window_validation import validate_in_windows

log = logging.getLogger(__name__)

VALIDATION_THRESHOLD = 0.5
"""Probability threshold of the validation during a training."""

Validate = Callable[[SegmentationModel], tuple[dict[str, float], np.ndarray]]
"""Scores a model on the validation images: scores by name, and a drawing; see `validate_model`."""


def build_train_set(
    competition: Competition,
    recipe: Recipe,
    train: Sequence[Sample],
    labels: LabelReader,
    device: ComputeDevice,
    ranks: Ranks,
) -> dataset.TrainDataset | WindowDataset:
    """Build the training pairs of the first stage: whole images, or windows where the competition has them.

    Pairs of images are kept in memory where decoding and training share the same cores, if they fit.

    Args:
        competition: its windows and channels are used.
        recipe: its input size, augmentation and seed are used.
        train: the training images of the fold; every one has a label.
        labels: reads images and masks.
        device: what the model trains on.
        ranks: the processes that train.
    """
    augmentation = Augmentation(recipe.augment, recipe.seed, is_rgb=competition.images.is_rgb)
    if competition.windows:
        return WindowDataset(train, WindowReader(competition, labels), recipe.input.size, augmentation, recipe.seed)
    cached = len(train) * ranks.local_world_size  # each process keeps every pair that it comes across
    channels = competition.images.num_channels + competition.num_classes
    fits = dataset.fits_in_memory(cached, recipe.input.size, channels)
    cache = device.device.type == "cpu" and fits
    log.info("decoded images are %s", "cached in memory" if cache else "not cached")
    return dataset.TrainDataset(train, labels, recipe.input.size, augmentation, cache=cache)


def require_no_second_stage(competition: Competition, recipe: Recipe) -> None:
    """Refuse a recipe with a second stage for a competition with windows.

    Raises:
        UserError: it has one.
    """
    if competition.windows and recipe.refine:
        what = "does not support competitions with [windows]"
        raise UserError("refine", what, 'leave the second stage out with SET="refine.epochs=0"')


def build_validation(
    competition: Competition,
    recipe: Recipe,
    validation: Sequence[Sample],
    labels: LabelReader,
    device: ComputeDevice,
    ranks: Ranks,
) -> Validate | None:
    """Return the function that validates a model; None without images.

    Args:
        competition: its metric, classes and windows are used.
        recipe: its input and batch size are used.
        validation: the validation images of all ranks; every one has a label.
        labels: reads images and masks.
        device: device of the model.
        ranks: the processes that validate, each a part of the images.
    """
    if not validation:
        return None
    part = validation[ranks.rank :: ranks.world_size]
    metric, classes = load_metric(competition), classes_of(competition)
    postprocess = default_postprocess(competition, VALIDATION_THRESHOLD)
    if competition.windows:
        assert isinstance(metric, PixelMetric)
        windows = WindowReader(competition, labels)
        return partial(
            validate_in_windows,
            samples=part, windows=windows, recipe=recipe, device=device, classes=classes, metric=metric,
            postprocess=postprocess, ranks=ranks,
        )  # fmt: skip
    images = dataset.ValidationDataset(part, labels, recipe.model_size, instances=metric.needs_instances)
    workers = dataset.num_loader_workers(device.device.type == "cpu", ranks.local_world_size)
    loader = dataset.validation_loader(images, recipe.train.batch_size, workers, device.is_cuda)
    return partial(
        validate_model,
        loader=loader, samples=len(validation), device=device, classes=classes, metric=metric,
        postprocess=postprocess, ranks=ranks,
    )  # fmt: skip
