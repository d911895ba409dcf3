"""Geodesics, shots and transport against closed forms, and polygons on networks of every kind."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit import Chain
from labkit.geometry.geodesics import curve_length, geodesic, parallel_transport, shoot
from labkit.networks import mlp

F64 = torch.float64


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=F64)


def sphere(x: Tensor) -> Tensor:
    latitude, longitude = x.unbind(1)
    circle = torch.stack([longitude.cos(), longitude.sin()], 1)
    return torch.cat([latitude.cos()[:, None] * circle, latitude.sin()[:, None]], 1)


def bent(x: Tensor) -> Tensor:
    """A change of coordinates of the plane, so that flat geodesics are no straight lines in x."""
    u, v = x.unbind(1)
    return torch.stack([u + 0.4 * torch.sin(v), v - 0.3 * u**2], 1)


def torus(outer: float, inner: float) -> Callable[[Tensor], Tensor]:
    """Two circles in R⁴, a flat surface; of equal radii 1/√2 it is Clifford's, in the unit sphere."""

    def surface(x: Tensor) -> Tensor:
        return torch.cat([outer * torch.cat([x[:, :1].cos(), x[:, :1].sin()], 1),
                          inner * torch.cat([x[:, 1:].cos(), x[:, 1:].sin()], 1)], 1)  # fmt: skip

    return surface


def cone(x: Tensor) -> Tensor:
    """The half angle has sine 0.6: the way along the slant is x_0, and the surface unrolls to angles 0.6 x_1."""
    r, turn = x.unbind(1)
    return torch.stack([0.6 * r * turn.cos(), 0.6 * r * turn.sin(), 0.8 * r], 1)


def doughnut(x: Tensor) -> Tensor:
    around, across = x.unbind(1)
    radius = 2 + across.cos()
    return torch.stack([radius * around.cos(), radius * around.sin(), across.sin()], 1)


def tanh_network(n_in: int = 2, n_out: int = 20, sigma_w: float = 1.2, seed: int = 0) -> Chain:
    return mlp(3, 30, "tanh", sigma_w, 0.1, n_in=n_in, n_out=n_out, seed=seed).double()


def straight(x0: Tensor, x1: Tensor, points: int) -> Tensor:
    t = torch.linspace(0, 1, points, dtype=x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return x0[:, None] + t * (x1 - x0)[:, None]


class TestClosedForms:
    def test_great_circles(self) -> None:
        x0 = tensor([0.5, 0.0], [0.0, 0.0], [-0.3, 0.2], [0.3, 0.0], [1.2, 0.0])
        x1 = tensor([0.5, 1.0], [0.0, 1.5], [0.8, 1.4], [0.3, 2.8], [1.2, 2.0])
        found = geodesic(Chain([sphere]), x0, x1)
        exact = (sphere(x0) * sphere(x1)).sum(1).acos()
        assert found.converged.all()
        assert found.refined.all()
        torch.testing.assert_close(found.length, exact, rtol=1e-8, atol=0)
        torch.testing.assert_close(found.energy, exact**2, rtol=1e-8, atol=0)
        images = sphere(found.path.flatten(0, 1)).reshape(5, 64, 3)
        normal = torch.linalg.cross(images[:, 0], images[:, -1])
        assert (images @ normal[..., None]).abs().max() < 1e-8  # the plane through the centre
        steps = (images[:, 1:] * images[:, :-1]).sum(-1).acos() * 63
        torch.testing.assert_close(steps, exact[:, None].expand(-1, 63), rtol=1e-5, atol=0)

    def test_polygons_miss_with_the_square_of_the_spacing(self) -> None:
        x0, x1 = tensor([-0.3, 0.2]), tensor([0.8, 1.4])
        exact = (sphere(x0) * sphere(x1)).sum(1).acos()
        misses = [(exact - geodesic(Chain([sphere]), x0, x1, n + 1, refine=False).length).item() for n in (16, 32)]
        assert misses[0] / misses[1] == pytest.approx(4, rel=0.02)
        assert misses[1] == pytest.approx(exact.item() ** 3 / 24 / 32**2, rel=0.01)

    @pytest.mark.parametrize(("outer", "inner"), [(1.0, 2.0), (math.sqrt(0.5), math.sqrt(0.5))])
    def test_flat_tori(self, outer: float, inner: float) -> None:
        x0, x1 = tensor([0.0, 0.0], [-0.5, 0.3]), tensor([1.0, 0.7], [0.6, -0.9])
        found = geodesic(Chain([bent, torus(outer, inner)]), x0, x1)
        apart = (bent(x1) - bent(x0)) * tensor(outer, inner)
        torch.testing.assert_close(found.length, apart.norm(dim=1), rtol=1e-8, atol=0)
        flat = straight(bent(x0), bent(x1), 64)
        torch.testing.assert_close(bent(found.path.flatten(0, 1)).reshape(2, 64, 2), flat, rtol=0, atol=1e-7)

    def test_a_cone_unrolls(self) -> None:
        x0, x1 = tensor([1.0, 0.0], [2.0, 1.0]), tensor([1.5, 2.5], [0.7, -1.0])
        found = geodesic(Chain([cone]), x0, x1)
        angle = 0.6 * (x1[:, 1] - x0[:, 1])
        exact = (x0[:, 0] ** 2 + x1[:, 0] ** 2 - 2 * x0[:, 0] * x1[:, 0] * angle.cos()).sqrt()
        torch.testing.assert_close(found.length, exact, rtol=1e-8, atol=0)

    def test_clairaut_on_a_doughnut(self) -> None:
        shot = shoot(Chain([doughnut]), tensor([0.0, 0.3], [0.5, -1.0]), tensor([0.7, 0.9], [-0.4, 1.1]), time=6.0)
        radius = 2 + shot.path[..., 1].cos()
        constant = radius**2 * shot.velocity[..., 0]
        assert shot.converged.all()
        torch.testing.assert_close(constant, constant[:, :1].expand_as(constant), rtol=1e-7, atol=0)
        speed = (radius * shot.velocity[..., 0]) ** 2 + shot.velocity[..., 1] ** 2
        torch.testing.assert_close(speed, speed[:, :1].expand_as(speed), rtol=1e-7, atol=0)
        assert (shot.path[:, -1] - shot.path[:, 0]).norm(dim=1).min() > 1  # it went somewhere

    def test_a_linear_chain_has_straight_lines(self) -> None:
        torch.manual_seed(0)
        chain = Chain([nn.Linear(3, 5, dtype=F64), nn.Linear(5, 4, dtype=F64)])
        x0, x1 = torch.randn(2, 4, 3, dtype=F64)
        found = geodesic(chain, x0, x1, 17)
        torch.testing.assert_close(found.path, straight(x0, x1, 17), rtol=0, atol=1e-14)
        torch.testing.assert_close(found.length, (chain(x1) - chain(x0)).norm(dim=1), rtol=1e-13, atol=0)
        shot = shoot(chain, x0, x1 - x0, points=17)
        torch.testing.assert_close(shot.path, straight(x0, x1, 17), rtol=0, atol=1e-14)


class TestExponentialMap:
    def test_the_sphere(self) -> None:
        x, v = tensor([0.4, 0.1], [-0.2, 1.0], [0.0, 0.0]), tensor([0.8, -0.5], [1.1, 0.3], [0.0, 2.5])
        shot = shoot(Chain([sphere]), x, v, points=9)
        start, pushed = torch.func.jvp(sphere, (x,), (v,))
        speed, t = pushed.norm(dim=1)[:, None, None], torch.linspace(0, 1, 9, dtype=F64)[:, None]
        exact = start[:, None] * (speed * t).cos() + pushed[:, None] / speed * (speed * t).sin()
        assert shot.converged.all()
        torch.testing.assert_close(sphere(shot.path.flatten(0, 1)).reshape(3, 9, 3), exact, rtol=0, atol=1e-8)

    def test_it_inverts_geodesic_and_goes_backwards(self) -> None:
        chain, v = tanh_network(n_in=5), 0.5 * torch.randn(3, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
        x = torch.randn(3, 5, dtype=F64, generator=torch.Generator().manual_seed(2))
        shot = shoot(chain, x, v, time=1.5, points=33)
        assert shot.converged.all()
        found = geodesic(chain, x, shot.path[:, -1], 33)
        torch.testing.assert_close(found.path, shot.path, rtol=0, atol=1e-6)
        lin = chain.linearize(x)
        torch.testing.assert_close(found.length, 1.5 * (lin @ v[..., None])[..., 0].norm(dim=1), rtol=1e-7, atol=0)
        back = shoot(chain, shot.path[:, -1], shot.velocity[:, -1], time=-1.5, points=33)
        torch.testing.assert_close(back.path.flip(1), shot.path, rtol=0, atol=1e-6)
        torch.testing.assert_close(back.velocity.flip(1), shot.velocity, rtol=0, atol=1e-6)

    def test_a_stuck_sample_stops_no_other(self) -> None:
        chart = Chain([lambda x: torch.stack([x[:, 0].sqrt(), x[:, 1]], 1)])  # ends at x_0 = 0
        shot = shoot(chart, tensor([1.0, 0.0], [1.0, 0.0]), tensor([-4.0, 0.0], [1.0, 1.0]), points=5, max_steps=60)
        assert shot.converged.tolist() == [False, True]
        assert shot.path.isfinite().all()
        exact = tensor([1.0, 0.0], [1.25**2, 0.5], [1.5**2, 1.0])  # straight in (√x_0, x_1)
        torch.testing.assert_close(shot.path[1, ::2], exact, rtol=0, atol=1e-8)

    def test_inference_mode_changes_nothing(self) -> None:
        shot = shoot(Chain([sphere]), tensor([0.4, 0.1]), tensor([0.8, -0.5]), points=3)
        with torch.inference_mode():
            inside = shoot(Chain([sphere]), tensor([0.4, 0.1]), tensor([0.8, -0.5]), points=3)
        torch.testing.assert_close(inside.path.clone(), shot.path, rtol=0, atol=0)
        assert inside.converged.all()

    def test_a_kink_on_the_way_is_reported(self) -> None:
        ramp = Chain([lambda x: torch.cat([x, torch.relu(x[:, :1] - 1)], 1)])
        shot = shoot(ramp, tensor([0.2, 0.1], [0.2, 0.1]), tensor([2.0, 1.0], [0.5, 1.0]))
        assert shot.converged.tolist() == [False, True]

    def test_attention_and_layer_norm(self) -> None:
        torch.manual_seed(0)
        block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation="gelu", batch_first=True).double().eval()
        chain, x, v = Chain([block]), torch.randn(2, 3, 4, dtype=F64), torch.randn(2, 3, 4, dtype=F64)
        basis = torch.linalg.qr(torch.stack([v[0].flatten(), torch.randn(12, dtype=F64)], 1)).Q
        v = (basis @ tensor([0.3], [0.2]))[:, 0].reshape(1, 3, 4).expand(2, 3, 4)
        shot = shoot(chain, x, v, points=9, basis=basis)
        assert shot.converged.all()
        pace = curve_length(chain, shot.path[:, [0, 1]]) / curve_length(chain, shot.path[:, [7, 8]])
        torch.testing.assert_close(pace, torch.ones(2, dtype=F64), rtol=1e-2, atol=0)


class TestTransport:
    def test_around_a_triangle_a_vector_turns_by_the_area(self) -> None:
        corners = [tensor([0.2, 0.0]), tensor([0.9, 0.4]), tensor([0.1, 1.1])]
        chain = Chain([sphere])
        sides = [geodesic(chain, a, b, 33).path for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
        loop = torch.cat([sides[0], sides[1][:, 1:], sides[2][:, 1:]], 1)
        start, v = corners[0], tensor([0.3, 1.0])
        carried = parallel_transport(chain, loop, v)[:, -1]
        before, after = (torch.func.jvp(sphere, (start,), (u,))[1][0] for u in (v, carried))
        a, b, c = (sphere(corner)[0] for corner in corners)
        area = 2 * torch.atan2(a @ torch.linalg.cross(b, c), 1 + a @ b + b @ c + c @ a)  # van Oosterom, Strackee 1983
        turned = torch.atan2(torch.linalg.cross(before, after) @ a, before @ after)
        torch.testing.assert_close(turned, area, rtol=1e-6, atol=0)
        torch.testing.assert_close(after.norm(), before.norm(), rtol=1e-12, atol=0)

    def test_around_a_parallel_with_the_square_of_the_spacing(self) -> None:
        latitude, errors = 0.7, []
        for pieces in (100, 200):
            turn = torch.linspace(0, 1.5, pieces + 1, dtype=F64)
            circle = torch.stack([torch.full_like(turn, latitude), turn], 1)[None]
            end = parallel_transport(Chain([sphere]), circle, tensor([1.0, 0.0]))[0, -1]
            found = math.atan2(end[1] * math.cos(latitude), end[0])
            errors.append(abs(found) - 1.5 * math.sin(latitude))
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)
        assert abs(errors[1]) < 1e-4

    def test_a_geodesic_carries_its_velocity(self) -> None:
        chain, x = tanh_network(n_in=3), torch.zeros(2, 3, dtype=F64)
        v = tensor([0.3, -0.2, 0.5], [0.1, 0.4, 0.2])
        errors = []
        for points in (17, 33):
            shot = shoot(chain, x, v, points=points)
            errors.append((parallel_transport(chain, shot.path, v) - shot.velocity).abs().max().item())
        assert errors[1] < 2e-3
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)

    def test_in_a_plane_and_back(self) -> None:
        chain = tanh_network(n_in=6, n_out=8)
        torch.manual_seed(3)
        basis = torch.linalg.qr(torch.randn(6, 2, dtype=F64)).Q
        path = (torch.randn(1, 9, 2, dtype=F64) @ basis.mT).cumsum(1) / 4
        v = tensor([0.6, -0.8]) @ basis.mT
        carried = parallel_transport(chain, path, v, basis=basis)
        back = parallel_transport(chain, path.flip(1), carried[:, -1], basis=basis)
        torch.testing.assert_close(back.flip(1), carried)
        assert (carried - carried @ basis @ basis.mT).abs().max() < 1e-14


class TestNetworks:
    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10**6), sigma_w=st.floats(0.5, 2.5), n_in=st.integers(1, 6))
    def test_never_longer_than_the_straight_line(self, seed: int, sigma_w: float, n_in: int) -> None:
        chain = tanh_network(n_in, 7, sigma_w, seed)
        x0, x1 = torch.randn(2, 3, n_in, dtype=F64, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            line = curve_length(chain, straight(x0, x1, 2001))
            polygon = geodesic(chain, x0, x1, 24, refine=False)
            coarse = curve_length(chain, straight(x0, x1, 24))
        assert (polygon.length <= coarse * (1 + 1e-12)).all()
        assert (polygon.length**2 <= polygon.energy * (1 + 1e-12)).all()
        assert (polygon.length <= line).all()

    def test_refined_lengths_do_not_depend_on_the_points_nor_on_the_order(self) -> None:
        chain = tanh_network()
        x0, x1 = 0.3 * torch.randn(2, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            fine, coarse, swapped = (geodesic(chain, *ends) for ends in ((x0, x1, 32), (x0, x1, 24), (x1, x0, 32)))
        assert fine.refined.all()
        assert coarse.refined.all()
        torch.testing.assert_close(coarse.length, fine.length, rtol=1e-7, atol=0)
        torch.testing.assert_close(swapped.length, fine.length, rtol=1e-7, atol=0)
        torch.testing.assert_close(swapped.path.flip(1), fine.path, rtol=0, atol=1e-6)
        with torch.no_grad():
            assert (fine.length < 0.999 * curve_length(chain, straight(x0, x1, 2001))).all()
            torch.testing.assert_close(curve_length(chain, fine.path), fine.length, rtol=1e-3, atol=0)

    def test_a_batch_equals_a_loop(self) -> None:
        chain = tanh_network(sigma_w=0.8)
        x0, x1 = 0.3 * torch.randn(2, 5, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            together = geodesic(chain, x0, x1, 12)
            for i in (3, 4):
                alone = geodesic(chain, x0[i : i + 1], x1[i : i + 1], 12)
                torch.testing.assert_close(alone.path[0], together.path[i], rtol=0, atol=1e-7)
                torch.testing.assert_close(alone.length[0], together.length[i], rtol=1e-8, atol=0)

    def test_relu_goes_around_a_ridge(self) -> None:
        ridge = Chain([lambda x: torch.cat([x, 4 * torch.relu(1 - x[:, :1].abs() - x[:, 1:].abs())], 1)])
        x0, x1 = tensor([-1.0, 0.05], [1.5, 3.0]), tensor([1.0, 0.05], [2.0, 3.0])
        found = geodesic(ridge, x0, x1, 65)
        with torch.no_grad():
            line = curve_length(ridge, straight(x0, x1, 65))
        assert not found.refined[0]
        assert found.length[0] < 0.4 * line[0]
        assert found.length[0].item() == pytest.approx(2 * math.hypot(1, 0.95), rel=0.03)  # around the tent, by (0, 1)
        assert found.length[1] == pytest.approx(0.5, rel=1e-12)

    def test_relu_networks(self) -> None:
        chain = mlp(4, 40, "relu", 1.4, 0.1, n_in=2, n_out=20, seed=0).double()
        x0, x1 = torch.randn(2, 4, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
        found = geodesic(chain, x0, x1)
        with torch.no_grad():
            line = curve_length(chain, straight(x0, x1, 64))
        assert not found.refined.any()
        assert (found.length <= line).all()
        assert (found.length / line).min() < 0.98
        torch.testing.assert_close(found.length, curve_length(chain, found.path))

    def test_feature_space_is_a_slice_and_a_plane_is_a_basis(self) -> None:
        chain = tanh_network(n_in=6)
        x0 = torch.randn(3, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
        h = chain.states(x0)[1]
        basis = torch.linalg.qr(torch.randn(30, 2, dtype=F64, generator=torch.Generator().manual_seed(2))).Q
        h1 = h + tensor([1.0, 0.5]) @ basis.mT
        found = geodesic(chain[1:], h, h1, 33, basis=basis)
        assert found.refined.all()
        inside = (found.path - h[:, None]) @ basis
        torch.testing.assert_close(inside @ basis.mT + h[:, None], found.path)
        plane = Chain([lambda c: chain[1:](h[:1] + c @ basis.mT)])
        own = geodesic(plane, torch.zeros(1, 2, dtype=F64), tensor([1.0, 0.5]), 33)
        torch.testing.assert_close(own.length[0], found.length[0], rtol=1e-8, atol=0)
        free = geodesic(chain[1:], h, h1, 33, refine=False)
        assert (free.length < found.length).all()

    def test_images_as_inputs_in_single_precision(self) -> None:
        torch.manual_seed(0)
        chain = Chain([nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 50), nn.Tanh()])
        x0, x1 = torch.randn(2, 2, 1, 6, 6)
        found = geodesic(chain, x0, x1, 16, refine=False)
        assert found.path.shape == (2, 16, 1, 6, 6)
        assert found.path.dtype == found.length.dtype == torch.float32
        assert found.converged.all()
        torch.testing.assert_close(found.path[:, [0, -1]], torch.stack([x0, x1], 1), rtol=0, atol=0)
        double = geodesic(chain.double(), x0.double(), x1.double(), 16, refine=False)
        torch.testing.assert_close(found.length.double(), double.length, rtol=1e-4, atol=0)


def assert_derivatives(results: Callable[..., list[Tensor]], given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Of a random combination of the results along a random direction of all arguments, against four points.

    Returns:
        The arguments as leaves of a graph, and the results with that graph.
    """
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(t.shape, dtype=F64, generator=generator) for t in given]
    leaves = [t.clone().requires_grad_() for t in given]
    outputs = results(*leaves)
    weights = [torch.randn(out.shape, dtype=F64, generator=generator) for out in outputs]
    size = 1e-3
    with torch.no_grad():
        moved = [[t + n * size * d for t, d in zip(given, directions, strict=True)] for n in (-2, -1, 1, 2)]
        far_back, back, ahead, far_ahead = (results(*arguments) for arguments in moved)
    for i, weight in enumerate(weights):
        slopes = torch.autograd.grad((outputs[i] * weight).sum(), leaves, retain_graph=True, materialize_grads=True)
        found = torch.stack([(g * d).sum() for g, d in zip(slopes, directions, strict=True)]).sum()
        difference = (8 * (ahead[i] - back[i]) - (far_ahead[i] - far_back[i])) / (12 * size)
        torch.testing.assert_close(found, (difference * weight).sum(), rtol=1e-6, atol=1e-8)
    return leaves, outputs


class TestDerivatives:
    def test_of_the_energy_of_a_polygon(self) -> None:
        weight = tensor([1.0, 0.3], [0.2, 1.0], [0.5, -0.4])
        x0, x1 = tensor([0.1, -0.5], [0.0, 0.4]), tensor([0.9, 0.7], [1.0, 0.6])

        def energy(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
            return geodesic(Chain([lambda x: torch.sin(2 * x @ w.mT)]), a, b, 6, refine=False).energy

        assert torch.autograd.gradcheck(energy, [t.requires_grad_() for t in (weight, x0, x1)], eps=1e-5, rtol=1e-5)

    def test_of_shots_against_the_exponential_map_of_the_sphere(self) -> None:
        given = [tensor([0.4, 0.1], [-0.2, 1.0]).requires_grad_(), tensor([0.8, -0.5], [1.1, 0.3]).requires_grad_()]
        weights = torch.randn(2, 5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

        def exact(x: Tensor, v: Tensor) -> Tensor:
            pushed = torch.func.jvp(sphere, (x,), (v,))[1]
            speed, t = pushed.norm(dim=1)[:, None, None], torch.linspace(0, -0.7, 5, dtype=F64)[:, None]
            return sphere(x)[:, None] * (speed * t).cos() + pushed[:, None] / speed * (speed * t).sin()

        def images(x: Tensor, v: Tensor) -> Tensor:
            shot = shoot(Chain([sphere]), x, v, time=-0.7, points=5)
            return sphere(shot.path.flatten(0, 1)).reshape(2, 5, 3)

        found, wanted = (torch.autograd.grad((f(*given) * weights).sum(), given) for f in (images, exact))
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)

    @pytest.mark.parametrize("refine", [False, True])
    def test_of_everything_against_finite_differences(self, refine: bool) -> None:
        """In the weights and both ends, and the last of a batch as alone."""
        weight = tensor([1.0, 0.3], [0.2, 1.0], [0.5, -0.4])
        x0 = 0.3 * torch.randn(2 if refine else 5, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
        given = [weight, x0, x0 + tensor([0.5, 0.4])]

        def results(w: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
            surface = Chain([lambda x: torch.cat([x, torch.sin(x @ w.mT)], 1)])
            found = geodesic(surface, a, b, 5, refine=refine)
            assert found.minimal.all()
            assert found.refined.tolist() == [refine] * len(a)
            if not refine:
                return [found.path[:, 2], found.length, found.energy]
            shot = shoot(surface, a, b - a, points=3)
            return [found.path[:, 2], found.length, found.energy, shot.path[:, 1], shot.velocity[:, -1]]

        (w, a, b), outputs = assert_derivatives(results, given)
        together = torch.autograd.grad(sum(out[-1].sum() for out in outputs), [w, a, b])
        alone = torch.autograd.grad(sum(out.sum() for out in results(w, a[-1:], b[-1:])), [w, a, b])
        torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-9)

    def test_in_a_plane_that_moves_with_its_ends(self) -> None:
        basis = tensor([1.0, 0.0], [0.0, 1.0], [0.0, 0.0])
        start, offset = tensor([0.1, -0.2, 0.3], [0.3, 0.2, -0.5]), tensor([0.8, 0.5, 0.0])

        def results(x: Tensor) -> list[Tensor]:
            surface = Chain([lambda x: torch.cat([x, torch.sin(x[:, :1] * x[:, 1:2] + 2 * x[:, 2:])], 1)])
            found = geodesic(surface, x, x + offset, 5, basis=basis, refine=False)
            return [found.path[:, 2], found.length, found.energy]

        assert_derivatives(results, [start])

    def test_of_a_network_in_its_parameters(self) -> None:
        chain, (x0, x1) = tanh_network(n_out=6), 0.4 * torch.randn(2, 2, 2, dtype=F64)
        parameters = {name: p.detach() for name, p in chain.named_parameters()}

        def results(*values: Tensor) -> list[Tensor]:
            net = Chain([lambda x: torch.func.functional_call(chain, dict(zip(parameters, values, strict=True)), (x,))])
            carried = parallel_transport(net, straight(x0, x1, 4), x1)
            return [carried[:, -1], geodesic(net, x0, x1, 6, refine=False).path[:, 3]]

        assert_derivatives(results, list(parameters.values()))

    def test_of_transport(self) -> None:
        path = torch.stack([torch.linspace(0.1, 0.9, 6, dtype=F64), torch.linspace(0, 1.4, 6, dtype=F64) ** 2], 1)
        path, v = torch.stack([path, path.flip(1) / 2]), tensor([0.3, -1.0], [1.0, 0.5])
        inputs = (path.requires_grad_(), v.requires_grad_())
        assert torch.autograd.gradcheck(lambda p, u: parallel_transport(Chain([sphere]), p, u), inputs)

    def test_where_there_are_none_backward_says_so(self) -> None:
        far = tensor([0.0, 2.0], [0.0, 3.6]).requires_grad_()
        found = geodesic(Chain([sphere]), torch.zeros(2, 2, dtype=F64), far, 16)
        assert found.converged.tolist() == [True, True]
        assert found.minimal.tolist() == [True, False]  # beyond half a turn the equator is a saddle
        assert torch.autograd.grad(found.path[found.minimal].sum(), far, retain_graph=True)[0].isfinite().all()
        (slope,) = torch.autograd.grad(found.energy.sum(), far, retain_graph=True)
        torch.testing.assert_close(slope[0], tensor(0.0, 4.0), rtol=1e-7, atol=1e-7)
        with pytest.raises(RuntimeError, match="sample 1 has no derivative: its path is not the least one around"):
            found.path.sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="second derivatives of geodesics"):
            torch.autograd.grad(found.path[0, 5].sum(), far, create_graph=True)
        stopped = geodesic(Chain([doughnut]), tensor([0.0, 0.0]), tensor([2.0, 2.0]).requires_grad_(), max_iterations=1)
        with pytest.raises(RuntimeError, match="did not come to rest; select by `converged`"):
            stopped.energy.sum().backward()
        ramp = Chain([lambda x: torch.cat([x, torch.relu(x[:, :1] - 1)], 1)])
        shot = shoot(ramp, tensor([0.2, 0.1], [0.2, 0.1]), tensor([2.0, 1.0], [0.5, 1.0]).requires_grad_(), points=3)
        assert shot.path[1].sum().requires_grad
        shot.path[1].sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="sample 0 has no derivative: its shot did not converge"):
            shot.path.sum().backward()

    def test_of_the_length_at_its_ends(self) -> None:
        x0, x1 = tensor([0.2, 0.1]).requires_grad_(), tensor([0.7, 1.2]).requires_grad_()
        found = torch.autograd.grad(geodesic(Chain([sphere]), x0, x1, 9).length.sum(), [x0, x1])
        exact = torch.autograd.grad((sphere(x0) * sphere(x1)).sum().acos(), [x0, x1])
        torch.testing.assert_close(found, exact, rtol=1e-7, atol=0)


class TestBadInput:
    def test_equal_ends_are_a_point(self) -> None:
        x = tensor([0.3, 0.2], [0.1, 0.4])
        end = tensor([0.3, 0.2], [0.5, 0.5])
        found = geodesic(Chain([sphere]), x, end.requires_grad_(), 9)
        assert found.converged.tolist() == [True, True]
        assert found.length[0] == found.energy[0] == 0
        torch.testing.assert_close(found.path[0], x[:1].expand(9, 2), rtol=0, atol=0)
        assert found.length[1] > 0.4
        (slope,) = torch.autograd.grad(found.length.sum(), end)
        assert slope.isfinite().all()

    def test_a_chain_that_sees_nothing(self) -> None:
        found = geodesic(Chain([lambda x: 0 * x]), tensor([0.3, 0.2]), tensor([0.5, 0.5]), 9)
        assert found.converged.all()
        assert found.length.item() == 0

    def test_a_curve_that_meets_nan(self) -> None:
        def hole(x: Tensor) -> Tensor:  # no image between -1/2 and 1/2 for small x_1
            return torch.cat([x, (x[:, :1] ** 2 + x[:, 1:] ** 2 - 0.25).sqrt()], 1)

        found = geodesic(Chain([hole]), tensor([-1.0, 0.0], [-1.0, 1.0]), tensor([1.0, 0.0], [1.0, 1.0]), 16)
        assert found.converged.tolist() == [False, True]
        assert found.length[0].isnan()
        assert found.path.isfinite().all()
        with pytest.raises(ValueError, match="first to produce NaN or Inf, in sample 1"):
            geodesic(Chain([hole]), tensor([-1.0, 0.0], [-1.0, 1.0]), tensor([1.0, 0.0], [0.1, 0.1]))

    def test_steps_that_run_out_are_reported(self) -> None:
        found = geodesic(Chain([doughnut]), tensor([0.0, 0.0]), tensor([2.0, 2.0]), 24, max_iterations=1)
        assert not found.converged.any()
        assert not found.refined.any()
        with torch.no_grad():
            line = curve_length(Chain([doughnut]), straight(tensor([0.0, 0.0]), tensor([2.0, 2.0]), 24))
        assert (found.length <= line).all()

    def test_a_metric_without_inverse(self) -> None:
        flat = Chain([lambda x: torch.stack([x[:, 0] + x[:, 1], x[:, 2]], 1)])
        x = tensor([0.0, 0.0, 0.0])
        with pytest.raises(ValueError, match=r"rank 2 of k = 3 in sample 0: .* direction \[1, -1, 0\]|-1, 1, 0"):
            shoot(Chain([lambda x: torch.cat([flat(x), flat(x)], 1)]), x, tensor([1.0, 0.0, 0.0]))
        with pytest.raises(ValueError, match="rank at most 2 of k = 3"):
            shoot(flat, x, tensor([1.0, 0.0, 0.0]))
        with pytest.raises(ValueError, match=r"rank 1 of k = 2 at point 0 of path\[0\]"):
            parallel_transport(flat, torch.zeros(1, 3, 3, dtype=F64), x, basis=torch.eye(3, 2, dtype=F64))
        found = geodesic(flat, x, tensor([1.0, 0.0, 2.0]), 9)
        assert found.converged.all()
        assert found.length.item() == pytest.approx(math.sqrt(5), rel=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "words"),
        [
            ([torch.zeros(1, 3, dtype=F64)], {}, ValueError, r"x1 has shape \(1, 3\); \(1, 2\) would do"),
            ([torch.zeros(1, 2)], {}, TypeError, "x1 is torch.float32"),
            ([tensor([math.inf, 0.0])], {}, ValueError, "x1 holds NaN or Inf in sample 0"),
            ([tensor([1.0, 0.0]), 2], {}, ValueError, "points is 2"),
            ([tensor([1.0, 0.0])], {"max_iterations": 0}, ValueError, "max_iterations 0"),
            (
                [tensor([1.0, 1.0])],
                {"basis": tensor([1.0], [0.0])},
                ValueError,
                "x1 leaves the plane of the basis by 1",
            ),
            ([tensor([1.0, 0.0])], {"basis": tensor([2.0], [0.0])}, ValueError, "not orthonormal"),
            ([tensor([1.0, 0.0]), 10**9], {}, MemoryError, "pass a basis of fewer directions, fewer points"),
        ],
    )
    def test_geodesic(self, arguments: list[object], options: dict[str, object], error: type, words: str) -> None:
        with pytest.raises(error, match=words):
            geodesic(Chain([sphere]), tensor([0.0, 0.0]), *arguments, **options)

    @pytest.mark.parametrize(
        ("v", "options", "words"),
        [
            (tensor([1.0, 0.0, 0.0]), {}, "v has shape"),
            (tensor([1.0, 0.0]), {"time": 0.0}, "time is 0.0"),
            (tensor([1.0, 0.0]), {"time": math.nan}, "time is nan"),
            (tensor([1.0, 0.0]), {"points": 1}, "points is 1"),
            (tensor([1.0, 0.0]), {"tolerance": 0.0}, "tolerance is 0.0"),
            (tensor([1.0, 1.0]), {"basis": tensor([1.0], [0.0])}, "v leaves the plane of the basis"),
        ],
    )
    def test_shoot(self, v: Tensor, options: dict[str, object], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            shoot(Chain([sphere]), tensor([0.0, 0.0]), v, **options)

    def test_kinks_are_refused_where_second_derivatives_are_asked(self) -> None:
        with pytest.raises(ValueError, match=r"kink near x.* geodesic\(\)"):
            shoot(Chain([nn.Linear(2, 9, dtype=F64), nn.ReLU()]), tensor([0.1, 0.0]), tensor([1.0, 0.0]), basis=None)

    @pytest.mark.parametrize("path", [torch.zeros(4, 2), torch.zeros(1, 1, 2)])
    def test_transport(self, path: Tensor) -> None:
        with pytest.raises(ValueError, match="with T >= 2 points a curve"):
            parallel_transport(Chain([sphere]), path, torch.zeros(1, 2))
