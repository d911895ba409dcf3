"""Links, the maps a chain is made of: two modules that networks are built from, and how a known link pushes a frame.

A link maps (B, *s) to (B, *s'), sample by sample; its Jacobian is flattened to (B, n_out, n_in).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Layer", "Residual"]


class Layer(nn.Module):
    """One layer seen from pre-activation to pre-activation, `h -> W phi(h) + b`.

    Args:
        linear: the affine map that follows the activation.
        activation: an elementwise callable, or None for a plain affine layer.

    Raises:
        ValueError: if the activation mixes the entries of its input, as softmax does.

    Example:
        >>> layer = Layer(nn.Linear(3, 2), torch.tanh)
        >>> layer(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, linear: nn.Linear, activation: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        """Map pre-activations (B, *, n_in) to (B, *, n_out)."""
        return self.linear(h if self.activation is None else self.activation(h))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A block with a skip connection, `h -> h + scale * branch(h)`; the branch keeps the shape.

    Args:
        branch: the residual branch.
        scale: a number, or a tensor that broadcasts against the branch; a Parameter is trained.

    Example:
        >>> block = Residual(nn.Tanh(), scale=0.5)
        >>> block(torch.zeros(5, 3)).shape
        torch.Size([5, 3])
    """

    def __init__(self, branch: nn.Module, scale: float | Tensor = 1.0):
        super().__init__()
        self.branch = branch
        if isinstance(scale, Tensor) and not isinstance(scale, nn.Parameter):
            self.register_buffer("scale", scale)
        else:
            self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, *s) to (B, *s)."""
        return h + self.scale * self.branch(h)  # type: ignore[no-any-return]
