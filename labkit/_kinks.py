"""Whether a link is smooth around a state, told by how it behaves and not by what it is called.

Second differences settle as the step shrinks where a link is smooth, and grow like one over the step at a kink.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit._rules import rule_of

__all__ = ["is_smooth"]

Link = Callable[[Tensor], Tensor]

# a narrow link may show no kink in any direction tried, so those that are sure to have one are known by name
_KINKED = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softshrink, nn.Hardshrink,
    nn.Threshold, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_KINKED_FUNCTIONS = (torch.relu, torch.abs, F.relu, F.leaky_relu, F.relu6, F.hardtanh)


def is_smooth(link: Link, h: Tensor, directions: int = 64) -> bool:
    """Whether second differences at h (B, *s) are of one size at two steps, 1e-2 and 1e-2 / 8 of the state's rms.

    The largest over all directions are compared, sample by sample; a kink is in reach of a step or it is not, and
    either way the two differ by far more than three.
    """
    if any(isinstance(part, _KINKED) or part in _KINKED_FUNCTIONS for part in _walk(link)):
        return False
    with torch.no_grad():
        rms = h.square().mean(tuple(range(1, h.ndim)), keepdim=True).sqrt()
        step = 1e-2 * torch.where(rms > 0, rms, 1.0)
        middle = link(h)
        generator = torch.Generator().manual_seed(0)
        coarse = fine = torch.zeros(len(h), dtype=h.dtype, device=h.device)
        for _ in range(directions):
            v = torch.randn(h.shape, generator=generator).to(h)
            coarse = torch.maximum(coarse, _second_difference(link, h, middle, step * v, step))
            fine = torch.maximum(fine, _second_difference(link, h, middle, step / 8 * v, step / 8))
        value = middle.reshape(len(h), -1).abs().amax(1)
        noise = 16 * torch.finfo(h.dtype).eps * value / (step.flatten() / 8) ** 2
        return bool(((fine <= 3 * coarse + noise) & (coarse <= 3 * fine + noise)).all())


def _second_difference(link: Link, h: Tensor, middle: Tensor, move: Tensor, step: Tensor) -> Tensor:
    """The largest entry of |f(h + tv) - 2 f(h) + f(h - tv)| / t^2 in every sample, (B,)."""
    change = (link(h + move) - middle) + (link(h - move) - middle)
    return change.reshape(len(h), -1).abs().amax(1) / step.flatten() ** 2


def _walk(link: Link) -> Iterator[Link]:
    yield link
    rule = rule_of(link)
    for part in rule.parts(link) if rule else ():
        yield from _walk(part)
    if isinstance(link, nn.Module):
        yield from link.modules()
