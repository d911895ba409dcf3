"""Kinks are found by behaviour: wide and narrow links, in both precisions, and what the refusal says."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import Chain
from labkit._kinks import is_smooth
from labkit.geometry import curvature
from labkit.links import Layer, Residual
from labkit.networks import mlp
from labkit.networks.transformer import transformer


def states(n: int, batch: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(batch, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Opaque(nn.Module):
    """A link that no rule knows, so that only its behaviour tells."""

    def __init__(self, function):
        super().__init__()
        self.function = function if isinstance(function, nn.Module) else None
        self.call = function

    def forward(self, h: Tensor) -> Tensor:
        return self.call(h)


def half_and_half(h: Tensor) -> Tensor:
    left, right = h.chunk(2, 1)
    return torch.cat([F.gelu(left), F.relu(right)], 1)


def small_kink(h: Tensor) -> Tensor:
    return F.softplus(20 * h) + F.leaky_relu(h, 0.9)


def block(n: int, activation: str, hidden: int = 8) -> nn.Module:
    layer = nn.TransformerEncoderLayer(n, 2, hidden, dropout=0.0, batch_first=True, activation=activation).eval()
    return Opaque(lambda h: layer.to(h)(torch.stack([h, h.sin(), -h], 1)))


def attention(h: Tensor) -> Tensor:
    tokens = h.reshape(len(h), 2, -1)
    return F.scaled_dot_product_attention(tokens, tokens.roll(1, -1), tokens.sin()).flatten(1)


SMOOTH = {
    "gelu": F.gelu,
    "softplus(20)": lambda h: F.softplus(20 * h),
    "tanh(5)": lambda h: torch.tanh(5 * h),
    "layer norm": lambda h: F.layer_norm(h, h.shape[1:]),
    "softmax": lambda h: h.softmax(1),
    "attention": attention,
    "cube": lambda h: h**3,
    "exponential": torch.exp,
    "constant": torch.ones_like,
    "affine": lambda h: 3 * h.flip(1) - 1,
    "large and smooth": lambda h: h.sin() + 1000,
    "undefined far away": lambda h: (h.square() + 1 - 1e-3 * h.exp()).log(),
    "gelu block": block(8, "gelu"),
}
KINKED = {
    "relu": lambda h: h.clamp(min=0),
    "leaky relu": lambda h: torch.maximum(h, 0.1 * h),
    "almost linear": lambda h: torch.maximum(h, 0.9 * h),
    "absolute value": lambda h: h.abs(),
    "largest": lambda h: h.amax(1, keepdim=True),
    "max pool": lambda h: F.max_pool1d(h[:, None], 2)[:, 0],
    "norm, relu": lambda h: F.layer_norm(h, h.shape[1:]).clamp(min=0),
    "relu, norm": lambda h: F.layer_norm(h.clamp(min=0), h.shape[1:]),
    "gelu and relu": half_and_half,
    "sharp and slightly kinked": small_kink,
    "selu": lambda h: F.selu(h) + 0,
    "rounded": lambda h: (4 * h).round(),
    "relu block": block(8, "relu"),
    "tiny": lambda h: 1e-6 * h.clamp(min=0),
    "beside a large constant": lambda h: h.clamp(min=0) + 100,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [8, 40])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_links_are_accepted(name, n, dtype):
    if n == 8 or name != "gelu block":
        assert all(is_smooth(Opaque(SMOOTH[name]), states(n, dtype=dtype, seed=seed)) for seed in range(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [8, 40])
@pytest.mark.parametrize("name", KINKED)
def test_kinked_links_are_found(name, n, dtype):
    if (n == 8 or name != "relu block") and (dtype == torch.float64 or name != "sharp and slightly kinked"):
        assert not any(is_smooth(Opaque(KINKED[name]), states(n, dtype=dtype, seed=seed)) for seed in range(3))


@pytest.mark.parametrize("hidden", [2, 4, 64])
def test_relu_encoder_layer_is_never_smooth_by_luck(hidden):
    for seed in range(5):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(4, 2, hidden, dropout=0.0, batch_first=True, activation=F.relu).eval()
        chain, x = Chain([layer]), torch.randn(2, 3, 4)
        assert not chain.inspect(x)[0].smooth
        with pytest.raises(ValueError, match=r"link '0\.TransformerEncoderLayer' has kinks"):
            chain.jet(x)


def test_narrow_links():
    for seed in range(10):
        x = states(1, batch=2, seed=seed)
        assert is_smooth(Opaque(torch.tanh), x)
        assert not is_smooth(Opaque(lambda h: (h - 0.5).clamp(min=0)), x)


def test_scale_of_the_state_does_not_matter():
    for scale in (1e-8, 1e8):
        x = scale * states(8)
        assert is_smooth(Opaque(lambda h, s=scale: torch.tanh(h / s)), x)
        assert not is_smooth(Opaque(lambda h: h.clamp(min=0)), x)
    assert not is_smooth(Opaque(torch.abs), torch.zeros(2, 8, dtype=torch.float64))


KNOWN = {
    "relu": (nn.ReLU(), False),
    "leaky relu": (nn.LeakyReLU(), False),
    "function": (F.leaky_relu, False),
    "max pool": (nn.MaxPool1d(2), False),
    "relu layer": (Layer(nn.Linear(4, 4), torch.relu), False),
    "residual of a chain": (Residual(nn.Sequential(nn.LayerNorm(4), Chain([nn.Linear(4, 4), nn.ReLU()]))), False),
    "tanh": (torch.tanh, True),
    "softplus": (nn.Softplus(beta=1e6), True),
    "norm": (nn.LayerNorm(4), True),
    "gelu layer": (Layer(nn.Linear(4, 4), F.gelu), True),
    "layer of an unknown function": (Layer(nn.Linear(4, 4), lambda h: h**3), True),
    "layer of an unknown kink": (Layer(nn.Linear(4, 4), lambda h: h.clamp(min=0)), False),
    "nothing": (nn.Sequential(), True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_links_answer_by_rule_or_by_their_parts(name):
    link, smooth = KNOWN[name]
    assert is_smooth(link, states(4, dtype=torch.float32)) == smooth
    far = states(4, dtype=torch.float32) * 0 + torch.tensor([1.0, 2, 3, 4])  # also away from every kink
    assert is_smooth(link, far) == smooth or "unknown" in name


def test_attention_and_networks():
    x = torch.randn(2, 3, 8)
    assert [report.smooth for report in transformer(2, 8, 2, links="part").inspect(x)] == [True] * 4
    assert [report.smooth for report in mlp(3, 8, "relu", 1.0, 0.0).inspect(states(8).float())] == [False] * 3


def test_refusal_names_the_link_and_what_is_right_for_it():
    chain = Chain([nn.Linear(3, 8), lambda h: h.clamp(min=0), nn.Linear(8, 2)], names=["in", "hinge", "out"]).double()
    x = states(3)
    for method in (chain.jet, chain.jets):
        with pytest.raises(ValueError, match="link 'hinge' has kinks") as caught:
            method(x)
        named = [word for word in str(caught.value).replace(",", " ").split() if word.startswith("curvature.")]
        assert named == ["curvature.total_curvature", "curvature.turning_angle", "curvature.metric_variation"]
        assert all(callable(getattr(curvature, word.partition(".")[2])) for word in named)
        assert 'kinks="ignore"' in str(caught.value)


def test_smooth_part_of_a_kinked_link():
    chain = Chain([nn.Linear(3, 6), nn.Tanh(), lambda h: h.clamp(min=0), nn.Linear(6, 6), nn.ReLU()]).double()
    x = states(3)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            second = chain.jet(x, kinks="ignore").second
        step, v = 1e-5, states(3, seed=9)
        with torch.no_grad():
            difference = (chain(x + step * v) - 2 * chain(x) + chain(x - step * v)) / step**2
        torch.testing.assert_close(torch.einsum("bnkl,bk,bl->bn", second, v, v), difference, rtol=1e-4, atol=1e-4)
    assert not Chain([nn.ReLU()]).jet(x, kinks="ignore").second.any()


def test_probing_leaves_the_random_state():
    before = torch.get_rng_state()
    is_smooth(Opaque(torch.tanh), states(4))
    assert torch.equal(before, torch.get_rng_state())
