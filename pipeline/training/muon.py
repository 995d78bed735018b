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
# x ← ax + bx³ + cx⁵ on the singular values, five times: those from 0.01 to 1 end between 0.68 and 1.13.
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
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            updates = (self._orthogonal if group["orthogonal"] else self._adam)(weights)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _orthogonal(self, weights: list[Tensor]) -> list[Tensor]:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's look ahead
        matrices = [each.flatten(1) for each in ahead]
        return [
            orthogonalize(matrix).mul_(MATCH * max(matrix.shape) ** 0.5).view(weight.shape)
            for matrix, weight in zip(matrices, weights, strict=True)
        ]

    def _adam(self, weights: list[Tensor]) -> list[Tensor]:
        for weight in weights:
            if not self.state[weight]:
                zeros = {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
                self.state[weight] |= {"step": torch.zeros(()), **zeros}
            self.state[weight]["step"] += 1
        gradients = [weight.grad for weight in weights]
        means, squares = ([self.state[weight][name] for weight in weights] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - BETAS[1])
        # The counters are numbers on the host: to read them does not wait for the device.
        steps = [self.state[weight]["step"].item() for weight in weights]
        roots = torch._foreach_sqrt(torch._foreach_div(squares, [1 - BETAS[1] ** step for step in steps]))
        torch._foreach_add_(roots, _EPS)
        return list(torch._foreach_div(torch._foreach_div(means, [1 - BETAS[0] ** step for step in steps]), roots))


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest matrix all of whose singular values are about 1, by the iteration of Newton and Schulz.

    Args:
        matrix: (rows, columns) of any rank; zeros stay zeros.

    Returns:
        (rows, columns), with U·Vᵀ of the singular value decomposition approximated: singular values from 0.68 to 1.13.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + _EPS)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
