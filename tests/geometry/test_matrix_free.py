"""Densities, traces and log-volumes from products alone, against dense decompositions and their own error bars."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from labkit import Linearization, _operator, _quadrature, cut
from labkit.geometry import spectra
from labkit.linearization import Jacobian
from labkit.networks import transformer

F64 = torch.float64
SEEDS = 50


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def with_values(values: Tensor, m: int, n: int, seed: int = 0) -> Tensor:
    U, V = (torch.linalg.qr(gaussian(size, len(values), seed=seed + size))[0] for size in (m, n))
    return U * values.to(F64) @ V.mT


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lazy(J: Tensor) -> Jacobian:
    """J by its products only."""
    return Jacobian(lambda V: J @ V, lambda U: J.mT @ U, torch.Size((1, *J.shape)), F64, J.device)


def integral(found: spectra.Density) -> Tensor:
    return torch.trapezoid(found.mean, found.log_s) + found.zero


MATRICES = {
    "square": gaussian(90, 90),
    "tall": gaussian(120, 80),
    "wide": gaussian(60, 100),
    "clustered": with_values(1 + 1e-3 * torch.rand(90, generator=generator(0)), 90, 90),
    "graded": with_values(0.8 ** torch.arange(90), 90, 90),
    "rank 20 of 90": with_values(1 + torch.rand(20, generator=generator(0)), 90, 90),
}


class TestDensity:
    @pytest.mark.parametrize("kind", MATRICES)
    def test_integrates_to_one_and_counts_zeros(self, kind: str) -> None:
        J = MATRICES[kind]
        found = spectra.spectral_density(J, probes=8, steps=40, generator=generator(1))
        assert abs(float(integral(found)) - 1) < 1e-8
        rank = int((torch.linalg.svdvals(J) > 1e-12).sum())
        exact = 1 - rank / J.shape[1]
        assert abs(float(found.zero) - exact) <= 4 * float(found.zero_stderr) + 1e-12
        if kind == "wide":
            assert abs(float(found.zero) - 0.4) < 1e-12  # by size alone, so not by chance

    @pytest.mark.parametrize("kind", ["square", "tall", "wide", "clustered"])
    def test_histogram_within_its_errors(self, kind: str) -> None:
        J, h = MATRICES[kind], 0.3
        found = spectra.spectral_density(J, probes=40, steps=90, generator=generator(2), bandwidth=h)
        logs = torch.linalg.svdvals(J).log()
        kernel = (-0.5 * ((found.log_s[:, None] - logs) / h).square()).exp() / (h * math.sqrt(2 * math.pi))
        exact = kernel.sum(-1) / J.shape[1]
        apart = (found.mean - exact).abs() <= 4 * found.stderr + 1e-9
        assert apart.all()
        assert float(found.stderr.max()) < 0.2 * float(exact.max())

    def test_moments_within_four_errors(self) -> None:
        J = gaussian(150, 100)
        found = spectra.spectral_density(J, probes=30, steps=12, generator=generator(3), bandwidth=0.05)
        for power in (1, 2):  # the kernel multiplies E s^2p by exp(2 p² h²)
            moment = torch.trapezoid(found.mean * (2 * power * found.log_s).exp(), found.log_s)
            blur = math.exp(2 * power**2 * 0.05**2)
            exact = torch.linalg.svdvals(J).pow(2 * power).mean() * blur
            spread = torch.trapezoid(found.stderr * (2 * power * found.log_s).exp(), found.log_s)
            assert abs(float(moment - exact)) <= 4 * float(spread)
            assert float(spread) < 0.1 * float(exact)

    def test_a_kernel_is_unresolved_before_it_is_counted(self) -> None:
        kept = (torch.rand(100, generator=generator(1)) > 0.5).double()
        J = gaussian(100, 100, seed=2) @ (kept[:, None] * gaussian(100, 100, seed=3)) / 100
        dead = 1 - float(kept.mean())
        early, late = (spectra.spectral_density(J, 16, steps, generator(0)) for steps in (12, 90))
        assert float(early.zero) < 1e-12
        assert abs(float(early.unresolved) - dead) < 0.15
        assert abs(float(late.zero) - dead) <= 4 * float(late.zero_stderr)
        assert float(late.unresolved) < 1e-12

    def test_own_grid_is_answered_on(self) -> None:
        J = MATRICES["square"]
        grid = torch.linspace(-7, 4, 1101, dtype=F64)
        found = spectra.spectral_density(torch.stack([J, 2 * J]), log_s=grid)
        assert torch.equal(found.log_s[1], grid)
        shift = round(math.log(2) / 0.01)
        torch.testing.assert_close(found.mean[1, shift:], found.mean[0, :-shift], rtol=0, atol=0.05)
        assert (integral(found) - 1).abs().max() < 1e-3

    @pytest.mark.parametrize("exponent", [-600, -300, 300, 600])
    def test_scale_shifts_the_grid_and_nothing_else(self, exponent: int) -> None:
        J = MATRICES["tall"]
        plain, scaled = spectra.spectral_density(J), spectra.spectral_density(J * math.exp(exponent))
        torch.testing.assert_close(scaled.log_s - exponent, plain.log_s, rtol=0, atol=1e-9)
        torch.testing.assert_close(scaled.mean, plain.mean, rtol=1e-6, atol=1e-8)

    def test_five_together_are_five_alone(self) -> None:
        J = gaussian(5, 40, 30) * torch.tensor([1.0, 1e-20, 1e20, 3.0, 0.1], dtype=F64)[:, None, None]
        together = spectra.spectral_density(J, 4, 10, generator(7))
        for sample in (4, 3, 2, 1, 0):
            alone = spectra.spectral_density(J[sample], 4, 10, generator(7))
            for name in ("log_s", "mean", "stderr", "zero", "zero_stderr", "unresolved"):
                part, own = getattr(together, name)[sample], getattr(alone, name)
                torch.testing.assert_close(part, own, rtol=1e-8, atol=1e-8)

    def test_chunks_of_probes_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        J = MATRICES["square"]
        whole = spectra.spectral_density(J, 7, 10)
        monkeypatch.setattr(_quadrature, "_AT_ONCE", 8.0 * 10 * 180 * 2.5)
        parts = spectra.spectral_density(J, 7, 10)
        torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-9, atol=1e-12)

    @given(m=st.integers(2, 20), n=st.integers(2, 20), rank=st.integers(1, 20), seed=st.integers(0, 99))
    @settings(max_examples=25)
    def test_any_size_and_rank(self, m: int, n: int, rank: int, seed: int) -> None:
        rank = min(rank, m, n)
        J = with_values(0.5 + torch.rand(rank, generator=generator(seed)), m, n, seed)
        found = spectra.spectral_density(J, 3, 20, generator(seed), bandwidth=0.2)
        assert abs(float(integral(found)) - 1) < 1e-7
        assert float(found.mean.min()) >= 0
        assert float(found.zero) >= 1 - min(m, n) / n - 1e-12
        if rank == n:
            assert abs(float(found.zero)) < 1e-12
        else:
            assert float(found.zero) > 1e-6


class TestLogVolume:
    @pytest.mark.parametrize(("kind", "steps"), [("tall", 24), ("clustered", 8), ("square", 16), ("square", 64)])
    def test_error_covers_the_truth(self, kind: str, steps: int) -> None:
        J = MATRICES[kind]
        exact = torch.linalg.svdvals(J).log().sum()
        inside, sure = 0, 0
        for seed in range(SEEDS):
            found = spectra.log_volume_estimate(J, 8, steps, generator(seed))
            inside += bool((found.value - exact).abs() <= 3 * found.stderr + found.truncation)
            sure += bool(found.truncation.isfinite())
        assert inside >= 0.9 * SEEDS
        assert sure >= (0.5 if kind == "square" else 1.0) * SEEDS

    def test_stderr_alone_covers_where_the_rule_is_exact(self) -> None:
        J = MATRICES["tall"]
        exact = torch.linalg.svdvals(J).log().sum()
        found = [spectra.log_volume_estimate(J, 8, 80, generator(seed)) for seed in range(SEEDS)]
        assert max(float(e.truncation) for e in found) == 0
        apart = torch.stack([(e.value - exact) / e.stderr for e in found])
        assert (apart.abs() <= 3).double().mean() >= 0.9
        assert 0.6 < float(apart.std()) < 1.8  # neither too small an error nor too large a one

    @pytest.mark.parametrize("decades", [6, 14])
    def test_graded_spectra_are_not_believed(self, decades: int) -> None:
        J = with_values(10 ** -torch.linspace(0, decades, 200, dtype=F64), 200, 200)
        found = spectra.log_volume_estimate(J, 8, 32)
        exact = float(torch.linalg.svdvals(J).log().sum())
        assert float(found.value) - exact > 100  # far beyond any error bar of probes …
        assert float(found.stderr) < 50
        assert found.truncation.isposinf()  # … so that it must say so

    def test_equals_the_exact_log_volume_of_a_chain(self) -> None:
        lin = Linearization([torch.eye(30, dtype=F64) + 0.03 * gaussian(2, 30, 30, seed=seed) for seed in range(4)])
        found = spectra.log_volume_estimate(lin, 64, 30)
        assert ((found.value - spectra.log_volume(lin)).abs() <= 4 * found.stderr).all()
        assert (found.stderr < 1).all()

    def test_rank(self) -> None:
        J = with_values(torch.tensor([1.0, 2.0, 4.0, 8.0]), 20, 10)
        whole = spectra.log_volume_estimate(J, 4, 10)
        assert whole.value.isneginf()
        assert whole.stderr.isnan()
        found = spectra.log_volume_estimate(J, 400, 7, rank="numerical")
        assert float(found.truncation) == 0  # for the Krylov spaces end at 5
        assert abs(float(found.value) - 6 * math.log(2)) <= 4 * float(found.stderr)
        wide = spectra.log_volume_estimate(J.mT[:4], 4, 10)
        assert wide.value.isneginf()

    def test_scale(self) -> None:
        J = MATRICES["tall"]
        plain, scaled = (spectra.log_volume_estimate(c * J) for c in (1.0, math.exp(300)))
        torch.testing.assert_close(scaled.value, plain.value + 80 * 300, rtol=1e-12, atol=0)
        torch.testing.assert_close(scaled.stderr, plain.stderr, rtol=1e-9, atol=0)


class TestTraces:
    @pytest.mark.parametrize("kind", ["square", "tall", "wide", "clustered", "graded"])
    def test_squared_norm_is_unbiased_and_its_error_honest(self, kind: str) -> None:
        J = MATRICES[kind]
        found = [spectra.squared_norm(J, 8, generator(seed)) for seed in range(SEEDS)]
        apart = torch.stack([e.value for e in found]) - J.square().sum()
        errors = torch.stack([e.stderr for e in found])
        rounding = 1e-12 * float(J.square().sum())
        assert (apart.abs() <= 3 * errors + rounding).double().mean() >= 0.9
        assert apart.mean().abs() <= 4 * apart.std() / SEEDS**0.5 + rounding
        assert 0.6 * errors.mean() <= apart.std() + rounding

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_trace(self, symmetric: bool) -> None:
        A = gaussian(70, 70) + 2 * torch.eye(70, dtype=F64)
        A = A + A.mT if symmetric else A
        found = [spectra.trace(A, 8, generator(seed)) for seed in range(SEEDS)]
        apart = torch.stack([e.value for e in found]) - A.trace()
        errors = torch.stack([e.stderr for e in found])
        assert (apart.abs() <= 3 * errors).double().mean() >= 0.9
        assert apart.mean().abs() <= 4 * apart.std() / SEEDS**0.5

    def test_exact_where_the_sketch_holds_the_range(self) -> None:
        J = with_values(torch.tensor([1.0, 2.0, 3.0]), 50, 40)
        found = spectra.squared_norm(J, 5)
        assert abs(float(found.value) - 14) < 1e-10
        assert float(found.stderr) < 1e-10
        assert float(spectra.trace(J @ J.mT, 5).value) == pytest.approx(14, abs=1e-10)
        small = gaussian(4, 4)
        assert float(spectra.trace(small, 9).value) == pytest.approx(float(small.trace()), abs=1e-12)

    def test_sketching_beats_probes_alone(self) -> None:
        J = MATRICES["graded"]
        plain = math.sqrt(2 / 48) * float((J.mT @ J).norm())  # Hutchinson with as many products
        found = spectra.squared_norm(J, 12)
        assert float(found.stderr) < 0.05 * plain

    def test_five_together_are_five_alone(self) -> None:
        J = gaussian(5, 30, 20) * torch.tensor([1.0, 1e-90, 1e90, 3.0, 0.1], dtype=F64)[:, None, None]
        together = spectra.squared_norm(J, 4, generator(7))
        for sample in (4, 3, 2, 1, 0):
            alone = spectra.squared_norm(J[sample], 4, generator(7))
            torch.testing.assert_close(together.value[sample], alone.value, rtol=1e-12, atol=0)
            torch.testing.assert_close(together.stderr[sample], alone.stderr, rtol=1e-10, atol=0)

    def test_zero_operator_has_trace_zero(self) -> None:
        found = spectra.trace(torch.zeros(6, 6, dtype=F64))
        assert (float(found.value), float(found.stderr), float(found.truncation)) == (0, 0, 0)


class TestEigenvalueDensity:
    def test_against_the_spectrum(self) -> None:
        H = gaussian(2, 90, 90)
        H = H + H.mT
        found = spectra.eigenvalue_density(H, 40, 90, generator(0), bandwidth=0.1)
        exact = torch.linalg.eigvalsh(H)
        h = found.bandwidth[:, None, None]
        kernel = (-0.5 * ((found.values[..., None] - exact[:, None]) / h).square()).exp() / (h * math.sqrt(2 * math.pi))
        assert ((found.mean - kernel.mean(-1)).abs() <= 4.5 * found.stderr + 1e-9).all()
        torch.testing.assert_close(
            torch.trapezoid(found.mean, found.values), torch.ones(2, dtype=F64), rtol=0, atol=1e-8
        )
        alone = spectra.eigenvalue_density(H[1], 40, 90, generator(0), bandwidth=0.1)
        torch.testing.assert_close(found.mean[1], alone.mean, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("scale", [1e-120, 1e120])
    def test_scale(self, scale: float) -> None:
        H = gaussian(40, 40)
        plain, scaled = (spectra.eigenvalue_density(c * (H + H.mT)) for c in (1.0, scale))
        torch.testing.assert_close(scaled.mean * scale, plain.mean, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(scaled.values / scale, plain.values, rtol=1e-9, atol=1e-9)

    def test_repeated_eigenvalues(self) -> None:
        found = spectra.eigenvalue_density(torch.eye(6, dtype=F64), bandwidth=0.05)
        assert float(found.values[found.mean.argmax()]) == pytest.approx(1, abs=0.05)
        assert float(found.stderr.max()) < 1e-10


class TestTransformer:
    def test_all_of_it_without_the_jacobian(self) -> None:
        chain = transformer(2, 16, 2, seed=1, dtype=F64)
        x = gaussian(2, 3, 16)
        dense = chain.linearize(x).dense()
        lin = chain.linearize(x, dense=False)
        exact = torch.linalg.svdvals(dense)
        top = spectra.top_singular_values(lin, 4)
        assert ((top.values - exact[:, :4]).abs() <= top.residual).all()
        assert (top.residual <= 1e-10 * exact[:, :1]).all()
        norm = spectra.squared_norm(lin, 12)
        assert ((norm.value - exact.square().sum(-1)).abs() <= 4 * norm.stderr).all()
        found = spectra.spectral_density(lin, 4, 20, bandwidth=0.3)
        torch.testing.assert_close(integral(found), torch.ones(2, dtype=F64), rtol=0, atol=1e-8)
        assert not found.mean.requires_grad

    @pytest.mark.filterwarnings("ignore")
    def test_gpt2_cut_in_float32(self) -> None:
        transformers = pytest.importorskip("transformers", reason="pip install 'jacobian-chain[hf]' to cut its models")
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=50, n_positions=8, n_embd=24, n_layer=2, n_head=2, attn_implementation="eager", use_cache=False
        )
        model = transformers.GPT2Model(config).eval().requires_grad_(False)
        chain, h = cut(model, "h.0", torch.arange(6)[None])
        lin = chain.linearize(h, dense=False)
        exact = torch.linalg.svdvals(lin.dense().double())[:, :3]
        found = spectra.top_singular_values(lin, 3)
        assert ((found.values - exact).abs() <= found.residual).all()
        assert (found.residual <= 1e-4 * exact[:, :1]).all()


NEEDS_PROBES: list[Callable[..., object]] = [
    spectra.spectral_density, spectra.eigenvalue_density, spectra.log_volume_estimate,
    spectra.trace, spectra.squared_norm,
]  # fmt: skip


class TestBadInput:
    @pytest.mark.parametrize("function", NEEDS_PROBES)
    @pytest.mark.parametrize("probes", [1, 0, -3, True])
    def test_too_few_probes(self, function: Callable[..., object], probes: int) -> None:
        with pytest.raises(ValueError, match=rf"probes={probes}; pass an integer of at least 2, or there is no error"):
            function(torch.eye(5, dtype=F64), probes)

    @pytest.mark.parametrize("function", NEEDS_PROBES[:3])
    def test_too_few_steps(self, function: Callable[..., object]) -> None:
        with pytest.raises(ValueError, match="steps=1; pass an integer of at least 2"):
            function(torch.eye(5, dtype=F64), 4, 1)

    @pytest.mark.parametrize("function", NEEDS_PROBES[:3])
    def test_zero_operator(self, function: Callable[..., object]) -> None:
        J = torch.stack([torch.eye(4, dtype=F64), torch.zeros(4, 4, dtype=F64)])
        with pytest.raises(ValueError, match="operator is zero in sample 1"):
            function(J)

    @pytest.mark.parametrize("function", [*NEEDS_PROBES, lambda operator: spectra.top_eigenvalues(operator, 1)])
    def test_no_operator(self, function: Callable[..., object]) -> None:
        with pytest.raises(TypeError, match="operator is a float; pass a linearization, or anything with shape"):
            function(1.0)

    @pytest.mark.parametrize("function", NEEDS_PROBES)
    def test_nan(self, function: Callable[..., object]) -> None:
        J = torch.eye(4, dtype=F64).repeat(3, 1, 1)
        J[2, 0, 0] = torch.nan
        with pytest.raises(ValueError, match="operator gives NaN or infinity in sample 2; check the model"):
            function(J)

    def test_not_square_or_symmetric(self) -> None:
        with pytest.raises(ValueError, match="operator is 3 × 4; a trace needs a square one, squared_norm takes any"):
            spectra.trace(torch.ones(3, 4))
        with pytest.raises(ValueError, match="operator is 3 × 4; eigenvalues need a square symmetric one"):
            spectra.eigenvalue_density(torch.ones(3, 4))
        with pytest.raises(ValueError, match="operator differs from its transpose by"):
            spectra.eigenvalue_density(gaussian(9, 9))

    @pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.inf, math.nan])
    def test_bandwidth(self, bandwidth: float) -> None:
        for function in (spectra.spectral_density, spectra.eigenvalue_density):
            with pytest.raises(ValueError, match=rf"bandwidth={bandwidth!r}; pass a positive number"):
                function(torch.eye(3), bandwidth=bandwidth)

    def test_grid_and_rank(self) -> None:
        with pytest.raises(ValueError, match=r"log_s has shape \(2, 3\); pass \(G,\), or None"):
            spectra.spectral_density(torch.eye(3), log_s=torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"rank='all'; pass .numerical., or None for all values"):
            spectra.log_volume_estimate(torch.eye(3), rank="all")

    def test_memory_is_refused_before_any_product(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(V: Tensor) -> Tensor:
            raise AssertionError("a product was taken")

        huge = Jacobian(never, never, torch.Size((2, 10**6, 10**6)), F64, torch.device("cpu"))
        monkeypatch.setattr(_operator, "available_bytes", lambda device: 1e9)
        monkeypatch.setattr(_quadrature, "available_bytes", lambda device: 1e9)
        said = r"steps=64 on 1000000 × 1000000, needs 2.05 GB, 1 GB are free; 3 times fewer steps or samples at once"
        with pytest.raises(MemoryError, match=said):
            spectra.spectral_density(huge)
        with pytest.raises(MemoryError, match=r"probes=16 .* needs 2.05 GB, 1 GB are free; 3 times fewer probes"):
            spectra.trace(huge)

    def test_nothing_is_differentiated(self) -> None:
        J = gaussian(6, 6).requires_grad_()
        parts = [f(J).__dict__ for f in (spectra.spectral_density, spectra.log_volume_estimate, spectra.squared_norm)]
        tensors = [part for found in parts for part in found.values() if isinstance(part, Tensor)]
        assert len(tensors) == 12
        assert not any(part.requires_grad for part in tensors)
        assert all(part.dtype == F64 for part in tensors)


@pytest.mark.cuda
def test_on_cuda() -> None:
    J = gaussian(2, 60, 50)
    found, here = (spectra.spectral_density(matrix, 4, 10) for matrix in (J.cuda(), J))
    assert found.mean.is_cuda
    torch.testing.assert_close(found.mean.cpu(), here.mean, rtol=1e-6, atol=1e-8)
