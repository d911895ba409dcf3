"""Links, the maps a chain is made of: two modules that networks are built from, and how a known link pushes a frame.

A link maps (B, *s) to (B, *s'), sample by sample; its Jacobian is flattened to (B, n_out, n_in).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional as F

from labkit._automatic import derivative, push_automatically

__all__ = ["IN_TURN", "Layer", "Residual", "Rule", "add_rule", "jacobian", "push", "push_columns", "rule_of"]

Link = Callable[[Tensor], Tensor]
Frame = Tensor | None  # (B, n, k) columns; (B, n) a diagonal matrix; None the identity


class Layer(nn.Module):
    """One layer seen from pre-activation to pre-activation, `h -> W phi(h) + b`.

    Args:
        linear: the affine map that follows the activation.
        activation: an elementwise callable, or None for a plain affine layer.

    Raises:
        ValueError: if the activation mixes the entries of its input, as softmax does.

    Example:
        >>> layer = Layer(nn.Linear(3, 2), torch.tanh)
        >>> layer(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, linear: nn.Linear, activation: Link | None = None):
        super().__init__()
        if activation is not None and not _is_elementwise(activation, linear):
            raise ValueError(
                f"activation must act on each entry by itself, but {activation!r} mixes them; "
                "make it a link of its own instead"
            )
        self.linear = linear
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        """Map pre-activations (B, *, n_in) to (B, *, n_out)."""
        return self.linear(h if self.activation is None else self.activation(h))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A block with a skip connection, `h -> h + scale * branch(h)`; the branch keeps the shape.

    Args:
        branch: the residual branch.
        scale: a number, or a tensor that broadcasts against the branch; a Parameter is trained.

    Example:
        >>> block = Residual(nn.Tanh(), scale=0.5)
        >>> block(torch.zeros(5, 3)).shape
        torch.Size([5, 3])
    """

    def __init__(self, branch: nn.Module, scale: float | Tensor = 1.0):
        super().__init__()
        self.branch = branch
        self.scale: float | Tensor
        if isinstance(scale, Tensor) and not isinstance(scale, nn.Parameter):
            self.register_buffer("scale", scale)
        else:
            self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, *s) to (B, *s)."""
        branch: Tensor = self.branch(h)
        return h + branch if isinstance(self.scale, float) and self.scale == 1.0 else h + self.scale * branch


@dataclass(frozen=True)
class Rule:
    """How a kind of link pushes a frame: exact, pure and free of automatic differentiation where that is cheaper.

    Attributes:
        push: (link, h, frame, chunk_size) -> frame.
        parts: the links that this one calls; it is pure only if they are.
        is_pure: whether the link, in its present mode, is deterministic, acts on each sample alone and writes nothing.
        shows_faults: whether NaN or Inf in a weight must show in the output; a later part may hide it.
    """

    push: Callable[[Any, Tensor, Frame, int | None], Frame]
    parts: Callable[[Any], Iterable[Link]] = lambda link: ()
    is_pure: Callable[[Any], bool] = lambda link: True
    shows_faults: bool = True


def rule_of(link: Link) -> Rule | None:
    """The rule of a known link, None for any other: hooked, patched or overridden modules are not known."""
    if isinstance(link, nn.Module):
        if link._forward_hooks or link._forward_pre_hooks:
            return None
        return _RULES.get(getattr(link.forward, "__func__", None))
    return _ELEMENTWISE if id(link) in _FUNCTIONS else None


def add_rule(module: type[nn.Module], rule: Rule) -> None:
    """Make a kind of module known; subclasses share the rule as long as they keep `forward`."""
    _RULES[module.forward] = rule


def push(link: Link, h: Tensor, frame: Frame, chunk_size: int | None = None) -> Frame:
    """Push a frame through the link's differential at h: by its rule, else by automatic differentiation.

    Args:
        link: a callable (B, *s) -> (B, *s').
        h: the state (B, *s) that enters.
        frame: (B, n, k) columns, (B, n) for a diagonal matrix, or None for the identity.
        chunk_size: columns differentiated at once, all by default.

    Returns:
        The pushed frame in one of the three forms, in the dtype of h.
    """
    rule = rule_of(link)
    if rule is not None:
        return rule.push(link, h, frame, chunk_size)
    if frame is None or frame.ndim == 3:
        return push_automatically(link, h, frame, chunk_size)
    return push_automatically(link, h, None, chunk_size) * frame[:, None, :]


def push_columns(link: Link, h: Tensor, columns: Tensor, chunk_size: int | None = None) -> Tensor:
    """`push` of columns (B, n, k), which come out as columns (B, n_out, k)."""
    pushed = push(link, h, columns, chunk_size)
    assert pushed is not None  # only the identity is ever None
    return pushed


def jacobian(link: Link, h: Tensor, chunk_size: int | None = None) -> Tensor:
    """The link's Jacobian (B, n_out, n_in) at h; samples may share memory where it is the same for all.

    Example:
        >>> jacobian(torch.tanh, torch.zeros(1, 2))
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    return _dense(push(link, h, None, chunk_size), h)


def _dense(frame: Frame, h: Tensor) -> Tensor:
    if frame is None:
        n = h[0].numel()
        return torch.eye(n, dtype=h.dtype, device=h.device).expand(h.shape[0], n, n)
    return torch.diag_embed(frame) if frame.ndim == 2 else frame


def _on_columns(matrix: Tensor, frame: Frame, batch: int) -> Tensor:
    """Compose a matrix (n_out, n) that all samples share, or one each, with a frame."""
    if frame is None:
        return matrix.expand(batch, *matrix.shape[-2:])
    return matrix * frame[:, None, :] if frame.ndim == 2 else matrix @ frame


def _push_identity(link: Link, h: Tensor, frame: Frame, chunk_size: int | None) -> Frame:
    return frame


def _push_elementwise(link: Link, h: Tensor, frame: Frame, chunk_size: int | None) -> Tensor:
    slope = derivative(link, h).reshape(h.shape[0], -1)
    if frame is None:
        return slope
    return slope * frame if frame.ndim == 2 else slope[:, :, None] * frame


def _push_linear(link: nn.Linear, h: Tensor, frame: Frame, chunk_size: int | None) -> Tensor:
    weight, tokens = link.weight, h[0].numel() // link.in_features
    if tokens == 1:
        return _on_columns(weight, frame, h.shape[0])
    if frame is None or frame.ndim == 2:
        return _on_columns(torch.kron(torch.eye(tokens, dtype=h.dtype, device=h.device), weight), frame, h.shape[0])
    pushed: Tensor = weight @ frame.reshape(len(h), tokens, link.in_features, -1)
    return pushed.flatten(1, 2)


def _push_affine(link: nn.Module, h: Tensor, frame: Frame, chunk_size: int | None) -> Tensor:
    """An affine map, a convolution say: its columns are the tangents of one batch, with no need of vmap."""
    if frame is None or frame.ndim == 2:
        unit = torch.eye(h[0].numel(), dtype=h.dtype, device=h.device)
        return _on_columns(_affine_columns(link, h, unit, chunk_size).mT, frame, h.shape[0])
    columns = _affine_columns(link, h, frame.mT.flatten(0, 1), chunk_size and chunk_size * h.shape[0])
    return columns.reshape(len(h), -1, columns.shape[1]).mT


def _affine_columns(link: nn.Module, h: Tensor, rows: Tensor, chunk_size: int | None) -> Tensor:
    """Send rows (r, n), read as states, through the linear part of an affine map: (r, n_out)."""
    states = [piece.reshape(-1, *h.shape[1:]) for piece in torch.split(rows, chunk_size or len(rows))]
    return torch.cat([jvp(link, (torch.zeros_like(s),), (s,))[1].flatten(1) for s in states])


def _push_layer_norm(link: nn.LayerNorm, h: Tensor, frame: Frame, chunk_size: int | None) -> Tensor:
    size = h[0].numel()
    width = torch.Size(link.normalized_shape).numel()
    rows = h.reshape(h.shape[0], size // width, width)
    variance, mean = torch.var_mean(rows, -1, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + link.eps)
    unit = ((rows - mean) * scale)[..., None]
    gain = scale[..., None] if link.weight is None else link.weight.reshape(-1, 1) * scale[..., None]
    if frame is not None and frame.ndim == 3:
        columns = frame.reshape(len(h), -1, width, frame.shape[2])
        columns = columns - columns.mean(2, keepdim=True) - unit * (unit.mT @ columns / width)
        pushed: Tensor = gain * columns
        return pushed.flatten(1, 2)
    centring = torch.eye(width, dtype=h.dtype, device=h.device) - 1 / width
    blocks = gain * (centring - unit @ unit.mT / width)
    dense = torch.diag_embed(blocks.movedim(1, -1)).permute(0, 3, 1, 4, 2).reshape(-1, size, size)
    return _on_columns(dense, frame, h.shape[0])


def _push_residual(link: Residual, h: Tensor, frame: Frame, chunk_size: int | None) -> Tensor:
    branch = push(link.branch, h, frame, chunk_size)
    if branch is None:
        branch = torch.ones_like(h).reshape(len(h), -1)
    skip = _skip(frame, h, diagonal=branch.ndim == 2)
    scale = link.scale
    if not isinstance(scale, Tensor):
        return torch.add(skip, branch, alpha=scale)
    if scale.numel() > 1:
        scale = scale.expand(h.shape).reshape(h.shape[0], -1)
        scale = scale if branch.ndim == 2 else scale[:, :, None]
    return torch.addcmul(skip, branch, scale.reshape(()) if scale.numel() == 1 else scale)


def _skip(frame: Frame, h: Tensor, diagonal: bool) -> Tensor:
    if diagonal:
        return torch.ones_like(h).reshape(len(h), -1) if frame is None else frame
    return _dense(frame, h)


def _push_in_turn(link: Iterable[Link], h: Tensor, frame: Frame, chunk_size: int | None) -> Frame:
    parts = list(link)
    for index, part in enumerate(parts):
        frame = push(part, h, frame, chunk_size)
        if index < len(parts) - 1:
            h = part(h.clone() if getattr(part, "inplace", False) else h)
    return frame


def _layer_parts(link: Layer) -> list[Link]:
    return [link.linear] if link.activation is None else [link.activation, link.linear]


def _push_layer(link: Layer, h: Tensor, frame: Frame, chunk_size: int | None) -> Frame:
    if link.activation is None:
        return push(link.linear, h, frame, chunk_size)
    frame = _push_elementwise(link.activation, h, frame, chunk_size)
    # a plain linear map needs no more than the shape of its input
    value = h if rule_of(link.linear) is not None else link.activation(h)
    return push(link.linear, value, frame, chunk_size)


def _is_elementwise(activation: Link, linear: nn.Linear) -> bool:
    if rule_of(activation) is _ELEMENTWISE:
        return True
    probe = torch.linspace(-1.5, 2.0, linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
    with torch.no_grad():
        whole = activation(probe.repeat(2, 1))
        parts = torch.cat([activation(probe[None, i : i + 1]) for i in range(len(probe))], 1)
    return whole.shape == (2, len(probe)) and torch.allclose(whole, parts.expand(2, -1), rtol=1e-3, equal_nan=True)


_IDENTITY = Rule(_push_identity)
_ELEMENTWISE = Rule(_push_elementwise, is_pure=lambda link: not getattr(link, "__dict__", {}).get("inplace", False))
_AFFINE = Rule(_push_affine)
IN_TURN = Rule(_push_in_turn, parts=lambda link: link, shows_faults=False)

_RULES: dict[Any, Rule] = {
    nn.Linear.forward: Rule(_push_linear),
    nn.LayerNorm.forward: Rule(_push_layer_norm),
    nn.Sequential.forward: IN_TURN,
    nn.Dropout.forward: Rule(_push_identity, is_pure=lambda link: not link.training),
    nn.BatchNorm1d.forward: Rule(
        _push_elementwise, is_pure=lambda link: not link.training and link.running_mean is not None
    ),
    Layer.forward: Rule(_push_layer, _layer_parts),
    Residual.forward: Rule(_push_residual, lambda link: (link.branch,)),
}
_RULES |= {kind.forward: _IDENTITY for kind in (nn.Identity, nn.Flatten, nn.Unflatten)}
_RULES |= {
    kind.forward: _AFFINE
    for kind in (
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
        nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.ZeroPad2d,
    )
}  # fmt: skip
_RULES |= {
    kind.forward: _ELEMENTWISE
    for kind in (
        nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Mish,
        nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.PReLU,
    )
}  # fmt: skip
_FUNCTIONS = {
    id(function)
    for function in (
        torch.tanh, torch.relu, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.erf, torch.square,
        F.tanh, F.relu, F.sigmoid, F.gelu, F.silu, F.softplus, F.leaky_relu, F.elu, F.selu, F.mish, F.softsign,
    )
}  # fmt: skip
