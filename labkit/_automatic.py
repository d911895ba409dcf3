"""Derivatives of any callable: a frame pushed in forward mode, pulled in reverse mode, and checked against each other.

The batch stays inside the call and only columns are vmapped, so a link sees the batches it was written for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.autograd.forward_ad as fwd
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "forward_mode_allowed",
    "is_tracked",
    "on_a_copy",
    "pull_automatically",
    "push_automatically",
    "value_and_derivative",
]

Link = Callable[[Tensor], Tensor]


@contextmanager
def forward_mode_allowed() -> Iterator[None]:
    """Attention by the one kernel that has a forward mode, and no fused encoder layers; both restored at the end."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def is_tracked(link: Link, h: Tensor, *others: Tensor) -> bool:
    """Whether what the link makes of h and the others is differentiated further: in one of them, or in a weight."""
    if not torch.is_grad_enabled():
        return False
    return any(tensor.requires_grad for tensor in (h, *others)) or link(h).requires_grad


def on_a_copy(link: Link) -> Link:
    """The same link, kept from writing to what it is given: inside a network that may be a state still needed."""
    return lambda h: link(h.clone())


def value_and_derivative(function: Link, h: Tensor) -> tuple[Tensor, Tensor]:
    """phi(h) and phi'(h) of an elementwise function, in the shape of h; a graph is kept where h or a weight has one."""
    function = on_a_copy(function)
    one = torch.ones_like(h)
    try:
        with fwd.dual_level():
            value, slope = fwd.unpack_dual(function(fwd.make_dual(h, one)))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except (RuntimeError, NotImplementedError):  # no level left inside an outer jvp, or no forward formula
        pushed = push_automatically(function, h.reshape(-1, 1), one.reshape(-1, 1, 1), None)
        return function(h), pushed.reshape(h.shape)
    return value, torch.zeros_like(h) if slope is None else slope


def push_automatically(link: Link, h: Tensor, columns: Tensor | None, chunk_size: int | None) -> Tensor:
    """Push columns (B, n, k), or the identity, through the differential of any link at h: (B, n_out, k).

    Forward mode where nobody differentiates the result and it agrees with reverse mode on a probe; else reverse mode:
    torch differentiates forward mode through layer norm, `solve` and `det` silently wrong.
    """
    size = h[0].numel()
    with forward_mode_allowed():
        out = link(h)
        size_out = out[0].numel()
        if not out.requires_grad and (columns is not None or size <= size_out):
            frame = _identity(h, size) if columns is None else columns
            try:
                pushed = _push(link, h, frame, chunk_size)
            except (RuntimeError, NotImplementedError):  # operations without a forward formula
                pushed = None
            if pushed is not None and _agrees(link, h, frame, pushed):
                return pushed
        dense = pull_automatically(link, h, _identity(h, size_out), chunk_size).mT
        return dense if columns is None else dense @ columns


def pull_automatically(link: Link, h: Tensor, rows: Tensor, chunk_size: int | None) -> Tensor:
    """Pull covectors (B, n_out, r) back through the link at h: J^T rows, (B, n, r)."""
    with forward_mode_allowed():
        try:
            pullback = _pullback(link, h)
            return _over_columns(pullback, rows, chunk_size)
        except (RuntimeError, NotImplementedError):  # what functorch cannot trace, plain autograd can
            keep = is_tracked(link, h, rows)
            return torch.stack([_pull_once(link, h, row, keep) for row in rows.unbind(-1)], -1)


def _pullback(link: Link, h: Tensor) -> Link:
    out, pull = vjp(link, h)[:2]
    return lambda row: pull(row.reshape(out.shape))[0].reshape(len(h), -1)


def _push(link: Link, h: Tensor, columns: Tensor, chunk_size: int | None) -> Tensor:
    return _over_columns(partial(_push_once, link, h), columns, chunk_size)


def _push_once(link: Link, h: Tensor, column: Tensor) -> Tensor:
    tangent: Tensor = jvp(link, (h,), (column.reshape(h.shape),))[1]
    return tangent.reshape(h.shape[0], -1)


def _identity(h: Tensor, size: int) -> Tensor:
    return torch.eye(size, dtype=h.dtype, device=h.device).expand(h.shape[0], size, size)


def _over_columns(function: Link, columns: Tensor, chunk_size: int | None) -> Tensor:
    try:
        # out_dims=-1 returns garbage where the output does not depend on the column
        mapped: Tensor = vmap(function, in_dims=-1, chunk_size=chunk_size)(columns)
    except (RuntimeError, NotImplementedError):  # data-dependent control flow
        return torch.stack([function(v) for v in columns.unbind(-1)], -1)
    return mapped.movedim(0, -1)


def _pull_once(link: Link, h: Tensor, row: Tensor, keep: bool) -> Tensor:
    with torch.enable_grad():
        entry = h if h.requires_grad else h.detach().requires_grad_()
        out = link(entry)
        if not out.requires_grad:
            return torch.zeros_like(h).reshape(len(h), -1)
        (pulled,) = torch.autograd.grad(out, entry, row.reshape(out.shape), create_graph=keep, allow_unused=True)
    return (torch.zeros_like(h) if pulled is None else pulled).reshape(len(h), -1)


def _agrees(link: Link, h: Tensor, columns: Tensor, pushed: Tensor) -> bool:
    """<u, J v> by both modes: torch has operations whose forward formula is silently wrong."""
    with torch.no_grad():
        weights = torch.cos(torch.arange(1, columns.shape[-1] + 1, device=h.device)).to(h.dtype)
        row = torch.sin(torch.arange(1, pushed.shape[1] + 1, device=h.device)).to(h.dtype).expand(h.shape[0], -1)
        v, image = columns.detach() @ weights, pushed.detach() @ weights
        pulled = _pull_once(link, h.detach(), row, keep=False)
        one, other = (row * image).double(), (pulled * v).double()
        tolerance = 1e3 * torch.finfo(h.dtype).eps * (one.abs().sum(-1) + other.abs().sum(-1))
        return bool(((one.sum(-1) - other.sum(-1)).abs() <= tolerance).all())
