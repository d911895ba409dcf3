"""What a cut refuses: randomness, samples that see each other, missing derivatives, paths around a cut.

Most is found by behaviour, by running the model again or from a noisy state, knowing no architecture.
"""

from typing import Any

import torch
from torch import Tensor, nn

from labkit._hooked import Args, CutLink, Forward, Hook, Kwargs, quoted, record, replace_state, state_of
from labkit._preflight import unsteady

__all__ = ["close", "refuse_bypass_and_detachment", "refuse_mixing", "refuse_randomness", "refuse_train_mode"]


def refuse_train_mode(model: nn.Module) -> None:
    """Found by class before anything runs: two runs of a small model may draw the same mask."""
    fault = unsteady(model)
    if fault is not None:
        path, effect = fault
        advice = "call model.eval() first" + (", or give it running statistics" if "batch" in effect else "")
        kind = type(dict(model.named_modules())[path]).__name__
        raise ValueError(f"the model's {kind} '{path}' is in a mode that makes Df {effect}; {advice}")


def close(a: Tensor, b: Tensor, power: float = 0.75) -> bool:
    """Equal to rounding, on the scale of the largest entry: eps^power of the dtype."""
    if a.shape != b.shape:
        return False
    scale = b.abs().max().nan_to_num(0.0, posinf=0.0).item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=torch.finfo(b.dtype).eps ** power * scale, equal_nan=True)


def _noise(state: Tensor, seed: int) -> Tensor:
    """A tenth of the state's root mean square, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(state.device, torch.float32)
    rms = state.float().square().mean().sqrt().item()
    return (0.1 * (rms or 1.0) * draw).to(state.dtype)


def refuse_randomness(forward: Forward, names: list[str], states: list[Tensor]) -> None:
    """A second run must give the states of the first."""
    entries, end = record(forward, names)
    again = [*(state for _, state in entries), end]
    for name, first, second in zip([*names, None], states, again, strict=True):
        if second is None or not close(second, first):
            training = any(module.training for module in forward.model.modules())
            raise ValueError(
                f"the model is random or remembers its last call, for two runs differ at {quoted(name)}; "
                + ("call model.eval() first" if training else "make it deterministic, and pass it no cache")
            )


def refuse_mixing(forward: Forward, names: list[str], states: list[Tensor]) -> None:
    """Noise in the first sample must not reach the others (batch statistics, batch not first)."""
    if states[0].shape[0] == 1:
        return
    moved = states[0].clone()
    moved[0] += _noise(states[0], seed=0)[0]
    end = CutLink(forward, names[0], None, like=moved)(moved)
    if not close(end[1:], states[-1][1:]):
        raise ValueError(
            f"the samples see each other: noise in the first one of the state at '{names[0]}', of shape "
            f"{tuple(moved.shape)}, reaches the outputs of others; call model.eval() (batch norm) or put the batch "
            "first (batch_first=True)"
        )


def refuse_bypass_and_detachment(forward: Forward, links: list[CutLink], states: list[Tensor]) -> None:
    """With noise put in at every name of one run, each link must lead from noisy state to noisy state."""
    pairs = zip(links, states[:-1], strict=True)
    noise = {link.start: _noise(state, seed) for seed, (link, state) in enumerate(pairs)}
    noisy: dict[str | None, Tensor] = {}
    undo: list[tuple[Tensor, Tensor]] = []

    def shaker(name: str) -> Hook:
        def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> Any:
            state = state_of(args, kwargs)
            if state is None or state.shape != noise[name].shape:
                raise ValueError(f"the state at '{name}' changes shape with the values before it; cut elsewhere")
            if 0 in state.stride():  # an expanded tensor cannot be written to
                state = state + noise[name]
                args, kwargs = replace_state(args, kwargs, state)
            else:  # in place, so that whoever else holds the tensor (a skip around the module) sees it too
                undo.append((state, state.clone()))
                state.add_(noise[name])
            noisy[name] = state.detach().clone()
            return args, kwargs

        return hook

    try:
        noisy[None] = forward.run({link.start: shaker(link.start) for link in links}).detach().clone()
    finally:
        for tensor, value in reversed(undo):  # it may be a parameter, or a view of one
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor.copy_(value)
    for link in links:
        h = noisy[link.start].clone().requires_grad_()  # the clone is outside of any inference mode of the model
        with torch.enable_grad():
            end = link(h)
        end_noise = 0 if link.stop is None else noise[link.stop]
        if not close(end.detach() + end_noise, noisy[link.stop]):
            raise ValueError(
                f"a path goes around the cut at '{link.start}': the state there does not determine what reaches "
                f"{quoted(link.stop)}; leave that name out, or cut where the paths have met (a block, not its "
                "branch)"
            )
        if not end.requires_grad or _gradient(end, h) is None:
            raise ValueError(
                f"the model has no derivative from '{link.start}' to {quoted(link.stop)}: a forward there "
                "runs under no_grad or detaches its input; remove that"
            )


def _gradient(end: Tensor, h: Tensor) -> Tensor | None:
    return torch.autograd.grad(end, h, torch.zeros_like(end), allow_unused=True)[0]
