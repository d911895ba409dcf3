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


def check_kinks(link: Link, name: str, h: Tensor) -> None:
    """Refuse second derivatives of a link with kinks, and name what is right for it."""
    if not is_smooth(link, h):
        raise ValueError(
            f"link '{name}' has kinks, where its second derivative does not exist and beside which it misses all "
            "bending; measure at finite scale with curvature.total_curvature, curvature.turning_angle or "
            'curvature.metric_variation, or pass kinks="ignore" for the smooth part alone'
        )


def is_smooth(link: Link, h: Tensor, lines: int = 4) -> bool:
    """Whether the link has no kink near h (B, *s): by the rules of its parts, else by probing along random lines.

    Every line runs from h one rms of the state to either side. On each the place of the largest second difference is
    sought at spacing 1/4 rms and followed while the spacing is halved, and there second differences at two steps,
    one eight times the other, are compared: they agree in a smooth link, and differ by a slope's jump at a kink.
    """
    known = _known(link)
    if known is not None:
        return known
    with torch.no_grad():
        rms = h.square().mean(tuple(range(1, h.ndim)), keepdim=True).sqrt()
        length = torch.where(rms > 0, rms, 1.0)
        generator = torch.Generator().manual_seed(0)
        for _ in range(lines):
            v = torch.randn(h.shape, generator=generator).to(h)
            if not _is_smooth_along(link, h, length * v, length):
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


def _is_smooth_along(link: Link, h: Tensor, v: Tensor, length: Tensor) -> bool:
    def at(place: Tensor) -> Tensor:
        """f(h + place v) in double precision, (B, n), place (B,)."""
        moved = (h + place.reshape(-1, *[1] * (h.ndim - 1)).to(h) * v).to(h.dtype)
        return link(moved).reshape(len(h), -1).double().nan_to_num(0.0, 0.0, 0.0)

    def bending(values: list[Tensor]) -> Tensor:
        """The largest second difference of every sample at each inner place, (places, B)."""
        f = torch.stack(values)
        return (f[2:] - 2 * f[1:-1] + f[:-2]).abs().amax(2)

    eps = torch.finfo(h.dtype).eps
    step = 0.25
    places = torch.arange(-4, 5, dtype=torch.float64, device=h.device) * step
    values = [at(place.expand(len(h))) for place in places]
    sharpest = bending(values).argmax(0)
    centre = places[1:-1][sharpest]
    stacked = torch.stack(values)
    samples = torch.arange(len(h), device=h.device)
    left, middle, right = (stacked[sharpest + shift, samples] for shift in range(3))
    for _ in range(9 if eps < 1e-10 else 6 if eps < 1e-5 else 2):  # until rounding would drown a kink
        step /= 2
        inner_left, inner_right = at(centre - step), at(centre + step)
        sharpest = bending([left, inner_left, middle, inner_right, right]).argmax(0)
        centre = centre + (sharpest - 1) * step
        nodes = torch.stack([left, inner_left, middle, inner_right, right])
        left, middle, right = (nodes[sharpest + shift, samples] for shift in range(3))
    far_left, far_right = at(centre - 8 * step), at(centre + 8 * step)
    fine = (right - 2 * middle + left) / step
    coarse = (far_right - 2 * middle + far_left) / (8 * step)
    jump = (8 * fine - coarse).abs()  # of the slope, a smooth link's shrinks with the cube of the step
    slope = ((far_right - far_left) / (16 * step)).abs().amax(1, keepdim=True)
    noise = 64 * eps * torch.maximum(middle.abs(), far_right.abs()).amax(1, keepdim=True) / step
    return bool((jump <= 0.05 * slope + noise).all())
