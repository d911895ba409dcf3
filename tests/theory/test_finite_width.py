"""Finite width: exact laws against high-precision sums, closed forms, quadrature and simulated products."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from labkit.theory import finite_width
from labkit.theory._chi_products import ChiProduct
from labkit.theory.finite_width import log_norm_statistics

F64 = torch.float64
REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/finite_width.json").read_text())
CASES = REFERENCE["cases"]
ALIVE = {"relu": 0.5, "linear": 1.0}


def exact(width: int, p: float) -> tuple[float, float]:
    """Mean and variance of log(χ²_B / (p n)) given B ≥ 1, by a 40-digit sum over every B."""
    with mpmath.workdps(40):
        chance = mpmath.mpf(p)
        weights = [mpmath.binomial(width, b) * chance**b * (1 - chance) ** (width - b) for b in range(1, width + 1)]
        total = mpmath.fsum(weights)
        means = [mpmath.digamma(mpmath.mpf(b) / 2) + mpmath.log(2 / (chance * width)) for b in range(1, width + 1)]
        mean = mpmath.fdot(weights, means) / total
        spread = [mpmath.psi(1, mpmath.mpf(b) / 2) + (m - mean) ** 2 for b, m in enumerate(means, 1)]
        return float(mean), float(mpmath.fdot(weights, spread) / total)


def simulate(widths: list[int], p: float, samples: int) -> Tensor:
    """(n_0/n_d) |Ju|² for `samples` products of Gaussian matrices, each followed by its own mask: no χ² in it."""
    generator = torch.Generator().manual_seed(0)
    v = torch.zeros(samples, widths[0], dtype=F64)
    v[:, 0] = 1.0
    for fan_in, fan_out in itertools.pairwise(widths):
        W = torch.randn(samples, fan_out, fan_in, generator=generator, dtype=F64) / math.sqrt(p * fan_in)
        mask = torch.rand(samples, fan_out, generator=generator) < p
        v = mask * (W @ v[:, :, None])[..., 0]
    return v.square().sum(1) * widths[0] / widths[-1]


class TestReference:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{len(case['widths'])}")
    def test_chains(self, case: dict[str, Any]) -> None:
        law = log_norm_statistics(case["widths"], ALIVE[case["kind"]])
        assert float(law.mean) == pytest.approx(float(case["mean"]), rel=1e-13)
        assert float(law.variance) == pytest.approx(float(case["variance"]), rel=1e-13)
        assert float(law.leading_order) == pytest.approx(case["leading_order"], rel=1e-13)
        assert float(law.p_zero) == pytest.approx(case["p_zero"], abs=1e-15)
        assert float(law.moment(2)) == pytest.approx(case["second_moment"], rel=1e-12)

    @pytest.mark.parametrize("case", [c for c in CASES if "simulated" in c], ids=lambda c: f"{len(c['widths'])}")
    def test_simulated_networks(self, case: dict[str, Any]) -> None:
        law, seen = log_norm_statistics(case["widths"], ALIVE[case["kind"]]), case["simulated"]
        assert abs(float(law.mean) - seen["mean"]) < 3 * seen["mean_se"]
        assert abs(float(law.variance) - seen["var"]) < 3 * seen["var_se"]

    @pytest.mark.parametrize("layer", REFERENCE["layers"], ids=lambda layer: str(layer["n"]))
    def test_single_layers(self, layer: dict[str, Any]) -> None:
        law = log_norm_statistics([7, layer["n"]])
        assert float(law.mean) == pytest.approx(float(layer["mean"]), rel=1e-13)
        assert float(law.variance) == pytest.approx(float(layer["variance"]), rel=1e-13)

    @pytest.mark.parametrize("case", REFERENCE["lyapunov"], ids=lambda case: str(case["n"]))
    def test_lyapunov_exponents(self, case: dict[str, Any]) -> None:
        exponents = finite_width.lyapunov_exponents(case["n"])
        torch.testing.assert_close(exponents, torch.tensor(case["exponents"], dtype=F64), rtol=1e-13, atol=1e-15)
        assert exponents.tolist() == pytest.approx(case["simulated"], abs=0.015)

    def test_breakpoints(self) -> None:
        case = REFERENCE["breakpoints"]
        ends = [torch.tensor([[case[end]]], dtype=F64) for end in ("start", "end")]
        found = finite_width.expected_breakpoints(*ends, case["width"], case["sigma_w"], case["sigma_b"])
        assert float(found) == pytest.approx(case["expected"], rel=1e-14)
        assert abs(float(found) - case["simulated"]) < 3 * case["simulated_se"]


class TestMeanAndVariance:
    @given(width=st.integers(1, 60), p=st.floats(0.01, 0.999))
    def test_any_mask(self, width: int, p: float) -> None:
        law, (mean, variance) = log_norm_statistics([5, width], p), exact(width, p)
        assert float(law.mean) == pytest.approx(mean, rel=1e-10, abs=1e-12)
        assert float(law.variance) == pytest.approx(variance, rel=1e-11)

    @pytest.mark.parametrize("width", [1, 2, 17, 10**6, 10**9])
    def test_linear_layers_at_any_width(self, width: int) -> None:
        law = log_norm_statistics([3, width], p=1)
        with mpmath.workdps(40):
            assert float(law.mean) == pytest.approx(float(mpmath.digamma(width / 2) - mpmath.log(width / 2)), rel=1e-13)
            assert float(law.variance) == pytest.approx(float(mpmath.psi(1, width / 2)), rel=1e-13)

    @pytest.mark.parametrize("width", [10**4, 10**6, 10**8])
    def test_wide_rectified_layers_follow_their_expansion(self, width: int) -> None:
        law = log_norm_statistics([3, width])
        assert float(law.mean) == pytest.approx(-2.5 / width, rel=5 / width + 1e-9)
        assert float(law.variance) == pytest.approx(5 / width, rel=5 / width + 1e-9)

    def test_layers_add_up_and_each_has_its_mask(self) -> None:
        law = log_norm_statistics([9, 8, 5, 3], p=[0.5, 0.2, 1])
        parts = [exact(8, 0.5), exact(5, 0.2), exact(3, 1)]
        assert float(law.mean) == pytest.approx(sum(mean for mean, _ in parts), rel=1e-13)
        assert float(law.variance) == pytest.approx(sum(variance for _, variance in parts), rel=1e-13)
        assert float(law.leading_order) == pytest.approx(5 / 8 + 14 / 5 + 2 / 3, rel=1e-14)
        assert float(law.p_zero) == pytest.approx(1 - (1 - 2**-8) * (1 - 0.8**5), rel=1e-13)
        assert float(law.moment(2)) == pytest.approx((1 + 5 / 8) * (1 + 14 / 5) * (1 + 2 / 3), rel=1e-13)
        assert float(law.moment(1)) == pytest.approx(1, rel=1e-13)

    @pytest.mark.parametrize(
        ("width", "p", "order"), [(400, 0.5, 300.0), (400, 0.01, 40.5), (30, 0.999, 1e3), (5, 1.0, 7.0)]
    )
    def test_high_moments_weigh_the_upper_tail(self, width: int, p: float, order: float) -> None:
        with mpmath.workdps(40):
            chance, half = mpmath.mpf(p), [mpmath.mpf(b) / 2 for b in range(1, width + 1)]
            weights = [mpmath.binomial(width, b) * chance**b * (1 - chance) ** (width - b) for b in range(1, width + 1)]
            powers = [mpmath.gamma(h + order) / mpmath.gamma(h) for h in half]
            expected = mpmath.log(mpmath.fdot(weights, powers)) + order * mpmath.log(2 / (chance * width))
        found = ChiProduct([(width, p)]).log_mean_power(order)
        assert found == pytest.approx(float(expected), rel=1e-13)
        moment = log_norm_statistics([1, width], p).moment(order)
        assert float(moment) == pytest.approx(math.exp(found) if found < 709 else math.inf)

    def test_a_mask_that_almost_never_opens(self) -> None:
        law = log_norm_statistics([4, 6, 6], p=1e-100)
        one = mpmath.digamma(0.5) + mpmath.log(2) - mpmath.log(6e-100)
        assert float(law.mean) == pytest.approx(float(2 * one), rel=1e-14)
        assert float(law.variance) == pytest.approx(math.pi**2, rel=1e-14)
        assert float(law.p_zero) == 1
        assert float(law.moment(1)) == pytest.approx(1, rel=1e-12)


def mixture(width: int, p: float, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Density and distribution of log(χ²_B / (p n)) given B ≥ 1 from SciPy's χ² and binomial."""
    count = np.arange(1, width + 1)
    weights = stats.binom.pmf(count, width, p) / stats.binom.sf(0, width, p)
    x = (y.exp() * p * width).numpy()[:, None]
    return x[:, 0] * (stats.chi2.pdf(x, count) @ weights), stats.chi2.cdf(x, count) @ weights


class TestDistribution:
    @pytest.mark.parametrize(("width", "p"), [(1, 1), (1, 0.5), (2, 0.5), (5, 0.03), (30, 0.5), (300, 1), (2000, 0.5)])
    def test_one_layer_is_a_mixture_of_chi_squares(self, width: int, p: float) -> None:
        law = log_norm_statistics([3, width], p)
        scale = law.variance.sqrt()
        y = law.mean + scale * torch.linspace(-12, 8, 201, dtype=F64)
        density, distribution = mixture(width, p, y)
        assert (law.density(y) * scale).numpy() == pytest.approx(density * float(scale), abs=1e-12)
        assert law.cdf(y).numpy() == pytest.approx(distribution, abs=1e-13)
        u = torch.tensor([1e-9, 1e-3, 0.3, 0.5, 0.99, 1 - 1e-9], dtype=F64)
        assert mixture(width, p, law.quantile(u))[1] == pytest.approx(u.numpy(), abs=1e-13)

    def test_two_layers_are_the_convolution(self) -> None:
        first, second = log_norm_statistics([3, 2], 0.7), log_norm_statistics([2, 4], 1)
        both, steps = log_norm_statistics([3, 2, 4], [0.7, 1]), torch.linspace(-60, 10, 7001, dtype=F64)
        for y in (-6.0, -1.5, 0.0, 1.7):
            product = first.density(steps) * second.density(y - steps)
            assert float(both.density(y)) == pytest.approx(float(torch.trapezoid(product, steps)), rel=1e-11)

    @settings(max_examples=15)
    @given(
        widths=st.lists(st.integers(1, 40), min_size=2, max_size=12),
        p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    )
    def test_density_has_the_moments_and_quantiles_invert(self, widths: list[int], p: float) -> None:
        law = log_norm_statistics(widths, p)
        y = law.mean + law.variance.sqrt() * torch.linspace(-60, 15, 3001, dtype=F64)
        density = law.density(y)
        assert float(torch.trapezoid(density, y)) == pytest.approx(1, abs=1e-9)
        mean, scale = torch.trapezoid(density * y, y), float(law.variance + 1)
        assert float(mean) == pytest.approx(float(law.mean), abs=1e-9 * scale)
        grown = torch.trapezoid(density * (y / 2).exp(), y) * (1 - law.p_zero)
        assert float(grown) == pytest.approx(float(law.moment(0.5)), rel=1e-8, abs=1e-12)
        u = torch.tensor([1e-6, 0.2, 0.7, 1 - 1e-6], dtype=F64)
        torch.testing.assert_close(law.cdf(law.quantile(u)), u, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("widths", [[2] * 10_001, [10**6] * 101, [3, 1, 10**6, 7]])
    def test_deep_wide_and_mixed(self, widths: list[int]) -> None:
        law = log_norm_statistics(widths)
        u = torch.tensor([1e-6, 0.02275013194817921, 0.5, 0.9772498680518208], dtype=F64)
        torch.testing.assert_close(law.cdf(law.quantile(u)), u, rtol=0, atol=1e-12)
        if len(widths) > 100:  # the central limit: quantiles of two standard deviations, and Fisher's skew
            standard = (law.quantile(u[1:]) - law.mean) / law.variance.sqrt()
            assert standard.tolist() == pytest.approx([-2, 0, 2], abs=0.05)

    def test_ends_shapes_and_types(self) -> None:
        law = log_norm_statistics([5, 5])
        assert law.cdf([-math.inf, -1e300, 1e300, math.inf]).tolist() == [0, 0, 1, 1]
        assert law.density([-math.inf, 1e300]).tolist() == [0, 0]
        assert law.quantile([0, 1]).tolist() == [-math.inf, math.inf]
        assert float(law.cdf(law.quantile(1 - 1e-9))) == pytest.approx(1 - 1e-9, abs=1e-13)
        assert law.cdf(torch.zeros(0, 3)).shape == (0, 3)
        assert law.density(torch.zeros(2, 3, dtype=torch.float16)).dtype == F64
        many = law.cdf(torch.linspace(-5, 3, 5000, dtype=F64).repeat(2, 1))
        torch.testing.assert_close(many[0], many[1], rtol=0, atol=1e-14)
        assert bool((many[0].diff() >= -1e-14).all())

    @pytest.mark.parametrize(("of", "message"), [
        (lambda law: law.density(math.nan), "y holds nan; pass numbers"),
        (lambda law: law.cdf([0.0, math.nan]), "y holds nan; pass numbers"),
        (lambda law: law.quantile([0.5, 1.1]), r"u holds 1.1; pass numbers in \[0, 1\]"),
        (lambda law: law.quantile(math.nan), "u holds nan"),
        (lambda law: law.moment(0), "order=0; a positive number up to 1e6 would do"),
    ])  # fmt: skip
    def test_bad_arguments(self, of: Callable[[finite_width.LogNorm], Tensor], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            of(log_norm_statistics([5, 5]))


@pytest.mark.statistical
@pytest.mark.parametrize(("widths", "p"), [([6, 5, 9, 4], 0.5), ([4, 3, 8], 0.25), ([5, 7, 3], 1.0)])
def test_the_law_is_that_of_simulated_products(widths: list[int], p: float) -> None:
    samples = 20_000
    squares, law = simulate(widths, p, samples), log_norm_statistics(widths, p)
    y = squares[squares > 0].log()
    zero = float(law.p_zero)
    assert abs(1 - len(y) / samples - zero) <= 4 * math.sqrt(zero * (1 - zero) / samples)
    assert stats.kstest(y.numpy(), lambda x: law.cdf(torch.from_numpy(x)).numpy()).pvalue > 1e-3
    assert abs(y.mean() - law.mean) < 4 * (law.variance / len(y)).sqrt()
    length = squares.sqrt() * math.sqrt(widths[-1] / widths[0])
    expected = finite_width.expected_length_ratio(widths, p)
    assert abs(length.mean() - expected) < 4 * length.std() / math.sqrt(samples)


class TestLengthRatio:
    def test_one_layer_by_quadrature(self) -> None:
        chances = [mpmath.binomial(7, b) / 2**7 for b in range(8)]
        halves = [mpmath.mpf(b) / 2 for b in range(1, 8)]
        roots = [mpmath.sqrt(2) * mpmath.gamma(h + 0.5) / mpmath.gamma(h) for h in halves]
        ratio = mpmath.fdot(chances[1:], roots) * mpmath.sqrt(2 / mpmath.mpf(7))
        widths = [7] * 4
        assert float(finite_width.expected_length_ratio(widths)) == pytest.approx(float(ratio**3), rel=1e-14)

    @given(width=st.integers(1, 500), depth=st.integers(1, 50))
    def test_relu_networks_do_not_stretch(self, width: int, depth: int) -> None:
        assert 0 < float(finite_width.expected_length_ratio([width] * (depth + 1))) < 1

    def test_wide_networks_follow_the_exponential(self) -> None:
        ratio = finite_width.expected_length_ratio([2000] * 101)
        assert float(ratio) == pytest.approx(math.exp(-5 * 100 / (8 * 2000)), rel=1e-4)

    def test_widths_that_change_scale_the_length(self) -> None:
        ratio = finite_width.expected_length_ratio([100_000, 100_000, 400_000], p=1)
        assert float(ratio) == pytest.approx(2, rel=1e-5)


class TestLeadingOrder:
    @pytest.mark.parametrize(("tolerance", "p"), [(0.05, 0.5), (0.2, 0.5), (1.0, 0.5), (0.05, 1), (0.3, 0.1)])
    def test_the_least_width_from_which_on_it_holds(self, tolerance: float, p: float) -> None:
        far = [0]
        for n in range(1, 400):
            law = log_norm_statistics([1, n], p)
            ratios = law.mean / (-law.leading_order / 2), law.variance / law.leading_order
            if max(abs(float(ratio) - 1) for ratio in ratios) > tolerance:
                far.append(n)
        assert finite_width.width_for_leading_order(tolerance, p) == far[-1] + 1

    def test_it_does_not_depend_on_depth(self) -> None:
        law = log_norm_statistics([79] * 51)
        assert 0.049 < float(law.variance / law.leading_order) - 1 <= 0.05


class TestLyapunov:
    @pytest.mark.parametrize("width", [1, 3, 50])
    def test_they_sum_to_the_mean_log_determinant(self, width: int) -> None:
        exponents = finite_width.lyapunov_exponents(width, sigma_w=1.7)
        assert bool((exponents.diff() < 0).all())
        logs = [mpmath.log(2 / mpmath.mpf(width)) + mpmath.digamma(mpmath.mpf(i) / 2) for i in range(1, width + 1)]
        expected = width * math.log(1.7) + float(mpmath.fsum(logs)) / 2
        assert float(exponents.sum()) == pytest.approx(expected, rel=1e-13)

    @pytest.mark.statistical
    def test_they_are_not_log_singular_values(self) -> None:
        """Sums over all directions agree, the largest alone does not: s_1 picks its direction afterwards."""
        generator = torch.Generator().manual_seed(0)
        depth, samples, n = 8, 3000, 3
        product = torch.eye(n, dtype=F64).expand(samples, n, n)
        for _ in range(depth):
            product = torch.randn(samples, n, n, generator=generator, dtype=F64) / math.sqrt(n) @ product
        logs = torch.linalg.svdvals(product).log()
        beyond = logs - depth * finite_width.lyapunov_exponents(n)
        error = beyond.std(0) / math.sqrt(samples)
        assert abs(beyond.sum(1).mean()) < 4 * beyond.sum(1).std() / math.sqrt(samples)
        assert beyond[:, 0].mean() > 0.3 + 4 * error[0]
        assert beyond[:, -1].mean() < -0.3 - 4 * error[-1]


class TestBreakpoints:
    @pytest.mark.statistical
    def test_a_segment_in_the_plane(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x0, x1, n, samples = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.5, -0.2]]), 40, 20_000
        W = torch.randn(samples, n, 3, generator=generator) * 1.5 / math.sqrt(3)
        b = torch.randn(samples, n, generator=generator) * 0.7
        kinks = ((W @ x0[0] + b) * (W @ x1[0] + b) < 0).sum(1).double()
        expected = finite_width.expected_breakpoints(x0, x1, n, 1.5, 0.7)
        assert abs(kinks.mean() - expected) < 4 * kinks.std() / math.sqrt(samples)

    def test_without_bias_only_directions_count(self) -> None:
        x0 = torch.tensor([[0.0, 0.0], [1e-200, 0.0], [1.0, 1.0], [-2.0, 0.0]], dtype=F64)
        x1 = torch.tensor([[1.0, 2.0], [0.0, 1e-200], [3.0, 3.0], [5.0, 0.0]], dtype=F64)
        found = finite_width.expected_breakpoints(x0, x1, 10, 1.0, 0.0)
        assert found.tolist() == pytest.approx([0, 5, 0, 10], abs=1e-14)

    def test_pieces_of_a_segment_add_up(self) -> None:
        ends = torch.linspace(-4, 3, 8, dtype=F64)[:, None] * torch.tensor([1.0, 2.0], dtype=F64) + 0.3
        pieces = finite_width.expected_breakpoints(ends[:-1], ends[1:], 10, 1.3, 0.2)
        whole = finite_width.expected_breakpoints(ends[:1], ends[-1:], 10, 1.3, 0.2)
        assert float(pieces.sum()) == pytest.approx(float(whole), rel=1e-13)


ONE = torch.ones(1, 2)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: log_norm_statistics(10), TypeError, r"widths=10; a sequence \(n_0, …, n_d\) of whole numbers would do"),
    (lambda: log_norm_statistics([10]), ValueError, "widths has 1 entries; at least one layer"),
    (lambda: log_norm_statistics([3, 0]), ValueError, "widths holds 0; numbers from 1 to 10⁹ would do"),
    (lambda: log_norm_statistics([3, 2.5]), TypeError, "widths holds 2.5; whole numbers would do"),
    (lambda: log_norm_statistics([3, True]), TypeError, "widths holds True; whole numbers would do"),
    (lambda: log_norm_statistics([3, 3], p=0), ValueError, r"p=0; probabilities in \(0, 1\], at least 1e-100"),
    (lambda: log_norm_statistics([3, 3], p=math.nan), ValueError, "p=nan; probabilities"),
    (lambda: log_norm_statistics([3, 3], p=[0.5, 0.5]), ValueError, "p has 2 entries for 1 layers; one number, or one"),
    (lambda: log_norm_statistics([3, 3], p="relu"), TypeError, "p='relu'; a probability, or a sequence"),
    (lambda: finite_width.expected_length_ratio([3, -1]), ValueError, "widths holds -1"),
    (lambda: finite_width.width_for_leading_order(0), ValueError, "tolerance=0; a number between 1e-6 and 10"),
    (lambda: finite_width.width_for_leading_order(p=2), ValueError, "p=2; probabilities"),
    (lambda: finite_width.lyapunov_exponents(0), ValueError, "width holds 0; numbers from 1"),
    (lambda: finite_width.lyapunov_exponents(3, sigma_w=-1), ValueError, "sigma_w=-1; a positive number would do"),
    (lambda: finite_width.expected_breakpoints(ONE, ONE[0], 5, 1, 1), ValueError, r"shapes \(1, 2\) and \(2,\); both"),
    (lambda: finite_width.expected_breakpoints(ONE, ONE, 5, 1, -1), ValueError, "sigma_b=-1; a number ≥ 0 would do"),
    (lambda: finite_width.expected_breakpoints(ONE, ONE, 5, 0, 1), ValueError, "sigma_w=0; a positive number"),
    (lambda: finite_width.expected_breakpoints(ONE, math.nan * ONE, 5, 1, 1), ValueError, "x0 or x1 holds nan or inf"),
])  # fmt: skip
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("size", "sigma_w"), [(5e-324, 1e-10), (1e30, 1e300)])
def test_breakpoints_without_biases_know_no_scale(size: float, sigma_w: float) -> None:
    x = torch.tensor([[size]], dtype=torch.float64)
    assert finite_width.expected_breakpoints(x, -x, 10, sigma_w, 0.0).item() == pytest.approx(10)


def test_widths_of_rare_units_are_refused() -> None:
    with pytest.raises(ValueError, match="p=1e-100; a probability of at least 1e-6"):
        finite_width.width_for_leading_order(0.05, 1e-100)
