import math

import pytest
import torch

from labkit.networks import mlp
from labkit.theory._gaussian import expectation, pieces
from labkit.theory.kernel_jets import correlations, kernel_jet
from labkit.theory.straight_line import relative_bend
from labkit.theory.tailoring import kernel_numbers, tailor


def bend_by_differences(layers, q0):
    """The fourth mixed derivative of E f(x+su) f(x+tu) at 0, from closed kernels of sin, in plain numbers."""
    import mpmath

    def kernel(s, t):
        first, second, cross = q0 * (1 + s**2), q0 * (1 + t**2), q0 * (1 + s * t)
        for _, weight, bias, *alpha in layers:
            new = [
                weight**2 * mpmath.exp(-(a + b) / 2) * mpmath.sinh(k) + bias**2
                for a, b, k in ((first, first, first), (second, second, second), (first, second, cross))
            ]
            old = [first, second, cross]
            first, second, cross = [o + alpha[0] ** 2 * n if alpha else n for o, n in zip(old, new, strict=True)]
        return cross

    with mpmath.workdps(40):
        top = mpmath.diff(kernel, (0, 0), (2, 2))
        return float(top / mpmath.diff(kernel, (0, 0), (1, 1)))


@pytest.mark.parametrize(
    "layers", [[("sin", 1.3, 0.2)], [("sin", 1.1, 0.4), ("sin", 1.7, 0.0)], [("sin", 1.3, 0.2, 0.5)] * 3]
)
def test_is_the_fourth_derivative_of_the_kernel(layers):
    assert relative_bend(layers, 0.8)[-1].item() == pytest.approx(bend_by_differences(layers, 0.8), rel=1e-9)


@pytest.mark.parametrize(("gamma", "ratio"), [(0.016, 1.351), (0.12, None), (0.467, None)])
def test_closed_form_at_a_critical_fixed_point(gamma, ratio):
    """3γL + δ Σ v^l (v^l - 1), and its ratio to √(3γL) for nearly linear tanh at L = 16."""
    phi = tailor("tanh", chi=1.0, gamma=gamma, offset="bias")
    slope = pieces(phi).first
    delta = expectation(lambda z: slope(z) ** 2 * (z**2 - 1), torch.ones(())).item()
    v, L = kernel_numbers(phi, phi.sigma_b)["q_slope"], 16
    found = relative_bend([(phi, 1.0, phi.sigma_b)] * L, 1.0)[-1].item()
    assert found == pytest.approx(3 * gamma * L + delta * sum(v**k * (v**k - 1) for k in range(1, L)), rel=1e-9)
    if ratio is not None:
        assert (found / (3 * gamma * L)) ** 0.5 == pytest.approx(ratio, abs=1e-3)


def test_one_layer_bends_by_three_gamma():
    jet = kernel_jet([("gelu", 1.7, 0.3)], 1.2)
    wanted = 3 * jet.gamma / jet.chi  # both lengths enter alike, whatever q'
    assert relative_bend([("gelu", 1.7, 0.3)], 1.2)[1].item() == pytest.approx(wanted.item(), rel=1e-11)


def test_edges():
    assert relative_bend([("linear", 1.5, 0.2)] * 3, 0.7).tolist() == pytest.approx([0, 0, 0, 0], abs=1e-15)
    assert relative_bend([("relu", 2**0.5, 0.0)], 1.0).tolist() == [0, math.inf]
    assert bool(relative_bend([("tanh", 0.0, 0.3)], 1.0)[1].isnan())
    assert relative_bend([("tanh", 1.0, 0.3, 0.0)] * 2, 1.0).tolist() == [0, 0, 0]


def test_an_origin_is_refused():
    with pytest.raises(ValueError, match="q0 must be above 0: a line through the origin"):
        relative_bend([("tanh", 1.0, 0.3)], 0.0)


@pytest.mark.statistical
def test_networks_bend_as_much():
    """|x|² E|D²f(u,u)|²/E|Df u|² of 24 networks of width 300, within 4 standard errors and 3 %."""
    width, depth = 300, 4
    layer = ("tanh", 1.5, 0.3)
    found = []
    for seed in range(24):
        frame = torch.randn(width, 2, generator=torch.Generator().manual_seed(seed)).double()
        x, u = torch.linalg.qr(frame)[0].T[:, None] * width**0.5
        jet = mlp(depth, width, *layer, seed=seed, dtype=torch.float64).jet(x, basis=u.mT / width**0.5)
        found.append(torch.stack([(jet.second**2).sum() * width, (jet.first**2).sum()]).detach())
    both = torch.stack(found)
    ratios = both[:, 0] / both[:, 1].mean()
    law = relative_bend([layer] * depth, 1.0)[-1]
    assert abs(ratios.mean() - law) < 4 * ratios.std() / 24**0.5 + 0.03 * law
    assert correlations([layer] * depth, 1.0, 0.0)[-1] < 0.5  # not yet merged
