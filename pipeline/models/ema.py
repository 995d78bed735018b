"""Exponential moving average (EMA) of a model's weights."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Update the average: ``ema = d * ema + (1 - d) * model`` with ``d = min(decay, (1 + step) / (10 + step))``.

    At step 0, d is 0. The rising decay removes the random initial weights from the average. Parameters and
    floating-point buffers are averaged, integer buffers are copied. The same as
    `torch.optim.swa_utils.AveragedModel`, which however synchronizes with the device several times per step.

    Args:
        ema_model: the averaged model, updated in place.
        model: a model of the same architecture.
        step: number of the step, from 0.
        decay: final decay, 0 to 1.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step)) if step else 1.0
    pairs = list(zip(ema_model.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([average for average, _ in floats], [current for _, current in floats], weight)
    for average, current in pairs:
        if not average.is_floating_point():
            average.copy_(current)
