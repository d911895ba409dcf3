"""Exercises of A2: the metric from a Jacobian, the length of a curve, semi-axes, the Fisher metric."""

import math
from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def metric_from(J: Tensor) -> Tensor:
    """The pullback metric of a map whose Jacobian is `J`, (m, n)."""
    return J.mT @ J


def length(g: Tensor, v: Tensor, dt: float) -> Tensor:
    """Length of a curve from metrics (T, n, n) and velocities (T, n); each pair holds for a time `dt`."""
    squared_speed = torch.einsum("ti,tij,tj->t", v, g, v)
    return squared_speed.sqrt().sum() * dt


def semi_axes(g: Tensor) -> Tensor:
    """The semi-axes (2,) of {v : vᵀ g v = 1}, the longer first; `g` is (2, 2)."""
    eigenvalues: Tensor = torch.linalg.eigvalsh(g)  # ascending: the longer axis comes first
    return eigenvalues.rsqrt()


def fisher_metric(J: Tensor, z: Tensor) -> Tensor:
    """The Fisher metric on inputs, from the logits `z`, (C,), and their Jacobian, (C, n)."""
    p = z.softmax(0)
    return J.mT @ (p.diag() - torch.outer(p, p)) @ J


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _jacobians() -> list[tuple[Any, ...]]:
    return [(_random(3, 2, seed=0),), (_random(2, 4, seed=1),), (_random(3, 3, seed=2),)]


def _polarised(J: Tensor) -> Tensor:
    """Inner products from lengths alone: ⟨u, v⟩ = (|u + v|² − |u − v|²) / 4."""
    steps = torch.eye(J.shape[1], dtype=J.dtype)
    plus, minus = (steps[:, None] + steps), (steps[:, None] - steps)
    return ((plus @ J.mT).square().sum(-1) - (minus @ J.mT).square().sum(-1)) / 4


POINTS = 200  # few: `v @ g @ v.mT`, a likely slip, makes T³ numbers


def _polar_curve(radius: float, growth: float, turns: float) -> tuple[Tensor, Tensor, float]:
    """A spiral r = radius + growth·θ in polar coordinates, whose metric is diag(1, r²), at the middle of each piece."""
    dt = 2 * math.pi * turns / POINTS
    theta = (torch.arange(POINTS, dtype=torch.float64) + 0.5) * dt
    r = radius + growth * theta
    g = torch.diag_embed(torch.stack([torch.ones_like(r), r**2], dim=1))
    return g, torch.tensor([growth, 1.0], dtype=torch.float64).expand(POINTS, 2), dt


_CURVES = ((2.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 0.5, 0.25))


def _spiral_length(g: Tensor, v: Tensor, dt: float) -> float:
    """In closed form: ∫ √(growth² + r²) dθ, r = radius + growth·θ."""
    growth, begin = float(v[0, 0]), float(g[0, 1, 1].sqrt()) - float(v[0, 0]) * dt / 2
    if not growth:
        return begin * dt * len(v)
    end = begin + growth * dt * len(v)

    def primitive(r: float) -> float:
        return (r * math.hypot(r, growth) / growth + growth * math.asinh(r / growth)) / 2

    return primitive(end) - primitive(begin)


def _metrics() -> list[tuple[Any, ...]]:
    return [(J.mT @ J,) for J in (_random(5, 2, seed=3), _random(2, 2, seed=4))] + [
        (torch.tensor([[4.0, 0.0], [0.0, 0.25]], dtype=torch.float64),)
    ]


def _farthest_and_nearest(g: Tensor) -> list[float]:
    """By walking round: the length of the unit vector in each of many directions."""
    angle = torch.linspace(0, math.pi, 40001, dtype=torch.float64)
    u = torch.stack([angle.cos(), angle.sin()], dim=1)
    reach = torch.einsum("ti,ij,tj->t", u, g, u).rsqrt()
    return [float(reach.max()), float(reach.min())]


def _classifiers() -> list[tuple[Any, ...]]:
    return [
        (_random(4, 3, seed=5), _random(4, seed=6)),
        (_random(2, 2, seed=7), 2 * _random(2, seed=8)),
        (_random(5, 4, seed=9), _random(5, seed=10)),
    ]


def _on_the_sphere(J: Tensor, z: Tensor) -> Tensor:
    """The Euclidean metric of 2√p by differences: probabilities as points of a sphere."""
    h = 1e-5
    steps = h * torch.eye(J.shape[1], dtype=J.dtype) @ J.mT
    frame = ((z + steps).softmax(1).sqrt() - (z - steps).softmax(1).sqrt()) / h
    return frame @ frame.mT


def _from_the_divergence(J: Tensor, z: Tensor) -> Tensor:
    log_p = z.log_softmax(0)

    def divergence(v: Tensor) -> Tensor:
        return (log_p.exp() * (log_p - (z + J @ v).log_softmax(0))).sum()

    hessian: Tensor = torch.func.hessian(divergence)(torch.zeros(J.shape[1], dtype=J.dtype))
    return hessian


def _variance(J: Tensor, z: Tensor) -> Tensor:
    p = z.softmax(0)
    centred = J - p @ J
    return centred.mT @ (p[:, None] * centred)


def _root(g: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(g)
    root: Tensor = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.mT
    return root


def _fisher_of_probabilities(J: Tensor, z: Tensor) -> Tensor:
    p = z.softmax(0)
    S = p.diag() - torch.outer(p, p)
    return J.mT @ S @ S @ J


EXERCISES = (
    Exercise(
        id="A2.1",
        title="The metric from a Jacobian",
        statement="Write `metric_from(J)`: the pullback metric (n, n) of a map whose Jacobian is `J`, (m, n).",
        solution=metric_from,
        cases=_jacobians,
        oracle=_polarised,
        tolerance=1e-8,
        wrong={
            "on the wrong side": (
                lambda J: J @ J.mT,
                "You wrote J Jᵀ, which compares rows of J and lives on the output. "
                "The metric takes two steps of the input.",
            ),
            "elementwise": (
                lambda J: J**2,
                "You squared the entries. vᵀ g v must be |J v|², and that mixes columns of J.",
            ),
            "not squared": (
                lambda J: _root(J.mT @ J),
                "You took a root: yours is √(JᵀJ). The metric gives squared lengths, the root comes later.",
            ),
        },
        alternatives=(
            lambda J: [[float(a @ b) for b in J.mT] for a in J.mT],
            lambda J: torch.einsum("ki,kj->ij", J, J),
        ),
        hints=(
            "A step v of the input becomes J v. What is its squared length, written with vᵀ on the left?",
            "|J v|² = (J v)ᵀ (J v). Move the transpose inside.",
            "vᵀ (…) v: what stands in the brackets is the answer; J.mT is the transpose.",
        ),
        buys="Every length, angle and volume of this lesson is read off this one matrix.",
        pointer="Its shape is (n, n), n the number of inputs, and for J = [[3], [4]] it is [[25]].",
    ),
    Exercise(
        id="A2.2",
        title="The length of a curve",
        statement="Write `length(g, v, dt)`: the curve's length from metrics (T, n, n) and velocities (T, n); "
        "each pair holds for a time `dt`.",
        solution=length,
        cases=lambda: [_polar_curve(*curve) for curve in _CURVES],
        oracle=_spiral_length,
        wrong={
            "metric forgotten": (
                lambda g, v, dt: v.norm(dim=1).sum() * dt,
                "You measured the curve before the network: the metric g does not occur.",
            ),
            "squared speed": (
                lambda g, v, dt: torch.einsum("ti,tij,tj->t", v, g, v).sum() * dt,
                "You integrated the squared speed. That is the energy; the length needs a root at each moment.",
            ),
            "root at the end": (
                lambda g, v, dt: (torch.einsum("ti,tij,tj->t", v, g, v).sum() * dt).sqrt(),
                "You took one root of the whole sum. Each moment has its own speed: root first, then add.",
            ),
            "chord": (
                lambda g, v, dt: length(g.mean(0)[None], v.sum(0)[None] * dt, 1.0),
                "You added the velocities first: that is one long step from start to end, the chord.",
            ),
            "mean": (
                lambda g, v, dt: length(g, v, 1 / len(v)),
                "You averaged the speed: that is the length of a walk that lasts 1. This one lasts T · dt.",
            ),
            "trapezoid": (
                lambda g, v, dt: torch.trapezoid(torch.einsum("ti,tij,tj->t", v, g, v).sqrt(), dx=dt),
                "A trapezoid rule makes the first and the last speed count half. Here each of the T pairs holds for "
                "a whole dt.",
            ),
            "dt forgotten": (
                lambda g, v, dt: length(g, v, 1.0),
                "You added the speeds but forgot how long each lasts: dt.",
            ),
        },
        alternatives=(
            lambda g, v, dt: ((v[:, None] @ g @ v[..., None]).flatten() ** 0.5 * dt).sum(),
            lambda g, v, dt: sum(float(w @ m @ w) ** 0.5 for m, w in zip(g, v, strict=True)) * dt,
            lambda g, v, dt: (torch.linalg.cholesky(g).mT @ v[..., None]).norm(dim=1).sum() * dt,
        ),
        hints=(
            "Distance is speed times time. What is the speed where the metric is g and the velocity is v?",
            "For one moment: (v @ g @ v) ** 0.5. You have T moments, each of duration dt.",
            'torch.einsum("ti,tij,tj->t", v, g, v) is the squared speed at every moment.',
        ),
        buys="You can measure how far a network carries a walk of photographs without comparing two outputs.",
        pointer="With g = identity and constant v the answer is |v| · T · dt; and moment k has its own g[k] and v[k].",
    ),
    Exercise(
        id="A2.3",
        title="The semi-axes of an ellipse",
        statement="Write `semi_axes(g)`: both semi-axes of {v : vᵀ g v = 1}, the longer first, for a metric (2, 2).",
        solution=semi_axes,
        cases=_metrics,
        oracle=_farthest_and_nearest,
        wrong={
            "stretches": (
                lambda g: torch.linalg.eigvalsh(g).flip(0).sqrt(),
                "These are the stretches σ. The more a direction is stretched, the shorter the step "
                "that reaches length 1.",
            ),
            "root forgotten": (
                lambda g: 1 / torch.linalg.eigvalsh(g),
                "You wrote 1/λ. An eigenvalue of g is a squared stretch: a root is missing.",
            ),
            "eigenvalues": (
                lambda g: torch.linalg.eigvalsh(g).flip(0),
                "These are the eigenvalues of g, squared stretches. Along an eigenvector, solve a² λ = 1 for a.",
            ),
            "order": (
                lambda g: torch.linalg.eigvalsh(g).rsqrt().flip(0),
                "Right numbers, shorter first. The longer axis belongs to the smaller eigenvalue.",
            ),
        },
        alternatives=(
            lambda g: torch.linalg.svdvals(torch.linalg.inv(torch.linalg.cholesky(g))),
            lambda g: [
                (2 / (g.trace() + s * ((g[0, 0] - g[1, 1]) ** 2 + 4 * g[0, 1] ** 2) ** 0.5)) ** 0.5 for s in (-1, 1)
            ],
        ),
        hints=(
            "Stand on an eigenvector u of g, |u| = 1. How far along it must you go for vᵀ g v to reach 1?",
            "v = a u gives vᵀ g v = a² λ. Set it to 1.",
            "torch.linalg.eigvalsh(g) gives the two λ, the smaller first.",
        ),
        buys="From here on you read such a picture: narrow is sensitive, wide is dull.",
        pointer="For g = [[4, 0], [0, ¼]] they are 2 and ½. (eigvalsh sorts, from the smallest; eigvals does not.)",
    ),
    Exercise(
        id="A2.4",
        title="The Fisher metric of logits",
        statement="Write `fisher_metric(J, z)`: the Fisher metric on inputs; logits `z` (C,), Jacobian (C, n).",
        solution=fisher_metric,
        cases=_classifiers,
        oracle=_on_the_sphere,
        tolerance=1e-6,
        wrong={
            "diagonal only": (
                lambda J, z: J.mT @ z.softmax(0).diag() @ J,
                "You kept diag(p) and forgot − p pᵀ, the part that makes a common shift of the logits invisible.",
            ),
            "p times p": (
                lambda J, z: J.mT @ (z.softmax(0).diag() - z.softmax(0) ** 2) @ J,
                "p * p has an entry for each class. The outer product p pᵀ has one for each pair, p_i p_j.",
            ),
            "softmax twice": (
                lambda J, z: _fisher_of_probabilities(J, z),
                "You pulled back Euclidean length from the probabilities: the softmax matrix S occurs twice, S S. "
                "Fisher has it once.",
            ),
            "euclidean": (
                lambda J, z: J.mT @ J,
                "This is the Euclidean metric of the logits. Where do the probabilities come in?",
            ),
            "euclidean on log-probabilities": (
                lambda J, z: (J - z.softmax(0) @ J).mT @ (J - z.softmax(0) @ J),
                "This is the Euclidean metric of log p: no shift moves it, but every class counts the same. "
                "Fisher weighs a class by its probability.",
            ),
            "half": (
                lambda J, z: fisher_metric(J, z) / 2,
                "Right up to a factor. The ½ belongs to the divergence, ½ vᵀ G v, and not to G.",
            ),
            "on the output": (
                lambda J, z: z.softmax(0).diag() - torch.outer(z.softmax(0), z.softmax(0)),
                "This is the metric on the logits. Pull it back: steps of the input reach the logits through J.",
            ),
        },
        alternatives=(
            _variance,
            _from_the_divergence,
        ),
        hints=(
            "Two factors J stand outside, as in A2.1. Between them, instead of the identity, a matrix on the logits.",
            "The matrix on the logits is the Jacobian of softmax, from A1.4.",
            "p = z.softmax(0), and p.diag() - torch.outer(p, p) goes between J.mT and J.",
        ),
        buys="Half of vᵀ G v is the divergence of the predictions at x and x + v, to second order, in any gauge.",
        pointer="For two classes and J = identity it is p₁p₂ [[1, −1], [−1, 1]].",
    ),
)
