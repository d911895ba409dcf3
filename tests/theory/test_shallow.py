"""Geometry of a wide random layer: references, Christoffel symbols by differences, random features, wide networks."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labkit.geometry import curvature
from labkit.jets import Jet
from labkit.theory.activations import resolve
from labkit.theory.shallow import shallow_geometry

F64 = torch.float64
CASES = json.loads((Path(__file__).parents[2] / "data/reference/shallow_metric.json").read_text())["cases"]
FIELDS = ("metric", "log_volume", "scalar_curvature")


def scalar_by_differences(metric: Callable[[Tensor], Tensor], x: Tensor, h: float) -> float:
    """R at x (d,) of a metric (m, d) -> (m, d, d), from Christoffel symbols by central differences."""
    d = len(x)
    nodes, first = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=F64), torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=F64) / 12
    steps = h * nodes[:, None, None] * torch.eye(d, dtype=F64)

    def slopes(at: Tensor) -> Tensor:
        """∂_k g_ij at points (m, d), the derivative first."""
        shifted = metric((at[:, None, None] + steps).reshape(-1, d)).reshape(len(at), 4, d, d, d)
        return torch.einsum("s,mskij->mkij", first / h, shifted)

    def christoffel(at: Tensor) -> Tensor:
        """Γ^k_ij at points (m, d)."""
        dg = slopes(at)
        lower = 0.5 * (dg.permute(0, 3, 1, 2) + dg.permute(0, 3, 2, 1) - dg)
        return torch.einsum("mkl,mlij->mkij", torch.linalg.inv(metric(at)), lower)

    gamma = christoffel(x[None])[0]
    around = christoffel((x + steps).reshape(-1, d)).reshape(4, d, d, d, d)
    dgamma = torch.einsum("s,sakij->akij", first / h, around)  # ∂_a Γ^k_ij
    ricci = (
        torch.einsum("kkij->ij", dgamma)
        - torch.einsum("jkki->ij", dgamma)
        + torch.einsum("kkl,lij->ij", gamma, gamma)
        - torch.einsum("kjl,lki->ij", gamma, gamma)
    )
    return float((torch.linalg.inv(metric(x[None])[0]) * ricci).sum())


def random_features(activation: str, x: Tensor, count: int, sigma_w: float, sigma_b: float, seed: int) -> Jet:
    """The jet at x (d,) of φ(Wx + b)/√n with one random draw of n = count features."""
    generator, phi, d = torch.Generator().manual_seed(seed), resolve(activation), len(x)
    W = torch.randn(count, d, generator=generator, dtype=F64) * sigma_w / math.sqrt(d)
    u = (W @ x + sigma_b * torch.randn(count, generator=generator, dtype=F64)).requires_grad_()
    (slope,) = torch.autograd.grad(phi(u).sum(), u, create_graph=True)
    bend = torch.autograd.grad(slope.sum(), u)[0] if slope.requires_grad else torch.zeros_like(u)
    first, second = slope[:, None] * W, bend[:, None, None] * W[:, :, None] * W[:, None, :]
    return Jet(*(part.detach()[None] / math.sqrt(count) for part in (phi(u), first, second)))


class TestReference:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['d']}-{case['sigma']}")
    @pytest.mark.parametrize(
        ("activation", "shrunk"),
        [("erf", 2), (torch.erf, 2), (lambda u: torch.erf(u / math.sqrt(2)), 1)],
        ids=["closed", "quadrature", "scaled"],
    )
    def test_erf(self, case: dict[str, Any], activation: Any, shrunk: int) -> None:
        x, d = torch.tensor([case["x"]], dtype=F64), case["d"]
        found = shallow_geometry(x, activation, case["sigma"] * math.sqrt(d / shrunk), case["zeta"] / math.sqrt(shrunk))
        torch.testing.assert_close(found.metric[0], torch.tensor(case["metric"], dtype=F64), rtol=1e-12, atol=1e-15)
        assert float(found.log_volume.exp()) == pytest.approx(case["sqrt_det_g"], rel=1e-12)
        assert float(found.scalar_curvature) == pytest.approx(case["ricci_scalar"], rel=1e-12)
        assert float(found.scalar_curvature) == pytest.approx(case["scalar_by_differences"], rel=1e-7)


class TestClosedForms:
    @settings(max_examples=15)
    @given(scale=st.floats(1e-8, 1e5), sigma_w=st.floats(0.1, 10), sigma_b=st.floats(0, 3), d=st.integers(1, 6))
    def test_erf_is_its_quadrature_at_every_scale(self, scale: float, sigma_w: float, sigma_b: float, d: int) -> None:
        x = scale * torch.linspace(-1, 2, 3 * d, dtype=F64).reshape(3, d)
        closed = shallow_geometry(x, "erf", sigma_w, sigma_b)
        quadrature = shallow_geometry(x, torch.erf, sigma_w, sigma_b)
        for name in FIELDS:
            expected, found = getattr(closed, name), getattr(quadrature, name)
            near = 1e-11 * float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=near)

    @pytest.mark.parametrize(("name", "mean"), [("relu", 0.5), ("leaky_relu", 0.50005), ("linear", 1.0)])
    def test_piecewise_linear_is_flat(self, name: str, mean: float) -> None:
        x = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [1e4, 0.0, 1.0]], dtype=F64)
        found, by_quadrature = shallow_geometry(x, name, 1.3, 0.2), shallow_geometry(x, resolve(name), 1.3, 0.2)
        flat = 1.69 / 3 * mean * torch.eye(3, dtype=F64).expand(3, 3, 3)
        torch.testing.assert_close(found.metric, flat)
        torch.testing.assert_close(by_quadrature.metric, flat, rtol=1e-12, atol=1e-12)
        assert found.scalar_curvature.tolist() == [0, 0, 0]
        assert float(by_quadrature.scalar_curvature.abs().max()) < 1e-12
        assert found.log_volume.tolist() == pytest.approx([1.5 * math.log(1.69 / 3 * mean)] * 3)

    def test_sine_in_elementary_functions(self) -> None:
        x = torch.tensor([[0.3, -0.5], [1.0, 1.0], [1e-9, 0.0]], dtype=F64)
        s = x.square().sum(1)
        decay = (-2 * (0.5 * s + 0.04)).exp()  # E cos² = (1 + e^(-2v))/2, a = 1/2
        scale, first = 0.25 * (1 + decay), -decay / (1 + decay)
        found = shallow_geometry(x, "sin", 1.0, 0.2)
        outer = x[:, :, None] * x[:, None, :]
        expected = scale[:, None, None] * (torch.eye(2, dtype=F64) + 2 * first[:, None, None] * outer)
        torch.testing.assert_close(found.metric, expected, rtol=1e-12, atol=1e-20)
        second = decay / (1 + decay).square()  # the derivative of -y/(1 + y) with y' = -y
        bracket = 4 * (first + s * second)
        scalar = -s * first / scale / (1 + 2 * s * first).square() * bracket
        torch.testing.assert_close(found.scalar_curvature, scalar, rtol=1e-9, atol=0)


class TestCurvature:
    @pytest.mark.parametrize(
        "activation", ["erf", "tanh", "gelu", "silu", "softplus", "sin", "hardtanh", "elu", "softsign"]
    )
    @pytest.mark.parametrize("x", [(0.7, -0.4), (0.6, 1.0, -0.3)], ids=["plane", "space"])
    def test_is_that_of_the_metric_by_differences(self, activation: str, x: tuple[float, ...]) -> None:
        point = torch.tensor(x, dtype=F64)

        def metric(at: Tensor) -> Tensor:
            return shallow_geometry(at, activation, 1.5, 0.4).metric

        expected = scalar_by_differences(metric, point, 4e-3)
        found = float(shallow_geometry(point[None], activation, 1.5, 0.4).scalar_curvature)
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-8)

    def test_the_difference_route_knows_a_sphere(self) -> None:
        def round_metric(at: Tensor) -> Tensor:
            return 4 / (1 + at.square().sum(1))[:, None, None] ** 2 * torch.eye(at.shape[1], dtype=F64)

        for k in (2, 3):
            point = torch.tensor([0.3, -0.2, 0.5], dtype=F64)[:k]
            assert scalar_by_differences(round_metric, point, 4e-3) == pytest.approx(k * (k - 1), rel=1e-7)

    @pytest.mark.statistical
    @pytest.mark.parametrize("activation", ["erf", "tanh"])
    def test_wide_networks_have_it(self, activation: str) -> None:
        x, seeds = torch.tensor([0.8, -0.5], dtype=F64), 12
        expected = shallow_geometry(x[None], activation, 1.4, 0.6)
        jets = [random_features(activation, x, 100_000, 1.4, 0.6, seed) for seed in range(seeds)]
        metrics = [jet.first.mT @ jet.first for jet in jets]
        scalars = [curvature.scalar_curvature(jet) for jet in jets]
        for seen, law in ((torch.stack(metrics), expected.metric), (torch.stack(scalars), expected.scalar_curvature)):
            assert bool(((seen.mean(0) - law).abs() < 4 * seen.std(0) / math.sqrt(seeds)).all())
            assert float(((seen.mean(0) - law) / law).abs().max()) < 0.05

    def test_a_line_has_none(self) -> None:
        assert shallow_geometry(torch.tensor([[0.7], [-3.0]]), "tanh", 1.5, 0.4).scalar_curvature.tolist() == [0, 0]


class TestMetric:
    @pytest.mark.statistical
    @pytest.mark.parametrize("activation", ["hardtanh", "relu", "gelu"])
    def test_is_the_mean_over_random_features(self, activation: str) -> None:
        count, x = 400_000, torch.tensor([0.9, -1.2], dtype=F64)
        slopes = random_features(activation, x, count, 1.4, 0.6, 0).first[0] * math.sqrt(count)
        samples = slopes[:, :, None] * slopes[:, None, :]
        expected = shallow_geometry(x[None], activation, 1.4, 0.6).metric[0]
        assert bool(((samples.mean(0) - expected).abs() < 4 * samples.std(0) / math.sqrt(count)).all())

    @settings(max_examples=25)
    @given(
        activation=st.sampled_from(["erf", "tanh", "gelu", "hardtanh", "elu", "relu"]),
        scale=st.floats(1e-6, 1e4), sigma_b=st.floats(0, 2), d=st.integers(1, 5),
    )  # fmt: skip
    def test_volume_is_its_determinant(self, activation: str, scale: float, sigma_b: float, d: int) -> None:
        x = scale * torch.linspace(-1, 2, 2 * d, dtype=F64).reshape(2, d)
        found = shallow_geometry(x, activation, 1.5, sigma_b)
        eigenvalues = torch.linalg.eigvalsh(found.metric)
        assert bool((eigenvalues > 0).all())
        accuracy = 1e-14 * float((eigenvalues[:, -1] / eigenvalues[:, 0]).max()) + 1e-12
        torch.testing.assert_close(found.log_volume, eigenvalues.log().sum(1) / 2, rtol=1e-12, atol=accuracy)

    def test_derivative_in_x(self) -> None:
        x = torch.tensor([[0.4, -0.7]], dtype=F64, requires_grad=True)
        for activation in ("erf", "tanh", "hardtanh"):
            for name in ("log_volume", "scalar_curvature"):
                (slope,) = torch.autograd.grad(getattr(shallow_geometry(x, activation, 1.5, 0.4), name).sum(), x)
                along = x.new_tensor([[1.0, 2.0]])
                points = [x.detach() + step * along for step in (1e-5, -1e-5)]
                ends = [getattr(shallow_geometry(point, activation, 1.5, 0.4), name) for point in points]
                assert float((slope * along).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)


class TestEnds:
    @pytest.mark.parametrize("scale", [1e-80, 1e-20, 1e-6])
    def test_near_the_origin_without_bias(self, scale: float) -> None:
        """tanh: E φ'² ≈ 1 - 2v, so that R ≈ -4 (d-1)(d+2) v / a·a at first order."""
        x = torch.tensor([[scale, 0.0, 0.0]], dtype=F64)
        found = shallow_geometry(x, "tanh", math.sqrt(3), 0.0)  # a = 1, v = s
        assert float(found.scalar_curvature) == pytest.approx(-2 * 2 * 5 * 2 * scale**2, rel=1e-9)
        hard = shallow_geometry(x, "hardtanh", math.sqrt(3), 0.0)
        assert float(hard.scalar_curvature) == 0
        torch.testing.assert_close(hard.metric[0], torch.eye(3, dtype=F64))

    def test_a_kink_at_the_origin_leaves_no_curvature_there(self) -> None:
        x = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [1e-3, 0.0]], dtype=F64)
        found = shallow_geometry(x, "elu", 1.0, 0.0)
        assert found.scalar_curvature.isnan().tolist() == [True, True, False]
        assert bool(found.metric.isfinite().all())
        assert not bool(shallow_geometry(x, "elu", 1.0, 0.1).scalar_curvature.isnan().any())

    def test_where_the_metric_vanishes(self) -> None:
        found = shallow_geometry(torch.zeros(1, 2), "cos", 1.0, 0.0)
        assert found.metric.tolist() == [[[0, 0], [0, 0]]]
        assert (float(found.log_volume), math.isnan(float(found.scalar_curvature))) == (-math.inf, True)

    def test_too_fast_oscillations_are_nan_not_noise(self) -> None:
        x = torch.tensor([[1e4, 0.0], [1.0, 0.0]])
        found = shallow_geometry(x, "sin", 1.0, 0.0)
        assert found.log_volume.isnan().tolist() == [True, False]

    def test_modules_and_exponentials(self) -> None:
        """E φ'² of a leaky ReLU of slope ¼ is ½(1 + 1/16); of exp it is e^(2v), so that Ω' = 2a and R follows."""
        x = torch.tensor([[0.3, 0.4]], dtype=F64)
        leaky = shallow_geometry(x, torch.nn.PReLU(), 1.0, 0.1)
        torch.testing.assert_close(leaky.metric[0], 0.5 * 17 / 32 * torch.eye(2, dtype=F64))
        grown = shallow_geometry(x, torch.exp, math.sqrt(2), 0.1)  # a = 1
        assert float(grown.log_volume) == pytest.approx(2 * (0.25 + 0.01) + 0.5 * math.log(2), rel=1e-12)
        scalar = -math.exp(-0.52) * 0.25 * 2 / 4 * 4 * 2  # d = 2, Ω' = 2, Ω'' = 0, s = ¼, 1 + 2sΩ' = 2
        assert float(grown.scalar_curvature) == pytest.approx(scalar, rel=1e-9)

    def test_shapes_and_types(self) -> None:
        found = shallow_geometry(torch.zeros(0, 3), "tanh", 1, 1)
        assert [getattr(found, name).shape for name in FIELDS] == [(0, 3, 3), (0,), (0,)]
        assert shallow_geometry(torch.ones(2, 3, dtype=torch.float16), "gelu", 1, 0).metric.dtype == F64
        many = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
        together = shallow_geometry(many, "tanh", 1.0, 0.3).scalar_curvature
        alone = torch.cat([shallow_geometry(row[None], "tanh", 1.0, 0.3).scalar_curvature for row in many])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


X = torch.ones(1, 2)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: shallow_geometry(X[0], "erf", 1.0, 0.0), r"x has shape \(2,\); \(B, d\) would do"),
    (lambda: shallow_geometry(X[:, :0], "erf", 1.0, 0.0), r"x has shape \(1, 0\); \(B, d\) would do"),
    (lambda: shallow_geometry(X / 0, "erf", 1.0, 0.0), "x holds nan or inf; finite inputs would do"),
    (lambda: shallow_geometry(X, "erf", 0.0, 0.0), "sigma_w=0.0 and sigma_b=0.0; σ_w > 0 and σ_b ≥ 0 would do"),
    (lambda: shallow_geometry(X, "erf", 1.0, -1), "sigma_w=1.0 and sigma_b=-1; σ_w > 0 and σ_b ≥ 0 would do"),
    (lambda: shallow_geometry(X, "erf", math.nan, 0.0), "sigma_w=nan and sigma_b=0.0"),
    (lambda: shallow_geometry(X, "rleu", 1.0, 0.0), "activation='rleu' is not a name known here"),
    (lambda: shallow_geometry(X, torch.sign, 1.0, 0.0), "activation jumps at 0, so its metric is infinite; a"),
])  # fmt: skip
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
