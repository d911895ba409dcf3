"""The one place that turns the name of an activation into a function.

Networks, theory and lessons take their activations from here, so a name means the same everywhere.
"""

import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NAMES", "Activation", "Elementwise", "resolve"]

Elementwise = Callable[[Tensor], Tensor]
Activation = str | Elementwise


def linear(h: Tensor) -> Tensor:
    """The identity: the activation of a deep linear network."""
    return h


_BY_NAME: dict[str, Elementwise] = {
    "linear": linear,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "hardtanh": F.hardtanh,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "gelu": F.gelu,  # the exact x·Φ(x), not its tanh approximation
    "silu": F.silu,
    "mish": F.mish,
    "sin": torch.sin,
    "cos": torch.cos,
}
NAMES: tuple[str, ...] = tuple(_BY_NAME)


def resolve(activation: object) -> Elementwise:
    """The function φ that a name stands for; a callable that acts on every entry alone passes through.

    Args:
        activation: One of `NAMES` (spelled as in `torch.nn.functional`, with `linear`, `erf`, `sin` and `cos`
            besides), or any callable that maps a tensor entry by entry to one of the same shape. A module
            is a callable too.

    Returns:
        φ, differentiable in both modes and usable under `torch.func.vmap`.

    Raises:
        ValueError: For an unknown name, with the near ones, and for a callable that mixes entries.
        TypeError: For what is neither a name nor a callable.

    Example:
        >>> resolve("gelu")(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.1587,  0.0000,  0.8413])
    """
    if isinstance(activation, str):
        if activation in _BY_NAME:
            return _BY_NAME[activation]
        near = difflib.get_close_matches(activation.lower(), NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(NAMES)}."
        raise ValueError(f"activation={activation!r} is not a name known here; {hint}")
    if not callable(activation):
        raise TypeError(
            f"activation must be a name or an elementwise callable, not a {type(activation).__name__}; "
            f"names are {', '.join(NAMES)}."
        )
    _refuse_mixing(activation)
    return activation


def _refuse_mixing(function: Callable[..., Any]) -> None:
    """Raise unless `function` gives each of three numbers the value that it gives that number alone."""
    parameter = next(function.parameters(), None) if isinstance(function, nn.Module) else None
    probe = torch.tensor([-1.3, 0.4, 2.1])
    if parameter is not None:
        probe = probe.to(parameter)
    name = getattr(function, "__name__", type(function).__name__)
    with torch.no_grad():
        together = function(probe)
        if not isinstance(together, Tensor):
            raise TypeError(
                f"activation={name} returned a {type(together).__name__} for a tensor; pass a function of a "
                "tensor, of a module class an instance."
            )
        alone = torch.cat([function(probe[i : i + 1]) for i in range(3)])
        same = together.shape == probe.shape and torch.allclose(together, alone, equal_nan=True)
    if not same:
        raise ValueError(
            f"activation={name} mixes entries, changes the shape or is random; it must map each entry alone, "
            "the same way every time."
        )
