"""Three surfaces as networks against the textbook's formulas, their curvature, and bad radii."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit.geometry import curvature
from labkit.geometry.surfaces import clifford_torus, sphere, torus

AT = torch.rand(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 - 1.4
U, V = AT.unbind(1)


def _textbook(name: str) -> Tensor:
    around = [(3 + 0.5 * V.cos()) * U.cos(), (3 + 0.5 * V.cos()) * U.sin(), 0.5 * V.sin()]
    ball = [2 * U.cos() * V.cos(), 2 * U.sin() * V.cos(), 2 * V.sin()]
    flat = [1.5 * U.cos(), 1.5 * U.sin(), 0.5 * V.cos(), 0.5 * V.sin()]
    return torch.stack({"sphere": ball, "torus": around, "clifford": flat}[name], 1)


CASES = {
    "sphere": (sphere(2.0), torch.full((7,), 0.5, dtype=torch.float64)),
    "torus": (torus(3.0, 0.5), 2 * V.cos() / (0.5 * (3 + 0.5 * V.cos()))),
    "clifford": (clifford_torus(1.5, 0.5), torch.zeros(7, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_surface_of_the_textbook(name: str) -> None:
    torch.testing.assert_close(CASES[name][0](AT), _textbook(name), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_its_curvature_is_the_closed_form(name: str) -> None:
    chain, expected = CASES[name]
    torch.testing.assert_close(curvature.scalar_curvature(chain.jet(AT)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_sine_alone_pays(name: str) -> None:
    bill = curvature.bill(CASES[name][0].jet(AT, by_link=True))
    assert bill[:, [0, 2]].abs().max() == 0
    torch.testing.assert_close(bill[:, 1, 1], CASES[name][1], rtol=1e-12, atol=1e-12)


def test_the_flat_torus_is_bent() -> None:
    mean = curvature.mean_curvature(clifford_torus(1.5, 0.5).jet(AT))
    torch.testing.assert_close(4 * mean.square().sum(1), torch.full((7,), 1 / 1.5**2 + 4, dtype=torch.float64))


def test_in_more_dimensions_it_is_as_round_and_elsewhere() -> None:
    wide = sphere(2.0, 40, seed=1)
    torch.testing.assert_close(wide(AT).norm(dim=1), torch.full((7,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(curvature.scalar_curvature(wide.jet(AT)), CASES["sphere"][1], rtol=1e-12, atol=0)
    assert torch.linalg.matrix_rank(torch.cat([wide(AT), sphere(2.0, 40, seed=2)(AT)])) == 6


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sphere(0), "radius=0 is no radius; a finite number above 0 would do"),
        (lambda: sphere(math.nan), "radius=nan is no radius"),
        (lambda: sphere(1.0, 2), "n=2 dimensions hold no sphere; 3 or more would do"),
        (lambda: torus(1.0, 1.0), "tube=1.0 is not below ring=1.0"),
        (lambda: clifford_torus(1.0, -2.0), "second=-2.0 is no radius"),
    ],
)
def test_a_bad_radius_is_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
