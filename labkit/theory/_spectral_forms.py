r"""Spectral laws as analytic functions: the eigenvalue λ of JJᵀ, as a function of one complex variable.

Every law here is λ = e^{v(u)} / u, with v analytic off the positive axis and mapping the upper half-plane into itself;
that is what makes the curve of `_spectral_curve` unique. The moment series w = λ G(λ) - 1 is a function of u too.

Each form says, besides `at` and `primitive`: `zero_mass`, the atom at 0; `atoms`, the others as (log λ, mass);
`domains`, intervals of real s where v is real and its slope convex, so that gaps of the support lie there;
`breaks`, real s where the density may be sharp; `to_zero`, whether the support reaches λ = 0 even where it is too
thin to be followed; `exact`, whether `primitive` is so beside the support too; `log_mean` and `relative_variance`
of λ.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.theory._spectral_slopes import Slopes

__all__ = ["BernoulliLimit", "ExponentialLimit", "Form", "FreeProduct", "Place"]

_CHUNK = 1 << 18  # entries of a matrix points × slopes, so that it fits a cache
_SECTIONS = 65


class Place(NamedTuple):
    """What a form says at points s = log u of the closed upper half-plane, each (N,) complex128.

    Attributes:
        log_value: log λ = v - s.
        slope: its derivative in s.
        one_plus_w: 1 + w; Im w / π is λ times the density of λ where λ is real.
    """

    log_value: Tensor
    slope: Tensor
    one_plus_w: Tensor


@dataclass(frozen=True)
class ExponentialLimit:
    """λ = (1 + w)/w · exp(log_mean + rate·w): the smooth class of deep orthogonal networks, and residual ones."""

    rate: float
    log_mean: float = 0.0
    zero_mass = 0.0
    atoms = ()
    domains = ((-math.inf, 0.0), (0.0, math.inf))
    breaks = ()
    to_zero = False
    exact = True

    @property
    def relative_variance(self) -> float:
        """The rate itself."""
        return self.rate

    def at(self, s: Tensor) -> Place:
        """With u = w/(1 + w)."""
        one_plus_w = one_minus_exp(s).reciprocal()
        w = s.exp() * one_plus_w
        return Place(self.log_mean + self.rate * w - s, self.rate * w * one_plus_w - 1, one_plus_w)

    def primitive(self, s: Tensor) -> Tensor:
        """Of rate·w dw and of -w ds."""
        gap = one_minus_exp(s)
        return self.rate * (s.exp() / gap) ** 2 / 2 + gap.log()


@dataclass(frozen=True)
class BernoulliLimit:
    """λ = (1 + w)/w · exp(rate·w/(1 + w)): deep orthogonal networks whose slopes are 0 or 1."""

    rate: float
    log_mean = 0.0
    zero_mass = 0.0
    domains = ((-math.inf, math.inf),)
    breaks = ()
    to_zero = False
    exact = True

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """What no layer has touched, of mass 1 - rate at e^rate."""
        return ((self.rate, 1 - self.rate),) if self.rate < 1 else ()

    @property
    def relative_variance(self) -> float:
        """The rate itself."""
        return self.rate

    def at(self, s: Tensor) -> Place:
        """With u = w/(1 + w)."""
        u = s.exp()
        return Place(self.rate * u - s, self.rate * u - 1, one_minus_exp(s).reciprocal())

    def primitive(self, s: Tensor) -> Tensor:
        """Of rate·w du and of -w ds."""
        gap = one_minus_exp(s)
        return gap.log() - self.rate * (s.exp() + gap.log())


@dataclass(frozen=True)
class FreeProduct:
    """λ of J = D_L W_L ⋯ D_1 W_1, all factors free: e^v = (η/u)^{L-1}, times (1 + ψ)^L where W is Gaussian.

    ψ(u) = E uD²/(1 - uD²) is w, and η = ψ/(1 + ψ), with D² in units of its largest value. This is Pennington et al.
    2017, S = ∏ S_{WWᵀ} S_{D²}, with u = 1/M⁻¹_{D²}(w) for the variable, so that no S-transform need be inverted.

    Attributes:
        slopes: the law of D².
        depth: L ≥ 1.
        sigma_w: of the weights.
        gaussian: whether W is Gaussian, of variance σ_w²/N; else σ_w times orthogonal.
    """

    slopes: Slopes
    depth: int
    sigma_w: float
    gaussian: bool

    @property
    def zero_mass(self) -> float:
        """That of D: at any depth."""
        return self.slopes.zero_mass

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Directions that met the same slope in every layer; none survives a Gaussian matrix."""
        masses = [(place, self.depth * p - (self.depth - 1)) for place, p in self._heavy]
        return tuple((self._log_scale - self.depth * place, mass) for place, mass in masses)

    @property
    def breaks(self) -> tuple[float, ...]:
        """The poles of ψ whose atoms survive, but for a finite law, where gaps surround them."""
        return () if self.slopes.finite else tuple(place for place, _ in self._heavy)

    @property
    def exact(self) -> bool:
        """For a law of few slopes."""
        return self.slopes.finite

    @property
    def to_zero(self) -> bool:
        """Where slopes come as near to 0 as one likes."""
        return not self.slopes.bounded

    @cached_property
    def log_mean(self) -> float:
        """L log(σ_w² E D²)."""
        return self._log_scale + self.depth * math.log(float(self.slopes.weight @ self.slopes.square))

    @cached_property
    def relative_variance(self) -> float:
        """L (μ₂/μ₁² - 1), and L more from Gaussian weights."""
        law = self.slopes
        mean = float(law.weight @ law.square)
        about_mean = law.deficit - float(law.weight @ law.deficit)
        return self.depth * (float(law.weight @ about_mean.square()) / mean**2 + self.gaussian)

    @property
    def domains(self) -> tuple[tuple[float, float], ...]:
        """Where η/u, and for Gaussian weights 1 + ψ, are positive: between roots of ψ and 1 + ψ around each pole."""
        if not self.gaussian and self.depth == 1:
            return ((-math.inf, math.inf),)
        poles, lost = self._poles, self.zero_mass
        if not self.slopes.finite:  # no gaps but the outermost: the true law has slopes between any two nodes
            first, last = (-math.inf, poles[0]), (poles[-1], math.inf)
            return (first,) if self.gaussian else (first, last)
        ends = (*poles, math.inf)
        if self.gaussian and self.depth == 1:
            after = [self._root(-1.0, *pair) for pair in pairwise(ends)]
            return tuple(zip((-math.inf, *after[: len(poles) - (lost == 0)]), ends, strict=False))
        before = [-math.inf, *(self._root(0.0, *pair) for pair in pairwise(poles))]
        if self.gaussian:
            return tuple(zip(before, poles, strict=True))
        after = [self._root(-1.0, *pair) for pair in pairwise(ends if lost else poles)] + [math.inf] * (lost == 0)
        return tuple(zip(before, after, strict=True))

    def at(self, s: Tensor) -> Place:
        """By sums over the slopes."""
        law, u = self.slopes, s.exp()
        powers = (law.deficit, torch.ones_like(law.square), law.square, law.square**2)
        weight = torch.stack([law.weight * power for power in powers], 1).to(s)
        sums = []
        for part in _split(s, len(law.weight)):
            inverse = self._gaps(part).reciprocal()
            sums.append(torch.cat([inverse @ weight[:, :3], inverse.square() @ weight[:, 1:]], 1))
        rest, one_plus_psi, psi_over_u, *squared = torch.cat(sums).unbind(1)
        if law.panels is not None:
            miss, rate = law.panels.miss(s)
            rest, one_plus_psi, psi_over_u = rest + miss * (1 - 1 / u), one_plus_psi + miss, psi_over_u + miss / u
            squared = [squared[0] + miss + rate, squared[1] + rate / u, squared[2] + (rate - miss) / u.square()]
        # the derivative of log η/u is a variance, of D²/(1 - uD²) or of 1/(1 - uD²): near a pole and far from all of
        # them sums that nearly cancel would lose it
        variance = torch.where(
            s.real < 0.5, squared[2] - psi_over_u.square(), (squared[0] - one_plus_psi.square()) / u.square()
        )
        bend = u * variance / (one_plus_psi * psi_over_u)
        log_value = (1 - self.depth) * (rest / psi_over_u).log1p() - s + self._log_scale
        slope = (self.depth - 1) * bend - 1
        if self.gaussian:
            log_value = log_value + self.depth * one_plus_psi.log()
            slope = slope + self.depth * u * squared[1] / one_plus_psi
        return Place(log_value, slope, one_plus_psi)

    def primitive(self, s: Tensor) -> Tensor:
        """In closed form: of w d log η, w d log(1 + ψ) and w ds."""
        law = self.slopes
        weight = law.weight.to(s)
        parts = [self._gaps(part) for part in _split(s, len(weight))]
        one_plus_psi = torch.cat([gaps.reciprocal() @ weight for gaps in parts])
        found = (self.depth - 1) * one_plus_psi.log() + self.depth * torch.cat([gaps.log() @ weight for gaps in parts])
        return found + self.depth * (one_plus_psi - one_plus_psi.log()) if self.gaussian else found

    def _gaps(self, s: Tensor) -> Tensor:
        """1 - uD², (N, K), to all digits where D² is near its maximum and u near its inverse."""
        law, u = self.slopes, s.exp()[:, None]
        near = int((law.deficit < 0.5).sum())
        return torch.cat([one_minus_exp(s)[:, None] + u * law.deficit[:near], 1 - u * law.square[near:]], 1)

    @property
    def _log_scale(self) -> float:
        return self.depth * (2 * math.log(self.sigma_w) + math.log(self.slopes.scale))

    @cached_property
    def _poles(self) -> tuple[float, ...]:
        """Real s with e^s D² = 1, ascending."""
        law = self.slopes
        logs = torch.where(law.deficit < 0.5, (-law.deficit).log1p(), law.square.log())
        return tuple((-logs)[law.square > 0].tolist())

    @property
    def _heavy(self) -> list[tuple[float, float]]:
        if self.gaussian:
            return []
        pairs = zip(self._poles, self.slopes.weight.tolist(), strict=False)
        return [(place, p) for place, p in pairs if self.depth * (1 - p) < 1 - 1e-13]

    def _root(self, value: float, low: float, high: float) -> float:
        """Where ψ, which increases from -∞ between poles, passes `value` on the real axis; inf if it does not."""
        if high == math.inf:
            high = low + 1.0
            while self._psi(torch.tensor([high], dtype=torch.float64)) < value:
                high += 2 * (high - low)
        return crossing(lambda s: self._psi(s) - value, low, high)

    def _psi(self, s: Tensor) -> Tensor:
        return (self._gaps(s).reciprocal() @ self.slopes.weight) - 1


Form = FreeProduct | ExponentialLimit | BernoulliLimit


def crossing(function: Callable[[Tensor], Tensor], low: float, high: float) -> float:
    """Where an increasing function of real s passes 0 between two floats, to the last digit."""
    for _ in range(12):
        points = torch.linspace(low, high, _SECTIONS, dtype=torch.float64)[1:-1]
        above = int((function(points) < 0).sum())
        ends = [low, *points.tolist(), high]
        if (ends[above], ends[above + 1]) == (low, high):
            break
        low, high = ends[above], ends[above + 1]
    return low / 2 + high / 2


def _split(s: Tensor, nodes: int) -> list[Tensor]:
    return list(torch.split(s, max(1, _CHUNK // nodes)))


def one_minus_exp(s: Tensor) -> Tensor:
    """1 - e^s, (N,), real or complex: to all digits in both parts near s = 0."""
    return -torch.expm1(s)
