"""The exercise of the tour: the length of a closed curve, and how a check talks."""

import math
from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def length(points: Tensor) -> Tensor:
    """Length of the closed polygon through the points, (n, d)."""
    steps = points.roll(-1, dims=0) - points  # the last step leads back to the first point
    lengths: Tensor = steps.norm(dim=1)
    return lengths.sum()


def _polygon(corners: int, radius: float, dimension: int) -> Tensor:
    """A regular polygon in the last two coordinates, with the others constant."""
    angle = 2 * math.pi * torch.arange(corners, dtype=torch.float64) / corners
    points = torch.ones(corners, dimension, dtype=torch.float64)
    points[:, -2], points[:, -1] = radius * angle.cos(), radius * angle.sin()
    return points


def _cases() -> list[tuple[Any, ...]]:
    return [(_polygon(5, 1.0, 2),), (_polygon(40, 3.0, 2),), (_polygon(6, 0.5, 7),)]


def _perimeter(points: Tensor) -> float:
    """Of a regular polygon: 2 n r sin(π/n)."""
    corners, radius = len(points), float(points[0, -2])
    return 2 * corners * radius * math.sin(math.pi / corners)


def _by_hand(points: Tensor) -> float:
    rows = points.tolist()
    return sum(math.dist(a, b) for a, b in zip(rows, rows[1:] + rows[:1], strict=True))


EXERCISES = (
    Exercise(
        id="S0.1",
        title="The length of a closed curve",
        statement="Write `length(points)`: the length of the closed polygon through the points, one a row.",
        solution=length,
        cases=_cases,
        oracle=_perimeter,
        tolerance=1e-6,
        wrong={
            "not closed": (
                lambda points: points.diff(dim=0).norm(dim=1).sum(),
                "You stopped at the last point. The curve is closed: one more step leads back to the first.",
            ),
            "squared": (
                lambda points: (points.roll(-1, dims=0) - points).square().sum(),
                "You added squared lengths. Take the root of each step before you add.",
            ),
            "norm of all": (
                lambda points: (points.roll(-1, dims=0) - points).norm(),
                "You took one norm of the whole table. Each row is a step and has a length of its own: dim=1.",
            ),
            "from the origin": (
                lambda points: points.norm(dim=1).sum(),
                "You measured the points' distances from the origin. A length is made of differences of neighbours.",
            ),
        },
        alternatives=(
            _by_hand,
            lambda points: float(sum(((points.numpy() - points.roll(1, 0).numpy()) ** 2).sum(1) ** 0.5)),
            lambda points: torch.cat([points, points[:1]]).diff(dim=0).norm(dim=1).sum(),
        ),
        hints=(
            "Between n points of a closed curve there are n steps, not n − 1.",
            "points.roll(-1, dims=0) puts every point's successor in its row; the last row gets the first point.",
            "(points.roll(-1, dims=0) - points).norm(dim=1) are the lengths of the steps.",
        ),
        buys="That is the number written above each panel of the picture: you can now measure what a network does.",
        pointer="Try the unit square, torch.tensor([[0., 0], [1, 0], [1, 1], [0, 1]]): its length is 4.",
    ),
)
