"""The traps of torch that labkit works around: a test that fails here says that its workaround can go.

Truth is a central difference in float64, and the last sample is looked at.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian, jacfwd, jvp, vjp, vmap
from torch.nn import functional as F

from labkit._automatic import forward_mode_allowed


def square(h: Tensor) -> Tensor:
    return h.reshape(*h.shape[:-1], 3, 3)


LU_BASED = {
    "solve": lambda h: torch.linalg.solve(square(h), square(h).sin()).flatten(-2),
    "det": lambda h: torch.linalg.det(square(h))[..., None],
    "slogdet": lambda h: torch.linalg.slogdet(square(h))[1][..., None],
    "logdet": lambda h: torch.logdet(square(h) @ square(h).mT + torch.eye(3).to(h))[..., None],
}


def points(batch: int = 5, n: int = 9) -> Tensor:
    return torch.randn(batch, n, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def difference(function, x: Tensor, step: float = 1e-5) -> Tensor:
    """The Jacobian of a function of one vector by central differences, derivative index last."""
    unit = torch.eye(x.numel(), dtype=x.dtype)
    return torch.stack([(function(x + step * e) - function(x - step * e)) / (2 * step) for e in unit], -1)


def is_right(found: Tensor, truth: Tensor) -> bool:
    return torch.allclose(found, truth, rtol=1e-3, atol=1e-4 * truth.abs().max().item())


@pytest.mark.parametrize("name", LU_BASED)
def test_vmapped_forward_mode_of_lu_is_wrong_after_the_first_sample(name):
    function, x = LU_BASED[name], points()
    found = vmap(jacfwd(function))(x)
    assert is_right(found[0], difference(function, x[0]))
    assert not is_right(found[-1], difference(function, x[-1]))


@pytest.mark.parametrize("name", LU_BASED)
def test_vmapped_hessian_of_lu_is_wrong(name):
    function, x = LU_BASED[name], points()
    found = vmap(hessian(function))(x)
    assert not is_right(found[-1], difference(lambda h: difference(function, h, 1e-4), x[-1], 1e-4))


@pytest.mark.parametrize("name", ["solve", "det", "slogdet"])
def test_forward_over_forward_of_lu_is_wrong_even_for_one_sample(name):
    function, x = LU_BASED[name], points()[0]
    found = jacfwd(jacfwd(function))(x)
    assert not is_right(found, difference(lambda h: difference(function, h, 1e-4), x, 1e-4))


def test_cholesky_inverse_is_wrong_in_forward_mode():
    def function(h: Tensor) -> Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky(square(h) @ square(h).mT + torch.eye(3).to(h))).flatten(-2)

    x = points()[0]
    assert not is_right(jacfwd(function)(x), difference(function, x))


def gradient_of_a_tangent(link, x: Tensor, v: Tensor) -> Tensor:
    h = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(jvp(link, (h,), (v,))[1].square().sum(), h)
    return gradient


@pytest.mark.parametrize("link", [nn.LayerNorm(9).double(), LU_BASED["solve"], LU_BASED["det"]])
def test_gradient_through_forward_mode_is_wrong(link):
    x, v = points(1), points(1).roll(1, -1)
    truth = difference(lambda h: jvp(link, (h[None],), (v,))[1].square().sum(), x[0])
    assert not is_right(gradient_of_a_tangent(link, x, v)[0], truth)


def test_forward_over_forward_of_layer_norm_is_wrong():
    link, x, v = nn.LayerNorm(9).double(), points(1), points(1).roll(1, -1)
    found = jvp(lambda h: jvp(link, (h,), (v,))[1], (x,), (v,))[1]
    step = 1e-4
    truth = (link(x + step * v) - 2 * link(x) + link(x - step * v)) / step**2
    assert not is_right(found, truth)


def test_leaving_inference_mode_switches_gradients_on():
    with torch.no_grad(), torch.inference_mode(False):
        assert torch.is_grad_enabled()


def test_third_reverse_mode_of_layer_norm_is_wrong():
    link, x, v = nn.LayerNorm(9).double(), points(1), points(1).roll(1, -1)
    zero = torch.zeros_like(x)

    def pushed(h: Tensor) -> Tensor:
        return vjp(lambda u: vjp(link, h)[1](u)[0], zero)[1](v)[0].square().sum()

    h = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pushed(h), h)
    assert not is_right(gradient[0], difference(lambda h: pushed(h[None]), x[0]))


@pytest.mark.parametrize(
    "block",
    [
        lambda h: F.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None]),
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval(),
    ],
)
def test_attention_has_no_forward_mode_by_default(block):
    h = torch.randn(2, 3, 8)
    with torch.no_grad(), pytest.raises((NotImplementedError, RuntimeError)):
        jvp(block, (h,), (h,))
    with torch.no_grad(), forward_mode_allowed():
        assert jvp(block, (h,), (h,))[1].isfinite().all()


def test_half_types_have_no_factorisation():
    for function in (torch.linalg.qr, torch.linalg.svdvals):
        with pytest.raises(RuntimeError):
            function(torch.eye(3, dtype=torch.bfloat16))


def test_backward_of_svdvals_is_not_finite_at_lost_rank():
    matrix = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    matrix.data[0, 0] = 1.0
    for function in (lambda a: torch.linalg.qr(a)[1], torch.linalg.svd):
        out = function(matrix)
        (gradient,) = torch.autograd.grad(out.sum() if isinstance(out, Tensor) else out[0].sum(), matrix)
        assert not gradient.isfinite().all()


def test_summing_over_the_batch_is_wrong_under_batch_norm_in_train_mode():
    link, x = nn.BatchNorm1d(3).double(), points(4, 3)
    summed = torch.autograd.functional.jacobian(lambda h: link(h).square().sum(0), x).movedim(1, 0)
    truth = torch.autograd.functional.jacobian(lambda h: link(h).square(), x).diagonal(dim1=0, dim2=2).movedim(-1, 0)
    assert not is_right(summed, truth)
