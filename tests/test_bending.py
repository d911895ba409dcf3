"""Second derivatives through a layer norm in a link of no known kind: exact, and never by a row for every output."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp

from labkit import Chain, _bending
from labkit._automatic import forward_mode_allowed


def normed(h: Tensor) -> Tensor:
    """A layer norm with weights of its own, which no rule sees."""
    weight = torch.linspace(0.5, 2, h.shape[-1], dtype=h.dtype)
    return nn.functional.layer_norm(h + h.sin(), h.shape[-1:], weight)


def test_layer_norm_takes_forward_mode_and_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).double()

    def refuse(*_: object) -> Tensor:
        raise AssertionError("reverse over reverse, whose cost grows with the number of outputs")

    monkeypatch.setattr(_bending, "_reverse", refuse)
    with torch.no_grad():
        found = Chain([normed]).jet(x).second
    t, unit = 1e-4, torch.eye(6).double()
    for i in range(6):
        for j in range(6):
            corners = [normed(x + t * (a * unit[i] + b * unit[j])) * a * b for a in (1, -1) for b in (1, -1)]
            torch.testing.assert_close(found[..., i, j], sum(corners) / (4 * t**2), rtol=0, atol=1e-6)


def test_trap_forward_over_forward_layer_norm() -> None:
    """If this fails, torch has mended it, and the layer norm need not be written out in forward mode."""
    x, v = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0)).double()

    def second(link: nn.Module) -> Tensor:
        bent: Tensor = jvp(lambda h: jvp(link, (h,), (v,))[1], (x,), (v,))[1]
        return bent

    norm, t = nn.LayerNorm(6).double().requires_grad_(False), 1e-4
    with forward_mode_allowed():
        wrong = second(norm)
        expected = (norm(x + t * v) - 2 * norm(x) + norm(x - t * v)) / t**2
        assert (wrong - expected).abs().max() > 1e-3
        with _bending._WrittenOut():
            torch.testing.assert_close(second(norm), expected, rtol=0, atol=1e-5)
