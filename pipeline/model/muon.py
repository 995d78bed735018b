"""Muon: momentum, each step of which turns all directions of a weight matrix by the same amount.

Keller Jordan and others (2024), https://kellerjordan.github.io/posts/muon. Few directions dominate the gradient of a
matrix; orthogonalised, the rare ones count as much. Torch's own Muon takes two-dimensional weights alone. A convolution
is a matrix too, (filters, channels × height × width); what is none (normalisation, biases) and the last layer go
through Adam's rule here, so that one optimiser holds everything that a training scales, schedules and saves.
"""

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
BETAS = (0.9, 0.95)
MATCH = 0.2
"""Root-mean-square of a matrix's step in learning rates: about Adam's, so that one rate serves both kinds (Liu and
others 2025, arXiv:2502.16982)."""
_EPS = 1e-8
# x ← ax + bx³ + cx⁵ on the singular values, five times: those from 0.01 to 1 end between 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the convolutions of a network, Adam for the rest.

    Args:
        network: its weights of two and more dimensions are matrices, but for those of its last layer.
        lr: learning rate of both kinds.
        weight_decay: of the matrices, decoupled: each step takes lr × weight_decay of them away.
    """

    def __init__(self, network: nn.Module, lr: float, weight_decay: float) -> None:
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        last = next(weight for weight in reversed(trained) if weight.ndim > 1)
        matrices = [weight for weight in trained if weight.ndim > 1 and weight is not last]
        others = [weight for weight in trained if weight.ndim <= 1 or weight is last]
        groups = [
            {"params": matrices, "orthogonal": True, "weight_decay": weight_decay},
            {"params": others, "orthogonal": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            update = self._orthogonal_update if group["orthogonal"] else self._adam_update
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(group["lr"] * update(weight))

    def _orthogonal_update(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        matrix = weight.grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's look ahead
        return orthogonalise(matrix).mul_(MATCH * max(matrix.shape) ** 0.5).view(weight.shape)

    def _adam_update(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        step = state["step"].add_(1).item()
        mean = state["mean"].lerp_(weight.grad, 1 - BETAS[0])
        square = state["square"].lerp_(weight.grad.square(), 1 - BETAS[1])
        return mean / (1 - BETAS[0] ** step) / ((square / (1 - BETAS[1] ** step)).sqrt() + _EPS)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix all of whose singular values are about 1, by the iteration of Newton and Schulz.

    Args:
        matrix: (rows, columns) of any rank; zeros stay zeros.

    Returns:
        (rows, columns), with U·Vᵀ of the singular value decomposition approximated: singular values from 0.7 to 1.2.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + _EPS)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.T if tall else x
