"""How strongly a chain feels one direction, alone and beside others: the Rayleigh quotient of the metric."""

from jaxtyping import Float
from torch import Tensor

from labkit._linalg import split_power
from labkit.geometry._arguments import Lin, check_linearization

__all__ = ["relative_stretch", "stretch"]


def stretch(lin: Lin, v: Tensor) -> Float[Tensor, "batch"]:
    """The length |Df v| / |v| = √(vᵀ g v / vᵀ v) that a step of length 1 along v arrives with.

    Args:
        lin: the chain at x, from `chain.linearize(x)`.
        v: (B, n) or (n,), one direction for each point; 0 gives nan.

    Raises:
        TypeError: if `lin` is no linearization.
        ValueError: if v does not fit.

    Example:
        >>> import torch
        >>> from labkit import Linearization
        >>> lin = Linearization([torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])])
        >>> stretch(lin, torch.tensor([0.0, 7.0]))
        tensor([0.5000])
    """
    check_linearization(lin)
    batch, n = lin[0].shape[0], lin.sizes[0]
    if v.shape not in ((n,), (batch, n)):
        raise ValueError(f"v has shape {tuple(v.shape)}; ({n},) or ({batch}, {n}), a direction a point, would do")
    v = v.to(lin.dtype).expand(batch, n)
    v, _ = split_power(v, 1)
    image, scale = split_power((lin @ v[..., None])[..., 0], 1)
    result: Tensor = image.norm(dim=1) / v.norm(dim=1) * scale
    return result


def relative_stretch(lin: Lin, v: Tensor, usual: Tensor) -> Float[Tensor, ""]:
    """How strongly a chain feels v compared with other directions: 0 not at all, 1 as strongly as those.

    The quotient of two root mean squares of `stretch` over the points, so that a few insensitive points do not rule it.

    Args:
        lin: the chain at x.
        v: (B, n) or (n,), the direction asked about.
        usual: likewise, directions to compare with, such as steps from one datum to another.

    Raises:
        TypeError: if `lin` is no linearization.
        ValueError: if a direction does not fit.

    Example:
        >>> import torch
        >>> from labkit import Linearization
        >>> lin = Linearization([torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])])
        >>> relative_stretch(lin, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
        tensor(0.1667)
    """
    asked, others = stretch(lin, v), stretch(lin, usual)
    (asked, one), (others, other) = split_power(asked, 1), split_power(others, 1)
    return (asked.square().mean() / others.square().mean()).sqrt() * (one / other)
