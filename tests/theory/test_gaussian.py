"""Gaussian means against closed forms, adaptive quadrature and twice as many nodes; kinks against where they are."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn
from torch.nn import functional as F

from labkit.theory._gaussian import expectation, hermite_coefficients, joint_expectation, pair_expectation, pieces
from labkit.theory.activations import NAMES

F64 = torch.float64
LENGTHS = torch.tensor([1e-12, 0.01, 1.0, 3.0, 25.0], dtype=F64)
KINKS = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "softsign": (0.0,),
    "hardtanh": (-1.0, 1.0),
}
ROUGH = {"relu", "leaky_relu", "selu", "hardtanh"}  # φ' jumps


@pytest.mark.parametrize("name", NAMES)
class TestPieces:
    def test_kinks_and_smoothness(self, name):
        assert pieces(name).kinks == KINKS.get(name, ())
        assert pieces(name).smooth == (name not in ROUGH)

    def test_doubling_the_nodes_changes_nothing(self, name):
        found = pieces(name)
        for function in (lambda u: found.phi(u) ** 2, lambda u: found.first(u) ** 4, lambda u: found.second(u) ** 2):
            once, twice = (expectation(function, LENGTHS, found.kinks, refine=n) for n in (1, 2))
            torch.testing.assert_close(once, twice, rtol=1e-10, atol=1e-15)

    def test_pairs_too(self, name):
        found = pieces(name)
        q, c = torch.tensor([0.3, 25.0], dtype=F64)[:, None], torch.tensor([-0.9, 0.0, 1 - 1e-9], dtype=F64)
        once, twice = (pair_expectation(found.phi, found.phi, q, q, c, found.kinks, refine=n) for n in (1, 2))
        torch.testing.assert_close(once, twice, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("function", "kinks"),
    [
        (F.hardswish, (-3.0, 3.0)),
        (F.softshrink, (-0.5, 0.5)),
        (torch.sign, (0.0,)),
        (lambda u: u.abs() * u, (0.0,)),
        (lambda u: torch.relu(u - 1 / 3) + torch.relu(u - 0.334), (1 / 3, 0.334)),
        (lambda u: F.relu(0.15 * u - 1.5), (10.0,)),
        (nn.PReLU(), (0.0,)),
        (nn.GELU("tanh"), ()),
        (lambda u: u + 0.2 * torch.cos(16 * u), ()),
        (lambda u: torch.erf(30 * u), ()),
        (torch.exp, ()),
    ],
)
def test_kinks_are_found_by_behaviour(function, kinks):
    assert pieces(function).kinks == pytest.approx(kinks, abs=1e-12)


def test_too_many_steps_are_refused():
    with pytest.raises(ValueError, match="kinks or steps; integrals are cut at up to 32"):
        pieces(lambda u: torch.round(4 * u))


@pytest.mark.parametrize("q", [0.01, 1.0, 25.0, 1e4])
def test_closed_forms(q):
    def mean(function, kinks=()):
        return float(expectation(function, q, kinks))

    assert mean(lambda u: torch.erf(u) ** 2) == pytest.approx(2 / math.pi * math.asin(2 * q / (1 + 2 * q)), rel=1e-12)
    slope = pieces("erf").first
    assert mean(lambda u: slope(u) ** 2) == pytest.approx(4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-12)
    assert mean(lambda u: F.relu(u) ** 4, (0.0,)) == pytest.approx(1.5 * q * q, rel=1e-12)
    assert mean(torch.abs, (0.0,)) == pytest.approx(math.sqrt(2 * q / math.pi), rel=1e-12)


@given(q=st.floats(1e-3, 25), name=st.sampled_from(["tanh", "gelu", "selu", "softsign", "hardtanh"]))
def test_against_adaptive_quadrature(q, name):
    found = pieces(name)
    places = sorted({place / math.sqrt(q) for place in (*found.kinks, 0.0) if abs(place) < 8 * math.sqrt(q)})
    exact = 0.0
    for low, high in zip([-10, *places], [*places, 10], strict=True):
        exact += quad(lambda z: _at(found.first, math.sqrt(q) * z) ** 2 * _density(z), low, high, epsabs=1e-13)[0]
    assert float(expectation(lambda u: found.first(u) ** 2, q, found.kinks)) == pytest.approx(exact, abs=1e-11)


def _at(function, u):
    return float(function(torch.tensor(u, dtype=F64)))


def _density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def test_zero_length_is_exact():
    assert float(expectation(torch.cos, 0.0)) == pytest.approx(1, abs=1e-15)
    assert expectation(torch.square, 0) == 0
    slope = pieces("leaky_relu").first
    assert float(expectation(slope, 0.0, (0.0,))) == pytest.approx((1 + 0.01) / 2)


def test_shapes_lists_and_what_is_not_finite():
    assert expectation(torch.cos, torch.ones(0, 3)).shape == (0, 3)
    assert expectation(torch.tanh, [1.3, 2.5]).dtype == F64
    found = expectation(torch.square, [1.3, math.inf, math.nan])
    assert float(found[0]) == pytest.approx(1.3, rel=1e-14)  # through float32 it would differ at 1e-8
    assert found[1:].isnan().all()
    whole = expectation(torch.tanh, torch.linspace(0.1, 9, 3000).view(30, 100))
    torch.testing.assert_close(whole[-1, -1], expectation(torch.tanh, torch.linspace(0.1, 9, 3000)[-1]))


class TestPairs:
    C = torch.tensor([-1.0, -0.999, -0.4, 0.0, 1e-9, 0.7, 1 - 1e-6, 1 - 1e-14, 1.0], dtype=F64)

    @pytest.mark.parametrize("q", [0.2, 25.0])
    def test_relu_is_the_arc_cosine_kernel(self, q):
        exact = q / (2 * math.pi) * ((1 - self.C**2).sqrt() + self.C * (math.pi - self.C.acos()))
        torch.testing.assert_close(
            pair_expectation(F.relu, F.relu, q, q, self.C, (0.0,)), exact, rtol=1e-11, atol=1e-14
        )

    @pytest.mark.parametrize("q", [0.2, 25.0])
    def test_erf_is_the_arc_sine_kernel(self, q):
        exact = 2 / math.pi * (2 * self.C * q / (1 + 2 * q)).asin()
        found = pair_expectation(torch.erf, torch.erf, q, q, self.C)
        torch.testing.assert_close(found, exact, rtol=1e-11, atol=1e-14)

    def test_different_lengths_and_functions(self):
        q1, q2 = 0.7, 3.0
        exact = torch.exp(torch.tensor(-(q1 + q2) / 2)) * torch.sinh(self.C * math.sqrt(q1 * q2))
        torch.testing.assert_close(pair_expectation(torch.sin, torch.sin, q1, q2, self.C), exact, rtol=1e-6, atol=1e-7)
        heaviside = pieces("relu").first
        found = pair_expectation(heaviside, F.hardtanh, q1, q2, 0.0, (-1.0, 0.0, 1.0))
        assert abs(float(found)) < 1e-14

    @pytest.mark.parametrize("name", ["tanh", "hardtanh"])
    @pytest.mark.parametrize("c", [-1.0, -0.3, 0.0, 0.5, 0.99999, 1.0])
    def test_the_derivative_in_c_is_prices_theorem(self, name, c):
        found = pieces(name)
        at, q = torch.tensor(c, dtype=F64), torch.tensor(1.7, dtype=F64)
        slope = torch.func.grad(lambda x: pair_expectation(found.phi, found.phi, q, q, x, found.kinks))(at)
        price = q * pair_expectation(found.first, found.first, q, q, at, found.kinks)
        torch.testing.assert_close(slope, price, rtol=1e-9, atol=1e-12)

    def test_differences_keep_their_digits(self):
        def squared(u1, u2):
            return (u1 - u2) ** 2

        assert float(joint_expectation(squared, 3.0, 3.0, 1 - 1e-10)) == pytest.approx(2 * 3 * 1e-10, rel=1e-6)

    def test_hermite_coefficients_sum_to_the_pair(self):
        found = pieces("tanh")
        q = torch.tensor([0.5, 2.0], dtype=F64)
        powers = hermite_coefficients(found.phi, q, (), 100).square() @ (0.6 ** torch.arange(100, dtype=F64))
        torch.testing.assert_close(powers, pair_expectation(found.phi, found.phi, q, q, 0.6), rtol=1e-13, atol=0)
        kinked = hermite_coefficients(F.relu, q, (0.0,), 60).square() @ (0.6 ** torch.arange(60, dtype=F64))
        torch.testing.assert_close(kinked, pair_expectation(F.relu, F.relu, q, q, 0.6, (0.0,)), rtol=1e-12, atol=0)


def test_a_grid_equals_its_cells():
    found = pieces("hardtanh")
    q, c = torch.rand(7, dtype=F64) * 5, torch.rand(7, dtype=F64)
    whole = pair_expectation(found.phi, found.phi, q, q, c, found.kinks)
    cells = [pair_expectation(found.phi, found.phi, q[i], q[i], c[i], found.kinks) for i in range(7)]
    torch.testing.assert_close(whole, torch.stack(cells), rtol=1e-12, atol=1e-14)
