"""Fisher matrices F = Rᵀ R of large models from products alone: R as an operator that is applied and never built.

Detached; one graph of the model serves all products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from labkit._linalg import lift
from labkit.geometry._score_rows import ScoreRows

__all__ = ["RowOperator", "iterative_solution", "matrix_product", "nonzero_operator", "row_operator"]


@dataclass(frozen=True)
class RowOperator:
    """R as an operator for the matrix-free engine.

    Attributes:
        push: one column (P,) to (n,).
        pull: one column (n,) to (P,), the adjoint of `push`.
        shape: (n, P).
        dtype: of the columns.
        device: where they live.
    """

    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @property
    def mT(self) -> "RowOperator":
        """The adjoint operator (P, n)."""
        return RowOperator(self.pull, self.push, self.shape[::-1], self.dtype, self.device)

    def __matmul__(self, columns: Tensor) -> Tensor:
        return torch.stack([self.push(column) for column in columns.unbind(-1)], -1)


def row_operator(rows: ScoreRows) -> RowOperator:
    """R from products alone.

    J v is the derivative of u ↦ ⟨Jᵀ u, v⟩, which is linear. A model without second derivatives is pushed through row
    by row.
    """
    x, labels = rows.x.detach(), rows.labels
    entries = {name: p.detach().requires_grad_() for name, p in rows.parameters.items()}
    inputs = tuple(entries.values())
    with rows.settled(), torch.enable_grad():
        f = rows.outputs(entries, x)
        u = torch.zeros_like(f, requires_grad=True)
        pulled = torch.autograd.grad(f, inputs, u, create_graph=True, materialize_grads=True)
    reached = [index for index, gradient in enumerate(pulled) if gradient.requires_grad]
    value, root = f.detach(), math.sqrt(len(x))

    def push(column: Tensor) -> Tensor:
        v = list(rows.as_parameters(column).values())
        ends, heads = [pulled[i] for i in reached], [v[i] for i in reached]
        (z,) = torch.autograd.grad(ends, u, heads, retain_graph=True, materialize_grads=True)
        return rows.weigh_transposed(value, z, labels).reshape(-1).to(rows.dtype) / root

    def push_by_rows(column: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([chunk @ column.to(chunk) for chunk in rows.chunks()])

    def pull(column: Tensor) -> Tensor:
        w = rows.weigh(value, column.reshape(len(x), -1), labels)
        gradients = torch.autograd.grad(f, inputs, w, retain_graph=True, materialize_grads=True)
        return rows.flat(gradients) / root

    twice = _is_adjoint(push, pull, rows)
    return RowOperator(push if twice else push_by_rows, pull, torch.Size(rows.shape), rows.dtype, rows.device)


def nonzero_operator(rows: ScoreRows) -> RowOperator:
    """R for the matrix-free engine; ValueError where it vanishes."""
    R = row_operator(rows)
    if not bool(R.pull(torch.arange(1, R.shape[0] + 1, device=R.device).to(R.dtype).sin()).any()):
        raise ValueError("the Fisher matrix at x is zero: no parameter moves the outputs; pass another x or model")
    return R


def matrix_product(rows: ScoreRows, v: object) -> dict[str, Tensor]:
    """F v, like the parameters."""
    column, R = rows.as_flat(v, "v"), row_operator(rows)
    return rows.as_parameters(R.pull(R.push(column)))


@torch.no_grad()
def iterative_solution(
    rows: ScoreRows, gradient: Float[Tensor, " P"], damping: float, tolerance: float, progress: bool
) -> Float[Tensor, " P"]:
    """(F + damping)⁻¹ gradient in float64, to a relative residual of `tolerance`.

    Raises:
        ValueError: If damping is 0 and F singular.
        RuntimeError: If the rounding of products keeps the residual above `tolerance`.
        MemoryError: If a few vectors of P numbers are not free.
    """
    n, P = rows.shape
    rows.require_memory(56 * P, f"the natural gradient on {P} parameters", "switch requires_grad off for some of them")
    R, g, lost = row_operator(rows), lift(gradient), 0.0
    if damping == 0:  # a null space may lie beside the gradient, and hardly ever beside a random vector
        lost, goal = rows.tolerance, 1e-3 / math.sqrt(P)  # which hides in 1 of 1000
        probe = torch.randn(P, dtype=g.dtype, generator=torch.Generator().manual_seed(0)).to(g.device)
        if n < P or _conjugate_gradients(R, probe, 0.0, goal, lost, progress)[1] > goal:
            raise ValueError(
                f"damping=0 with a Fisher matrix of {n} rows on {P} parameters that is singular, or nearly so; pass "
                "damping > 0, such as 1e-3 of its largest eigenvalue, which fisher.top_eigenvalues gives"
            )
    step, residual = _conjugate_gradients(R, g, damping, tolerance, lost, progress)
    if residual > tolerance:
        raise RuntimeError(
            f"conjugate gradients end at a relative residual of {residual:.3g}, above tolerance={tolerance:g}, by "
            f"the rounding of products in {rows.own_dtype}; pass a larger tolerance or damping, or a model in float64"
        )
    return step


def _conjugate_gradients(
    R: RowOperator, g: Float[Tensor, " P"], damping: float, tolerance: float, rank_tolerance: float, progress: bool
) -> tuple[Float[Tensor, " P"], float]:
    """x with (Rᵀ R + damping) x near g, and the relative residual; by CGLS (Hestenes & Stiefel 1952).

    It gives up where a direction is met that R loses, or after twice the steps in which exact products would do.
    """
    size = g.abs().amax()
    if size == 0:
        return g, 0.0
    g = g / size  # before squares are taken, which would over- or underflow
    size, g = size * g.norm(), g / g.norm()
    x, image, largest, step = torch.zeros_like(g), g.new_zeros(R.shape[0]), 0.0, 0
    rest = p = g
    square = best = 1.0
    with tqdm(desc="conjugate gradients", unit=" steps", disable=not progress, delay=2.0, leave=False) as bar:
        while square > tolerance**2 and step < _enough_steps(largest, damping, tolerance, R):
            q = lift(R.push(p))
            moved, along = float(q @ q), float(p @ p)
            largest = max(largest, moved / along)
            if damping == 0 and moved <= rank_tolerance**2 * largest * along:
                break
            length = square / (moved + damping * along)
            x, image = x + length * p, image + length * q
            rest, before = g - lift(R.pull(image)) - damping * x, square
            square = float(rest @ rest)
            if fresh := square <= tolerance**2:  # the sum of all images carries the rounding of all steps
                image = lift(R.push(x))
                rest = g - lift(R.pull(image)) - damping * x
                square = float(rest @ rest)
            p = rest if fresh else rest + square / before * p
            best, step = min(best, square), step + 1
            bar.set_postfix_str(f"residual {math.sqrt(square):.1e}", refresh=False)
            bar.update()
    return size * x, math.sqrt(best)


def _enough_steps(largest: float, damping: float, tolerance: float, R: RowOperator) -> float:
    """By the condition number, where damping gives one, or by the rank; twice, for both hold without rounding."""
    by_rank = 10.0 * min(R.shape) + 100.0
    if damping == 0:
        return by_rank
    root = math.sqrt(1 + largest / damping)
    return min(by_rank, root * math.log(2 * root / tolerance) + 100)


def _is_adjoint(push: Callable[[Tensor], Tensor], pull: Callable[[Tensor], Tensor], rows: ScoreRows) -> bool:
    """Whether ⟨w, R v⟩ = ⟨Rᵀ w, v⟩ on a probe, v along Rᵀ w so that neither is small by chance."""
    w = torch.arange(1, rows.shape[0] + 1, device=rows.device).to(rows.dtype).sin()
    v = pull(w)
    try:
        image = push(v)
    except (RuntimeError, NotImplementedError):  # no second derivative
        return False
    one, other = (w.double() @ image.double()), v.double().square().sum()
    return bool((one - other).abs() <= min(1e3 * torch.finfo(rows.own_dtype).eps, 0.1) * other)
