"""The readout that images and token sequences share: normalise, average over places, map to the classes."""

from torch import Tensor, nn

from labkit.theory.activations import Elementwise

__all__ = ["PooledReadout"]


class PooledReadout(nn.Module):
    """The link h → W mean(φ(norm(h))) + b, the mean over the places of an image or a sequence.

    Args:
        linear: The affine map from channels to outputs.
        places: The dimensions averaged over.
        activation: φ, or None for the identity.
        norm: A normalisation, or None.

    Example:
        >>> import torch
        >>> PooledReadout(nn.Linear(8, 10), places=(2, 3))(torch.zeros(5, 8, 4, 4)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        linear: nn.Linear,
        places: tuple[int, ...],
        activation: Elementwise | None = None,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.places = places
        self.linear = linear

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, *s) to (B, n_out)."""
        h = h if self.norm is None else self.norm(h)
        h = h if self.activation is None else self.activation(h)
        return self.linear(h.mean(self.places))  # type: ignore[no-any-return]  # torch types a module's call as Any
