"""Links that respect an action: invariant, equivariant, and no more blind than they have to be."""

import pytest
import torch
from torch import Tensor

from labkit import Chain
from labkit.geometry import metric
from labkit.geometry.spectra import log_spectrum
from labkit.networks.actions import rotation, shift
from labkit.networks.symmetric import Gate, Invariants, equivariant

ACTIONS = [rotation(5), rotation(8), shift(6), shift(7)]


def points(n: int, count: int = 4) -> Tensor:
    return torch.randn(count, n, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("action", ACTIONS)
class TestLinks:
    def test_invariants_do_not_change_along_an_orbit(self, action: object) -> None:
        link, x = Invariants(action), points(len(action.generator))
        for t in (0.1, 1.0, 2.5):
            assert (link(action.move(x, t)) - link(x)).abs().max() < 1e-11

    def test_invariants_are_all_hermitian_products_within_a_degree(self, action: object) -> None:
        x = points(len(action.generator))
        y, found = x @ action.harmonics, []
        for degree in action.degrees.unique().tolist():
            part = y[:, action.degrees == degree]
            if not degree:
                found.append(part.square().sum(1))
                continue
            z = torch.complex(*part.chunk(2, dim=1))
            found.append((z[:, :, None] * z[:, None].conj()).abs().square().sum((1, 2)))
        values = Invariants(action)(x)
        still = int((action.degrees == 0).sum())
        assert torch.allclose(values[:, :still].square().sum(1), found[0])
        sizes = [int((action.degrees == m).sum()) // 2 for m in action.degrees.unique().tolist() if m]
        assert values.shape[1] == still + sum(r * r for r in sizes)
        for part, r, gram in zip(values[:, still:].split([r * r for r in sizes], 1), sizes, found[1:], strict=True):
            diagonal = torch.triu_indices(r, r)
            weight = torch.where(diagonal[0] == diagonal[1], 1.0, 2.0)
            real, imaginary = part.split([r * (r + 1) // 2, r * (r - 1) // 2], 1)
            assert torch.allclose((weight * real.square()).sum(1) + 2 * imaginary.square().sum(1), gram)

    def test_the_kernel_holds_the_velocity_and_one_direction_a_degree(self, action: object) -> None:
        x = points(len(action.generator))
        lin = Chain([Invariants(action)]).linearize(x)
        assert ((lin @ action.velocity(x)[..., None]).norm(dim=1) < 1e-12 * lin.dense().norm(dim=(1, 2))[:, None]).all()
        lost = len(action.generator) - log_spectrum(lin).rank
        assert (lost == (action.degrees.unique() > 0).sum()).all()

    def test_a_gate_commutes_and_never_lengthens(self, action: object) -> None:
        gate, h = Gate(action), points(len(action.generator))
        assert (gate(action.move(h, 0.9)) - action.move(gate(h), 0.9)).abs().max() < 1e-12
        assert (gate(h).norm(dim=1) < h.norm(dim=1)).all()
        assert torch.equal(gate(0 * h), 0 * h)

    def test_an_equivariant_network_makes_moves_isometries(self, action: object) -> None:
        net, x = equivariant(action, 3, 2.0, seed=1).requires_grad_(False), points(len(action.generator))
        assert (net(action.move(x, 0.9)) - action.move(net(x), 0.9)).abs().max() < 1e-11
        here = metric.pullback_metric(net.linearize(x))
        there = metric.pullback_metric(net.linearize(action.move(x, 0.9)))
        T = action.matrix(0.9)
        assert (T.mT @ there @ T - here).abs().max() < 1e-10 * here.abs().max()
        assert (action.matrix(0.5).mT @ there @ action.matrix(0.5) - here).abs().max() > 1e-3 * here.abs().max()


def test_weights_have_the_size_asked_for_and_the_seed_draws_them() -> None:
    action = rotation(4)
    net = equivariant(action, 2, 1.5)
    assert len(net) == 3
    assert net[0].weight.square().sum().item() == pytest.approx(1.5**2 * 16)
    assert torch.equal(net[0].weight, equivariant(action, 2, 1.5)[0].weight)
    assert not torch.equal(net[0].weight, equivariant(action, 2, 1.5, seed=1)[0].weight)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="depth=0 is no network"):
        equivariant(rotation(2), 0, 1.0)
    for link in (Invariants(rotation(3)), Gate(rotation(3))):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 3\); flat inputs \(B, 9\)"):
            link(torch.zeros(2, 3, 3))
