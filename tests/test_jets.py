"""Jets against nested torch.func and finite differences, one sample at a time; the last sample counts as the first."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev
from torch.nn import functional as F

from labkit import Chain, cut
from labkit._automatic import forward_mode_allowed
from labkit._jet_rules import jet_rule_of
from labkit.jets import Jet
from labkit.links import Layer, Residual
from labkit.networks.transformer import Attention, transformer

torch.manual_seed(0)
EPS = 1e-11


def attention(h: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(h, h.roll(1, -1), h.sin())


def square(h: Tensor) -> Tensor:
    return h.reshape(-1, 3, 3)


def inverse_gram(h: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(square(h) @ square(h).mT + torch.eye(3).to(h))).flatten(1)


def branching(h: Tensor) -> Tensor:
    return h.sin() if h.detach().abs().sum().item() < 1e9 else h


class Cubed(torch.autograd.Function):  # the old style, which functorch refuses
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h**3

    @staticmethod
    def backward(ctx, u):
        (h,) = ctx.saved_tensors
        return 3 * h**2 * u


class InPlace(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.sin_()


class Bilinear(nn.Module):
    def __init__(self, norm: nn.Module):
        super().__init__()
        self.one, self.other, self.norm = nn.Linear(4, 3), nn.Linear(4, 3), norm

    def forward(self, h: Tensor) -> Tensor:
        h = self.norm(h)
        return self.one(h) * self.other(h)


KNOWN = {
    "linear": (nn.Linear(4, 3), (4,)),
    "linear on tokens": (nn.Linear(4, 2), (3, 4)),
    "tanh": (nn.Tanh(), (4,)),
    "gelu": (nn.GELU(), (2, 3)),
    "gelu by tanh": (nn.GELU(approximate="tanh"), (4,)),
    "silu": (F.silu, (4,)),
    "softplus": (nn.Softplus(beta=2.0), (4,)),
    "mish": (nn.Mish(), (4,)),
    "elu": (nn.ELU(), (4,)),
    "erf": (torch.erf, (4,)),
    "sin": (torch.sin, (4,)),
    "square": (torch.square, (4,)),
    "layer norm": (nn.LayerNorm(4), (4,)),
    "layer norm on images": (nn.LayerNorm((2, 3), elementwise_affine=False, eps=0.1), (2, 2, 3)),
    "batch norm": (nn.Sequential(nn.BatchNorm2d(2).eval(), nn.Tanh(), nn.BatchNorm2d(2).eval()), (2, 1, 2)),
    "convolution": (
        nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Tanh(), nn.ConvTranspose1d(3, 1, 2)), (2, 4),
    ),
    "circular": (nn.Sequential(nn.Tanh(), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", groups=2)), (2, 2, 2)),
    "pooling": (nn.Sequential(nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5).eval()), (2, 2, 2)),
    "layer": (Layer(nn.Linear(4, 3), torch.tanh), (4,)),
    "affine layer": (Layer(nn.Linear(4, 3), None), (4,)),
    "cubic layer": (Layer(nn.Linear(4, 3), lambda h: h**3), (2, 4)),
    "residual": (Residual(Layer(nn.Linear(4, 4), torch.tanh), 0.3), (4,)),
    "residual of identity": (Residual(nn.Identity(), 2.0), (4,)),
    "trained scale": (
        Residual(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Tanh()), nn.Parameter(torch.rand(4))), (2, 4),
    ),
    "attention": (Attention(nn.Linear(4, 12), nn.Linear(4, 4), heads=2), (3, 4)),
    "causal attention": (Attention(nn.Linear(4, 12), nn.Linear(4, 4), heads=1, causal=True), (3, 4)),
    "nothing": (nn.Sequential(), (4,)),
    "chain": (Chain([nn.Linear(4, 3), torch.sin, nn.LayerNorm(3)]), (4,)),
    "block": (transformer(1, 4, 2)[0], (3, 4)),
}  # fmt: skip
UNKNOWN = {
    "in place inside": (nn.Sequential(nn.Linear(4, 3), InPlace(), nn.Linear(3, 2)), (4,)),
    "function": (lambda h: h.cumsum(1) ** 3, (4,)),
    "scalar": (lambda h: (h**3).sum(1), (3,)),
    "affine function": (lambda h: 2 * h.flip(1) + 1, (3,)),
    "itself": (lambda h: h, (3,)),
    "constant": (torch.ones_like, (3,)),
    "softmax": (nn.Softmax(-1), (4,)),
    "group norm": (nn.GroupNorm(2, 4), (4, 2)),
    "instance norm": (Bilinear(nn.InstanceNorm1d(2, affine=True)), (2, 4)),
    "group norm on vectors": (nn.Sequential(nn.GroupNorm(1, 4), nn.Tanh()), (4,)),
    "layer norm inside": (Bilinear(nn.LayerNorm(4)), (4,)),
    "sdpa": (attention, (1, 3, 4)),
    "encoder": (nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, activation="gelu").eval(), (2, 4)),
    "data-dependent": (branching, (4,)),
    "old autograd function": (Cubed.apply, (4,)),
    "solve": (lambda h: torch.linalg.solve(square(h).sin() + 4 * torch.eye(3).to(h), square(h)).flatten(1), (9,)),
    "det": (lambda h: torch.linalg.det(square(h) + 4 * torch.eye(3).to(h))[:, None], (9,)),
    "inverse gram": (inverse_gram, (9,)),
}  # fmt: skip
CASES = KNOWN | UNKNOWN
for link, _ in CASES.values():
    if isinstance(link, nn.Module):
        link.double()
        with torch.no_grad():
            for p in link.parameters():
                p.add_(0.1 * torch.randn_like(p))


def case(name: str, batch: int = 3):
    link, shape = CASES[name]
    return Chain([link]), torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def flat(f, sample: Tensor):
    return lambda h: f(h.reshape(1, *sample.shape)).flatten()


def first(f, sample: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(flat(f, sample), sample.flatten())


def oracle(f, x: Tensor) -> Tensor:
    """D²f by reverse over reverse, one sample at a time, which is right for every operation here: (B, n, n_0, n_0)."""
    with forward_mode_allowed():
        return torch.stack([hessian(flat(f, s), s.flatten()) for s in x])


def hessian(f, h: Tensor) -> Tensor:
    h = h.clone().requires_grad_()

    def gradient(out: Tensor) -> Tensor:
        if not out.requires_grad:
            return torch.zeros_like(h)
        return torch.autograd.grad(out, h, create_graph=True, materialize_grads=True)[0]

    rows = [[gradient(slope) for slope in gradient(out)] for out in f(h)]
    return torch.stack([torch.stack(row) for row in rows]).detach()


def close(one: Tensor, other: Tensor, tolerance: float = EPS) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("keeps_graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_equals_nested_derivatives(name, keeps_graph):
    chain, x = case(name)
    with torch.set_grad_enabled(keeps_graph):
        jet = chain.jet(x.clone().requires_grad_(keeps_graph))
    close(jet.value, chain(x).reshape(3, -1))
    close(jet.first, torch.stack([first(chain, s) for s in x]))
    close(jet.second, oracle(chain, x))
    close(jet.second[-1], oracle(chain, x)[-1])
    assert keeps_graph or not jet.second.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_keeps_no_graph_where_nothing_is_differentiated(name):
    chain, x = case(name)
    weights = list(chain.parameters())
    for p in weights:
        p.requires_grad_(False)
    try:
        jet, dense = chain.jet(x), chain.linearize(x).dense()
    finally:
        for p in weights:
            p.requires_grad_(True)
    assert not any(found.requires_grad for found in (jet.value, jet.first, jet.second, dense))


FUNCTORCH = ["tanh", "layer norm", "attention", "block", "encoder", "convolution", "trained scale"]


@pytest.mark.parametrize("name", FUNCTORCH)
def test_equals_nested_torch_func(name):
    chain, x = case(name)
    with forward_mode_allowed():
        nested = torch.stack([jacfwd(jacrev(flat(chain, s)))(s.flatten()) for s in x])
    close(chain.jet(x).second, nested)


@pytest.mark.parametrize("name", KNOWN)
def test_known_links_have_a_rule(name):
    assert jet_rule_of(CASES[name][0]) is not None


@pytest.mark.parametrize("name", CASES)
def test_batch_of_five_equals_loop_of_five(name):
    chain, x = case(name, batch=5)
    basis = torch.linalg.qr(torch.randn(5, x[0].numel(), 2, dtype=x.dtype))[0]
    with torch.no_grad():
        together = chain.jet(x, basis=basis)
        alone = [chain.jet(x[i : i + 1], basis=basis[i]) for i in range(5)]
    for field in ("value", "first", "second"):
        close(getattr(together, field)[-1:], getattr(alone[-1], field))
        close(getattr(together, field), torch.cat([getattr(jet, field) for jet in alone]))


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
@pytest.mark.parametrize("keeps_graph", [False, True])
@pytest.mark.parametrize("name", ["convolution", "function", "encoder", "old autograd function", "scalar"])
def test_every_chunk_size_gives_the_same(name, keeps_graph, chunk_size):
    chain, x = case(name)
    with torch.set_grad_enabled(keeps_graph):
        x.requires_grad_(keeps_graph)
        close(chain.jet(x, chunk_size=chunk_size).second, chain.jet(x).second)


def directional(function, step: float) -> Tensor:
    """A central difference of fourth order."""
    return (8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (12 * step)


@pytest.mark.parametrize("name", [n for n in CASES if n != "constant"])
def test_differentiable_in_the_state(name):
    chain, x = case(name, batch=2)
    probes: list[Tensor] = []

    def total(h: Tensor) -> Tensor:
        jet = chain.jet(h, kinks="ignore")
        probes[:] = probes or [torch.randn_like(jet.first), torch.randn_like(jet.second)]
        return (jet.first * probes[0]).sum() + (jet.second * probes[1]).sum()

    h, direction = x.clone().requires_grad_(), torch.randn_like(x)
    (gradient,) = torch.autograd.grad(total(h) + 0 * h.sum(), h)
    with torch.no_grad():
        difference = directional(lambda t: total(x + t * direction), 2e-4)
    close((gradient * direction).sum(), difference, 1e-6)


TRAINABLE = [n for n, (link, _) in CASES.items() if isinstance(link, nn.Module) and list(link.parameters())]


@pytest.mark.parametrize("name", TRAINABLE)
def test_differentiable_in_parameters(name):
    chain, x = case(name, batch=2)
    probe = torch.randn_like(chain.jet(x, kinks="ignore").second)
    parameters = list(chain.parameters())
    starts = [p.detach().clone() for p in parameters]
    directions = [torch.randn_like(p) for p in parameters]
    total = (chain.jet(x).second * probe).sum() + 0 * sum(p.sum() for p in parameters)
    gradients = torch.autograd.grad(total, parameters)

    def moved(t: float) -> Tensor:
        for parameter, start, direction in zip(parameters, starts, directions, strict=True):
            parameter.copy_(start + t * direction)
        return (chain.jet(x, kinks="ignore").second * probe).sum()

    with torch.no_grad():
        difference = directional(moved, 2e-4)
        moved(0.0)
    close(sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)), difference, 1e-6)


@pytest.mark.parametrize("name", ["layer norm inside", "group norm", "instance norm", "det"])
def test_third_derivatives_of_torch_are_wrong_as_they_stand(name, monkeypatch):
    """Goes red when torch is right, and what is written out in _bending can go."""
    chain, x = case(name, batch=2)
    direction = torch.randn_like(x)

    def slope() -> Tensor:
        h = x.clone().requires_grad_()
        second = chain.jet(h, kinks="ignore").second
        weights = torch.linspace(-1, 1, second.numel(), dtype=x.dtype).reshape(second.shape)
        return (torch.autograd.grad((second * weights).sum(), h)[0] * direction).sum()

    right = slope()
    monkeypatch.setattr("labkit._bending._WRITTEN_OUT", {})
    assert not torch.isclose(slope(), right, rtol=1e-3)


def test_differentiable_in_the_basis():
    for name in ("block", "encoder"):
        chain, x = case(name)
        basis = torch.linalg.qr(torch.randn(x[0].numel(), 2, dtype=x.dtype))[0].requires_grad_()
        for p in chain.parameters():
            p.requires_grad_(False)
        probe = torch.randn_like(chain.jet(x, basis=basis).second)
        (gradient,) = torch.autograd.grad((chain.jet(x, basis=basis).second * probe).sum(), basis)
        whole = oracle(chain, x)
        expected = 2 * torch.einsum("bnpq,qk,bnkl->pl", whole, basis.detach(), (probe + probe.mT) / 2)
        for p in chain.parameters():
            p.requires_grad_(True)
        close(gradient, expected)


def test_frame_behind_a_link_that_shares_its_state():
    chain = Chain([Chain([nn.Tanh(), lambda h: h.cumsum(1) ** 3])])  # the frame behind tanh hangs on tanh's own output
    x = torch.randn(3, 4, dtype=torch.float64)
    close(chain.jet(x.requires_grad_()).second, oracle(chain, x.detach()))


def deep() -> tuple[Chain, Tensor]:
    links = [nn.Linear(3, 5), nn.GELU(), lambda h: h.cumsum(1).sin(), Residual(nn.Linear(5, 5)), nn.LayerNorm(5)]
    chain = Chain([*links, torch.tanh]).double()
    return chain, torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def test_all_depths_from_one_pass():
    chain, x = deep()
    basis = torch.linalg.qr(torch.randn(3, 2, dtype=x.dtype))[0]
    jets = list(chain.jets(x, basis=basis))
    assert len(jets) == len(chain) + 1
    close(jets[0].first, basis.expand(4, -1, -1))
    assert not jets[0].second.any()
    for depth in range(1, len(chain) + 1):
        expected = torch.einsum("bnpq,pk,ql->bnkl", oracle(chain[:depth], x), basis, basis)
        close(jets[depth].second, expected)
        close(jets[depth].value, chain[:depth](x))


def test_parts_are_those_of_faa_di_bruno():
    chain, x = deep()
    states, lin = chain.states(x), chain.linearize(x)
    jets = list(chain.jets(x, by_link=True))
    frames = list(lin.prefixes())
    for depth, jet in enumerate(jets):
        assert jet.parts.shape == (depth, *jet.second.shape)
        close(jet.second, jet.parts.sum(0))
        for link in range(depth):
            own = oracle(chain[link : link + 1], states[link])
            own = torch.einsum("bnpq,bpk,bql->bnkl", own, frames[link], frames[link])
            after = lin[link + 1 : depth].dense() if link + 1 < depth else torch.eye(own.shape[1], dtype=x.dtype)[None]
            close(jet.parts[link], torch.einsum("bon,bnkl->bokl", after.expand(4, -1, -1), own))
    close(jets[-1].second, chain.jet(x).second)
    assert chain.jet(x).parts is None
    assert not jets[-1].parts[0].any()  # an affine link bends nothing


def test_merged_links_merge_their_parts():
    chain, x = deep()
    merged = Chain([chain[:2], chain[2:]])
    apart, together = chain.jet(x, by_link=True), merged.jet(x, by_link=True)
    close(together.parts[0], apart.parts[:2].sum(0))
    close(together.parts[1], apart.parts[2:].sum(0))


def test_closed_form_of_a_sphere():
    x = torch.tensor([[0.3, 1.0], [1.2, -2.0]], dtype=torch.float64)

    def sphere(h: Tensor) -> Tensor:
        (theta, phi), across = h.unbind(1), h[:, 0].sin()
        return torch.stack([across * phi.cos(), across * phi.sin(), theta.cos()], 1)

    jet = Chain([sphere]).jet(x)
    normal = torch.einsum("bnkl,bn->bkl", jet.second, jet.value)
    close(normal, -(jet.first.mT @ jet.first))  # the second fundamental form of the unit sphere


def test_one_direction_and_single_precision():
    chain, x = case("block")
    exact = chain.jet(x, basis=torch.eye(12, dtype=x.dtype)[:, :1])
    single = Chain([transformer(1, 4, 2)[0]])
    single[0].load_state_dict(chain[0].state_dict())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.2)):
        found = single.to(dtype).jet(x.to(dtype), basis=torch.eye(12)[:, :1])
        assert found.second.shape == (3, 12, 1, 1)
        assert {found.value.dtype, found.first.dtype, found.second.dtype} == {dtype}
        assert (found.second.double() - exact.second).abs().max() < tolerance * exact.second.abs().max()


def test_hooked_and_overridden_links_are_differentiated_as_they_run():
    class Hotter(Attention):
        def weights(self, h):
            return (3 * super().weights(h).log()).softmax(-1)

    class Doubled(Residual):
        def _add(self, h, branch):
            return h + 2 * branch

    hooked = nn.Tanh()
    hooked.register_forward_hook(lambda module, args, out: out**2)
    hotter = Hotter(nn.Linear(4, 12), nn.Linear(4, 4), heads=2).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    for link in (hooked, hotter, Doubled(nn.Tanh())):
        close(Chain([link]).jet(x).second, oracle(link, x))


def test_cut_model_and_its_kernels():
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, activation="gelu")
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    chain, h = cut(model, ["layers.0", "layers.1"], x)
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    with torch.no_grad():
        found = chain.jet(h).second
    close(found, oracle(model, x))
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())


def test_inference_mode_gives_ordinary_results():
    chain, x = deep()
    expected = chain.jet(x).second
    with torch.inference_mode():
        jets = chain.jets(x.clone())
        found = [next(jets) for _ in range(2)]
    found += list(jets)
    close(found[-1].second, expected)
    assert not any(t.is_inference() or t.requires_grad for jet in found for t in (jet.value, jet.first, jet.second))


def test_random_state_buffers_and_flags_stay():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, h):
            self.calls += 1
            torch.rand(1)
            return h.sin()

    link, x = Counting(), torch.randn(2, 3, dtype=torch.float64)
    before = torch.get_rng_state()
    for _ in Chain([link]).jets(x):
        assert torch.equal(before, torch.get_rng_state())
    assert link.calls == 0
    assert torch.is_grad_enabled()
    assert x.grad is None


def refused(error: type[Exception], *words: str):
    return pytest.raises(error, match="(?s)" + ".*".join(words))


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("basis", "error", "words"),
    [
        (torch.eye(4)[:, :2], ValueError, r"basis has shape \(4, 2\); pass orthonormal columns \(3, k\)"),
        (torch.ones(3, 4), ValueError, "basis has shape"),
        (torch.eye(3).expand(5, 3, 3), ValueError, "basis has shape"),
        (torch.ones(3, 2), ValueError, "columns of basis are dependent"),
        (2 * torch.eye(3), ValueError, "columns of basis are not orthonormal .* torch.linalg.qr"),
        (torch.full((3, 1), torch.nan), ValueError, "basis holds NaN"),
        (torch.ones(3, 1, dtype=torch.long), TypeError, "basis is torch.int64"),
    ],
)
def test_bad_basis(basis, error, words):
    with refused(error, words):
        Chain([torch.tanh]).jet(X, basis=basis)


def test_bad_input_is_refused_at_the_call():
    chain = Chain([nn.Linear(3, 3), torch.tanh])
    for method in (chain.jet, chain.jets):
        with refused(ValueError, "kinks is 'allow'", '"refuse" or "ignore"'):
            method(X, kinks="allow")
        with refused(ValueError, "chunk_size is 0"):
            method(X, chunk_size=0)
        with refused(TypeError, "x is torch.int64"):
            method(torch.ones(2, 3, dtype=torch.long))
        with refused(ValueError, "x holds NaN or Inf in sample 1"):
            method(torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]]))
    coupled = (nn.BatchNorm1d(3), lambda h: h - h.mean(0))
    for link, word in ((nn.Dropout(), "random"), *((link, "batch-coupled") for link in coupled)):
        with refused(ValueError, word):
            Chain([link]).jets(X)


def test_link_without_second_derivative():
    def distances(h: Tensor) -> Tensor:
        return torch.cdist(h[:, None], torch.eye(3).to(h).expand(len(h), 3, 3))[:, 0]

    with refused(ValueError, "link '0.distances' cannot be differentiated twice", "cdist"):
        Chain([distances]).jet(X)
    with refused(ValueError, "link '0.root' has no finite derivative in sample 1"):
        Chain([root]).jet(torch.tensor([[1.0], [0.0]]), kinks="ignore")


def root(h: Tensor) -> Tensor:
    return h.abs() ** 1.5


def test_memory_that_would_not_fit():
    with refused(MemoryError, "second derivatives of 1 samples in 10000000 directions need .* GB", "basis of fewer"):
        Chain([torch.tanh]).jet(torch.zeros(1, 10_000_000))
    one = torch.zeros(1_000_000, 1)
    one[0] = 1
    assert Chain([torch.tanh]).jet(torch.zeros(1, 1_000_000), basis=one).second.shape == (1, 1_000_000, 1, 1)


def test_memory_counts_what_a_link_makes_inside(monkeypatch):
    monkeypatch.setattr("labkit._memory.available_bytes", lambda device: 3e7)
    x = torch.randn(1, 256, 8)
    basis = torch.linalg.qr(torch.randn(2048, 12))[0]
    chain = transformer(1, 8, 2)
    with refused(MemoryError, "in 12 directions need"), torch.no_grad():  # attention matrices: 2 x 256² a column
        chain.jet(x, basis=basis)
    monkeypatch.setattr("labkit._memory.available_bytes", lambda device: 3e8)
    with torch.no_grad():
        assert chain.jet(x, basis=basis).second.shape == (1, 2048, 12, 12)


def test_memory_counts_what_reverse_mode_makes(monkeypatch):
    monkeypatch.setattr("labkit._bending.available_bytes", lambda device: 6e7)
    chain, x, basis = Chain([lambda h: h.cumsum(1) ** 3]), torch.rand(2, 600), torch.eye(600, 4)
    with torch.no_grad():
        assert chain.jet(x, basis=basis).second.shape == (2, 600, 4, 4)
    with refused(MemoryError, "600 numbers to 600, in 4 directions on 2 samples by reverse mode", "fewer columns"):
        chain.jet(x.double().requires_grad_(), basis=basis.double())


def test_jet_is_frozen():
    jet = Jet(torch.zeros(1, 2), torch.zeros(1, 2, 1), torch.zeros(1, 2, 1, 1))
    with pytest.raises(AttributeError):
        jet.value = jet.value


@pytest.mark.cuda
def test_device_is_that_of_x():
    chain, x = deep()
    found = chain.cuda().jet(x.cuda(), by_link=True)
    assert found.parts.device.type == "cuda"
    close(found.second.cpu(), chain.cpu().jet(x).second)
