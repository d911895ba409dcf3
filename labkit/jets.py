"""A jet, the second-order Taylor expansion of a chain at x in a k-frame: what every curvature is made of.

It is folded link by link, D²f ← D²f_l(J·, J·) + J_l D²f, so that every depth comes from one pass and its parts sum.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["Jet"]


@dataclass(frozen=True, eq=False)
class Jet:
    """Value, first and second derivative of a chain at a batch of points along the columns of a basis.

    Attributes:
        value: the flattened state, (B, n).
        first: Df along each column, (B, n, k).
        second: D²f along each pair of columns, (B, n, k, k), symmetric in the last two.
        parts: what each link adds to `second` (Faà di Bruno), (L, B, n, k, k), first applied first; it sums to
            `second` over L. None unless asked for by link.

    Example:
        >>> import torch
        >>> from labkit import Chain
        >>> jet = Chain([torch.nn.Linear(3, 4), torch.tanh]).jet(torch.randn(5, 3))
        >>> jet.value.shape, jet.first.shape, jet.second.shape
        (torch.Size([5, 4]), torch.Size([5, 4, 3]), torch.Size([5, 4, 3, 3]))
    """

    value: Float[Tensor, "batch n"]
    first: Float[Tensor, "batch n k"]
    second: Float[Tensor, "batch n k k"]
    parts: Float[Tensor, "links batch n k k"] | None = None
