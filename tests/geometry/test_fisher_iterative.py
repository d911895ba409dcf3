"""The natural gradient by conjugate gradients on products alone, against the exact one and where it must refuse."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from labkit.geometry import _scored_model, fisher

F64 = torch.float64
Make = Callable[..., nn.Module]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def flat(v: dict[str, Tensor]) -> Tensor:
    return parameters_to_vector(v.values()).double()


def like(model: nn.Module, scale: float = 1.0) -> dict[str, Tensor]:
    named = enumerate(model.named_parameters())
    return {name: (scale * normal(*p.shape, seed=i)).to(p.dtype) for i, (name, p) in named}


def symmetric() -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """A linear network, whose Fisher matrix loses directions that the gradient of its loss has no part in."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)).double(), normal(50, 3)
    gradients = torch.autograd.grad((model(x) - normal(50, 3, seed=1)).square().sum(), list(model.parameters()))
    return model, x, dict(zip(dict(model.named_parameters()), gradients, strict=True))


def doubled(apart: float) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """A regression on two features of one value, up to `apart`."""
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1, dtype=F64), normal(30, 4)
    x[:, 3] = x[:, 2] + apart * normal(30, seed=2)
    return model, x, like(model)


class TestAgainstTheExactOne:
    @pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
    @pytest.mark.parametrize("damping", [1e-6, 1e-2, 1e4])
    @pytest.mark.parametrize("count", [3, 60])  # fewer rows than the 92 parameters, and more
    def test_they_agree_to_the_tolerance(self, likelihood: str, damping: float, count: int, mlp: Make) -> None:
        model, x = mlp(), normal(count, 6)
        gradient = like(model)
        exact = flat(fisher.natural_gradient(model, x, likelihood, gradient, damping=damping))
        for tolerance in (1e-3, 1e-9):
            step = fisher.natural_gradient(model, x, likelihood, gradient, damping=damping, tolerance=tolerance)
            rest = flat(fisher.product(model, x, likelihood, step)) + damping * flat(step) - flat(gradient)
            assert rest.norm() <= 1.01 * tolerance * flat(gradient).norm()
            assert (flat(step) - exact).norm() <= tolerance * flat(gradient).norm() / damping
        torch.testing.assert_close(flat(step), exact, rtol=0, atol=1e-8 * float(exact.abs().max()))

    @given(st.integers(0, 2**31), st.integers(1, 30), st.floats(1e-4, 1e4))
    def test_logistic_regression(self, seed: int, count: int, damping: float) -> None:
        model, x = nn.Linear(4, 1, dtype=F64), normal(count, 4, seed=seed)
        model.weight.data = normal(1, 4, seed=seed + 1)
        gradient = like(model)
        exact = fisher.natural_gradient(model, x, "bernoulli", gradient, damping=damping)
        step = fisher.natural_gradient(model, x, "bernoulli", gradient, damping=damping, tolerance=1e-10)
        assert (flat(step) - flat(exact)).norm() <= 1e-10 / damping * flat(gradient).norm()

    def test_without_damping_where_it_is_regular(self) -> None:
        for apart in (1.0, 1e-2):
            model, x, gradient = doubled(apart)
            exact = fisher.natural_gradient(model, x, "gaussian", gradient)
            step = fisher.natural_gradient(model, x, "gaussian", gradient, tolerance=1e-9)
            torch.testing.assert_close(flat(step), flat(exact), rtol=1e-8, atol=0)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
    def test_in_a_shorter_dtype(self, dtype: torch.dtype, tolerance: float, mlp: Make) -> None:
        model, x = mlp().to(dtype), normal(9, 6).to(dtype)
        gradient = like(model)
        exact = flat(fisher.natural_gradient(model, x, "categorical", gradient, damping=0.1))
        step = fisher.natural_gradient(model, x, "categorical", gradient, damping=0.1, tolerance=tolerance)
        assert {t.dtype for t in step.values()} == {dtype}
        assert (flat(step) - exact).norm() < tolerance * exact.norm()

    @pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
    def test_any_size_of_gradient(self, scale: float, mlp: Make) -> None:
        model, x = mlp(), normal(5, 6)
        one, other = (
            flat(fisher.natural_gradient(model, x, "gaussian", like(model, size), damping=0.1, tolerance=1e-9)) / size
            for size in (1.0, scale)
        )
        torch.testing.assert_close(other, one)

    def test_no_gradient_and_no_fisher(self, mlp: Make) -> None:
        model, x = mlp(), normal(40, 6)
        assert not flat(
            fisher.natural_gradient(model, x, "gaussian", like(model, 0.0), damping=1.0, tolerance=1e-6)
        ).any()
        dead = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
        dead[0].bias.data.fill_(-100.0)
        step = fisher.natural_gradient(dead, x, "gaussian", like(dead), damping=2.0, tolerance=1e-6)
        torch.testing.assert_close(flat(step), flat(like(dead)) / 2)

    def test_in_inference_mode(self, mlp: Make) -> None:
        model, x = mlp(), normal(5, 6)
        expected = flat(fisher.natural_gradient(model, x, "categorical", like(model), damping=0.1, tolerance=1e-9))
        with torch.inference_mode():
            step = fisher.natural_gradient(model, x + 0, "categorical", like(model), damping=0.1, tolerance=1e-9)
        torch.testing.assert_close(flat(step), expected)


class TestRefusals:
    @pytest.mark.parametrize("tolerance", [0, 1e-16, 1.0, -1e-3, True, "1e-3", float("nan")])
    def test_tolerances_that_are_none(self, tolerance: object, mlp: Make) -> None:
        with pytest.raises(
            ValueError, match=r"tolerance=.* between 2e-15, the rounding of torch.float64, and 1, or None"
        ):
            fisher.natural_gradient(mlp(), normal(5, 6), "gaussian", like(mlp()), damping=1.0, tolerance=tolerance)

    @pytest.mark.parametrize("tolerance", [0.5, 1e-3, 1e-9])
    @pytest.mark.parametrize("case", [symmetric, lambda: doubled(0.0), lambda: doubled(1e-12)])
    def test_a_singular_matrix_without_damping(self, case: Callable[[], tuple], tolerance: float) -> None:
        model, x, gradient = case()
        with pytest.raises(ValueError, match=r"damping=0 with a Fisher matrix .* singular.* pass damping > 0"):
            fisher.natural_gradient(model, x, "gaussian", gradient, tolerance=tolerance)

    def test_fewer_rows_than_parameters_without_damping(self, mlp: Make) -> None:
        with pytest.raises(ValueError, match="of 20 rows on 92 parameters that is singular"):
            fisher.natural_gradient(mlp(), normal(5, 6), "gaussian", like(mlp()), tolerance=1e-6)

    def test_a_tolerance_below_the_rounding_of_products(self, mlp: Make) -> None:
        model, x = mlp().float(), normal(5, 6).float()
        with pytest.raises(
            RuntimeError, match=r"end at a relative residual of .*torch\.float32; pass a larger tolerance"
        ):
            fisher.natural_gradient(model, x, "gaussian", like(model), damping=1e-7, tolerance=1e-6)

    def test_rows_that_do_not_fit_are_not_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, x = nn.Linear(20000, 10), normal(20, 20000).float()
        monkeypatch.setattr(_scored_model, "available_bytes", lambda device: 2e8)
        with pytest.raises(MemoryError, match=r"needs 0\.96 GB, .* pass a tolerance"):
            fisher.natural_gradient(model, x, "gaussian", like(model), damping=1.0)
        step = fisher.natural_gradient(model, x, "gaussian", like(model), damping=1.0, tolerance=1e-4)
        rest = flat(fisher.product(model, x, "gaussian", step)) + flat(step) - flat(like(model))
        assert rest.norm() < 2e-4 * flat(like(model)).norm()
        monkeypatch.setattr(_scored_model, "available_bytes", lambda device: 1e6)
        with pytest.raises(MemoryError, match="switch requires_grad off for some"):
            fisher.natural_gradient(nn.Linear(20000, 100), x, "gaussian", like(nn.Linear(20000, 100)), damping=1.0,
                                    tolerance=1e-4)  # fmt: skip
