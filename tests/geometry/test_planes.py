"""The plane through three inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.geometry.planes import plane_through


@given(st.integers(0, 2**31), st.integers(2, 9))
def test_it_goes_through_its_points_with_orthonormal_axes(seed: int, n: int) -> None:
    points = torch.randn(3, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plane = plane_through(points)
    torch.testing.assert_close(plane.at(plane.corners), points)
    torch.testing.assert_close(plane.basis.mT @ plane.basis, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(torch.cdist(plane.corners, plane.corners), torch.cdist(points, points))
    along = plane.corners[1] - plane.corners[0]
    assert along[0] > 0
    assert along[1].abs() < 1e-9 * along[0]


def test_coordinates_undo_at_and_project_what_lies_beside() -> None:
    points = torch.randn(3, 1, 4, 5, dtype=torch.float64)
    plane = plane_through(points)
    spots = torch.randn(7, 2, dtype=torch.float64)
    x = plane.at(spots)
    assert x.shape == (7, 1, 4, 5)
    torch.testing.assert_close(plane.coordinates(x), spots)
    beside = torch.randn(20, dtype=torch.float64)
    beside = beside - plane.basis @ (plane.basis.mT @ beside)
    torch.testing.assert_close(plane.coordinates(x + beside.reshape(1, 4, 5)), spots)


def test_the_grid_is_a_square_with_b_fastest() -> None:
    grid = plane_through(torch.randn(3, 6)).grid(3, 2.0)
    assert grid.shape == (9, 2)
    assert grid[1].tolist() == [-2.0, 0.0]
    assert grid[-1].tolist() == [2.0, 2.0]


def test_a_circle_of_four_points_has_them_on_the_axes_turning_left() -> None:
    circle = plane_through(torch.randn(3, 6, dtype=torch.float64)).circle(4, 2.0)
    torch.testing.assert_close(circle, torch.tensor([[2.0, 0], [0, 2], [-2, 0], [0, -2]], dtype=torch.float64))


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e25, 1e37])
def test_planes_of_any_size_in_single_precision(size: float) -> None:
    plane = plane_through(size * torch.tensor([[0.0, 0, 1], [3, 0, 1], [0, 3, 1]]))
    torch.testing.assert_close(plane.basis, torch.eye(3, 2))


@pytest.mark.parametrize(
    ("points", "error", "words"),
    [
        (torch.randn(2, 5), ValueError, "shape"),
        (torch.randn(3), ValueError, "shape"),
        (torch.ones(3, 5), ValueError, "twice"),
        (torch.tensor([[0.0, 0], [1, 1], [2, 2]]), ValueError, "one line"),
        (torch.ones(3, 5, dtype=torch.int64), TypeError, "int64"),
        (torch.full((3, 5), torch.nan), ValueError, "points holds nan or inf"),
    ],
)
def test_bad_points_get_a_sentence(points: torch.Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plane_through(points)


def test_bad_coordinates_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        plane_through(torch.randn(3, 6)).at(torch.zeros(4, 3))
