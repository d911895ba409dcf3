"""Lengths of images of curves, against closed forms."""

import math

import pytest
import torch

from labkit import Chain
from labkit.geometry.geodesics import curve_length, missing_length


def arc(turns: float, points: int, radius: float = 1.0) -> torch.Tensor:
    angle = torch.linspace(0, 2 * math.pi * turns, points, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)[None]


def test_an_inscribed_polygon_has_its_closed_form_and_approaches_with_the_square_of_the_spacing() -> None:
    stretch = Chain([lambda x: 3 * x])
    errors = []
    for pieces in (64, 128):
        length = curve_length(stretch, arc(1.0, pieces + 1, 0.5))
        torch.testing.assert_close(length, torch.tensor([3 * pieces * math.sin(math.pi / pieces)], dtype=torch.float64))
        errors.append(3 * math.pi - length.item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-3)


def test_a_parabola_against_its_integral() -> None:
    lift = Chain([lambda x: torch.cat([x, x**2], dim=1)])
    line = torch.linspace(0, 1, 4001, dtype=torch.float64)[None, :, None]
    exact = math.sqrt(5) / 2 + math.asinh(2) / 4
    assert curve_length(lift, line).item() == pytest.approx(exact, rel=1e-7)


def test_every_depth_and_every_curve_of_a_batch() -> None:
    chain = Chain([lambda x: 2 * x, torch.relu])
    path = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]])
    torch.testing.assert_close(
        curve_length(chain, path, depths=range(3)), torch.tensor([[2.0, 3.0], [4.0, 6.0], [2.0, 6.0]])
    )
    alone = torch.stack([curve_length(chain, curve[None], depths=[2, 0])[:, 0] for curve in path], dim=1)
    torch.testing.assert_close(curve_length(chain, path, depths=[2, 0]), alone)


def test_images_keep_their_shape_until_they_are_measured() -> None:
    flatten = Chain([torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten()])
    path = torch.randn(2, 5, 1, 6, 6)
    with torch.no_grad():
        images = flatten(path.flatten(0, 1)).reshape(2, 5, -1)
        assert torch.allclose(curve_length(flatten, path), images.diff(dim=1).norm(dim=-1).sum(-1))


def test_a_cut_curve_is_at_most_as_long() -> None:
    chain = Chain([torch.nn.Linear(2, 5, dtype=torch.float64), torch.tanh])
    path = torch.randn(4, 33, 2, dtype=torch.float64)
    assert (curve_length(chain, path[:, ::4]) <= curve_length(chain, path)).all()


def test_it_is_differentiable_in_the_path() -> None:
    path = arc(0.3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: curve_length(Chain([torch.tanh]), p, depths=[0, 1]), path)


@pytest.mark.parametrize(
    ("path", "depths", "words"),
    [
        (torch.zeros(4, 2), None, "shape"),
        (torch.zeros(1, 1, 2), None, "T >= 2"),
        (torch.zeros(1, 4, 2), [2], "depths 0 … 1"),
        (torch.zeros(1, 4, 2), [-1], "holds -1"),
        (torch.zeros(1, 4, 2), [], "empty"),
    ],
)
def test_bad_input_gets_a_sentence(path: torch.Tensor, depths: list[int] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        curve_length(Chain([torch.tanh]), path, depths=depths)


class TestMissingLength:
    def test_of_an_arc_has_its_closed_form(self) -> None:
        pieces = [2, 6, 12]
        found = missing_length(
            Chain([lambda x: 3 * x]), arc(0.5, 13)[0], pieces, length=torch.tensor(3 * math.pi, dtype=torch.float64)
        )
        exact = [3 * math.pi - 3 * n * 2 * math.sin(math.pi / (2 * n)) for n in pieces]
        torch.testing.assert_close(found, torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-13)

    def test_it_is_the_difference_of_two_polygons_whatever_the_blocks(self) -> None:
        chain = Chain([torch.nn.Linear(2, 5, dtype=torch.float64), torch.tanh])
        path = arc(0.7, 10_001)[0]
        with torch.no_grad():
            whole, coarse = curve_length(chain, path[None]), curve_length(chain, path[None, ::1000])
            torch.testing.assert_close(
                missing_length(chain, path, [10_000, 10]), torch.cat([whole - whole, whole - coarse])
            )

    def test_a_chord_misses_what_its_tangents_turn(self) -> None:
        """(chord / length)² = 1 − ½ mean |T − T'|², also around corners: equal steps in four directions."""
        steps = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]], dtype=torch.float64)
        path = torch.cat([torch.zeros(1, 2, dtype=torch.float64), steps.cumsum(0)])
        turning = torch.cdist(steps, steps).square().mean()
        missing = missing_length(Chain([lambda x: x]), path, [1])[0]
        assert ((4 - missing) / 4) ** 2 == pytest.approx(float(1 - turning / 2))

    def test_it_is_differentiable_in_the_path(self) -> None:
        path = arc(0.3, 5)[0].requires_grad_()
        assert torch.autograd.gradcheck(lambda p: missing_length(Chain([torch.tanh]), p, [1, 2]), path)

    @pytest.mark.parametrize(
        ("path", "pieces", "words"),
        [
            (torch.zeros(4), [1], "shape"),
            (torch.zeros(1, 2), [1], "T ≥ 2"),
            (torch.zeros(5, 2), [3], "divisor of the 4"),
            (torch.zeros(5, 2), [0], "holds 0"),
        ],
    )
    def test_bad_input_gets_a_sentence(self, path: torch.Tensor, pieces: list[int], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            missing_length(Chain([torch.tanh]), path, pieces)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_whose_squares_do_not_fit(size: float) -> None:
    path = size * torch.tensor([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]])
    assert curve_length(Chain([lambda x: 2 * x]), path).item() == pytest.approx(14 * size)


@pytest.mark.parametrize(
    ("link", "message"),
    [(torch.nn.Dropout(), "random"), (lambda h: h.softmax(0), "one sample"), (lambda h: (h - 1).sqrt(), "meets NaN")],
    ids=["dropout", "softmax over the batch", "root"],
)
def test_lengths_of_no_curve_are_refused(link, message: str) -> None:
    path = torch.linspace(0.5, 1.5, 5)[:, None].expand(5, 3)
    with pytest.raises(ValueError, match=message):
        curve_length(Chain([link]), path[None])
    with pytest.raises(ValueError, match=message):
        missing_length(Chain([link]), path, [2])
