"""What a Fisher matrix asks of a model, its parameters and x, each answered with one sentence before long work.

The annotations of these arguments live here too: at run time they let bad input through to the sentences.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from labkit._cut_checks import close
from labkit._preflight import is_batch_coupled, is_known

__all__ = [
    "Model",
    "Name",
    "Number",
    "Parameters",
    "Samples",
    "check_arguments",
    "check_behaviour",
    "check_parameters",
    "check_tolerance",
]

if TYPE_CHECKING:
    Model = nn.Module
    Samples = Tensor
    Name = str
    Number = float
    Parameters = Mapping[str, Tensor]
else:
    Model = Samples = Name = Number = Parameters = object  # bad input meets the sentences, not a type checker


def check_arguments(model: object, x: object) -> None:
    """Raises TypeError, ValueError or RuntimeError unless there are a module and samples to work on."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; pass an nn.Module, whose parameters the Fisher is on")
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__}; pass a tensor (B, *s)")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; pass at least one sample, (B, *s)")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ValueError("x holds NaN or Inf; remove or repair these samples")
    if torch.is_autocast_enabled(x.device.type):
        raise RuntimeError("autocast is on, which mixes dtypes inside the model; leave the autocast block")


def check_parameters(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Raises ValueError or TypeError unless there are parameters, real, finite, with a derivative."""
    if not parameters:
        raise ValueError("the model has no parameter with requires_grad; call requires_grad_() on those that are meant")
    for name, p in parameters.items():
        if not p.is_floating_point():
            raise TypeError(f"parameter '{name}' is {p.dtype}; the Fisher here is on real floating parameters")
        if p.is_inference():
            raise ValueError(
                f"parameter '{name}' was made in inference mode, which knows no derivative; make it outside"
            )
    for name, p in model.named_parameters():
        if p.is_floating_point() and not bool(p.isfinite().all()):
            raise ValueError(f"parameter '{name}' holds NaN or Inf; repair or reload the weights")


def check_behaviour(model: nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """The outputs run(x); refuses a model that loses the batch, is random, mixes samples, or has no derivative."""
    with torch.enable_grad():
        f = run(x)
    if not isinstance(f, Tensor) or not f.is_floating_point():
        came = str(f.dtype) if isinstance(f, Tensor) else f"a {type(f).__name__}"
        raise TypeError(f"the model returns {came}; wrap it in a module that returns its outputs (B, …) alone")
    if f.ndim == 0 or len(f) != len(x) or f.numel() == 0:
        raise ValueError(
            f"the model turns x of shape {tuple(x.shape)} into {tuple(f.shape)}; it must give outputs (B, …)"
        )
    if not f.requires_grad:
        raise ValueError(
            "the model's outputs have no derivative in its parameters; remove no_grad or detach from its code"
        )
    f = f.detach()
    if not is_known(model):
        with torch.no_grad():
            if not close(run(x), f):
                raise ValueError("the model gives two outputs for one x; make it deterministic")
            alone = x.is_floating_point() or len(x) == 1 or close(run(x[:1]), f[:1])
        if not alone or (x.is_floating_point() and f.isfinite().all() and is_batch_coupled(run, x, f)):
            raise ValueError(
                "the model lets one sample of x change the outputs of another; make it act on each by itself"
            )
    return f


def check_tolerance(tolerance: object, dtype: torch.dtype) -> None:
    """Raises ValueError unless it is None, or a relative residual that products in this dtype can reach."""
    least = 8 * torch.finfo(dtype).eps
    if tolerance is None:
        return
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not least <= tolerance < 1:
        raise ValueError(
            f"tolerance={tolerance!r}; pass a relative residual between {least:.1g}, the rounding of {dtype}, and 1, "
            "or None for the exact solution"
        )
