"""A model run with hooks where its named modules are entered: to read a state, to put one in, to stop there.

Nothing of the model's architecture is known; the link between two names is the model itself, run in part.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

__all__ = [
    "Args", "CutLink", "Entries", "Forward", "Hook", "Kwargs",
    "copied", "quoted", "record", "replace_state", "state_of",
]  # fmt: skip

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Hook = Callable[[nn.Module, Args, Kwargs], tuple[Args, Kwargs] | None]
Entries = list[tuple[str, Tensor | None]]  # which module was entered, by which state, in execution order


class _Reached(BaseException):
    """Carries the state at which a run was stopped; no `except Exception` of a model catches it."""


@dataclasses.dataclass(frozen=True)
class Forward:
    """One forward of the model with frozen arguments."""

    model: nn.Module
    inputs: Args
    kwargs: Kwargs
    output: str | int | None

    def run(self, hooks: Mapping[str, Hook]) -> Tensor:
        """The selected output, with a hook at the entry of each named module; no hook survives."""
        with ExitStack() as stack:
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            modules = dict(self.model.named_modules(remove_duplicate=False))
            for name, hook in hooks.items():
                handle = modules[name].register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
                stack.callback(handle.remove)
            inputs, kwargs = copied((self.inputs, self.kwargs))  # a model may overwrite its inputs
            return _select(self.model(*inputs, **kwargs), self.output)


class CutLink(nn.Module):
    """The model from the entry of `start` to the entry of `stop`, or to its output where `stop` is None.

    Args:
        forward: the forward of the model; all links of a cut share the model, so they follow its weights.
        start: the name of the module where a state is put in.
        stop: the name of the module at whose entry the run ends, or None.
        like: a state (B, *s) that entered `start`.
    """

    def __init__(self, forward: Forward, start: str, stop: str | None, like: Tensor):
        super().__init__()
        self.model = forward.model
        self.frozen = forward
        self.start, self.stop = start, stop
        self.shape, self.dtype = like.shape, like.dtype

    def __repr__(self) -> str:
        return f"CutLink('{self.start}' to {quoted(self.stop)} of {type(self.model).__name__})"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CutLink":
        """Take the frozen arguments along to another device or dtype."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        inputs, kwargs = tree_map_only(Tensor, fn, (self.frozen.inputs, self.frozen.kwargs))
        self.frozen = dataclasses.replace(self.frozen, inputs=inputs, kwargs=kwargs)
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self

    def forward(self, h: Tensor) -> Tensor:
        """Map the state (B, *s) at `start` to the one at `stop`."""
        if (h.shape, h.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"the link at '{self.start}' was cut for states of shape {tuple(self.shape)} and {self.dtype}, all "
                f"other arguments frozen, but shape {tuple(h.shape)} and {h.dtype} came; cut again with the inputs "
                "wanted, where index= picks samples of them"
            )
        entered = False

        def put(module: nn.Module, args: Args, kwargs: Kwargs) -> Any:
            nonlocal entered
            entered = True
            return replace_state(args, kwargs, h.clone())  # an in-place module must not overwrite h

        def halt(module: nn.Module, args: Args, kwargs: Kwargs) -> Any:
            raise _Reached(state_of(args, kwargs))

        hooks = {self.start: put} | ({} if self.stop is None else {self.stop: halt})
        try:
            end = self.frozen.run(hooks)
        except _Reached as reached:
            end = reached.args[0]
        else:
            entered = entered and self.stop is None
        if not entered or not isinstance(end, Tensor):
            raise RuntimeError(
                f"the model did not come from '{self.start}' to {quoted(self.stop)} as it did when it was cut: "
                "its control flow depends on values or on something changed since; cut again"
            )
        return end


def _slot(args: Args, kwargs: Kwargs) -> int | str | None:
    """Where the state stands: the first positional tensor, else the first tensor keyword."""
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    return next((place for place, value in places if isinstance(value, Tensor)), None)


def state_of(args: Args, kwargs: Kwargs) -> Tensor | None:
    """The state among the arguments of a module."""
    slot = _slot(args, kwargs)
    if slot is None:
        return None
    state: Tensor = args[slot] if isinstance(slot, int) else kwargs[slot]
    return state


def replace_state(args: Args, kwargs: Kwargs, h: Tensor) -> tuple[Args, Kwargs]:
    """The same arguments with h as their state."""
    slot = _slot(args, kwargs)
    if isinstance(slot, str):
        return args, kwargs | {slot: h}
    return tuple(h if place == slot else value for place, value in enumerate(args)), kwargs


def _select(result: Any, field: str | int | None) -> Tensor:
    """The tensor that the caller calls the output."""
    if isinstance(result, Tensor) and field is None:
        return result
    parts: dict[Any, Any] = {}
    if isinstance(result, Mapping):
        parts = dict(result)
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        parts = result._asdict()
    elif isinstance(result, Sequence) and not isinstance(result, str):
        parts = dict(enumerate(result))
    elif dataclasses.is_dataclass(result):
        parts = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    tensors = {key: value for key, value in parts.items() if isinstance(value, Tensor)}
    if field is None and tensors:
        return next(iter(tensors.values()))
    if field in tensors:
        return tensors[field]
    asked = "" if field is None else f" at output={field!r}"
    advice = f"output= may be one of {list(tensors)}" if tensors else "wrap the model so that it returns one"
    raise TypeError(f"the model's output is a {type(result).__name__} without a tensor{asked}; {advice}")


def copied(tree: Any) -> Any:
    """Nested arguments with a detached copy of every tensor."""
    return tree_map_only(Tensor, lambda t: t.detach().clone(), tree)


def record(forward: Forward, names: list[str]) -> tuple[Entries, Tensor]:
    """Every entry of the named modules with a copy of its state, and the output, of one run."""
    entries: Entries = []

    def recorder(name: str) -> Hook:
        def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> None:
            state = state_of(args, kwargs)
            entries.append((name, None if state is None else state.detach().clone()))

        return hook

    end = forward.run({name: recorder(name) for name in names})
    return entries, end.detach().clone()


def quoted(name: str | None) -> str:
    """Where a link ends, in words."""
    return "the output" if name is None else f"'{name}'"
