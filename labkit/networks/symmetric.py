"""Networks that respect an action of the circle: invariants, which forget it, and layers that commute with it.

They read the action's harmonics, the coordinates in which it turns planes and does nothing else.
"""

import torch
from torch import Tensor, nn

from labkit.chain import Chain
from labkit.networks.actions import CircleAction
from labkit.networks.initialization import weight_generator

__all__ = ["Gate", "Invariants", "equivariant"]


class _InHarmonics(nn.Module):
    """A link that reads the harmonics of an action, which move with it between devices."""

    degrees: Tensor
    harmonics: Tensor

    def __init__(self, action: CircleAction):
        super().__init__()
        self.register_buffer("degrees", action.degrees)
        self.register_buffer("harmonics", action.harmonics)


class Invariants(_InHarmonics):
    """The link x → all products z_i z̄_j within one degree, and the coordinates of degree 0: unchanged by the action.

    The action multiplies each z of degree m by e^{imt}, so products within a degree keep their value. They forget more
    than the common t: the phase of every degree.

    Args:
        action: on R^n.

    Example:
        >>> from labkit.networks.actions import rotation
        >>> turn = rotation(8)
        >>> link, x = Invariants(turn), torch.randn(5, 64, dtype=torch.float64)
        >>> link(x).shape, bool((link(turn.move(x, 0.3)) - link(x)).abs().max() < 1e-12)
        (torch.Size([5, 148]), True)
    """

    def __init__(self, action: CircleAction):
        super().__init__(action)
        self._sizes = torch.bincount(action.degrees).tolist()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n) to (B, r_0 + Σ r_m²), r_m the number of complex coordinates of degree m."""
        y = _coordinates(x, self.harmonics)
        fixed, *moving = torch.split(y, self._sizes, dim=1)
        found = [fixed]
        for part in moving:
            if part.shape[1]:
                a, b = part.chunk(2, dim=1)
                i, j = torch.triu_indices(a.shape[1], a.shape[1], device=x.device)
                found.append(a[:, i] * a[:, j] + b[:, i] * b[:, j])
                i, j = torch.triu_indices(a.shape[1], a.shape[1], 1, device=x.device)
                found.append(a[:, i] * b[:, j] - b[:, i] * a[:, j])
        return torch.cat(found, dim=1)


class Gate(_InHarmonics):
    """The nonlinear link that shortens the part h_m of each degree to h_m / √(1 + |h_m|²): it commutes with the action.

    Args:
        action: on R^n.

    Example:
        >>> from labkit.networks.actions import shift
        >>> move = shift(4)
        >>> gate, h = Gate(move), torch.randn(5, 16, dtype=torch.float64)
        >>> bool((gate(move.move(h, 0.3)) - move.move(gate(h), 0.3)).abs().max() < 1e-12)
        True
    """

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, n) to (B, n)."""
        y = _coordinates(h, self.harmonics)
        same = (self.degrees[:, None] == self.degrees).to(h)
        return (y * (1 + y.square() @ same).rsqrt()) @ self.harmonics.to(h).mT


def _coordinates(x: Tensor, harmonics: Tensor) -> Tensor:
    if x.ndim != 2 or x.shape[1] != len(harmonics):
        raise ValueError(f"x has shape {tuple(x.shape)}; flat inputs (B, {len(harmonics)}) would do")
    return x @ harmonics.to(x)


def equivariant(action: CircleAction, depth: int, sigma_w: float | int, seed: int = 0) -> Chain:
    """A random network R^n → R^n that commutes with the action, f(T(t) x) = T(t) f(x): matrices that do, and gates.

    Args:
        action: on R^n.
        depth: matrices, with a `Gate` between neighbours.
        sigma_w: each matrix is Gaussian, projected on those that commute and scaled to the squared norm σ_w² n.
        seed: draws the weights.

    Returns:
        The chain, 2 · depth − 1 links, in the dtype of the action.

    Raises:
        ValueError: for depth below 1.

    Example:
        >>> from labkit.networks.actions import rotation
        >>> turn = rotation(4)
        >>> net, x = equivariant(turn, 3, 1.5), torch.randn(5, 16, dtype=torch.float64)
        >>> bool((net(turn.move(x, 0.3)) - turn.move(net(x), 0.3)).abs().max() < 1e-12)
        True
    """
    if depth < 1:
        raise ValueError(f"depth={depth} is no network; at least 1 matrix would do")
    generator, n = weight_generator(seed), len(action.generator)
    links: list[nn.Module] = []
    for _ in range(depth):
        W = action.commuting(torch.randn(n, n, generator=generator, dtype=torch.float64))
        linear = nn.Linear(n, n, bias=False, dtype=action.generator.dtype, device=action.generator.device)
        linear.weight.data = (W * (sigma_w * n**0.5 / W.norm())).to(action.generator)
        links += [linear, Gate(action)]
    return Chain(links[:-1])
