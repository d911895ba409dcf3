"""What the Fisher matrix on parameters refuses: one sentence that names the argument, what came and what would do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labkit.geometry import _scored_model, fisher

F64 = torch.float64
Refusal = tuple[Callable[[], Any], type[Exception], str]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


VECTORS, IDS = normal(5, 6), torch.arange(15).reshape(5, 3) % 7
ZERO = torch.zeros(1, 6, dtype=F64)


def mlp(n_in: int = 6, width: int = 8, n_out: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_in, width), nn.Tanh(), nn.Linear(width, n_out)).double()


def like(model: nn.Module, **others: Any) -> dict[str, Any]:
    named = {name: normal(*p.shape).to(p.dtype) for name, p in model.named_parameters()}
    return named | {name.replace("_", "."): entry for name, entry in others.items()}


class Of(nn.Module):
    """A linear map, or a table, and a forward given as a function."""

    def __init__(self, forward: Callable[..., Any], part: nn.Module | None = None):
        super().__init__()
        self.compute = forward
        self.part = part or nn.Linear(6, 4, dtype=F64)

    def forward(self, x: Tensor) -> Any:
        return self.compute(self.part, x)


def centred(part: nn.Module, x: Tensor) -> Tensor:
    return part(x) - part(x).mean(0)


def broken() -> nn.Module:
    model = mlp()
    model[0].weight.data[0, 0] = torch.inf
    return model


def matrix(model: Any = None, x: Any = VECTORS, likelihood: Any = "gaussian", **options: Any) -> Callable[[], Tensor]:
    return lambda: fisher.matrix(model or mlp(), x, likelihood, **options)


def step(gradient: Any, **options: Any) -> Callable[[], Any]:
    return lambda: fisher.natural_gradient(mlp(), VECTORS, "gaussian", gradient, **options)


def product(v: Any) -> Callable[[], Any]:
    return lambda: fisher.product(mlp(), VECTORS, "gaussian", v)


def empirical(likelihood: str, labels: Any) -> Callable[[], Any]:
    return lambda: fisher.empirical_matrix(mlp(), VECTORS, likelihood, labels)


def top(model: nn.Module, k: int) -> Callable[[], Any]:
    return lambda: fisher.top_eigenvalues(model, VECTORS, "gaussian", k)


ARGUMENTS: list[Refusal] = [
    (matrix(torch.tanh), TypeError, "pass an nn.Module"),
    (matrix(x=[1.0, 2.0]), TypeError, "x is a list"),
    (matrix(x=VECTORS[:0]), ValueError, "at least one sample"),
    (matrix(x=VECTORS * torch.nan), ValueError, "x holds NaN"),
    (matrix(likelihood="poisson"), ValueError, '"bernoulli" or "gaussian"'),
    (matrix(likelihood="categorical", variance=2.0), ValueError, 'only "gaussian" has a variance'),
    (matrix(variance=0.0), ValueError, "variance=0.0; pass a positive number"),
    (matrix(variance="1"), TypeError, "variance is a str"),
    (product(normal(92)), TypeError, "v is a Tensor; pass a dictionary"),
    (product({name: t for name, t in like(mlp()).items() if name != "0.bias"}), ValueError, r"v lacks '0\.bias'"),
    (product(like(mlp(), z=normal(1))), ValueError, "no parameter with requires_grad, 'z'"),
    (product(like(mlp(), **{"0_bias": normal(3)})), ValueError, r"v\['0\.bias'\] is \(3,\); pass .* \(8,\)"),
    (step(like(mlp(), **{"0_bias": None}), damping=1.0), ValueError, r"gradient\['0\.bias'\] is a NoneType"),
    (step(like(mlp(), **{"0_bias": normal(8) * torch.nan}), damping=1.0), ValueError, "holds NaN or Inf"),
    (step(like(mlp()), damping=-1.0), ValueError, "damping=-1.0; pass a number of at least 0"),
    (step(like(mlp())), ValueError, "damping=0 .* of rank 20 on 92 parameters; pass damping > 0, such as 1e-3"),
    (top(mlp(), 21), ValueError, "1 … 20"),
    (empirical("categorical", [0, 1]), TypeError, "labels is a list"),
    (empirical("categorical", torch.ones(5)), TypeError, "classes as integers"),
    (empirical("categorical", torch.full((5,), 4)), ValueError, "outside of 0 … 3"),
    (empirical("gaussian", normal(5)), ValueError, r"labels has shape \(5,\); pass \(5, 4\)"),
    (empirical("gaussian", normal(5, 4) / 0.0), ValueError, "labels holds NaN"),
    (empirical("bernoulli", normal(5, 4)), ValueError, "other numbers than 0 and 1"),
]

BEHAVIOUR: list[Refusal] = [
    (matrix(mlp(n_out=1), likelihood="categorical"), ValueError, "at least two classes"),
    (matrix(broken()), ValueError, r"'0\.weight' holds NaN or Inf"),
    (matrix(Of(lambda part, x: part(x) / 0.0)), ValueError, "output holds NaN or Inf in sample"),
    (matrix(Of(lambda part, x: part(x).square().sum(-1, keepdim=True).sqrt(), nn.Linear(6, 4, bias=False, dtype=F64)),
            torch.cat([VECTORS, ZERO])), ValueError, "no finite derivative in its parameters at sample 5"),
    (matrix(mlp().requires_grad_(False)), ValueError, r"call requires_grad_\(\)"),
    (matrix(nn.Linear(6, 4, dtype=torch.complex128)), TypeError, "real floating parameters"),
    (matrix(nn.Sequential(mlp(), nn.Dropout())), ValueError, r"Dropout '1' .* call model\.eval\(\)"),
    (matrix(nn.Sequential(mlp(), nn.BatchNorm1d(4))), ValueError, r"BatchNorm1d '1' .* call model\.eval\(\)"),
    (matrix(Of(lambda part, x: torch.dropout(part(x), 0.5, True))), ValueError, "two outputs for one x"),
    (matrix(Of(centred)), ValueError, "one sample of x change the outputs of another"),
    (matrix(Of(centred), VECTORS[:1]), ValueError, "one sample of x change the outputs of another"),
    (matrix(Of(centred, nn.Embedding(7, 3)), IDS), ValueError, "one sample of x change the outputs of another"),
    (matrix(Of(lambda part, x: part(x.view(5, 6)))), ValueError, r"cannot take one sample of x alone, .* \(1, 6\)"),
    (matrix(Of(lambda part, x: part(x).sum())), ValueError, r"must give outputs \(B, …\)"),
    (matrix(Of(lambda part, x: (part(x),))), TypeError, "returns a tuple"),
    (matrix(Of(lambda part, x: part(x).detach())), ValueError, "no derivative in its parameters; remove no_grad"),
    (top(Of(lambda part, x: 0 * part(x)), 1), ValueError, "the Fisher matrix at x is zero"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), [*ARGUMENTS, *BEHAVIOUR])
def test_bad_input_gets_a_sentence(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_autocast_and_inference_parameters_are_refused() -> None:
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="autocast"):
        fisher.matrix(mlp(), VECTORS, "gaussian")
    with torch.inference_mode():
        model = mlp()
    with pytest.raises(ValueError, match=r"'0\.weight' was made in inference mode"):
        fisher.matrix(model, VECTORS, "gaussian")


def test_memory_is_refused_beforehand_with_figure_and_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scored_model, "available_bytes", lambda device: 2e7)
    model, x = nn.Linear(20000, 10), torch.zeros(20, 20000)
    for call, words in (
        (lambda: fisher.matrix(model, x, "gaussian"), "of 200010 .* 160 GB, 0.02 GB are free; fisher.spectrum"),
        (lambda: fisher.spectrum(model, x, "gaussian"), "needs 0.161 GB, .*fisher.top_eigenvalues"),
        (lambda: fisher.natural_gradient(model, x, "gaussian", like(model)), "needs 0.96 GB, .*fewer samples"),
    ):  # fmt: skip
        with pytest.raises(MemoryError, match=words):
            call()
