"""Several networks and several views of a picture, one probability."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.model.checkpoint import Origin, load_weights
from pipeline.model.device import Device, to_device
from pipeline.model.zoo import Segmenter
from pipeline.predict.tta import flip
from pipeline.recipe import Flip, Recipe


class Ensemble:
    """The weighted mean over networks of the mean over flips.

    Args:
        networks: all of one input size, on the device.
        flips: views that each network sees.
        device: where they are.
        weights: of the networks, any positive scale; equal if None.
    """

    def __init__(
        self,
        networks: Sequence[Segmenter],
        flips: Sequence[Flip],
        device: Device,
        weights: Sequence[float] | None = None,
    ) -> None:
        shares = weights or [1.0] * len(networks)
        if len(shares) != len(networks) or min(shares) <= 0:
            raise ValueError(f"{len(networks)} networks need as many positive weights, not {shares}")
        self.networks = networks
        self.flips = flips
        self.device = device
        self.shares = [share / sum(shares) / len(flips) for share in shares]

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
        for how in self.flips:
            view = flip(images, how)
            for network, share in zip(self.networks, self.shares, strict=True):
                with self.device.autocast():
                    logits = network(view)
                total += share * flip(logits.float().sigmoid(), how)
        if not total.isfinite().all():
            raise UserError("the network's probabilities are not finite here; predict with train.precision = float32")
        # Sums of shares can pass 1 by a rounding error.
        return total.clamp_(max=1)


def load_members(paths: Sequence[Path], device: Device) -> tuple[list[Segmenter], Recipe, list[Origin]]:
    """Load weights that are to be averaged.

    Returns:
        The networks on the device, the recipe of the first, and where each comes from.

    Raises:
        UserError: a file is missing or damaged, or one was trained by another recipe than the first.
    """
    networks, recipes, origins = zip(*(load_weights(path) for path in paths), strict=True)
    for path, recipe in zip(paths, recipes, strict=True):
        if differences := recipes[0].differences(recipe):
            raise UserError(
                f"{path}: was trained by another recipe than {paths[0]} ({'; '.join(differences)}); "
                "predict them apart and blend the submissions"
            )
    for network in networks:
        network.to(device.torch, memory_format=torch.channels_last)
    return list(networks), recipes[0], list(origins)
