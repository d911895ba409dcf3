"""What the laws of attention ask of their arguments: numbers or tensors that broadcast, each within its range.

Every error is one sentence with the argument's name, its range, and what would do.
"""

import torch
from torch import Tensor

__all__ = ["check", "check_flow", "check_tokens", "grid"]

_F64 = torch.float64
_ROUNDING = 1e-7
_COLDEST = 300.0  # times grow like e^(2β), which leaves float64 soon after


def grid(**given: object) -> list[Tensor]:
    """The arguments in float64, on one device and of one shape."""
    device = next((value.device for value in given.values() if isinstance(value, Tensor)), torch.device("cpu"))
    values: dict[str, Tensor] = {}
    for name, value in given.items():
        try:
            values[name] = torch.as_tensor(value, dtype=_F64, device=device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{name}={value!r}; a number or a tensor of numbers would do.") from None
        check(not bool(values[name].isnan().any()), name, values[name], "numbers")
    try:
        return list(torch.broadcast_tensors(*values.values()))  # type: ignore[no-untyped-call]
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in values.items())
        raise ValueError(f"the shapes {shapes} do not broadcast; equal ones, or numbers, would do.") from None


def check(holds: bool, name: str, values: Tensor, wanted: str) -> None:
    """Raise unless `holds`, with the range of the values and what would do."""
    if not holds:
        low, high = (float(end) for end in values.detach().aminmax())
        raise ValueError(f"{name} reaches from {low:g} to {high:g}; {wanted} would do.")


def check_tokens(n: Tensor, rho: Tensor, name: str = "correlation") -> Tensor:
    """The cosines, raised to -1/(n-1) where rounding, of float32 perhaps, left them below."""
    check(bool(((n >= 2) & (n == n.round()) & n.isfinite()).all()), "tokens", n, "whole numbers of at least 2")
    least = -1 / (n - 1)
    check(bool(((rho >= least - _ROUNDING) & (rho <= 1)).all()), name, rho, "cosines between -1/(n-1) and 1")
    return torch.maximum(rho, least)


def check_flow(n: Tensor, beta: Tensor, rho: Tensor, name: str = "cosine") -> Tensor:
    """As `check_tokens`, with the inverse temperature."""
    check(bool(((beta >= 0) & (beta <= _COLDEST)).all()), "beta", beta, "numbers from 0 to 300")
    return check_tokens(n, rho, name)
