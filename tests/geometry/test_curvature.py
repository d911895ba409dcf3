"""Pointwise curvature against exact symbolic references, closed forms, derivatives of the metric and its identities."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacfwd, vmap

from labkit import Chain
from labkit.geometry import curvature
from labkit.jets import Jet
from labkit.networks import mlp

F64 = torch.float64
REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/curvature.json").read_text())["immersions"]
Immersion = Callable[[Tensor], Tensor]  # one point (k,) to its image (n,)

POINTWISE: dict[str, Callable[[Jet], Tensor]] = {
    "second_fundamental_form": curvature.second_fundamental_form,
    "mean_curvature": curvature.mean_curvature,
    "christoffel": curvature.christoffel,
    "riemann": curvature.riemann,
    "ricci": curvature.ricci,
    "scalar_curvature": curvature.scalar_curvature,
    "sectional_curvature": lambda jet: curvature.sectional_curvature(jet, first_axis(jet), 1 - 3 * first_axis(jet)),
    "bill": curvature.bill,
}


def first_axis(jet: Jet) -> Tensor:
    return torch.eye(jet.first.shape[-1], dtype=jet.first.dtype)[0]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def jet_of(f: Immersion, x: Tensor) -> Jet:
    """By nested forward mode, which knows nothing of links."""
    return Jet(vmap(f)(x), vmap(jacfwd(f))(x), vmap(jacfwd(jacfwd(f)))(x))


def random_jet(batch: int, n: int, k: int, links: int = 3, seed: int = 0) -> Jet:
    parts = gaussian(links, batch, n, k, k, seed=seed + 1)
    parts = parts + parts.mT
    return Jet(torch.zeros(batch, n, dtype=F64), gaussian(batch, n, k, seed=seed), parts.sum(0), parts)


def network(n_in: int, n_out: int, seed: int = 0) -> Immersion:
    A, B = gaussian(6, n_in, seed=seed), gaussian(n_out, 6, seed=seed + 1)
    return lambda x: (B @ torch.tanh(A @ x + 0.1)).sin()


def sphere(x: Tensor) -> Tensor:
    """Of any dimension, in angles."""
    sines = torch.cat([torch.ones(1, dtype=x.dtype), x.sin()]).cumprod(0)
    return sines * torch.cat([x.cos(), torch.ones(1, dtype=x.dtype)])


def torus(x: Tensor) -> Tensor:
    """Of revolution, radii 2 and 0.7, the angle of the tube first."""
    ring = 2 + 0.7 * x[0].cos()
    return torch.stack([ring * x[1].cos(), ring * x[1].sin(), 0.7 * x[0].sin()])


class TestReference:
    @pytest.fixture(params=REFERENCE, ids=lambda case: case["name"])
    def case(self, request: pytest.FixtureRequest) -> dict:
        return request.param

    @pytest.fixture
    def jet(self, case: dict) -> Jet:
        """At the point of the reference first and last, elsewhere between."""
        names = {name: getattr(torch, name) for name in ("sin", "cos", "exp", "tanh")}
        formulas = [compile(formula, case["name"], "eval") for formula in case["immersion"]]

        def immersion(x: Tensor) -> Tensor:
            values = dict(zip(case["coords"], x.unbind(), strict=True))
            return torch.stack([eval(formula, names, values) for formula in formulas])

        point = torch.tensor([float(entry) for entry in case["point"]], dtype=F64)
        return jet_of(immersion, point + torch.tensor([0.0, 0.1, -0.2, 0.0], dtype=F64)[:, None])

    @pytest.mark.parametrize("sample", [0, -1])
    def test_agrees_to_nine_digits(self, case: dict, jet: Jet, sample: int) -> None:
        def numbers(values: list) -> Tensor:
            return torch.tensor([numbers(v).tolist() if isinstance(v, list) else float(v) for v in values], dtype=F64)

        assert_to_nine_digits(curvature.christoffel(jet)[sample], numbers(case["christoffel"]))
        assert_to_nine_digits(curvature.riemann(jet)[sample], numbers(case["riemann_down"]))
        assert_to_nine_digits(curvature.ricci(jet)[sample], numbers(case["ricci"]))
        assert_to_nine_digits(curvature.scalar_curvature(jet)[sample], numbers([case["ricci_scalar"]])[0])
        mean = curvature.mean_curvature(jet)[sample].norm()
        assert_to_nine_digits(mean, numbers([case["mean_curvature_vector_norm"]])[0])
        inverse = torch.linalg.inv(jet.first[sample].mT @ jet.first[sample])
        form = curvature.second_fundamental_form(jet)[sample]
        size = torch.einsum("nij,nkl,ik,jl->", form, form, inverse, inverse)
        assert_to_nine_digits(size, numbers([case["second_fundamental_form_norm_sq"]])[0])
        unit = torch.eye(case["dim"], dtype=F64)
        for plane, expected in case["sectional_coordinate_planes"].items():
            found = curvature.sectional_curvature(jet, *(unit[int(axis)] for axis in plane))[sample]
            assert_to_nine_digits(found, numbers([expected])[0])


def assert_to_nine_digits(found: Tensor, expected: Tensor) -> None:
    """Relative to the largest entry; against 0, absolutely, as |II|² is of size one in these cases."""
    assert (found - expected).abs().max() <= 1e-9 * (expected.abs().max() or 1.0)


class TestClosedForms:
    points = 0.3 + torch.rand(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)

    @pytest.mark.parametrize("dimension", [1, 2, 3, 5])
    def test_unit_spheres(self, dimension: int) -> None:
        jet = jet_of(sphere, gaussian(4, dimension, seed=3).abs() / 3 + 0.4)
        torch.testing.assert_close(
            curvature.scalar_curvature(jet), torch.full((4,), 1.0 * dimension * (dimension - 1), dtype=F64)
        )
        torch.testing.assert_close(curvature.mean_curvature(jet), -jet.value)
        g = jet.first.mT @ jet.first
        torch.testing.assert_close(curvature.ricci(jet), (dimension - 1) * g)
        torch.testing.assert_close(
            curvature.riemann(jet),
            torch.einsum("bik,bjl->bijkl", g, g) - torch.einsum("bil,bjk->bijkl", g, g),
        )
        if dimension > 1:
            u, v = gaussian(4, dimension, seed=5), gaussian(dimension, seed=6)
            torch.testing.assert_close(curvature.sectional_curvature(jet, u, v), torch.ones(4, dtype=F64))

    @pytest.mark.parametrize(
        ("immersion", "gauss"),
        [
            (lambda x: torch.stack([*x, x.square().sum() / 2]), lambda x, y: (1 + x**2 + y**2) ** -2),
            (lambda x: torch.stack([*x, x[0] * x[1]]), lambda x, y: -((1 + x**2 + y**2) ** -2)),
            (
                lambda x: torch.stack([x[0].cosh() * x[1].cos(), x[0].cosh() * x[1].sin(), x[0].sinh()]),
                lambda x, y: -((2 * x).cosh() ** -2),
            ),
            (
                lambda x: torch.stack([x[0].sinh() * x[1].cos(), x[0].sinh() * x[1].sin(), x[0].cosh()]),
                lambda x, y: (2 * x).cosh() ** -2,
            ),
            (torus, lambda x, y: x.cos() / (0.7 * (2 + 0.7 * x.cos()))),
            (lambda x: torch.cat([2 * x.cos(), 3 * x.sin()]), None),
            (lambda x: torch.cat([x.cos(), x.sin()]) / math.sqrt(2), lambda x, y: 0 * x),
        ],
        ids=["paraboloid", "saddle", "one sheet", "two sheets", "torus", "flat torus of ellipses", "Clifford torus"],
    )
    def test_gauss_curvature_of_surfaces(self, immersion: Immersion, gauss: Callable | None) -> None:
        expected = torch.zeros(5, dtype=F64) if gauss is None else gauss(*self.points.T)
        jet = jet_of(immersion, self.points)
        torch.testing.assert_close(curvature.scalar_curvature(jet), 2 * expected, rtol=1e-10, atol=1e-13)

    def test_the_clifford_torus_is_flat_and_yet_bends(self) -> None:
        jet = jet_of(lambda x: torch.cat([x.cos(), x.sin()]) / math.sqrt(2), self.points)
        torch.testing.assert_close(curvature.mean_curvature(jet), -jet.value)  # minimal in the sphere

    def test_a_chart_of_space_is_flat(self) -> None:
        A = gaussian(3, 3)
        jet = jet_of(lambda x: x + 0.3 * torch.sin(A @ x), gaussian(4, 3, seed=2))
        assert curvature.riemann(jet).abs().max() < 1e-26  # II is rounding, and curvature its square
        assert curvature.christoffel(jet).abs().max() > 0.01

    @pytest.mark.parametrize(("d", "sigma", "zeta"), [(2, 1.0, 1.0), (2, 1.4, 0.5)])
    def test_infinitely_wide_layers_of_erf(self, d: int, sigma: float, zeta: float) -> None:
        """Zavatone-Veth et al. 2023; the mean over weights is quadrature, hence itself an immersion."""
        nodes, weights = gauss_hermite(32)
        grid = torch.cartesian_prod(*[nodes] * (d + 1))
        mass = torch.cartesian_prod(*[weights] * (d + 1)).prod(-1).sqrt()
        A, b = sigma * grid[:, :d], zeta * grid[:, d]
        x = torch.tensor([[0.7, -0.4], [0.1, 0.3]], dtype=F64)
        jet = jet_of(lambda x: mass * torch.erf((A @ x + b) / math.sqrt(2)), x)
        s = x.square().sum(-1)
        wide = (1 + 2 * (sigma**2 * s + zeta**2)).sqrt()
        expected = -(d - 1) * (d + 2) * math.pi * sigma**2 * s / (2 * (1 + 2 * zeta**2) * wide)
        torch.testing.assert_close(curvature.scalar_curvature(jet), expected, rtol=1e-4, atol=0)


def gauss_hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the standard normal law, by Golub and Welsch."""
    off = torch.arange(1, count, dtype=F64).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return values, vectors[0].square()


class TestIdentities:
    jet = jet_of(network(4, 9), gaussian(3, 4, seed=7))

    def test_symmetries_and_the_first_bianchi_identity(self) -> None:
        R = curvature.riemann(self.jet)
        assert R.abs().max() > 0.1
        torch.testing.assert_close(R, -R.transpose(1, 2))
        torch.testing.assert_close(R, -R.transpose(3, 4))
        torch.testing.assert_close(R, R.permute(0, 3, 4, 1, 2))
        cyclic = R + R.permute(0, 1, 3, 4, 2) + R.permute(0, 1, 4, 2, 3)
        assert cyclic.abs().max() < 1e-13 * R.abs().max()

    def test_contractions(self) -> None:
        R, inverse = curvature.riemann(self.jet), torch.linalg.inv(self.jet.first.mT @ self.jet.first)
        ricci = torch.einsum("bijkl,bik->bjl", R, inverse)
        torch.testing.assert_close(curvature.ricci(self.jet), ricci, rtol=1e-9, atol=1e-9)
        scalar = torch.einsum("bij,bij->b", ricci, inverse)
        torch.testing.assert_close(curvature.scalar_curvature(self.jet), scalar, rtol=1e-9, atol=1e-9)
        u, v = gaussian(3, 4, seed=8), gaussian(3, 4, seed=9)
        g = self.jet.first.mT @ self.jet.first
        uu, vv, uv = (torch.einsum("bi,bij,bj->b", a, g, b) for a, b in ((u, u), (v, v), (u, v)))
        plane = torch.einsum("bijkl,bi,bj,bk,bl->b", R, u, v, u, v) / (uu * vv - uv**2)
        torch.testing.assert_close(curvature.sectional_curvature(self.jet, u, v), plane, rtol=1e-9, atol=1e-9)

    def test_what_it_says_is_normal_is(self) -> None:
        form = curvature.second_fundamental_form(self.jet)
        assert torch.einsum("bna,bnij->baij", self.jet.first, form).abs().max() < 1e-13
        tangent = torch.einsum("bna,baij->bnij", self.jet.first, curvature.christoffel(self.jet))
        torch.testing.assert_close(form + tangent, self.jet.second)

    def test_against_derivatives_of_the_metric_and_of_its_christoffel_symbols(self) -> None:
        """The textbook's way, with third derivatives of f and no normal space."""
        f, x = network(3, 7), gaussian(3, 3, seed=4)

        def christoffel(p: Tensor) -> Tensor:
            def metric(q: Tensor) -> Tensor:
                J = jacfwd(f)(q)
                return J.mT @ J

            dg = jacfwd(metric)(p)  # [i, j, l] = d_l g_ij
            lowered = 0.5 * (dg.permute(1, 2, 0) + dg.permute(1, 0, 2) - dg.permute(2, 0, 1))  # [l, i, j]
            return torch.einsum("cl,lij->cij", torch.linalg.inv(metric(p)), lowered)

        gamma, dgamma = vmap(christoffel)(x), vmap(jacfwd(christoffel))(x)  # [r, n, s, m] = d_m Γ^r_ns
        raised = torch.einsum("brnsm->brsmn", dgamma) + torch.einsum("brml,blns->brsmn", gamma, gamma)
        raised = raised - raised.transpose(-1, -2)
        jet = jet_of(f, x)
        lowered = torch.einsum("brq,bqsmn->brsmn", jet.first.mT @ jet.first, raised)
        torch.testing.assert_close(curvature.christoffel(jet), gamma, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(curvature.riemann(jet), lowered, rtol=1e-8, atol=1e-8)

    @given(seed=st.integers(0, 2**16), k=st.integers(2, 4))
    def test_scalar_curvature_is_invariant_and_christoffel_symbols_are_not(self, seed: int, k: int) -> None:
        f, y = network(k, 6, seed), gaussian(2, k, seed=seed + 2)
        turn = torch.linalg.qr(gaussian(8, 6, seed=seed + 3)).Q
        A = gaussian(k, k, seed=seed + 4) / (4 * k)

        def reparametrised(y: Tensor) -> Tensor:
            return y + torch.sin(A @ y)

        x = vmap(reparametrised)(y)
        plain = jet_of(f, x)
        moved = jet_of(lambda x: turn @ f(x) + 3, x)
        other = jet_of(lambda y: f(reparametrised(y)), y)
        size = curvature.riemann(plain).abs().max() * torch.linalg.cond(plain.first).max() ** 4
        expected = curvature.scalar_curvature(plain)
        for same in (moved, other):
            assert (curvature.scalar_curvature(same) - expected).abs().max() <= 1e-13 * size
        torch.testing.assert_close(curvature.christoffel(moved), curvature.christoffel(plain), rtol=1e-6, atol=1e-6)
        assert (curvature.christoffel(other) - curvature.christoffel(plain)).abs().max() > 1e-4


class TestGaussBonnet:
    """∫ K dA = 2π χ on closed surfaces, however a network deforms them."""

    @staticmethod
    def integral(surface: Immersion, points: Tensor, weights: Tensor) -> float:
        A, B = gaussian(3, 3, seed=1), gaussian(2, 3, seed=2)

        def deform(x: Tensor) -> Tensor:
            return torch.cat([x + 0.3 * torch.tanh(A @ x), 0.4 * torch.tanh(B @ x)])

        jet = jet_of(lambda x: deform(surface(x)), points)
        area = (jet.first.mT @ jet.first).det().sqrt()
        assert curvature.scalar_curvature(jet).std() > 0.1
        return float((weights * area * curvature.scalar_curvature(jet) / 2).sum())

    def test_torus(self) -> None:
        angle = torch.arange(112, dtype=F64) * 2 * math.pi / 112
        found = self.integral(torus, torch.cartesian_prod(angle, angle), torch.tensor((2 * math.pi / 112) ** 2))
        assert found == pytest.approx(0, abs=1e-9)

    def test_sphere(self) -> None:
        off = torch.arange(1, 40, dtype=F64)
        off = off / (4 * off**2 - 1).sqrt()
        heights, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))  # Gauss–Legendre
        angle = torch.arange(80, dtype=F64) * 2 * math.pi / 80
        points = torch.cartesian_prod(heights, angle)
        weights = (2 * vectors[0].square()).repeat_interleave(80) * 2 * math.pi / 80

        def by_height(x: Tensor) -> Tensor:
            ring = (1 - x[0] ** 2).sqrt()
            return torch.stack([ring * x[1].cos(), ring * x[1].sin(), x[0]])

        assert self.integral(by_height, points, weights) == pytest.approx(4 * math.pi, rel=1e-7)


class TestBill:
    def test_it_sums_to_the_scalar_curvature_and_is_symmetric(self) -> None:
        jet = random_jet(4, 7, 3, links=5)
        found = curvature.bill(jet)
        assert found.shape == (4, 5, 5)
        torch.testing.assert_close(found, found.mT)
        torch.testing.assert_close(found.sum((1, 2)), curvature.scalar_curvature(jet))

    def test_merging_links_merges_its_rows_and_columns(self) -> None:
        jet = random_jet(2, 6, 3, links=4)
        assert jet.parts is not None
        merged = torch.stack([jet.parts[0], jet.parts[1] + jet.parts[2], jet.parts[3]])
        groups = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=F64)
        found = curvature.bill(Jet(jet.value, jet.first, jet.second, merged))
        torch.testing.assert_close(found, groups @ curvature.bill(jet) @ groups.mT)

    def test_its_diagonal_is_the_curvature_of_a_link_that_alone_bends(self) -> None:
        jet = random_jet(2, 6, 3)
        assert jet.parts is not None
        alone = [curvature.scalar_curvature(Jet(jet.value, jet.first, part)) for part in jet.parts]
        torch.testing.assert_close(curvature.bill(jet).diagonal(dim1=1, dim2=2), torch.stack(alone, 1))

    def test_of_a_chain_whose_links_are_merged(self) -> None:
        torch.manual_seed(0)
        links = [nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 7), nn.Softplus(), nn.Linear(7, 6), nn.GELU()]
        x = gaussian(5, 3)
        jet = Chain(links).double().jet(x, by_link=True)
        found = curvature.bill(jet)
        assert found[:, ::2].eq(0).all()  # affine links bend nothing
        assert found.abs().min(dim=0).values[1::2, 1::2].min() > 0
        torch.testing.assert_close(found.sum((1, 2)), curvature.scalar_curvature(jet_of(nn.Sequential(*links), x)))
        merged = curvature.bill(Chain([Chain(links[:4]), Chain(links[4:])]).jet(x, by_link=True))
        blocks = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=F64)
        torch.testing.assert_close(merged, blocks @ found @ blocks.mT)

    def test_without_parts(self) -> None:
        jet = random_jet(2, 6, 3)
        with pytest.raises(ValueError, match=r"jet has no parts by link; ask for .* chain\.jet\(x, by_link=True\)"):
            curvature.bill(Jet(jet.value, jet.first, jet.second))


class TestCurves:
    def test_poole_s_formula(self) -> None:
        jet = jet_of(network(1, 6), torch.linspace(-1, 1, 7, dtype=F64)[:, None])
        v, a = jet.first[..., 0], jet.second[..., 0, 0]
        vv, aa, va = (v * v).sum(-1), (a * a).sum(-1), (v * a).sum(-1)
        found = curvature.curve_geometry(jet)
        torch.testing.assert_close(found.speed, vv.sqrt())
        torch.testing.assert_close(found.curvature, vv**-1.5 * (vv * aa - va**2).sqrt())
        torch.testing.assert_close(found.turning, found.curvature * found.speed)

    def test_a_helix_and_a_line_at_any_pace(self) -> None:
        t = torch.linspace(0.5, 2, 5, dtype=F64)[:, None]
        helix = jet_of(lambda t: torch.stack([2 * t[0].exp().cos(), 2 * t[0].exp().sin(), 3 * t[0].exp()]), t)
        torch.testing.assert_close(curvature.curve_geometry(helix).curvature, torch.full((5,), 2 / 13, dtype=F64))
        line = jet_of(lambda t: torch.cat([t.exp(), -2 * t.exp(), t.exp() / 3]), t)
        assert curvature.curve_geometry(line).curvature.max() < 1e-14
        assert curvature.scalar_curvature(helix).eq(0).all()  # a curve has no inner curvature, not even of rounding

    def test_a_great_circle_in_random_networks(self) -> None:
        """Poole et al. 2016: κ̄² = N κ² → 3 χ_2/χ_1² + κ̄²/χ_1 and ḡ → χ_1 ḡ, of four networks of width 1000."""
        q_star, chi_1, chi_2 = 4.079123875282, 1.585224765006, 1.196041291424278  # of tanh at (2.5, 0.3)
        t = torch.arange(8, dtype=F64)[:, None] * math.pi / 4
        speeds, bends = [], []
        for seed in range(4):
            axes = torch.linalg.qr(gaussian(1000, 2, seed=seed)).Q.mT * (1000 * q_star) ** 0.5
            layers = mlp(4, 1000, "tanh", sigma_w=2.5, sigma_b=0.3, seed=seed, dtype=F64).requires_grad_(False)
            chain = Chain([lambda t, axes=axes: torch.cat([t.cos(), t.sin()], 1) @ axes, *layers])
            along = [curvature.curve_geometry(jet) for jet in list(chain.jets(t))[1:]]
            speeds.append(torch.stack([each.speed.square().mean() / 1000 for each in along]))
            bends.append(torch.stack([each.curvature.square().mean() * 1000 for each in along]))
        g, bend = q_star, 1 / q_star
        for depth in range(5):
            assert float(torch.stack(speeds)[:, depth].mean()) == pytest.approx(g, rel=0.1)
            assert float(torch.stack(bends)[:, depth].mean()) == pytest.approx(bend, rel=0.1)
            g, bend = chi_1 * g, 3 * chi_2 / chi_1**2 + bend / chi_1

    def test_surfaces_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"jet has k = 2 directions; a curve has one, from a basis \(n_0, 1\)"):
            curvature.curve_geometry(random_jet(1, 3, 2))


class TestNumbers:
    @pytest.mark.parametrize("name", POINTWISE)
    def test_batch_of_five_equals_a_loop(self, name: str) -> None:
        jet, function = random_jet(5, 6, 3), POINTWISE[name]
        assert jet.parts is not None
        found = function(jet)
        for sample in (4, 3, 0):
            own = slice(sample, sample + 1)
            alone = Jet(jet.value[own], jet.first[own], jet.second[own], jet.parts[:, own])
            torch.testing.assert_close(found[sample], function(alone)[0], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("name", [*POINTWISE, "curve_geometry"])
    def test_derivatives(self, name: str) -> None:
        jet = random_jet(2, 5, 1 if name == "curve_geometry" else 2, links=2)
        assert jet.parts is not None

        def function(first: Tensor, parts: Tensor) -> Tensor | tuple[Tensor, ...]:
            moved = Jet(jet.value, first, parts.sum(0), parts)
            if name in POINTWISE:
                return POINTWISE[name](moved)
            return tuple(vars(curvature.curve_geometry(moved)).values())

        assert torch.autograd.gradcheck(function, (jet.first.requires_grad_(), jet.parts.requires_grad_()))

    def test_derivatives_through_a_chain_in_weights_and_inputs(self) -> None:
        torch.manual_seed(0)
        chain = Chain([nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 5), nn.GELU()]).double()
        x = gaussian(3, 2).requires_grad_()

        def total() -> Tensor:
            jet = chain.jet(x, by_link=True)
            return (curvature.scalar_curvature(jet) + curvature.bill(jet)[:, 3, 3]).sin().sum()

        inputs = [x, chain[0].weight, chain[2].bias]
        for tensor, gradient in zip(inputs, torch.autograd.grad(total(), inputs), strict=True):
            step = 1e-7 * gaussian(*tensor.shape, seed=8)
            with torch.no_grad():
                tensor += step
                ahead = total()
                tensor -= 2 * step
                behind = total()
                tensor += step
            assert float((ahead - behind) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-6)

    @pytest.mark.parametrize("name", POINTWISE)
    def test_float32_loses_what_rounding_its_jet_does(self, name: str) -> None:
        """At condition numbers below 10 at most 1e-5 of the largest entry, 100 times the rounding of float32."""
        jet, function = random_jet(8, 20, 3), POINTWISE[name]
        assert jet.parts is not None
        assert torch.linalg.cond(jet.first).max() < 10
        found = function(Jet(jet.value.float(), jet.first.float(), jet.second.float(), jet.parts.float()))
        exact = function(jet)
        assert found.dtype == torch.float32
        assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_types_are_lifted_and_given_back(self, dtype: torch.dtype) -> None:
        jet = random_jet(8, 50, 3)
        found = curvature.scalar_curvature(Jet(jet.value.to(dtype), jet.first.to(dtype), jet.second.to(dtype)))
        assert found.dtype == dtype
        expected = curvature.scalar_curvature(jet)
        torch.testing.assert_close(found.double(), expected, rtol=8 * torch.finfo(dtype).eps, atol=0)

    @pytest.mark.parametrize("size", [1e-150, 1e-20, 1e20, 1e150])
    def test_the_scale_of_a_direction_does_not_matter(self, size: float) -> None:
        jet = random_jet(3, 6, 2)
        pace = torch.tensor([size, 1.0], dtype=F64)
        stretched = Jet(jet.value, jet.first * pace, jet.second * pace[:, None] * pace.sqrt() * pace.sqrt())
        torch.testing.assert_close(curvature.scalar_curvature(stretched), curvature.scalar_curvature(jet))

    def test_a_strong_bend_does_not_drown_a_weak_one(self) -> None:
        """A sheet of curvatures 1e10 and 1e-9: the squares that cancel are 1e19 times the product that remains."""
        second = torch.zeros(1, 3, 2, 2, dtype=F64)
        second[0, 2] = torch.tensor([1e10, 1e-9], dtype=F64).diag()
        jet = Jet(torch.zeros(1, 3, dtype=F64), torch.eye(3, 2, dtype=F64)[None], second, second[None])
        assert curvature.scalar_curvature(jet).item() == pytest.approx(20, rel=1e-12)
        assert curvature.bill(jet).item() == pytest.approx(20, rel=1e-12)

    def test_nearly_dependent_columns_cost_the_square_of_their_condition(self) -> None:
        jet = random_jet(3, 6, 2)
        A = torch.tensor([[1.0, 1.0], [1.0, 1.0001]], dtype=F64)
        sheared = Jet(jet.value, jet.first @ A, A.mT @ jet.second @ A)
        error = (curvature.scalar_curvature(sheared) - curvature.scalar_curvature(jet)).abs()
        size = curvature.second_fundamental_form(jet).square().sum((1, 2, 3))
        assert (error <= 1e-15 * torch.linalg.cond(sheared.first) ** 2 * size).all()


class TestBadInput:
    @pytest.mark.parametrize("name", POINTWISE)
    def test_a_lost_direction_is_named(self, name: str) -> None:
        jet = random_jet(3, 5, 2)
        first = jet.first.clone()
        first[2, :, 1] = -2 * first[2, :, 0]
        with pytest.raises(ValueError, match=r"rank 1 of k = 2 in sample 2: it loses the direction \[1, 0\.5\]"):
            POINTWISE[name](Jet(jet.value, first, jet.second, jet.parts))

    def test_a_dead_direction_is_named(self) -> None:
        jet = random_jet(2, 5, 3)
        jet.first[0, :, 1] = 0
        with pytest.raises(ValueError, match=r"rank 2 of k = 3 in sample 0: it loses the direction \[0, 1, 0\]"):
            curvature.riemann(jet)

    def test_rank_is_judged_by_the_dtype_of_the_jet(self) -> None:
        jet = random_jet(1, 5, 2)
        first = jet.first.clone()
        first[..., 1] = first[..., 0] + 1e-6 * first[..., 1]
        assert curvature.scalar_curvature(Jet(jet.value, first, jet.second)).isfinite()
        with pytest.raises(ValueError, match="rank 1 of k = 2"):
            curvature.scalar_curvature(Jet(jet.value.float(), first.float(), jet.second.float()))

    def test_more_directions_than_outputs(self) -> None:
        with pytest.raises(ValueError, match=r"rank at most 2 of k = 3, as the output has 2 .* k <= 2"):
            curvature.christoffel(random_jet(1, 2, 3))

    @pytest.mark.parametrize("field", ["first", "second", "parts"])
    def test_nan(self, field: str) -> None:
        jet = random_jet(2, 5, 2)
        getattr(jet, field)[..., -1] = torch.nan
        with pytest.raises(ValueError, match="holds NaN or infinity"):
            curvature.bill(jet)

    @pytest.mark.parametrize("name", POINTWISE)
    def test_no_jet(self, name: str) -> None:
        directions = [torch.ones(2)] * 2 if name == "sectional_curvature" else []
        with pytest.raises(TypeError, match=r"jet is a str; pass chain\.jet\(x\)"):
            getattr(curvature, name)("jet", *directions)

    def test_planes_that_are_none(self) -> None:
        jet = random_jet(2, 5, 3)
        with pytest.raises(ValueError, match=r"rank 1 of k = 2 on the plane of u and v, sample 0"):
            curvature.sectional_curvature(jet, torch.ones(3, dtype=F64), -torch.ones(3, dtype=F64))
        with pytest.raises(ValueError, match=r"u has shape \(2,\); pass coordinates .*, \(3,\) or \(2, 3\)"):
            curvature.sectional_curvature(jet, torch.ones(2), torch.ones(3))
        with pytest.raises(ValueError, match="k = 1 direction, which spans no plane"):
            curvature.sectional_curvature(random_jet(2, 5, 1), torch.ones(1), torch.ones(1))

    def test_a_riemann_tensor_that_would_not_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(curvature, "available_bytes", lambda device: 1e6)
        with pytest.raises(MemoryError, match=r"k = 60 directions at 1 points needs 0\.311 GB, 0\.001 GB are free"):
            curvature.riemann(random_jet(1, 61, 60, links=1))


@pytest.mark.parametrize("k", [2, 3])
def test_nearly_parallel_directions_span_the_same_plane(k: int) -> None:
    jet, (u, v) = random_jet(4, 6, k), gaussian(2, k, seed=9)
    expected = curvature.sectional_curvature(jet, u, v)
    for length in (1e-200, 1.0, 1e200):
        found = curvature.sectional_curvature(jet, length * u, length * (u + 1e-7 * v))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
