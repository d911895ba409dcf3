"""Paths, many points of input space in order, checked and sent through a chain in blocks.

What is measured along them asks f at many points, so it takes a chain and no linearization.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labkit import _preflight as preflight
from labkit.chain import Chain

__all__ = ["AnyChain", "check_path", "images"]

if TYPE_CHECKING:
    AnyChain = Chain
else:
    AnyChain = object  # run-time type checkers leave bad input to the sentences below

_BLOCK = 4096  # points sent through the chain at once: the states of a fine path would not fit


def check_path(chain: AnyChain, path: Tensor, least: int, name: str = "path") -> None:
    """Refuse what is no chain, or no finite floating path (B, T, *s) of at least so many points.

    Raises:
        TypeError: if the chain is none, or the path is not floating.
        ValueError: if the path has another shape, too few points, or NaN or infinity.
    """
    if not isinstance(chain, Chain):
        raise TypeError(f"chain is a {type(chain).__name__}; pass a Chain, as in Chain([model])")
    if not isinstance(path, Tensor) or not path.is_floating_point():
        came = str(path.dtype) if isinstance(path, Tensor) else type(path).__name__
        raise TypeError(f"{name} is {came}; pass a floating tensor (B, T, *s)")
    if path.ndim < 3 or path.shape[1] < least or path.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(path.shape)}; pass (B, T, *s) with T >= {least} points a curve")
    _check_finite(path, f"{name} itself")


def images(chain: Chain, path: Tensor, depths: Iterable[int] | None) -> list[Tensor]:
    """The flattened images of the path's points, (B, T, n_l), at each depth asked; of the output where that is None.

    Raises:
        ValueError: if a depth is out of range, a state is NaN or infinite, or a link is random or mixes samples.
    """
    asked = [len(chain)] if depths is None else list(depths)
    if not asked:
        raise ValueError(f"depths is empty; pass some of 0 … {len(chain)}, or None for the output")
    if strange := [depth for depth in asked if depth not in range(len(chain) + 1)]:
        raise ValueError(f"depths holds {strange[0]}; this chain has depths 0 … {len(chain)}")
    unknown = [index for index, link in enumerate(chain) if not preflight.is_known(link)]
    for index in unknown:
        preflight.check_modes(chain[index], chain.names[index])
    found: list[list[Tensor]] = [[] for _ in asked]
    for block in torch.split(path.flatten(0, 1), _BLOCK):
        states = chain.states(block)
        for kept, depth in zip(found, asked, strict=True):
            kept.append(states[depth].flatten(1))
    curves = [torch.cat(kept).reshape(*path.shape[:2], -1) for kept in found]
    for depth, points in zip(asked, curves, strict=True):
        _check_finite(points, f"its image at depth {depth}")
    _check_purity(chain, unknown, path.flatten(0, 1)[:8])
    return curves


def _check_purity(chain: Chain, unknown: list[int], few: Tensor) -> None:
    """Refuse links that are random, or let one point of a path change another, as found on a few of its points."""
    with torch.no_grad(), preflight.leave_as_it_was(list(chain), few):
        states = chain.states(few) if unknown else []
        for index in unknown:
            preflight.check_purity(chain[index], chain.names[index], *states[index : index + 2])


def _check_finite(points: Tensor, what: str) -> None:
    broken = ~points.detach().isfinite().flatten(2).all(-1)
    if broken.any():
        curve, point = broken.nonzero()[0].tolist()
        raise ValueError(f"path[{curve}] meets NaN or infinity at point {point} ({what}); end it before, or repair f")
