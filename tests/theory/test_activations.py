import math

import pytest
import torch
from torch import nn
from torch.func import jvp, vmap
from torch.nn import functional as F

from labkit.theory.activations import NAMES, resolve

POINTS = torch.linspace(-3.05, 2.95, 13, dtype=torch.float64)  # off the kinks at -1, 0, 1


@pytest.mark.parametrize("name", NAMES)
def test_derivative_under_jvp_and_vmap_is_the_finite_difference(name):
    phi = resolve(name)
    _, slope = vmap(lambda h: jvp(phi, (h,), (torch.ones_like(h),)))(POINTS)
    step = 1e-6
    by_differences = (phi(POINTS + step) - phi(POINTS - step)) / (2 * step)
    torch.testing.assert_close(slope, by_differences, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"linear", "erf", "sin", "cos"}])
def test_names_mean_what_torch_means(name):
    assert torch.equal(resolve(name)(POINTS), getattr(F, name)(POINTS))


def test_gelu_is_the_exact_one():
    exact = [h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in POINTS.tolist()]
    assert resolve("gelu")(POINTS).tolist() == pytest.approx(exact, abs=1e-15, rel=1e-14)


def test_linear_is_the_identity_and_erf_is_erf():
    assert torch.equal(resolve("linear")(POINTS), POINTS)
    assert resolve("erf")(POINTS).tolist() == pytest.approx([math.erf(h) for h in POINTS.tolist()], abs=1e-15)


def test_callables_pass_unchanged():
    def cube(h):
        return h**3

    module = nn.PReLU(dtype=torch.float64)
    assert resolve(cube) is cube
    assert resolve(module) is module


@pytest.mark.parametrize(("wrong", "near"), [("rleu", "relu"), ("Tanh", "tanh"), ("gleu", "gelu")])
def test_unknown_name_lists_near_ones(wrong, near):
    with pytest.raises(ValueError, match=f"activation='{wrong}' is not a name.*{near}"):
        resolve(wrong)


def test_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match="known are linear, relu"):
        resolve("qqqqqq")


@pytest.mark.parametrize(
    "mixing", [lambda h: h - h.mean(), lambda h: torch.softmax(h, -1), lambda h: h[..., :1], torch.rand_like]
)
def test_callable_that_is_not_elementwise_is_refused(mixing):
    with pytest.raises(ValueError, match="must map each entry alone"):
        resolve(mixing)


def test_neither_name_nor_function_is_refused():
    with pytest.raises(TypeError, match="not a int"):
        resolve(3)
    with pytest.raises(TypeError, match="activation=ReLU returned a ReLU"):
        resolve(nn.ReLU)
