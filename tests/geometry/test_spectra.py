"""The spectra against numbers of high precision, exact arithmetic, identities and finite differences."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labkit import Linearization
from labkit.geometry import spectra
from labkit.linearization import Jacobian

REFERENCE = Path(__file__).parents[2] / "data" / "reference"
CASES = json.loads((REFERENCE / "log_singular_values.json").read_text())["cases"]
SEEDS = st.integers(0, 10**6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chain(seed: int, batch: int = 2, sizes: tuple[int, ...] = (4, 5, 3, 6)) -> Linearization:
    return Linearization([gaussian(batch, m, n, seed=seed + i) for i, (n, m) in enumerate(pairwise(sizes))])


def orthogonal(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(n, n, seed=seed))[0]


def reference(name: str) -> list[Tensor]:
    with np.load(REFERENCE / f"{name}.npz") as arrays:
        W = torch.from_numpy(arrays["W"])
        if "D" in arrays:
            W = torch.from_numpy(arrays["D"])[:, :, None] * W
    return [J[None] for J in W]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
class TestReferenceProducts:
    def test_values_and_error(self, case: dict) -> None:
        right = torch.tensor([float(x) for x in case["log_sv"]], dtype=torch.float64)
        for lin in (Linearization(reference(case["name"])), Linearization(reference(case["name"])).mT):
            spec = spectra.log_spectrum(lin)
            wrong = (spec.values[0] - right).abs()
            assert wrong.max() < 1e-11
            assert (wrong <= spec.error[0] + 1e-12).all()
            assert spec.error.max() < 1e-10
            torch.testing.assert_close(spectra.log_volume(lin)[0], right.sum(), rtol=0, atol=1e-10)

    def test_as_the_last_of_a_batch(self, case: dict) -> None:
        links = reference(case["name"])
        n = links[0].shape[-1]
        beside = [torch.cat([gaussian(4, n, n, seed=i), J]) for i, J in enumerate(links)]
        found = spectra.log_spectrum(Linearization(beside)).values[-1]
        right = torch.tensor([float(x) for x in case["log_sv"]], dtype=torch.float64)
        assert (found - right).abs().max() < 1e-11

    def test_the_product_itself_has_lost_them(self, case: dict) -> None:
        product = Linearization(reference(case["name"])).dense()
        right = torch.tensor([float(x) for x in case["log_sv"]], dtype=torch.float64)
        assert (torch.linalg.svdvals(product)[0].log() - right).abs().max() > 100


class TestExactArithmetic:
    @given(SEEDS, st.integers(1, 5), st.integers(1, 12))
    def test_gaussian_products(self, exact, seed: int, n: int, depth: int) -> None:
        links = [gaussian(n, n, seed=seed + i) for i in range(depth)]
        spec = spectra.log_spectrum(Linearization([J[None] for J in links]))
        wrong = (spec.values[0] - exact(links)).abs()
        assert (wrong <= spec.error[0] + 1e-11).all()

    @given(SEEDS, st.lists(st.integers(1, 5), min_size=2, max_size=6))
    def test_any_widths(self, exact, seed: int, sizes: list[int]) -> None:
        lin = chain(seed, batch=1, sizes=tuple(sizes))
        right = exact([lin[i][0] for i in range(len(lin))])
        spec = spectra.log_spectrum(lin)
        assert torch.equal(spec.values[0].isneginf(), right.isneginf())
        finite = right.isfinite()
        assert ((spec.values[0] - right)[finite].abs() <= spec.error[0][finite] + 1e-11).all()

    @given(SEEDS)
    def test_rank_of_relu_links(self, exact, seed: int) -> None:
        links = []
        for i in range(6):
            mask = (gaussian(5, seed=seed + 100 + i) > -0.8).double()
            W = gaussian(5, 5, seed=seed + i)
            links.append(mask[:, None] * W if i % 2 else W * mask)
        right = exact(links)
        spec = spectra.log_spectrum(Linearization([J[None] for J in links]))
        assert spec.rank.item() == right.isfinite().sum()
        assert spec.error[0][right.isneginf()].eq(0).all()
        finite = right.isfinite()
        assert ((spec.values[0] - right)[finite].abs() <= spec.error[0][finite] + 1e-11).all()


class TestIdentities:
    @given(SEEDS)
    def test_orthogonal_maps_change_nothing(self, seed: int) -> None:
        lin = chain(seed, sizes=(4, 4, 4))
        turned = Linearization([lin[0] @ orthogonal(4, seed + 50), orthogonal(4, seed + 51) @ lin[1]])
        expected, found = spectra.log_spectrum(lin), spectra.log_spectrum(turned)
        assert ((found.values - expected.values).abs() <= found.error + expected.error + 1e-11).all()

    @given(SEEDS)
    def test_permuting_neurons_changes_nothing(self, seed: int) -> None:
        lin = chain(seed, sizes=(4, 6, 4))
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        shuffled = Linearization([lin[0][:, order], lin[1][:, :, order]])
        expected, found = spectra.log_spectrum(lin), spectra.log_spectrum(shuffled)
        assert ((found.values - expected.values).abs() <= found.error + expected.error + 1e-11).all()

    @given(SEEDS, st.floats(-300, 300))
    def test_scaling_adds_to_every_logarithm(self, seed: int, log_scale: float) -> None:
        lin = chain(seed, sizes=(4, 4, 4))
        scaled = Linearization([J * np.exp(log_scale) for J in lin])
        torch.testing.assert_close(
            spectra.log_spectrum(scaled).values,
            spectra.log_spectrum(lin).values + 2 * log_scale,
            rtol=1e-12,
            atol=1e-11,
        )

    @given(SEEDS)
    def test_adjoint_has_the_same_nonzero_values(self, seed: int) -> None:
        lin = chain(seed)
        values, adjoint = spectra.log_spectrum(lin).values, spectra.log_spectrum(lin.mT).values
        torch.testing.assert_close(values[:, :3], adjoint[:, :3], rtol=0, atol=1e-10)
        assert values[:, 3:].isneginf().all()
        assert adjoint[:, 3:].isneginf().all()

    def test_batch_of_five_equals_a_loop(self) -> None:
        lin = chain(3, batch=5, sizes=(6, 6, 4, 6, 6))
        spec, volume = spectra.log_spectrum(lin, depths=range(5)), spectra.log_volume(lin, depths=range(5))
        for sample in (4, 3, 2, 1, 0):
            alone = Linearization([J[sample : sample + 1] for J in lin])
            single = spectra.log_spectrum(alone, depths=range(5))
            torch.testing.assert_close(spec.values[:, sample], single.values[:, 0], rtol=0, atol=1e-12)
            torch.testing.assert_close(volume[:, sample], single.log_volume()[:, 0], rtol=0, atol=1e-12)


class TestDepthsAndBasis:
    def test_depths_come_as_asked(self) -> None:
        lin = chain(1)
        spec = spectra.log_spectrum(lin, depths=[3, 0, 1, 3])
        assert spec.values.shape == spec.error.shape == (4, 2, 4)
        assert torch.equal(spec.values[0], spec.values[3])
        assert torch.equal(spec.values[1], torch.zeros(2, 4, dtype=torch.float64))
        torch.testing.assert_close(spec.values[2], torch.linalg.svdvals(lin[0]).log())
        assert torch.equal(spectra.log_spectrum(lin).values, spec.values[0])

    def test_every_prefix_is_that_of_the_slice(self) -> None:
        lin = chain(2, sizes=(5, 5, 7, 5, 3, 5))
        values = spectra.log_spectrum(lin, depths=range(1, 6)).values
        for depth in range(1, 6):
            torch.testing.assert_close(values[depth - 1], spectra.log_spectrum(lin[:depth]).values, rtol=0, atol=1e-12)

    def test_basis_restricts_the_prefix(self) -> None:
        lin = chain(4)
        basis = torch.linalg.qr(gaussian(2, 4, 2, seed=9))[0]
        expected = torch.linalg.svdvals(lin.dense() @ basis).log()
        torch.testing.assert_close(spectra.log_spectrum(lin, basis).values, expected)
        torch.testing.assert_close(spectra.log_volume(lin, basis), expected.sum(-1))
        shared = spectra.log_spectrum(lin, basis[0]).values
        torch.testing.assert_close(shared[0], expected[0])

    def test_lazy_links_give_the_same(self) -> None:
        lin = chain(5)
        lazy = Linearization([Jacobian(J.__matmul__, J.mT.__matmul__, J.shape, J.dtype, J.device) for J in lin])
        basis = orthogonal(4, 1)[:, :2]
        for kept in (None, basis):
            dense_spec, lazy_spec = (spectra.log_spectrum(each, kept, depths=range(4)) for each in (lin, lazy))
            torch.testing.assert_close(lazy_spec.values, dense_spec.values, rtol=0, atol=1e-12)
            assert lazy_spec.error.isinf().sum() == 0
            assert (lazy_spec.error <= 1e-12).all()
            torch.testing.assert_close(
                spectra.log_volume(lazy, kept, depths=[1, 2]), spectra.log_volume(lin, kept, depths=[1, 2])
            )


class TestError:
    def test_same_on_every_access_and_for_equal_generators(self) -> None:
        lin = chain(1, sizes=(6,) * 20)
        spec = spectra.log_spectrum(lin)
        assert spec.error is spec.error
        assert torch.equal(spec.error, spectra.log_spectrum(lin).error)
        other = spectra.log_spectrum(lin, generator=torch.Generator().manual_seed(7)).error
        assert not torch.equal(spec.error, other)

    def test_float32_links_have_a_floor_of_their_own(self) -> None:
        links = [J.float() for J in chain(1, sizes=(6,) * 20)]
        single = spectra.log_spectrum(Linearization(links))
        double = spectra.log_spectrum(Linearization([J.double() for J in links]))
        torch.testing.assert_close(single.values, double.values, rtol=0, atol=1e-11)
        assert single.values.dtype == single.error.dtype == torch.float64
        assert 1e-6 < single.error.median() < 1e-2
        assert double.error.median() < 1e-11

    def test_half_types_are_lifted(self) -> None:
        links = [J.bfloat16() for J in chain(2, sizes=(3, 3, 3))]
        spec = spectra.log_spectrum(Linearization(links))
        torch.testing.assert_close(spec.values, spectra.log_spectrum(Linearization([J.double() for J in links])).values)
        assert spec.error.max() > 1e-3

    def test_is_detached(self) -> None:
        links = [J.requires_grad_() for J in chain(2)]
        assert not spectra.log_spectrum(Linearization(links)).error.requires_grad


class TestSummaries:
    def test_against_the_values(self) -> None:
        spec = spectra.log_spectrum(chain(7, batch=3, sizes=(5, 5, 5)), depths=[1, 2])
        v = spec.values
        torch.testing.assert_close(spec.log_distortion(), v[..., 0] - v[..., 4])
        torch.testing.assert_close(spec.log_distortion(3), v[..., 0] - v[..., 2])
        torch.testing.assert_close(spec.log_volume(2), v[..., :2].sum(-1))
        squares = (2 * v).exp()
        torch.testing.assert_close(spec.isometry_gap(), squares.mean(-1).log() - squares.log().mean(-1))
        torch.testing.assert_close(
            spec.isometry_gap(2), squares[..., :2].mean(-1).log() - squares[..., :2].log().mean(-1)
        )
        s = v.exp()
        p = s / s.sum(-1, keepdim=True)
        torch.testing.assert_close(spectra.effective_rank(spec), (-(p * p.log()).sum(-1)).exp())

    def test_lost_rank_is_reported_as_it_is_and_has_a_twin(self) -> None:
        spec = spectra.log_spectrum(chain(7), depths=[3])
        assert spec.rank.tolist() == [[3, 3]]
        assert spec.log_distortion().isposinf().all()
        assert spec.isometry_gap().isposinf().all()
        assert spec.log_volume().isneginf().all()
        for summary in (spec.log_distortion, spec.log_volume, spec.isometry_gap):
            assert summary(3).isfinite().all()
            assert torch.equal(summary("numerical"), summary(3))
        assert (spectra.effective_rank(spec) < 3).all()

    def test_zero_matrix(self) -> None:
        spec = spectra.log_spectrum(Linearization([torch.zeros(1, 3, 3), torch.eye(3)[None]]))
        assert spec.rank.item() == 0
        assert spec.log_distortion().isposinf()
        assert spec.isometry_gap().isposinf()
        assert spec.log_distortion("numerical").isnan()
        assert spec.isometry_gap("numerical").isnan()
        assert spectra.effective_rank(spec).isnan()
        assert spec.error.eq(0).all()

    def test_of_any_magnitude(self) -> None:
        links = [1e200 * orthogonal(4, i)[None] for i in range(10)]
        spec = spectra.log_spectrum(Linearization(links))
        torch.testing.assert_close(spectra.effective_rank(spec), torch.tensor([4.0], dtype=torch.float64))
        assert spec.isometry_gap().abs() < 1e-11

    @pytest.mark.parametrize("rank", [0, 5, -1, True, "all"])
    def test_impossible_rank_is_refused(self, rank: object) -> None:
        with pytest.raises(ValueError, match="rank="):
            spectra.log_spectrum(chain(1)).log_volume(rank)

    def test_nonnormality(self) -> None:
        normal = orthogonal(5, 3) @ torch.diag(gaussian(5)) @ orthogonal(5, 3).mT
        assert spectra.nonnormality(Linearization([normal[None]])) < 1e-14
        lin = chain(3, batch=5, sizes=(4, 6, 4))
        J = lin.dense()
        lam = torch.linalg.eigvals(J).abs().square().sum(-1)
        torch.testing.assert_close(spectra.nonnormality(lin), (1 - lam / J.square().sum((-2, -1))).sqrt())
        shear = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
        assert spectra.nonnormality(Linearization([1e300 * shear] * 9)).item() == pytest.approx((81 / 83) ** 0.5)
        assert spectra.nonnormality(Linearization([torch.zeros(1, 2, 2)])).item() == 0
        with pytest.raises(ValueError, match="square"):
            spectra.nonnormality(chain(1))


def central_difference(function, step: float = 1e-4) -> float:
    wide = (function(2 * step) - function(-2 * step)) / (4 * step)
    return float((4 * (function(step) - function(-step)) / (2 * step) - wide) / 3)


SUMMARIES = {
    "values": lambda lin: (
        spectra.log_spectrum(lin, depths=[1, 3, 3]).log_volume(1)
        + spectra.log_spectrum(lin, depths=[1, 3, 3]).log_distortion("numerical")
    ),
    "numerical volume": lambda lin: spectra.log_spectrum(lin, depths=range(4)).log_volume("numerical"),
    "numerical gap": lambda lin: spectra.log_spectrum(lin, depths=range(4)).isometry_gap("numerical"),
    "volume of rank 2": lambda lin: spectra.log_spectrum(lin).log_volume(2),
    "effective rank": lambda lin: spectra.effective_rank(spectra.log_spectrum(lin, depths=[2, 3])),
    "volume in a plane": lambda lin: spectra.log_volume(lin, orthogonal(lin.sizes[0], 1)[:, :2], depths=range(4)),
}


class TestDerivatives:
    @pytest.mark.parametrize("name", SUMMARIES)
    @pytest.mark.parametrize("kind", ["rectangular", "square", "relu rows", "relu columns"])
    def test_equal_finite_differences(self, name: str, kind: str) -> None:
        sizes = (4, 5, 3, 6) if kind == "rectangular" else (4, 4, 4, 4)
        base, change = chain(11, batch=3, sizes=sizes), chain(22, batch=3, sizes=sizes)
        masks = [torch.ones(J.shape, dtype=torch.float64) for J in base]
        if kind == "relu rows":
            masks[0][:, 1], masks[2][:, 3] = 0, 0
        if kind == "relu columns":
            masks[1][:, :, 2] = 0
        weight = gaussian(3, seed=5)

        def at(t: Tensor | float) -> Tensor:
            lin = Linearization([m * (J + t * C) for J, C, m in zip(base, change, masks, strict=True)])
            return (SUMMARIES[name](lin) * weight).sum()

        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(at(t), t)
        assert slope.item() == pytest.approx(central_difference(at), rel=1e-6, abs=1e-8)

    def test_of_a_deep_chain(self) -> None:
        base, change = chain(1, sizes=(4,) * 60), chain(2, sizes=(4,) * 60)
        weight = gaussian(2, 4, seed=3)

        def at(t: Tensor | float) -> Tensor:
            lin = Linearization([J + t * C for J, C in zip(base, change, strict=True)])
            return (spectra.log_spectrum(lin).values * weight).sum()

        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(at(t), t)
        assert slope.item() == pytest.approx(central_difference(at, 1e-5), rel=1e-6)

    @pytest.mark.parametrize("lost", ["some", "all"])
    def test_backward_through_lost_rank_names_the_way_out(self, lost: str) -> None:
        links = [
            gaussian(2, 3, 3).requires_grad_(),
            (torch.zeros(2, 3, 3) if lost == "all" else torch.ones(2, 3, 3)).double(),
        ]
        lin = Linearization([J * 1.0 for J in links])
        spec = spectra.log_spectrum(lin)
        for value in (
            spec.values.sum(),
            spec.log_volume().sum(),
            spec.log_distortion().sum(),
            spectra.log_volume(lin).sum(),
        ):
            with pytest.raises(RuntimeError, match="rank="):
                value.backward(retain_graph=True)


class TestBadInput:
    @pytest.mark.parametrize("function", [spectra.log_spectrum, spectra.log_volume])
    def test_is_refused_in_one_sentence(self, function) -> None:
        lin = chain(1)
        with pytest.raises(TypeError, match="lin is a list"):
            function([torch.eye(3)])
        for basis, said in (
            (torch.eye(3), "has shape"),
            (torch.eye(4)[None].expand(5, 4, 4), "has shape"),
            (torch.ones(4, 2), "dependent"),
            (2 * torch.eye(4), "not orthonormal"),
            (torch.full((4, 1), torch.nan), "basis"),
        ):
            with pytest.raises(ValueError, match=said):
                function(lin, basis)
        with pytest.raises(TypeError, match=r"basis is torch\.int64"):
            function(lin, torch.eye(4, dtype=torch.int64))
        with pytest.raises(ValueError, match="depths holds 4"):
            function(lin, depths=[0, 4])
        with pytest.raises(ValueError, match="depths holds -1"):
            function(lin, depths=[-1])
        with pytest.raises(ValueError, match="depths is empty"):
            function(lin, depths=[])
        with pytest.raises(TypeError, match="depths"):
            function(lin, depths=3)
        with pytest.raises(TypeError, match="depths"):
            function(lin, depths=[0.5])

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_a_link_with_nan_is_named(self, value: float) -> None:
        links = list(chain(1))
        links[1] = links[1].clone()
        links[1][1, 0, 0] = value
        for function in (spectra.log_spectrum, spectra.log_volume):
            with pytest.raises(ValueError, match=r"lin\[1\].*sample 1"):
                function(Linearization(links))


@pytest.mark.cuda
class TestOnCuda:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_reference_products(self, case: dict) -> None:
        lin = Linearization([J.cuda() for J in reference(case["name"])])
        spec = spectra.log_spectrum(lin)
        right = torch.tensor([float(x) for x in case["log_sv"]], dtype=torch.float64)
        assert spec.values.is_cuda
        assert spec.error.is_cuda
        assert (spec.values[0].cpu() - right).abs().max() < 1e-10

    def test_agrees_with_the_cpu(self) -> None:
        lin = chain(1, batch=5, sizes=(16,) * 30)
        there = Linearization([J.cuda() for J in lin])
        for function in (spectra.log_volume, lambda each: spectra.log_spectrum(each).values):
            torch.testing.assert_close(function(there).cpu(), function(lin), rtol=0, atol=1e-10)
