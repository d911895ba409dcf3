"""Every bad input of a chain gets one sentence that names it, and the model is left as it was."""

import copy
import functools
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit import Chain, _memory, _preflight
from labkit.links import Layer, Residual

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def refused(error: type[Exception], *words: str):
    return pytest.raises(error, match="(?s)" + ".*".join(words))


def test_no_links():
    with refused(ValueError, "links is empty", "at least one link"):
        Chain([])
    with refused(ValueError, "links is empty"):
        Chain([torch.sin])[1:]


def test_link_that_is_not_callable():
    with refused(TypeError, r"links\[1\] is a Tensor, not a callable"):
        Chain([torch.sin, torch.ones(3, 3)])
    with refused(TypeError, "links is one Linear", r"Chain\(\[link\]\)"):
        Chain(nn.Linear(3, 3))


def test_names_of_wrong_number_or_twice():
    with refused(ValueError, "names has 1 entries for 2 links"):
        Chain([torch.sin, torch.cos], names=["a"])
    with refused(ValueError, "names holds 'a' more than once"):
        Chain([torch.sin, torch.cos], names=["a", "a"])


@pytest.mark.parametrize("method", ["linearize", "states", "inspect"])
def test_shapes_that_do_not_compose(method):
    chain = Chain([nn.Linear(3, 4), nn.Tanh(), nn.Linear(5, 2)])
    with refused(ValueError, "link '2.Linear' cannot take", r"shape \(4, 4\)", "'1.Tanh' gives", "5x2"):
        getattr(chain, method)(X)
    with refused(ValueError, "link '0.Linear' cannot take", "torch.float64", "the chain is given"):
        getattr(chain, method)(X.double())
    with refused(ValueError, "link '0.LayerNorm' cannot take", "normalized_shape"):
        getattr(Chain([nn.LayerNorm(2)]), method)(X)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_input_that_has_no_derivative(dtype):
    with refused(TypeError, f"x is {dtype}", "cut the model after its embedding"):
        Chain([nn.Embedding(9, 3)]).linearize(torch.ones(2, 5).to(dtype))


def test_input_without_batch_axis_or_numbers():
    with refused(ValueError, r"x has shape \(3,\) and no batch axis", r"x\[None\]"):
        Chain([nn.Linear(3, 3)]).linearize(X[0])
    with refused(ValueError, r"x has shape \(0, 3\) and so no numbers"):
        Chain([nn.Linear(3, 3)]).linearize(X[:0])


def test_image_without_batch_axis():
    for link in (nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())):
        with refused(ValueError, "link 'conv' takes", r"shape \(2, 5, 5\)", "batch axis"):
            Chain([link], ["conv"]).linearize(torch.ones(2, 5, 5))


def test_autocast_is_refused():
    with torch.autocast("cpu", torch.bfloat16), refused(RuntimeError, "autocast is on"):
        Chain([nn.Linear(3, 3)]).linearize(X)


def test_chunk_size_must_be_positive():
    with refused(ValueError, "chunk_size is 0"):
        Chain([torch.sin]).linearize(X, chunk_size=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_in_x_that_are_not_finite(bad):
    x = X.clone()
    x[2, 1] = bad
    with refused(ValueError, "x holds NaN or Inf in sample 2"):
        Chain([nn.Linear(3, 3)]).linearize(x)


def test_link_that_produces_them_first():
    x = X.abs().clone()
    x[3, 0] = -1.0
    with refused(ValueError, "link 'root' is the first to produce NaN or Inf, in sample 3"):
        Chain([nn.Identity(), torch.sqrt, nn.Linear(3, 3), torch.tanh], ["a", "root", "b", "c"]).linearize(x)


def test_overflow_that_a_later_link_would_hide():
    with refused(ValueError, "link '0.exp' is the first to produce NaN or Inf"):
        Chain([torch.exp, torch.tanh]).linearize(1000 + X)


def test_derivative_that_is_not_finite():
    x = X.clone()
    x[1] = 0.0
    with refused(ValueError, "link 'norm' has no finite derivative in sample 1"):
        Chain([torch.sin, lambda h: h.abs().sqrt()], ["sin", "norm"]).linearize(x)


def test_derivative_of_known_links_that_overflows():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    for linear in (first, second):
        nn.init.constant_(linear.weight, 1e30)
        nn.init.zeros_(linear.bias)
    with refused(ValueError, "link 'both' has no finite derivative in sample 0", "smaller weights"):
        Chain([nn.Sequential(first, second)], ["both"]).linearize(torch.zeros(2, 3))


def test_finite_numbers_whose_sum_overflows_are_fine():
    x = torch.full((3, 4), 60000.0, dtype=torch.float16)
    assert Chain([torch.tanh]).linearize(x).dense().eq(0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad):
    for build in (
        lambda linear: linear,
        lambda linear: Layer(linear, torch.tanh),
        lambda linear: Residual(linear),
        lambda linear: nn.Sequential(linear, nn.ReLU(), nn.Linear(3, 3)),
        lambda linear: nn.Sequential(linear, nn.Hardtanh()),
    ):
        linear = nn.Linear(3, 3)
        linear.weight.data[1, 1] = bad
        link = build(linear)
        with refused(ValueError, r"parameter '[\w.]*weight'") as caught:
            Chain([torch.sin, link], ["one", "two"]).linearize(X)
        assert "link 'two'" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_quantised_are_no_fault(dtype):
    link = Wrapped(nn.Linear(3, 3))
    link.scale = nn.Parameter(torch.ones(3).to(dtype), requires_grad=False)
    assert Chain([link]).linearize(X).sizes == [3, 3]


class Shared(nn.Module):
    """A link that runs a model which other links run too, as the links of a cut do."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, h: Tensor) -> Tensor:
        return self.model(h)


def test_model_that_links_share_is_looked_at_once(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval())
    seen: list[int] = []
    norm = nn.utils.get_total_norm
    monkeypatch.setattr(nn.utils, "get_total_norm", lambda weights: seen.append(len(weights)) or norm(weights))
    Chain([Shared(model) for _ in range(5)]).linearize(X)
    assert seen == [len(list(model.parameters()))]
    modules = [Shared(model), Shared(model), torch.sin]
    assert Counter(map(id, _preflight._together(modules).modules())).most_common(1)[0][1] == 1


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = nn.ModuleDict({"deep": inner})

    def forward(self, h: Tensor) -> Tensor:
        return self.inner["deep"](h)


@pytest.mark.parametrize(
    ("link", "where", "effect"),
    [
        (nn.Dropout(0.5), "link '0.Dropout'", "random"),
        (nn.BatchNorm1d(3), "link '0.BatchNorm1d'", "batch-coupled"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "link '0.BatchNorm1d'", "batch-coupled"),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)), "submodule '1' of link '0.Sequential'", "random"),
        (Wrapped(nn.BatchNorm1d(3)), "submodule 'inner.deep' of link '0.Wrapped'", "batch-coupled"),
        (Wrapped(Wrapped(nn.AlphaDropout(0.2))), "submodule 'inner.deep.inner.deep'", "random"),
        (Residual(nn.Sequential(nn.Linear(3, 3), nn.RReLU())), "submodule 'branch.1' of link '0.Residual'", "random"),
    ],
)
def test_train_mode_of_any_submodule(link, where, effect):
    with refused(ValueError, where, effect, r"\.eval\(\)"):
        Chain([link]).linearize(X)


def test_train_mode_that_changes_nothing_is_accepted():
    link = Wrapped(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0), nn.LayerNorm(3))).train()
    assert Chain([link]).linearize(X).sizes == [3, 3]
    assert link.training


def test_one_eval_of_a_submodule_is_enough():
    link = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    link[1].eval()
    assert Chain([link]).linearize(X).sizes == [3, 3]


FUNCTIONAL = {
    "dropout": (lambda h: F.dropout(h, 0.5), "two answers for one state"),
    "noise": (lambda h: h + 0.01 * torch.randn_like(h), "two answers for one state"),
    "partial": (functools.partial(F.dropout, p=0.3), "two answers for one state"),
    "method": (nn.Dropout(0.5).forward, "two answers for one state"),
    "batch norm": (lambda h: F.batch_norm(h, None, None, training=True), "one sample change"),
    "softmax over the batch": (lambda h: h.softmax(0), "one sample change"),
    "largest of the batch": (lambda h: h / h.abs().max(), "one sample change"),
    "shuffled": (lambda h: h.roll(1, 0), "one sample change"),
    "seen from the first": (lambda h: h - h[:1], "one sample change"),
    "seen from the second": (lambda h: h * h[1:2].cos(), "one sample change"),
    "summed over the batch": (lambda h: h.cumsum(0), "one sample change"),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
@pytest.mark.parametrize("dense", [True, False])
def test_functional_randomness_and_coupling(name, dense):
    link, message = FUNCTIONAL[name]
    many = torch.randn(20, 3)  # two masks of sixty units are never the same
    with refused(ValueError, "link 'bad'", message):
        Chain([nn.Linear(3, 3), link], ["good", "bad"]).linearize(many, dense=dense)


@pytest.mark.parametrize("name", ["softmax over the batch", "largest of the batch"])
def test_coupling_shows_with_one_sample_too(name):
    with refused(ValueError, "batch-coupled"):
        Chain([FUNCTIONAL[name][0]]).linearize(X[:1])


def test_link_made_for_one_batch_size_is_accepted():
    def fixed(h: Tensor) -> Tensor:
        if len(h) != 1:
            raise ValueError("one sample only")
        return h.sin()

    torch.testing.assert_close(Chain([fixed]).linearize(X[:1]).dense()[0].diagonal(), X[0].cos())


def test_in_place_only_where_it_overwrites_a_state():
    with refused(ValueError, "link '1.ReLU' overwrites its input in place", "inplace=False"):
        Chain([nn.Linear(3, 3), nn.ReLU(inplace=True)]).linearize(X.clone())
    with refused(ValueError, "link '0.tanh_' overwrites its input"):
        Chain([torch.tanh_]).states(X.clone())
    with refused(ValueError, "link '1.Sequential' overwrites"):
        Chain([nn.Linear(3, 3), nn.Sequential(nn.ReLU(True), nn.Linear(3, 3))]).linearize(X)
    assert Chain([nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))]).linearize(X).sizes == [3, 3]


def test_refused_in_place_link_has_not_touched_x():
    for method in ("linearize", "states", "inspect"):
        x = X.clone()
        with refused(ValueError, "overwrites its input"):
            getattr(Chain([nn.ReLU(inplace=True)]), method)(x)
        assert torch.equal(x, X)


@pytest.mark.parametrize("link", [lambda h: h.sum(), lambda h: h.sum(0), lambda h: h.flatten(), lambda h: h[:2]])
def test_batch_that_is_lost(link):
    with refused(ValueError, "link 'bad'", r"shape \(4, 3\)", "loses the batch of 4"):
        Chain([torch.sin, link], ["good", "bad"]).linearize(X)


def test_link_that_returns_no_floating_tensor():
    with refused(TypeError, "link '0.GRU' returns tuple"):
        Chain([nn.GRU(3, 3)]).linearize(X)
    with refused(TypeError, "link '0.argmax' returns torch.int64"):
        Chain([functools.partial(torch.argmax, dim=1)], ["0.argmax"]).linearize(X)


def test_link_that_changes_the_dtype():
    with refused(ValueError, "link '1.wider' turns torch.float32 into torch.float64"):
        Chain([torch.sin, lambda h: h.double()], ["0.sin", "1.wider"]).linearize(X)


def test_memory_that_would_not_fit():
    x = torch.zeros(1, 10_000_000)
    with refused(
        MemoryError, "dense Jacobians of 1 links on 1 samples need 4e[+]05 GB", "dense=False and push a basis"
    ):
        Chain([torch.tanh]).linearize(x)
    assert Chain([torch.tanh]).linearize(x, dense=False).sizes == [10_000_000, 10_000_000]


def test_columns_that_would_not_fit(monkeypatch):
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 8e7)
    chain, x = Chain([lambda h: h.cumsum(1)]), torch.zeros(4, 2000)
    with refused(MemoryError, "columns at once .* more", "smaller chunk_size"):
        chain.linearize(x)
    assert chain.linearize(x, chunk_size=50).sizes == [2000, 2000]


def test_available_memory_is_a_figure():
    assert 1e6 < _memory.available_bytes(torch.device("cpu")) < 1e15


class Stateful(nn.Module):
    """Counts its calls, draws a random number that changes nothing, and smooths a buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("average", torch.zeros(3))

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.average.mul_(0.9).add_(h.detach().mean(0) + torch.rand(3))
        return self.linear(h).sin()


@pytest.mark.parametrize("method", ["linearize", "inspect"])
@pytest.mark.parametrize("fails", [False, True])
def test_model_is_left_as_it_was(method, fails):
    model = nn.Sequential(Stateful(), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5).eval()))
    model[1][0].register_forward_hook(lambda module, args, out: 2 * out)
    model[0].linear.weight.grad = torch.ones(3, 3)
    if fails:
        model.append(nn.Linear(7, 7))
    before = copy.deepcopy(model)
    modes, rng = [m.training for m in model.modules()], torch.get_rng_state()
    if fails:
        with refused(ValueError, "'2.Linear' cannot take"):
            getattr(Chain(model), method)(X)
    else:
        getattr(Chain(model), method)(X)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    for (name, one), (_, other) in zip(model.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    assert torch.equal(model[0].linear.weight.grad, torch.ones(3, 3))
    assert model[1][0].weight.grad is None
    assert len(model[1][0]._forward_hooks) == 1
