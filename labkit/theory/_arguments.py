"""What the theory takes as numbers: float64 at once, each within its range, all of one shape and on one device.

Every refusal is one sentence with the argument's name, the first of its values that will not do, and what would.
"""

import math
import reprlib
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["ANY", "COSINE", "FINITE", "NOT_NEGATIVE", "between", "check", "grid", "real", "whole"]

Range = tuple[float, float]

_LARGEST = sys.float_info.max
ANY: Range = (-math.inf, math.inf)  # but nan
FINITE: Range = (-_LARGEST, _LARGEST)
NOT_NEGATIVE: Range = (0.0, _LARGEST)
COSINE: Range = (-1.0, 1.0)


def grid(given: Mapping[str, object], ranges: Mapping[str, Range] | None = None) -> list[Tensor]:
    """The arguments broadcast, on the device of the first tensor among them; finite and ≥ 0 where `ranges` has none."""
    device = next((value.device for value in given.values() if isinstance(value, Tensor)), None)
    allowed = ranges or {}
    values = {name: between(name, value, allowed.get(name, NOT_NEGATIVE), device) for name, value in given.items()}
    try:
        return list(torch.broadcast_tensors(*values.values()))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except RuntimeError:
        first = {tuple(value.shape): name for name, value in reversed(values.items()) if value.ndim}
        shapes = " and ".join(f"{shape} of {name}" for shape, name in reversed(first.items()))
        raise ValueError(f"the shapes {shapes} do not broadcast; pass equal ones, or numbers") from None


def between(
    name: str, value: object, allowed: Range, device: torch.device | None = None, *, unknown: bool = False
) -> Tensor:
    """A real tensor, refused where it leaves the range; `unknown` lets nan through, as what stands for no value."""
    values, (least, most) = real(name, value, device), allowed
    fine = (values >= least) & (values <= most)
    finite = "finite " if most == _LARGEST else ""
    inside = f" in [{least:g}, {most:g}]" if most < _LARGEST else f" ≥ {least:g}" if least > -_LARGEST else ""
    return check(name, values, fine | values.isnan() if unknown else fine, f"{finite}numbers{inside}")


def real(name: str, value: object, device: torch.device | None = None) -> Tensor:
    """`value` in float64, a list of numbers without a detour by float32; `device` is its own unless given."""
    try:
        tensor = torch.as_tensor(value, dtype=None if hasattr(value, "dtype") else torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}={reprlib.repr(value)}; pass a number or a tensor of numbers") from None
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} holds {tensor.dtype}; pass real numbers")
    return tensor.to(device, torch.float64)


def check(name: str, values: Tensor, fine: Tensor, wanted: str) -> Tensor:
    """`values`, refused unless all are fine."""
    if not bool(fine.all()):
        raise ValueError(f"{name} holds {float(values.detach()[~fine][0]):.12g}; pass {wanted}")
    return values


def whole(name: str, value: object, meaning: str) -> int:
    """`value`, checked to be a whole number of at least 1; `meaning` ends the sentence that refuses it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}; pass a whole number, 1 or more, {meaning}")
    return value
