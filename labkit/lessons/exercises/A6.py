"""Exercises of A6: Fisher of a logistic regression, its dual spectrum, a change of parameters, a natural step."""

from typing import Any

import torch
from torch import Tensor

from labkit.lessons.exercise import Exercise

__all__ = ["EXERCISES"]


def fisher_logistic(X: Tensor, w: Tensor) -> Tensor:
    """The Fisher matrix (P, P) of p(1|x) = sigmoid(w · x), mean over the rows of X, (B, P)."""
    p = (X @ w).sigmoid()
    return X.mT @ ((p * (1 - p))[:, None] * X) / len(X)


def dual_spectrum(R: Tensor) -> Tensor:
    """The n largest eigenvalues of F = RᵀR, descending, from rows R (n, P), n ≤ P."""
    values: Tensor = torch.linalg.eigvalsh(R @ R.mT)
    return values.flip(0)


def pulled_back(F: Tensor, A: Tensor) -> Tensor:
    """The Fisher matrix in coordinates φ, from F at θ(φ) and A = ∂θ/∂φ."""
    return A.mT @ F @ A


def natural_step(F: Tensor, g: Tensor, eta: float, damping: float) -> Tensor:
    """What is added to the parameters: −η (F + damping · I)⁻¹ g."""
    damped = F + damping * torch.eye(len(g), dtype=F.dtype)
    step: Tensor = torch.linalg.solve(damped, g)
    return -eta * step


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _regressions() -> list[tuple[Any, ...]]:
    return [
        (_random(6, 2, seed=0), _random(2, seed=1)),
        (2 * _random(3, 4, seed=2), _random(4, seed=3)),
        (_random(5, 3, seed=4), torch.zeros(3, dtype=torch.float64)),
    ]


def _by_both_labels(X: Tensor, w: Tensor) -> Tensor:
    """The definition: both labels in turn, the score of each by autograd, weighed with the model's probability."""
    total = torch.zeros(len(w), len(w), dtype=w.dtype)
    for x in X:
        for sign in (1.0, -1.0):
            at = w.clone().requires_grad_(True)
            log_p = torch.nn.functional.logsigmoid(sign * (x @ at))
            (score,) = torch.autograd.grad(log_p, at)
            total += log_p.detach().exp() * torch.outer(score, score)
    return total / len(X)


def _rows() -> list[tuple[Any, ...]]:
    """Small ones, and one whose P × P matrix no machine can hold: 2⁴⁶ numbers."""
    wide = torch.linspace(-1, 1, 2**23, dtype=torch.float64)[None]
    return [(_random(2, 5, seed=5),), (_random(4, 9, seed=6),), (_random(3, 3, seed=7),), (wide,)]


def _by_singular_values(R: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(R)
    return values.square()


def _charts() -> list[tuple[Any, ...]]:
    made = []
    for p, k, seed in ((3, 3, 8), (4, 4, 10), (2, 2, 12)):
        R = _random(6, p, seed=seed)
        made.append((R.mT @ R, _random(p, k, seed=seed + 1)))
    return made


def _by_lengths(F: Tensor, A: Tensor) -> Tensor:
    """From lengths alone: a step of φ is A times it in θ, and ⟨u, v⟩ = (|u + v|² − |u − v|²)/4."""

    def squared(v: Tensor) -> Tensor:
        return (A @ v) @ (F @ (A @ v))

    units = torch.eye(A.shape[1], dtype=A.dtype)
    return torch.stack([torch.stack([(squared(u + v) - squared(u - v)) / 4 for v in units]) for u in units])


def _steps() -> list[tuple[Any, ...]]:
    made = []
    for seed, eta, damping in ((14, 0.5, 0.1), (16, 0.1, 2.0), (18, 0.3, 0.4)):
        R = _random(6, 3, seed=seed)
        made.append((R.mT @ R / 6, _random(3, seed=seed + 1), eta, damping))
    return made


def _length(F: Tensor, g: Tensor, damping: float, measured: float) -> Tensor:
    """√(vᵀ(F + measured · I)v) of the natural step v with η = 1."""
    v = natural_step(F, g, 1.0, damping)
    return (v @ F @ v + measured * (v @ v)).sqrt()


def _by_minimising(F: Tensor, g: Tensor, eta: float, damping: float) -> Tensor:
    """The minimum over v of η g·v + ½ vᵀFv + ½ damping |v|², by conjugate gradients."""
    v, residual = torch.zeros_like(g), -eta * g
    direction = residual.clone()
    for _ in range(2 * len(g)):
        if float(residual @ residual) < 1e-28:
            break
        image = F @ direction + damping * direction
        reach = (residual @ residual) / (direction @ image)
        v, following = v + reach * direction, residual - reach * image
        direction = following + (following @ following) / (residual @ residual) * direction
        residual = following
    return v


EXERCISES = (
    Exercise(
        id="A6.1",
        title="The Fisher matrix of a logistic regression",
        statement="Write `fisher_logistic(X, w)`: the Fisher matrix (P, P) of p = sigmoid(w · x), mean over the rows "
        "of `X`, (B, P).",
        solution=fisher_logistic,
        cases=_regressions,
        oracle=_by_both_labels,
        tolerance=1e-8,
        wrong={
            "a sum": (
                lambda X, w: fisher_logistic(X, w) * len(X),
                "You added over the samples. Here F is their mean: the same samples twice, the same matrix.",
            ),
            "no variance": (
                lambda X, w: X.mT @ X / len(X),
                "This is the Fisher matrix of a linear model with normal labels of variance 1. A label here has the "
                "variance p (1 − p).",
            ),
            "weighed with p": (
                lambda X, w: X.mT @ ((X @ w).sigmoid()[:, None] * X) / len(X),
                "You weighed with p: only the label 1 counted. The variance of a label is p (1 − p).",
            ),
            "weighed twice": (
                lambda X, w: X.mT @ (((X @ w).sigmoid() * (1 - (X @ w).sigmoid())).square()[:, None] * X) / len(X),
                "You squared p (1 − p): that is Euclid's metric of the probabilities. Fisher has it once.",
            ),
            "likeliest label": (
                lambda X, w: X.mT @ ((X @ w).abs().neg().sigmoid().square()[:, None] * X) / len(X),
                "You gave each sample its likeliest label: an empirical Fisher matrix. Surprise is left out, and F is "
                "made of it: the model gives both labels, with its own probabilities.",
            ),
            "label one": (
                lambda X, w: X.mT @ ((1 - (X @ w).sigmoid()).square()[:, None] * X) / len(X),
                "You took every label to be 1: an empirical Fisher matrix. The model gives both labels, "
                "with its own probabilities.",
            ),
        },
        alternatives=(
            lambda X, w: sum(float((x @ w).sigmoid() * (x @ -w).sigmoid()) * torch.outer(x, x) for x in X) / len(X),
            lambda X, w: torch.func.hessian(lambda v: torch.nn.functional.softplus(X @ v).mean())(w),
        ),
        hints=(
            "The score of label y is (y − p) x. What is the mean of its outer product when y is 1 with probability p?",
            "E (y − p)² = p (1 − p), so each sample gives p (1 − p) x xᵀ.",
            "p = (X @ w).sigmoid(); scale the rows of X by p (1 − p), multiply by X.mT from the left, divide by B.",
        ),
        buys="The same three factors, Jacobian, output metric, Jacobian, make the Fisher matrix of any network.",
        pointer="For X = [[2.]] and w = [½ ln 3], so p = ¾, it is [[0.75]].",
    ),
    Exercise(
        id="A6.2",
        title="The spectrum, from the small side",
        statement="Write `dual_spectrum(R)`: the n largest eigenvalues of F = RᵀR, descending; `R` is (n, P), n ≤ P. "
        "One R of the check has a single row of eight million: RᵀR would fit nowhere.",
        solution=dual_spectrum,
        cases=_rows,
        oracle=_by_singular_values,
        tolerance=1e-8,
        wrong={
            "singular values": (
                lambda R: torch.linalg.svdvals(R),
                "These are the singular values of R. An eigenvalue of RᵀR is the square of one.",
            ),
            "ascending": (
                lambda R: torch.linalg.eigvalsh(R @ R.mT),
                "Right numbers, the smallest first: eigvalsh sorts so. The largest belongs in front.",
            ),
            "unsorted": (
                lambda R: torch.linalg.eigvals(R @ R.mT),
                "eigvals does not know that the matrix is symmetric: its numbers are complex and in no order. "
                "Take eigvalsh.",
            ),
            "all of them": (
                lambda R: torch.cat([_by_singular_values(R), torch.zeros(R.shape[1] - R.shape[0] + 1, dtype=R.dtype)]),
                "You gave the zeros too. Only the n largest are asked for.",
            ),
            "a mean": (
                lambda R: dual_spectrum(R) / len(R),
                "You divided by n. Here F = RᵀR as it is: the 1/B already sits in the rows.",
            ),
        },
        alternatives=(
            lambda R: torch.linalg.eigvals(R @ R.mT).real.sort(descending=True).values,
            _by_singular_values,
        ),
        hints=(
            "If RᵀR v = λ v with λ ≠ 0, what does R Rᵀ do to R v?",
            "R Rᵀ (R v) = λ (R v): both matrices share their nonzero eigenvalues. Take the smaller one.",
            "torch.linalg.eigvalsh(R @ R.mT) has them ascending; .flip(0) turns them round.",
        ),
        buys="The cost grows with P, not P².",
        pointer="For R = [[3., 4.]] the answer is [25.].",
    ),
    Exercise(
        id="A6.3",
        title="A change of parameters",
        statement="Write `pulled_back(F, A)`: the Fisher matrix in parameters φ; `F` is that at θ = ψ(φ), `A` = ∂θ/∂φ.",
        solution=pulled_back,
        cases=_charts,
        oracle=_by_lengths,
        tolerance=1e-8,
        wrong={
            "transposed": (
                lambda F, A: A @ F @ A.mT,
                "You wrote A F Aᵀ. A step dφ first becomes A dφ; then F measures it.",
            ),
            "a linear map": (
                lambda F, A: torch.linalg.solve(A, F @ A),
                "A⁻¹ F A is how a linear map changes its basis. A metric takes two steps, and both are carried by A.",
            ),
            "the other way": (
                lambda F, A: torch.linalg.inv(A).mT @ F @ torch.linalg.inv(A),
                "This goes from φ to θ. A = ∂θ/∂φ carries steps of φ to steps of θ, where F waits.",
            ),
            "entry by entry": (
                lambda F, A: A * F * A,
                "A * F * A multiplies entry by entry. The product of matrices is @, with Aᵀ on the left.",
            ),
            "A F A": (
                lambda F, A: A @ F @ A,
                "You wrote A F A. The left factor carries a step too, but as a row: transpose it.",
            ),
            "one factor": (
                lambda F, A: F @ A,
                "One A too few: both steps that the metric compares come from φ.",
            ),
        },
        alternatives=(
            lambda F, A: torch.einsum("ai,ab,bj->ij", A, F, A),
            lambda F, A: (torch.linalg.cholesky(F).mT @ A).mT @ (torch.linalg.cholesky(F).mT @ A),
        ),
        hints=(
            "A small step dφ moves θ by A dφ. What does F call its squared length?",
            "(A dφ)ᵀ F (A dφ). Move the transpose inside.",
            "dφᵀ (…) dφ: what stands in the brackets is the answer.",
        ),
        buys="The divergence to a neighbour does not ask in which units you wrote the weights.",
        pointer="With F = [[3.]] and A = [[2.]] (θ = 2φ) it is [[12.]].",
    ),
    Exercise(
        id="A6.4",
        title="A natural step",
        statement="Write `natural_step(F, g, eta, damping)`: what descent with step η adds to the parameters, "
        "the metric being F + damping · I.",
        solution=natural_step,
        cases=_steps,
        oracle=_by_minimising,
        tolerance=1e-7,
        wrong={
            "uphill": (
                lambda F, g, eta, damping: -natural_step(F, g, eta, damping),
                "You go uphill. The loss falls against the gradient.",
            ),
            "multiplied": (
                lambda F, g, eta, damping: -eta * (F @ g + damping * g),
                "You multiplied by F + damping. That makes steep directions steeper; the natural step divides.",
            ),
            "η forgotten": (
                lambda F, g, eta, damping: natural_step(F, g, 1.0, damping),
                "The direction is right, the length is not: η is missing.",
            ),
            "damping forgotten": (
                lambda F, g, eta, damping: natural_step(F, g, eta, 0.0),
                "Without its damping this step is right. The metric here is F + damping · I.",
            ),
            "damping outside": (
                lambda F, g, eta, damping: natural_step(F, g, eta, 0.0) - eta * damping * g,
                "You added the damping after the inverse. It belongs inside: (F + damping · I)⁻¹.",
            ),
            "diagonal only": (
                lambda F, g, eta, damping: -eta * g / (F.diagonal() + damping),
                "You kept only the diagonal of F. That is a fashion of its own, and it depends on the coordinates.",
            ),
            "damping everywhere": (
                lambda F, g, eta, damping: -eta * torch.linalg.solve(F + damping, g),
                "F + damping adds the number to every entry. Only the diagonal gets it: damping · I.",
            ),
            "normalised": (
                lambda F, g, eta, damping: eta * natural_step(F, g, 1.0, damping) / _length(F, g, damping, damping),
                "The direction is right, but you gave it the length η, in the metric F + damping · I. Here η "
                "multiplies the step as it is: near a minimum it becomes small.",
            ),
            "normalised by F": (
                lambda F, g, eta, damping: eta * natural_step(F, g, 1.0, damping) / _length(F, g, damping, 0.0),
                "The direction is right, but you gave it the length η, in the metric F. Here η multiplies the step as "
                "it is: near a minimum it becomes small.",
            ),
            "plain": (
                lambda F, g, eta, damping: -eta * g,
                "This is the plain gradient step. F does not occur.",
            ),
        },
        alternatives=(
            lambda F, g, eta, damping: -eta * torch.linalg.inv(F + damping * torch.eye(len(g), dtype=F.dtype)) @ g,
            _by_minimising,
        ),
        hints=(
            "Lagrange: at the lowest loss of all v with equal vᵀ(F + damping · I) v, the gradients of both, g and "
            "twice (F + damping · I) v, are parallel.",
            "They point oppositely, and η sets the length: (F + damping · I) v = −η g, a linear system.",
            "torch.linalg.solve(F + damping * torch.eye(len(g), dtype=F.dtype), g), and what stands before it.",
        ),
        buys="A step that means the same in every choice of units, as long as the damping is 0.",
        pointer="For F = [[4.]], g = [1.], η = 1, no damping it is [−¼].",
    ),
)
