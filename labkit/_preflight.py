"""What a chain checks before any long work: the input, the mode of every submodule, finite numbers, purity.

Each check raises one sentence that names the argument, what came and what would do; nothing of the model changes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from labkit._rules import rule_of

__all__ = [
    "check_derivative", "check_finite", "check_input", "check_modes", "check_purity", "check_weights", "classify",
    "evaluate", "is_batch_coupled", "is_known", "is_stochastic", "leave_as_it_was", "no_gradients", "ordinary", "start",
    "unsteady",
]  # fmt: skip

Link = Callable[[Tensor], Tensor]


def start(
    links: Sequence[Link], names: Sequence[str], x: Tensor, chunk_size: int | None
) -> tuple[Tensor, list[tuple[bool, bool]]]:
    """x, and `classify` of every link, once all that can be told before a link runs is in order."""
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; give a positive number of columns, or None for all")
    check_input(x)
    kinds = [classify(link) for link in links]
    for link, name, (known, _) in zip(links, names, kinds, strict=True):
        if not known:
            check_modes(link, name)
    check_weights([(link, name) for link, name, (_, shows) in zip(links, names, kinds, strict=True) if not shows])
    return ordinary(x), kinds


def ordinary(x: Tensor) -> Tensor:
    """The same numbers outside inference mode."""
    return x.clone() if x.is_inference() else x


@contextmanager
def no_gradients() -> Iterator[None]:
    """No graph of our results, and no inference mode, in which reverse mode records nothing at all."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def check_input(x: Tensor) -> None:
    """Refuse an input that no chain can differentiate at, and autocast, which would change the links' dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__}; give a floating tensor (B, *s)")
    if not x.is_floating_point():
        raise TypeError(
            f"x is {x.dtype}, which has no derivative; give a floating tensor, or if x holds token ids cut the model "
            "after its embedding: labkit.cut(model, names, ids)"
        )
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and no batch axis; give (B, *s): x[None] for one sample, "
            "x[:, None] for a batch of numbers"
        )
    if x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)} and so no numbers; give at least one sample of size one")
    if torch.is_autocast_enabled(x.device.type):
        raise RuntimeError("autocast is on, which mixes dtypes inside a link; leave the autocast block, or use .half()")


def evaluate(
    links: Sequence[Link], names: Sequence[str], x: Tensor, run: Callable[[int, Tensor], Any] | None = None
) -> list[Tensor]:
    """The states [h_0 … h_L]; raises where two links do not compose, or one loses the batch or overwrites its input.

    Link number l gives `run(l, h)` where the caller wants more of it than its value.
    """
    states = [x]
    for index, (link, name) in enumerate(zip(links, names, strict=True)):
        h = states[-1] if index else x.clone()  # a link that writes must not reach the caller's x
        version = -1 if h.is_inference() else h._version
        if len(h.shape) != _axes(link, h):
            raise ValueError(
                f"link '{name}' takes a state of shape {tuple(h.shape)} for one image without batch axis; "
                "give (B, channels, …), x[None] for a single one"
            )
        try:
            out = link(h) if run is None else run(index, h)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            giver = f"'{names[index - 1]}' gives" if index else "the chain is given"
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"link '{name}' cannot take the state of shape {tuple(h.shape)} and {h.dtype} that {giver} ({reason}); "
                "make the shapes and dtypes of neighbours agree"
            ) from error
        if not isinstance(out, Tensor) or not out.is_floating_point():
            came = str(out.dtype) if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"link '{name}' returns {came}; a link maps a floating tensor (B, *s) to a floating tensor")
        if out.ndim == 0 or len(out) != len(h) or out.numel() == 0:
            raise ValueError(
                f"link '{name}' turns shape {tuple(h.shape)} into {tuple(out.shape)} and loses the batch of {len(h)}; "
                "a link keeps the batch axis first and does not flatten or reduce it"
            )
        if out.dtype != h.dtype:
            raise ValueError(f"link '{name}' turns {h.dtype} into {out.dtype}; a chain keeps the dtype of x throughout")
        if version >= 0 and h._version != version:
            raise ValueError(
                f"link '{name}' overwrites its input in place, a state that the chain keeps; set inplace=False in it"
            )
        states.append(out)
    return states


def _axes(link: Link, h: Tensor) -> int:
    """How many axes a batch has for the link, where it would take a batch for one image and mix the samples."""
    while isinstance(link, nn.Sequential) and len(link):
        link = link[0]
    return len(link.kernel_size) + 2 if isinstance(link, _ConvNd) and h.ndim == len(link.kernel_size) + 1 else h.ndim


def check_weights(links: Sequence[tuple[Link, str]]) -> None:
    """Refuse parameters of named links with NaN or Inf, which a state may hide as tanh does."""
    weights = [p for p in _together(link for link, _ in links).parameters() if _may_break(p)]
    with torch.no_grad():
        if not weights or nn.utils.get_total_norm(weights).isfinite():
            return
        for link, name in links:  # the norm may overflow where every weight is finite, so look closely
            path = _broken_parameter(link)
            if path:
                raise ValueError(f"parameter '{path}' of link '{name}' holds NaN or Inf; repair or reload the weights")


def check_finite(links: Sequence[Link], names: Sequence[str], states: Sequence[Tensor]) -> None:
    """Refuse states with NaN or Inf, naming the link that produced it first and the samples."""
    with torch.no_grad():
        if torch.cat([h.flatten() for h in states]).sum().isfinite():
            return
        for depth, h in enumerate(states):  # the sum may overflow where every number is finite, so look closely
            bad = _broken_samples(h)
            if bad and depth == 0:
                raise ValueError(f"x holds NaN or Inf in sample {_few(bad)}; remove or repair these samples")
            if bad:
                path = _broken_parameter(links[depth - 1])
                cure = f"repair its parameter '{path}'" if path else "use smaller weights or inputs, or a wider dtype"
                raise ValueError(
                    f"link '{names[depth - 1]}' is the first to produce NaN or Inf, in sample {_few(bad)}; {cure}"
                )


def check_derivative(name: str, jac: Tensor) -> None:
    """Refuse a Jacobian with NaN or Inf where the state itself was finite, as that of a norm at zero."""
    with torch.no_grad():
        if not jac.isfinite().all():
            raise ValueError(
                f"link '{name}' has no finite derivative in sample {_few(_broken_samples(jac))} though its output is "
                "finite; move x off that point, smooth the link there, or use smaller weights"
            )


def _broken_samples(h: Tensor) -> list[int]:
    return [int(i) for i in (~h.isfinite()).reshape(len(h), -1).any(1).nonzero().flatten()]


def _broken_parameter(link: Link) -> str | None:
    parameters = link.named_parameters() if isinstance(link, nn.Module) else ()
    return next((path for path, p in parameters if _may_break(p) and not p.isfinite().all()), None)


def _may_break(parameter: Tensor) -> bool:
    """Whether torch can tell if it is finite: quantised and sparse weights are whole numbers or bring no norm."""
    return parameter.is_floating_point() and parameter.element_size() > 1 and parameter.layout == torch.strided


def check_modes(link: Link, name: str) -> None:
    """Refuse dropout and batch norm in train mode, also deep inside a link, before anything is run."""
    fault = unsteady(link)
    if fault is not None:
        path, effect = fault
        where = f"submodule '{path}' of link '{name}'" if path else f"link '{name}'"
        raise ValueError(f"{where} is in a mode that makes Df {effect}; call .eval() on the model first")


def check_purity(link: Link, name: str, h: Tensor, out: Tensor) -> None:
    """Refuse a link whose output is random or mixes samples, found by running it again."""
    if is_stochastic(link, h, out):
        raise ValueError(
            f"link '{name}' gives two answers for one state, so Df is random; call .eval() or fix its randomness"
        )
    if is_batch_coupled(link, h, out):
        raise ValueError(
            f"link '{name}' lets one sample change the output of another, so Df is batch-coupled; "
            "call .eval(), or make it act on each sample by itself"
        )


def is_known(link: Link) -> bool:
    """Whether rules prove that the link is deterministic, acts on each sample by itself, and writes nothing."""
    return classify(link)[0]


def classify(link: Link) -> tuple[bool, bool]:
    """Whether rules prove the link pure, and whether NaN or Inf in one of its weights must show in its output."""
    rule = rule_of(link)
    if rule is None or not rule.is_pure(link):
        return False, False
    if isinstance(link, nn.Module) and "parametrizations" in link._modules:  # a weight that may change when it is read
        return False, False
    shows = rule.shows_faults
    for part in rule.parts(link):
        part_known, part_shows = classify(part)
        if not part_known:
            return False, False
        shows = shows and part_shows
    return True, shows


def unsteady(link: Link) -> tuple[str, str] | None:
    """The first submodule whose mode makes Df 'random' or 'batch-coupled', and which; None where all are steady."""
    if not isinstance(link, nn.Module):
        return None
    for path, module in link.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            return path, "batch-coupled"
        rate = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
        if module.training and (isinstance(module, nn.RReLU) or (isinstance(rate, float) and rate > 0)):
            return path, "random"
    return None


def is_stochastic(link: Link, h: Tensor, out: Tensor) -> bool:
    """Whether a second run gives another output."""
    with torch.no_grad():
        return not _close(link(h.detach().clone()), out.detach(), 1e3)


def is_batch_coupled(link: Link, h: Tensor, out: Tensor) -> bool:
    """Whether changing the last sample changes another, or changing all others the last; one alone gets a neighbour."""
    with torch.no_grad():
        h, out = h.detach(), out.detach()
        noise = torch.randn(h.shape[1:], generator=torch.Generator().manual_seed(0)).to(h)
        size = h.square().mean(tuple(range(1, h.ndim)), keepdim=True).sqrt()
        other = h + (3 * size + 1) * noise
        if len(h) > 1:
            first = link(torch.cat([h[:-1], other[-1:]]))[:-1]
            last = link(torch.cat([other[:-1], h[-1:]]))[-1:]
            return not (_close(first, out[:-1], 1e3) and _close(last, out[-1:], 1e3))
        try:
            grown = link(torch.cat([h, other]))
        except (RuntimeError, ValueError, IndexError):  # made for this batch only, so nothing can couple
            return False
        return len(grown) != 2 or not _close(grown[:1], out, 1e5)


def _close(one: Tensor, other: Tensor, ulps: float) -> bool:
    if one.shape != other.shape:
        return False
    tolerance = min(ulps * torch.finfo(other.dtype).eps, 0.05) * other.abs().max()
    return bool(((one - other).abs() <= tolerance).all())


@contextmanager
def leave_as_it_was(links: Sequence[Link], x: Tensor) -> Iterator[None]:
    """Restore torch's random state and every buffer of links that no rule proves pure."""
    unknown = [link for link in links if not is_known(link)]
    if not unknown:
        yield
        return
    modules = _together(unknown).modules()
    buffers = [(m, key, b, b.clone(), b._version) for m in modules for key, b in m._buffers.items() if b is not None]
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, key, buffer, value, version in buffers:
                module._buffers[key] = buffer
                if buffer._version != version:
                    with torch.no_grad():
                        buffer.copy_(value)


def _together(links: Iterable[Link]) -> nn.Module:
    """One module of all, which gives every part and parameter once, however many links share it."""
    return nn.ModuleList(link for link in links if isinstance(link, nn.Module))


def _few(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:5])) + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")
