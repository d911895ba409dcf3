"""Every fixed point of the length map q ↦ gain·E φ(√q z)² + bias, for whole grids of gains and biases at once.

E φ² and its slope are tabulated once over sixty decades of q; signs there bracket the roots, Newton polishes them.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.theory._gaussian import Pieces, expectation, resolved
from labkit.theory.activations import Elementwise

__all__ = ["FixedPoints", "Lengths", "find_fixed_points", "follow"]

_LARGE = 400.0  # lengths where quadrature is checked
_DEAD = 1e-13  # relative size of V(q) - q below which its sign is rounding
_CRITICAL = 1e-12  # slopes this near to 1 are 1
_FLAT = 1e-9  # |φ(0)| beyond which the slope of V has rounding of its own near q = 0
_ULP = 2.0**-52
_STEPS = 100  # of Newton; halving alone needs about 60
_AT_ONCE = 2**18  # signs looked at together


@dataclass(frozen=True)
class FixedPoints:
    """All fixed points of the length map, ascending along the last axis and padded with nan.

    Where every q is fixed (ReLU at σ_w² = 2 without bias) the one entry 1 stands for all, as neutrally stable.

    Attributes:
        q: (*grid, m), m the largest number in a cell.
        slope: (*grid, m), V'(q); 1 at a half-stable point, where V touches the diagonal.
        stable: (*grid, m), whether q_l returns from both sides, be it algebraically; False in the padding.
        basin_edge: (*grid, m), for a stable point the length from which q_l no longer comes down to it: the next fixed
            point above, inf if there is none; nan for others.

    Example:
        >>> from labkit.theory.meanfield import MeanField
        >>> MeanField("gelu", 1.5, 0.05).fixed_points.q  # 1.38 is the basin's edge of .0058
        tensor([0.0058, 1.3804], dtype=torch.float64)
    """

    q: Tensor
    slope: Tensor
    stable: Tensor
    basin_edge: Tensor


class Found(NamedTuple):
    """The fixed points, and whether q diverges from large lengths (*grid,)."""

    points: FixedPoints
    diverges: Tensor


class Lengths:
    """M(q) = E φ(√q z)² and its derivative, and a table of both."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        zero = torch.zeros(1, dtype=torch.float64)
        self.vanishes = bool(pieces.phi(zero).abs() == 0)  # φ(0) = 0: lengths may be zero for ever
        self._least = 1e-200 if bool(pieces.phi(zero).abs() < _FLAT) else 1e-12
        with torch.no_grad():  # a tailored φ may oscillate faster than on the scale of 1
            self._tame = bool(self._refined(torch.logspace(-4, math.log10(_LARGE), 64, dtype=torch.float64)).all())

    def mean(self, q: Tensor) -> Tensor:
        """M(q)."""
        return expectation(lambda u: self._pieces.phi(u) ** 2, q, self._pieces.kinks)

    def slope(self, q: Tensor) -> Tensor:
        """M'(q) = E u φ(u) φ'(u) / q, kinks or not."""
        return self.both(q)[1]

    def both(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """M(q) and M'(q) from one pass."""
        q = q.clamp(min=self._least)
        mean, slope = expectation(partial(_moments, self._pieces.phi), q, self._pieces.kinks)
        return mean, slope / q

    def resolved(self, q: Tensor) -> Tensor:
        """Whether twice as many nodes give the same M(q): φ may oscillate too fast at a large length."""
        if self._tame and not (q > _LARGE).any():
            return torch.ones_like(q, dtype=torch.bool)
        return self._refined(q)

    def _refined(self, q: Tensor) -> Tensor:
        return resolved(lambda u: self._pieces.phi(u) ** 2, q, self._pieces.kinks)

    def table(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """q, M(q) and M'(q), each (n,), from 1e-30 to 1e30, up to where φ² overflows."""
        spans = ((-30, -5, 100), (-5, 5, 250), (5, 30, 100))
        q = torch.cat([torch.logspace(*span, dtype=torch.float64, device=device)[:-1] for span in spans])
        mean, slope = self.both(q)
        last = int((mean.isfinite() & slope.isfinite()).long().cumprod(0).sum())
        return q[:last], mean[:last], slope[:last]


def _moments(phi: Elementwise, u: Tensor) -> Tensor:
    """φ² and u φ φ'."""
    value, pull, *_ = torch.func.vjp(phi, u)
    return torch.stack([value * value, u * pull(value)[0]])


@torch.no_grad()
def find_fixed_points(lengths: Lengths, gain: Tensor, bias: Tensor) -> Found:
    """All fixed points for `gain` and `bias` (*grid,), both ≥ 0."""
    grid = gain.shape
    gain, bias = gain.reshape(-1), bias.reshape(-1)
    table = lengths.table(gain.device)
    cells = max(1, _AT_ONCE // len(table[0]))
    scans = [_scan(lengths, a, b, table) for a, b in zip(gain.split(cells), bias.split(cells), strict=True)]  # type: ignore[no-untyped-call]  # torch leaves it untyped
    starts = range(0, max(len(gain), 1), cells)
    cell = torch.cat([scan.cell + start for scan, start in zip(scans, starts, strict=True)])
    low, high, rising, touch = (torch.cat([getattr(s, name) for s in scans]) for name in _Scan._fields[1:5])
    q = torch.where(touch, low, _polish(lengths, gain[cell], bias[cell], low, high, rising))
    slope = torch.where(touch, 1.0, gain[cell] * lengths.slope(q))
    stable = ~rising & ~touch & (slope > -1 + _CRITICAL)
    first, neutral = (torch.cat([getattr(s, name) for s in scans]) for name in ("first", "neutral"))
    at_zero = (bias == 0) & ((gain == 0) | lengths.vanishes) & ~neutral
    extra = at_zero | neutral
    cell = torch.cat([extra.nonzero()[:, 0], cell])
    start = neutral.double()[extra]
    q = torch.cat([start, q])
    slope = torch.cat([gain[extra] * lengths.slope(start), slope])
    stable = torch.cat([(first <= 0)[extra], stable])
    diverges = torch.cat([s.last for s in scans]) > 0
    points = _padded(len(gain), cell, q, slope, stable)
    return Found(FixedPoints(*(value.reshape(*grid, value.shape[-1]) for value in points)), diverges.reshape(grid))


class _Scan(NamedTuple):
    """Brackets (k,) of fixed points, by cell; and (cells,) the signs of V(q) - q at small and large q."""

    cell: Tensor
    low: Tensor
    high: Tensor
    rising: Tensor  # V - q goes from below to above: unstable
    touch: Tensor  # V - q touches 0 at `low`: half-stable
    first: Tensor
    last: Tensor
    neutral: Tensor  # V(q) = q throughout


def _scan(lengths: Lengths, gain: Tensor, bias: Tensor, table: tuple[Tensor, Tensor, Tensor]) -> _Scan:
    q, mean, _ = table
    excess = (gain[:, None] * mean + bias[:, None]) / q - 1
    sign = torch.where(excess.abs() <= _DEAD, 0.0, excess.sign())
    # where rounding hides the sign, that of the last node which has one holds
    known = torch.where(sign != 0, torch.arange(len(q), device=q.device), -1).cummax(1).values
    before = torch.cat([torch.full_like(known[:, :1], -1), known[:, :-1]], 1)
    at_zero = (bias > 0) | ((gain > 0) & (not lengths.vanishes))  # V(0) > 0
    previous = torch.where(before >= 0, sign.gather(1, before.clamp(min=0)), at_zero.double()[:, None])
    crosses = (sign != 0) & (previous != 0) & (sign != previous)
    cell, right = crosses.nonzero(as_tuple=True)
    left = before[cell, right]
    low = torch.where(left >= 0, q[left.clamp(min=0)], 0.0)
    found = cell, low, q[right], sign[cell, right] > 0, torch.zeros_like(cell, dtype=torch.bool)
    hidden = _hidden(lengths, gain, bias, table, excess, sign)
    merged = [torch.cat(pair) for pair in zip(found, hidden, strict=True)]
    first = sign.gather(1, (sign != 0).long().argmax(1, keepdim=True))[:, 0]
    last = sign.gather(1, known[:, -1:].clamp(min=0))[:, 0]
    cell, low, high, rising, touch = merged
    return _Scan(cell, low, high, rising, touch, first, last, neutral=(sign == 0).all(1))


def _hidden(
    lengths: Lengths, gain: Tensor, bias: Tensor, table: tuple[Tensor, Tensor, Tensor], excess: Tensor, sign: Tensor
) -> tuple[Tensor, ...]:
    """Brackets of pairs of fixed points between two neighbours of the table, where V - q turns around near zero."""
    q, _, slope = table
    away = (gain[:, None] * slope - 1) * sign  # whether V leaves the diagonal
    turns = (away[:, :-1] < 0) & (away[:, 1:] > 0) & (sign[:, 1:] == sign[:, :-1])
    cell, left = turns.nonzero(as_tuple=True)
    reach = (q[left + 1] / q[left] - 1) * (away[cell, left].abs() + away[cell, left + 1])
    near = excess[cell, left].abs() <= reach
    cell, left = cell[near], left[near]
    low, high = q[left], q[left + 1]
    outer, begin = (low, high), gain[cell] * slope[left] - 1
    for _ in range(60 if len(cell) else 0):
        middle = (low + high) / 2
        ahead = (gain[cell] * lengths.slope(middle) - 1) * begin > 0
        low, high = torch.where(ahead, middle, low), torch.where(ahead, high, middle)
    depth = ((gain[cell] * lengths.mean(low) + bias[cell]) / low - 1) * sign[cell, left]
    touch, through = depth.abs() <= _DEAD, depth < -_DEAD
    falls = sign[cell, left] < 0  # V - q is below the diagonal at both ends
    two = [
        (cell[touch], low[touch], low[touch], falls[touch], touch[touch]),
        (cell[through], outer[0][through], low[through], falls[through], touch[through]),
        (cell[through], low[through], outer[1][through], ~falls[through], touch[through]),
    ]
    return tuple(torch.cat(parts) for parts in zip(*two, strict=True))


def _polish(lengths: Lengths, gain: Tensor, bias: Tensor, low: Tensor, high: Tensor, rising: Tensor) -> Tensor:
    """The root of V(q) - q in each bracket (k,), by Newton kept inside it."""
    root = (low + high) / 2
    side = torch.where(rising, -1.0, 1.0)  # the sign of V - q at the lower end
    active = (high > low).nonzero()[:, 0]
    for _ in range(_STEPS):
        if not len(active):
            break
        q, a, b = root[active], gain[active], bias[active]
        mean, slope = lengths.both(q)
        excess, tilt = a * mean + b - q, a * slope - 1
        above = excess * side[active] < 0
        low[active] = torch.where(above, low[active], q)
        high[active] = torch.where(above, q, high[active])
        newton = q - excess / tilt
        inside = (newton >= low[active]) & (newton <= high[active])
        new = torch.where(inside, newton, (low[active] + high[active]) / 2)
        root[active] = new
        exact = torch.where(inside, (_ULP * tilt.abs()).sqrt(), _ULP)  # a Newton step squares the error
        active = active[(new - q).abs() > exact * new]
    return torch.where(lengths.resolved(root), root, torch.nan)


def _padded(cells: int, cell: Tensor, q: Tensor, slope: Tensor, stable: Tensor) -> tuple[Tensor, ...]:
    """q, slope, stable and basin edge (cells, m) from the list of all fixed points."""
    order = q.argsort(stable=True)
    order = order[cell[order].argsort(stable=True)]
    cell, q, slope, stable = cell[order], q[order], slope[order], stable[order]
    count = torch.bincount(cell, minlength=cells)
    place = torch.arange(len(cell), device=q.device) - (count.cumsum(0) - count)[cell]
    following = torch.cat([q[1:], q[:1]])
    has_next = place + 1 < count[cell]
    edge = torch.where(stable, torch.where(has_next, following, torch.inf), torch.nan)
    width = int(count.max()) if cells else 0
    padded = []
    for values in (q, slope, stable, edge):
        empty = torch.full((cells, width), False if values.dtype == torch.bool else torch.nan, device=q.device)
        padded.append(empty.to(values.dtype).index_put((cell, place), values))
    return tuple(padded)


def follow(lengths: Lengths, q: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """`q` with its derivatives in gain and bias: two Newton steps from it, which move it by rounding only."""
    moves = (q > 0) & q.isfinite()
    safe = torch.where(moves, q.detach(), 1.0)
    new = safe
    for _ in range(2):
        mean, slope = lengths.both(new)
        new = new - (gain * mean + bias - new) / (gain * slope - 1)
    return torch.where(moves, safe + (new - new.detach()), q)
