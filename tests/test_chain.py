"""The chain as a whole: what it evaluates, how it slices and adds, and its derivative against autograd."""

import copy
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from labkit import Chain
from labkit.chain import LinkReport
from labkit.links import Layer, Residual


def mlp() -> Chain:
    torch.manual_seed(0)
    layers = [Layer(nn.Linear(6, 6), torch.tanh) for _ in range(4)]
    return Chain([nn.Linear(4, 6), *layers, Layer(nn.Linear(6, 3), torch.relu)]).double()


def residual_mlp() -> Chain:
    torch.manual_seed(0)
    return Chain([Residual(Layer(nn.Linear(5, 5), nn.GELU()), 0.5) for _ in range(5)]).double()


def conv_block() -> Chain:
    torch.manual_seed(0)
    branch = nn.Sequential(
        nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
    )
    return Chain([Residual(branch), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)]).double().eval()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h, h, h, need_weights=False)[0]


def transformer(pre_norm: bool) -> Chain:
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for _ in range(2):
        for branch in (Attention(), nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))):
            norm = nn.LayerNorm(8)
            if pre_norm:
                blocks.append(Residual(nn.Sequential(norm, branch)))
            else:
                blocks.append(nn.Sequential(Residual(branch), norm))
    return Chain(blocks).double().eval()


CHAINS = {
    "mlp": (mlp, (4,)),
    "residual mlp": (residual_mlp, (5,)),
    "conv block": (conv_block, (2, 4, 4)),
    "pre-LN transformer": (lambda: transformer(True), (3, 8)),
    "post-LN transformer": (lambda: transformer(False), (3, 8)),
    "encoder": (
        lambda: Chain([nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).double().eval()] * 2),
        (3, 8),
    ),
    "functions": (lambda: Chain([torch.sin, lambda h: h.cumsum(1), Chain([torch.exp, nn.Softmax(-1)])]), (4,)),
}


def case(name: str, batch: int = 5) -> tuple[Chain, Tensor]:
    build, shape = CHAINS[name]
    return build(), torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def oracle(function, x: Tensor) -> Tensor:
    rows = [torch.autograd.functional.jacobian(function, x[i : i + 1]) for i in range(len(x))]
    return torch.stack([row.reshape(-1, x[0].numel()) for row in rows])


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dense", [True, False])
def test_chain_rule_holds_at_every_depth(name, dense):
    chain, x = case(name)
    lin = chain.linearize(x, dense=dense)
    for depth, prefix in enumerate(lin.prefixes()):
        if depth:
            close(prefix, oracle(chain[:depth], x))
    close(lin.dense(), oracle(chain, x))


@pytest.mark.parametrize("name", CHAINS)
def test_batch_of_five_equals_loop_of_five(name):
    chain, x = case(name)
    together = chain.linearize(x).dense()
    alone = torch.cat([chain.linearize(x[i : i + 1]).dense() for i in range(5)])
    close(together[-1], alone[-1])
    close(together, alone)


@pytest.mark.parametrize("name", CHAINS)
def test_states_are_the_forward_pass(name):
    chain, x = case(name)
    states = chain.states(x)
    assert states[0] is x
    assert len(states) == len(chain) + 1
    torch.testing.assert_close(states[-1], chain(x))
    for depth, h in enumerate(states[1:], 1):
        torch.testing.assert_close(h, chain[:depth](x))
    assert chain.linearize(x).sizes == [h[0].numel() for h in states]


@pytest.mark.parametrize("name", ["mlp", "pre-LN transformer"])
def test_gradients_of_the_linearization_are_right(name):
    chain, x = case(name, batch=2)
    probe, direction = torch.randn_like(chain.linearize(x).dense()), torch.randn_like(x)

    def total(h: Tensor) -> Tensor:
        return (chain.linearize(h).dense() * probe).sum()

    (gradient,) = torch.autograd.grad(total(h := x.clone().requires_grad_()), h)
    step = 1e-5
    difference = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference.detach(), rtol=1e-5, atol=1e-6)
    weight = next(p for p in chain.parameters() if p.ndim == 2)
    (gradient,) = torch.autograd.grad(total(x), weight)
    with torch.no_grad():
        weight[0, 0] += step
        above = total(x)
        weight[0, 0] -= 2 * step
        below = total(x)
    torch.testing.assert_close(gradient[0, 0], (above - below) / (2 * step), rtol=1e-5, atol=1e-6)


class Counted(TorchDispatchMode):
    """How often each operation runs."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_states_and_jacobians_share_one_walk():
    chain = Chain([Residual(Layer(nn.Linear(5, 5), torch.tanh)) for _ in range(7)])
    with torch.no_grad(), Counted() as counted:
        chain.linearize(torch.randn(3, 5))
    assert counted.counts["aten.tanh.default"] == 7
    assert counted.counts["aten.addmm.default"] == 7


def test_linearization_inside_no_grad_and_inference_mode():
    for name in ("mlp", "pre-LN transformer", "functions"):
        chain, x = case(name)
        expected = chain.linearize(x).dense()
        with torch.no_grad():
            close(chain.linearize(x).dense(), expected.detach())
        with torch.inference_mode():
            close(chain.linearize(x.clone()).dense().clone(), expected.detach())
            lazy = chain.linearize(x.clone(), dense=False)
            close((lazy @ torch.eye(x[0].numel(), dtype=x.dtype)).clone(), expected.detach())
            close(lazy.dense().clone(), expected.detach())


def test_sequence_protocol():
    chain = mlp()
    assert len(chain) == 6
    assert chain[1] is list(chain)[1]
    assert chain.names[0] == "0.Linear"
    assert chain[2:5].names == ["2.Layer", "3.Layer", "4.Layer"]
    x = torch.randn(2, 4, dtype=torch.float64)
    torch.testing.assert_close((chain[:2] + chain[2:])(x), chain(x))
    assert (chain[:2] + chain[2:]).names == chain.names
    assert (chain[2:3] + chain[2:3]).names == ["0.Layer", "1.Layer"]


def test_sequential_gives_its_children():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    chain = Chain(model, names=["in", "phi", "out"])
    assert chain.names == ["in", "phi", "out"]
    assert all(link is child for link, child in zip(chain, model, strict=True))
    x = torch.randn(2, 3)
    torch.testing.assert_close(chain(x), model(x))


def test_chain_is_a_module():
    chain = Chain([nn.Linear(3, 4), torch.tanh, Chain([nn.Linear(4, 2)])])
    assert len(list(chain.parameters())) == 4
    assert chain.double()[0].weight.dtype == torch.float64
    assert set(copy.deepcopy(chain).state_dict()) == {"0.weight", "0.bias", "2.0.weight", "2.0.bias"}


def test_feature_space_geometry_is_a_slice():
    chain, x = case("mlp")
    lin, h = chain.linearize(x), chain.states(x)[2]
    torch.testing.assert_close(chain[2:].linearize(h).dense(), lin[2:].dense())


def test_inspect_reports_every_link():
    def shifted(h: Tensor) -> Tensor:
        return h - h.mean(0)

    chain = Chain(
        [nn.Linear(3, 50), torch.tanh, nn.ReLU(), lambda h: h.abs(), nn.Dropout(), shifted, nn.BatchNorm1d(50)]
    )
    before = torch.get_rng_state()
    reports = chain.inspect(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())
    assert reports[0] == LinkReport("0.Linear", (4, 3), (4, 50), True, True, False, False, 4 * 3 * 50 * 4)
    assert [r.smooth for r in reports[1:4]] == [True, False, False]
    assert [r.stochastic for r in reports] == [False, False, False, False, True, False, False]
    assert [r.batch_coupled for r in reports[:4] + reports[5:]] == [False, False, False, False, True, True]


def test_kinks_are_found_by_behaviour():
    def hidden(h: Tensor) -> Tensor:
        return torch.maximum(h, 0.1 * h) + h.sin()

    x = torch.randn(8, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    smooth = [nn.LayerNorm(40).double(), nn.Softmax(-1), nn.GELU(), nn.ELU(), lambda h: h**3, torch.ones_like]
    kinked = [hidden, lambda h: nn.functional.layer_norm(h.relu(), (40,)), lambda h: h.topk(20, 1).values]
    assert [Chain([link]).inspect(x)[0].smooth for link in smooth] == [True] * 6
    assert [Chain([link]).inspect(x)[0].smooth for link in kinked] == [False] * 3


def test_kinks_in_float32():
    x = torch.randn(8, 40, generator=torch.Generator().manual_seed(3))
    block = nn.TransformerEncoderLayer(40, 2, 32, batch_first=True, dropout=0.0, activation="gelu").eval()
    assert Chain([lambda h: block(h[:, None])[:, 0]]).inspect(x)[0].smooth
    assert not Chain([lambda h: block(h[:, None])[:, 0].relu()]).inspect(x)[0].smooth


def test_fast_path_and_kernels_are_restored_even_on_error():
    def broken(h: Tensor) -> Tensor:
        if torch.backends.mha.get_fastpath_enabled():
            return h.sin()
        raise KeyError("inside")

    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(KeyError):
        Chain([broken]).linearize(torch.randn(2, 3))
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())


@pytest.mark.cuda
def test_device_is_that_of_x():
    chain = mlp().cuda()
    lin = chain.linearize(torch.randn(2, 4, dtype=torch.float64, device="cuda"))
    assert lin.device.type == "cuda"
    assert lin.dense().device.type == "cuda"
