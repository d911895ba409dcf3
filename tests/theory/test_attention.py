"""Collapse of tokens: closed forms against recursions, simulation, real attention layers, particles and SciPy."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from torch import Tensor

from labkit.theory import attention

F64 = torch.float64
REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/attention.json").read_text())


class TestUniformAttention:
    @pytest.mark.parametrize("case", REFERENCE["uniform_attention"], ids=lambda case: f"{case['attention']}")
    def test_reference(self, case: dict[str, Any]) -> None:
        n, depth, a_1, a_2 = (case[name] for name in ("tokens", "depth", "attention", "mlp"))
        sum_0 = case["sum_square"] / ((1 + a_1) * (1 + a_2)) ** depth
        norm_0 = case["norm_square"] / (1 + a_2) ** depth - sum_0 / n * ((1 + a_1) ** depth - 1)
        rho_0 = (sum_0 - norm_0) / ((n - 1) * norm_0)
        found = attention.uniform_attention(n, depth, a_1, a_2, correlation=rho_0)
        assert float(found.sum_square) == pytest.approx(case["sum_square"] / norm_0, rel=1e-12)
        assert float(found.norm_square) == pytest.approx(case["norm_square"] / norm_0, rel=1e-12)
        assert float(found.correlation) == pytest.approx(case["correlation"], rel=1e-9)
        assert float(found.correlation) == pytest.approx(case["simulated_correlation"], abs=5e-3)
        orthogonal = attention.uniform_attention(n, depth, a_1, a_2)
        assert float(orthogonal.correlation) == pytest.approx(case["correlation_from_orthonormal"], rel=1e-12)

    @given(
        n=st.integers(2, 50), depth=st.integers(0, 30), a_1=st.floats(0, 3), a_2=st.floats(0, 3),
        skip=st.floats(0.01, 2), rho=st.floats(0, 1),
    )  # fmt: skip
    def test_is_the_recursion(self, n: int, depth: int, a_1: float, a_2: float, skip: float, rho: float) -> None:
        sums, norms = 1 + (n - 1) * rho, 1.0
        for _ in range(depth):
            sums, norms = (skip**2 + a_1) * sums, skip**2 * norms + a_1 * sums / n
            sums, norms = (skip**2 + a_2) * sums, (skip**2 + a_2) * norms
        found = attention.uniform_attention(n, depth, a_1, a_2, skip, rho)
        assert float(found.sum_square) == pytest.approx(sums, rel=1e-11)
        assert float(found.norm_square) == pytest.approx(norms, rel=1e-11)
        assert float(found.correlation) == pytest.approx((sums / norms - 1) / (n - 1), rel=1e-9, abs=1e-11)

    @pytest.mark.statistical
    @pytest.mark.parametrize(("skip", "a_2"), [(1.0, 0.2), (0.6, None)])
    def test_is_the_mean_of_simulated_layers(self, skip: float, a_2: float | None) -> None:
        generator = torch.Generator().manual_seed(0)
        samples, n, d, depth, a_1 = 4000, 5, 4, 3, 0.7
        tokens = torch.randn(n, d, generator=generator, dtype=F64)
        norm = tokens.square().sum()
        rho = (tokens.sum(0).square().sum() / norm - 1) / (n - 1)
        x = tokens.expand(samples, n, d)
        for _ in range(depth):
            W, V = torch.randn(2, samples, d, d, generator=generator, dtype=F64) / math.sqrt(d)
            x = skip * x + math.sqrt(a_1) * x.mean(1, keepdim=True) @ W
            x = x if a_2 is None else skip * x + math.sqrt(a_2) * x @ V
        expected = attention.uniform_attention(n, depth, a_1, a_2, skip, rho)
        sums, norms = x.sum(1).square().sum(1) / norm, x.square().sum((1, 2)) / norm
        assert abs(sums.mean() - expected.sum_square) < 4 * sums.std() / math.sqrt(samples)
        assert abs(norms.mean() - expected.norm_square) < 4 * norms.std() / math.sqrt(samples)

    def test_without_skips_one_layer_collapses(self) -> None:
        found = attention.uniform_attention(8, [0, 1, 2], attention=1.0, skip=0.0, correlation=0.3)
        assert found.correlation.tolist() == pytest.approx([0.3, 1, 1])
        assert found.norm_square.tolist() == pytest.approx([1, (1 + 7 * 0.3) / 8, (1 + 7 * 0.3) / 8])

    def test_depth_without_end_neither_overflows_nor_lies(self) -> None:
        deep = attention.uniform_attention(8, 10**7, 1.0)
        assert (float(deep.norm_square), float(deep.correlation)) == (math.inf, 1)
        nothing = attention.uniform_attention(8, 2, 0.0, skip=0.0)
        assert (float(nothing.norm_square), math.isnan(float(nothing.correlation))) == (0, True)
        opposed = attention.uniform_attention(2, 5, 0.3, correlation=-1.0)
        assert (float(opposed.sum_square), float(opposed.correlation)) == (0, -1)

    def test_scaled_branches_have_the_limit(self) -> None:
        alpha, depth = torch.tensor([0.3, 1.0, 2.0, -1.0], dtype=F64), 10**6
        limit = attention.uniform_attention_limit(8, alpha, 0.1)
        found = attention.uniform_attention(8, depth, alpha.square() / depth, correlation=0.1).correlation
        torch.testing.assert_close(found, limit, rtol=2e-5, atol=0)
        orthogonal = attention.uniform_attention_limit(8, alpha)
        torch.testing.assert_close(orthogonal, alpha.square().expm1() / (7 + alpha.square().exp()))

    def test_grids_broadcast_and_differentiate(self) -> None:
        found = attention.uniform_attention(torch.tensor([[4], [9]]), torch.arange(3), 0.5)
        assert found.correlation.shape == (2, 3)
        assert float(found.correlation[1, 2]) == float(attention.uniform_attention(9, 2, 0.5).correlation)
        a_1 = torch.tensor(0.5, dtype=F64, requires_grad=True)
        attention.uniform_attention(9, 4, a_1).correlation.backward()
        ends = [attention.uniform_attention(9, 4, 0.5 + step).correlation for step in (1e-6, -1e-6)]
        assert float(a_1.grad) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-7)


def layer(x: Tensor, query_key: Tensor, value: Tensor) -> Tensor:
    """The differences between tokens after a real attention layer without skip, heads summed."""
    out = sum(torch.softmax(x @ Q @ x.mT, -1) @ x @ V for Q, V in zip(query_key, value, strict=True))
    return out - out.mean(1, keepdim=True)


class TestNearRankOne:
    def setup_method(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.common = torch.randn(2, 1, 6, generator=generator, dtype=F64)
        self.apart = torch.randn(2, 5, 6, generator=generator, dtype=F64)
        self.query_key = torch.randn(3, 6, 6, generator=generator, dtype=F64)
        self.value = torch.randn(3, 6, 6, generator=generator, dtype=F64)

    @pytest.mark.parametrize("scale", [0.0, 1.0])
    def test_a_real_layer_agrees_to_the_fifth_order(self, scale: float) -> None:
        missed, sizes = [], []
        for step in (2e-2, 1e-2):
            x = scale * self.common + step * self.apart
            real = layer(x, self.query_key, self.value)
            missed.append(float((attention.attention_near_rank_one(x, self.query_key, self.value) - real).norm()))
            sizes.append(float(real.norm()))
        assert missed[1] < 0.1 * sizes[1]
        assert 25 < missed[0] / missed[1] < 40  # 2⁵

    def test_a_large_common_token_may_tilt_the_weights(self) -> None:
        x, query_key = 300 * self.common + 1e-3 * self.apart, self.query_key
        tilt = torch.softmax(x.mean(1, keepdim=True) @ query_key[0] @ x.mT, -1)
        assert float(tilt.max()) > 0.4
        found, real = attention.attention_near_rank_one(x, query_key, self.value), layer(x, query_key, self.value)
        assert float((found - real).norm() / real.norm()) < 1e-4

    def test_the_cube_of_the_reference(self) -> None:
        steps = (1e-2, 1e-3)
        sizes = [float(layer(self.common + step * self.apart, self.query_key, self.value).norm()) for step in steps]
        slope = math.log(sizes[0] / sizes[1]) / math.log(10)
        assert slope == pytest.approx(3, abs=0.05)
        assert REFERENCE["cubic_exponent"] == pytest.approx(slope, abs=0.05)
        x = [self.common + step * self.apart for step in (2e-9, 1e-9)]
        found = [attention.attention_near_rank_one(tokens, self.query_key, self.value).norm() for tokens in x]
        assert float(found[0] / found[1]) == pytest.approx(8, rel=1e-6)

    def test_one_head_needs_no_axis_of_heads(self) -> None:
        x = self.common + 0.1 * self.apart
        alone = attention.attention_near_rank_one(x, self.query_key[0], self.value[0])
        torch.testing.assert_close(alone, attention.attention_near_rank_one(x, self.query_key[:1], self.value[:1]))

    def test_identical_tokens_give_queries_no_gradient(self) -> None:
        query_key, value = self.query_key.requires_grad_(), self.value.requires_grad_()
        probe = torch.ones_like(self.apart).cumsum(1)
        for step, share in ((0.0, 0.0), (1e-3, 1e-4)):
            x = self.common + step * self.apart
            out = sum(torch.softmax(x @ Q @ x.mT, -1) @ x @ V for Q, V in zip(query_key, value, strict=True))
            on_queries, on_values = torch.autograd.grad((probe * out).sum(), (query_key, value))
            assert float(on_queries.norm() / on_values.norm()) <= max(1e-15, 30 * share)
            assert float(on_values.norm()) > 1
        assert REFERENCE["query_gradient"] == 0
        found = attention.attention_near_rank_one(self.common.expand(2, 5, 6), query_key, value)
        assert float(found.detach().abs().max()) < 1e-30


class TestCollapseBound:
    @given(
        size=st.floats(0.01, 2), depth=st.integers(0, 4), beta=st.floats(0.1, 3), heads=st.integers(1, 4),
        d_qk=st.integers(1, 64), gamma=st.floats(0.5, 2),
    )  # fmt: skip
    def test_cubes_a_layer(self, size: float, depth: int, beta: float, heads: int, d_qk: int, gamma: float) -> None:
        factor, bound = 4 * gamma * beta * heads / math.sqrt(d_qk), math.log(size)
        for _ in range(depth):
            bound = math.log(factor) + 3 * bound
        found = attention.collapse_bound(size, depth, beta, d_qk, heads, gamma)
        assert float(found.log_residual) == pytest.approx(bound, rel=1e-10, abs=1e-9)
        closed = (3**depth - 1) / 2 * math.log(factor) + 3**depth * math.log(size)
        assert float(found.log_residual) == pytest.approx(closed, rel=1e-10, abs=1e-9)
        if abs(factor * size**2 - 1) > 1e-12:
            assert bool(found.contracts) == (factor * size**2 < 1)

    def test_ends(self) -> None:
        found = attention.collapse_bound([0.0, 0.1, 0.5, 1.0], [3, 10**6, 10**6, 10**6], 1.0, 16)
        assert found.log_residual.tolist() == [-math.inf, -math.inf, -math.inf, 0.0]
        assert found.contracts.tolist() == [True, True, True, False]

    def test_a_small_residual_obeys_it(self) -> None:
        """With γ = 1, on single heads with tokens so alike that the theorem's expansion holds."""
        generator = torch.Generator().manual_seed(1)

        def size(residual: Tensor) -> float:
            return math.sqrt(residual.abs().sum(0).max() * residual.abs().sum(1).max())

        for _ in range(20):
            common, apart = torch.randn(6, 6, generator=generator, dtype=F64).split([1, 5])
            x = common + 0.02 * apart
            Q, V = torch.randn(2, 6, 6, generator=generator, dtype=F64)
            beta = float(Q.abs().sum(0).max()) * size(V)
            after = layer(x[None], Q[None] / math.sqrt(6), V[None])[0]
            bound = attention.collapse_bound(size(x - x.mean(0)), 1, beta, 6)
            assert math.log(size(after)) < float(bound.log_residual)


def particles(n: int, beta: float, rho: float, time: float, steps: int) -> Tensor:
    """Pairwise cosines of n tokens that start at cosine rho, by Runge–Kutta on the sphere."""
    gram = torch.full((n, n), rho, dtype=F64).fill_diagonal_(1.0)
    x = torch.linalg.cholesky(gram)

    def velocity(x: Tensor) -> Tensor:
        drift = torch.softmax(beta * x @ x.mT, -1) @ x
        return drift - (drift * x).sum(1, keepdim=True) * x

    h = time / steps
    for _ in range(steps):
        k_1 = velocity(x)
        k_2 = velocity(x + h / 2 * k_1)
        k_3 = velocity(x + h / 2 * k_2)
        x = x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + velocity(x + h * k_3))
    return (x @ x.mT)[torch.triu(torch.ones(n, n), 1) > 0]


class TestClustering:
    def test_reference(self) -> None:
        case = REFERENCE["clustering"]
        found = attention.equiangular_cosine(case["time"], case["tokens"], case["beta"], case["start"])
        assert found.tolist() == pytest.approx(case["cosine"], abs=6e-7)

    @pytest.mark.parametrize(("n", "beta", "rho", "time"), [(8, 2.0, 0.0, 3.0), (4, 0.0, -0.3, 1.0), (3, 6.0, 0.2, 4)])
    def test_particles(self, n: int, beta: float, rho: float, time: float) -> None:
        cosines = particles(n, beta, rho, time, 400)
        expected = float(attention.equiangular_cosine(time, n, beta, rho))
        assert cosines.tolist() == pytest.approx([expected] * len(cosines), abs=1e-8)

    @settings(max_examples=20)
    @given(n=st.integers(2, 200), beta=st.floats(0, 8), start=st.floats(-0.95, 0.95), time=st.floats(0.01, 20))
    def test_scipy_integrates_the_same(self, n: int, beta: float, start: float, time: float) -> None:
        rho = start if start > 0 else start / (n - 1)

        def speed(_: float, y: Any) -> list[float]:
            return [float(attention.equiangular_speed(min(max(y[0], -1 / (n - 1)), 1.0), n, beta))]

        solved = solve_ivp(speed, (0, time), [rho], method="DOP853", rtol=1e-11, atol=1e-12).y[0, -1]
        assert float(attention.equiangular_cosine(time, n, beta, rho)) == pytest.approx(solved, abs=1e-8)

    @given(n=st.integers(2, 10**6), beta=st.floats(0, 6), start=st.floats(-0.9, 0.9), end=st.floats(0.91, 1 - 1e-9))
    def test_time_is_the_integral_and_cosine_its_inverse(self, n: int, beta: float, start: float, end: float) -> None:
        rho = start if start > 0 else start / (n - 1)

        def place(cosine: float) -> float:
            return math.log1p((n - 1) * cosine) - math.log1p(-cosine)

        def slowness(s: float) -> float:
            return (n - 1 + math.exp(beta * n / (n - 1 + math.exp(s)))) / (2 * n)

        edges = [place(rho) + k / 10 * (place(end) - place(rho)) for k in range(11)]
        pieces = [quad(slowness, *pair, epsabs=0, epsrel=1e-12)[0] for pair in itertools.pairwise(edges)]
        expected = math.fsum(pieces)
        time = attention.equiangular_time(end, n, beta, rho)
        assert float(time) == pytest.approx(expected, rel=1e-10)
        assert float(attention.equiangular_cosine(time, n, beta, rho)) == pytest.approx(end, abs=1e-9)

    @pytest.mark.parametrize("step", [1e-12, 1e-8, 1e-4])
    def test_short_times_do_not_cancel(self, step: float) -> None:
        start = torch.tensor([0.0, 0.5, -0.1], dtype=F64)
        taken = (start + step) - start
        time = attention.equiangular_time(start + step, 8, 6.0, start)
        middle = attention.equiangular_speed(start + taken / 2, 8, 6.0)
        torch.testing.assert_close(time, taken / middle, rtol=max(200 * step**2, 1e-13), atol=0)

    def test_fixed_points_and_ends(self) -> None:
        low = -1 / 7
        assert attention.equiangular_cosine(5.0, 8, 2.0, [low, 1.0]).tolist() == [low, 1.0]
        assert attention.equiangular_time([1.0, 1.0, 0.2, low, 0.0], 8, 2.0, [0.2, 1.0, 0.2, low, low]).tolist() == [
            math.inf, 0, 0, 0, math.inf,
        ]  # fmt: skip
        assert attention.equiangular_speed([low, 1.0], 8, 2.0).tolist() == pytest.approx([0, 0], abs=1e-16)
        assert attention.equiangular_cosine([0.0, 1e6, 1e308], 8, 2.0, 0.3).tolist() == [0.3, 1.0, 1.0]

    def test_float32_reaches_the_lower_end(self) -> None:
        low = torch.tensor(-1 / 3)  # rounds to less
        assert float(attention.equiangular_cosine(5.0, 4, 1.0, low)) == -1 / 3
        assert float(attention.uniform_attention(4, 3, 0.5, correlation=low).sum_square) == 0

    def test_cold_attention_waits_exponentially(self) -> None:
        time = attention.equiangular_time(0.9, 2, [100.0, 300.0])
        assert (time * 2 * torch.tensor([100.0, 300.0])).log().tolist() == pytest.approx([100, 300], abs=0.02)
        assert attention.equiangular_cosine(0.999 * time, 2, [100.0, 300.0]).max() < 0.1

    def test_grids_broadcast_and_inputs_may_track_gradients(self) -> None:
        time, beta = torch.linspace(0, 5, 6)[:, None], torch.tensor([0.0, 1.0, 5.0], requires_grad=True)
        found = attention.equiangular_cosine(time, 8, beta)
        assert found.shape == (6, 3)
        assert not found.requires_grad
        assert float(found[4, 2]) == float(attention.equiangular_cosine(4.0, 8, 5.0))
        assert attention.equiangular_time(found, 8, beta)[1:].sub(time.double()[1:]).abs().max() < 1e-12
        assert attention.equiangular_cosine(torch.zeros(0, 2), 8, 1.0).shape == (0, 2)


X, EYE = torch.ones(1, 3, 2), torch.eye(2)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: attention.uniform_attention(1, 2, 1.0), "tokens holds 1; pass whole numbers of at least 2"),
    (lambda: attention.uniform_attention(2.5, 2, 1.0), "tokens holds 2.5; pass whole numbers"),
    (lambda: attention.uniform_attention(3, -1, 1.0), "depth holds -1; pass finite numbers ≥ 0"),
    (lambda: attention.uniform_attention(3, math.inf, 1.0), "depth holds inf; pass finite numbers ≥ 0"),
    (lambda: attention.uniform_attention(3, 1.5, 1.0), "depth holds 1.5; pass whole numbers"),
    (lambda: attention.uniform_attention(3, 1, -torch.ones(2, requires_grad=True)), "attention holds -1"),
    (lambda: attention.uniform_attention(3, 1, [-0.1, 1.0]), "attention holds -0.1; pass finite numbers"),
    (lambda: attention.uniform_attention(3, 1, 1.0, mlp=-1.0), "mlp holds -1; pass finite numbers ≥ 0"),
    (lambda: attention.uniform_attention(3, 1, 1.0, skip=math.nan), "skip holds nan; pass finite numbers"),
    (lambda: attention.uniform_attention(3, 1, 1.0, correlation=-0.6), "correlation holds -0.6; pass cos"),
    (lambda: attention.uniform_attention(3, [1, 2], [1.0, 1.0, 1.0]), r"shapes \(2,\) of depth and \(3,\) of att"),
    (lambda: attention.uniform_attention_limit(3, 1.0, 1.1), "correlation holds 1.1"),
    (lambda: attention.attention_near_rank_one(X[0], EYE, EYE), r"shapes \(3, 2\), \(2, 2\) and \(2, 2\); \(B, n, d\)"),
    (lambda: attention.attention_near_rank_one(X, EYE, EYE[None]), r"\(2, 2\) and \(1, 2, 2\); \(B, n, d\) and twice"),
    (lambda: attention.collapse_bound(-1.0, 1, 1.0, 4), "residual holds -1; pass finite numbers ≥ 0"),
    (lambda: attention.collapse_bound(1.0, 1, 0.0, 4), "beta holds 0; pass positive numbers"),
    (lambda: attention.equiangular_speed(0.0, 3, -1.0), r"beta holds -1; pass numbers in \[0, 300\]"),
    (lambda: attention.equiangular_speed(1.2, 3, 1.0), "cosine holds 1.2; pass cosines between"),
    (lambda: attention.equiangular_time(0.1, 3, 1.0, start=0.2), "cosine holds 0.1; pass cosines of at"),
    (lambda: attention.equiangular_cosine(-1.0, 3, 1.0), "time holds -1; pass numbers ≥ 0"),
    (lambda: attention.equiangular_cosine(1.0, 3, 1.0, start=-0.7), "start holds -0.7; pass cosines between"),
])  # fmt: skip
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [8, 50, 99, 104])
def test_tokens_that_sum_to_zero_never_collapse(n: int) -> None:
    least = -1 / (n - 1)
    found = attention.uniform_attention(n, 2000, 1.0, correlation=least).correlation
    assert found.item() == pytest.approx(least, rel=1e-12)
    assert attention.uniform_attention_limit(n, 1e10, least).item() == pytest.approx(least, rel=1e-12)


def test_near_rank_one_wants_one_floating_dtype() -> None:
    eye = torch.eye(2)
    with pytest.raises(TypeError, match=r"x, query_key and value are torch\.int64"):
        attention.attention_near_rank_one(torch.ones(1, 3, 2, dtype=torch.int64), eye, eye)
    with pytest.raises(ValueError, match=r"\(d, d\) or \(H, d, d\) would do"):
        attention.attention_near_rank_one(torch.ones(1, 3, 2), eye.expand(2, 2, 2, 2), eye.expand(2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"depth holds 1\.5; pass whole numbers"):
        attention.collapse_bound(0.1, 1.5, 1.0, 16)
