"""Links, the maps a chain is made of: the two modules that networks are built from, and their rules.

A link maps (B, *s) to (B, *s'), sample by sample; its Jacobian is flattened to (B, n_out, n_in).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from labkit import _jet_rules as jets
from labkit._rules import (
    ELEMENTWISE,
    Frame,
    Push,
    Rule,
    add_rule,
    is_elementwise,
    linearize,
    push_in_turn,
    rule_of,
    to_matrix,
)

__all__ = ["Layer", "Residual"]

Link = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """One layer seen from pre-activation to pre-activation, `h -> W phi(h) + b`.

    Args:
        linear: the affine map that follows the activation.
        activation: an elementwise callable, or None for a plain affine layer.

    Raises:
        ValueError: if the activation mixes the entries of its input, as softmax does, or treats them differently.

    Example:
        >>> layer = Layer(nn.Linear(3, 2), torch.tanh)
        >>> layer(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, linear: nn.Linear, activation: Link | None = None):
        super().__init__()
        if activation is not None and not _is_elementwise(activation, linear):
            raise ValueError(
                f"activation must act on each entry by itself and on all alike, but {activation!r} does not; "
                "make it a link of its own instead"
            )
        self.linear = linear
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        """Map pre-activations (B, *, n_in) to (B, *, n_out)."""
        return self.linear(h if self.activation is None else self.activation(h))  # type: ignore[no-any-return]  # torch types a module's call as Any


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
        return self._add(h, self.branch(h.clone()))  # which an in-place branch may overwrite

    def _add(self, h: Tensor, branch: Tensor) -> Tensor:
        """The skip connection and the branch's value, together."""
        return h + branch if isinstance(self.scale, float) and self.scale == 1.0 else h + self.scale * branch


def _is_elementwise(activation: Link, linear: nn.Linear) -> bool:
    if is_elementwise(activation):
        return True
    probe = torch.linspace(-1.5, 2.0, linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
    rows = torch.stack([probe, 0.3 - probe])  # that differ, for what mixes along other axes than the last
    try:
        with torch.no_grad():
            whole = activation(rows.clone())
            parts = torch.cat([activation(entry.reshape(1, 1).clone()) for entry in rows.flatten()]).reshape(rows.shape)
    except (RuntimeError, ValueError, IndexError):  # made for this width only, as a batch norm is
        return False
    return whole.shape == rows.shape and torch.allclose(whole, parts, rtol=1e-3, equal_nan=True)


def _linearize_layer(link: Layer, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    if link.activation is None:
        return linearize(link.linear, h, chunk_size)
    rule = rule_of(link.activation) or ELEMENTWISE  # an unknown function was found elementwise when the layer was made
    value, push_activation = rule.linearize(link.activation, h, chunk_size)
    out, push_linear = linearize(link.linear, value, chunk_size)
    return out, partial(push_in_turn, (push_activation, push_linear))


def _linearize_residual(link: Residual, h: Tensor, chunk_size: int | None) -> tuple[Tensor, Push]:
    value, push_branch = linearize(link.branch, h, chunk_size)
    scale = link.scale
    if isinstance(scale, Tensor):
        scale = scale.expand(h.shape).reshape(h.shape[0], -1) if scale.numel() > 1 else scale.reshape(())

    return link._add(h, value), partial(_push_both, push_branch, scale, h)


def _push_both(push_branch: Push, scale: float | Tensor, h: Tensor, frame: Frame) -> Tensor:
    """The skip connection and the scaled branch, together."""
    branch = _to_diagonal(push_branch(frame), h)
    skip = _to_diagonal(frame, h) if branch.ndim == 2 else to_matrix(frame, h)
    if not isinstance(scale, Tensor):
        return torch.add(skip, branch, alpha=scale)
    return torch.addcmul(skip, branch, scale if scale.ndim == 0 or branch.ndim == 2 else scale[:, :, None])


def _layer_parts(link: Layer) -> list[Link]:
    return [link.linear] if link.activation is None else [link.activation, link.linear]


def _to_diagonal(frame: Frame, h: Tensor) -> Tensor:
    return h.new_ones(h.shape[0], h.shape[1:].numel()) if frame is None else frame


def _jet_of_layer(link: Layer, h: Tensor, columns: Tensor, pairs: jets.Pairs) -> tuple[Tensor, Tensor]:
    if link.activation is not None:
        rule = jets.jet_rule_of(link.activation) or jets.ELEMENTWISE
        h, columns = rule.push(link.activation, h, columns, pairs)
    return jets.push_jet(link.linear, h, columns, pairs)


def _jet_of_residual(link: Residual, h: Tensor, columns: Tensor, pairs: jets.Pairs) -> tuple[Tensor, Tensor]:
    value, branch = jets.push_jet(link.branch, h, columns, pairs)
    return link._add(h, value), link._add(columns, branch)


add_rule(Layer, Rule(_linearize_layer, parts=_layer_parts))
add_rule(Residual, Rule(_linearize_residual, parts=lambda link: [link.branch]))
jets.add_jet_rule(Layer, jets.JetRule(_jet_of_layer))
jets.add_jet_rule(Residual, jets.JetRule(_jet_of_residual, methods=(Residual._add,)))
