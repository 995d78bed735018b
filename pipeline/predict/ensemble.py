"""Several networks and several views of a picture, one probability."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.model.checkpoint import Origin, load_weights
from pipeline.model.device import Device, choose, to_device
from pipeline.model.zoo import Segmenter
from pipeline.predict.tta import flip
from pipeline.recipe import Flip, Recipe


class Ensemble:
    """The mean over networks of the mean over flips.

    Args:
        networks: all of one input size, on the device.
        flips: views that each network sees.
        device: where they are.
    """

    def __init__(self, networks: Sequence[Segmenter], flips: Sequence[Flip], device: Device) -> None:
        self.networks = networks
        self.flips = flips
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict a batch: it goes to the device once, and through every network in every view there.

        Args:
            images: (n, 3, h, w) uint8 RGB.

        Returns:
            (n, 1, h, w) float32 on the device, 0 to 1. Probabilities are averaged, not logits: one network that is
            very sure does not outvote the others.

        Raises:
            UserError: the numbers of a network overflow in this device's precision.
        """
        images = to_device(images, self.device)
        total = torch.zeros_like(images[:, :1], dtype=torch.float32)
        share = 1 / (len(self.networks) * len(self.flips))
        for how in self.flips:
            view = flip(images, how)
            for network in self.networks:
                with self.device.autocast():
                    logits = network(view)
                total += share * flip(logits.float().sigmoid(), how)
        if not total.isfinite().all():
            raise UserError("the network's probabilities are not finite here; predict with train.precision = float32")
        # Sums of shares can pass 1 by a rounding error.
        return total.clamp_(max=1)


class Member(NamedTuple):
    """One recipe's part in a prediction."""

    ensemble: Ensemble
    recipe: Recipe
    """Gives the input size and the batch; a batch that fits a training fits a prediction."""


def load_member(paths: Sequence[Path], device: Device, recipe: Recipe | None = None) -> tuple[Member, list[Origin]]:
    """Load the weights of one recipe's folds, which are to be averaged.

    Args:
        paths: the weights files.
        device: where to put the networks.
        recipe: the one they were trained by, as it is now: its flips may have changed since. The first file's if None.

    Returns:
        The member, and where each of its networks comes from.

    Raises:
        UserError: a file is missing or damaged, or one was trained by another recipe than the first.
    """
    networks, recipes, origins = zip(*(load_weights(path) for path in paths), strict=True)
    for path, other in zip(paths, recipes, strict=True):
        if differences := recipes[0].differences(other):
            raise UserError(
                f"{path}: was trained by another recipe than {paths[0]} ({'; '.join(differences)}); "
                "give each recipe a name of its own, and predict with RECIPE=one+other"
            )
    for network in networks:
        network.to(device.torch, memory_format=torch.channels_last)
    recipe = recipe or recipes[0]
    return Member(Ensemble(networks, recipe.predict.flips, device), recipe), list(origins)


def device_for(recipes: Sequence[Recipe]) -> Device:
    """The device to predict on, in float32 if any of the recipes asks for it."""
    asked = {recipe.train.precision_to_predict for recipe in recipes}
    return choose("float32" if "float32" in asked else "auto")
