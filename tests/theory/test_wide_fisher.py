import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.geometry import fisher
from labkit.networks import mlp
from labkit.theory.wide_fisher import wide_fisher
from labkit.training.random_inputs import on_sphere

CASES = json.loads((Path(__file__).parents[2] / "data/reference/fisher.json").read_text())["width_limit"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['activation']}-{c['sigma_b']}")
class TestReference:
    def test_kappas(self, case):
        law = wide_fisher(case["activation"], case["sigma_w"], case["sigma_b"], hidden=3)
        assert law.kappa_1.item() == pytest.approx(case["kappa1"], rel=1e-9)
        assert law.kappa_2.item() == pytest.approx(case["kappa2"], rel=1e-9, abs=1e-15)

    def test_one_wide_network_follows(self, case):
        """Width 1,500 and 40 samples, measured once: 10 %. Where κ₂ = 0 the largest is no outlier, and larger."""
        measured = case["measured_at_1500"]
        law = wide_fisher(case["activation"], case["sigma_w"], case["sigma_b"], hidden=3)
        assert (law.mean(1500) * 1500).item() == pytest.approx(measured["trace"], rel=0.05)
        assert law.second_moment(40).item() == pytest.approx(measured["squares"], rel=0.1)
        largest = law.largest(1500, 40).item() / 1500
        if law.kappa_2 > 1e-9:
            assert largest == pytest.approx(measured["largest"], rel=0.05)
        else:
            assert measured["largest"] > 1.1 * largest


def test_linear_networks_by_hand():
    """φ = h, σ_b = 0, σ_w = 1: each of hidden + 1 matrices gives q_in, over hidden; two inputs its cosine of that."""
    law = wide_fisher("linear", 1.0, 0.0, hidden=4, q_in=0.6, c_in=-0.5)
    assert [law.kappa_1.item(), law.kappa_2.item()] == pytest.approx([5 / 4 * 0.6, -5 / 8 * 0.6], rel=1e-12)
    assert law.mean(100, outputs=3).item() == pytest.approx(5 / 4 * 0.6 * 3 / 100)
    assert law.second_moment(1, outputs=2).item() == pytest.approx(8 * (5 / 4 * 0.6) ** 2)


def test_a_grid_is_a_loop():
    sigma_w = torch.tensor([[0.8], [1.5]]).double()
    grid = wide_fisher("tanh", sigma_w, torch.tensor([0.0, 0.3]), hidden=2)
    one = wide_fisher("tanh", 1.5, torch.tensor(0.3), hidden=2)
    assert grid.kappa_1.shape == (2, 2)
    torch.testing.assert_close(grid.kappa_2[1, 1], one.kappa_2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hidden": 0}, "hidden=0; pass a whole number, 1 or more, of hidden layers"),
        ({"sigma_w": -1.0}, "sigma_w holds -1"),
        ({"c_in": 2.0}, r"c_in holds 2; pass numbers in \[-1, 1\]"),
        ({"q_in": math.inf}, "q_in holds inf"),
        ({"activation": torch.sign}, "activation jumps"),
        ({"sigma_b": torch.ones(2), "q_in": torch.ones(3)}, "do not broadcast"),
    ],
)
def test_bad_input(given, words):
    with pytest.raises(ValueError, match=words):
        wide_fisher(**{"activation": "tanh", "sigma_w": 1.0, "hidden": 2, **given})


@pytest.mark.statistical
class TestCrowd:
    """The nonzero eigenvalues beside the outlier, of networks of width 256 on 20 unrelated inputs."""

    @pytest.mark.parametrize(("activation", "sigma_b", "outputs"), [("tanh", 0.5, 1), ("relu", 0.0, 2)])
    def test_its_mean(self, activation, sigma_b, outputs):
        """hidden · M (κ₁ − κ₂)/N: the trace without the outliers, one for each output."""
        law = wide_fisher(activation, 1.4, sigma_b, hidden=2)
        predicted = 2 * 256 * (law.kappa_1 - law.kappa_2) / 20
        means, shares = [], []
        for seed in range(5):
            net = mlp(3, 256, activation, 1.4, sigma_b, 256, outputs, seed=seed, dtype=torch.float64)
            values = fisher.spectrum(net, on_sphere(20, 256, seed), "gaussian")
            means.append(values[outputs:].mean() / predicted)
            shares.append(values[outputs:].mean() / values.mean() * law.kappa_1 / (law.kappa_1 - law.kappa_2))
        for ratios, slack in ((torch.stack(means), 0.03), (torch.stack(shares), 0.03)):
            assert abs(ratios.mean() - 1) < 4 * ratios.std() / 5**0.5 + slack
        assert torch.stack(shares).std() < 0.1  # so that the second says something

    @pytest.mark.parametrize("samples", [10, 20])
    def test_its_edge_without_an_outlier(self, samples):
        """κ₂ = 0: the largest over the mean is 1 + 2 (ρN/M)^½ + O(N/M), Wigner's edge, ρ from the overlaps' spread."""
        q, gains, slopes = [torch.tensor(1.0).double()], [], []
        u, weight = (torch.as_tensor(part) for part in np.polynomial.hermite_e.hermegauss(81))
        weight = weight / weight.sum()
        for _ in range(2):
            h = 1.5 * q[-1].sqrt() * u
            q.append(weight @ h.tanh() ** 2)
            gains.append(1.5**2 * (weight @ (1 - h.tanh() ** 2)) ** 2)  # of an overlap, forward and backward alike
            slopes.append(1.5**2 * (weight @ (1 - h.tanh() ** 2) ** 2))
        diagonal = slopes[0] * slopes[1] * q[0] + slopes[1] * q[1] + q[2]
        # An overlap is born in every layer with standard deviation q/√M; what layer j bears, all later ones feel.
        born = q[0] * 3 * gains[0] * gains[1], q[1] * 2 * gains[1], q[2]
        w = torch.stack(born) / diagonal
        rho, third = (w**2).sum(), (w**3).sum() / (w**2).sum()
        assert rho.item() == pytest.approx(0.674, abs=1e-3)
        edge = 1 + 2 * (rho * samples / 256).sqrt() + third * samples / 256
        ratios = []
        for seed in range(6):
            net = mlp(3, 256, "tanh", 1.5, 0.0, 256, 1, seed=seed, dtype=torch.float64)
            values = fisher.spectrum(net, on_sphere(samples, 256, seed), "gaussian")
            ratios.append(values[0] / values.mean())
        ratio = torch.stack(ratios)
        assert abs(ratio.mean() - edge) < 4 * ratio.std() / 6**0.5 + 0.03
