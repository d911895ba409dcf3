"""Spectral laws against reference numbers, closed forms, exact moments and simulated products."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labkit.theory import free_probability
from labkit.theory.free_probability import SpectralLaw, density, resnet_law, universal_limit
from labkit.theory.meanfield import MeanField, critical_line

F64 = torch.float64
REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/spectra.json").read_text())
CHAINS = REFERENCE["bernoulli_chains"]
ENSEMBLES = {"gauss": "gaussian", "orth": "orthogonal"}


def numbers(values: list) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=F64)


def close(found: object, expected: object, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=F64), torch.as_tensor(expected, dtype=F64), rtol=rtol, atol=0
    )


def top(law: SpectralLaw) -> float:
    return max([float(edge) for edge in law.edges.flatten()] + [place for place, _ in law.atoms])


def total(law: SpectralLaw) -> float:
    return float(law.weights @ law.values) + sum(mass for _, mass in law.atoms)


def chain(activation: str, depth: int, ensemble: str, squared: bool = True, q: float | None = None) -> SpectralLaw:
    """At criticality, by the length q of its fixed point where that matters."""
    if activation == "relu":
        return density("relu", depth, 2**0.5, 0.0, ensemble, squared)
    p = math.erf(1 / math.sqrt(2 * q))
    square = q * (p - math.sqrt(2 / (math.pi * q)) * math.exp(-0.5 / q)) + 1 - p  # E φ(√q z)²
    return density("hardtanh", depth, p**-0.5, max(q - square / p, 0.0) ** 0.5, ensemble, squared)


class TestReference:
    @pytest.mark.parametrize("case", REFERENCE["linear_gaussian_fuss_catalan"], ids=lambda case: f"L{case['L']}")
    def test_fuss_catalan(self, case: dict) -> None:
        law, of_s = (density("linear", case["L"], 1.0, 0.0, squared=squared) for squared in (True, False))
        close([law.moment(k + 1) for k in range(8)], numbers(case["moments"]))
        close([of_s.moment(2 * k + 2) for k in range(8)], numbers(case["moments"]))
        close([law.edges[0, 1], of_s.edges[0, 1]], numbers([case["lambda_max"], case["s_max"]]))
        at, rho = numbers(case.get("density_lambda", [])), numbers(case.get("density_rho", []))
        close(law.pdf(at), rho)
        close(of_s.pdf(at.sqrt()), 2 * at.sqrt() * rho)

    @pytest.mark.parametrize("case", CHAINS, ids=lambda case: f"{case['nonlinearity']}-{case['ensemble']}-{case['L']}")
    def test_chains_of_slopes_0_and_1(self, case: dict) -> None:
        name, *length = case["nonlinearity"].split(" q*=")
        law = chain(name, case["L"], ENSEMBLES[case["ensemble"]], q=float(length[0]) if length else None)
        close([law.moment(k + 1) for k in range(5)], numbers(case["moments"]))
        close(law.moment(2) - 1, float(case["variance_formula"]), rtol=1e-7 if case["variance_formula"] < "1" else 1e-9)
        close(top(law), float(case["lambda_max"]))
        close(law.atoms[0][1], float(case["mass_at_zero"]), rtol=1e-8)
        heavy = float(case.get("atom_at_lambda_max_mass", 0))
        close([mass for place, mass in law.atoms if place > 0], [heavy] if heavy else [])
        pairs = numbers([value for pair in case.get("density", []) for value in pair]).view(-1, 2)
        close(law.pdf(pairs[:, 0]), pairs[:, 1], rtol=2e-9)

    @pytest.mark.parametrize(
        "case", REFERENCE["limits"], ids=lambda case: case["law"][:6] + case.get("c", case.get("sigma0_sq"))
    )
    def test_limits(self, case: dict) -> None:
        law = (
            resnet_law(float(case["c"]), True)
            if "c" in case
            else universal_limit("smooth", float(case["sigma0_sq"]), True)
        )
        close([law.moment(1), law.moment(2) - law.moment(1) ** 2], numbers([case["mean"], case["variance"]]))
        close(law.edges[0], numbers([case["lambda_min"], case["lambda_max"]]))
        pairs = numbers([value for pair in case["density"] for value in pair]).view(-1, 2)
        close(law.pdf(pairs[:, 0]), pairs[:, 1])

    @pytest.mark.parametrize(
        "case", REFERENCE["smooth_critical_line"], ids=lambda case: f"{case['activation']}-{case['q_star'][:5]}"
    )
    @pytest.mark.parametrize("ensemble", ["gauss", "orth"])
    def test_smooth_activations_on_the_critical_line(self, case: dict, ensemble: str) -> None:
        law = density(case["activation"], 10, float(case["sigma_w"]), float(case["sigma_b"]), ENSEMBLES[ensemble], True)
        close(law.moment(1), 1.0, rtol=1e-8)
        variance = float(case["variance_per_layer_" + {"gauss": "gaussian", "orth": "orthogonal"}[ensemble]])
        close(law.moment(2) - law.moment(1) ** 2, 10 * variance, rtol=1e-7)
        close(top(law), case["lambda_max"][f"{ensemble}_L10"], rtol=5e-7)


class TestClosedForms:
    def test_quarter_circle_and_marchenko_pastur(self) -> None:
        s = torch.linspace(0.01, 1.99, 25, dtype=F64)
        close(density("linear", 1, 1.0, 0.0).pdf(s), (4 - s**2).sqrt() / math.pi)
        low, high = (1 - 0.5**0.5) ** 2 * 2, (1 + 0.5**0.5) ** 2 * 2
        law = density("relu", 1, 2**0.5, 0.0, squared=True)
        at = torch.linspace(low, high, 27, dtype=F64)[1:-1]
        close(law.edges, [[low, high]])
        close(law.pdf(at), ((high - at) * (at - low)).sqrt() / (2 * math.pi * 2 * at))

    def test_two_orthogonal_relu_layers_give_the_arcsine_law(self) -> None:
        law = density("relu", 2, 2**0.5, 0.0, "orthogonal", squared=True)
        at = torch.linspace(0.1, 3.9, 20, dtype=F64)
        close(law.pdf(at), 0.5 / (math.pi * (at * (4 - at)).sqrt()))
        close(law.cdf(at), 0.5 + (at.sqrt() / 2).asin() / math.pi)

    @pytest.mark.parametrize("depth", [1, 7, 200])
    def test_linear_orthogonal_chains_are_isometries(self, depth: int) -> None:
        law = density("linear", depth, 1.0, 0.0, "orthogonal")
        assert law.atoms == ((1.0, 1.0),)
        assert law.s.shape == law.edges[:, 0].shape == (0,)
        close(law.cdf([0.999, 1.0, 2.0]), [0.0, 1.0, 1.0])

    def test_the_residual_law_is_symmetric_in_log(self) -> None:
        law = resnet_law(0.7, squared=True)
        at = torch.logspace(-0.9, 0.9, 11, dtype=F64)
        close(at * law.pdf(at), law.pdf(1 / at) / at)
        close(law.edges.prod(), 1.0)

    def test_an_atom_where_few_layers_cut(self) -> None:
        law = density("hardtanh", 8, 1.0, 0.3, "orthogonal")
        p = 1 - law.atoms[0][1]
        mf = MeanField("hardtanh", 1.0, 0.3)
        close(p, math.erf(1 / math.sqrt(2 * float(mf.q_star))))
        if 8 * (1 - p) < 1:
            close(law.atoms[1], [1.0, 1 - 8 * (1 - p)])

    def test_bernoulli_class(self) -> None:
        low, high = universal_limit("bernoulli", 0.25, True), universal_limit("bernoulli", 4.0, True)
        close(low.atoms, [[math.exp(0.25), 0.75]])
        close(high.edges, [[0.0, 4 * math.e]])
        close([high.moment(1), high.moment(2)], [1.0, 5.0])


def lagrange(p: float, depth: int, gaussian: bool, order: int) -> list[float]:
    """Moments of a critical Bernoulli chain: (1/k)[w^{k-1}] ((1 + w)(1 + w/p)^L (1 + w)^{-L or 0})^k."""
    found = []
    for k in range(1, order + 1):
        series = [1.0] + [0.0] * (k - 1)
        for root, power in ((1.0, k * (1 if gaussian else 1 - depth)), (1 / p, k * depth)):
            factor = [1.0]
            for j in range(1, k):
                factor.append(factor[-1] * (power - j + 1) / j * root)
            series = [sum(series[i] * factor[n - i] for i in range(n + 1)) for n in range(k)]
        found.append(series[k - 1] / k)
    return found


class TestEveryLaw:
    @given(st.integers(1, 60), st.floats(0.02, 1e4), st.booleans())
    @settings(max_examples=25)
    def test_moments_are_those_of_the_s_transform(self, depth: int, q: float, gaussian: bool) -> None:
        p = math.erf(1 / math.sqrt(2 * q))
        law = chain("hardtanh", depth, "gaussian" if gaussian else "orthogonal", q=q)
        assert abs(total(law) - 1) < 1e-9
        close([law.moment(k) for k in range(1, 5)], lagrange(p, depth, gaussian, 4), rtol=1e-6)

    @pytest.mark.parametrize("activation", ["tanh", "erf", "gelu", "sin", "leaky_relu", "softplus", "silu"])
    @pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
    def test_mass_and_moments_off_criticality(self, activation: str, ensemble: str) -> None:
        sigma_w, sigma_b, depth = 1.1, 0.4, 5
        law = density(activation, depth, sigma_w, sigma_b, ensemble, squared=True)
        mf = MeanField(activation, sigma_w, sigma_b)
        mean, spread = float(mf.chi_1), float(mf.mu(2) / mf.mu(1) ** 2 - 1) + (ensemble == "gaussian")
        assert abs(total(law) - 1) < 1e-6
        close(law.moment(1), mean**depth, rtol=1e-6)
        close(law.moment(2) / law.moment(1) ** 2, 1 + depth * spread, rtol=1e-6)

    @pytest.mark.parametrize(("make", "arguments"), [
        (density, ("linear", 200, 1.0, 0.0)), (density, ("relu", 200, 2**0.5, 0.0, "orthogonal")),
        (density, ("leaky_relu", 2, 1.0, 0.0, "orthogonal")), (density, ("leaky_relu", 200, 1.0, 0.0, "orthogonal")),
        (density, ("elu", 2, 1.1, 0.2, "orthogonal")), (density, ("hardtanh", 3, 1.0, 30.0)),
        (universal_limit, ("smooth", 1e-6)), (universal_limit, ("smooth", 1e3)), (universal_limit, ("bernoulli", 1e-6)),
        (universal_limit, ("bernoulli", 1.0)), (universal_limit, ("bernoulli", 1e3)),
        (resnet_law, (1e-6,)), (resnet_law, (300.0,)),
    ], ids=str)  # fmt: skip
    def test_extreme_laws_keep_mass_order_and_sign(self, make: Callable[..., SpectralLaw], arguments: tuple) -> None:
        law = make(*arguments)
        assert abs(total(law) - 1) < 1e-6
        for values in (law.s, law.values, law.weights):
            assert values.isfinite().all()
            assert (values > 0).all()
        assert (law.s.diff() >= 0).all()
        assert ((law.s >= law.edges[:1, 0]) & (law.s <= law.edges[-1:, 1])).all()

    def test_a_thin_tail_is_smooth(self) -> None:
        law = density("tanh", 2, 1.01, 0.002, "orthogonal")
        below = (law.weights * law.values).cumsum(0)
        tail = law.values[(below > 1e-7) & (below < 1e-2)].log()
        assert len(tail) > 100
        assert (tail.diff() > 0).all()

    def test_squared_is_the_same_law(self) -> None:
        law, square = (density("relu", 6, 2**0.5, 0.0, squared=squared) for squared in (False, True))
        close(square.edges, law.edges**2)
        close([square.moment(k) for k in (0.5, 1, 2)], [law.moment(2 * k) for k in (0.5, 1, 2)])
        at = torch.tensor([[0.0, 0.3], [2.0, 30.0]], dtype=F64)
        assert law.cdf(at).shape == (2, 2)
        close(square.cdf(at**2), law.cdf(at))

    def test_the_distribution_function_is_the_integral(self) -> None:
        law = density("relu", 3, 2**0.5, 0.0, "orthogonal")
        for at in (0.2, 1.0, 2.2):
            grid = at * torch.linspace(0, 1, 20001, dtype=F64)[1:] ** 3
            integral = torch.trapezoid(law.pdf(grid), grid)
            close(law.cdf(at) - law.atoms[0][1], integral, rtol=1e-4)

    def test_a_smooth_law_needs_no_name(self) -> None:
        named = density("tanh", 4, 1.2, 0.2, "orthogonal")
        given_ = density(lambda h: torch.tanh(h), 4, 1.2, 0.2, "orthogonal")
        close(given_.edges[0, 1], named.edges[0, 1])
        close(given_.pdf([0.3, 0.6, 1.0]), named.pdf([0.3, 0.6, 1.0]), rtol=1e-8)


@pytest.mark.statistical
class TestSimulation:
    @pytest.mark.parametrize(("activation", "ensemble", "depth"), [
        ("relu", "gaussian", 5), ("relu", "orthogonal", 6), ("tanh", "orthogonal", 10), ("tanh", "gaussian", 3),
    ])  # fmt: skip
    def test_random_networks(self, activation: str, ensemble: str, depth: int) -> None:
        n, generator = 400, torch.Generator().manual_seed(1)
        sigma_b = 0.0 if activation == "relu" else 0.3
        sigma_w = 2**0.5 if activation == "relu" else float(critical_line("tanh", sigma_b))
        law = density(activation, depth, sigma_w, sigma_b, ensemble)
        q = float(MeanField(activation, sigma_w, sigma_b).q_star)
        product = torch.eye(n, dtype=F64)
        for _ in range(depth):
            W = torch.randn(n, n, generator=generator, dtype=F64) / n**0.5
            W = torch.linalg.qr(W).Q if ensemble == "orthogonal" else W
            h = q**0.5 * torch.randn(n, generator=generator, dtype=F64)
            D = (h > 0).double() if activation == "relu" else 1 / h.cosh() ** 2
            product = D[:, None] * (sigma_w * W @ product)
        s = torch.linalg.svdvals(product).flip(0)
        empirical = torch.arange(1, n + 1, dtype=F64) / n
        positive = s > 1e-9
        assert (law.cdf(s) - empirical)[positive].abs().max() < 0.06  # Bernoulli counts alone move the atom by 0.025
        # λ's mean fluctuates as the slopes do, by √(L ι / N) and less; the top edge is low by O(N^{-2/3})
        assert abs(float((s**2).mean()) - law.moment(2)) < 4 * math.sqrt((law.moment(4) - 1) / n)
        assert 0.85 < float(s[-1]) / top(law) < 1.05

    def test_a_residual_network(self) -> None:
        n, depth, sigma_w = 400, 50, 1.0
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(n, generator=generator, dtype=F64)
        product, c = torch.eye(n, dtype=F64), 0.0
        for _ in range(depth):
            W = sigma_w * torch.randn(n, n, generator=generator, dtype=F64) / n**0.5
            h = W @ x
            slope = 1 / h.cosh() ** 2
            product = product + depth**-0.5 * slope[:, None] * (W @ product)
            x = x + depth**-0.5 * h.tanh()
            c += sigma_w**2 * float((slope**2).mean()) / depth
        s = torch.linalg.svdvals(product).flip(0)
        law = resnet_law(c)
        assert (law.cdf(s) - torch.arange(1, n + 1, dtype=F64) / n).abs().max() < 0.05
        close([s[0], s[-1]], law.edges[0], rtol=0.06)


class TestBadInput:
    @pytest.mark.parametrize(("arguments", "sentence"), [
        (("relu", 0, 1.0, 0.0), "depth=0; a Jacobian has at least 1 layer"),
        (("relu", 3, -1.0, 0.0), "sigma_w=-1.0; pass a number > 0"),
        (("relu", 3, math.nan, 0.0), "sigma_w=nan; pass a finite number"),
        (("relu", 3, 1.0, -0.1), "sigma_b=-0.1 is negative"),
        (("relu", 3, 1.0, 0.0, "haar"), "ensemble='haar' is not known; pass 'gaussian' or 'orthogonal'"),
        (("rellu", 3, 1.0, 0.0), "activation='rellu' is not a name known here; did you mean"),
        (("relu", 3, 2.0, 0.0), "q has no stable fixed point for 'relu' at sigma_w=2, sigma_b=0"),
        (("tanh", 1, 1.0, 0.5, "orthogonal"), "depth=1 with orthogonal weights leaves"),
        (("hardtanh", 400, 1e3, 0.0), "beyond float64"),
    ])  # fmt: skip
    def test_values(self, arguments: tuple, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            density(*arguments)

    @pytest.mark.parametrize(("arguments", "sentence"), [
        (("relu", 2.5, 1.0, 0.0), "depth=2.5; pass an integer"),
        (("relu", True, 1.0, 0.0), "depth=True; pass an integer"),
        (("relu", 2, "1", 0.0), "sigma_w='1'; pass one number"),
        (("relu", 2, torch.ones(2), 0.0), "sigma_w=.*pass one number"),
        (("relu", 2, 1.0, 0.0, "gaussian", 1), "squared=1; pass True"),
    ])  # fmt: skip
    def test_types(self, arguments: tuple, sentence: str) -> None:
        with pytest.raises(TypeError, match=sentence):
            density(*arguments)

    def test_limits(self) -> None:
        with pytest.raises(ValueError, match="kind='tanh' is no universality class"):
            universal_limit("tanh", 1.0)
        with pytest.raises(ValueError, match="variance=0; pass a number > 0"):
            universal_limit("smooth", 0)
        with pytest.raises(ValueError, match="c=-1; pass a number > 0"):
            resnet_law(-1)
        with pytest.raises(ValueError, match="beyond float64"):
            resnet_law(5000.0)

    def test_points(self) -> None:
        law = resnet_law(1.0)
        with pytest.raises(ValueError, match="at holds -1; pass numbers ≥ 0"):
            law.pdf(-1.0)
        with pytest.raises(ValueError, match="pass k ≥ 0"):
            law.moment(-1)

    def test_a_law_that_was_not_resolved_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(free_probability, "_HONEST", 0.0)
        with pytest.raises(RuntimeError, match="the law was not resolved"):
            density("relu", 50, 2**0.5, 0.0)
