"""The Fisher matrix on parameters of models of every kind, against a slow twin by plain autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from labkit import Chain
from labkit.geometry import _score_rows, fisher
from labkit.geometry._likelihoods import as_likelihood

LIKELIHOODS = ("categorical", "bernoulli", "gaussian")
F64 = torch.float64
Make = Callable[..., nn.Module]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def flat(v: dict[str, Tensor]) -> Tensor:
    return parameters_to_vector(v.values()).double()


def like(model: nn.Module, seed: int = 3) -> dict[str, Tensor]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return {name: normal(*p.shape, seed=seed + i).to(p.dtype) for i, (name, p) in enumerate(named)}


class Of(nn.Module):
    """A module with parts and a forward given as a function."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module):
        super().__init__()
        self.compute = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def middle(f: Tensor, likelihood: str, variance: float = 1.0) -> Tensor:
    """The Fisher matrix of the outputs of one sample, by its definition."""
    if likelihood == "gaussian":
        return torch.eye(f.numel(), dtype=F64) / variance
    if likelihood == "bernoulli":
        return torch.diag((f.sigmoid() * (1 - f.sigmoid())).flatten())
    p = f.softmax(-1).reshape(-1, f.shape[-1])
    return torch.block_diag(*[torch.diag(q) - torch.outer(q, q) for q in p])


def slow_fisher(model: nn.Module, x: Tensor, likelihood: str) -> Tensor:
    """One backward pass an output and sample, then J^T A J."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=F64).diag()
    for one in x:
        f = model(one[None].clone())
        rows = [torch.autograd.grad(o, parameters, retain_graph=True, materialize_grads=True) for o in f.flatten()]
        J = torch.stack([torch.cat([g.to_dense().flatten() for g in row]) for row in rows]).double()
        total += J.mT @ middle(f.detach().double(), likelihood) @ J / len(x)
    return total


class Restless(nn.Module):
    """Writes its buffers at every call, in place and anew, and draws a number that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)
        self.scale.fill_(2.0)
        self.mean = self.mean + x.detach().mean()
        return self.linear(x) * self.scale


class OnceSine(torch.autograd.Function):
    """A sine without second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()


def tied() -> nn.Module:
    model = Of(lambda m, ids: m.head(m.norm(m.table(ids)).tanh()), table=nn.Embedding(7, 4), norm=nn.LayerNorm(4),
               head=nn.Linear(4, 7, bias=False))  # fmt: skip
    model.head.weight = model.table.weight
    return model


def perceptron(n_out: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, n_out))


def frozen() -> nn.Module:
    model = perceptron()
    model[0].weight.requires_grad_(False)
    return model


def twice() -> nn.Module:
    layer = nn.Linear(6, 6)
    return Chain([layer, torch.tanh, layer])


def overwrites(m: Any, x: Tensor) -> Tensor:
    y = m.linear(x.mul_(2))
    y[:, 0] += 1
    return y.relu_()


def solves(m: Any, x: Tensor) -> Tensor:
    A = m.linear(x).reshape(-1, 2, 2) + 3 * torch.eye(2, dtype=x.dtype)
    return torch.linalg.solve(A, m.other(x)) + torch.linalg.slogdet(A)[1][:, None]


def attends(m: Any, x: Tensor) -> Tensor:
    return m.attention(x, x, x)[0][:, -1]


def branches(m: Any, x: Tensor) -> Tensor:
    return torch.stack([m.linear(row) if row.sum() > 0 else m.linear(row).tanh() for row in x])


VECTORS, IDS, TOKENS, IMAGES = normal(5, 6), torch.arange(15).reshape(5, 3) % 7, normal(5, 3, 8), normal(5, 2, 4, 4)
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "perceptron": (perceptron, VECTORS, "categorical"),
    "chain with a shared link": (twice, VECTORS, "gaussian"),
    "one logit": (lambda: nn.Sequential(perceptron(1), nn.Flatten(0)), VECTORS, "bernoulli"),
    "tied weights on token ids": (tied, IDS, "categorical"),
    "sparse embedding": (lambda: nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Linear(4, 3)), IDS, "categorical"),
    "frozen weight": (frozen, VECTORS, "categorical"),
    "unused part": (lambda: Of(lambda m, x: m.a(x), a=nn.Linear(6, 3), b=nn.Linear(6, 2)), VECTORS, "bernoulli"),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), TOKENS, "gaussian"),
    "attention": (lambda: Of(attends, attention=nn.MultiheadAttention(8, 2, batch_first=True)), TOKENS, "categorical"),
    "LSTM": (lambda: Of(lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(8, 4, batch_first=True),
                        head=nn.Linear(4, 3)), TOKENS, "categorical"),
    "convolution and batch norm": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(),
                                   nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 3)), IMAGES, "categorical"),
    "weight norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))), VECTORS, "gaussian"),
    "buffers written": (Restless, VECTORS, "categorical"),
    "state overwritten": (lambda: Of(overwrites, linear=nn.Linear(6, 3)), VECTORS, "gaussian"),
    "solve": (lambda: Of(solves, linear=nn.Linear(6, 4), other=nn.Linear(6, 2)), VECTORS, "categorical"),
    "branches": (lambda: Of(branches, linear=nn.Linear(6, 3)), VECTORS, "categorical"),
    "no second derivative": (lambda: Of(lambda m, x: OnceSine.apply(m.linear(x)), linear=nn.Linear(6, 3)), VECTORS,
                             "categorical"),
}  # fmt: skip


def case(name: str) -> tuple[nn.Module, Tensor, str]:
    torch.manual_seed(0)
    make, x, likelihood = MODELS[name]
    return make().double().eval(), x, likelihood


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_matrix_trace_and_spectrum_are_the_slow_ones(self, name: str) -> None:
        model, x, likelihood = case(name)
        expected = slow_fisher(model, x, likelihood)
        scale = float(expected.abs().max())
        torch.testing.assert_close(fisher.matrix(model, x, likelihood).detach(), expected, rtol=0, atol=1e-13 * scale)
        assert fisher.trace(model, x, likelihood).item() == pytest.approx(expected.trace().item(), rel=1e-12)
        eigenvalues = torch.linalg.eigvalsh(expected).flip(0)
        found = fisher.spectrum(model, x, likelihood)
        torch.testing.assert_close(found, eigenvalues[: len(found)], rtol=0, atol=1e-13 * float(eigenvalues[0]))
        assert (eigenvalues[len(found) :] < 1e-12 * eigenvalues[0]).all()

    def test_product_and_top_eigenvalues_are_the_dense_ones(self, name: str) -> None:
        model, x, likelihood = case(name)
        F, v = slow_fisher(model, x, likelihood), like(model)
        expected = F @ flat(v)
        product = fisher.product(model, x, likelihood, v)
        assert {key: t.shape for key, t in product.items()} == {key: t.shape for key, t in v.items()}
        torch.testing.assert_close(flat(product), expected, rtol=0, atol=1e-13 * float(expected.abs().max()))
        top = fisher.top_eigenvalues(model, x, likelihood, 2)
        torch.testing.assert_close(top.values, torch.linalg.eigvalsh(F).flip(0)[:2], rtol=1e-11, atol=0)
        residual = (F @ top.vectors - top.vectors * top.values).norm(dim=0)
        assert (residual < 1e-11 * top.values[0]).all()
        torch.testing.assert_close(residual, top.residual, rtol=0, atol=1e-12 * float(top.values[0]))

    def test_natural_gradient_is_the_dense_one(self, name: str) -> None:
        model, x, likelihood = case(name)
        F, gradient = slow_fisher(model, x, likelihood), like(model)
        expected = torch.cholesky_solve(
            flat(gradient)[:, None], torch.linalg.cholesky(F + 0.1 * torch.eye(len(F), dtype=F64))
        )[:, 0]
        for tolerance in (None, 1e-12):
            step = fisher.natural_gradient(model, x, likelihood, gradient, damping=0.1, tolerance=tolerance)
            torch.testing.assert_close(flat(step), expected, rtol=0, atol=1e-11 * float(expected.abs().max()))

    def test_batch_of_five_is_the_mean_of_five(self, name: str) -> None:
        model, x, likelihood = case(name)
        each = torch.stack([fisher.matrix(model, one[None], likelihood) for one in x])
        torch.testing.assert_close(fisher.matrix(model, x, likelihood), each.mean(0), rtol=1e-10, atol=1e-13)
        last = slow_fisher(model, x[-1:], likelihood)
        torch.testing.assert_close(each[-1].detach(), last, rtol=0, atol=1e-13 * float(last.abs().max()))

    def test_model_is_left_as_it_was(self, name: str) -> None:
        model, x, likelihood = case(name)
        before = {key: t.clone() for key, t in model.state_dict().items()}
        entered, rng, fast = x.clone(), torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
        v = like(model)
        for call in (fisher.matrix, fisher.spectrum, fisher.trace):
            call(model, x, likelihood)
        fisher.product(model, x, likelihood, v)
        fisher.natural_gradient(model, x, likelihood, v, damping=1.0)
        fisher.natural_gradient(model, x, likelihood, v, damping=1.0, tolerance=1e-6)
        assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        assert torch.equal(x, entered)
        assert torch.equal(rng, torch.get_rng_state())
        assert torch.backends.mha.get_fastpath_enabled() == fast


def test_no_common_shift_of_the_logits_moves_it(mlp: Make) -> None:
    model = Of(lambda m, x: m.a(x) + m.b(x), a=mlp(), b=nn.Linear(6, 1, dtype=F64))
    F = fisher.matrix(model, VECTORS, "categorical")
    assert F[-7:].abs().max() < 1e-15  # the seven parameters of the shift
    torch.testing.assert_close(F[:-7, :-7], fisher.matrix(model.a, VECTORS, "categorical"))


@pytest.mark.parametrize("inner", [torch.float32, torch.bfloat16])
def test_rank_of_a_model_that_computes_in_a_shorter_dtype(inner: torch.dtype) -> None:
    """As language models do in their norms: double parameters, and noise a hundred million times theirs."""
    head = nn.Linear(6, 4, dtype=F64)
    model = Of(lambda m, x: (m.head(x).to(inner) * 1.7).tanh().to(F64) * 1.1, head=head)
    twin = Of(lambda m, x: (m.head(x) * 1.7).tanh() * 1.1, head=head)
    x, likelihood = normal(6, 6, seed=8), "categorical"
    assert len(fisher.spectrum(twin, x, likelihood)) == 18  # three for each sample
    found = fisher.spectrum(model, x, likelihood)
    assert 4 < len(found) <= 18
    torch.testing.assert_close(found[:4], fisher.spectrum(twin, x, likelihood)[:4], rtol=0.05, atol=0)


def test_a_class_ruled_out_has_no_part() -> None:
    masked = torch.tensor([False, False, True, False])
    model = Of(lambda m, x: m.linear(x).masked_fill(masked, -torch.inf), linear=nn.Linear(6, 4)).double()
    bare = nn.Linear(6, 3, dtype=F64)
    bare.weight.data, bare.bias.data = model.linear.weight.data[~masked], model.linear.bias.data[~masked]
    torch.testing.assert_close(
        fisher.spectrum(model, VECTORS, "categorical"), fisher.spectrum(bare, VECTORS, "categorical")
    )
    assert all(t.isfinite().all() for t in fisher.product(model, VECTORS, "categorical", like(model)).values())


def test_damping_far_below_and_above_the_spectrum(mlp: Make) -> None:
    model, x, gradient = mlp(n_in=3, width=2, n_out=2), normal(3, 3), None
    gradient = like(model)
    F = slow_fisher(model, x, "gaussian")
    assert len(F) > x.shape[0] * 2  # so a part of the gradient is seen by the damping alone
    values, vectors = torch.linalg.eigh(F)
    for damping in (1e-9, 1e6):
        kept = torch.where(values > 1e-12, values, 0.0)
        expected = vectors @ ((vectors.mT @ flat(gradient)) / (kept + damping))
        step = flat(fisher.natural_gradient(model, x, "gaussian", gradient, damping=damping))
        torch.testing.assert_close(step, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


def test_rows_more_and_fewer_than_parameters_agree(mlp: Make) -> None:
    model, x = mlp(n_in=3, width=3, n_out=3), normal(30, 3)  # 24 parameters, 90 rows, rank 24 - 4
    for count in (3, 30):
        dense = torch.linalg.eigvalsh(slow_fisher(model, x[:count], "categorical")).flip(0)
        found = fisher.spectrum(model, x[:count], "categorical")
        assert len(found) == min(2 * count, 20)
        torch.testing.assert_close(found, dense[: len(found)], rtol=1e-9, atol=1e-14)


def test_float32_loses_seven_digits_and_half_types_are_lifted(mlp: Make) -> None:
    exact = slow_fisher(mlp(), VECTORS, "categorical")
    for dtype, loss in ((torch.float32, 1e-6), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        model, x = mlp().to(dtype), VECTORS.to(dtype)
        F = fisher.matrix(model, x, "categorical")
        assert F.dtype == dtype
        assert (F.double() - exact).abs().max() < loss * exact.abs().max()
        values = fisher.spectrum(model, x, "categorical")
        assert values.dtype == F64
        assert (values - torch.linalg.eigvalsh(exact).flip(0)[: len(values)]).abs().max() < loss * values[0]
        assert {t.dtype for t in fisher.product(model, x, "categorical", like(model)).values()} == {dtype}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, mlp: Make) -> None:
    model, x = mlp(), VECTORS

    def answers() -> list[Tensor]:
        few, many = fisher.spectrum(model, x, "categorical"), fisher.spectrum(model[2], normal(40, 8), "gaussian")
        return [fisher.matrix(model, x, "categorical"), fisher.trace(model, x, "categorical"), few, many]

    whole = answers()
    for size in (1, 8 * 92 * 4 * 2):  # one row, and two samples
        monkeypatch.setattr(_score_rows, "_CHUNK", size)
        for one, other in zip(whole, answers(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("layer", ["tanh", "layer norm", "solve"])
def test_matrix_and_trace_are_differentiable(likelihood: str, layer: str) -> None:
    torch.manual_seed(0)
    if layer == "solve":
        model = Of(solves, linear=nn.Linear(2, 4), other=nn.Linear(2, 2)).double()
    else:
        model = nn.Sequential(nn.Linear(2, 3), nn.Tanh() if layer == "tanh" else nn.LayerNorm(3), nn.Linear(3, 2))
    model, x = model.double(), normal(3, 2).requires_grad_()
    first = next(model.parameters())

    def value(x: Tensor, weight: Tensor) -> Tensor:
        F = fisher.matrix(model, x, likelihood)
        weights = torch.cos(torch.arange(F.numel(), dtype=F64)).reshape(F.shape)
        return torch.stack([(weights * F).sum(), fisher.trace(model, x, likelihood)])

    assert torch.autograd.gradcheck(value, (x, first), atol=1e-7)


def test_positions_are_one_row() -> None:
    model, y = tied().double(), (IDS + 1) % 7
    F = fisher.empirical_matrix(model, IDS, "categorical", y)
    gradient = torch.autograd.grad(cross_entropy(model(IDS[:1])[0], y[0], reduction="sum"), list(model.parameters()))
    one = parameters_to_vector(gradient)
    torch.testing.assert_close(
        fisher.empirical_matrix(model, IDS[:1], "categorical", y[:1]), torch.outer(one, one), rtol=1e-9, atol=1e-13
    )
    assert torch.linalg.matrix_rank(F.detach(), hermitian=True) <= 5


@pytest.mark.parametrize(("name", "graph"), [("solve", False), ("tied weights on token ids", True)])
def test_torch_still_needs_the_probes(name: str, graph: bool) -> None:
    """Vmapped rows are wrong through `solve` without a graph, their derivative through layer norm: found, not taken.

    Where one of these fails since torch has healed, its part of the probe can go.
    """
    model, x, likelihood = case(name)
    with torch.set_grad_enabled(graph):
        assert _score_rows.ScoreRows(model, x, as_likelihood(likelihood, 1.0))._rows_by_vmap(x, None) is None
    with torch.set_grad_enabled(not graph):
        assert _score_rows.ScoreRows(model, x, as_likelihood(likelihood, 1.0))._rows_by_vmap(x, None) is not None
