"""A chain, a network as a composition of links f = f_L ∘ … ∘ f_1, the one object that all of labkit works on.

It evaluates, slices and adds; its states and its linearization at x are what geometry measures.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn

from labkit import _preflight as preflight
from labkit import _rules as rules
from labkit._automatic import forward_mode_allowed, pull_automatically
from labkit._kinks import is_smooth
from labkit._memory import check_memory
from labkit.jets import Jet, expand
from labkit.linearization import Jacobian, Linearization

__all__ = ["Chain", "LinkReport"]

Link = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LinkReport:
    """What `Chain.inspect` finds out about one link.

    Attributes:
        name: the link's name.
        shape_in: the shape (B, *s) of the state that enters.
        shape_out: the shape (B, *s') of the state that leaves.
        known: whether a rule gives its Jacobian, rather than automatic differentiation.
        smooth: whether second differences around the state show no kink.
        batch_coupled: whether one sample changes the output of another.
        stochastic: whether two runs differ.
        dense_bytes: the size of its dense Jacobian (B, n_out, n_in) in bytes.

    Example:
        >>> report = Chain([nn.Linear(3, 2), torch.relu]).inspect(torch.ones(5, 3))[0]
        >>> report.name, report.shape_in, report.shape_out, report.smooth, report.dense_bytes
        ('0.Linear', (5, 3), (5, 2), True, 120)
    """

    name: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    known: bool
    smooth: bool
    batch_coupled: bool
    stochastic: bool
    dense_bytes: int


class Chain(nn.Module):
    """A composition of links, each a callable (B, *s) -> (B, *s'): modules, functions and chains alike.

    It is itself a module, so `parameters`, `to`, `eval` and `state_dict` reach every link that is one.

    Args:
        links: the links, first applied first; an `nn.Sequential` gives its children.
        names: one distinct name per link; by default index and kind, as in "0.Linear".

    Raises:
        ValueError: without links, or with names of another number or not distinct.
        TypeError: if a link is not callable.

    Example:
        >>> chain = Chain([nn.Linear(3, 4), torch.tanh, nn.Linear(4, 2)])
        >>> chain.names
        ['0.Linear', '1.tanh', '2.Linear']
        >>> x = torch.randn(5, 3)
        >>> [tuple(h.shape) for h in chain.states(x)]
        [(5, 3), (5, 4), (5, 4), (5, 2)]
        >>> chain.linearize(x).dense().shape
        torch.Size([5, 2, 3])
    """

    def __init__(self, links: Any, names: Sequence[str] | None = None):
        super().__init__()
        if callable(links) and not hasattr(links, "__iter__"):
            raise TypeError(f"links is one {type(links).__name__}; give an iterable of links, as in Chain([link])")
        self._links: tuple[Link, ...] = tuple(links)
        if not self._links:
            raise ValueError("links is empty; a chain needs at least one link")
        for index, link in enumerate(self._links):
            if not callable(link):
                raise TypeError(f"links[{index}] is a {type(link).__name__}, not a callable (B, *s) -> (B, *s')")
            if isinstance(link, nn.Module):
                self.add_module(str(index), link)
        self._names = tuple(_default_names(self._links) if names is None else names)
        if len(self._names) != len(self._links):
            raise ValueError(f"names has {len(self._names)} entries for {len(self._links)} links; give one per link")
        twice = [name for name, count in Counter(self._names).items() if count > 1]
        if twice:
            raise ValueError(f"names holds {twice[0]!r} more than once; give each link its own name")

    @property
    def names(self) -> list[str]:
        """The links' names, first applied first."""
        return list(self._names)

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links)

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> "Chain": ...
    def __getitem__(self, index: int | slice) -> "Link | Chain":
        """The link itself for an integer; for a slice the chain of those links, which keep their names."""
        if isinstance(index, slice):
            return Chain(self._links[index], self._names[index])
        return self._links[index]

    def __add__(self, other: "Chain") -> "Chain":
        """Self, then other; names are kept where they stay distinct and numbered anew otherwise."""
        names = self._names + other._names
        return Chain(self._links + other._links, names if len(set(names)) == len(names) else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *s) to (B, *s')."""
        for link in self._links:
            x = link(x)
        return x

    def states(self, x: Tensor) -> list[Tensor]:
        """All states [h_0 … h_L] in their own shapes, h_0 = x.

        Raises:
            ValueError: if two links do not compose, or one loses the batch or overwrites its input; it is named.
            TypeError: if x or a state is not a floating tensor.
        """
        preflight.check_input(x)
        return preflight.evaluate(self._links, self._names, x)

    def inspect(self, x: Tensor) -> list[LinkReport]:
        """Run every link at x a few times and report on each; refuses nothing that it can report.

        Example:
            >>> report = Chain([nn.Linear(3, 4), nn.ReLU()]).inspect(torch.randn(2, 3))[1]
            >>> report.smooth, report.batch_coupled, report.stochastic, report.dense_bytes
            (False, False, False, 128)
        """
        preflight.check_input(x)
        with preflight.leave_as_it_was(self._links, x), torch.no_grad(), forward_mode_allowed():
            states = preflight.evaluate(self._links, self._names, x)
            preflight.check_finite(self._links, self._names, states)
            return [
                _report(name, link, h, out)
                for name, link, h, out in zip(self._names, self._links, states, states[1:], strict=False)
            ]

    def linearize(self, x: Tensor, *, dense: bool = True, chunk_size: int | None = None) -> Linearization:
        """The Jacobian of every link at x, all checks of the links' behaviour made first.

        Args:
            x: a batch of points (B, *s), floating.
            dense: tensors, differentiable in x and in the parameters; False gives lazy operators, which push and
                pull frames by automatic differentiation and whose results are detached.
            chunk_size: columns that a link without a rule is differentiated along at once; all by default.

        Returns:
            The linearization, in the dtype and on the device of the states.

        Raises:
            ValueError: for links that do not compose, are random or batch-coupled, or give NaN or Inf.
            TypeError: for an integer x.
            RuntimeError: under autocast.
            MemoryError: before allocating, if the dense Jacobians would not fit.

        Example:
            >>> lin = Chain([nn.Linear(3, 4), nn.Tanh()]).linearize(torch.randn(5, 3))
            >>> lin.sizes, lin[1].shape
            ([3, 4, 4], torch.Size([5, 4, 4]))
        """
        if torch.is_inference_mode_enabled():
            with preflight.no_gradients():
                return self.linearize(x, dense=dense, chunk_size=chunk_size)
        links, names = self._links, self._names
        x, kinds = preflight.start(links, names, x, chunk_size)
        unknown = [index for index, (known, _) in enumerate(kinds) if not known]
        opaque = [index for index, (_, shows) in enumerate(kinds) if not shows]
        pushes: list[rules.Push] = []

        def run(index: int, h: Tensor) -> Any:
            link, (known, _) = links[index], kinds[index]
            if known and dense:
                out, push = rules.linearize(link, h, chunk_size)
                pushes.append(push)
                return out
            pushes.append(lambda frame: rules.push(link, h, frame, chunk_size))
            return link(h)  # as it is, so that the checks see whatever it does

        with preflight.leave_as_it_was([links[index] for index in unknown], x):
            states = preflight.evaluate(links, names, x, run)
            preflight.check_finite(links, names, states)
            for index in unknown:
                preflight.check_purity(links[index], names[index], *states[index : index + 2])
            if not dense:
                ends = zip(links, states, states[1:], strict=False)
                return Linearization([_lazy(*end, chunk_size) for end in ends])
            check_memory(states, unknown, chunk_size)
            jacobians = [rules.to_matrix(push(None), h) for push, h in zip(pushes, states, strict=False)]
            for index in opaque:
                preflight.check_derivative(names[index], jacobians[index])
            return Linearization(jacobians)

    def jet(
        self,
        x: Tensor,
        *,
        basis: Tensor | None = None,
        by_link: bool = False,
        kinks: str = "refuse",
        chunk_size: int | None = None,
    ) -> Jet:
        """Value, first and second derivative at x along a basis, by exact rules where the links are known.

        Args:
            x: a batch of points (B, *s), floating.
            basis: orthonormal columns (B, n_0, k) or (n_0, k); all of R^n_0 by default.
            by_link: also keep what each link adds to the second derivative.
            kinks: "refuse" links that have any, where second derivatives do not tell how much they bend; "ignore"
                them and take the smooth part between the kinks.
            chunk_size: columns that a link without a rule is differentiated along at once; all by default.

        Returns:
            The jet, in the dtype and on the device of x, differentiable in x, the basis and the parameters; links
            without a rule are much faster under `torch.no_grad()`.

        Raises:
            ValueError: for what `linearize` refuses, a basis that does not fit or is not orthonormal, and for kinks.
            TypeError: for an integer x or basis.
            RuntimeError: under autocast.
            MemoryError: before allocating, if the second derivatives would not fit.

        Example:
            >>> chain = Chain([nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)])
            >>> jet = chain.jet(torch.randn(5, 3), basis=torch.eye(3)[:, :2], by_link=True)
            >>> jet.second.shape, jet.parts.shape
            (torch.Size([5, 2, 2, 2]), torch.Size([3, 5, 2, 2, 2]))
        """
        *_, last = expand(self._links, self._names, x, basis, by_link, kinks, chunk_size)
        return last()

    def jets(
        self,
        x: Tensor,
        *,
        basis: Tensor | None = None,
        by_link: bool = False,
        kinks: str = "refuse",
        chunk_size: int | None = None,
    ) -> Iterator[Jet]:
        """The jets at all depths 0 … L from one pass; arguments and errors as of `jet`, checked at the call.

        Example:
            >>> chain = Chain([nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)])
            >>> [jet.second.shape[1] for jet in chain.jets(torch.randn(5, 3))]
            [3, 8, 8, 2]
        """
        return (jet() for jet in expand(self._links, self._names, x, basis, by_link, kinks, chunk_size))


def _lazy(link: Link, h: Tensor, out: Tensor, chunk_size: int | None) -> Jacobian:
    h = h.detach()

    def push(columns: Tensor) -> Tensor:
        with preflight.no_gradients():
            return rules.to_matrix(rules.push(link, h, preflight.ordinary(columns), chunk_size), h)

    def pull(rows: Tensor) -> Tensor:
        with preflight.no_gradients():
            return pull_automatically(link, h, preflight.ordinary(rows), chunk_size)

    shape = torch.Size((len(h), out.shape[1:].numel(), h.shape[1:].numel()))
    return Jacobian(push, pull, shape, h.dtype, h.device)


def _report(name: str, link: Link, h: Tensor, out: Tensor) -> LinkReport:
    known = preflight.is_known(link)
    _, effect = preflight.unsteady(link) or ("", "")
    stochastic = not known and (effect == "random" or preflight.is_stochastic(link, h, out))
    return LinkReport(
        name=name,
        shape_in=tuple(h.shape),
        shape_out=tuple(out.shape),
        known=known,
        smooth=is_smooth(link, h),
        batch_coupled=not known and (effect == "batch-coupled" or preflight.is_batch_coupled(link, h, out)),
        stochastic=stochastic,
        dense_bytes=len(h) * out[0].numel() * h[0].numel() * h.element_size(),
    )


def _default_names(links: Sequence[Link]) -> list[str]:
    kinds = [type(link).__name__ if isinstance(link, nn.Module) else _function_name(link) for link in links]
    return [f"{index}.{kind}" for index, kind in enumerate(kinds)]


def _function_name(link: Link) -> str:
    return str(getattr(link, "__name__", type(link).__name__)).strip("<>")


rules.add_rule(Chain, rules.IN_TURN)
