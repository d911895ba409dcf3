"""Every rule against plain autograd, one sample at a time; the last sample of a batch counts as much as the first."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import Chain
from labkit._rules import jacobian, linearize, push, rule_of
from labkit.links import Layer, Residual

torch.manual_seed(0)


def attention(h: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(h, h.roll(1, -1), h.sin())


def branching(h: Tensor) -> Tensor:
    return h.sin() if h.detach().abs().sum().item() < 1e9 else h


def inverse_gram(h: Tensor) -> Tensor:
    a = h.reshape(-1, 3, 3)
    return torch.cholesky_inverse(torch.linalg.cholesky(a @ a.mT + torch.eye(3).to(h))).flatten(1)


class Cubed(torch.autograd.Function):  # the old style, which functorch refuses
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h**3

    @staticmethod
    def backward(ctx, u):
        (h,) = ctx.saved_tensors
        return 3 * h**2 * u


KNOWN = {
    "linear": (nn.Linear(6, 4), (6,)),
    "linear without bias": (nn.Linear(6, 4, bias=False), (6,)),
    "linear on tokens": (nn.Linear(6, 4), (3, 6)),
    "tanh": (nn.Tanh(), (6,)),
    "relu": (torch.relu, (6,)),
    "gelu": (nn.GELU(approximate="tanh"), (2, 3)),
    "silu": (nn.SiLU(), (6,)),
    "sigmoid": (torch.sigmoid, (6,)),
    "softplus": (nn.Softplus(beta=2.0), (6,)),
    "leaky": (nn.LeakyReLU(0.2), (6,)),
    "elu": (nn.ELU(0.7), (6,)),
    "selu": (F.selu, (6,)),
    "prelu": (nn.PReLU(3), (3, 4)),
    "layer norm": (nn.LayerNorm(6), (6,)),
    "layer norm on tokens": (nn.LayerNorm(6), (3, 6)),
    "layer norm on images": (nn.LayerNorm((3, 4), elementwise_affine=False, eps=0.1), (2, 3, 4)),
    "batch norm": (nn.BatchNorm2d(2).eval(), (2, 3, 3)),
    "conv1d": (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 5)),
    "conv2d": (nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", groups=2), (2, 4, 4)),
    "transposed": (nn.ConvTranspose1d(2, 3, 3), (2, 4)),
    "pooling": (nn.AvgPool2d(2), (2, 4, 4)),
    "flatten": (nn.Flatten(), (2, 3)),
    "dropout at rest": (nn.Dropout(0.5).eval(), (6,)),
    "layer": (Layer(nn.Linear(6, 4), torch.tanh), (6,)),
    "affine layer": (Layer(nn.Linear(6, 4), None), (6,)),
    "layer on tokens": (Layer(nn.Linear(6, 4), nn.GELU()), (3, 6)),
    "residual": (Residual(Layer(nn.Linear(6, 6), torch.tanh), 0.3), (6,)),
    "residual of a map shared by samples": (Residual(nn.Linear(6, 6)), (6,)),
    "residual of elementwise": (Residual(nn.Tanh(), torch.tensor(0.4)), (6,)),
    "residual of identity": (Residual(nn.Identity(), 2.0), (6,)),
    "trained scale": (Residual(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)), nn.Parameter(torch.rand(6))), (3, 6)),
    "sequential": (nn.Sequential(nn.Tanh(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 6)), (6,)),
    "one part twice": (nn.Sequential(*[nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)] * 2), (6,)),
    "nothing": (nn.Sequential(), (6,)),
    "images": (nn.Sequential(nn.BatchNorm2d(2).eval(), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten()), (2, 3, 3)),
    "chain": (Chain([nn.Linear(6, 3), torch.sin, nn.LayerNorm(3)]), (6,)),
}
UNKNOWN = {
    "square layer": (Layer(nn.Linear(6, 4), lambda h: h * h), (6,)),
    "in place inside": (nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), (6,)),
    "function": (lambda h: h.cumsum(1) ** 2, (6,)),
    "scalar": (lambda h: (h**2).sum(1), (2,)),
    "softmax": (nn.Softmax(-1), (6,)),
    "group norm": (nn.GroupNorm(1, 2), (2, 3)),
    "max pool": (nn.MaxPool1d(2), (2, 4)),
    "attention": (attention, (1, 3, 4)),
    "multi-head": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval(), (3, 8)),
    "data-dependent": (branching, (6,)),
    "old autograd function": (Cubed.apply, (6,)),
    "wrong forward mode": (inverse_gram, (9,)),
    "constant": (torch.ones_like, (3,)),
    "solve": (lambda h: torch.linalg.solve(h.reshape(-1, 3, 3), h.reshape(-1, 3, 3).sin()).flatten(1), (9,)),
}
CASES = KNOWN | UNKNOWN
for link, _ in CASES.values():
    if isinstance(link, nn.Module):
        link.double()


def oracle(link, x: Tensor) -> Tensor:
    """(B, n_out, n_in), sample by sample, in reverse mode."""
    rows = [torch.autograd.functional.jacobian(link, x[i : i + 1]) for i in range(len(x))]
    return torch.stack([row.reshape(-1, x[0].numel()) for row in rows])


def case(name: str, batch: int = 5):
    link, shape = CASES[name]
    return link, torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_dense_lazy_and_autograd_agree(name):
    link, x = case(name)
    expected = oracle(link, x)
    lazy = Chain([link]).linearize(x, dense=False)
    frame = torch.randn(5, expected.shape[2], 2, dtype=x.dtype)
    rows = torch.randn(5, expected.shape[1], 2, dtype=x.dtype)
    close(Chain([link]).linearize(x)[0], expected)
    close(lazy @ frame, expected @ frame)
    close(lazy.mT @ rows, expected.mT @ rows)
    close(lazy.dense(), expected)


@pytest.mark.parametrize("name", CASES)
def test_batch_of_five_equals_loop_of_five(name):
    link, x = case(name)
    alone = torch.cat([jacobian(link, x[i : i + 1]) for i in range(5)])
    together = jacobian(link, x)
    close(together[-1], alone[-1])
    close(together, alone)


@pytest.mark.parametrize("name", CASES)
def test_diagonal_and_dense_frames_compose(name):
    link, x = case(name)
    matrix, scale = jacobian(link, x), torch.rand(5, x[0].numel(), dtype=x.dtype)
    frame = torch.randn(5, x[0].numel(), 3, dtype=x.dtype)
    diagonal = push(link, x, scale)
    diagonal = torch.diag_embed(diagonal) if diagonal.ndim == 2 else diagonal
    close(diagonal, matrix * scale[:, None, :])
    close(push(link, x, frame), matrix @ frame)


@pytest.mark.parametrize("name", CASES)
def test_one_walk_gives_the_value_too(name):
    link, x = case(name)
    value, _ = linearize(link, x)
    torch.testing.assert_close(value, link(x), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "name", ["conv2d", "function", "scalar", "multi-head", "data-dependent", "old autograd function"]
)
@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_every_chunk_size_gives_the_same(name, chunk_size):
    link, x = case(name)
    close(Chain([link]).linearize(x, chunk_size=chunk_size)[0], jacobian(link, x))


@pytest.mark.parametrize("name", KNOWN)
def test_known_links_have_a_rule(name):
    assert rule_of(CASES[name][0]) is not None


@pytest.mark.parametrize("name", [n for n in CASES if n != "constant"])
def test_differentiable_in_the_state(name):
    link, x = case(name, batch=2)
    probe = torch.randn_like(jacobian(link, x))

    def total(h: Tensor) -> Tensor:
        return (jacobian(link, h) * probe).sum()

    direction, step = torch.randn_like(x), 1e-5
    (gradient,) = torch.autograd.grad(total(h := x.clone().requires_grad_()) + 0 * h.sum(), h)
    difference = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if isinstance(CASES[n][0], nn.Module)])
def test_differentiable_in_parameters(name):
    link, x = case(name, batch=2)
    for parameter in link.parameters():
        probe = torch.randn_like(jacobian(link, x))
        (gradient,) = torch.autograd.grad((jacobian(link, x) * probe).sum() + 0 * parameter.sum(), parameter)
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                parameter += step * direction
                values.append((jacobian(link, x) * probe).sum())
            parameter += 1e-5 * direction
        difference = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-5, atol=1e-7)


def test_subclass_with_its_own_forward_is_not_known():
    class Doubled(nn.Linear):
        def forward(self, h):
            return 2 * super().forward(h)

    class Named(nn.Linear):
        pass

    assert rule_of(Doubled(2, 2)) is None
    assert rule_of(Named(2, 2)) is not None


def test_hooked_or_patched_module_is_differentiated_as_it_runs():
    x = torch.randn(3, 4, dtype=torch.float64)
    hooked, patched = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    hooked.register_forward_hook(lambda module, args, out: out.sin())
    patched.forward = torch.cos
    for link in (hooked, patched):
        close(jacobian(link, x), oracle(link, x))


def test_hooked_activation_of_a_layer_is_differentiated_as_it_runs():
    hooked = nn.Tanh()
    hooked.register_forward_hook(lambda module, args, out: 2 * out)
    link, x = Layer(nn.Linear(4, 4).double(), hooked), torch.randn(3, 4, dtype=torch.float64)
    close(jacobian(link, x), oracle(link, x))


class InPlace(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.sin_()


@pytest.mark.parametrize("first", [nn.ReLU(inplace=True), InPlace()], ids=["known", "unknown"])
@pytest.mark.parametrize("dense", [True, False])
def test_part_that_overwrites_the_state_before_it(first, dense):
    branch = nn.Sequential(first, nn.Linear(4, 4))
    link = nn.Sequential(nn.Linear(4, 4), Residual(branch), nn.Tanh(), first).double()
    x = torch.randn(3, 4, dtype=torch.float64)

    def computed(h: Tensor) -> Tensor:
        phi = torch.relu if isinstance(first, nn.ReLU) else torch.sin
        h = link[0](h)
        return phi(torch.tanh(h + branch[1](phi(h))))

    torch.testing.assert_close(link(x), computed(x))
    close(Chain([link]).linearize(x, dense=dense).dense(), oracle(computed, x))


def test_jacobian_stays_when_the_weights_are_trained_further():
    for link in (nn.Linear(4, 4), Layer(nn.Linear(4, 4), torch.tanh), Residual(nn.Linear(4, 4))):
        found = Chain([link]).linearize(torch.randn(3, 4))[0]
        before = found.detach().clone()
        with torch.no_grad():
            for parameter in link.parameters():
                parameter.zero_()
        assert torch.equal(found, before)


def test_parametrized_weight_is_the_one_used():
    link = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4).double()).eval()
    x = torch.randn(3, 4, dtype=torch.float64)
    close(Chain([link]).linearize(x)[0], oracle(link, x))


@pytest.mark.parametrize(
    "activation",
    [nn.Softmax(-1), nn.BatchNorm1d(3).eval(), lambda h: h - h.mean(-2, keepdim=True), lambda h: h.flip(-2)],
    ids=["softmax", "batch norm", "centred over tokens", "tokens reversed"],
)
def test_layer_refuses_an_activation_that_mixes(activation):
    with pytest.raises(ValueError, match="activation must act on each entry"):
        Layer(nn.Linear(3, 3), activation)


class CubicConvolution(nn.Conv1d):
    def _conv_forward(self, h, weight, bias):
        return super()._conv_forward(h**3, weight, bias)


class SquaredReLU(nn.ReLU):
    def __call__(self, h):
        return super().__call__(h) ** 2


@pytest.mark.parametrize("link", [CubicConvolution(2, 2, 3), SquaredReLU()], ids=["cubic", "squared"])
def test_a_subclass_that_changes_what_forward_leans_on_is_not_known(link):
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    chain = Chain([link.double()])
    close(chain.linearize(x)[0], oracle(link, x))
    assert chain.jet(x, kinks="ignore").second.abs().max() > 0.1


@pytest.mark.parametrize("link", [nn.Sequential(nn.Tanh(), nn.Conv1d(6, 6, 1)), Residual(nn.Conv1d(6, 6, 1))])
def test_an_inner_convolution_does_not_take_samples_for_channels(link):
    for ask in (Chain([link]).linearize, Chain([link]).jet):
        with pytest.raises(ValueError, match=r"Conv1d takes a batch of shape \(6, 6\) for one image"):
            ask(torch.randn(6, 6))


def test_layer_and_residual_compute_what_they_say():
    linear, x = nn.Linear(4, 4), torch.randn(3, 4)
    torch.testing.assert_close(Layer(linear, torch.tanh)(x), torch.tanh(x) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(Residual(linear, 0.5)(x), x + 0.5 * linear(x))
    scale = nn.Parameter(torch.tensor(2.0))
    assert any(p is scale for p in Residual(linear, scale).parameters())
    assert "scale" in dict(Residual(linear, torch.ones(4)).named_buffers())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["layer", "layer norm on tokens", "residual", "conv2d", "softmax"])
def test_every_dtype_stays_what_it_is(name, dtype):
    link, x = case(name)
    expected = jacobian(link, x)
    link.to(dtype)
    try:
        found = Chain([link]).linearize(x.to(dtype))[0]
    finally:
        link.double()
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=16 * eps, atol=16 * eps * expected.abs().max().item())
