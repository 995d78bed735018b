"""Build the optimizer of a recipe."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.recipe import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer that ``train.optimizer`` names, with the recipe's learning rate and weight decay.

    Args:
        model: the model, on its device.
        config: the recipe's ``[train]`` table.
    """
    lr, weight_decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "muon":
            return _build_muon(model, lr, weight_decay)
        case "sgd":
            return torch.optim.SGD(
                model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(model.parameters(), lr, weight_decay=weight_decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay, fused=True)


def orthogonalize(
    matrix: Tensor, steps: int, coefficients: Sequence[tuple[float, float, float]], eps: float = 1e-7, **_: object
) -> Tensor:
    """Orthogonalize a matrix by Newton-Schulz iterations on its Gram matrix: ``p(X Xᵀ) X`` for a polynomial p.

    The same polynomial as `timm.optim.muon.zeropower_via_newtonschulz`, which multiplies the (m, n) matrix in every
    iteration. Here only the first and the last product involve it; all others are (m, m), or (n, n) if n < m. Computed
    in float32, because the iteration is unstable in half precision (https://dao-lab.ai/blog/2026/gram-newton-schulz).

    Args:
        matrix: (m, n), floating point.
        steps: number of iterations.
        coefficients: (a, b, c) of each iteration's polynomial ``a + b G + c G²``; the last one is repeated.
        eps: lower limit of the norm by which the matrix is divided.
        _: further arguments of timm's function, which are left at their defaults and ignored.

    Returns:
        (m, n) float32: the singular vectors of `matrix` with singular values between about 0.7 and 1.2; those far below
            the largest one, and zeros, stay smaller.
    """
    wide = matrix.mT if matrix.size(0) > matrix.size(1) else matrix
    wide = wide.float() / wide.float().norm().clamp(min=eps)
    gram = wide @ wide.mT
    product: Tensor | None = None
    for step in range(steps):
        a, b, c = coefficients[min(step, len(coefficients) - 1)]
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if step + 1 < steps:
            gram = factor @ gram @ factor
    assert product is not None
    result: Tensor = product @ wide
    return result.mT if matrix.size(0) > matrix.size(1) else result


def _build_muon(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build Muon: SGD momentum with orthogonalized updates (Newton-Schulz), https://kellerjordan.github.io/posts/muon.

    Convolutions are flattened to matrices (filters, channels × height × width). Normalizations, biases and the last
    layer use AdamW with Nesterov momentum. The update of a matrix has about the root mean square of AdamW's, so one
    learning rate serves both.
    """
    # Imported here: the import takes a second, and the other optimizers do not need it.
    from timm.optim import muon

    # timm has no parameter for it. It stays replaced in this process.
    muon.zeropower_via_newtonschulz = orthogonalize  # type: ignore[assignment]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    last_layer = next(parameter for parameter in reversed(parameters) if parameter.ndim > 1)
    matrices = [parameter for parameter in parameters if parameter.ndim > 1 and parameter is not last_layer]
    others = [parameter for parameter in parameters if parameter.ndim <= 1 or parameter is last_layer]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": others, "use_fallback": True, "weight_decay": 0.0},
    ]
    return muon.Muon(groups, lr=lr, weight_decay=weight_decay, nesterov=True, ns_coefficients="original")
