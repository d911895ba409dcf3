"""What the mean field takes as numbers: float64 at once, and one sentence where a number cannot be meant."""

import torch
from torch import Tensor

__all__ = ["between", "check_depth", "grid", "real"]


def grid(sigma_w: object, sigma_b: object) -> tuple[Tensor, Tensor]:
    """Both as float64 tensors of the grid's shape, refused unless finite and ≥ 0."""
    given: list[Tensor] = []
    for name, value in (("sigma_w", sigma_w), ("sigma_b", sigma_b)):
        tensor = real(name, value)
        if not (tensor.isfinite() & (tensor >= 0)).all():
            worst = tensor[~(tensor.isfinite() & (tensor >= 0))][0]
            raise ValueError(f"{name} holds {float(worst.detach()):g}; a standard deviation must be finite and ≥ 0.")
        given.append(tensor.to(given[0].device) if given else tensor)
    first, second = given
    try:
        zero = 0 * first.detach() + 0 * second.detach()
    except RuntimeError:
        raise ValueError(
            f"sigma_w of shape {tuple(first.shape)} and sigma_b of shape {tuple(second.shape)} do not broadcast to one "
            "grid; give one of them a trailing axis of length 1."
        ) from None
    return first + zero, second + zero


def real(name: str, value: object) -> Tensor:
    """`value` in float64, a list of numbers without a detour by float32."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number or a tensor of numbers, not a {type(value).__name__}.") from None
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must hold real numbers, not {tensor.dtype}.")
    return tensor.to(torch.float64)


def between(name: str, value: object, least: float, most: float, like: Tensor) -> Tensor:
    """A tensor on the device of `like`, refused where outside [least, most]."""
    tensor = real(name, value).to(like.device)
    outside = (tensor < least) | (tensor > most)
    if outside.any():
        allowed = f"in [{least:g}, {most:g}]" if most < torch.inf else f"≥ {least:g}"
        raise ValueError(f"{name} holds {float(tensor[outside][0].detach()):g}; it must be {allowed}.")
    return tensor


def check_depth(depth: object) -> int:
    """`depth`, refused if it is no number of layers."""
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth={depth!r} is no number of layers; pass a whole number from 1.")
    return depth
