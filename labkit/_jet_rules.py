"""Jet rules, how known kinds of links push a 2-jet: exact, in one walk, and without autograd.

Any other link is differentiated twice automatically, also where it is a part of a known one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional as F

from labkit import _rules as rules
from labkit._automatic import on_a_copy, push_automatically, value_and_derivative
from labkit._bending import bend_automatically, second_derivative

__all__ = ["ELEMENTWISE", "JetRule", "Pairs", "add_jet_rule", "jet_rule_of", "push_jet", "softmax_attention"]

Link = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """How the columns of a 2-jet (c, B, *s) are laid out: k first derivatives, then second ones, a pair i <= j each.

    Second derivatives come in groups of one column a pair; a link pushes all groups and adds its own to the last.

    Attributes:
        k: the number of first derivatives.
        rows: i of every pair, (m,).
        cols: j of every pair, (m,).
        chunk_size: columns that a link without a rule is differentiated along at once; all where it is None.
    """

    k: int
    rows: Tensor
    cols: Tensor
    chunk_size: int | None = None

    @classmethod
    def of(cls, k: int, device: torch.device, chunk_size: int | None = None) -> "Pairs":
        """All pairs of k columns."""
        rows, cols = torch.triu_indices(k, k, device=device)
        return cls(k, rows, cols, chunk_size)

    def __len__(self) -> int:
        return len(self.rows)

    def of_first(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The first derivatives by i and by j of every pair, (m, B, *s) each."""
        return columns.index_select(0, self.rows), columns.index_select(0, self.cols)

    def table(self) -> Tensor:
        """(k, k), which pair an entry of a symmetric matrix belongs to."""
        found = torch.zeros(self.k, self.k, dtype=torch.long, device=self.rows.device)
        found[self.rows, self.cols] = found[self.cols, self.rows] = torch.arange(len(self), device=self.rows.device)
        return found


PushJet = Callable[[Any, Tensor, Tensor, Pairs], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class JetRule:
    """How a kind of link pushes a 2-jet.

    Attributes:
        push: (link, h, columns, pairs) -> the value at h, and the columns behind the link.
        smooth: whether the link has no kink, given that its parts have none; None where only a probe can tell.
        methods: what a subclass must keep besides `forward` for the rule to hold.
    """

    push: PushJet
    smooth: bool | None = True
    methods: tuple[Callable[..., Any], ...] = ()


def jet_rule_of(link: Link) -> JetRule | None:
    """The rule of a known link, None for any other: hooked, patched or overridden modules are not known."""
    rule = _BY_KIND.get(rules.kind_of(link)) or _BY_RULE.get(rules.rule_of(link))
    return rule if rule and all(getattr(type(link), m.__name__) is m for m in rule.methods) else None


def add_jet_rule(module: type[nn.Module], rule: JetRule) -> None:
    """Make a kind of module known; subclasses share the rule as long as they keep `forward`."""
    _BY_KIND[module.forward] = rule


def push_jet(link: Link, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The link's value at h (B, *s), and the 2-jet (c, B, *s) pushed through the link, (c, B, *s')."""
    rule = jet_rule_of(link)
    if rule is not None:
        return rule.push(link, h, columns, pairs)
    link = on_a_copy(link)
    value = link(h)
    flat = columns.reshape(*columns.shape[:2], -1).permute(1, 2, 0)
    pushed = push_automatically(link, h, flat, pairs.chunk_size).permute(2, 0, 1).reshape(-1, *value.shape)
    own = bend_automatically(link, h, columns[: pairs.k], pairs.rows, pairs.cols, pairs.chunk_size)
    return value, _add_own(pushed, own.reshape(-1, *value.shape))


def _add_own(columns: Tensor, own: Tensor) -> Tensor:
    """Columns, with a second derivative added to the last group."""
    return torch.cat([columns[: -len(own)], columns[-len(own) :] + own])


def _scale(value: Tensor, slope: Tensor, bend: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """An elementwise function: J <- phi' J and H <- phi' H + phi'' J J."""
    one, other = pairs.of_first(columns)
    return value, _add_own(slope * columns, bend * one * other)


def _elementwise(link: Link, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    return _scale(*second_derivative(link, h), columns, pairs)


def _tanh(link: Link, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    value = torch.tanh(h)
    slope = 1 - value * value
    return _scale(value, slope, -2 * value * slope, columns, pairs)


def _relu(link: Link, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    return torch.relu(h), (h > 0).to(h.dtype) * columns


def _linear(link: nn.Linear, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    weight = link.weight
    return F.linear(h, weight, link.bias), F.linear(columns, weight)


def _affine(link: nn.Module, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    rules.check_batched(link, h)
    pieces = torch.split(columns, pairs.chunk_size or len(columns))
    return link(h), torch.cat([_tangents(link, piece) for piece in pieces])


def _tangents(link: nn.Module, columns: Tensor) -> Tensor:
    states = columns.flatten(0, 1)
    pushed: Tensor = jvp(link, (torch.zeros_like(states),), (states,))[1]
    return pushed.reshape(*columns.shape[:2], *pushed.shape[1:])


def _identity(link: Link, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    value = link(h)
    return value, columns.reshape(len(columns), *value.shape)


def _batch_norm(link: nn.Module, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    value, slope = value_and_derivative(link, h)
    return value, slope * columns


def _in_turn(links: Any, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    for link in links:
        h, columns = push_jet(link, h, columns, pairs)
    return h, columns


def _layer_norm(link: nn.LayerNorm, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """u = s (h - mean h), b = s (J - mean J), p = mean(u b): Du = b - u p, D²u = u (3pp' - mean bb') - p b' - p' b."""
    value = link(h)  # first, for its own words where the shape is wrong
    axes = tuple(range(-len(link.normalized_shape), 0))
    variance, mean = torch.var_mean(h, axes, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + link.eps)
    unit = (h - mean) * scale
    b = (columns - columns.mean(axes, keepdim=True)) * scale
    p = (unit * b).mean(axes, keepdim=True)
    (b_i, b_j), (p_i, p_j) = pairs.of_first(b), pairs.of_first(p)
    own = unit * (3 * p_i * p_j - (b_i * b_j).mean(axes, keepdim=True)) - p_i * b_j - p_j * b_i
    pushed = _add_own(b - unit * p, own)
    return value, pushed if link.weight is None else link.weight * pushed


def softmax_attention(link: Any, h: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Multi-head softmax attention with affine maps `qkv` and `out`, `heads` and a `causal` mask."""

    def split(joined: Tensor) -> tuple[Tensor, ...]:
        return tuple(joined.reshape(*joined.shape[:-1], 3, link.heads, -1).movedim(-3, 0).transpose(-2, -3))

    (query, key, value), (d_query, d_key, d_value) = map(split, push_jet(link.qkv, h, columns, pairs))
    key, d_key = key.mT / math.sqrt(key.shape[-1]), d_key.mT / math.sqrt(key.shape[-1])
    logits, d_logits = _product(query, d_query, key, d_key, pairs)
    if link.causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=h.device).triu(1)
        logits = logits.masked_fill(later, -math.inf)
    weights, d_weights = _softmax(logits, d_logits, pairs)
    mixed, d_mixed = _product(weights, d_weights, value, d_value, pairs)
    return push_jet(link.out, mixed.transpose(1, 2).flatten(2), d_mixed.transpose(2, 3).flatten(3), pairs)


def _product(a: Tensor, d_a: Tensor, b: Tensor, d_b: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The matrix product a b and its 2-jet: Leibniz' rule."""
    (a_i, a_j), (b_i, b_j) = pairs.of_first(d_a), pairs.of_first(d_b)
    return a @ b, _add_own(d_a @ b + a @ d_b, a_i @ b_j + a_j @ b_i)


def _softmax(logits: Tensor, columns: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """A = softmax(z): d log A = dz - <A, dz> =: e, and D²A / A adds e e' - <A, e e'>."""
    weights = logits.softmax(-1)
    e = columns - (weights * columns).sum(-1, keepdim=True)
    e_i, e_j = pairs.of_first(e)
    square = e_i * e_j
    return weights, weights * _add_own(e, square - (weights * square).sum(-1, keepdim=True))


ELEMENTWISE = JetRule(_elementwise, smooth=None)
_BY_RULE: dict[rules.Rule | None, JetRule] = {
    rules.ELEMENTWISE: ELEMENTWISE,
    rules.TANH: JetRule(_tanh),
    rules.RELU: JetRule(_relu, smooth=False),
    rules.LINEAR: JetRule(_linear),
    rules.AFFINE: JetRule(_affine),
    rules.IDENTITY: JetRule(_identity),
    rules.DROPOUT: JetRule(_identity),
    rules.BATCH_NORM: JetRule(_batch_norm),
    rules.LAYER_NORM: JetRule(_layer_norm),
    rules.IN_TURN: JetRule(_in_turn),
}
_ANALYTIC = (
    nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Mish, nn.LogSigmoid, nn.Tanhshrink,
    torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.erf, torch.square,
    F.sigmoid, F.gelu, F.silu, F.softplus, F.mish,
)  # fmt: skip
_KINKED = (nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, F.leaky_relu)
_BY_KIND: dict[Any, JetRule] = {
    getattr(kind, "forward", id(kind)): JetRule(_elementwise, smooth)
    for kinds, smooth in ((_ANALYTIC, True), (_KINKED, False))
    for kind in kinds
}
