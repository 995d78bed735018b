"""Average the probabilities of several models and several flips."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.inference.tta import flip
from pipeline.models.checkpoint import WeightsMetadata, load_weights
from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.models.device import ComputeDevice, choose_device, to_device
from pipeline.models.fuse import fuse_batch_norms
from pipeline.models.zoo import SegmentationModel
from pipeline.recipe import Flip, Recipe


class Predictor(Protocol):
    """Predicts batches: an `Ensemble`, or an exported one."""

    flips: Sequence[Flip]

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict images; see `Ensemble.predict`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean of `predict`."""


class Ensemble:
    """The mean probability of several models, each with test-time augmentation.

    Args:
        models: the models, on the device, all for the same input size.
        flips: the views that each model predicts.
        device: device of the models.
        classes: classes of the models.
    """

    def __init__(
        self,
        models: Sequence[SegmentationModel],
        flips: Sequence[Flip],
        device: ComputeDevice,
        classes: Classes = SINGLE_CLASS,
    ) -> None:
        self.models = models
        # The unflipped view first, for `predict`.
        self.flips: Sequence[Flip] = sorted(flips, key=lambda how: how != "none")
        self.device = device
        self.classes = classes
        self._max_batch: int | None = None
        """Images that fit into the memory of the GPU at once; None if no batch was too large yet."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean of `predict`."""
        return self.predict(images)[0]

    @torch.inference_mode()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict a batch, which is copied to the device once.

        Args:
            images: (n, channels, h, w) uint8.

        Returns:
            The mean over models and flips, (n, classes, h, w) float32 on the device, 0 to 1, and the mean over models
            of the unflipped view alone; None if the flips do not have it. Probabilities are averaged, not logits, so
            that a single very confident model does not outweigh the others. A batch that does not fit into the memory
            of a GPU is halved: the recipe may have been trained on a larger one.

        Raises:
            UserError: an overflow in half precision.
            torch.cuda.OutOfMemoryError: a single image does not fit.
        """
        size = min(len(images), self._max_batch or len(images))
        while True:
            try:
                parts = [self._predict_part(part) for part in torch.split(images, size)]
                break
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                size = self._max_batch = size // 2
            torch.cuda.empty_cache()
        if len(parts) == 1:
            return parts[0]
        means, views = zip(*parts, strict=True)
        return torch.cat(means), None if views[0] is None else torch.cat(views)

    def _predict_part(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        images = to_device(images, self.device)
        height, width = images.shape[-2:]
        total = torch.zeros(len(images), self.classes.count, height, width, device=images.device)
        weight = 1 / (len(self.models) * len(self.flips))
        unflipped = None
        for how in self.flips:
            view = flip(images, how)
            for model in self.models:
                with self.device.autocast():
                    logits = model(view)
                total += weight * flip(self.classes.probabilities(logits), how)
            if how == "none":
                unflipped = (total * len(self.flips)).clamp_(max=1) if len(self.flips) > 1 else total
        if not total.isfinite().all():
            raise UserError("", "the probabilities are not finite", 'run `make predict SET="train.precision=float32"`')
        # The sum can exceed 1 by a rounding error.
        return total.clamp_(max=1), unflipped


class EnsembleMember(NamedTuple):
    """The models of one recipe in an ensemble of recipes."""

    ensemble: Predictor
    recipe: Recipe
    """Its input size and batch size are used."""


def can_compare_flips(members: Sequence[EnsembleMember]) -> bool:
    """Return whether members predict views beside the unflipped one, which all of them know."""
    flips = [member.ensemble.flips for member in members]
    return all("none" in views for views in flips) and any(len(views) > 1 for views in flips)


def load_ensemble_member(
    paths: Sequence[Path], device: ComputeDevice, recipe: Recipe | None = None
) -> tuple[EnsembleMember, list[WeightsMetadata]]:
    """Load the weights of one recipe's folds.

    Args:
        paths: the weights files.
        device: device to move the models to.
        recipe: the current recipe, whose ``predict`` table is used; that of the first file if None.

    Returns:
        The member, and the metadata of each file.

    Raises:
        UserError: a file is missing or damaged, or its model was trained with another recipe than the first one.
    """
    models, recipes, metadata = zip(*(load_weights(path) for path in paths), strict=True)
    for path, other in zip(paths, recipes, strict=True):
        if differences := recipes[0].training_differences(other):
            what = f"was trained with another recipe than {paths[0]} ({'; '.join(differences)})"
            raise UserError(path, what, "give each recipe a name of its own and predict with RECIPE=one+other")
    classes = metadata[0].model_classes()
    for path, other in zip(paths, metadata, strict=True):
        if other.model_classes() != classes:
            raise UserError(path, f"has other classes than {paths[0]}", "train both on one competition")
    for model in models:
        fuse_batch_norms(model)
        model.to(device.device).to(memory_format=torch.channels_last)
    recipe = recipe or recipes[0]
    return EnsembleMember(Ensemble(models, recipe.predict.flips, device, classes), recipe), list(metadata)


def choose_prediction_device(recipes: Sequence[Recipe]) -> ComputeDevice:
    """Choose the device to predict on, in float32 if any recipe sets it."""
    precisions = {recipe.train.prediction_precision for recipe in recipes}
    return choose_device("float32" if "float32" in precisions else "auto")
