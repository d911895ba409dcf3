"""A jet, the second-order Taylor expansion of a chain at x in a k-frame: what every curvature is made of.

It is folded link by link, D²f ← D²f_l(J·, J·) + J_l D²f, so that every depth comes from one pass and its parts sum.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from labkit import _preflight as preflight
from labkit._automatic import forward_mode_allowed
from labkit._basis import orthonormal
from labkit._jet_rules import Pairs, push_jet
from labkit._kinks import check_kinks
from labkit._memory import check_jet_memory

__all__ = ["Jet", "expand"]

Link = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Jet:
    """Value, first and second derivative of a chain at a batch of points along the columns of a basis.

    Attributes:
        value: the flattened state, (B, n).
        first: Df along each column, (B, n, k).
        second: D²f along each pair of columns, (B, n, k, k), symmetric in the last two.
        parts: what each link adds to `second` (Faà di Bruno), (L, B, n, k, k), first applied first; it sums to
            `second` over L. None unless asked for by link.

    Example:
        >>> from labkit import Chain
        >>> jet = Chain([torch.nn.Linear(3, 4), torch.tanh]).jet(torch.randn(5, 3))
        >>> jet.value.shape, jet.first.shape, jet.second.shape
        (torch.Size([5, 4]), torch.Size([5, 4, 3]), torch.Size([5, 4, 3, 3]))
    """

    value: Float[Tensor, "batch n"]
    first: Float[Tensor, "batch n k"]
    second: Float[Tensor, "batch n k k"]
    parts: Float[Tensor, "links batch n k k"] | None = None


def expand(
    links: Sequence[Link],
    names: Sequence[str],
    x: Tensor,
    basis: Tensor | None,
    by_link: bool,
    kinks: str,
    chunk_size: int | None,
) -> Iterator[Callable[[], Jet]]:
    """What makes the jet at every depth 0 … L; all checks come at the call, `Chain.jet` has the arguments.

    Example:
        >>> jets = expand([torch.sin], ["sin"], torch.zeros(1, 2), None, False, "refuse", None)
        >>> [make().first.shape for make in jets]  # made one by one, at depths 0 and 1
        [torch.Size([1, 2, 2]), torch.Size([1, 2, 2])]
    """
    if kinks not in ("refuse", "ignore"):
        raise ValueError(f'kinks is {kinks!r}; pass "refuse" or "ignore"')
    context = preflight.no_gradients if torch.is_inference_mode_enabled() else nullcontext
    with context():
        x, kinds = preflight.start(links, names, x, chunk_size)
        n_0 = x.shape[1:].numel()
        frame = None if basis is None else orthonormal(basis, n_0, len(x), x.device).to(x)
        unknown = [index for index, (known, _) in enumerate(kinds) if not known]
        with preflight.leave_as_it_was([links[index] for index in unknown], x), forward_mode_allowed():
            states = preflight.evaluate(links, names, x)
            preflight.check_finite(links, names, states)
            for index in unknown:
                preflight.check_purity(links[index], names[index], *states[index : index + 2])
            for link, name, h in zip(links, names, states, strict=False):
                if kinks == "refuse":
                    check_kinks(link, name, h)
            k = n_0 if frame is None else frame.shape[2]
            keeps_graph = states[-1].requires_grad or (frame is not None and frame.requires_grad)
            check_jet_memory(links, states, k, by_link, keeps_graph)
        if frame is None:
            frame = torch.eye(n_0, dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    pairs = Pairs.of(k, x.device, chunk_size)
    fold = _fold(links, names, states, frame, pairs, by_link)

    def steps() -> Iterator[Callable[[], Jet]]:
        for state in states:
            with context(), preflight.leave_as_it_was(links, x):
                columns = next(fold)
            yield partial(_jet, state, columns, pairs, by_link, context)

    return steps()


def _fold(
    links: Sequence[Link],
    names: Sequence[str],
    states: Sequence[Tensor],
    basis: Float[Tensor, "batch n_0 k"],
    pairs: Pairs,
    by_link: bool,
) -> Iterator[Tensor]:
    """The 2-jet (c, B, *s) at every depth, as `Pairs` lays it out; by link one group of second derivatives each."""
    x = states[0]
    columns = basis.permute(2, 0, 1).reshape(-1, *x.shape)
    if not by_link:
        columns = torch.cat([columns, x.new_zeros(len(pairs), *x.shape)])
    yield columns
    for link, name, h in zip(links, names, states, strict=False):
        if by_link:
            columns = torch.cat([columns, h.new_zeros(len(pairs), *h.shape)])
        try:
            _, columns = push_jet(link, h, columns, pairs)
        except NotImplementedError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"link '{name}' cannot be differentiated twice ({reason}); write it in operations that can"
            ) from error
        preflight.check_derivative(name, columns.movedim(1, 0))
        yield columns


def _jet(
    state: Tensor, columns: Tensor, pairs: Pairs, by_link: bool, context: Callable[[], AbstractContextManager[None]]
) -> Jet:
    with context():
        flat = columns.reshape(*columns.shape[:2], -1)
        groups = flat[pairs.k :].reshape((len(flat) - pairs.k) // len(pairs), len(pairs), *flat.shape[1:])
        parts = groups[:, pairs.table()].permute(0, 3, 4, 1, 2)
        second = parts.sum(0) if by_link else parts[0]
        return Jet(state.reshape(len(state), -1), flat[: pairs.k].permute(1, 2, 0), second, parts if by_link else None)
