"""Rules, how known kinds of links are linearized: the value and the Jacobian in one walk, exact and without autograd.

Any other link runs as it is and is differentiated automatically, also where it is a part of a known one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from labkit._automatic import on_a_copy, push_automatically, value_and_derivative

__all__ = [
    "AFFINE", "BATCH_NORM", "DROPOUT", "ELEMENTWISE", "IDENTITY", "IN_TURN", "LAYER_NORM", "LINEAR", "RELU", "TANH",
    "Frame", "Push", "Rule", "add_rule", "check_batched", "is_elementwise", "jacobian", "kind_of", "linearize", "push",
    "push_in_turn", "rule_of", "to_matrix",
]  # fmt: skip

Link = Callable[[Tensor], Tensor]
Frame = Tensor | None  # (B, n, k) columns; (B, n) a diagonal matrix; None the identity
_CONVOLUTIONS = (None, *(kind._conv_forward for kind in (_ConvNd, nn.Conv1d, nn.Conv2d, nn.Conv3d)))
Push = Callable[[Frame], Frame]  # partials of functions: the tests' shape checker compiles a closure at each call


@dataclass(frozen=True)
class Rule:
    """How a kind of link is linearized: exact, pure and free of automatic differentiation where that is cheaper.

    Attributes:
        linearize: (link, h, chunk_size) -> the value at h, and what pushes frames through the differential there.
        parts: the links that this one calls; it is pure only if they are.
        is_pure: whether the link, in its present mode, is deterministic, acts on each sample alone and writes nothing.
        shows_faults: whether NaN or Inf in a weight must show in the output; a later part may hide it.
    """

    linearize: Callable[[Any, Tensor, int | None], tuple[Tensor, Push]]
    parts: Callable[[Any], Iterable[Link]] = lambda link: ()
    is_pure: Callable[[Any], bool] = lambda link: True
    shows_faults: bool = True


def rule_of(link: Link) -> Rule | None:
    """The rule of a known link, None for any other: hooked, patched or overridden modules are not known."""
    return _RULES.get(kind_of(link))


def kind_of(link: Link) -> Any:
    """What rules are kept under: the `forward` of a module, the identity of a function, None for a hooked module."""
    if isinstance(link, nn.Module):
        hooked = link._forward_hooks or link._forward_pre_hooks
        kind: Any = type(link)  # mypy doubts that a class can be hashed
        return None if hooked or not _calls_forward(kind) else getattr(link.forward, "__func__", None)
    return id(link)


@cache
def _calls_forward(kind: type[nn.Module]) -> bool:
    """Whether a module of this kind does what its `forward` says; asked several times a link, so answered once."""
    return kind.__call__ is nn.Module.__call__ and getattr(kind, "_conv_forward", None) in _CONVOLUTIONS


def is_elementwise(link: Link) -> bool:
    """Whether the link is known to act on every entry by itself."""
    return rule_of(link) in (ELEMENTWISE, TANH, RELU)


def add_rule(module: type[nn.Module], rule: Rule) -> None:
    """Make a kind of module known; subclasses share the rule as long as they keep `forward`."""
    _RULES[module.forward] = rule


def linearize(link: Link, h: Tensor, chunk_size: int | None = None) -> tuple[Tensor, Push]:
    """The link's value at h (B, *s), and the function that pushes frames through its differential there.

    Args:
        link: a callable (B, *s) -> (B, *s').
        h: the state that enters.
        chunk_size: columns differentiated at once where there is no rule, all by default.

    Returns:
        The value (B, *s'), and the push. It maps frames to frames, each (B, n, k) columns, (B, n) for a diagonal
        matrix, or None for the identity, in the dtype of h.
    """
    rule = rule_of(link)
    if rule is not None:
        return rule.linearize(link, h, chunk_size)
    return on_a_copy(link)(h), lambda frame: push(link, h, frame, chunk_size)


def push(link: Link, h: Tensor, frame: Frame, chunk_size: int | None = None) -> Frame:
    """Push one frame through the link's differential at h: by its rule, else by automatic differentiation."""
    rule = rule_of(link)
    if rule is not None:
        return rule.linearize(link, h, chunk_size)[1](frame)
    link = on_a_copy(link)
    if frame is None or frame.ndim == 3:
        return push_automatically(link, h, frame, chunk_size)
    return push_automatically(link, h, None, chunk_size) * frame[:, None, :]


def jacobian(link: Link, h: Tensor, chunk_size: int | None = None) -> Tensor:
    """The link's Jacobian (B, n_out, n_in) at h; samples may share memory where it is the same for all.

    Example:
        >>> jacobian(torch.tanh, torch.zeros(1, 2))
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    return to_matrix(push(link, h, None, chunk_size), h)


def to_matrix(frame: Frame, h: Tensor) -> Tensor:
    """A frame in its widest form, (B, n, k); h says how large the identity is."""
    if frame is None:
        n = h.shape[1:].numel()
        return torch.eye(n, dtype=h.dtype, device=h.device).expand(h.shape[0], n, n)
    return torch.diag_embed(frame) if frame.ndim == 2 else frame


def _on_columns(matrix: Tensor, frame: Frame, batch: int) -> Tensor:
    """Compose a matrix (n_out, n) that all samples share, or one each, with a frame."""
    if frame is None:
        return matrix.clone().expand(batch, *matrix.shape[-2:])  # training may overwrite the weight
    return matrix * frame[:, None, :] if frame.ndim == 2 else matrix @ frame


def _in_turn(links: Iterable[Link], h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    pushes: list[Push] = []
    for link in links:
        h, push_part = linearize(link, h, chunk_size)
        pushes.append(push_part)
    return h, partial(push_in_turn, pushes)


def push_in_turn(pushes: Sequence[Push], frame: Frame) -> Frame:
    """Push a frame through differentials, first applied first."""
    for push_part in pushes:
        frame = push_part(frame)
    return frame


def _identity(link: Link, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    return link(h), lambda frame: frame


def _scaling(slope: Tensor) -> Push:
    """What multiplies every row of a frame by its entry of the slope (B, *s)."""
    return partial(_scale, slope if slope.ndim == 2 else slope.reshape(len(slope), -1))


def _scale(slope: Tensor, frame: Frame) -> Tensor:
    if frame is None:
        return slope
    return slope * frame if frame.ndim == 2 else slope[:, :, None] * frame


def _elementwise(link: Link, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    value, slope = value_and_derivative(link, h)
    return value, _scaling(slope)


def _tanh(link: Link, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    value = torch.tanh(h)
    return value, _scaling(1 - value * value)


def _relu(link: Link, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    return torch.relu(h), _scaling((h > 0).to(h.dtype))


def _linear(link: nn.Linear, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    return F.linear(h, link.weight, link.bias), partial(_push_linear, link.weight, h)


def _push_linear(weight: Tensor, h: Tensor, frame: Frame) -> Tensor:
    batch, tokens = h.shape[0], h.shape[1:-1].numel()
    if tokens == 1:
        return _on_columns(weight, frame, batch)
    if frame is None or frame.ndim == 2:
        return _on_columns(torch.kron(torch.eye(tokens, dtype=h.dtype, device=h.device), weight), frame, batch)
    pushed: Tensor = weight @ frame.reshape(batch, tokens, h.shape[-1], -1)
    return pushed.flatten(1, 2)


def _affine(link: nn.Module, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    """An affine map, a convolution say: its columns are the tangents of one batch, with no need of vmap."""
    check_batched(link, h)
    return link(h), partial(_push_affine, link, h, chunk_size)


def check_batched(link: nn.Module, h: Tensor) -> None:
    """Refuse a batch that a convolution would take for one image, its samples for channels."""
    if isinstance(link, _ConvNd) and h.ndim == len(link.kernel_size) + 1:
        raise ValueError(
            f"{type(link).__name__} takes a batch of shape {tuple(h.shape)} for one image; give (B, channels, …)"
        )


def _push_affine(link: nn.Module, h: Tensor, chunk_size: int | None, frame: Frame) -> Tensor:
    if frame is None or frame.ndim == 2:
        unit = torch.eye(h.shape[1:].numel(), dtype=h.dtype, device=h.device)
        return _on_columns(_tangents(link, unit, h.shape[1:], chunk_size).mT, frame, len(h))
    pushed = _tangents(link, frame.mT.flatten(0, 1), h.shape[1:], chunk_size and chunk_size * len(h))
    return pushed.reshape(len(h), -1, pushed.shape[1]).mT


def _tangents(link: nn.Module, rows: Tensor, shape: torch.Size, at_once: int | None) -> Tensor:
    """The rows (m, n), states of this shape, as directions pushed through an affine map, (m, n_out)."""
    states = [piece.reshape(-1, *shape) for piece in torch.split(rows, at_once or len(rows))]
    return torch.cat([jvp(link, (torch.zeros_like(s),), (s,))[1].flatten(1) for s in states])


def _layer_norm(link: nn.LayerNorm, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    value = link(h)  # first, for its own words where the shape is wrong
    width = torch.Size(link.normalized_shape).numel()
    rows = h.reshape(len(h), h.shape[1:].numel() // width, width)
    variance, mean = torch.var_mean(rows, -1, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + link.eps)
    unit = ((rows - mean) * scale)[..., None]
    gain = scale[..., None] if link.weight is None else link.weight.reshape(-1, 1) * scale[..., None]
    return value, partial(_push_layer_norm, unit, gain)


def _push_layer_norm(unit: Tensor, gain: Tensor, frame: Frame) -> Tensor:
    """Through groups of entries normalised to `unit` (B, groups, width, 1), by a gain that broadcasts with it."""
    batch, groups, width, _ = unit.shape
    if frame is not None and frame.ndim == 3:
        columns = frame.reshape(batch, groups, width, frame.shape[2])
        columns = columns - columns.mean(2, keepdim=True) - unit * (unit.mT @ columns / width)
        return (gain * columns).flatten(1, 2)
    centring = torch.eye(width, dtype=unit.dtype, device=unit.device) - 1 / width
    blocks = gain * (centring - unit @ unit.mT / width)
    dense = torch.diag_embed(blocks.movedim(1, -1)).permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)
    return _on_columns(dense, frame, batch)


IN_TURN = Rule(_in_turn, parts=lambda link: link, shows_faults=False)
ELEMENTWISE = Rule(_elementwise, is_pure=lambda link: not getattr(link, "__dict__", {}).get("inplace", False))
TANH = Rule(_tanh)
RELU = Rule(_relu, is_pure=ELEMENTWISE.is_pure)
IDENTITY = Rule(_identity)
AFFINE = Rule(_affine)
LINEAR = Rule(_linear)
LAYER_NORM = Rule(_layer_norm)
DROPOUT = Rule(_identity, is_pure=lambda link: not link.training)
BATCH_NORM = Rule(_elementwise, is_pure=lambda link: not link.training and link.running_mean is not None)

_RULES: dict[Any, Rule] = {
    nn.Linear.forward: LINEAR,
    nn.LayerNorm.forward: LAYER_NORM,
    nn.Sequential.forward: IN_TURN,
    nn.Dropout.forward: DROPOUT,
    nn.BatchNorm1d.forward: BATCH_NORM,
    nn.Tanh.forward: TANH,
    nn.ReLU.forward: RELU,
}
_RULES |= {kind.forward: IDENTITY for kind in (nn.Identity, nn.Flatten, nn.Unflatten)}
_RULES |= {
    kind.forward: AFFINE
    for kind in (
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
        nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d,
    )
}  # fmt: skip
_RULES |= {
    kind.forward: ELEMENTWISE
    for kind in (
        nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Mish,
        nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.PReLU,
    )
}  # fmt: skip
_RULES |= {
    id(function): ELEMENTWISE
    for function in (
        torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.erf, torch.square,
        F.sigmoid, F.gelu, F.silu, F.softplus, F.leaky_relu, F.elu, F.selu, F.mish, F.softsign,
    )
}  # fmt: skip
_RULES |= {id(torch.tanh): TANH, id(F.tanh): TANH, id(torch.relu): RELU, id(F.relu): RELU}
