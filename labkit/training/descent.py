"""Gradient descent beside a minimum: does it go back, or does the step throw it out?

The answer is linear algebra: along an eigenvector of the Hessian the distance is multiplied by 1 − η λ each step.
"""

import copy

import torch
from torch import Tensor, nn

__all__ = ["back_to_minimum"]


def back_to_minimum(
    model: nn.Module, x: Tensor, lr: float | Tensor, *, steps: int = 40, kick: float = 1e-6, seed: int = 0
) -> Tensor:
    """Losses of full-batch gradient descent on ½ mean |f − target|², the targets being the model's own outputs.

    At this minimum the Hessian is the "gaussian" Fisher matrix, exactly, so a step above 2/λ_max leads away.

    Args:
        model: left as it is; a copy moves.
        x: (B, *s).
        lr: the step η, positive.
        steps: how many.
        kick: standard deviation of the normal numbers added to every parameter at the start, small.
        seed: draws them; torch's global random state is untouched.

    Returns:
        (steps + 1,) before each step and after the last, detached; not finite if it runs away far enough.

    Raises:
        ValueError: For a step or number of steps that is not positive.

    Example:
        >>> losses = back_to_minimum(nn.Linear(1, 1, bias=False).double(), torch.ones(1, 1).double(), 1.5, steps=2)
        >>> (losses[1:] / losses[:-1]).sqrt()  # λ = 1: the distance is multiplied by 1 − 1.5 = −0.5
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    if not float(lr) > 0 or steps < 1:
        raise ValueError(f"lr={float(lr):g}, steps={steps}; both must be positive")
    moving, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        target = model(x)
        for p in moving.parameters():
            p.requires_grad_(True).add_((kick * torch.randn(p.shape, generator=generator)).to(p))
    losses = []
    for _ in range(steps + 1):
        with torch.enable_grad():
            loss = (moving(x) - target).square().flatten(1).sum(1).mean() / 2
            gradients = torch.autograd.grad(loss, list(moving.parameters()))
        losses.append(loss.detach())
        with torch.no_grad():
            for p, gradient in zip(moving.parameters(), gradients, strict=True):
                p.sub_(float(lr) * gradient)
    return torch.stack(losses)
