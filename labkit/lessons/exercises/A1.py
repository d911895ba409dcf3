"""Exercises of A1: push a nudge, the Jacobian of a skip, the matrix of a ReLU network, the Jacobian of softmax."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def push(jacobians: Sequence[Tensor], v: Tensor) -> Tensor:
    """The nudge `v` of the input, carried to the output."""
    for jacobian in jacobians:  # first applied first
        v = jacobian @ v
    return v


def residual_jacobian(branch: Tensor, alpha: float) -> Tensor:
    """Jacobian of h + alpha * F(h); `branch` is that of F."""
    return torch.eye(len(branch), dtype=branch.dtype) + alpha * branch


def matrix_at(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Df(x) of the bias-free ReLU network with these weights."""
    product, h = weights[0], weights[0] @ x
    for weight in weights[1:]:
        on = (h > 0).to(h.dtype)  # which units let their signal through, at this image
        product, h = weight @ (on[:, None] * product), weight @ (on * h)
    return product


def softmax_jacobian(z: Tensor) -> Tensor:
    """The matrix of partial derivatives of softmax at the logits `z`."""
    p = z.softmax(0)
    return p.diag() - torch.outer(p, p)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _weights(sizes: Sequence[int], seed: int) -> list[Tensor]:
    generator = _generator(seed)
    pairs = zip(sizes[1:], sizes, strict=False)
    return [torch.randn(n, m, generator=generator, dtype=torch.float64) * math.sqrt(2 / m) for n, m in pairs]


def _vector(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=_generator(seed), dtype=torch.float64)


def _tanh_links(sizes: Sequence[int], seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """A tanh network's link Jacobians at a point, a nudge, and the difference quotient of the whole network."""
    weights, x, v = _weights(sizes, seed), _vector(sizes[0], seed + 1), _vector(sizes[0], seed + 2)

    def network(h: Tensor) -> Tensor:
        for weight in weights:
            h = torch.tanh(weight @ h)
        return h

    jacobians, h = [], x
    for weight in weights:
        h = torch.tanh(weight @ h)
        jacobians.append((1 - h**2)[:, None] * weight)
    step = 1e-5
    return jacobians, v, (network(x + step * v) - network(x - step * v)) / (2 * step)


_PUSH_SIZES = (((3, 3, 3, 3), 0), ((4, 4, 4), 7), ((5, 5), 3))  # square, so that every slip runs


def _push_cases() -> list[tuple[Any, ...]]:
    return [_tanh_links(sizes, seed)[:2] for sizes, seed in _PUSH_SIZES]


def _push_oracle(jacobians: Sequence[Tensor], v: Tensor) -> Tensor:
    truths = (_tanh_links(sizes, seed) for sizes, seed in _PUSH_SIZES)
    return next(truth for _, nudge, truth in truths if nudge.shape == v.shape and torch.equal(nudge, v))


def _branch(seed: int) -> tuple[Tensor, Tensor]:
    return _weights((4, 4), seed)[0], _vector(4, seed + 1)


def _residual_cases() -> list[tuple[Any, ...]]:
    cases = []
    for seed, alpha in ((0, 1.0), (1, 0.1), (2, -2.0)):
        weight, h = _branch(seed)
        cases.append(((1 - torch.tanh(weight @ h) ** 2)[:, None] * weight, alpha))
    return cases


def _residual_oracle(branch: Tensor, alpha: float) -> Tensor:
    weight, h = _branch({1.0: 0, 0.1: 1, -2.0: 2}[alpha])
    truth: Tensor = torch.func.jacrev(lambda s: s + alpha * torch.tanh(weight @ s))(h)
    return truth


def _matrix_cases() -> list[tuple[Any, ...]]:
    sizes_and_seeds = (((6, 6, 6, 3), 0), ((4, 4, 2), 5), ((5, 5, 5), 2))  # hidden widths of the input: every slip runs
    return [(_weights(sizes, seed), _vector(sizes[0], seed + 9)) for sizes, seed in sizes_and_seeds]


def _relu_network(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    return functools.reduce(lambda h, weight: weight @ h.relu(), weights[1:], weights[0] @ x)


def _matrix_oracle(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    truth: Tensor = torch.func.jacrev(functools.partial(_relu_network, weights))(x)
    return truth


def _matrix_from_the_output(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    states = [weights[0] @ x]
    for weight in weights[1:-1]:
        states.append(weight @ states[-1].relu())
    rows = weights[-1]
    for weight, h in zip(weights[-2::-1], states[::-1], strict=True):
        rows = (rows * (h > 0)) @ weight
    return rows


def _linear_masks(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    product, h = weights[0], weights[0] @ x
    for weight in weights[1:]:
        product, h = weight @ ((h > 0).to(h.dtype)[:, None] * product), weight @ h
    return product


def _masked_after(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    product, h = torch.eye(len(x), dtype=x.dtype), x
    for weight in weights:
        h = weight @ h
        product = (h > 0).to(h.dtype)[:, None] * (weight @ product)
        h = h.relu()
    return product


def _masked_columns(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    product, h = weights[0], weights[0] @ x
    for weight in weights[1:]:
        product, h = weight @ (product * (h > 0)), weight @ h.relu()
    return product


def _softmax_cases() -> list[tuple[Any, ...]]:
    return [(_vector(5, 0),), (4 * _vector(3, 1),), (torch.tensor([1000.0, 1000.0, 0.0], dtype=torch.float64),)]


def _softmax_oracle(z: Tensor) -> Tensor:
    steps = 1e-5 * torch.eye(len(z), dtype=z.dtype)
    return ((z + steps).softmax(1) - (z - steps).softmax(1)).mT / 2e-5


def _softmax_by_entry(z: Tensor) -> list[list[float]]:
    p = z.softmax(0).tolist()
    return [[a * ((i == j) - b) for j, b in enumerate(p)] for i, a in enumerate(p)]


EXERCISES = (
    Exercise(
        id="A1.1",
        title="Push a nudge",
        statement="Write `push(jacobians, v)`: carry the nudge `v` through the links, first applied first.",
        solution=push,
        cases=_push_cases,
        oracle=_push_oracle,
        tolerance=1e-6,
        wrong={
            "reversed": (
                lambda jacobians, v: push(jacobians[::-1], v),
                "You began with the last link. The nudge meets the first link first: J_1 acts first, "
                "though the formula writes it last.",
            ),
            "transposed": (
                lambda jacobians, v: functools.reduce(lambda w, jacobian: w @ jacobian, jacobians, v),
                "You multiplied from the left, v @ J, which is J transposed. That is how gradients travel, and they go "
                "backward; a nudge is a column, J @ v.",
            ),
            "last forgotten": (
                lambda jacobians, v: push(jacobians[:-1], v),
                "Your nudge stops one link too early: the last Jacobian was not applied.",
            ),
            "elementwise": (
                lambda jacobians, v: functools.reduce(lambda w, jacobian: (jacobian * w).sum(0), jacobians, v),
                "You summed J * v over the rows. The sum in a matrix–vector product runs over columns.",
            ),
        },
        alternatives=(
            lambda jacobians, v: functools.reduce(lambda w, jacobian: jacobian @ w, jacobians, v),
            lambda jacobians, v: functools.reduce(lambda p, jacobian: jacobian @ p, jacobians) @ v,
            lambda jacobians, v: functools.reduce(lambda w, j: j.numpy() @ w, jacobians, v.numpy()).tolist(),
        ),
        hints=(
            "Which link does a nudge of the input meet first: the first of the list or the last?",
            "You need one vector, replaced once for each Jacobian. No matrix times matrix.",
            "for jacobian in jacobians: v = … — what stands for the dots is one matrix–vector product.",
        ),
        buys="Carried as one vector, a nudge costs a run of the network; with products of matrices, n times as much.",
        pointer="Try jacobians = [A, I]: the answer is A @ v. Then [I, A].",
    ),
    Exercise(
        id="A1.2",
        title="The Jacobian of a skip",
        statement="Write `residual_jacobian(branch, alpha)`: the Jacobian of h + alpha · F(h); `branch` is that of F.",
        solution=residual_jacobian,
        cases=_residual_cases,
        oracle=_residual_oracle,
        wrong={
            "identity forgotten": (
                lambda branch, alpha: alpha * branch,
                "You differentiated the branch and forgot the skip. What is the Jacobian of h ↦ h?",
            ),
            "one added everywhere": (
                lambda branch, alpha: 1 + alpha * branch,
                "You added 1 to every entry. The identity has ones on the diagonal only.",
            ),
            "identity scaled": (
                lambda branch, alpha: alpha * residual_jacobian(branch, 1.0),
                "You scaled the skip as well. Only the branch carries alpha.",
            ),
            "alpha forgotten": (
                lambda branch, alpha: residual_jacobian(branch, 1.0),
                "You forgot alpha.",
            ),
            "transposed": (
                lambda branch, alpha: residual_jacobian(branch, alpha).mT,
                "You transposed the branch. At alpha = 1, is column j still the effect of nudging entry j?",
            ),
        },
        alternatives=(
            lambda branch, alpha: (alpha * branch).numpy() + torch.eye(4).numpy(),
            lambda branch, alpha: torch.func.jacrev(lambda h: h + alpha * (branch @ h))(branch[0]),
        ),
        hints=(
            "A derivative of a sum is a sum of derivatives. There are two terms.",
            "The first term is h itself. Nudge one entry of h: which entries of h move?",
            "torch.eye(len(branch), dtype=branch.dtype) is one of the two terms.",
        ),
        buys="A chain of residual links is a product of perturbed identities: now you know what depth multiplies.",
        pointer="At alpha = 0 the link does nothing. What is the Jacobian of doing nothing?",
    ),
    Exercise(
        id="A1.3",
        title="The matrix of a ReLU network",
        statement="Write `matrix_at(weights, x)`: Df(x) of a bias-free network, ReLU after all weights but the last.",
        solution=matrix_at,
        cases=_matrix_cases,
        oracle=_matrix_oracle,
        wrong={
            "no masks": (
                lambda weights, x: functools.reduce(lambda product, weight: weight @ product, weights),
                "You multiplied the weights alone: that is the network without ReLU. Which units are off at x?",
            ),
            "last layer masked": (
                _masked_after,
                "You put ReLU behind the last weight too. The logits of this network may be negative.",
            ),
            "masks from the linear network": (
                _linear_masks,
                "Your masks come from states that never met a ReLU: carry the state through it as well.",
            ),
            "masked columns": (
                _masked_columns,
                "M * on silences columns, which are pixels. Units are the rows of the product so far: on[:, None] * M.",
            ),
        },
        alternatives=(
            lambda weights, x: torch.func.jacfwd(functools.partial(_relu_network, weights))(x),
            _matrix_from_the_output,
        ),
        hints=(
            "A ReLU multiplies each unit by 1 or by 0. Once x is fixed, so is the choice.",
            "Walk through the layers with two things in your hands: the state h and the product so far.",
            "on = (h > 0) silences rows of the product so far: on[:, None] * product. Then the next weight.",
        ),
        buys="Within its region a ReLU classifier is ten templates, and you can look at them.",
        pointer="Your matrix times x must be f(x), and a slightly different x must give the same matrix.",
    ),
    Exercise(
        id="A1.4",
        title="The Jacobian of softmax",
        statement="Write `softmax_jacobian(z)`: the matrix ∂p_i/∂z_j of p = softmax(z).",
        solution=softmax_jacobian,
        cases=_softmax_cases,
        oracle=_softmax_oracle,
        tolerance=1e-6,
        wrong={
            "diagonal only": (
                lambda z: (z.softmax(0) * (1 - z.softmax(0))).diag(),
                "You have the diagonal, p_i (1 − p_i). But raising one logit lowers the other probabilities too.",
            ),
            "outer product forgotten": (
                lambda z: z.softmax(0).diag(),
                "You forgot that the normaliser moves as well: its share is − p pᵀ.",
            ),
            "sign": (
                lambda z: -softmax_jacobian(z),
                "Right up to the sign: raising a logit raises its own probability.",
            ),
            "plus": (
                lambda z: z.softmax(0).diag() + torch.outer(z.softmax(0), z.softmax(0)),
                "Your rows sum to 2p, but probabilities always sum to 1: each row and column must sum to 0.",
            ),
        },
        alternatives=(
            lambda z: torch.func.jacrev(lambda logits: logits.softmax(0))(z),
            _softmax_by_entry,
        ),
        hints=(
            "Write p_i = exp(z_i) / S and use the quotient rule. S depends on every logit. (In code, z.softmax(0).)",
            "Two cases: j = i and j ≠ i. The second is − p_i p_j.",
            "diag(p) minus an outer product.",
        ),
        buys="This matrix is the Fisher metric of a classifier's logits, which A2 uses; its norm never exceeds ½.",
        pointer="Every row must sum to 0. exp of a logit of 1000 is infinite: subtract the largest logit first.",
    ),
)

