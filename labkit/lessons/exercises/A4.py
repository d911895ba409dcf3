"""Exercises of A4: one step of the length map, χ₁ from a Jacobian, the critical scale, a depth to forget."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def next_length(phi: Callable[[Tensor], Tensor], sigma_w: float, sigma_b: float, q: float) -> float:
    """The squared length σ_w² E φ(√q z)² + σ_b² after one more layer, z standard normal, by a sum over a fine grid."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2)
    mean = (phi(q**0.5 * z) ** 2 * weight).sum() / weight.sum()
    return sigma_w**2 * float(mean) + sigma_b**2


def mean_square(J: Tensor) -> Tensor:
    """The mean squared singular value of a square Jacobian: its squared entries, summed, over its size."""
    return J.square().sum() / len(J)


def critical(chi: Callable[[float], float], low: float, high: float) -> float:
    """Where the increasing function `chi` passes 1 between `low` and `high`, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chi(middle) < 1 else (low, middle)
    return (low + high) / 2


def layers_until(chi_1: float, factor: float) -> float:
    """The number of layers after which a small step is `factor` times as long, in the root mean square."""
    return 2 * math.log(factor) / math.log(chi_1)


def _double(h: Tensor) -> Tensor:
    return 2 * h


def _shifted(h: Tensor) -> Tensor:
    return h + 1


def _plain(h: Tensor) -> Tensor:
    return h.clamp(min=0)


def _length_cases() -> list[tuple[Any, ...]]:
    return [(_double, 1.5, 0.5, 2.0), (_shifted, 0.5, 0.3, 4.0), (_plain, 2.0, 1.0, 3.0), (torch.sin, 1.7, 0.4, 0.8)]


def _length_known(phi: Callable[[Tensor], Tensor], sigma_w: float, sigma_b: float, q: float) -> float:
    """In closed form: second moments of a normal variable, half of one, E sin² = (1 − e^{−2q})/2."""
    squares = {_double: 4 * q, _shifted: q + 1, _plain: q / 2, torch.sin: (1 - math.exp(-2 * q)) / 2}
    return sigma_w**2 * squares[phi] + sigma_b**2


def _expected(f: Callable[[Tensor], Tensor]) -> float:
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2)
    return float((f(z) * weight).sum() / weight.sum())


def _sampled(phi: Callable[[Tensor], Tensor], sigma_w: float, sigma_b: float, q: float) -> float:
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sigma_w**2 * float(phi(q**0.5 * z).square().mean()) + sigma_b**2


def _jacobians() -> list[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, n, generator=generator, dtype=torch.float64) * scale,) for n, scale in ((3, 1.0), (5, 2.0))]


def _by_spectrum(J: Tensor) -> float:
    return float(torch.linalg.eigvalsh(J.mT @ J).mean())


def _chis() -> list[tuple[Any, ...]]:
    return [
        (lambda s: s**2 / 2, 0.0, 4.0),
        (lambda s: math.tanh(s) + 0.4, 0.0, 3.0),
        (lambda s: s**3 / 5, 1.0, 2.5),
    ]


def _roots(chi: Callable[[float], float], low: float, high: float) -> float:
    return {4.0: math.sqrt(2), 3.0: math.atanh(0.6), 2.5: 5 ** (1 / 3)}[high]


def _secant(chi: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(200):  # regula falsi with the Illinois rule would be faster; this is what is written first
        a, b = chi(low) - 1, chi(high) - 1
        if abs(b - a) < 1e-15:
            break
        middle = low - a * (high - low) / (b - a)
        low, high = (middle, high) if chi(middle) < 1 else (low, middle)
    return low if abs(chi(low) - 1) < abs(chi(high) - 1) else high


def _stepwise(chi_1: float, factor: float) -> float:
    """Walk whole layers, then the share of the last one."""
    length, layer = 1.0, 0
    while (length < factor) == (chi_1 > 1):
        length, layer = length * chi_1**0.5, layer + 1
    return layer - math.log(length / factor) / math.log(chi_1**0.5)


EXERCISES = (
    Exercise(
        id="A4.1",
        title="One step of squared lengths",
        statement="Write `next_length(phi, sigma_w, sigma_b, q)`: the squared length after a layer, to two per cent.",
        solution=next_length,
        cases=_length_cases,
        oracle=_length_known,
        tolerance=0.02,
        wrong={
            "scale instead of variance": (
                lambda phi, w, b, q: w**2 * _expected(lambda z: phi(q * z) ** 2) + b**2,
                "You gave the units a standard deviation of q. q is their variance: they are √q z.",
            ),
            "square of the mean": (
                lambda phi, w, b, q: w**2 * _expected(lambda z: phi(q**0.5 * z)) ** 2 + b**2,
                "You squared the mean. The squared length needs the mean of the square.",
            ),
            "weights not squared": (
                lambda phi, w, b, q: w * _expected(lambda z: phi(q**0.5 * z) ** 2) + b**2,
                "σ_w is a standard deviation; variances add, so it enters squared.",
            ),
            "neither squared": (
                lambda phi, w, b, q: w * _expected(lambda z: phi(q**0.5 * z) ** 2) + b,
                "σ_w and σ_b are standard deviations; variances add, so both enter squared.",
            ),
            "root": (
                lambda phi, w, b, q: _length_known(phi, w, b, q) ** 0.5,
                "You took a root at the end. V(q) is a squared length, as q is.",
            ),
            "bias not squared": (
                lambda phi, w, b, q: w**2 * _expected(lambda z: phi(q**0.5 * z) ** 2) + b,
                "σ_b is a standard deviation; the squared length gains its square.",
            ),
            "bias forgotten": (
                lambda phi, w, b, q: w**2 * _expected(lambda z: phi(q**0.5 * z) ** 2),
                "The bias is missing: it adds σ_b² to the mean square of every unit.",
            ),
        },
        alternatives=(_sampled,),
        hints=(
            "One unit is h = √q z with z standard normal. What is the mean of φ(h)²?",
            "Draw a million z, or sum over a grid with weights exp(−z²/2) that you divide by their sum.",
            "z = torch.randn(10**6); the mean is phi(q**0.5 * z).square().mean().",
        ),
        buys="Iterate it, and you have the squared length at every depth without a network.",
        pointer="For φ(h) = h it is σ_w² q + σ_b². Off by a few per cent only? Too few samples: draw a million.",
    ),
    Exercise(
        id="A4.2",
        title="χ₁ from one Jacobian",
        statement="Write `mean_square(J)`: the mean squared singular value of a square Jacobian (n, n).",
        solution=mean_square,
        cases=_jacobians,
        oracle=_by_spectrum,
        wrong={
            "sum": (
                lambda J: J.square().sum(),
                "This is the sum of all squared singular values. There are n of them: take the mean.",
            ),
            "root": (
                lambda J: (J.square().sum() / len(J)).sqrt(),
                "You took a root: this is how a length grows. χ₁ is the factor of its square.",
            ),
            "largest": (
                lambda J: torch.linalg.matrix_norm(J, 2) ** 2,
                "This is the largest one, squared. χ₁ averages over all directions.",
            ),
            "mean first": (
                lambda J: torch.linalg.svdvals(J).mean() ** 2,
                "You squared the mean. Square each singular value first.",
            ),
            "eigenvalues": (
                lambda J: torch.linalg.eigvals(J).abs().square().mean(),
                "Eigenvalues are not singular values: take those of JᵀJ, which are the squares.",
            ),
            "no transpose": (
                lambda J: (J @ J).trace() / len(J),
                "You took the trace of J J. Eigenvalues are not singular values: it should be JᵀJ.",
            ),
            "mean of the entries": (
                lambda J: J.square().mean(),
                "You divided by all n² entries. There are n singular values.",
            ),
        },
        alternatives=(
            lambda J: torch.linalg.svdvals(J).square().mean(),
            lambda J: (J @ J.mT).trace() / J.shape[0],
        ),
        hints=(
            "The squared singular values are the eigenvalues of JᵀJ. What is the sum of eigenvalues?",
            "trace(JᵀJ) is the sum of all squared entries of J.",
            "J.square().sum(), divided by how many singular values there are.",
        ),
        buys="Any layer of any network now has its χ₁, without theory.",
        pointer="For J = [[0, 2], [0, 0]] it is 2.",
    ),
    Exercise(
        id="A4.3",
        title="The critical scale",
        statement="Write `critical(chi, low, high)`: where the increasing function `chi` passes 1.",
        solution=critical,
        cases=_chis,
        oracle=_roots,
        wrong={
            "value": (
                lambda chi, low, high: chi(critical(chi, low, high)),
                "You returned χ₁ there, which is 1. The scale σ_w is asked.",
            ),
            "other half": (
                lambda chi, low, high: _other_half(chi, low, high),
                "You kept the half without the crossing. χ₁ < 1 in the middle means: go right.",
            ),
            "one step": (
                lambda chi, low, high: low + (1 - chi(low)) * (high - low) / (chi(high) - chi(low)),
                "One straight line through both ends. χ₁ bends: repeat with the half that holds the crossing.",
            ),
            "zero": (
                lambda chi, low, high: critical(lambda s: chi(s) + 1, low, high),
                "You looked for χ₁ = 0. The critical value is 1.",
            ),
        },
        alternatives=(_secant,),
        hints=(
            "Try the middle. On which side of it does chi pass 1?",
            "If chi(middle) < 1 the crossing is to the right: low = middle. Else high = middle.",
            "Repeat sixty times, then return the middle.",
        ),
        buys="You can put a network of any activation on its critical line, if it has one.",
        pointer="For chi = s²/2 it is √2, ReLU's. Near, but not there? Halve more often.",
    ),
    Exercise(
        id="A4.4",
        title="How many layers",
        statement="Write `layers_until(chi_1, factor)`: after how many layers a small step is `factor` times as long "
        "(root mean square; a real number, negative if it never happens), for χ₁ ≠ 1.",
        solution=layers_until,
        cases=lambda: [(0.5, 1e-3), (0.94, 0.1), (1.6, 100.0), (0.5, 4.0)],
        oracle=_stepwise,
        wrong={
            "squared length": (
                lambda chi, factor: math.log(factor) / math.log(chi),
                "χ₁ multiplies the squared length. You let it multiply the length.",
            ),
            "upside down": (
                lambda chi, factor: math.log(chi) / math.log(factor) / 2,
                "Upside down: a slow layer, χ₁ near 1, needs many.",
            ),
            "sign": (
                lambda chi, factor: -2 * math.log(factor) / math.log(chi),
                "Right size, wrong sign: both logarithms have the same sign.",
            ),
            "no sign": (
                lambda chi, factor: abs(2 * math.log(factor) / math.log(chi)),
                "You dropped the sign. Where steps shrink none ever becomes longer: the answer is negative.",
            ),
            "linear": (
                lambda chi, factor: 2 * (factor - 1) / (chi - 1),
                "Layers multiply, they do not add: take logarithms.",
            ),
            "half": (
                lambda chi, factor: math.log(factor) / math.log(chi) / 2,
                "The root goes the other way: a length grows by √χ₁, so more layers are needed, not fewer.",
            ),
        },
        alternatives=(lambda chi, factor: math.log(factor) / math.log(math.sqrt(chi)),),
        hints=(
            "By what factor does one layer multiply the squared length? And the length?",
            "After l layers the length is χ₁^(l/2) times what it was. Solve for l.",
            "Take the logarithm of both sides.",
        ),
        buys="Depth has a unit now: you can say after how many layers the 32-bit cosine of two neighbours is 1.",
        pointer="For χ₁ = 1/4 a step is halved in one layer.",
    ),
)


def _other_half(chi: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if chi(middle) < 1 else (middle, high)
    return (low + high) / 2
