"""Products of independent factors χ²_B / (p n) with B ~ Bin(n, p): what a Gaussian layer does to a squared length.

Everything is conditional on B ≥ 1; the law of the logarithm comes from its characteristic function, known exactly.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["ChiProduct", "Factor", "digamma_excess"]

_F64 = torch.float64
# B_2k / (2k (2k - 1)): Stirling's series; at 10.5 and beyond the first term left out is 1e-17
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_START = 10.5
_LOG_NOTHING = -46.0  # e^-46 = 1e-20: a mass, or a modulus, that float64 cannot see beside 1
_CHUNK = 2**20


class Factor:
    """The law of X = χ²_B / (p n) given B ≥ 1, a mixture of χ² laws.

    Attributes:
        half: (m,), the values of B/2 that carry all but 1e-20 of the mass, and of the moment of `order`.
        weights: (m,), P(B) given B ≥ 1, and their logarithms.
        log_ratio: (m,), log(B / (p n)).
        log_alive: log P(B ≥ 1).
    """

    def __init__(self, width: int, p: float, order: float = 0.0) -> None:
        self.width, self.p = width, p
        counts, self.log_weights = _binomial(width, p, order)
        self.weights = self.log_weights.exp()
        self.half = counts / 2
        self.log_ratio = torch.log1p((counts - p * width) / (p * width))
        log_zero = width * math.log1p(-p) if p < 1 else -math.inf
        self.log_alive = math.log(-math.expm1(log_zero)) if log_zero > -0.5 else math.log1p(-math.exp(log_zero))

    def mean_and_variance(self) -> tuple[float, float]:
        """Of log X."""
        values = digamma_excess(self.half) + self.log_ratio
        mean = self.weights @ values
        trigamma = torch.special.zeta(torch.tensor(2.0, dtype=_F64), self.half)
        variance = self.weights @ (trigamma + (values - mean).square())
        return float(mean), float(variance)

    def log_terms(self, s: Tensor) -> Tensor:
        """log E[X^s | B], (len(s), m), for complex s with Re s > -B/2."""
        column = s[:, None]
        return _log_gamma_ratio(self.half, column) + column * self.log_ratio


@lru_cache(maxsize=256)
def factor(width: int, p: float) -> Factor:
    """The factor of a layer; equal layers share one."""
    return Factor(width, p)


class ChiProduct:
    """The law of Y = Σ log X over independent factors, each given B ≥ 1; written about its mean.

    Attributes:
        mean, variance: of Y.
        log_alive: the logarithm of the probability that no factor is zero.
    """

    def __init__(self, layers: Iterable[tuple[int, float]]) -> None:
        self._factors = [(factor(width, p), count) for (width, p), count in Counter(layers).items()]
        moments = [(*one.mean_and_variance(), count) for one, count in self._factors]
        self.mean = math.fsum(count * mean for mean, _, count in moments)
        self.variance = math.fsum(count * variance for _, variance, count in moments)
        self.log_alive = math.fsum(count * one.log_alive for one, count in self._factors)

    def log_moment(self, s: Tensor) -> Tensor:
        """log E e^{sY} for real s (m,); inf where s is at or below minus half the least B."""
        total = torch.zeros_like(s)
        for one, count in self._factors:
            inside = s > -one.half[0]
            terms = one.log_terms(torch.where(inside, s, 0.0).to(torch.complex128)).real
            total = total + torch.where(inside, count * (terms + one.log_weights).logsumexp(1), torch.inf)
        return total

    def log_mean_power(self, order: float) -> float:
        """log E e^(order · Y) with a product that has a zero counted as 0, for order > 0."""
        s = torch.tensor([order], dtype=torch.complex128)
        parts = [(Factor(one.width, one.p, order), count) for one, count in self._factors]
        logs = [count * float((one.log_terms(s).real + one.log_weights).logsumexp(1)) for one, count in parts]
        return math.fsum([self.log_alive, *logs])

    def density(self, y: Tensor) -> Tensor:
        """The density of Y at y, any shape; absolute error some 1e-14 of its peak."""
        start, end, steps, coefficients = self._series
        centred = y - self.mean

        def series(piece: Any) -> Any:
            angles = steps * piece[:, None]
            return angles.cos() @ coefficients.real + angles.sin() @ coefficients.imag

        found = (1 + 2 * self._in_pieces(series, centred.clamp(start, end))) / (end - start)
        return torch.where((centred < start) | (centred > end), 0.0, found.clamp(min=0))

    def cdf(self, y: Tensor) -> Tensor:
        """P(Y ≤ y), any shape; absolute error some 1e-14."""
        start, end, steps, coefficients = self._series
        over = coefficients / torch.arange(1, len(steps) + 1)
        at_start = over.real @ (steps * start).sin() - over.imag @ (steps * start).cos()

        def series(piece: Any) -> Any:
            angles = steps * piece[:, None]
            return angles.sin() @ over.real - angles.cos() @ over.imag - at_start

        centred = y - self.mean
        inside = centred.clamp(start, end)
        found = (inside - start) / (end - start) + self._in_pieces(series, inside) / math.pi
        return torch.where(centred <= start, 0.0, torch.where(centred >= end, 1.0, found.clamp(0, 1)))

    def quantile(self, u: Tensor) -> Tensor:
        """The y with P(Y ≤ y) = u, any shape: Newton's steps inside a bracket that halves where they fail."""
        start, end, _, _ = self._series
        table = self.mean + torch.linspace(start, end, 513, dtype=_F64)
        place = torch.searchsorted(self.cdf(table), u.contiguous()).clamp(1, 512)
        low, high = table[place - 1], table[place]
        y = (low + high) / 2
        for _ in range(60):
            miss = self.cdf(y) - u
            low, high = torch.where(miss < 0, y, low), torch.where(miss < 0, high, y)
            newton = y - miss / self.density(y)
            step = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
            if not bool(((step - y).abs() > 1e-15 * (end - start)).any()):
                break
            y = step
        return torch.where(u == 0, -torch.inf, torch.where(u == 1, torch.inf, y))

    def _in_pieces(self, series: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        """`series` of the entries of y, as many at once as memory likes."""
        pieces = y.flatten().chunk(1 + y.numel() * len(self._series[2]) // _CHUNK)
        return torch.cat([series(piece) for piece in pieces]).view_as(y)

    @cached_property
    def _series(self) -> tuple[float, float, Tensor, Tensor]:
        """The window [start, end] of Y - mean, the frequencies 2πk / (end - start) and E e^{it(Y - mean)} there."""
        start, end = self._window()
        step = 2 * math.pi / (end - start)
        frequencies = step * torch.arange(1, math.ceil(self._bandwidth() / step) + 1, dtype=_F64)
        log_modulus, phase = torch.zeros_like(frequencies), -self.mean * frequencies
        for one, count in self._factors:
            pieces = frequencies.chunk(1 + len(frequencies) * len(one.half) // _CHUNK)
            terms = torch.cat([one.log_terms(1j * piece).exp() @ one.weights.to(torch.complex128) for piece in pieces])
            log_modulus = log_modulus + count * terms.abs().log()
            phase = phase + count * terms.angle()
        return start, end, frequencies, torch.polar(log_modulus.exp(), phase)

    def _window(self) -> tuple[float, float]:
        """Around the mean, outside of which Chernoff's bound leaves less than 1e-20 on either side."""
        scale = math.sqrt(-2 * _LOG_NOTHING / self.variance)
        right = scale * torch.logspace(-2, 2, 33, dtype=_F64)
        end = ((self.log_moment(right) - _LOG_NOTHING) / right - self.mean).min()
        pole = min(float(one.half[0]) for one, _ in self._factors)
        left = torch.cat([right[right < 0.9 * pole], pole * torch.linspace(0.01, 0.995, 33, dtype=_F64)])
        start = -((self.log_moment(-left) - _LOG_NOTHING) / left + self.mean).min()
        return float(start), float(end)

    def _bandwidth(self) -> float:
        """A frequency beyond which the characteristic function is below 1e-20, by a bound that only falls."""

        def bound(t: float) -> float:
            s = torch.tensor([1j * t], dtype=torch.complex128)
            return sum(
                count * float((one.log_terms(s).real + one.log_weights).logsumexp(1)) for one, count in self._factors
            )

        t = 1 / math.sqrt(self.variance)
        while bound(t) > _LOG_NOTHING:
            t *= 1.25
        return t


def digamma_excess(x: Tensor) -> Tensor:
    """ψ(x) - log x for x ≥ ½, without the cancellation at large x."""
    shift = _shift(x)
    y = x + shift
    square = y**-2
    series = -1 / (2 * y)
    for k, stirling in enumerate(_STIRLING, 1):
        series = series - (2 * k - 1) * stirling * square**k
    return series + torch.log1p(shift / x) - sum((1 / (x + k) for k in range(shift)), torch.zeros_like(x))


def _log_gamma_ratio(x: Tensor, s: Tensor) -> Tensor:
    """log Γ(x + s) - log Γ(x) - s log x, without the cancellation at large x; Re(x + s) > 0."""
    shift = _shift(x)
    y = x + shift
    found = (y - 0.5 + s) * _log1p(s / y) - s + _stirling(y + s) - _stirling(y) + s * torch.log1p(shift / x)
    for k in range(shift):
        found = found - _log1p(s / (x + k))
    return found


def _shift(x: Tensor) -> int:
    return max(0, math.ceil(_START - float(x.min())))


def _stirling(y: Tensor) -> Tensor:
    square = y**-2
    total = torch.zeros_like(y)
    for coefficient in reversed(_STIRLING):
        total = total * square + coefficient
    return total / y


def _log1p(z: Tensor) -> Tensor:
    """log(1 + z) for complex z, as exact near 0 as far from it."""
    a, b = z.real, z.imag
    return torch.complex(0.5 * torch.log1p(2 * a + a * a + b * b), torch.atan2(b, 1 + a))


def _binomial(n: int, p: float, order: float) -> tuple[Tensor, Tensor]:
    """The values B ≥ 1 that matter of Bin(n, p) given B ≥ 1, and the logarithms of their probabilities given that.

    All but 1e-20 of the mass is kept, and where B^order weighs the upper tail, all but that of the weighed mass.
    """
    if p == 1:
        return torch.tensor([float(n)], dtype=_F64), torch.zeros(1, dtype=_F64)
    middle = min(max(round(n * p), 1), n)
    reach = 40 + math.ceil(math.sqrt(100 * n * p * (1 - p)))  # Bernstein's inequality, e^-50
    above = reach + math.ceil(4 * order + 20 * math.sqrt(order))
    counts = torch.arange(max(1, middle - reach), min(n, middle + above) + 1, dtype=_F64)
    below = counts[:-1]
    steps = torch.log((n - below) / (below + 1)) + math.log(p) - math.log1p(-p)
    logs = torch.cat([torch.zeros(1, dtype=_F64), steps.cumsum(0)])
    logs = logs - logs.logsumexp(0)
    kept = (logs > _LOG_NOTHING - 5) | (order > 0)
    return counts[kept], logs[kept]
