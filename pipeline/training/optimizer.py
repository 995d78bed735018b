"""Build the optimizer of a recipe."""

from functools import partial
from typing import Any

import torch
from torch import nn

from pipeline.models.device import ComputeDevice
from pipeline.recipe import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig, device: ComputeDevice) -> torch.optim.Optimizer:
    """Build the optimizer that ``train.optimizer`` names, with the recipe's learning rate and weight decay.

    Args:
        model: the model, on the device.
        config: the recipe's ``[train]`` table.
        device: Muon iterates in float32 unless the precision is bf16, from then on in this process.
    """
    lr, weight_decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "muon":
            return _build_muon(model, lr, weight_decay, bf16=device.precision == "bf16")
        case "sgd":
            return torch.optim.SGD(
                model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(model.parameters(), lr, weight_decay=weight_decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay, fused=True)


def _build_muon(model: nn.Module, lr: float, weight_decay: float, *, bf16: bool) -> torch.optim.Optimizer:
    """Build Muon: SGD momentum with orthogonalized updates (Newton-Schulz), https://kellerjordan.github.io/posts/muon.

    Convolutions are flattened to matrices (filters, channels × height × width). Normalizations, biases and the last
    layer use AdamW with Nesterov momentum. The update of a matrix has about the root mean square of AdamW's, so one
    learning rate serves both.
    """
    # Imported here: the import takes a second, and the other optimizers do not need it.
    from timm.optim import muon

    # timm always iterates in bf16, which takes seven times as long as float32 where it is emulated.
    iterate = partial(muon.zeropower_via_newtonschulz, dtype=torch.bfloat16 if bf16 else torch.float32)
    muon.zeropower_via_newtonschulz = iterate
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    last_layer = next(parameter for parameter in reversed(parameters) if parameter.ndim > 1)
    matrices = [parameter for parameter in parameters if parameter.ndim > 1 and parameter is not last_layer]
    others = [parameter for parameter in parameters if parameter.ndim <= 1 or parameter is last_layer]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": others, "use_fallback": True, "weight_decay": 0.0},
    ]
    return muon.Muon(groups, lr=lr, weight_decay=weight_decay, nesterov=True, ns_coefficients="original")
