"""The one reader of numbers: digits, ranges and sentences, whatever the numbers come in."""

import math

import numpy as np
import pytest
import torch

from labkit.theory._arguments import ANY, COSINE, NOT_NEGATIVE, between, grid, real

F64 = torch.float64


@pytest.mark.parametrize("given", [0.1, [0.1], (0.1,), np.array([0.1]), np.float64(0.1), torch.tensor(0.1, dtype=F64)])
def test_no_digit_is_lost(given):
    assert real("x", given).dtype == F64
    assert real("x", given).sum().item() == 0.1


def test_what_has_a_type_keeps_its_value():
    single = torch.tensor([0.1, 2.0])
    assert torch.equal(real("x", single), single.double())
    assert torch.equal(real("x", single.numpy()), single.double())
    assert real("x", torch.tensor([3])).tolist() == [3.0]
    assert real("x", np.int64(3)).item() == 3.0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("wide", "x='wide'; pass a number or a tensor of numbers"),
        (None, "x=None; pass a number"),
        ([1.0, "a"], r"x=\[1.0, 'a'\]; pass a number"),
        ([[1.0], [1.0, 2.0]], r"x=\[\[1.0\], \[1.0, 2.0\]\]; pass a number"),
        (np.array(["a"]), "pass a number"),
        (1j, "x=1j; pass a number"),
        (1j * torch.ones(1), "x holds torch.complex64; pass real numbers"),
        (np.array([1j]), "x holds torch.complex128; pass real numbers"),
        (torch.tensor([True]), "x holds torch.bool; pass real numbers"),
    ],
)
def test_no_numbers(given, sentence):
    with pytest.raises(TypeError, match=sentence):
        real("x", given)


@pytest.mark.parametrize(
    ("given", "allowed", "sentence"),
    [
        ([1.0, -2.0, -3.0], NOT_NEGATIVE, "x holds -2; pass finite numbers ≥ 0$"),
        (math.inf, NOT_NEGATIVE, "x holds inf; pass finite numbers ≥ 0$"),
        (math.nan, ANY, "x holds nan; pass numbers$"),
        (
            torch.tensor(1.0 + 1e-9, dtype=F64, requires_grad=True),
            COSINE,
            r"x holds 1.000000001; pass numbers in \[-1, 1",
        ),
    ],
)
def test_out_of_range(given, allowed, sentence):
    with pytest.raises(ValueError, match=sentence):
        between("x", given, allowed)


def test_what_is_unknown_passes_only_where_it_may():
    found = between("x", [math.nan, 0.5], COSINE, unknown=True)
    assert found[1] == 0.5
    assert found[0].isnan()
    with pytest.raises(ValueError, match="x holds 2"):
        between("x", [math.nan, 2.0], COSINE, unknown=True)


def test_a_grid_is_named_by_the_first_of_each_shape():
    one, two, three = grid({"a": 1, "b": torch.ones(2, 1), "c": [0.5, 0.25]})
    assert one.shape == two.shape == three.shape == (2, 2)
    clash = {"a": 1.0, "b": torch.ones(3), "c": torch.ones(3), "d": torch.ones(2)}
    with pytest.raises(ValueError, match=r"^the shapes \(3,\) of b and \(2,\) of d do not broadcast; pass equal ones"):
        grid(clash)
