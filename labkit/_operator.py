"""What the matrix-free engine asks of an operator, and the products it takes: in float64, scaled to order one, checked.

Anything will do that has `shape` ([B,] m, n), `dtype`, `device`, `@` on columns and `.mT`: a tensor, a Jacobian.
"""

import math
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import LN2, lift
from labkit._memory import available_bytes

__all__ = ["Directions", "Operator", "Products", "check_symmetric", "refuse_memory"]


class Operator(Protocol):
    """A linear map known by its products: columns ([B,] n, j) to ([B,] m, j)."""

    @property
    def shape(self) -> torch.Size:
        """([B,] m, n)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the columns it takes."""

    @property
    def device(self) -> torch.device:
        """Where they live."""

    @property
    def mT(self) -> "Operator":
        """The adjoint; a symmetric operator may return itself."""

    def __matmul__(self, columns: Tensor) -> Tensor:
        """The product with columns ([B,] n, j)."""


class Products:
    """Products with an operator J times 2^-e, e chosen per sample so that no square over- or underflows.

    Args:
        operator: see `Operator`; without a batch axis it gets one.

    Attributes:
        batch: B, or 1.
        m: rows.
        n: columns.
        eps: the rounding of one product.
        device: where the float64 results live.

    Raises:
        TypeError: If `operator` lacks a part of the protocol, or is not of a real floating dtype.
        ValueError: If one of its sizes is zero.
    """

    def __init__(self, operator: Any):
        shape = tuple(getattr(operator, "shape", ()))
        needed = ("dtype", "device", "mT", "__matmul__")
        if len(shape) not in (2, 3) or not all(hasattr(operator, name) for name in needed):
            of = f" of shape {shape}" if shape else ""
            raise TypeError(
                f"operator is a {type(operator).__name__}{of}; pass a linearization, or anything with shape "
                "([B,] m, n), dtype, device, @ on columns and .mT"
            )
        if not operator.dtype.is_floating_point:
            raise TypeError(f"operator is of {operator.dtype}; pass one of a real floating dtype")
        if 0 in shape:
            raise ValueError(f"operator is of shape {shape}; it needs at least one sample, row and column")
        self._operator: Operator = operator
        *batch, m, n = shape
        self.m, self.n = int(m), int(n)
        self._single = not batch
        self.batch = batch[0] if batch else 1
        self.eps = torch.finfo(operator.dtype).eps
        self.device = lift(torch.empty(0, device=operator.device)).device
        self._exponent = torch.zeros(self.batch, dtype=torch.float64, device=self.device)

    def measure(self, columns: Float[Tensor, "batch n j"]) -> Float[Tensor, "batch m j"]:
        """The first product, which sets the scale."""
        images = self.push(columns)
        self._exponent = torch.frexp(images.abs().amax((-2, -1)))[1].double()
        return self.push(columns) if bool((self._exponent.abs() > 32).any()) else self._scaled(images)

    def push(self, columns: Float[Tensor, "batch n j"]) -> Float[Tensor, "batch m j"]:
        """2^-e J columns."""
        return self._product(self._operator, columns)

    def pull(self, rows: Float[Tensor, "batch m j"]) -> Float[Tensor, "batch n j"]:
        """2^-e Jᵀ rows."""
        return self._product(self._operator.mT, rows)

    def times_scale(self, values: Float[Tensor, "batch ..."], power: int = 1) -> Float[Tensor, "batch ..."]:
        """Values · 2^(power·e), in steps that overflow only where the result does."""
        exponent = self._exponent.view(-1, *[1] * (values.ndim - 1))
        half = (exponent / 2).floor()
        for _ in range(power):
            values = values * torch.exp2(half) * torch.exp2(exponent - half)
        return values

    def plus_log_scale(self, logs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Logs + e log 2."""
        return logs + LN2 * self._exponent.view(-1, *[1] * (logs.ndim - 1))

    def unbatched(self, part: Float[Tensor, "batch ..."]) -> Float[Tensor, "..."]:
        """`part` without the batch axis, where the operator has none."""
        return part[0] if self._single else part

    def _scaled(self, images: Tensor) -> Tensor:
        return images * torch.exp2(-self._exponent)[:, None, None]

    def _product(self, operator: Any, columns: Tensor) -> Tensor:
        half = (self._exponent / 2).floor()[:, None, None]  # half before, half after: float32 links keep their range
        given = (columns * torch.exp2(-half)).to(self._operator.device, self._operator.dtype)
        images = lift((operator @ given[0])[None] if self._single else operator @ given)
        if not images.isfinite().all():
            sample = int((~images.isfinite()).flatten(1).any(-1).nonzero()[0])
            raise ValueError(f"operator gives NaN or infinity in sample {sample}; check the model, or scale it down")
        return images * torch.exp2(half - self._exponent[:, None, None])


class Directions:
    """Random directions on the CPU, the same for all samples.

    Args:
        J: for sizes and device.
        generator: on the CPU; None for a new one seeded 0.
    """

    def __init__(self, J: Products, generator: torch.Generator | None):
        self._J, self._generator = J, generator or torch.Generator().manual_seed(0)

    def __call__(self, size: int, count: int) -> Float[Tensor, "batch size count"]:
        """Standard normal columns."""
        block = torch.randn(size, count, generator=self._generator, dtype=torch.float64)
        return block.to(self._J.device).expand(self._J.batch, size, count)


def check_symmetric(T: Float[Tensor, "batch p p"], A: Products) -> None:
    """Raises ValueError unless T = VᵀAV is symmetric to the rounding of products."""
    defect, size = (T - T.mT).abs().amax((-2, -1)), T.abs().amax((-2, -1))
    if (defect > 1e3 * A.n**0.5 * A.eps * size.clamp(min=1.0)).any():
        ratio = float((defect / size).max())
        raise ValueError(f"operator differs from its transpose by {ratio:.1g} of its size; pass a symmetric one")


def refuse_memory(need: float, device: torch.device, what: str, cure: str) -> None:
    """Refuses before allocating what would not fit, with the figure and the way out.

    Args:
        need: bytes.
        device: where.
        what: what needs them, the subject of the sentence.
        cure: what would do; `{share}` in it becomes need over free, rounded up.

    Raises:
        MemoryError: If more is needed than is free.
    """
    free = available_bytes(device)
    if need > free:
        share = math.ceil(need / max(free, 1.0))
        raise MemoryError(f"{what} needs {need / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {cure.format(share=share)}")
