"""The Fisher matrix on parameters against closed forms, a slow twin by plain autograd, and the laws it must obey."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from labkit.geometry import fisher
from labkit.geometry._likelihoods import as_likelihood
from labkit.geometry._score_rows import ScoreRows

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/fisher.json").read_text())
LIKELIHOODS = ("categorical", "bernoulli", "gaussian")
F64 = torch.float64
Make = Callable[..., nn.Module]


def numbers(entries: Any) -> Tensor:
    return torch.tensor([[float(x) for x in row] for row in entries] if isinstance(entries[0], list) else
                        [float(x) for x in entries], dtype=F64)  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def flat(v: dict[str, Tensor]) -> Tensor:
    return parameters_to_vector(v.values()).double()


def like(model: nn.Module, seed: int = 3) -> dict[str, Tensor]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return {name: normal(*p.shape, seed=seed + i).to(p.dtype) for i, (name, p) in enumerate(named)}


def middle(f: Tensor, likelihood: str, variance: float = 1.0) -> Tensor:
    """The Fisher matrix of the outputs of one sample, by its definition."""
    if likelihood == "gaussian":
        return torch.eye(f.numel(), dtype=F64) / variance
    if likelihood == "bernoulli":
        return torch.diag((f.sigmoid() * (1 - f.sigmoid())).flatten())
    p = f.softmax(-1).reshape(-1, f.shape[-1])
    return torch.block_diag(*[torch.diag(q) - torch.outer(q, q) for q in p])


VECTORS = normal(5, 6)


class TestReference:
    def test_logistic_regression(self) -> None:
        known, model = REFERENCE["logistic"], nn.Linear(3, 1, dtype=F64)
        vector_to_parameters(numbers(known["theta"]), model.parameters())
        x = numbers(REFERENCE["x"])
        self._check(model, x, known, "bernoulli")
        two = nn.Linear(3, 2, dtype=F64)  # the same model with a logit for each label, the first held at 0
        two.weight.data, two.bias.data = torch.zeros(2, 3, dtype=F64), torch.zeros(2, dtype=F64)
        two.weight.data[1], two.bias.data[1] = model.weight.data[0], model.bias.data[0]
        kept = [3, 4, 5, 7]
        F = fisher.matrix(two, x, "categorical")[kept][:, kept]
        torch.testing.assert_close(F, numbers(known["fisher"]), rtol=1e-9, atol=0)

    def test_linear_network_has_the_rank_that_its_symmetry_leaves(self) -> None:
        known, model = REFERENCE["linear"], nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
        vector_to_parameters(numbers(known["theta"]), model.double().parameters())
        self._check(model, numbers(REFERENCE["x"]), known, "gaussian", variance=float(known["variance"]))
        assert len(fisher.spectrum(model, numbers(REFERENCE["x"]), "gaussian")) == known["rank"]

    def _check(self, model: nn.Module, x: Tensor, known: Any, likelihood: str, **options: float) -> None:
        F = fisher.matrix(model, x, likelihood, **options)
        torch.testing.assert_close(F, numbers(known["fisher"]), rtol=1e-9, atol=1e-15)
        eigenvalues = numbers([e for e in known["eigenvalues"] if float(e) > 0])
        torch.testing.assert_close(fisher.spectrum(model, x, likelihood, **options), eigenvalues, rtol=1e-9, atol=0)
        trace = fisher.trace(model, x, likelihood, **options)
        assert trace.item() == pytest.approx(float(known["trace"]), rel=1e-9)

    @pytest.mark.parametrize("limit", REFERENCE["width_limit"], ids=lambda c: f"{c['activation']}-{c['sigma_b']}")
    def test_width_limit(self, limit: dict[str, Any]) -> None:
        """First-order extrapolation in 1/M of 20 networks each at two widths, to 3 standard errors."""
        torch.manual_seed(0)
        (narrow, se_narrow), (wide, se_wide) = self._moments(60, limit), self._moments(120, limit)
        k1, k2 = limit["kappa1"], limit["kappa2"]
        law = [k1, 3 * (39 / 40 * k2**2 + k1**2 / 40), 3 * (39 / 40 * k2 + k1 / 40)]
        error = (2 * wide - narrow - numbers(law)).abs() / (4 * se_wide**2 + se_narrow**2).sqrt()
        predicted = 3 if k2 > 1e-9 else 2  # the largest is no outlier where kappa2 vanishes, and has no law
        assert (error[:predicted] < 3).all()
        if predicted == 2:
            assert wide[2] > law[2]

    def _moments(self, M: int, limit: dict[str, Any]) -> tuple[Tensor, Tensor]:
        found = []
        for _ in range(20):
            layers = [nn.Linear(M, M) for _ in range(3)]
            head = nn.Linear(M, 1)
            for layer in [*layers, head]:
                nn.init.normal_(layer.weight, std=limit["sigma_w"] / math.sqrt(M))
                nn.init.normal_(layer.bias, std=limit["sigma_b"])
            parts = [
                part for layer in layers for part in (layer, nn.Tanh() if limit["activation"] == "tanh" else nn.ReLU())
            ]
            values = fisher.spectrum(nn.Sequential(*parts, head), torch.randn(40, M), "gaussian")
            found.append(torch.stack([values.sum() / (3 * M), values.square().sum() / (3 * M**2), values[0] / M]))
        each = torch.stack(found)
        return each.mean(0), each.std(0) / math.sqrt(len(found))


class TestClosedForms:
    @given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 6))
    def test_softmax_regression(self, seed: int, classes: int, count: int) -> None:
        x, model = normal(count, 3, seed=seed), nn.Linear(3, classes, bias=False, dtype=F64)
        model.weight.data = normal(classes, 3, seed=seed + 1)
        expected = sum(
            torch.kron(middle(model(one).detach(), "categorical"), torch.outer(one, one)) / count for one in x
        )
        torch.testing.assert_close(fisher.matrix(model, x, "categorical"), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("variance", [0.25, 1, 3.0])
    def test_gaussian_regression(self, variance: float) -> None:
        x, model = normal(7, 3), nn.Linear(3, 2, bias=False, dtype=F64)
        expected = torch.kron(torch.eye(2, dtype=F64), x.mT @ x / (7 * variance))
        torch.testing.assert_close(fisher.matrix(model, x, "gaussian", variance=variance), expected)
        eigenvalues = torch.linalg.eigvalsh(expected).flip(0)
        torch.testing.assert_close(fisher.spectrum(model, x, "gaussian", variance=variance), eigenvalues)

    def test_location_of_a_normal(self) -> None:
        model = nn.Linear(1, 1, dtype=F64)
        model.weight.requires_grad_(False)
        F = fisher.matrix(model, torch.ones(1, 1, dtype=F64), "gaussian", variance=4.0)
        torch.testing.assert_close(F, torch.full((1, 1), 0.25, dtype=F64))

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_it_is_the_hessian_of_the_divergence(self, likelihood: str, mlp: Make) -> None:
        model, x = mlp(width=3, n_out=3), VECTORS
        start = parameters_to_vector(model.parameters()).detach()
        f = model(x).detach()

        def divergence(theta: Tensor) -> Tensor:
            parts = theta.split([p.numel() for p in model.parameters()])
            names = dict(model.named_parameters())
            named = {name: part.reshape(p.shape) for (name, p), part in zip(names.items(), parts, strict=True)}
            g = functional_call(model, named, (x,))
            if likelihood == "gaussian":
                return (f - g).square().sum() / (2 * 0.5 * len(x))
            if likelihood == "categorical":
                return (f.softmax(-1) * (f.log_softmax(-1) - g.log_softmax(-1))).sum() / len(x)
            p = f.sigmoid()
            return -(p * nn.functional.logsigmoid(g) + (1 - p) * nn.functional.logsigmoid(-g)).sum() / len(x)

        F = fisher.matrix(model, x, likelihood, variance=0.5 if likelihood == "gaussian" else 1.0)
        torch.testing.assert_close(F, hessian(divergence)(start), rtol=1e-9, atol=1e-12)


class TestLaws:
    def reparametrised(self, mlp: Make) -> tuple[nn.Module, nn.Module, Tensor]:
        """A model in θ, the same in φ with θ = C (φ + φ³/10), and ∂θ/∂φ."""
        model = mlp(n_in=3, width=3, n_out=2)
        theta = parameters_to_vector(model.parameters()).detach()
        P, sizes = len(theta), [p.numel() for p in model.parameters()]
        C = torch.eye(P, dtype=F64) + 0.2 * normal(P, P, seed=5)
        phi = normal(P, seed=6)
        vector_to_parameters(C @ (phi + phi**3 / 10), model.parameters())
        shapes = {name: p.shape for name, p in model.named_parameters()}

        class Twin(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.phi = nn.Parameter(phi)

            def forward(self, x: Tensor) -> Tensor:
                parts = (C @ (self.phi + self.phi**3 / 10)).split(sizes)
                named = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
                return functional_call(model, named, (x,))

        return model, Twin(), C * (1 + 3 * phi**2 / 10)

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_covariant_under_reparametrisation(self, likelihood: str, mlp: Make) -> None:
        model, twin, D = self.reparametrised(mlp)
        x = normal(20, 3, seed=2)
        F = fisher.matrix(model, x, likelihood)
        torch.testing.assert_close(fisher.matrix(twin, x, likelihood), D.mT @ F @ D, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("tolerance", [None, 1e-11])
    @pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
    def test_natural_gradient_is_one_step_in_all_coordinates(
        self, likelihood: str, tolerance: float | None, mlp: Make
    ) -> None:
        model, twin, D = self.reparametrised(mlp)
        x, y = normal(40, 3, seed=2), normal(40, 2, seed=3)
        steps = []
        for net in (model, twin):
            gradients = torch.autograd.grad((net(x) - y).square().sum(), list(net.parameters()))
            named = dict(zip(dict(net.named_parameters()), gradients, strict=True))
            steps.append(flat(fisher.natural_gradient(net, x, likelihood, named, tolerance=tolerance)))
        torch.testing.assert_close(D @ steps[1], steps[0], rtol=1e-7, atol=1e-9)
        assert not torch.allclose(D @ steps[1], steps[0] * 1.01)

    def test_newton_step_of_linear_regression(self) -> None:
        model, x, target = nn.Linear(3, 1, dtype=F64), normal(9, 3), normal(9, 1, seed=1)
        loss = (model(x) - target).square().mean() / 2
        gradients = dict(zip(("weight", "bias"), torch.autograd.grad(loss, list(model.parameters())), strict=True))
        step = fisher.natural_gradient(model, x, "gaussian", gradients)
        solution = torch.linalg.lstsq(torch.cat([x, torch.ones(9, 1, dtype=F64)], 1), target).solution[:, 0]
        torch.testing.assert_close(parameters_to_vector(model.parameters()).detach() - flat(step), solution)

    def test_no_graph_under_no_grad(self, mlp: Make) -> None:
        with torch.no_grad():
            with ScoreRows(mlp(), VECTORS, as_likelihood("gaussian", 1.0)).settled():
                assert not torch.is_grad_enabled()
            assert not fisher.matrix(mlp(), VECTORS, "gaussian").requires_grad
        assert fisher.matrix(mlp(), VECTORS, "gaussian").requires_grad
        assert not fisher.spectrum(mlp(), VECTORS, "gaussian").requires_grad


class TestRankAndDigits:
    @pytest.mark.parametrize(("depth", "width", "count"), [(2, 3, 40), (20, 4, 60), (3, 6, 100)])
    def test_rank_that_a_symmetry_leaves(self, depth: int, width: int, count: int) -> None:
        torch.manual_seed(depth)
        layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
        for layer in layers:
            nn.init.orthogonal_(layer.weight)
        model, x = nn.Sequential(*layers).double(), normal(count, width)
        assert len(fisher.spectrum(model, x, "gaussian")) == width**2
        assert len(fisher.spectrum(model.float(), x.float(), "gaussian")) == width**2

    def test_rank_in_single_precision_is_never_overstated(self) -> None:
        torch.manual_seed(1)
        layers = [nn.Linear(3, 3, bias=False) for _ in range(60)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.75)
        model, x = nn.Sequential(*layers), normal(60, 3).float()
        true = fisher.spectrum(model.double(), x.double(), "gaussian")
        found = fisher.spectrum(model.float(), x, "gaussian")
        assert 0 < len(found) < len(true) <= 9
        torch.testing.assert_close(found, true[: len(found)], rtol=0.05, atol=0)

    @pytest.mark.parametrize("gap", [1.0, 40.0, 200.0])
    def test_a_sure_classifier_keeps_its_digits(self, gap: float) -> None:
        """One sample beside an ordinary one: eigenvalues of e^-gap, where 1 - p rounds to nothing."""
        W, X = [[gap, 0.0], [0.0, 0.25], [1.0, -0.5]], [[1.0, 0.0], [0.0, 1.0]]
        model = nn.Linear(2, 3, bias=False, dtype=F64)
        model.weight.data = torch.tensor(W, dtype=F64)
        with mpmath.workdps(250):
            blocks = []
            for one in X:
                e = [mpmath.exp(mpmath.fdot(row, one)) for row in W]
                p = [value / mpmath.fsum(e) for value in e]
                A = mpmath.matrix(3, 3)
                for i in range(3):
                    for j in range(3):
                        A[i, j] = ((p[i] if i == j else 0) - p[i] * p[j]) / 2
                blocks.append(sorted(map(float, mpmath.eigsy(A, eigvals_only=True)))[1:])
        alone = fisher.spectrum(model, torch.tensor(X[:1], dtype=F64), "categorical") / 2
        torch.testing.assert_close(alone.flip(0), torch.tensor(blocks[0], dtype=F64), rtol=1e-12, atol=0)
        one, v = torch.tensor(X[:1], dtype=F64), {"weight": normal(3, 2)}
        F = fisher.matrix(model, one, "categorical").detach()
        torch.testing.assert_close(flat(fisher.product(model, one, "categorical", v)), F @ flat(v), rtol=1e-12, atol=0)
        both = torch.tensor(sorted(blocks[0] + blocks[1], reverse=True), dtype=F64)
        found = fisher.spectrum(model, torch.tensor(X, dtype=F64), "categorical")
        assert len(found) == (4 if gap < 50 else 2)
        torch.testing.assert_close(found, both[: len(found)], rtol=1e-6, atol=0)

    def test_a_sure_and_right_classifier_has_tiny_scores(self) -> None:
        model, x = nn.Linear(1, 2, bias=False, dtype=F64), torch.ones(1, 1, dtype=F64)
        for gap in (20.0, 37.0, 60.0):
            model.weight.data = torch.tensor([[gap], [0.0]], dtype=F64)
            F = fisher.empirical_matrix(model, x, "categorical", torch.tensor([0])).detach()
            wrong = 1 / (1 + math.exp(gap))
            square = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64) * wrong**2
            torch.testing.assert_close(F, square, rtol=1e-12, atol=0)

    def test_a_sure_logit_keeps_its_digits(self) -> None:
        model = nn.Linear(1, 1, bias=False, dtype=F64)
        for weight in (50.0, -50.0, 300.0):
            model.weight.data.fill_(weight)
            F = fisher.matrix(model, torch.ones(1, 1, dtype=F64), "bernoulli").item()
            assert pytest.approx(math.exp(-abs(weight)), rel=1e-12) == F

    def test_a_dead_network_has_an_empty_spectrum(self) -> None:
        model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
        model[0].bias.data.fill_(-100.0)
        assert fisher.spectrum(model, VECTORS, "gaussian").shape == (0,)
        step = fisher.natural_gradient(model, VECTORS, "gaussian", like(model), damping=2.0)
        torch.testing.assert_close(flat(step), flat(like(model)) / 2)

    def test_density_has_the_moments_of_the_spectrum(self, mlp: Make) -> None:
        model, x = mlp(n_in=20, width=30, n_out=5), normal(12, 20)  # 785 parameters, rank 60
        found = fisher.density(model, x, "gaussian", probes=60, steps=60, bandwidth=0.02)
        mass = torch.trapezoid(found.mean, found.log_s)
        torch.testing.assert_close(mass + found.zero, torch.ones((), dtype=F64), rtol=0, atol=1e-3)
        assert found.zero.item() == pytest.approx(1 - 60 / 785, abs=1e-9)
        mean = torch.trapezoid(found.mean * (2 * found.log_s).exp(), found.log_s)
        torch.testing.assert_close(mean, fisher.trace(model, x, "gaussian").detach() / 785, rtol=0.1, atol=0)

    def test_inference_mode_and_generator(self, mlp: Make) -> None:
        model = mlp()
        expected = fisher.spectrum(model, VECTORS, "categorical")
        with torch.inference_mode():
            torch.testing.assert_close(fisher.spectrum(model, VECTORS + 0, "categorical"), expected)
        first, again = (
            fisher.top_eigenvalues(model, VECTORS, "categorical", 1, generator=torch.Generator().manual_seed(7))
            for _ in range(2)
        )
        assert torch.equal(first.vectors, again.vectors)


class TestEmpirical:
    def labels(self, likelihood: str) -> Tensor:
        if likelihood == "gaussian":
            return normal(5, 4, seed=9)
        return torch.tensor([0, 3, 1, 1, 2]) if likelihood == "categorical" else (normal(5, 4, seed=9) > 0).long()

    def loss(self, f: Tensor, y: Tensor, likelihood: str) -> Tensor:
        if likelihood == "gaussian":
            return (f - y).square().sum() / (2 * 0.5)
        if likelihood == "categorical":
            return cross_entropy(f, y, reduction="sum")
        return nn.functional.binary_cross_entropy_with_logits(f, y.double(), reduction="sum")

    @pytest.mark.parametrize("likelihood", LIKELIHOODS)
    def test_it_is_the_second_moment_of_the_loss_gradients(self, likelihood: str, mlp: Make) -> None:
        model, y = mlp(), self.labels(likelihood)
        options = {"variance": 0.5} if likelihood == "gaussian" else {}
        rows = []
        for one, label in zip(VECTORS, y, strict=True):
            loss = self.loss(model(one[None]), label[None], likelihood)
            rows.append(parameters_to_vector(torch.autograd.grad(loss, list(model.parameters()))))
        G = torch.stack(rows)
        expected = G.mT @ G / 5
        scale = float(expected.abs().max())
        F = fisher.empirical_matrix(model, VECTORS, likelihood, y, **options)
        torch.testing.assert_close(F.detach(), expected, rtol=0, atol=1e-13 * scale)
        found = fisher.empirical_spectrum(model, VECTORS, likelihood, y, **options)
        torch.testing.assert_close(found, torch.linalg.eigvalsh(G @ G.mT / 5).flip(0), rtol=1e-9, atol=0)
        v = like(model)
        product = flat(fisher.empirical_product(model, VECTORS, likelihood, y, v, **options))
        torch.testing.assert_close(product, expected @ flat(v), rtol=0, atol=1e-12 * scale)
        true = fisher.matrix(model, VECTORS, likelihood, **options)
        assert (F - true).abs().max() > 0.1 * scale

    def test_its_mean_over_the_models_labels_is_the_fisher_matrix(self, mlp: Make) -> None:
        model, x = mlp(), VECTORS[:1]
        p = model(x).softmax(-1)[0]
        each = [fisher.empirical_matrix(model, x, "categorical", torch.tensor([c])) for c in range(4)]
        mean = sum(weight * F for weight, F in zip(p, each, strict=True))
        torch.testing.assert_close(mean, fisher.matrix(model, x, "categorical"), rtol=1e-10, atol=1e-14)

    def test_many_labels_drawn_from_the_model_give_the_fisher_matrix(self) -> None:
        model, x = nn.Linear(2, 1, dtype=F64), normal(20000, 2)
        torch.manual_seed(0)
        draws = [torch.bernoulli(model(x).sigmoid()).detach() for _ in range(8)]
        each = torch.stack([fisher.empirical_matrix(model, x, "bernoulli", y).detach() for y in draws])
        error = (each.mean(0) - fisher.matrix(model, x, "bernoulli").detach()).abs()
        assert (error <= 4 * each.std(0) / math.sqrt(8)).all()
        assert error.max() < 5e-3
