"""Augmentation moves inputs in training, within its reach, and never after."""

import math

import pytest
import torch

from labkit.networks.actions import rotation
from labkit.training.augmentation import Moved


def test_every_input_is_moved_along_its_own_orbit_within_reach() -> None:
    action = rotation(4)
    x = torch.randn(1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).expand(50, -1)
    torch.manual_seed(0)
    moved = Moved(action, 0.5).train()(x)
    times = torch.linspace(-0.5, 0.5, 2001, dtype=torch.float64)
    orbit = action.move(x[:1].expand(2001, -1), times)
    apart, nearest = torch.cdist(moved, orbit).min(1)
    assert apart.max() < 2e-3 * x[0].norm()
    found = times[nearest]
    assert found.max() - found.min() > 0.8
    assert len(found.unique()) > 40


def test_the_same_seed_moves_alike_and_eval_is_the_identity() -> None:
    link, x = Moved(rotation(4), math.pi), torch.randn(3, 16)
    torch.manual_seed(1)
    first = link.train()(x)
    torch.manual_seed(1)
    assert torch.equal(link(x), first)
    assert link.eval()(x) is x
    assert Moved(rotation(4), 0).train()(x) is x


def test_bad_input() -> None:
    for reach in (-1, math.nan):
        with pytest.raises(ValueError, match=f"reach={reach} is no distance"):
            Moved(rotation(2), reach)
