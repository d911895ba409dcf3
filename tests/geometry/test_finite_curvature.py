"""Turning, metric variation and holonomy against exact polygons, closed forms, and the pointwise curvature."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit import Chain
from labkit.geometry import curvature

F64 = torch.float64
IDENTITY = Chain([nn.Identity()])


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def angles(count: int) -> Tensor:
    return torch.arange(count, dtype=F64) * 2 * math.pi / count


def circle(count: int, radius: float = 1.0) -> Tensor:
    """(1, T, 2), the first point not repeated."""
    t = angles(count)
    return radius * torch.stack([t.cos(), t.sin()], -1)[None]


def trefoil(t: Tensor) -> Tensor:
    """(T, 1) to (T, 3), a knotted curve of period 2π."""
    t = t[:, 0]
    ring = 2 + (3 * t).cos()
    return torch.stack([ring * (2 * t).cos(), ring * (2 * t).sin(), (3 * t).sin()], -1)


def network(*sizes: int, activation: Callable[[], nn.Module] = nn.Tanh, gain: float = 1.5, seed: int = 0) -> Chain:
    links: list[nn.Module] = []
    for index, (n, m) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n, m, dtype=F64)
        linear.weight.data = gain * gaussian(m, n, seed=seed + index) / n**0.5
        linear.bias.data = 0.1 * gaussian(m, seed=seed + index + 100)
        links += [linear, activation()]
    return Chain(links[:-1])


def listed(images: Tensor) -> tuple[Chain, Tensor]:
    """A chain and a path of it with these images (T, n)."""
    path = torch.arange(len(images), dtype=F64)[None, :, None]
    return Chain([lambda x: images[x[:, 0].round().long().clamp(0, len(images) - 1)]]), path


def stereographic(x: Tensor) -> Tensor:
    """The plane onto the unit sphere."""
    s = x.square().sum(-1, keepdim=True)
    return torch.cat([2 * x, s - 1], -1) / (1 + s)


class TestTurning:
    def test_convex_plane_curves_turn_once_at_any_number_of_points(self) -> None:
        squeeze = Chain([lambda x: x * torch.tensor([3.0, 0.2], dtype=F64)])
        for count in (3, 4, 7, 500):
            torch.testing.assert_close(
                curvature.total_curvature(squeeze, circle(count), closed=True), torch.tensor([2 * math.pi], dtype=F64)
            )

    def test_a_smooth_curve_through_a_smooth_network_against_its_integral(self) -> None:
        """From below, with the square of the spacing; the integral is that of κ |f'| from jets, exact to rounding."""
        chain = Chain([trefoil, *network(3, 8, 5, gain=1.2)])
        t = angles(4000)[:, None]
        with torch.no_grad():
            exact = float(curvature.curve_geometry(chain.jet(t)).turning.mean()) * 2 * math.pi
            found = [float(curvature.total_curvature(chain, t[None, ::step], closed=True)) for step in (8, 4, 2)]
        errors = [exact - value for value in found]
        assert 0 < errors[2] < 1e-3 * exact
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
        assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)

    def test_fenchel_and_milnor(self) -> None:
        knot = trefoil(angles(600)[:, None])[None]
        assert curvature.total_curvature(IDENTITY, knot, closed=True) > 4 * math.pi
        for seed in range(5):
            for chain in (network(2, 6, 4, seed=seed), network(2, 6, 4, activation=nn.ReLU, seed=seed)):
                assert curvature.total_curvature(chain, circle(400), closed=True) > 2 * math.pi - 1e-9

    def test_it_is_pi_times_the_mean_number_of_extrema(self) -> None:
        """Milnor 1950, exact for closed polygons: heights over random directions."""
        knot = trefoil(angles(300)[:, None])
        heights = knot @ gaussian(3, 4000, seed=1)
        rising = (heights.roll(-1, 0) - heights) > 0
        extrema = (rising != rising.roll(1, 0)).sum(0).double()
        found = float(curvature.total_curvature(IDENTITY, knot[None], closed=True))
        standard_error = math.pi * float(extrema.std()) / 4000**0.5
        assert abs(found - math.pi * float(extrema.mean())) < 3 * standard_error
        assert standard_error < 0.01 * found

    def test_a_relu_polygon_made_by_hand(self) -> None:
        """(x, |x|, relu(x - 1)) runs along (1, -1, 0), (1, 1, 0), (1, 1, 1); kinks on points and between."""
        chain = Chain([lambda x: torch.cat([x, x.relu() + (-x).relu(), (x - 1).relu()], 1)])
        expected = math.pi / 2 + math.acos(math.sqrt(2 / 3))
        for start in (-2.0, -2.03):
            path = torch.arange(start, 2.5, 0.25, dtype=F64)[None, :, None]
            torch.testing.assert_close(curvature.total_curvature(chain, path), torch.tensor([expected], dtype=F64))
        turns = curvature.turning_angle(chain, torch.arange(-2, 3, dtype=F64)[None, :, None])
        torch.testing.assert_close(turns, torch.tensor([[0, math.pi / 2, expected - math.pi / 2]], dtype=F64))

    @given(seed=st.integers(0, 2**16))
    def test_a_random_relu_network_against_its_own_breakpoints(self, seed: int) -> None:
        """One hidden layer on a line: breakpoints -b/w, directions V (mask * w) between them."""
        w, b, V = gaussian(5, seed=seed), gaussian(5, seed=seed + 1), gaussian(3, 5, seed=seed + 2)
        chain = Chain([lambda x: torch.relu(x * w + b) @ V.mT + x])
        breaks = (-b / w).sort().values
        ends = torch.cat([breaks[:1] - 2, breaks, breaks[-1:] + 2])
        slopes = ((ends[1:] + ends[:-1])[:, None] / 2 * w + b > 0).double() * w @ V.mT + 1
        cosines = torch.nn.functional.cosine_similarity(slopes[1:], slopes[:-1], dim=-1)
        inside = torch.tensor([0.2, 0.5, 0.8], dtype=F64)
        points = (ends[:-1, None] + ends.diff()[:, None] * inside).flatten()
        found = curvature.total_curvature(chain, points[None, :, None])
        torch.testing.assert_close(found, cosines.clamp(-1, 1).acos().sum()[None], rtol=1e-6, atol=1e-6)

    def test_where_the_image_halts_nothing_is_counted_twice(self) -> None:
        path = torch.tensor([[-2.0, -2], [-1, -1], [0, 0], [1, 0], [1, 0], [1, 1], [1, -1]], dtype=F64)[None]
        relu = Chain([torch.relu])
        torch.testing.assert_close(
            curvature.turning_angle(relu, path), torch.tensor([[0, 0, math.pi / 2, 0, math.pi]], dtype=F64)
        )
        assert curvature.total_curvature(Chain([lambda x: 0 * x]), path).item() == 0
        there_and_back = torch.tensor([[[0.0], [1.0], [0.0]]])
        assert curvature.total_curvature(IDENTITY, there_and_back, closed=True).item() == pytest.approx(2 * math.pi)

    def test_steps_too_small_to_see_add_up(self) -> None:
        """A corner reached in steps of a fourth of what counts as a step, and noise on a point that halts."""
        eps = torch.finfo(F64).eps
        crawl = 1 + 16 * eps * torch.arange(40, dtype=F64)
        corner = torch.stack([torch.cat([crawl, crawl[-1].expand(40)]), torch.cat([crawl[:1].expand(40), crawl])], -1)
        with pytest.raises(ValueError, match=r"path\[0\] has points so close"):
            curvature.total_curvature(*listed(corner))
        noise = 1 + eps * torch.randint(-2, 3, (50, 2), generator=torch.Generator().manual_seed(0)).double()
        images = torch.cat([torch.zeros(1, 2, dtype=F64), noise, torch.tensor([[2.0, 0.0]], dtype=F64)])
        found = curvature.total_curvature(*listed(images))
        torch.testing.assert_close(found, torch.tensor([math.pi / 2], dtype=F64))

    def test_repeating_the_first_point_changes_nothing_even_to_rounding(self) -> None:
        """sin 2π is not 0: a strongly expanding network would make a piece of its own of that."""
        t = torch.linspace(0, 2 * math.pi, 400, dtype=F64)
        repeated = torch.stack([t.cos(), t.sin()], -1)[None]
        chain = network(2, 30, 30, 30, 30, gain=4.0)
        assert not torch.equal(chain(repeated[0, :1]), chain(repeated[0, -1:]))
        found = curvature.total_curvature(chain, repeated, closed=True)
        torch.testing.assert_close(found, curvature.total_curvature(chain, repeated[:, :-1], closed=True))

    def test_every_depth_and_every_curve_of_a_batch_of_five(self) -> None:
        chain = network(2, 6, 4)
        paths = gaussian(5, 1, 2) + torch.cat([circle(30, radius) for radius in (0.3, 0.5, 1.0, 2.0, 3.0)])
        for closed in (False, True):
            found = curvature.turning_angle(chain, paths, closed=closed, depths=[3, 0])
            assert found.shape == (2, 5, 30 if closed else 28)
            for curve in (4, 0):
                alone = curvature.turning_angle(chain, paths[curve : curve + 1], closed=closed, depths=[3, 0])
                torch.testing.assert_close(found[:, curve], alone[:, 0])
            torch.testing.assert_close(found[0], curvature.turning_angle(chain, paths, closed=closed))
            totals = curvature.total_curvature(chain, paths, closed=closed, depths=[3, 0])
            torch.testing.assert_close(found.sum(-1), totals)

    def test_derivatives(self) -> None:
        chain = network(2, 5, 3)
        path = gaussian(2, 6, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda p: curvature.total_curvature(chain, p), path)
        curvature.total_curvature(chain, path, closed=True).sum().backward()
        assert chain[0].weight.grad.abs().max() > 0

    def test_float32_keeps_four_digits_or_says_that_it_cannot(self) -> None:
        chain, path = network(2, 8, 5), circle(500)
        exact = curvature.total_curvature(chain, path, closed=True)
        found = curvature.total_curvature(chain.float(), path.float(), closed=True)
        assert found.dtype == torch.float32
        assert abs(found.item() / exact.item() - 1) < 1e-4
        with pytest.raises(ValueError, match=r"rounding to torch\.float32 may turn its image by .*, or float64"):
            curvature.total_curvature(chain, circle(20_000).float(), closed=True)

    def test_a_network_that_contracts_to_rounding_is_refused(self) -> None:
        shrink = Chain([lambda x: 1 + 1e-13 * x])
        with pytest.raises(ValueError, match=r"path\[0\] has points so close .* take fewer points$"):
            curvature.total_curvature(shrink, circle(500), closed=True)


class TestMetricVariation:
    def test_closed_forms(self) -> None:
        line = torch.linspace(0, 1, 20, dtype=F64)[:, None] * torch.tensor([1.0, -2.0], dtype=F64)
        warp = Chain([lambda x: torch.stack([x[:, 0].exp(), (2 * x[:, 1]).exp()], 1)])  # log g = (2 x, 4 y)
        torch.testing.assert_close(
            curvature.metric_variation(warp, line[None]), torch.tensor([math.hypot(2, 8)], dtype=F64)
        )
        linear = Chain([nn.Linear(2, 5, dtype=F64)])
        assert curvature.metric_variation(linear, line[None]).item() < 1e-12

    def test_against_generalised_eigenvalues(self) -> None:
        chain, path = network(3, 6, 5), gaussian(2, 4, 3)
        basis = torch.linalg.qr(gaussian(2, 3, 2, seed=5)).Q
        for frame in (None, basis[0], basis):
            found = curvature.metric_variation(chain, path, basis=frame)
            for curve, points in enumerate(path):
                columns = torch.eye(3, dtype=F64) if frame is None else frame[curve] if frame.ndim == 3 else frame
                pushed = (chain.linearize(points) @ columns).detach()
                g = (pushed.mT @ pushed).numpy()
                steps = [scipy.linalg.eigh(after, before, eigvals_only=True) for before, after in pairwise(g)]
                expected = sum(float(np.linalg.norm(np.log(values))) for values in steps)
                assert found[curve].item() == pytest.approx(expected, rel=1e-9)

    def test_isometries_of_the_output_do_not_count(self) -> None:
        chain, path = network(2, 6, 4), gaussian(1, 5, 2)
        turn = torch.linalg.qr(gaussian(7, 4)).Q
        turned = Chain([*chain, lambda x: x @ turn.mT])
        torch.testing.assert_close(curvature.metric_variation(turned, path), curvature.metric_variation(chain, path))

    def test_a_relu_network_varies_in_jumps(self) -> None:
        chain = Chain([lambda x: torch.cat([x, 2 * (x - 0.5).relu()], 1)])  # g = 1, then 1 + 4
        for count in (4, 50):
            path = torch.linspace(0, 1, count, dtype=F64)[None, :, None]
            assert curvature.metric_variation(chain, path).item() == pytest.approx(math.log(5))

    def test_derivatives_and_no_gradients(self) -> None:
        chain, path, basis = network(3, 6, 5), gaussian(1, 4, 3), torch.eye(3, 2, dtype=F64)
        assert torch.autograd.gradcheck(
            lambda p: curvature.metric_variation(chain, p, basis=basis), path.requires_grad_()
        )
        found = curvature.metric_variation(chain, path, basis=basis)
        with torch.no_grad():
            torch.testing.assert_close(curvature.metric_variation(chain, path, basis=basis), found.detach())

    def test_float32_keeps_five_digits(self) -> None:
        chain, path = network(3, 6, 5), gaussian(1, 8, 3)
        exact = curvature.metric_variation(chain, path)
        found = curvature.metric_variation(chain.float(), path.float())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=0)

    def test_a_lost_direction_is_named_with_its_point(self) -> None:
        path = torch.linspace(1, -1, 5, dtype=F64)[:, None] * torch.ones(2, dtype=F64)
        with pytest.raises(ValueError, match=r"rank 0 of k = 2 at point 2 of path\[1\]: it loses the direction"):
            curvature.metric_variation(Chain([nn.ReLU()]), torch.stack([path.abs() + 1, path]))


class TestHolonomy:
    @pytest.mark.parametrize("radius", [0.1, 0.7, 3.0])
    def test_caps_of_the_sphere_up_to_nearly_all_of_it(self, radius: float) -> None:
        """K dA is the cap's area 4π r² / (1 + r²), beyond 2π too; the error falls with the square of the spacing."""
        exact = 4 * math.pi * radius**2 / (1 + radius**2)
        loops = [circle(count, radius) for count in (50, 100)]
        errors = [float(curvature.holonomy(Chain([stereographic]), loop)) - exact for loop in loops]
        assert abs(errors[1]) < 2e-2 * exact
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)

    def test_a_small_loop_is_curvature_times_area(self) -> None:
        chain, centre = network(2, 8, 5), gaussian(1, 2, seed=3)
        chain.requires_grad_(False)
        jet = chain.jet(centre)
        area = math.sqrt(float((jet.first.mT @ jet.first).det()))
        expected = float(curvature.scalar_curvature(jet)) / 2 * area
        errors = []
        for radius in (0.02, 0.01):
            loop = centre + circle(200, radius)
            errors.append(float(curvature.holonomy(chain, loop)) / (math.pi * radius**2) / expected - 1)
        assert abs(errors[1]) < 1e-3
        assert abs(errors[0]) > 2 * abs(errors[1])

    def test_in_a_plane_of_a_larger_space(self) -> None:
        chain, centre = network(4, 8, 5), gaussian(1, 4, seed=3)
        basis = torch.linalg.qr(gaussian(4, 2, seed=4)).Q
        slice_of = Chain([lambda a: centre + a @ basis.mT, *chain])
        loops = torch.cat([circle(60, 0.3), circle(60, 0.5)])
        expected = curvature.holonomy(slice_of, loops)
        found = curvature.holonomy(chain, centre + loops @ basis.mT, basis=basis)
        torch.testing.assert_close(found, expected)
        mirrored = curvature.holonomy(chain, centre + loops @ basis.mT, basis=basis.flip(1))
        torch.testing.assert_close(mirrored, -expected)
        torch.testing.assert_close(curvature.holonomy(slice_of, loops.flip(1)), -expected)
        assert expected.abs().min() > 1e-3

    def test_flat_surfaces(self) -> None:
        clifford = Chain([lambda x: torch.cat([x.cos(), x.sin()], 1)])
        assert curvature.holonomy(clifford, circle(400)).abs().item() < 1e-12

    def test_a_kinked_surface_has_its_curvature_in_its_vertices(self) -> None:
        pyramid = Chain([lambda x: torch.cat([x, x.abs().sum(1, keepdim=True)], 1)])
        for count in (4, 400):
            around = circle(count) @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]], dtype=F64)
            torch.testing.assert_close(curvature.holonomy(pyramid, around), torch.tensor([2 * math.pi / 3], dtype=F64))
        beside = circle(100) + torch.tensor([3.0, 0.1], dtype=F64)  # over an edge, round no vertex
        assert curvature.holonomy(pyramid, beside).abs().item() < 1e-12

    def test_batch_of_five_and_derivatives(self) -> None:
        chain = network(2, 6, 4)
        loops = torch.cat([gaussian(1, 2, seed=seed) + circle(12, 0.3) for seed in range(5)])
        found = curvature.holonomy(chain, loops)
        for curve in (4, 0):
            torch.testing.assert_close(found[curve], curvature.holonomy(chain, loops[curve : curve + 1])[0])
        assert torch.autograd.gradcheck(lambda p: curvature.holonomy(chain, p), loops[:2].requires_grad_())

    def test_bad_loops(self) -> None:
        chain = network(3, 6, 4)
        loop = torch.cat([circle(20), torch.zeros(1, 20, 1, dtype=F64)], -1)
        plane = torch.eye(3, 2, dtype=F64)
        with pytest.raises(ValueError, match=r"k = 3 directions around it; pass a basis \(n_0, 2\)"):
            curvature.holonomy(chain, loop)
        with pytest.raises(ValueError, match=r"loop\[0\] leaves the plane of the basis by 2 at point 10"):
            curvature.holonomy(chain, loop, basis=torch.eye(3, dtype=F64)[:, 1:])
        with pytest.raises(ValueError, match="basis has 2 frames for 1 curves"):
            curvature.holonomy(chain, loop, basis=plane.expand(2, 3, 2))
        with pytest.raises(ValueError, match=r"loop\[0\] is too coarse after point \d, where its tangent plane tilts"):
            curvature.holonomy(Chain([stereographic]), circle(3))


class TestBadPaths:
    @pytest.mark.parametrize(
        ("path", "said"),
        [
            (torch.zeros(5, 2), r"path has shape \(5, 2\); pass \(B, T, \*s\) with T >= \d points a curve"),
            (torch.zeros(1, 1, 2), r"path has shape \(1, 1, 2\)"),
            (torch.zeros(1, 5, 2, dtype=torch.long), r"path is torch.int64; pass a floating tensor"),
            (torch.tensor([[[0.0], [1.0], [torch.nan]]]), r"path\[0\] meets NaN or infinity at point 2"),
        ],
    )
    @pytest.mark.parametrize("name", ["turning_angle", "total_curvature", "metric_variation"])
    def test_are_told_in_one_sentence(self, name: str, path: Tensor, said: str) -> None:
        with pytest.raises((TypeError, ValueError), match=said):
            getattr(curvature, name)(IDENTITY, path)

    def test_nan_on_the_way_depths_and_modes(self) -> None:
        path = torch.linspace(-1, 2, 7, dtype=F64)[None, :, None]
        with pytest.raises(ValueError, match=r"path\[0\] meets NaN or infinity at point 0 \(its image at depth 1\)"):
            curvature.total_curvature(Chain([lambda x: torch.cat([x, x.log()], 1)]), path)
        with pytest.raises(ValueError, match="depths holds 2; this chain has depths 0 … 1"):
            curvature.total_curvature(IDENTITY, path, depths=[2])
        with pytest.raises(ValueError, match="depths is empty"):
            curvature.total_curvature(IDENTITY, path, depths=[])
        with pytest.raises(ValueError, match="is in a mode that makes Df random"):
            curvature.total_curvature(Chain([nn.Dropout(0.5)]), path)
        coupled = Chain([lambda x: x - x.mean(0)])
        with pytest.raises(ValueError, match="lets one sample change the output of another"):
            curvature.total_curvature(coupled, path)
        with pytest.raises(TypeError, match=r"chain is a Linear; pass a Chain, as in Chain\(\[model\]\)"):
            curvature.total_curvature(nn.Linear(1, 1), path)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_a_turn_does_not_depend_on_the_unit(size: float) -> None:
    corner = size * torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    assert curvature.total_curvature(Chain([lambda x: 2 * x]), corner).item() == pytest.approx(math.pi / 2)
