"""Exercises of A3: the velocity of a turning picture, how strongly it is felt, the commutant, the unseen part."""

import math
from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def turning(x_u: Tensor, x_v: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Rate at which grey changes at the places (u, v) while the picture x turns counter-clockwise, at unit speed."""
    return v * x_u - u * x_v


def felt(J: Tensor, xi: Tensor) -> Tensor:
    """How much longer or shorter a small step along `xi` arrives than it was: |J ξ| / |ξ|."""
    ratio: Tensor = (J @ xi).norm() / xi.norm()
    return ratio


def commuting(W: Tensor, Ts: Tensor) -> Tensor:
    """The mean of Tᵀ W T over a finite group of orthogonal matrices `Ts`, (K, n, n)."""
    mean: Tensor = (Ts.mT @ W @ Ts).mean(0)
    return mean


def unseen_part(J: Tensor, v: Tensor) -> Tensor:
    """The part of `v` in the kernel of `J`."""
    left: Tensor = v - torch.linalg.pinv(J) @ (J @ v)
    return left


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gradients() -> list[tuple[Any, ...]]:
    """A blob off the middle, a tilted ramp and noise: derivatives of a picture, and where they were taken."""
    u, v = _random(2, 40, seed=0)
    blob = (-((u - 0.7) ** 2) - 2 * (v + 0.2) ** 2).exp()
    ramp = torch.ones(40, dtype=torch.float64)
    return [
        (-2 * (u - 0.7) * blob, -4 * (v + 0.2) * blob, u, v),
        (2 * ramp, -ramp, u, v),
        (*_random(2, 40, seed=1), u, v),
    ]


def _by_turning_back(x_u: Tensor, x_v: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """By differences: grey that is here after a turn by ε was at the place turned back by ε."""
    turn = 1e-6
    back = [(u * math.cos(t) + v * math.sin(t), v * math.cos(t) - u * math.sin(t)) for t in (turn, -turn)]
    after, before = (x_u * (a - u) + x_v * (b - v) for a, b in back)
    return (after - before) / (2 * turn)


def _directions() -> list[tuple[Any, ...]]:
    return [(_random(10, 6, seed=k), 3 * _random(6, seed=k + 10)) for k in range(2)] + [
        (_random(2, 5, seed=4), 0.1 * _random(5, seed=5))
    ]


def _by_eigenvalues(J: Tensor, xi: Tensor) -> Tensor:
    """The root of a weighted mean of the eigenvalues of g, the weights squared cosines."""
    values, vectors = torch.linalg.eigh(J.mT @ J)
    weights = (vectors.mT @ xi).square()
    mean: Tensor = (weights * values).sum() / weights.sum()
    return mean.sqrt()


def _groups() -> list[tuple[Any, ...]]:
    """Fifths of a turn about an axis of space, cyclic shifts of four numbers, quarter turns of 3 × 3 pixels."""
    angle = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    space = torch.eye(3, dtype=torch.float64).repeat(5, 1, 1)  # the axis stays: no mean of T is only rounding
    space[:, :2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(5, 2, 2)
    shifts = torch.stack([torch.eye(4, dtype=torch.float64).roll(k, 0) for k in range(4)])
    pictures = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
    quarters = torch.stack([pictures.rot90(k, (1, 2)).reshape(9, 9).mT for k in range(4)])
    return [(_random(len(T[0]), len(T[0]), seed=7 + k), T) for k, T in enumerate((space, shifts, quarters))]


def _nearest_commuting(W: Tensor, Ts: Tensor) -> Tensor:
    """By least squares: project W on the null space of all W ↦ T W − W T."""
    n = W.shape[0]
    one = torch.eye(n, dtype=W.dtype)
    conditions = torch.cat([torch.kron(T.contiguous(), one) - torch.kron(one, T.mT.contiguous()) for T in Ts])
    _, values, rows = torch.linalg.svd(conditions)
    free = rows[int((values > 1e-9).sum()) :]
    nearest: Tensor = free.mT @ (free @ W.reshape(-1))
    return nearest.reshape(n, n)


def _wide() -> list[tuple[Any, ...]]:
    """Two of full rank, and one whose last row is the sum of the others.

    No column is zero: the default driver of `torch.linalg.lstsq` starts from any column (its pivots are not
    initialized), and from a zero one it takes J for zero.
    """
    summed = torch.tensor([[1.0, 1, 1, 1], [1, -1, 2, -2], [2, 0, 3, -1]], dtype=torch.float64)
    return [(_random(3, 6, seed=20), _random(6, seed=21)), (_random(2, 5, seed=22), _random(5, seed=23)),
            (summed, _random(4, seed=24))]  # fmt: skip


def _by_null_space(J: Tensor, v: Tensor) -> Tensor:
    _, values, rows = torch.linalg.svd(J)
    free = rows[int((values > 1e-9).sum()) :]
    part: Tensor = free.mT @ (free @ v)
    return part


def _one_row_after_another(J: Tensor, v: Tensor) -> Tensor:
    for row in J:
        v = v - (row @ v) / (row @ row) * row
    return v


def _by_gram_schmidt(J: Tensor, v: Tensor) -> Tensor:
    basis: list[Tensor] = []
    for row in J:
        new = row - sum(((q @ row) * q for q in basis), torch.zeros_like(row))
        if new.norm() > 1e-9 * row.norm():
            basis.append(new / new.norm())
    return v - sum(((q @ v) * q for q in basis), torch.zeros_like(v))


EXERCISES = (
    Exercise(
        id="A3.1",
        title="The velocity of a turning picture",
        statement="Write `turning(x_u, x_v, u, v)`: how fast grey changes at (u, v), u to the right, v up, while "
        "the picture x turns counter-clockwise about the origin, one radian per unit of time; `x_u` and `x_v` are its "
        "partial derivatives.",
        solution=turning,
        cases=_gradients,
        oracle=_by_turning_back,
        wrong={
            "the wrong way round": (
                lambda x_u, x_v, u, v: u * x_v - v * x_u,
                "That is a clockwise turn. You stayed at (u, v): what is there a moment later came from the place "
                "turned back.",
            ),
            "zoom": (
                lambda x_u, x_v, u, v: u * x_u + v * x_v,
                "You followed the gradient along (u, v), away from the origin: that picture is zoomed, not turned.",
            ),
            "no minus": (
                lambda x_u, x_v, u, v: v * x_u + u * x_v,
                "Both signs are alike: that squeezes one diagonal and stretches the other. "
                "A turn moves (u, v) along (−v, u).",
            ),
            "coordinates kept": (
                lambda x_u, x_v, u, v: u * x_u - v * x_v,
                "You paired u with ∂u and v with ∂v. A turn carries what lies on the u axis along v.",
            ),
            "place forgotten": (
                lambda x_u, x_v, u, v: x_u - x_v,
                "That is a shift: the same velocity everywhere. A turn is the faster, the farther from the origin.",
            ),
        },
        alternatives=(
            lambda x_u, x_v, u, v: -(torch.stack([x_u, x_v], 1) * torch.stack([-v, u], 1)).sum(1),
            lambda x_u, x_v, u, v: [
                float(torch.linalg.det(torch.tensor([[a, b], [c, d]], dtype=torch.float64)))
                for a, b, c, d in zip(x_u, x_v, u, v, strict=True)
            ],
        ),
        hints=(
            "After a turn by t the grey at p is x(R(−t) p). Differentiate at t = 0.",
            "R(−t) moves p = (u, v) with velocity (v, −u) at t = 0.",
            "The chain rule: x_u times the first entry of that velocity plus x_v times the second.",
        ),
        buys="The generator of any motion is found so: differentiate where the grey came from. For a smooth blob on "
        "8 × 8 pixels `turn.velocity` says the same, to some 11 %.",
        pointer="For x = u, a ramp to the right, grey near the top, at (0, 1), rises at rate 1: draw it.",
        tolerance=1e-6,
    ),
    Exercise(
        id="A3.2",
        title="How strongly a direction is felt",
        statement="Write `felt(J, xi)`: how many times longer a small step along `xi` is after a map of Jacobian `J`.",
        solution=felt,
        cases=_directions,
        oracle=_by_eigenvalues,
        wrong={
            "not squared back": (
                lambda J, xi: (J @ xi).square().sum() / xi.square().sum(),
                "This is ξᵀgξ / ξᵀξ, a ratio of squared lengths. A root is missing.",
            ),
            "length of the velocity kept": (
                lambda J, xi: (J @ xi).norm(),
                "You measured the image of ξ as it is. A picture with much ink turns faster: divide by |ξ|.",
            ),
            "divided by the square": (
                lambda J, xi: (J @ xi).norm() / xi.square().sum(),
                "You took a root above the line and none below.",
            ),
            "share of the Frobenius norm": (
                lambda J, xi: (J @ xi).norm() / (xi.norm() * J.norm()),
                "You divided by the size of J too. That compares with other directions, which is the next step.",
            ),
            "share of the largest": (
                lambda J, xi: (J @ xi).norm() / (xi.norm() * torch.linalg.matrix_norm(J, 2)),
                "You divided by σ₁ too. That compares with the direction felt most; asked is the stretch alone.",
            ),
        },
        alternatives=(
            lambda J, xi: (J @ (xi / xi.norm())).norm(),
            lambda J, xi: (xi @ (J.mT @ J) @ xi / (xi @ xi)) ** 0.5,
        ),
        hints=(
            "A2 measured a step v by the metric: its image has length √(vᵀ g v). How long was it before?",
            "With g = JᵀJ, √(ξᵀ g ξ) = |J ξ|.",
            "Both lengths with .norm(): that of J @ xi over that of xi.",
        ),
        buys="Zero for an invariant network, between σ_min and σ_max for every other: one number a direction.",
        pointer="Three times ξ must give the same answer, and J = 2 × identity must give 2.",
    ),
    Exercise(
        id="A3.3",
        title="Make a matrix respect a symmetry",
        statement="Write `commuting(W, Ts)`: the mean of W over a finite group of orthogonal matrices `Ts`, (K, n, n), "
        "which commutes with every one of them.",
        solution=commuting,
        cases=_groups,
        oracle=_nearest_commuting,
        tolerance=1e-8,
        wrong={
            "one side only": (
                lambda W, Ts: W @ Ts.mean(0),
                "You moved only one side, the input of W: that matrix is invariant, it forgets the group. "
                "Asked is one that follows it.",
            ),
            "the other side only": (
                lambda W, Ts: Ts.mean(0) @ W,
                "You moved only one side, the output of W: it no longer follows the group. "
                "Undo before what you do after.",
            ),
            "not undone": (
                lambda W, Ts: (Ts @ W @ Ts).mean(0),
                "You wrote T W T. Move, apply W, and move *back*: one of the two is T transposed.",
            ),
            "each side its own mean": (
                lambda W, Ts: Ts.mean(0).mT @ W @ Ts.mean(0),
                "You averaged left and right apart. The same T stands on both sides of W; average the products.",
            ),
            "sum": (
                lambda W, Ts: (Ts.mT @ W @ Ts).sum(0),
                "You summed. With a mean, a matrix that commutes already stays as it is.",
            ),
        },
        alternatives=(
            lambda W, Ts: (Ts @ W @ Ts.mT).mean(0),
            lambda W, Ts: sum(T.T @ W @ T for T in Ts) / len(Ts),
            lambda W, Ts: torch.einsum("kji,jl,klm->im", Ts, W, Ts) / len(Ts),
        ),
        hints=(
            "Move the input by T, apply W, move back. If W commutes with T, nothing has changed.",
            "For one T that is Tᵀ W T. A group is a list of all its T: take the mean over it.",
            "Ts.mT transposes all of them at once, @ works on stacks, .mean(0) averages.",
        ),
        buys="Put another T in front: it only reorders the sum. That is all the proof an equivariant layer needs.",
        pointer="With the identity alone, Ts = [I], W stays as it is; and your answer must commute with each T.",
    ),
    Exercise(
        id="A3.4",
        title="The part that is not felt",
        statement="Write `unseen_part(J, v)`: what remains of `v` when all that `J` sees is removed, the nearest "
        "vector to v in the kernel.",
        solution=unseen_part,
        cases=_wide,
        oracle=_by_null_space,
        tolerance=1e-8,
        wrong={
            "the seen part": (
                lambda J, v: torch.linalg.pinv(J) @ (J @ v),
                "This is the part that J sees. What remains when you take it away?",
            ),
            "no inverse": (
                lambda J, v: v - J.mT @ (J @ v),
                "You removed JᵀJ v. That is a projection only if the rows of J are orthonormal; these are not.",
            ),
            "row by row": (
                lambda J, v: v - sum((r @ v) / (r @ r) * r for r in J),
                "You removed each row by itself. Rows that are not orthogonal take away the same part twice.",
            ),
            "one row after another": (
                _one_row_after_another,
                "You removed one row after another. Where rows are not orthogonal, the second puts part of the first "
                "back: make the rows orthogonal before (Gram-Schmidt).",
            ),
            "rank forgotten": (
                lambda J, v: v - torch.linalg.qr(J.mT).Q @ (torch.linalg.qr(J.mT).Q.mT @ v),
                "Right where rows are independent. QR gives a column for each row, for a row that is a sum of others "
                "too: you removed a direction that J does not see.",
            ),
            "rows of unit length": (
                lambda J, v: v - (J / J.norm(dim=1, keepdim=True)).mT @ (J @ v),
                "Dividing each row by its length does not make rows orthogonal to each other.",
            ),
        },
        alternatives=(
            lambda J, v: v - J.mT @ torch.linalg.pinv(J @ J.mT) @ (J @ v),
            _by_gram_schmidt,
            lambda J, v: v - torch.linalg.lstsq(J, J @ v).solution,
            lambda J, v: v + torch.linalg.lstsq(J, -(J @ v)[:, None], driver="gelsd").solution[:, 0],
        ),
        hints=(
            "You look for w in the kernel, J w = 0, such that v − w is a combination of rows of J.",
            "The pseudo-inverse gives the shortest vector with the same image: J⁺(J v). A2 used it.",
            "torch.linalg.pinv(J) is J⁺, for every rank. Take its product with J v away from v.",
        ),
        buys="One such step after another is a null curve: the picture changes, and to first order no logit does.",
        pointer="J times your answer must be 0, for J = [[1, 1, 0]], v = (1, 0, 0) it is (½, −½, 0), and a row of J "
        "written twice changes nothing: J Jᵀ has no inverse there.",
    ),
)
