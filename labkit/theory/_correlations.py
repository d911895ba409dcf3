"""The correlation at which two inputs settle: the root c* < 1 of C(c) = c, on whole grids of networks at once.

C is a power series in c with coefficients ≥ 0, squares of Hermite coefficients of φ. Dividing 1 - C(c) by 1 - c term by
term leaves nothing to cancel near criticality; where the series converges too slowly, integrals take over.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from labkit.theory._gaussian import Pieces, hermite_coefficients, joint_expectation, pair_expectation

__all__ = ["Settled", "follow_correlation", "settle"]

_TERMS = (192, 768)  # of the series: more where fewer are not enough
_TERMS_KINKED = (128,)  # each is an integral of its own
_TAIL = 2e-13  # of the series, beyond which integrals take over
_STEPS = 100
_BELOW_ONE = 1 - 2.0**-50  # where brackets end: C(1) = 1 is a root of its own, from which no step leads


class Settled(NamedTuple):
    """c* and 1 - C'(c*), both (m,)."""

    c: Tensor
    deficit: Tensor

    def put(self, cells: Tensor, part: "Settled") -> "Settled":
        """A copy with `part` at `cells`."""
        return Settled(self.c.index_put((cells,), part.c), self.deficit.index_put((cells,), part.deficit))


@torch.no_grad()
def settle(pieces: Pieces, q: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, loss: Tensor) -> Settled:
    """c* < 1 of cells (m,) that have one.

    Args:
        pieces: φ.
        q: lengths q*.
        weight: σ_w².
        bias: σ_b².
        slope: C'(1) = χ₁, > 1 where nothing is lost.
        loss: 1 - C(1) ≥ 0, positive with dropout.
    """
    found = Settled(torch.ones_like(q), torch.zeros_like(q))
    slow = torch.arange(len(q), device=q.device)
    for count in _TERMS_KINKED if pieces.kinks else _TERMS:
        part, done = _by_series(pieces, count, *(value[slow] for value in (q, weight, bias, slope, loss)))
        found = found.put(slow, part)
        slow = slow[~done]
        if not len(slow):
            return found
    return found.put(slow, _by_integrals(pieces, found.c[slow], q[slow], weight[slow], loss[slow]))


def _by_series(
    pieces: Pieces, count: int, q: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, loss: Tensor
) -> tuple[Settled, Tensor]:
    """c* from `count` terms, and whether they are enough; where not, c is above c*."""
    powers = hermite_coefficients(pieces.phi, q, pieces.kinks, count).square_() * (weight / q)[:, None]
    powers[:, 0] += bias / q
    beyond = (1 - loss - powers.sum(1)).clamp(min=0)
    # (C(1) - C(c)) / (1 - c) = Σ_j c^j Σ_{k>j} powers_k
    series = (powers.flip(1).cumsum(1).flip(1) - powers + beyond[:, None]).T.contiguous()
    rest = (slope - series.sum(0)).clamp(min=0)
    found = _newton(series, loss)
    return found, found.c**count * rest <= _TAIL


def _newton(series: Tensor, loss: Tensor) -> Settled:
    """Newton from c = 0 on the convex C(c) - c = (1-c)(1-g(c)) - loss, which it approaches from one side."""
    c, deficit = torch.zeros_like(loss), torch.zeros_like(loss)
    active = torch.arange(len(loss), device=loss.device)
    for _ in range(_STEPS):
        now, terms = c[active], series[:, active] if len(active) < len(c) else series
        g, tilt = terms[-1].clone(), torch.zeros_like(now)
        for row in terms[:-1].flip(0):
            tilt.mul_(now).add_(g)
            g.mul_(now).add_(row)
        excess = (1 - now) * (1 - g) - loss[active]
        deficit[active] = (1 - g) + (1 - now) * tilt
        step = excess / deficit[active]
        c[active] = (now + step).clamp(0, 1)
        active = active[step > 4e-16 * (1 + now)]
        if not len(active):
            break
    return Settled(c, deficit)


def _by_integrals(pieces: Pieces, start: Tensor, q: Tensor, weight: Tensor, loss: Tensor) -> Settled:
    """Newton in a bracket below `start`, where a truncated series ended, hence not below c*."""
    start = start.clamp(max=_BELOW_ONE)
    low, high, c = torch.zeros_like(start), start.clone(), start.clone()
    deficit = torch.zeros_like(start)
    active = torch.arange(len(c), device=c.device)

    def squared_change(u1: Tensor, u2: Tensor) -> Tensor:
        return (pieces.phi(u1) - pieces.phi(u2)) ** 2

    for _ in range(_STEPS):
        now, length, gain = c[active], q[active], weight[active]
        apart = gain / (2 * length) * joint_expectation(squared_change, length, length, now, pieces.kinks)
        excess = 1 - now - apart - loss[active]  # apart = C(1) - C(c), without cancellation
        deficit[active] = 1 - gain * pair_expectation(pieces.first, pieces.first, length, length, now, pieces.kinks)
        left = excess > 0
        low[active] = torch.where(left, now, low[active])
        high[active] = torch.where(left, high[active], now)
        newton = now + excess / deficit[active]
        inside = (newton >= low[active]) & (newton <= high[active]) & (deficit[active] > 0)
        halved = 1 - ((1 - low[active]) * (1 - high[active])).sqrt()
        new = torch.where(inside, newton, halved)
        c[active] = new
        active = active[(new - now).abs() > 1e-14 * (1 - now)]
        if not len(active):
            break
    return Settled(c, deficit)


def follow_correlation(pieces: Pieces, found: Settled, q: Tensor, weight: Tensor, bias: Tensor) -> Settled:
    """`found` with its derivatives in q*, σ_w² and σ_b²: two Newton steps from it, which move it by rounding only."""

    def slope(c: Tensor) -> Tensor:
        return weight * pair_expectation(pieces.first, pieces.first, q, q, c, pieces.kinks)

    c = found.c
    for _ in range(2):
        image = (weight * pair_expectation(pieces.phi, pieces.phi, q, q, c, pieces.kinks) + bias) / q
        c = c + (image - c) / (1 - slope(c))
    deficit = 1 - slope(c)
    return Settled(found.c + (c - c.detach()), found.deficit + (deficit - deficit.detach()))
