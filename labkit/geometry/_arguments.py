"""The two arguments that all geometry shares, `basis` and `depths`, checked and brought to one form.

Each check answers bad input with one sentence, before any work.
"""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from labkit._basis import orthonormal
from labkit.linearization import Linearization

__all__ = ["Depths", "Lin", "as_basis", "as_depths", "check_linearization"]

if TYPE_CHECKING:
    Lin = Linearization
    Depths = Iterable[int] | None
else:
    Lin = Depths = object  # run-time type checkers leave bad input to the sentences below


def check_linearization(lin: object) -> None:
    """Raises TypeError unless `lin` is a Linearization."""
    if not isinstance(lin, Linearization):
        raise TypeError(f"lin is a {type(lin).__name__}; pass chain.linearize(x) or Linearization([matrices])")


def as_basis(lin: Linearization, basis: Tensor | None) -> Float[Tensor, "batch n_0 k"]:
    """Orthonormal columns in float64, (B, n_0, k); all of R^n0 where `basis` is None.

    Raises:
        TypeError: If `basis` is no floating-point tensor.
        ValueError: If its size does not fit, or its columns are dependent or not orthonormal.
    """
    return orthonormal(basis, lin.sizes[0], lin.batch, lin.device)


def as_depths(lin: Linearization, depths: Depths) -> list[int]:
    """The depths asked, in their order; the end alone where `depths` is None.

    Raises:
        TypeError: If `depths` is not an iterable of integers.
        ValueError: If there are none, or one lies outside 0 … L.
    """
    if depths is None:
        return [len(lin)]
    try:
        asked = [operator.index(depth) for depth in depths]
    except TypeError:
        raise TypeError(f"depths is {depths!r}; pass an iterable of integers 0 … {len(lin)}, or None") from None
    if not asked:
        raise ValueError(f"depths is empty; pass some of 0 … {len(lin)}, or None for the end")
    for depth in asked:
        if not 0 <= depth <= len(lin):
            raise ValueError(f"depths holds {depth}; this chain has depths 0 … {len(lin)}")
    return asked
