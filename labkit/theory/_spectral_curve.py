r"""Follows the curve on which λ is real, and lays a quadrature along it.

For v analytic off the positive axis and mapping the upper half-plane into itself, Im v(re^{iθ})/sin θ falls and θ/sin θ
grows with θ: for every r there is at most one angle with Im v = θ, that is, with real λ = e^v/u, and λ falls as r grows
(Belinschi & Bercovici 2005). So the support is laid out along t = log r, one bracketed root each, no branch to choose.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from labkit.theory._spectral_forms import Form, crossing

__all__ = ["Nodes", "angle", "lay", "mass_above", "support"]

_EPS = 2.0**-52
_PANELS = 100  # to begin with, over all intervals
_NODES = 20  # a panel
_ROUNDS = 15  # of halving
_TOLERANCE = 1e-10  # of the mass of a panel
_NOISE = 1e-14  # of exact masses
_FAINT = 1e-11  # a density times its length that is no longer followed
_DEEP = -30.0  # of log λ: what curved activations leave beyond is not told apart
_REST = 1e-13  # of the mass, below which a tail to λ = 0 is not followed
_FAR = 45.0  # in log u: what lies as far beyond all poles has no mass left
_FARTHEST = 650.0  # log u that float64 still holds
_ABOVE = 1e-150  # the real axis, from above


@dataclass(frozen=True)
class Nodes:
    """A quadrature along the support, λ descending; all (n,) float64.

    Attributes:
        t: log |u|.
        theta: arg u.
        log_value: log λ.
        density: of log λ.
        weight: of a Gauss–Legendre rule in log λ.
        below: the mass that lies beyond the last node, at smaller λ.
    """

    t: Tensor
    theta: Tensor
    log_value: Tensor
    density: Tensor
    weight: Tensor
    below: float


def angle(form: Form, t: Tensor, guess: Tensor | None = None) -> Tensor:
    """The angle θ at which λ is real, in (0, π), for (n,) real t inside the support: Newton within a bracket."""
    low, high = torch.zeros_like(t), torch.full_like(t, math.pi)
    theta = (high / 2 if guess is None else guess).clamp(1e-12, math.pi - 1e-12)
    active = torch.arange(len(t))
    for _ in range(60):
        place = form.at(torch.complex(t[active], theta[active]))
        excess, rate = place.log_value.imag, place.slope.real
        here = theta[active]
        low[active] = torch.where(excess > 0, here, low[active])
        high[active] = torch.where(excess > 0, high[active], here)
        step = here - excess / rate
        inside = (step > low[active]) & (step < high[active])
        done = ((step - here).abs() <= 2 * _EPS * here) | (excess.abs() <= 8 * _EPS * here)
        following = torch.where(inside, step, (low[active] + high[active]) / 2)
        theta[active] = torch.where(done, here, following)
        active = active[~done & (following != here)]
        if not len(active):
            break
    return theta


def mass_above(form: Form, t: Tensor, theta: Tensor) -> Tensor:
    """The mass above λ at (n,) points of the curve, atoms included."""
    return -form.primitive(torch.complex(t, theta)).imag / math.pi


def support(form: Form) -> list[tuple[float, float]]:
    """Intervals of t that make up the continuous part, ascending, so that λ descends; the last may end at inf."""
    gaps = [gap for low, high in form.domains if (gap := _gap(form, low, high))]
    starts = [gap[1] for gap in gaps]
    ends = [gap[0] for gap in gaps[1:]] + [math.inf]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _gap(form: Form, low: float, high: float) -> tuple[float, float] | None:
    """Where in a domain log λ falls with t: v's slope is convex there and at most 1 between two crossings."""

    def slope(t: Tensor) -> Tensor:
        return form.at(t.to(torch.complex128)).slope.real

    def at(t: float) -> float:
        return float(slope(torch.tensor([t], dtype=torch.float64)))

    if low == -math.inf:
        step = 1.2347  # no round number: poles of v lie at those
        while at(inner := (0.1371 if high == math.inf else high) - step) >= 0:
            step *= 2
    elif high == math.inf:
        step = 1.2347
        while at(inner := low + step) >= 0:
            step *= 2
            if step > _FAR:
                return None
    else:
        ends = [low, high]
        while True:
            points = torch.linspace(ends[0], ends[1], 64, dtype=torch.float64)[1:-1]
            values = slope(points)
            least = int(values.argmin())
            inner = float(points[least])
            if values[least] < 0:
                break
            closer = [float(points[max(least - 1, 0)]), float(points[min(least + 1, 61)])]
            if closer == ends or closer[0] >= closer[1] or values[least].isnan():
                return None
            ends = closer
    left = low if low == -math.inf else crossing(lambda t: -slope(t), low, inner)
    if high < math.inf:
        return left, crossing(slope, inner, high)
    step = 1.2347
    while at(inner + step) < 0:
        step *= 2
        if step > _FAR:
            return left, math.inf
    return left, crossing(slope, inner, inner + step)


def lay(form: Form, intervals: list[tuple[float, float]], floor: float) -> list[Nodes]:
    """A quadrature for each interval of the support, dense at its edges, refined until every panel has its mass.

    Args:
        form: the law.
        intervals: its support.
        floor: of log λ; what lies below is counted and not followed.
    """
    found = []
    for low, high in intervals:
        reached = high < math.inf and (not form.exact or _log_value(form, high) > floor)
        end = high if reached else _tail(form, low, high, floor)
        if not form.exact:
            end = _thin(form, low, end, floor)
        found.append(_lay_one(form, low, end, max(_PANELS // len(intervals), 20), closed=end == high))
        if not reached:
            break
    return found


def _log_value(form: Form, t: float) -> float:
    return float(form.at(torch.tensor([t], dtype=torch.complex128)).log_value.real)


def _tail(form: Form, low: float, high: float, floor: float) -> float:
    """Where to stop on the way to λ = 0."""
    total = 1 - form.zero_mass

    def beyond(t: Tensor) -> Tensor:
        theta = angle(form, t)
        points = torch.complex(t, theta)
        return (form.at(points).log_value.real < floor) | (mass_above(form, t, theta) > total - _REST)

    step = 1.0
    while low + step < min(high, _FARTHEST) and not beyond(torch.tensor([low + step], dtype=torch.float64)):
        step *= 2
    step = min(step, (high - low) * (1 - 1e-9))
    for width in (step, step / 64):
        points = torch.linspace(low + step - width, low + step, 65, dtype=torch.float64)[1:]
        step = float(points[int(beyond(points).to(torch.uint8).argmax())]) - low
    return low + step


def _thin(form: Form, low: float, high: float, floor: float) -> float:
    """Where on the way down nothing is left to follow of a density that fades without an edge."""
    t = low + (high - low) * torch.linspace(0, 1, 402, dtype=torch.float64)[1:-1] ** 3
    place = form.at(torch.complex(t, angle(form, t)))
    thick = (place.one_plus_w.imag * (high - low) > _FAINT) & (place.log_value.real > floor)
    return float(t[min(int(thick.nonzero()[-1, 0]) + 1, len(t) - 1)])


def _lay_one(form: Form, low: float, high: float, count: int, closed: bool) -> Nodes:
    rule, gauss = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(_NODES))
    length = high - low
    breaks = [2 / math.pi * math.asin(math.sqrt((t - low) / length)) for t in form.breaks if low < t < high]
    parts = [(a, b, 2 + int(count * (b - a))) for a, b in pairwise([0.0, *sorted(breaks), 1.0])]
    edges = torch.cat([torch.linspace(a, b, points, dtype=torch.float64)[:-1] for a, b, points in parts])
    left, right = edges, torch.cat([edges[1:], torch.ones(1, dtype=torch.float64)])
    finished: list[tuple[Tensor, ...]] = []

    def place(x: Tensor) -> Tensor:
        return low + length * (math.pi / 2 * x).sin().square()

    def edge(x: Tensor) -> tuple[Tensor, Tensor]:
        t = place(x)
        theta = torch.full_like(t, _ABOVE)
        inside = (x > 0) & ((x < 1) | (not closed))
        theta[inside] = angle(form, t[inside])
        return theta, mass_above(form, t, theta)

    (left_theta, left_mass), (right_theta, right_mass) = edge(left), edge(right)
    below = 1 - form.zero_mass - float(right_mass[-1]) if form.exact and not closed else 0.0
    tolerance = max(_TOLERANCE * (1 - form.zero_mass), _NOISE) if form.exact else math.inf
    for _ in range(_ROUNDS):
        half = (right - left)[:, None] / 2
        x = left[:, None] + half * (1 + rule)
        t = place(x)
        guess = left_theta[:, None] + (right_theta - left_theta)[:, None] * (1 + rule) / 2
        theta = angle(form, t.flatten(), guess.flatten())
        there = form.at(torch.complex(t.flatten(), theta))
        rate = (there.slope.abs().square() / there.slope.real).abs().view_as(t)
        weight = rate * length * math.pi / 2 * (math.pi * x).sin() * half * gauss
        density = there.one_plus_w.imag.view_as(t) / math.pi
        wrong = ((density * weight).sum(1) - (right_mass - left_mass)).abs() > tolerance
        good = ~wrong
        kept = (x, t, theta.view_as(t), there.log_value.real.view_as(t), density, weight)
        finished.append(tuple(values[good].flatten() for values in kept))
        if not wrong.any():
            break
        left, right, middle = left[wrong], right[wrong], ((left + right) / 2)[wrong]
        middle_theta, middle_mass = edge(middle)
        left_theta = torch.cat([left_theta[wrong], middle_theta])
        right_theta = torch.cat([middle_theta, right_theta[wrong]])
        left_mass = torch.cat([left_mass[wrong], middle_mass])
        right_mass = torch.cat([middle_mass, right_mass[wrong]])
        left, right = torch.cat([left, middle]), torch.cat([middle, right])
    else:
        finished.append(tuple(values[wrong].flatten() for values in kept))
    x, *values = (torch.cat(parts) for parts in zip(*finished, strict=True))
    order = x.argsort()
    t, theta, log_value, density, weight = (value[order] for value in values)
    followed = float((density * weight).sum()) + sum(mass for _, mass in form.atoms)
    if not form.exact and float(log_value[-1]) < _DEEP:
        below = 1 - form.zero_mass - followed
    elif below:
        below -= sum(mass for place, mass in form.atoms if place < log_value[-1])
    return Nodes(t, theta, log_value, density, weight, below)
