"""Random inputs as the theory of wide networks assumes them: all of one length, in directions that are unrelated.

A photograph is neither; what a law says of these inputs it need not say of photographs.
"""

import torch
from torch import Tensor

__all__ = ["on_sphere"]


def on_sphere(count: int, width: int, seed: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """Independent points, uniform on the sphere where the mean squared entry is q = 1.

    Args:
        count: how many, at least 1.
        width: entries of each, at least 1.
        seed: draws them; torch's global random state is untouched.
        dtype: float64 by default.

    Returns:
        (count, width).

    Raises:
        ValueError: For a count or width below 1.

    Example:
        >>> on_sphere(2, 9).square().mean(1)
        tensor([1., 1.], dtype=torch.float64)
    """
    if count < 1 or width < 1:
        raise ValueError(f"count={count}, width={width}; both must be at least 1")
    points = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(points).mul(width**0.5).to(dtype or torch.float64)
