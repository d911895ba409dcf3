"""The comparison with peers says why one of them is missing or failed, and what it compares is equal."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(ROOT)
    return importlib.import_module(f"benchmarks.peers.{request.param}")


@pytest.mark.parametrize("peers", ["__main__"], indirect=True)
def test_a_missing_peer_is_reported_with_the_words_of_pip(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(peers.COMPARISONS, "missing", ("curvature", "sphere", "no-such-peer", None))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert peers.outcome("missing") == {"error": "no-such-peer is not installed: no attempt is recorded"}
    (tmp_path / "no-such-peer==1.0.log").write_text("Collecting\nERROR: No matching distribution found\n")
    assert peers.outcome("missing")["error"].endswith("ERROR: No matching distribution found")


@pytest.mark.parametrize("peers", ["__main__"], indirect=True)
def test_a_peer_that_fails_is_reported_with_its_error(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.COMPARISONS, "unknown to the child", ("curvature", "sphere", "torch", None))
    assert peers.outcome("unknown to the child") == {"error": "KeyError: 'unknown to the child'"}


@pytest.mark.parametrize("peers", ["curvature"], indirect=True)
def test_all_three_ways_to_scalar_curvature_agree(peers: ModuleType) -> None:
    chain, x = peers.surface()
    ours = peers.by_labkit(chain, x)
    for theirs in (peers._intrinsic(chain, x), peers._extrinsic(chain, x)):
        torch.testing.assert_close(theirs, ours, atol=0, rtol=1e-11)
