import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.nn import functional as F

from labkit.networks import mlp
from labkit.theory.kernel_jets import kernel_jet
from labkit.theory.tailoring import Tailored, kernel_numbers, tailor

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/kernel_laws.json").read_text())
TAT, DKS = REFERENCE["tailored"]
CONSTANTS = ("input_scale", "input_shift", "output_shift", "output_scale")


def official(case):
    psi = torch.tanh if case["psi"] == "tanh" else F.softplus
    return Tailored(psi, *(case[name] for name in CONSTANTS))


class TestOfficialVectors:
    @pytest.mark.parametrize("case", [TAT, DKS], ids=["TAT", "DKS"])
    def test_have_the_numbers_they_were_made_for(self, case):
        found = kernel_numbers(official(case))
        assert [found["q"], found["q_slope"]] == pytest.approx([1, 1], abs=1e-9)
        assert [found[name] for name in ("p", "chi", "gamma")] == pytest.approx(
            [case[name] for name in ("p", "chi", "gamma")], abs=6e-10
        )

    def test_tat_softplus_is_found(self):
        phi = tailor("softplus", chi=1.0, q_slope=1.0, gamma=kernel_numbers(official(TAT))["gamma"])
        assert [getattr(phi, name) for name in CONSTANTS] == pytest.approx([TAT[n] for n in CONSTANTS], rel=1e-8)

    def test_dks_tanh_is_found(self):
        phi = tailor("tanh", p=0.0, q_slope=1.0, chi=kernel_numbers(official(DKS))["chi"])
        assert [getattr(phi, name) for name in CONSTANTS] == pytest.approx([DKS[n] for n in CONSTANTS], rel=1e-8)

    def test_tat_leaky_relu(self):
        """C(0) = (1 - a)²/(π (1 + a²)) of a leaky ReLU with slope a, in which no shift is needed."""
        slope = 0.3
        p = (1 - slope) ** 2 / (math.pi * (1 + slope**2))
        phi = tailor(lambda h, a: F.leaky_relu(h, float(a)), chi=1.0, p=p, slope=0.1, free=["slope"])
        assert [phi.slope, phi.output_scale] == pytest.approx([slope, (2 / (1 + slope**2)) ** 0.5], rel=1e-9)
        assert phi.output_shift == pytest.approx(0, abs=1e-10)


class TestSolver:
    @pytest.mark.parametrize(
        ("activation", "wanted"),
        [
            ("softplus", {"chi": 1.0, "gamma": 0.1, "q_slope": 1.0}),
            ("gelu", {"chi": 1.0, "gamma": 0.05, "q_slope": 1.0}),
            ("tanh", {"chi": 1.0, "gamma": 0.4, "iota": 0.5}),
            ("tanh", {"chi": 1.0, "p": 0.1, "gamma": 0.209}),
            ("sin", {"chi": 1.0, "gamma": 0.3, "offset": "bias"}),
            ("silu", {"chi": 1.2, "p": 0.0}),
        ],
    )
    def test_meets_what_was_wanted(self, activation, wanted):
        phi = tailor(activation, **wanted)
        found = kernel_numbers(phi, phi.sigma_b)
        assert found["q"] == pytest.approx(1, rel=1e-10)
        for name, value in wanted.items():
            if name != "offset":
                assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12)
        jet = kernel_jet([(phi, 1.0, phi.sigma_b)] * 2, 1.0)
        assert jet.q.tolist() == pytest.approx([1, 1, 1], rel=1e-9)
        assert jet.chi[0].item() == pytest.approx(found["chi"], rel=1e-9)

    @pytest.mark.parametrize(
        ("sigma_b", "gamma", "iota"), [(0.02, 0.016, 0.026), (0.1, 0.12, 0.153), (0.3, 0.467, 0.455)]
    )
    def test_critical_tanh_in_units_of_q(self, sigma_b, gamma, iota):
        phi = tailor("tanh", chi=1.0, gamma=gamma, offset="bias")
        assert kernel_numbers(phi, phi.sigma_b)["iota"] == pytest.approx(iota, abs=1e-3)
        sigma_w = phi.output_scale * phi.input_scale
        assert phi.sigma_b * phi.input_scale == pytest.approx(sigma_b, rel=0.02)  # γ is given to three digits
        assert kernel_jet([("tanh", sigma_w, phi.sigma_b * phi.input_scale)], phi.input_scale**2).chi.item() == (
            pytest.approx(1, rel=1e-10)
        )

    @pytest.mark.parametrize("gamma", [0.1746, 0.632, 2.53])
    def test_a_wiggle_moves_gamma_at_a_fixed_isometry_defect(self, gamma):
        """z + t sin(ωz)/ω: at ι = .1525 γ goes with ω = 2, 4, 8."""
        frequency = {0.1746: 2.0, 0.632: 4.0, 2.53: 8.0}[gamma]
        phi = tailor(
            lambda z, t: z + t * torch.sin(frequency * z) / frequency,
            chi=1.0,
            iota=0.1525,
            offset="bias",
            slope=0.3,
            free=["slope", "offset"],
        )
        assert kernel_numbers(phi, phi.sigma_b)["gamma"] == pytest.approx(gamma, rel=2e-3)

    def test_the_same_every_time(self):
        assert tailor("gelu", chi=1.0, gamma=0.1) == tailor("gelu", chi=1.0, gamma=0.1)

    def test_is_an_activation_like_any_other(self):
        phi = tailor("softplus", chi=1.0, q_slope=1.0, gamma=0.1)
        h = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
        assert phi(h).dtype == h.dtype
        phi(h).sum().backward()
        assert h.grad.isfinite().all()


def test_kernel_numbers_against_adaptive_quadrature():
    def mean(function):
        density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731 (a formula)
        return quad(lambda z: function(z) * density(z), -12, 12, epsabs=1e-13, limit=200)[0]

    found = kernel_numbers("tanh", sigma_b=0.4)
    slope, bend = (lambda z: 1 - np.tanh(z) ** 2), (lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2))
    chi = mean(lambda z: slope(z) ** 2)
    assert found["q"] == pytest.approx(mean(lambda z: np.tanh(z) ** 2) + 0.16, rel=1e-11)
    assert found["chi"] == pytest.approx(chi, rel=1e-11)
    assert found["gamma"] == pytest.approx(mean(lambda z: bend(z) ** 2), rel=1e-11)
    assert found["iota"] == pytest.approx(mean(lambda z: slope(z) ** 4) / chi**2 - 1, rel=1e-11)
    assert found["q_slope"] == pytest.approx(mean(lambda z: z * np.tanh(z) * slope(z)), rel=1e-11)
    assert found["p"] == pytest.approx(0.16, rel=1e-11)


class TestBadInput:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "nothing to solve for; pass one or more of chi, gamma, iota, q_slope"),
            ({"p": 0.1}, "nothing to solve for"),
            ({"chi": "one"}, "chi='one'; pass a finite number"),
            ({"chi": -1.0}, "chi=-1.0; pass a finite number that is not negative"),
            ({"chi": 1.0, "p": 1.0}, r"p=1.0; C\(0\) lies below 1"),
            ({"chi": 1.0, "offset": "mean"}, "offset='mean'; pass"),
            ({"chi": 1.0, "slope": "steep"}, "slope='steep'; pass the number"),
            ({"chi": 1.0, "free": ["scale"]}, "1 conditions besides p need as many free constants"),
            ({"chi": 1.0, "gamma": 1.0, "free": ["offset"]}, "2 conditions besides p need as many"),
            ({"chi": 1.0, "gamma": 0.1, "iota": 0.1, "q_slope": 1.0}, "4 conditions besides p need as many"),
        ],
    )
    def test_one_sentence(self, given, words):
        with pytest.raises(ValueError, match=words):
            tailor("tanh", **given)

    def test_a_kink_has_no_gamma(self):
        with pytest.raises(ValueError, match=r"gamma=0.1 is asked of an activation with kinks, whose C''\(1\) is inf"):
            tailor("relu", gamma=0.1)

    def test_a_scale_that_does_not_matter_stays_moderate(self):
        """ReLU's input scale is free: none is returned that has run away."""
        phi = tailor("relu", chi=1.0, q_slope=1.0)
        assert 1e-6 < phi.input_scale < 2e6
        found = kernel_numbers(phi)
        assert [found["chi"], found["q_slope"], found["q"]] == pytest.approx([1, 1, 1], rel=1e-8)

    def test_what_no_constants_reach(self):
        for wanted in ({"chi": 0.5}, {"chi": 1.0, "gamma": 0.1}):
            with pytest.raises(ValueError, match="no input_scale"):
                tailor("linear", **wanted)

    def test_a_negative_bias(self):
        with pytest.raises(ValueError, match="sigma_b holds -1; pass finite numbers ≥ 0"):
            kernel_numbers("tanh", -1.0)

    def test_below_the_price(self):
        """γ ≥ 3p at χ = 1 for odd φ."""
        words = r"no input_scale, input_shift found for chi=1, gamma=0.5, p=0.3; nearest were chi=.*γ ≥ 2"
        with pytest.raises(ValueError, match=words):
            tailor("tanh", chi=1.0, p=0.3, gamma=0.5)


@pytest.mark.statistical
def test_a_tailored_network_keeps_lengths_and_gains():
    """TAT softplus in 9 networks of width 300 and 12 layers: q and the gain stay 1 within 4 standard errors and 2 %."""
    phi = tailor("softplus", chi=1.0, q_slope=1.0, gamma=0.01)
    found = []
    for seed in range(9):
        frame = torch.randn(300, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x, u = (torch.linalg.qr(frame)[0] * 300**0.5).T[:, None]
        net = mlp(12, 300, phi, 1.0, 0.0, seed=seed, ensemble="orthogonal", dtype=torch.float64)
        out, push = torch.func.jvp(net, (x,), (u,))
        found.append(torch.stack([(out**2).mean(), (push**2).mean()]).detach())
    mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / 3
    assert bool(((mean - 1).abs() < 4 * stderr + 0.02).all()), (mean, stderr)
