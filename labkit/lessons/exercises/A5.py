"""Exercises of A5: the second fundamental form, Gauss' equation, a layer's share, the turning of a polygon."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def second_form(J: Tensor, H: Tensor) -> Tensor:
    """The normal part of second derivatives `H`, (n, k, k), of a map with Jacobian `J`, (n, k)."""
    tangent: Tensor = J @ torch.linalg.pinv(J)  # projects onto the columns of J, whatever their lengths and angles
    normal: Tensor = H - torch.einsum("nm,mij->nij", tangent, H)
    return normal


def gauss(II: Tensor, g: Tensor) -> Tensor:
    """Gauss' curvature of a surface, from its second fundamental form (n, 2, 2) and its metric (2, 2)."""
    across = (II[:, 0, 0] * II[:, 1, 1]).sum() - (II[:, 0, 1] ** 2).sum()
    K: Tensor = across / torch.linalg.det(g)
    return K


def shares(forms: Tensor) -> Tensor:
    """Each layer's share of Gauss' curvature; `forms`, (L, n, 2, 2), sum to II in an orthonormal frame."""
    whole = forms.sum(0)
    straight = forms[:, :, 0, 0] @ whole[:, 1, 1] + forms[:, :, 1, 1] @ whole[:, 0, 0]
    return straight / 2 - forms[:, :, 0, 1] @ whole[:, 0, 1]


def turning(points: Tensor) -> Tensor:
    """By how much an open polygon with corners `points`, (T, n), turns in all, in radians."""
    pieces = normalize(points.diff(dim=0))
    cosines = (pieces[1:] * pieces[:-1]).sum(1)
    return cosines.clamp(-1, 1).acos().sum()


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _symmetric(*shape: int, seed: int) -> Tensor:
    values = _random(*shape, seed=seed)
    return (values + values.mT) / 2


def _jets() -> list[tuple[Any, ...]]:
    return [(_random(n, k, seed=n), _symmetric(n, k, k, seed=10 * n)) for n, k in ((3, 2), (5, 2), (6, 3))]


def _by_normals(J: Tensor, H: Tensor) -> Tensor:
    """With an orthonormal basis of the normal space, from a full factorisation."""
    normals = torch.linalg.svd(J).U[:, J.shape[1] :]
    found: Tensor = (normals @ (normals.mT @ H.flatten(1))).reshape(H.shape)
    return found


def _column_by_column(J: Tensor, H: Tensor) -> Tensor:
    unit = normalize(J, dim=0)
    return H - (unit @ (unit.mT @ H.flatten(1))).reshape(H.shape)


def _surfaces() -> list[tuple[Any, ...]]:
    frames = [_random(3, 2, seed=k) for k in range(3)]
    return [(_symmetric(3, 2, 2, seed=20 + k), J.mT @ J) for k, J in enumerate(frames)]


def _from_trace_and_norm(II: Tensor, g: Tensor) -> float:
    """(|tr II|² − |II|²)/2 in an orthonormal frame."""
    frame = torch.linalg.inv(torch.linalg.cholesky(g)).mT
    form = frame.mT @ II @ frame
    return float((form.diagonal(dim1=1, dim2=2).sum(1).square().sum() - form.square().sum()) / 2)


def _raw(II: Tensor, sign: int = -1) -> Tensor:
    return (II[:, 0, 0] * II[:, 1, 1]).sum() + sign * (II[:, 0, 1] ** 2).sum()


def _forms() -> list[tuple[Any, ...]]:
    return [(_symmetric(layers, n, 2, 2, seed=30 + n),) for layers, n in ((2, 3), (3, 4), (5, 2))]


def _half_the_slope(forms: Tensor) -> Tensor:
    """Euler: of a quadratic function of the layers' weights, half the gradient at weights 1."""
    with torch.enable_grad():
        weights = torch.ones(len(forms), dtype=forms.dtype, requires_grad=True)
        whole = torch.einsum("l,lnij->nij", weights, forms)
        (slope,) = torch.autograd.grad(_raw(whole), weights)
    return slope / 2


def _own(forms: Tensor) -> Tensor:
    return torch.stack([_raw(form) for form in forms])


def _later_pays(forms: Tensor) -> Tensor:
    grown = torch.stack([_raw(forms[: count + 1].sum(0)) for count in range(len(forms))])
    return grown.diff(prepend=torch.zeros(1, dtype=forms.dtype))


def _lopsided(forms: Tensor) -> Tensor:
    whole = forms.sum(0)
    return forms[:, :, 0, 0] @ whole[:, 1, 1] - forms[:, :, 0, 1] @ whole[:, 0, 1]


def _by_pairs(forms: Tensor) -> list[float]:
    def pair(a: Tensor, b: Tensor) -> float:
        straight = a[:, 0, 0] @ b[:, 1, 1] + a[:, 1, 1] @ b[:, 0, 0]
        return float(straight / 2 - a[:, 0, 1] @ b[:, 1, 0])

    return [sum(pair(a, b) for b in forms) for a in forms]


def _polygons() -> list[tuple[Any, ...]]:
    angle = torch.linspace(0, 3, 9, dtype=torch.float64)
    helix = torch.stack([2 * angle.cos() + 3, angle.sin() + 1, angle], 1)
    straight = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None] * helix.new_tensor([0.3, 0.7, 0.1])
    bent = torch.cat([straight, helix.new_tensor([[0.0, 1.0, 1.0]])])  # before its corner cosines round to above 1
    return [(helix,), (_random(6, 4, seed=40),), (_random(4, 2, seed=41),), (bent,)]


def _by_half_angles(points: Tensor) -> float:
    """Kahan's formula: sums and differences of unit vectors, no arc cosine."""
    unit = normalize(points.diff(dim=0))
    apart, together = (unit[1:] - unit[:-1]).norm(dim=1), (unit[1:] + unit[:-1]).norm(dim=1)
    return float(2 * torch.atan2(apart, together).sum())


def _angles(vectors: Tensor) -> Tensor:
    unit = normalize(vectors)
    return (unit[1:] * unit[:-1]).sum(1).clamp(-1, 1).acos()


EXERCISES = (
    Exercise(
        id="A5.1",
        title="The second fundamental form",
        statement="Write `second_form(J, H)`: the normal part of the second derivatives `H`, (n, k, k), of a map "
        "whose Jacobian is `J`, (n, k).",
        solution=second_form,
        cases=_jets,
        oracle=_by_normals,
        tolerance=1e-8,
        wrong={
            "nothing removed": (
                lambda J, H: H,
                "This is all of D²f. A part of it lies along the sheet and only says how the coordinates stretch.",
            ),
            "tangent part": (
                lambda J, H: H - second_form(J, H),
                "You kept the tangent part, the Christoffel symbols in disguise. Bending is the rest.",
            ),
            "metric forgotten": (
                lambda J, H: H - (J @ (J.mT @ H.flatten(1))).reshape(H.shape),
                "J Jᵀ projects only where the columns of J are orthonormal. They have lengths and angles: "
                "g = JᵀJ must be undone in between.",
            ),
            "column by column": (
                _column_by_column,
                "You removed the columns of J one at a time, each from the whole. They are not at right angles, so "
                "their common part went twice.",
            ),
        },
        alternatives=(
            lambda J, H: H - (J @ torch.linalg.lstsq(J, H.flatten(1)).solution).reshape(H.shape),
            lambda J, H: H - torch.einsum("na,ma,mij->nij", *2 * (torch.linalg.qr(J).Q,), H),
            lambda J, H: H - torch.tensordot(J @ torch.linalg.inv(J.mT @ J) @ J.mT, H, 1),
        ),
        hints=(
            "The tangent space is spanned by the columns of J. Which matrix projects a vector of length n onto them?",
            "Least squares: the projector is J (JᵀJ)⁻¹ Jᵀ = J J⁺. Take what it gives away from H.",
            "torch.linalg.pinv(J) is J⁺; torch.tensordot(P, H, 1) applies P to the first axis of H.",
        ),
        buys="You hold what no choice of input coordinates can change: how the sheet leaves its tangent plane.",
        pointer="Its inner product with every column of J is 0; for n = 2, J = [[3], [0]], H = [[[1]], [[2]]] it is "
        "[[[0]], [[2]]].",
    ),
    Exercise(
        id="A5.2",
        title="Gauss' curvature",
        statement="Write `gauss(II, g)`: Gauss' curvature of a surface from its second fundamental form, (n, 2, 2), "
        "and its metric, (2, 2).",
        solution=gauss,
        cases=_surfaces,
        oracle=_from_trace_and_norm,
        wrong={
            "metric forgotten": (
                lambda II, g: _raw(II),
                "This is R₀₁₀₁ itself, and so is ½(|tr II|² − |II|²): both are K in an orthonormal frame only. "
                "Divide by the square of the area that e₀ and e₁ span.",
            ),
            "area once": (
                lambda II, g: _raw(II) / torch.linalg.det(g).sqrt(),
                "You divided by the area of the parallelogram. R is quadratic in each vector: divide by its square.",
            ),
            "twice": (
                lambda II, g: 2 * gauss(II, g),
                "This is the scalar curvature, which counts the plane twice, as (e₀, e₁) and as (e₁, e₀).",
            ),
            "mixed term forgotten": (
                lambda II, g: (II[:, 0, 0] * II[:, 1, 1]).sum() / torch.linalg.det(g),
                "The mixed term ⟨II₀₁, II₀₁⟩ is missing: a twist bends a surface too.",
            ),
            "sign": (
                lambda II, g: _raw(II, 1) / torch.linalg.det(g),
                "Watch the sign of the mixed term: Gauss' equation subtracts it.",
            ),
            "norms": (
                lambda II, g: (II[:, 0, 0].norm() * II[:, 1, 1].norm() - II[:, 0, 1].norm() ** 2) / torch.linalg.det(g),
                "You multiplied lengths. II₀₀ and II₁₁ are vectors: on a saddle their inner product is negative.",
            ),
            "mean curvature": (
                lambda II, g: (torch.linalg.inv(g) * II).sum((1, 2)).square().sum() / 4,
                "This is the squared mean curvature. A cylinder has it too, and a cylinder is flat.",
            ),
        },
        alternatives=(
            lambda II, g: float(sum(torch.linalg.det(form) for form in II) / torch.linalg.det(g)),
            lambda II, g: sum(torch.linalg.det(torch.linalg.inv(g) @ form) for form in II),
            _from_trace_and_norm,
        ),
        hints=(
            "Put i, j, k, l = 0, 1, 0, 1 into Gauss' equation.",
            "R₀₁₀₁ = ⟨II₀₀, II₁₁⟩ − ⟨II₀₁, II₁₀⟩. In an orthonormal frame you would be done; your frame has det g ≠ 1.",
            "(II[:, 0, 0] * II[:, 1, 1]).sum() is ⟨II₀₀, II₁₁⟩; divide at the end by torch.linalg.det(g).",
        ),
        buys="With A5.1 that is all: two derivatives of a network, and you know how its image is curved.",
        pointer="A sphere of radius 2 has g = 4·1 and, with n = 1, II = 2·1 (up to sign): the answer is 1/4.",
    ),
    Exercise(
        id="A5.3",
        title="A layer's share",
        statement="Write `shares(forms)`: the row sums (L,) of the bill of Gauss' curvature; the layers' forms, "
        "(L, n, 2, 2), are given in an orthonormal frame and sum to II.",
        solution=shares,
        cases=_forms,
        oracle=_half_the_slope,
        wrong={
            "own terms": (
                _own,
                "These are the own terms, the diagonal of the bill. A row also holds what a layer does together with "
                "each other one.",
            ),
            "what would be missing": (
                lambda forms: _raw(forms.sum(0)) - torch.stack([_raw(forms.sum(0) - form) for form in forms]),
                "You asked what vanishes without the layer: its cross terms then count in full for both partners, and "
                "the sum is not the whole.",
            ),
            "later pays": (
                _later_pays,
                "You charged each cross term to the later of its two layers. That adds up too, but the bill is "
                "symmetric: each pays half.",
            ),
            "lopsided": (
                _lopsided,
                "⟨IIˡ₀₀, II₁₁⟩ alone treats the two directions unequally. Take the mean with ⟨IIˡ₁₁, II₀₀⟩.",
            ),
            "twice": (
                lambda forms: 2 * shares(forms),
                "Twice too much: these are shares of the scalar curvature.",
            ),
        },
        alternatives=(
            _by_pairs,
            lambda forms: (_own(forms) + _raw(forms.sum(0)) - torch.stack([_raw(forms.sum(0) - f) for f in forms])) / 2,
        ),
        hints=(
            "K is quadratic in II = II¹ + … + IIᴸ. Write it as a sum over pairs (l, m), symmetric in l and m.",
            "B_lm = ½⟨IIˡ₀₀, IIᵐ₁₁⟩ + ½⟨IIˡ₁₁, IIᵐ₀₀⟩ − ⟨IIˡ₀₁, IIᵐ₀₁⟩. Its row sum over m needs only the whole II.",
            "whole = forms.sum(0); forms[:, :, 0, 0] @ whole[:, 1, 1] is ⟨IIˡ₀₀, II₁₁⟩ for all l at once.",
        ),
        buys="Curvature now has an address: the layers' shares add up, and merging layers merges their shares.",
        pointer="They sum to K of the whole, and for L = 1 there is one share, K itself.",
    ),
    Exercise(
        id="A5.4",
        title="The turning of a polygon",
        statement="Write `turning(points)`: the sum, in radians, of the angles by which the open polygon with these "
        "corners, (T, n), turns at them.",
        solution=turning,
        cases=_polygons,
        oracle=_by_half_angles,
        wrong={
            "inner angles": (
                lambda points: (math.pi - _angles(points.diff(dim=0))).sum(),
                "These are the inner angles. Going straight on is no turn at all: yours would be π there.",
            ),
            "seen from the origin": (
                lambda points: _angles(points).sum(),
                "You took angles between the corners as seen from the origin. What turns is the direction of walking.",
            ),
            "first against last": (
                lambda points: _angles(points.diff(dim=0)[[0, -1]]).sum(),
                "You compared the last direction with the first. A full turn would count as none.",
            ),
            "degrees": (
                lambda points: turning(points).rad2deg(),
                "Right, in degrees. Asked are radians.",
            ),
            "closed": (
                lambda points: _angles(torch.cat([points, points[:2]]).diff(dim=0)).sum(),
                "You walked back to the start. This polygon is open: it has T − 2 corners at which it turns.",
            ),
            "chords of the angles": (
                lambda points: normalize(points.diff(dim=0)).diff(dim=0).norm(dim=1).sum(),
                "You added the distances of neighbouring unit vectors: chords, a little shorter than the angles.",
            ),
        },
        alternatives=(
            _by_half_angles,
            lambda points: sum(
                math.acos(max(-1.0, min(1.0, float(a @ b / a.norm() / b.norm()))))
                for a, b in zip(points.diff(dim=0)[:-1], points.diff(dim=0)[1:], strict=True)
            ),
        ),
        hints=(
            "Between two neighbouring pieces the walker turns by the angle between their directions.",
            "points.diff(dim=0) are the pieces. Make each of length 1; the inner product of neighbours is a cosine.",
            "torch.nn.functional.normalize(pieces), then (p[1:] * p[:-1]).sum(1).clamp(-1, 1).acos(), then add.",
        ),
        buys="You can measure curvature without a single derivative, and at a kink too.",
        pointer="Three sides of a square turn by π: two corners of π/2. Straight on, rounding may lift a cosine "
        "above 1, where acos gives NaN: clamp it.",
    ),
)
