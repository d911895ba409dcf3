"""The benchmarks compare things that are equal, and print what they promise; how fast they are is no test."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module(f"benchmarks.{request.param}")


@pytest.mark.parametrize("benchmark", ["jacobians"], indirect=True)
def test_jacobians_of_both_ways_agree(benchmark: ModuleType) -> None:
    chain = benchmark.mlp(4, 6, "tanh", sigma_w=1.2, sigma_b=0.1, dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = list(chain.linearize(x).prefixes())[1:]
    for prefix, theirs in zip(ours, benchmark.by_jacfwd(chain, x), strict=True):
        torch.testing.assert_close(prefix, theirs, atol=1e-12, rtol=0)
    blocks = benchmark.resnet(4, 6, "tanh", sigma_w=1.2, sigma_b=0.1, scale=0.5, dtype=torch.float64)
    for network, factors in ((chain, benchmark.mlp_by_hand), (blocks, benchmark.resnet_by_hand)):
        by_hand = benchmark.multiplied(factors(network, x))
        for prefix, theirs in zip(list(network.linearize(x).prefixes())[1:], by_hand, strict=True):
            torch.testing.assert_close(prefix, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("benchmark", ["jacobians"], indirect=True)
def test_a_row_states_times_ratios_and_targets(benchmark: ModuleType) -> None:
    row, *others = benchmark.rows([(2, 3, 4)], runs=1)
    assert len(others) == 3
    assert row["to_products"] == row["linearize_ms"] / row["products_ms"]
    assert (row["at_most"], row["at_least"]) == (1.3, 8.0)


@pytest.mark.parametrize("benchmark", ["__main__"], indirect=True)
def test_unknown_benchmark_is_named_with_the_known(benchmark: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no benchmark is called .speed.; there are .*explorer.*jacobians"):
        benchmark.main(["speed"])


@pytest.mark.parametrize("benchmark", ["timing"], indirect=True)
def test_functions_take_turns_and_the_first_run_is_not_counted(benchmark: ModuleType) -> None:
    calls: list[str] = []
    times = benchmark.medians([lambda: calls.append("a"), lambda: calls.append("b")], runs=2)
    assert calls == ["a", "b"] * 3
    assert len(times) == 2
