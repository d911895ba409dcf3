"""Whether a link is smooth around a state, told by how it behaves and not by what it is called.

Second differences settle as the step shrinks where a link is smooth, and grow like one over the step at a kink.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labkit._jet_rules import jet_rule_of
from labkit._rules import rule_of

__all__ = ["check_kinks", "is_smooth"]

Link = Callable[[Tensor], Tensor]

# a narrow link may show no kink in any direction tried, so those that are sure to have one are known by name
_KINKED = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softshrink, nn.Hardshrink,
    nn.Threshold, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_KINKED_FUNCTIONS = (torch.abs, torch.relu_, torch.nn.functional.relu6, torch.nn.functional.hardtanh)

# how often the spacing is halved before rounding drowns a kink, and which part of the slope counts as a jump
_FINEST = {torch.float64: (12, 1e-3), torch.float32: (7, 0.1), torch.float16: (3, 0.3), torch.bfloat16: (2, 0.3)}


def check_kinks(link: Link, name: str, h: Tensor) -> None:
    """Refuse second derivatives of a link with kinks, and name what is right for it."""
    if not is_smooth(link, h):
        raise ValueError(
            f"link '{name}' has kinks near the state, whose bending no second derivative sees; measure at finite scale "
            "with curvature.total_curvature, curvature.turning_angle or curvature.metric_variation, or pass "
            'kinks="ignore" for the smooth part alone'
        )


def is_smooth(link: Link, h: Tensor) -> bool:
    """Whether the link has no kink near h (B, *s): by the rules of its parts, else by probing along random lines.

    A jump, or a point where the link is singular, counts as a kink.

    Every line runs from h two rms of the state to either side. On each the place of the largest second difference is
    sought at spacing 1/4 rms and followed while the spacing is halved, and there second differences at two steps,
    one eight times the other, are compared: they agree in a smooth link, and differ by a slope's jump at a kink.
    """
    known = _known(link)
    if known is not None:
        return known
    with torch.no_grad():
        rms = h.square().mean(tuple(range(1, h.ndim)), keepdim=True).sqrt()
        length = torch.where(rms > 0, rms, 1.0)
        generator = torch.Generator().manual_seed(271828182)  # no seed that the state itself was drawn from
        for line in range(16 if h[0].numel() < 64 else 4):  # a narrow link shows its kinks on fewer lines
            v = length * torch.randn(h.shape, generator=generator).to(h)
            entry = None if line % 2 else int(torch.randint(2**31, (), generator=generator))
            if not _is_smooth_along(link, h, v, entry):
                return False
    return True


def _known(link: Link) -> bool | None:
    """True or False where rules tell, None where only a probe can."""
    rule = jet_rule_of(link)
    if rule is None:
        parts = list(link.modules()) if isinstance(link, nn.Module) else [link]
        return False if any(isinstance(part, _KINKED) or part in _KINKED_FUNCTIONS for part in parts) else None
    whole = rule_of(link)
    told = [rule.smooth, *map(_known, whole.parts(link) if whole else ())]
    return False if False in told else None if None in told else True


def _is_smooth_along(link: Link, h: Tensor, v: Tensor, entry: int | None) -> bool:
    """Whether f(h + t v), |t| <= 2, has no kink where one entry (of all sizes, modulo n), or any, bends most."""
    halvings, part = _FINEST[h.dtype]
    samples = torch.arange(len(h), device=h.device)

    def at(place: Tensor) -> Tensor:
        moved = (h + place.reshape(-1, *[1] * (h.ndim - 1)).to(h) * v).to(h.dtype)
        return link(moved).reshape(len(h), -1).double()

    def sharpest(f: Tensor) -> Tensor:
        """Which of the inner nodes of f (places, B, n) has the largest second difference, (B,)."""
        bent = _finite(f[2:] - 2 * f[1:-1] + f[:-2]).abs()
        return (bent.amax(2) if entry is None else bent[..., entry % bent.shape[2]]).argmax(0)

    step = 0.25
    places = torch.arange(-2, 2 + step, step, dtype=torch.float64, device=h.device)
    nodes = torch.stack([at(place.expand(len(h))) for place in places])
    size = _finite(nodes).abs().amax((0, 2))[:, None]
    found = sharpest(nodes)
    centre = places[1:-1][found]
    left, middle, right = (nodes[found + shift, samples] for shift in range(3))
    for _ in range(halvings):
        step /= 2
        nodes = torch.stack([left, at(centre - step), middle, at(centre + step), right])
        found = sharpest(nodes)
        centre = centre + (found - 1) * step
        left, middle, right = (nodes[found + shift, samples] for shift in range(3))
    far_left, far_right = at(centre - 8 * step), at(centre + 8 * step)
    jump = _finite(8 * (right - 2 * middle + left) - (far_right - 2 * middle + far_left) / 8).abs() / step
    slope = _finite((far_right - far_left) / (16 * step)).abs().amax(1, keepdim=True)
    pole = torch.stack([left, middle, right]).abs().amax(0) > 4 * size  # no kink: values grow as one comes close
    return bool((pole | (jump <= part * slope + 128 * torch.finfo(h.dtype).eps * size / step)).all())


def _finite(values: Tensor) -> Tensor:
    """Zero where a function ends, as a logarithm does: nothing is known there."""
    return values.nan_to_num(0.0, 0.0, 0.0)
