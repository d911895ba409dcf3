"""A linearization, the chain at x: one Jacobian per link, computed once, dense or as a lazy operator.

It slices, it has an adjoint, and it pushes frames without ever building Df.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

__all__ = ["Jacobian", "Linearization"]


@dataclass(frozen=True)
class Jacobian:
    """One link's Jacobian as an operator, applied and never stored; a chain's are detached from every graph.

    Attributes:
        push: columns (B, n_in, k) -> (B, n_out, k).
        pull: covectors (B, n_out, k) -> (B, n_in, k), the adjoint of `push`.
        shape: (B, n_out, n_in).
        dtype: that of the columns.
        device: where they live.

    Example:
        >>> from labkit import Chain
        >>> jac = Chain([torch.sin]).linearize(torch.zeros(1, 2), dense=False)[0]
        >>> jac.shape, jac @ torch.ones(2, 1)
        (torch.Size([1, 2, 2]), tensor([[[1.],
                 [1.]]]))
        >>> jac.dense()
        tensor([[[1., 0.],
                 [0., 1.]]])
    """

    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @property
    def ndim(self) -> int:
        """Always 3, as of a tensor."""
        return 3

    @property
    def mT(self) -> "Jacobian":
        """The adjoint operator (B, n_in, n_out)."""
        batch, n_out, n_in = self.shape
        return Jacobian(self.pull, self.push, torch.Size((batch, n_in, n_out)), self.dtype, self.device)

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self.push(columns.expand(self.shape[0], -1, -1))

    def dense(self) -> Tensor:
        """The matrix itself (B, n_out, n_in), from as many products as its smaller side."""
        n_out, n_in = self.shape[1:]
        unit = torch.eye(min(n_out, n_in), dtype=self.dtype, device=self.device)
        return self @ unit if n_in <= n_out else (self.mT @ unit).mT


class Linearization:
    """The Jacobians of a chain's links at one batch of points, first applied first.

    Args:
        jacobians: (B, n_l, n_{l-1}) each, tensors or lazy `Jacobian`s, of one batch, dtype and device.

    Raises:
        TypeError: if one is no floating tensor, nor a `Jacobian`.
        ValueError: if there are none, or two neighbours do not compose; the message names the link.

    Example:
        >>> first, second = torch.randn(5, 4, 3), torch.randn(5, 2, 4)
        >>> lin = Linearization([first, second])
        >>> lin.sizes, len(lin)
        ([3, 4, 2], 2)
        >>> torch.allclose(lin.dense(), second @ first, atol=1e-6)
        True
        >>> (lin.mT @ torch.ones(2, 1)).shape
        torch.Size([5, 3, 1])
    """

    def __init__(self, jacobians: Sequence[Any]):
        self._jacobians: tuple[Tensor | Jacobian, ...] = tuple(jacobians)
        if not self._jacobians:
            raise ValueError("jacobians is empty; a linearization needs at least one link")
        first = self._jacobians[0]
        for index, jac in enumerate(self._jacobians):
            if not isinstance(jac, Tensor | Jacobian) or not jac.dtype.is_floating_point:
                came = str(jac.dtype) if isinstance(jac, Tensor | Jacobian) else f"a {type(jac).__name__}"
                raise TypeError(f"jacobians[{index}] is {came}; give a floating tensor (B, n_out, n_in), or a Jacobian")
            if jac.ndim != 3:
                raise ValueError(
                    f"jacobians[{index}] has shape {tuple(jac.shape)}; give (B, n_out, n_in), with a batch axis first"
                )
            if 0 in jac.shape[1:]:
                raise ValueError(f"jacobians[{index}] has shape {tuple(jac.shape)}; give states of at least one number")
            if (jac.shape[0], jac.dtype, jac.device) != (first.shape[0], first.dtype, first.device):
                raise ValueError(
                    f"jacobians[{index}] has batch {jac.shape[0]}, {jac.dtype} on {jac.device}, but jacobians[0] has "
                    f"batch {first.shape[0]}, {first.dtype} on {first.device}; give all links the same three"
                )
            if index and jac.shape[2] != self._jacobians[index - 1].shape[1]:
                raise ValueError(
                    f"jacobians[{index}] takes {jac.shape[2]} numbers but jacobians[{index - 1}] gives "
                    f"{self._jacobians[index - 1].shape[1]}; order the links first applied first"
                )

    def __len__(self) -> int:
        return len(self._jacobians)

    def __iter__(self) -> Iterator[Tensor | Jacobian]:
        return iter(self._jacobians)

    @overload
    def __getitem__(self, index: int) -> Tensor | Jacobian: ...
    @overload
    def __getitem__(self, index: slice) -> "Linearization": ...
    def __getitem__(self, index: int | slice) -> "Tensor | Jacobian | Linearization":
        return Linearization(self._jacobians[index]) if isinstance(index, slice) else self._jacobians[index]

    @property
    def sizes(self) -> list[int]:
        """[n_0, …, n_L], the flattened size of every state."""
        return [self._jacobians[0].shape[2], *(jac.shape[1] for jac in self._jacobians)]

    @property
    def batch(self) -> int:
        """The number B of points."""
        return int(self._jacobians[0].shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of every Jacobian."""
        return self._jacobians[0].dtype

    @property
    def device(self) -> torch.device:
        """The device of every Jacobian."""
        return self._jacobians[0].device

    @property
    def is_dense(self) -> bool:
        """Whether every link is a tensor."""
        return all(isinstance(jac, Tensor) for jac in self._jacobians)

    @property
    def mT(self) -> "Linearization":
        """The adjoint chain: reversed, each transposed; its prefixes are the suffixes that gradients see."""
        return Linearization([jac.mT for jac in reversed(self._jacobians)])

    def __matmul__(self, columns: Tensor) -> Tensor:
        """Push columns (B, n_0, k) or (n_0, k) through every link: (B, n_L, k), Df never built."""
        columns = self._as_frame(columns)
        for jac in self._jacobians:
            columns = jac @ columns
        return columns

    def prefixes(self, basis: Tensor | None = None) -> Iterator[Tensor]:
        """The frame at every depth 0 … L, each link applied once: (B, n_l, k), k = n_0 without a basis.

        Args:
            basis: columns (B, n_0, k) or (n_0, k); None for all of R^n0, where depth l gives the prefix J_l … J_1.
        """
        unit = torch.eye(self._jacobians[0].shape[2], dtype=self.dtype, device=self.device) if basis is None else basis
        columns = self._as_frame(unit)
        yield columns
        for index, jac in enumerate(self._jacobians):
            columns = jac if basis is None and index == 0 and isinstance(jac, Tensor) else jac @ columns
            yield columns

    def dense(self) -> Tensor:
        """Df itself, (B, n_L, n_0), multiplied outwards from the narrowest state."""
        sizes = self.sizes
        narrow = sizes.index(min(sizes))
        unit = torch.eye(sizes[narrow], dtype=self.dtype, device=self.device)
        after = self[narrow:]._fold() if narrow < len(self) else unit
        if narrow == 0:
            return after
        before = self[:narrow].mT._fold().mT
        return before if narrow == len(self) else after @ before

    def _fold(self) -> Tensor:
        *_, last = self.prefixes()
        return last

    def _as_frame(self, columns: Tensor) -> Tensor:
        n_0 = self._jacobians[0].shape[2]
        if columns.ndim not in (2, 3) or columns.shape[-2] != n_0 or (columns.ndim == 3 and len(columns) != self.batch):
            raise ValueError(
                f"the frame has shape {tuple(columns.shape)}; give columns ({self.batch}, {n_0}, k) or ({n_0}, k)"
            )
        if columns.dtype != self.dtype:
            raise TypeError(f"the frame is {columns.dtype} but the Jacobians are {self.dtype}; convert one of them")
        return columns.expand(self.batch, -1, -1)

    def __repr__(self) -> str:
        kind = "dense" if self.is_dense else "lazy"
        return f"Linearization({len(self)} {kind} links, sizes={self.sizes}, batch={self.batch}, {self.dtype})"
