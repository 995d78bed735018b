"""Build the optimizer of a recipe."""

from typing import Any

import torch
from torch import nn

from pipeline.recipe import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer that ``train.optimizer`` names, with the recipe's learning rate and weight decay."""
    lr, weight_decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "muon":
            return _build_muon(model, lr, weight_decay)
        case "sgd":
            return torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr, weight_decay=weight_decay)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay)


def _build_muon(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build Muon: SGD momentum with orthogonalized updates (Newton-Schulz), https://kellerjordan.github.io/posts/muon.

    Convolutions are flattened to matrices (filters, channels × height × width). Normalizations, biases and the last
    layer use AdamW with Nesterov momentum. The update of a matrix has about the root mean square of AdamW's, so one
    learning rate serves both.
    """
    # Imported here: the import takes a second, and the other optimizers do not need it.
    from timm.optim.muon import Muon

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    last_layer = next(parameter for parameter in reversed(parameters) if parameter.ndim > 1)
    matrices = [parameter for parameter in parameters if parameter.ndim > 1 and parameter is not last_layer]
    others = [parameter for parameter in parameters if parameter.ndim <= 1 or parameter is last_layer]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": others, "use_fallback": True, "weight_decay": 0.0},
    ]
    return Muon(groups, lr=lr, weight_decay=weight_decay, nesterov=True, ns_coefficients="original")
