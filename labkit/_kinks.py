"""Whether a link is smooth around a state, told by how it behaves and not by what it is called.

Second differences settle as the step shrinks where a link is smooth, and grow like one over the step at a kink.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.links import rule_of

__all__ = ["is_smooth"]

Link = Callable[[Tensor], Tensor]

# a narrow link may show no kink in any direction tried, so those that are sure to have one are known by name
_KINKED = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softshrink, nn.Hardshrink,
    nn.Threshold, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_KINKED_FUNCTIONS = (torch.relu, torch.abs, F.relu, F.leaky_relu, F.relu6, F.hardtanh)


def is_smooth(link: Link, h: Tensor, directions: int = 64) -> bool:
    """Whether second differences at h (B, *s) agree at two steps, 1e-2 and 1e-2 / 8 of the state's rms."""
    if any(isinstance(part, _KINKED) or part in _KINKED_FUNCTIONS for part in _walk(link)):
        return False
    with torch.no_grad():
        rms = h.square().mean(tuple(range(1, h.ndim)), keepdim=True).sqrt()
        step = 1e-2 * torch.where(rms > 0, rms, 1.0)
        middle = link(h)
        generator = torch.Generator().manual_seed(0)
        return all(
            _settles(link, h, middle, step, torch.randn(h.shape, generator=generator).to(h)) for _ in range(directions)
        )


def _settles(link: Link, h: Tensor, middle: Tensor, step: Tensor, v: Tensor) -> bool:
    def second(t: Tensor) -> Tensor:
        change = (link(h + t * v) - middle) + (link(h - t * v) - middle)
        return change.reshape(len(h), -1) / t.reshape(-1, 1) ** 2

    coarse, fine = second(step), second(step / 8)
    size = torch.maximum(coarse.abs().amax(1), fine.abs().amax(1))
    noise = 16 * torch.finfo(h.dtype).eps * middle.reshape(len(h), -1).abs().amax(1) / (step.flatten() / 8) ** 2
    return bool(((coarse - fine).abs().amax(1) <= 0.5 * size + noise).all())


def _walk(link: Link) -> Iterator[Link]:
    yield link
    rule = rule_of(link)
    for part in rule.parts(link) if rule else ():
        yield from _walk(part)
    if isinstance(link, nn.Module):
        yield from link.modules()
