"""Activations made to measure: scale and shift before and after ψ so that its kernel has wanted derivatives at c = 1.

The found activation is an ordinary elementwise callable, at its fixed point q = 1 for σ_w = 1.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.theory._arguments import NOT_NEGATIVE, between
from labkit.theory._derivatives import Pieces, derivative, pieces
from labkit.theory._gaussian import expectation

__all__ = ["Tailored", "kernel_numbers", "tailor"]

_CONSTANTS = ("input_scale", "offset", "input_shift", "slope")  # in the order in which `tailor` frees them
_WANTED = ("chi", "gamma", "iota", "p", "q_slope")
_TOLERANCE, _LOOSE = 1e-10, 1e-8  # relative, of every condition; where rounding hinders the first the second will do
_EXTREME = 14.0  # |log s_i|: nearly linear below, a step above, and free to run away where ψ is homogeneous
_HOPELESS = 1e6  # stands for a distance that is not finite
_TRIES = 8  # of the best starts
_STARTS = {
    "input_scale": (-2.3, -1.2, 0.0, 0.9),  # logarithms
    "offset": (0.05, -0.05, 0.3, -0.3),
    "input_shift": (0.1, 0.6, -0.6, 1.5, -1.5),
}


@dataclass(frozen=True)
class Tailored:
    """φ(h) = s_o (ψ(s_i h + b_i) + b_o), to be called like any activation; with it σ_w = 1, `sigma_b` and q = 1.

    Attributes:
        psi: ψ, with its slope parameter put in.
        input_scale: s_i > 0.
        input_shift: b_i.
        output_shift: b_o.
        output_scale: s_o > 0.
        sigma_b: standard deviation of the biases; 0 unless asked for in place of b_o.
        slope: the parameter of a family ψ(h, slope), None without one.

    Example:
        >>> phi = tailor("tanh", chi=1.0, gamma=0.1, offset="bias")
        >>> phi(torch.tensor(1.0)), round(phi.sigma_b, 3)
        (tensor(1.0894), 0.176)
    """

    psi: Callable[[Tensor], Tensor]
    input_scale: float
    input_shift: float
    output_shift: float
    output_scale: float
    sigma_b: float = 0.0
    slope: float | None = None

    def __call__(self, h: Tensor) -> Tensor:
        """φ(h), elementwise."""
        return self.output_scale * (self.psi(self.input_scale * h + self.input_shift) + self.output_shift)


def kernel_numbers(activation: Any, sigma_b: Any = 0.0) -> dict[str, float]:
    """χ, γ, ι, p and V' of one layer at q = 1 and σ_w = 1: what `tailor` can be asked for, and q' itself.

    Args:
        activation: A name, or any elementwise callable.
        sigma_b: Standard deviation of the biases.

    Returns:
        `q`, V(1) = E φ² + σ_b², which is 1 where the layer keeps lengths; only there are `chi` = E φ'²,
        `gamma` = E φ''² (inf at kinks) and `p` = (E φ)² + σ_b² the C'(1), C''(1) and C(0) of the map.
        `iota` is the isometry defect E φ'⁴/(E φ'²)² - 1, `q_slope` V'(1) = E z φ φ'.

    Example:
        >>> found = kernel_numbers("relu")
        >>> {name: round(value, 4) for name, value in found.items()}
        {'q': 0.5, 'chi': 0.5, 'gamma': inf, 'iota': 1.0, 'p': 0.1592, 'q_slope': 0.5}
    """
    variance = float(between("sigma_b", sigma_b, NOT_NEGATIVE)) ** 2
    act = pieces(activation)
    m = _moments(act, act.kinks)
    return {
        "q": m.variance + m.mean**2 + variance,
        "chi": m.first,
        "gamma": m.second,
        "iota": m.fourth / m.first**2 - 1,
        "p": m.mean**2 + variance,
        "q_slope": m.stretch + m.mean * m.tilt,
    }


def tailor(
    activation: Any,
    *,
    chi: Any = None,
    gamma: Any = None,
    iota: Any = None,
    p: Any = None,
    q_slope: Any = None,
    offset: Any = "shift",
    slope: Any = None,
    free: Sequence[str] | None = None,
) -> Tailored:
    """Constants s_i, b_i, s_o, b_o that give s_o (ψ(s_i h + b_i) + b_o) the wanted χ, γ, ι, p or V', at q = V(1) = 1.

    Smooth TAT is `chi=1, q_slope=1, gamma=τ/L`; DKS is `p=0, q_slope=1, chi=ζ**(1/L)`; TAT of leaky ReLU is
    `chi=1, p=…, slope=0.1` with `free=["slope"]`. An odd ψ on its critical line is `chi=1, gamma=…, offset="bias"`.

    Args:
        activation: ψ: a name, an elementwise callable, or with `slope` a family ψ(h, slope) whose kinks stay in place.
        chi: χ = C'(1).
        gamma: γ = C''(1).
        iota: The isometry defect E φ'⁴/(E φ'²)² - 1.
        p: C(0).
        q_slope: V'(1), below or at 1 for lengths that do not drift.
        offset: Where C(0) comes from: `"shift"`, the mean of φ by b_o, or `"bias"`, biases of variance σ_b² = p.
        slope: Where the search for the family's parameter begins, or its value where it is not free.
        free: As many of "input_scale", "offset", "input_shift", "slope" as there are conditions (`p` sets the offset
            and does not count); the first of these by default. The others stay at 1, 0, 0 and `slope`.

    Returns:
        The activation, detached. Several solutions may exist; the search is deterministic and returns one.

    Raises:
        ValueError: For an unknown option, numbers of conditions and constants that differ, a γ of a kinked ψ, or
            conditions that no constants meet as far as the search goes.

    References:
        Martens et al. 2021, arXiv:2110.01765 (DKS); Zhang, Botev & Martens 2022, arXiv:2203.08120 (TAT).

    Example:
        >>> phi = tailor("softplus", chi=1.0, q_slope=1.0, gamma=0.003)
        >>> found = kernel_numbers(phi)
        >>> [round(found[name], 6) for name in ("q", "chi", "q_slope", "gamma")]
        [1.0, 1.0, 1.0, 0.003]
    """
    wanted = {n: v for n, v in zip(_WANTED, (chi, gamma, iota, p, q_slope), strict=True) if v is not None}
    names = _check(wanted, offset, slope, free)
    base = pieces(activation if slope is None else lambda h: activation(h, slope))
    if "gamma" in wanted and not base.smooth:
        raise ValueError(f"gamma={gamma} is asked of an activation with kinks, whose C''(1) is infinite; leave it out")
    goal = {name: value for name, value in wanted.items() if name != "p"}
    sides = (0.0,) if not wanted.get("p") else (1.0, -1.0) if offset == "shift" else (1.0,)
    angle = math.asin(math.sqrt(wanted.get("p", 0.0)))
    problems = [_Problem(activation, base, names, goal, offset == "bias", slope, side * angle) for side in sides]
    nearest, distance = None, _HOPELESS
    for problem, start in _ordered_starts(problems):
        constants, rest = problem.solve(start)
        if rest < distance and abs(dict(zip(names, constants, strict=True)).get("input_scale", 0.0)) < _EXTREME:
            nearest, distance = problem.finish(constants), rest
        if distance <= _TOLERANCE:
            break
    if nearest is not None and distance <= _LOOSE:
        return nearest
    reached = kernel_numbers(nearest, nearest.sigma_b) if nearest is not None else {}
    told = ", ".join(f"{name}={reached[name]:.4g}" for name in wanted if name in reached)
    asked = ", ".join(f"{name}={value:g}" for name, value in wanted.items())
    raise ValueError(
        f"no {', '.join(names)} found for {asked}; nearest were {told or 'none'}. Every map has χ ≥ 1 - p and "
        "γ ≥ 2(p + χ - 1), with 3 in place of 2 for odd φ: relax one of the conditions."
    )


@dataclass(frozen=True)
class _Moments:
    mean: float  # E g
    variance: float
    first: float  # E g'²
    second: float  # E g''²
    fourth: float  # E g'⁴
    stretch: float  # E z (g - E g) g'
    tilt: float  # E z g'


@torch.no_grad()
def _moments(g: Pieces, kinks: tuple[float, ...]) -> _Moments:
    """Moments of g(z), z ~ N(0, 1)."""

    def average(function: Callable[[Tensor], Tensor]) -> float:
        return float(expectation(function, torch.ones((), dtype=torch.float64), kinks))

    mean = average(g.phi)
    return _Moments(
        mean,
        average(lambda z: (g.phi(z) - mean) ** 2),
        average(lambda z: g.first(z) ** 2),
        average(lambda z: g.second(z) ** 2) if g.smooth else math.inf,
        average(lambda z: g.first(z) ** 4),
        average(lambda z: z * (g.phi(z) - mean) * g.first(z)),
        average(lambda z: z * g.first(z)),
    )


@dataclass(frozen=True)
class _Problem:
    """The equations in the free constants; V(1) = 1 holds exactly, by φ = cos a (g - E g)/sd(g) + sin a."""

    activation: Any
    base: Pieces
    names: tuple[str, ...]
    goal: dict[str, float]
    by_bias: bool
    slope: float | None
    angle: float  # a, where it is not free

    def read(self, point: Sequence[float] | np.ndarray) -> dict[str, float]:
        found = {"input_scale": 0.0, "offset": self.angle, "input_shift": 0.0, "slope": self.slope or 0.0}
        found.update(zip(self.names, map(float, point), strict=True))
        return {**found, "input_scale": math.exp(min(max(found["input_scale"], -_EXTREME), _EXTREME))}

    def inner(self, constants: dict[str, float]) -> tuple[Pieces, tuple[float, ...]]:
        """g(z) = ψ(s_i z + b_i), and the kinks of its derivatives."""
        scale, shift, base = constants["input_scale"], constants["input_shift"], self.base
        if "slope" in self.names:
            psi = self.psi(constants["slope"])
            first = derivative(psi)
            base = replace(base, phi=psi, first=first, second=derivative(first))
        g = Pieces(
            lambda z: base.phi(scale * z + shift),
            lambda z: scale * base.first(scale * z + shift),
            lambda z: scale**2 * base.second(scale * z + shift),
            tuple((kink - shift) / scale for kink in base.kinks),
            base.smooth,
        )
        return g, g.kinks

    def psi(self, slope: float) -> Callable[[Tensor], Tensor]:
        return lambda h: self.activation(h, slope)

    def equations(self, point: Sequence[float] | np.ndarray) -> np.ndarray:
        constants = self.read(point)
        m = _moments(*self.inner(constants))
        with np.errstate(all="ignore"):
            scale2 = np.float64(math.cos(constants["offset"]) ** 2) / m.variance
            mean = 0.0 if self.by_bias else math.sin(constants["offset"])
            found = {
                "chi": scale2 * m.first,
                "gamma": scale2 * m.second,
                "iota": np.float64(m.fourth) / m.first**2 - 1,
                "q_slope": scale2 * m.stretch + mean * np.sqrt(scale2) * m.tilt,
            }
            rest = [(found[name] - value) / (abs(value) or 1.0) for name, value in self.goal.items()]
        found_rest: np.ndarray = np.nan_to_num(np.array(rest), nan=_HOPELESS, posinf=_HOPELESS, neginf=-_HOPELESS)
        return found_rest

    def starts(self) -> list[tuple[float, ...]]:
        columns = {**_STARTS, "slope": (self.slope or 0.0,)}
        return list(itertools.product(*(columns[name] for name in self.names)))

    def solve(self, start: Sequence[float]) -> tuple[np.ndarray, float]:
        from scipy.optimize import root  # 0.3 s to load

        found = root(self.equations, np.array(start), method="hybr", options={"xtol": 1e-14, "maxfev": 300})
        return found.x, float(np.abs(self.equations(found.x)).max())

    def finish(self, point: np.ndarray) -> Tailored:
        constants = self.read(point)
        m = _moments(*self.inner(constants))
        scale = math.cos(constants["offset"]) / math.sqrt(m.variance)
        mean = math.sin(constants["offset"])
        slope = constants["slope"] if self.slope is not None else None
        psi = self.base.phi if slope is None else self.psi(slope)
        shift_in, shift_out = constants["input_shift"], -m.mean if self.by_bias else mean / scale - m.mean
        probe = torch.linspace(0.1, 5, 7, dtype=torch.float64)
        if shift_in < 0 and torch.allclose(psi(-probe), -psi(probe), rtol=1e-12):
            shift_in, shift_out = -shift_in, -shift_out  # φ(h) and -φ(-h) have one kernel: always the same one
        return Tailored(
            psi,
            constants["input_scale"],
            shift_in,
            shift_out,
            scale,
            abs(mean) if self.by_bias else 0.0,
            slope,
        )


def _ordered_starts(problems: list[_Problem]) -> list[tuple[_Problem, tuple[float, ...]]]:
    """The few starts nearest to a solution, nearest first."""
    pairs = [(problem, start) for problem in problems for start in problem.starts()]
    return sorted(pairs, key=lambda pair: float(np.abs(pair[0].equations(pair[1])).max()))[:_TRIES]


def _check(wanted: dict[str, Any], offset: Any, slope: Any, free: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the free constants, once all options are known to be sound."""
    for name, value in wanted.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name}={value!r}; pass a finite number that is not negative")
    if wanted.get("p", 0.0) >= 1:
        raise ValueError(f"p={wanted['p']!r}; C(0) lies below 1 unless the layer forgets its input")
    if offset not in ("shift", "bias"):
        raise ValueError(f'offset={offset!r}; pass "shift" or "bias"')
    if slope is not None and (isinstance(slope, bool) or not isinstance(slope, (int, float))):
        raise ValueError(f"slope={slope!r}; pass the number at which the search begins")
    absent = {name for name, out in (("offset", "p" in wanted), ("slope", slope is None)) if out}
    known = [name for name in _CONSTANTS if name not in absent]
    count = sum(name != "p" for name in wanted)
    if count == 0:
        raise ValueError(f"nothing to solve for; pass one or more of {', '.join(n for n in _WANTED if n != 'p')}")
    names = tuple(known[:count]) if free is None else tuple(free)
    if not set(names) <= set(known) or len(set(names)) != len(names) or len(names) != count:
        raise ValueError(
            f"{count} conditions besides p need as many free constants out of {', '.join(known)}; "
            f"got free={list(names)}"
        )
    return names
