"""Plain networks that share their random numbers: many phases or activations for the price of one draw.

At a width of 1,000 drawing the weights takes longer than using them.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from labkit.chain import Chain
from labkit.links import Layer
from labkit.networks.initialization import Placement, check_sigmas
from labkit.networks.mlp import mlp
from labkit.theory.activations import Activation, resolve

__all__ = ["siblings"]

Kind = tuple[Activation, float | int, float | int]


def siblings(
    depth: int,
    width: int,
    kinds: Mapping[str, Kind],
    seed: int = 0,
    *,
    device: Placement = None,
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[str, Chain]]:
    """Networks of several kinds, one after the other, from one draw: each is `mlp` with this seed, frozen.

    Their measurements are therefore not independent of each other; independent repetitions need several seeds.

    Args:
        depth: Number of links h → W φ(h) + b.
        width: Entries of every state.
        kinds: name → (activation, σ_w, σ_b).
        seed: Draws all parameters, once.
        device: Where the parameters live; the CPU by default.
        dtype: Of the parameters; `torch.get_default_dtype()` by default.

    Yields:
        (name, chain), in the order of `kinds`; a chain's parameters need no gradient.

    Raises:
        ValueError: For sizes below 1, a negative σ, an unknown activation.

    Example:
        >>> for name, net in siblings(2, 16, {"ordered": ("tanh", 0.8, 0.1), "chaotic": ("tanh", 2.5, 0.1)}):
        ...     print(name, len(net))
        ordered 2
        chaotic 2
    """
    for activation, sigma_w, sigma_b in kinds.values():
        resolve(activation)
        check_sigmas(sigma_w, sigma_b)
    one = mlp(depth, width, "linear", 1.0, 1.0, seed=seed, device=device, dtype=dtype)
    drawn = [module for module in one.modules() if isinstance(module, nn.Linear)]
    return ((name, Chain([_scaled(linear, *kind) for linear in drawn])) for name, kind in kinds.items())


def _scaled(linear: nn.Linear, activation: Activation, sigma_w: float | int, sigma_b: float | int) -> Layer:
    scaled = nn.Linear(linear.in_features, linear.out_features, device="meta")
    scaled.weight = nn.Parameter(sigma_w * linear.weight.detach(), requires_grad=False)
    scaled.bias = nn.Parameter(sigma_b * linear.bias.detach(), requires_grad=False)
    return Layer(scaled, resolve(activation))
