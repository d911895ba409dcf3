"""Second derivatives of any callable: forward over forward where that is safe and checked, else reverse over reverse.

Where the result is differentiated further, functions whose third derivative torch gets wrong are written out.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from labkit._automatic import forward_mode_allowed, is_tracked, on_a_copy
from labkit._memory import available_bytes

__all__ = ["bend_automatically", "second_derivative"]

_AT_ONCE = 2**28  # bytes of slopes pulled back at once

Link = Callable[[Tensor], Tensor]


def second_derivative(function: Link, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi(h), phi'(h) and phi''(h) of an elementwise function; a graph is kept where h or a weight has one."""
    function = on_a_copy(function)
    keep = is_tracked(function, h)
    with torch.enable_grad():
        entry = _entry(h)
        value = function(entry)
        slope = _pull(value, entry, torch.ones_like(value))
        bend = _pull(slope, entry, torch.ones_like(slope), keep)
    return (value, slope, bend) if keep else (value.detach(), slope.detach(), bend)


def bend_automatically(
    link: Link, h: Tensor, columns: Tensor, rows: Tensor, cols: Tensor, chunk_size: int | None
) -> Tensor:
    """D²f(v_i, v_j) of any link at h, flattened.

    Args:
        link: a callable (B, *s) -> (B, *s').
        h: where, (B, *s).
        columns: the directions v, (k, B, *s).
        rows: i of every pair, (m,).
        cols: j of every pair, (m,).
        chunk_size: directions differentiated along at once, all by default.

    Returns:
        (m, B, n_out). Forward over forward where nobody differentiates the result and it agrees with reverse mode on
        a probe; else reverse over reverse.
    """
    with forward_mode_allowed():
        keep = is_tracked(link, h, columns)
        if not keep:
            try:
                with _WrittenOut():  # forward over forward torch's own layer norm is silently wrong
                    bent = _forward(link, h, columns[rows], columns[cols], chunk_size)
            except (RuntimeError, NotImplementedError):  # operations without a forward formula, or control flow
                bent = None
            if bent is not None and _agrees(link, h, columns, rows, cols, bent):
                return bent
        with _WrittenOut():  # the norms' are silently wrong, the determinant's is NaN
            return _reverse(link, h, columns, rows, cols, chunk_size, keep)


def _forward(link: Link, h: Tensor, one: Tensor, other: Tensor, chunk_size: int | None) -> Tensor:
    mapped: Tensor = vmap(partial(_bend_once, link, h), chunk_size=chunk_size)(one, other)
    return mapped


def _bend_once(link: Link, h: Tensor, v: Tensor, w: Tensor) -> Tensor:
    bent: Tensor = jvp(lambda state: jvp(link, (state,), (v,))[1], (h,), (w,))[1]
    return bent.reshape(len(h), -1)


def _reverse(
    link: Link, h: Tensor, columns: Tensor, rows: Tensor, cols: Tensor, chunk_size: int | None, keep: bool
) -> Tensor:
    """The gradient of <gradient of every output, v_i>, applied to v_j; with a graph of its own to `keep` or not."""
    k, batch = columns.shape[:2]
    flat = columns.reshape(k, batch, -1)
    with torch.enable_grad():
        entry = _entry(h)
        out = link(entry).reshape(batch, -1)
        n_out = out.shape[1]
        size = _require_memory(out, entry, k)
        first = _pull_all(out, entry, _unit(out, n_out), True, chunk_size)
        slopes = torch.einsum("obn,kbn->bok", first, flat).reshape(batch, -1)
        chunk_size = min(chunk_size or n_out * k, max(1, _AT_ONCE // size))
        second = _pull_all(slopes, entry, _unit(out, n_out * k), keep, chunk_size).reshape(n_out, k, batch, -1)
        bent = torch.einsum("ombn,mbn->mbo", second[:, rows], flat[cols])
    return bent if keep else bent.detach()


def _require_memory(out: Tensor, entry: Tensor, k: int) -> int:
    """Refuses what would not fit; the bytes of one slope, pulled back through the gradients of all outputs."""
    gradients = out.element_size() * out.shape[1] * entry.numel()
    size = 4 * gradients
    need = (k + 1) * gradients + out.element_size() * (out.shape[1] * k) ** 2 + size
    if need > 2**26 and need > (free := available_bytes(out.device)):
        raise MemoryError(
            f"the second derivatives of a link of {entry[0].numel()} numbers to {out.shape[1]}, in {k} directions on "
            f"{len(out)} samples by reverse mode, need {need / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; pass fewer "
            "samples or a basis of fewer columns, or build the link from modules that have a rule"
        )
    return size


def _unit(like: Tensor, size: int) -> Tensor:
    """One row a pullback, the same for every sample: (size, B, size)."""
    return torch.eye(size, dtype=like.dtype, device=like.device)[:, None].expand(-1, len(like), -1)


def _entry(h: Tensor) -> Tensor:
    """The state as a node of its own: what was computed from h beside the link must not count as the link's."""
    return (h if h.requires_grad else h.detach().requires_grad_()).clone()


def _pull(out: Tensor, entry: Tensor, row: Tensor, keep: bool = True) -> Tensor:
    if not out.requires_grad:
        return torch.zeros_like(entry)
    (pulled,) = torch.autograd.grad(
        out, entry, row, create_graph=keep, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return pulled


def _pull_all(out: Tensor, entry: Tensor, rows: Tensor, keep: bool, chunk_size: int | None) -> Tensor:
    """Every row (r, B, n_out) pulled back from out to entry, (r, B, n)."""
    if not out.requires_grad:
        return entry.new_zeros(len(rows), len(entry), entry[0].numel())
    pieces = []
    for piece in torch.split(rows, chunk_size or len(rows)):
        try:
            (pulled,) = torch.autograd.grad(
                out, entry, piece, create_graph=keep, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        except (RuntimeError, NotImplementedError):  # operations that vmap cannot trace
            pulled = torch.stack([_pull(out, entry, row, keep) for row in piece])
        pieces.append(entry.new_zeros(len(piece), *entry.shape) if pulled is None else pulled)
    return torch.cat(pieces).reshape(len(rows), len(entry), -1)


def _agrees(link: Link, h: Tensor, columns: Tensor, rows: Tensor, cols: Tensor, bent: Tensor) -> bool:
    """<u, D²f(v, v)> by both modes: torch has operations whose forward formula is silently wrong."""
    with torch.no_grad():
        weights = torch.cos(torch.arange(1, len(columns) + 1, device=h.device)).to(h.dtype)
        u = torch.sin(torch.arange(1, bent.shape[2] + 1, device=h.device)).to(h.dtype)
        v = torch.tensordot(weights, columns.detach(), 1)
        twice = weights[rows] * weights[cols] * (1 + (rows != cols).to(h.dtype))
        one = (torch.tensordot(twice, bent.detach(), 1) * u).double()
    with torch.enable_grad():
        entry = _entry(h.detach())
        out = link(entry).reshape(len(h), -1)
        slope = _pull(out, entry, u.expand_as(out)).mul(v).reshape(len(h), -1)
        other = _pull(slope, entry, torch.ones_like(slope), False).mul(v).reshape(len(h), -1).double()
    tolerance = 1e3 * torch.finfo(h.dtype).eps * (one.abs().sum(-1) + other.abs().sum(-1))
    return bool(((one.sum(-1) - other.sum(-1)).abs() <= tolerance).all())


class _WrittenOut(TorchFunctionMode):
    """Layer, group and instance norm from their mean and variance, the determinant from its logarithm."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _WRITTEN_OUT.get(func, func)(*args, **(kwargs or {}))


def _det(A: Tensor) -> Tensor:
    sign, logarithm = torch.linalg.slogdet(A)
    found: Tensor = sign * logarithm.exp()
    return found


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    unit = _normalised(input, tuple(range(-len(normalized_shape), 0)), eps)
    unit = unit if weight is None else unit * weight
    return unit if bias is None else unit + bias


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    unit = _normalised(input.reshape(len(input), num_groups, -1), (-1,), eps).reshape(input.shape)
    channels = (-1, *[1] * (input.ndim - 2))
    unit = unit if weight is None else unit * weight.reshape(channels)
    return unit if bias is None else unit + bias.reshape(channels)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if running_mean is None:
        return _group_norm(input, input.shape[1], weight, bias, eps)
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _normalised(h: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = h - h.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)


_WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm, torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm, torch.group_norm: _group_norm, F.instance_norm: _instance_norm,
    torch.det: _det, torch.linalg.det: _det, Tensor.det: _det,
}  # fmt: skip
