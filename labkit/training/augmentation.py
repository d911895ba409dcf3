"""Augmentation as a link: while a network trains, every input is moved along its orbit by a random amount."""

import torch
from torch import Tensor, nn

from labkit.networks.actions import CircleAction

__all__ = ["Moved"]


class Moved(nn.Module):
    """The link x → T(t) x in training mode, t uniform in ±reach and new for every input; in eval mode the identity.

    Args:
        action: what moves.
        reach: the largest move, in the units of the action.

    Raises:
        ValueError: for a negative reach.

    Example:
        >>> from labkit.networks.actions import rotation
        >>> link, x = Moved(rotation(8), 0.5), torch.randn(3, 64)
        >>> torch.equal(link.eval()(x), x), torch.equal(link.train()(x), x)
        (True, False)
    """

    def __init__(self, action: CircleAction, reach: float | int):
        super().__init__()
        if not reach >= 0:
            raise ValueError(f"reach={reach} is no distance; 0 or more would do")
        self.action = action
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n) to (B, n)."""
        if not self.training or not self.reach:
            return x
        return self.action.move(x, (2 * torch.rand(len(x), device=x.device) - 1) * self.reach)
