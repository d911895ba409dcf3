"""Cut any `nn.Module` into links at named modules, knowing nothing of its architecture.

A link is the model itself, run with a hook that puts a state in where one named module is entered and with
another that stops the run where the next one is entered; whatever stands between comes along unasked.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from labkit._cut_checks import close, refuse_bypass_and_detachment, refuse_mixing, refuse_randomness, refuse_train_mode
from labkit._hooked import CutLink, Entries, Forward, copied, quoted, record
from labkit._preflight import leave_as_it_was
from labkit.chain import Chain

__all__ = ["cut"]


def cut(
    model: nn.Module | Callable[..., Any],
    at: str | Sequence[Any],
    *inputs: Any,
    index: int | slice | Sequence[Any] | Tensor | None = None,
    output: str | int | None = None,
    **kwargs: Any,
) -> tuple[Chain, Tensor]:
    """Cut a model into a chain of links between named modules.

    A name stands for the tensor *entering* that module: its first positional tensor, else its first tensor
    keyword. k names give k links, and the last one runs to the model's output. The links run `model` itself: they
    follow its weights and its mode, and each runs the layers before it once more. All arguments given here (token
    ids, masks, positions) are frozen copies, and so is the batch: a link takes states of the shape that was cut.

    The cut is checked where it could be wrong: noise is added at every name in one run of the real model, seen by
    everything that holds the tensor there, and each link must reproduce the next noisy state to rounding.
    A path around a cut is found so and refused. What is computed before the first name counts as frozen.

    The fast path of `nn.TransformerEncoder` is off in cut and links: it has no derivatives, and writes zeros where the
    ordinary path has the states of padded tokens.

    Args:
        model: any module, in eval mode where it has dropout or batch norm.
        at: names as in `model.named_modules()`, in execution order; or a glob (`"transformer.h.*"`; a star does
            not cross a dot), whose matches are put in execution order; or a sequence of both.
        *inputs: positional arguments of the model.
        index: the samples to cut out of the batch given (an int, a slice, ints or a mask); every tensor argument
            whose first size is the batch is indexed. None takes the whole batch.
        output: key, field or position of the output that the last link returns; None takes its first tensor.
        **kwargs: keyword arguments of the model.

    Returns:
        The chain, with `at` as names, and h, the detached state (B, *s) at the first name in the model's dtype:
        `chain(h)` is the output of the model.

    Raises:
        TypeError: if `model` is no module, or a state or the output is no floating-point tensor.
        ValueError: if a name does not exist, is out of order, is never or repeatedly entered, or is bypassed; if
            the model is random, mixes samples, has no derivative there, or has not the batch first.
        RuntimeError: under autocast.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2))
        >>> ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
        >>> chain, h = cut(net, ["2", "4"], ids)
        >>> h.shape, chain.names
        (torch.Size([2, 12]), ['2', '4'])
        >>> torch.equal(chain(h), net(ids))
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be an nn.Module, whose parts have names, but a {type(model).__name__} came; "
            "labkit.Chain([f, g]) makes a chain of functions"
        )
    candidates = _expand(model, list(at) if isinstance(at, Sequence) and not isinstance(at, str) else [at])
    refuse_train_mode(model)
    weight = next(model.parameters(), torch.empty(0))
    if torch.is_autocast_enabled(weight.device.type):
        raise RuntimeError("autocast is on, which mixes dtypes inside a link; cut outside of the autocast block")
    with torch.inference_mode(False), torch.no_grad(), leave_as_it_was([model], weight):
        forward = Forward(model, copied(inputs), copied(kwargs), output)
        entries, end = record(forward, [name for group in candidates for name in group])
        names = _execution_order(forward, candidates, entries)
        states = _checked_states(forward, names, entries, end)
        if index is not None:
            forward, states = _pick_samples(forward, names, states, index)
        refuse_randomness(forward, names, states)
        refuse_mixing(forward, names, states)
        ends = zip(names, [*names[1:], None], states[:-1], strict=True)
        links = [CutLink(forward, start, stop, like=h) for start, stop, h in ends]
        refuse_bypass_and_detachment(forward, links, states)
    return Chain(links, names=names), states[0]


def _expand(model: nn.Module, patterns: list[Any]) -> list[list[str]]:
    """The module names that each name or glob stands for."""
    if not patterns:
        raise ValueError("at names no module, but a chain needs a link; give names of model.named_modules()")
    modules = dict(model.named_modules(remove_duplicate=False))
    groups = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"at must be a name or a sequence of names, but holds {pattern!r}")
        parts = pattern.split(".")
        group = [name for name in modules if name and _matches(name, parts)]
        group = [pattern] if pattern in modules else group
        if not group:
            tails = [name for name in modules if fnmatchcase(name, f"*.{pattern}")]
            near = [*tails[:3], *get_close_matches(pattern, modules, cutoff=0.5)]
            near = list(dict.fromkeys(near)) or [name for name, _ in model.named_children()][:6]
            raise ValueError(f"at names '{pattern}', which the model does not have; near it: {_listed(near)}")
        groups.append(group)
    counts = Counter(name for group in groups for name in group)
    owners: dict[int, str] = {}
    for name, count in counts.items():
        other = owners.setdefault(id(modules[name]), name)
        if count > 1 or other != name:
            again = "twice" if count > 1 else f"and '{other}', which are one shared module"
            raise ValueError(f"at names '{name}' {again}; a state is cut once, so name each module once")
    return groups


def _matches(name: str, parts: list[str]) -> bool:
    split = name.split(".")
    return len(split) == len(parts) and all(map(fnmatchcase, split, parts))


def _execution_order(forward: Forward, groups: list[list[str]], entries: Entries) -> list[str]:
    """The names in the order in which the model enters them, each once."""
    counts = Counter(name for name, _ in entries)
    for name in (name for group in groups for name in group):
        if counts[name] == 0:
            raise ValueError(
                f"at names '{name}', which is never entered in this forward (a container, an unused branch, or "
                "compiled code, past all hooks); name a module that is called"
            )
        if counts[name] > 1:
            raise ValueError(
                f"at names '{name}', which is entered {counts[name]} times in one forward, so that no single state "
                "enters it; name modules that are entered once"
            )
    ran = [name for name, _ in entries]
    names = [name for group in groups for name in sorted(group, key=ran.index)]
    if names != ran:
        raise ValueError(f"at is out of order: {_listed(names)} came, but the model enters {_listed(ran)}")
    return names


def _checked_states(forward: Forward, names: list[str], entries: Entries, end: Tensor) -> list[Tensor]:
    """The states at the names and the output: floating-point, finite, batch first."""
    states = []
    for name, state in entries:
        if state is None:
            raise TypeError(f"at names '{name}', which no tensor enters as an own argument; cut elsewhere")
        if not state.is_floating_point():
            raise TypeError(
                f"at names '{name}', which is entered by {state.dtype} without a derivative; "
                f"cut at a later module{_first_float_after(forward, name)}"
            )
        states.append(state)
    if not end.is_floating_point():
        raise TypeError(f"the model's output is {end.dtype}, without a derivative; choose one with output=")
    states.append(end)
    if states[0].ndim < 2 or states[0].numel() == 0:
        raise ValueError(
            f"the state at '{names[0]}' has shape {tuple(states[0].shape)}, but a chain needs (B, *s) with the batch "
            "first; give the model a batch of at least one sample"
        )
    for place, state in zip([*names, None], states, strict=True):
        if state.ndim == 0 or state.shape[0] != states[0].shape[0]:
            raise ValueError(
                f"the batch must come first everywhere, but the state at '{names[0]}' has shape "
                f"{tuple(states[0].shape)} and at {quoted(place)} {tuple(state.shape)}; "
                + ("choose another with output=" if place is None else "cut elsewhere")
            )
        bad = (~state.isfinite()).reshape(len(state), -1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"the state at {quoted(place)} is not finite in sample {bad[0]}; check the inputs and the weights"
            )
    return states


def _first_float_after(forward: Forward, name: str) -> str:
    entries, _ = record(forward, [name for name, _ in forward.model.named_modules()])
    after = entries[[entry for entry, _ in entries].index(name) + 1 :]
    floats = (entry for entry, state in after if state is not None and state.is_floating_point())
    return "".join(f", such as '{entry}'" for entry in [next(floats, None)] if entry)


def _pick_samples(
    forward: Forward, names: list[str], states: list[Tensor], index: int | slice | Sequence[Any] | Tensor
) -> tuple[Forward, list[Tensor]]:
    """The forward of some samples alone, held to what the whole batch gave them."""
    batch = states[0].shape[0]
    try:
        rows = torch.arange(batch)[index if isinstance(index, slice) else torch.as_tensor(index)].reshape(-1)
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"index must pick samples of a batch of {batch}, but {index!r} came") from error
    if len(rows) == 0:
        raise ValueError(f"index picks no sample of the batch of {batch}; name at least one")

    def pick(t: Tensor) -> Tensor:
        return t[rows.to(t.device)] if t.ndim and t.shape[0] == batch else t

    inputs, kwargs = tree_map_only(Tensor, pick, (forward.inputs, forward.kwargs))
    part = dataclasses.replace(forward, inputs=inputs, kwargs=kwargs)
    advice = (
        f"every tensor argument whose first size is {batch} was indexed, which is wrong for one that is not "
        "per sample or for samples that see each other; give the inputs of the samples wanted instead of index"
    )
    try:
        entries, end = record(part, names)
    except Exception as error:
        raise ValueError(f"the model fails on the samples picked by index: {advice}") from error
    picked = [*(state for _, state in entries if state is not None), end]
    for whole, alone in zip(states, picked, strict=True):
        expected = whole[rows.to(whole.device)]
        if not close(alone, expected, power=0.5):  # other batch sizes round differently
            raise ValueError(f"the samples picked by index differ from those of the whole batch: {advice}")
    return part, picked


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
