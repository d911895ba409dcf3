"""The Fisher matrix of a classifier's parameters: labkit against nngeometry and curvlinops, to rounding and in time.

The model is 8 → 24 → 24 → 4 with tanh, 916 parameters in float64, at 64 samples: 256 rows, so a rank below P.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import medians
from labkit.geometry import fisher

SAMPLES, CLASSES = 64, 4


def classifier() -> tuple[nn.Module, Tensor]:
    """The model, with random weights, and inputs (64, 8)."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, CLASSES)]
    return nn.Sequential(*layers).double(), torch.randn(SAMPLES, 8, dtype=torch.float64)


def by_nngeometry() -> list[dict[str, Any]]:
    """Its exact Fisher, dense, in the order of `model.parameters()`; of the whole matrix also its eigenvalues."""
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDense
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_default_dtype(torch.float64)  # it accumulates in the default dtype and fails on any other
    model, x = classifier()
    loader = DataLoader(TensorDataset(x, torch.zeros(SAMPLES, dtype=torch.long)), batch_size=SAMPLES)

    def theirs() -> Any:
        return FIM(model=model, loader=loader, representation=PMatDense, variant="classif_logits", device="cpu")

    def spectrum() -> Tensor:
        found = theirs()
        found.compute_eigendecomposition()
        return found.get_eigendecomposition()[0]

    rows = [
        _row("matrix", lambda: _matrix(model, x), lambda: theirs().to_torch().detach()),
        _row("spectrum", lambda: _spectrum(model, x), spectrum),
        _row("trace", lambda: _trace(model, x), lambda: theirs().trace().detach()),
    ]
    return [row | {"note": "nngeometry fails in float64 unless that is torch's default dtype"} for row in rows]


def by_curvlinops() -> list[dict[str, Any]]:
    """Its generalised Gauss–Newton matrix, which for the cross-entropy is the exact Fisher matrix."""
    from curvlinops import GGNLinearOperator
    from scipy.sparse.linalg import eigsh

    model, x = classifier()
    parameters = list(model.parameters())
    labels = torch.zeros(SAMPLES, dtype=torch.long)  # the Gauss–Newton matrix of this loss does not depend on them
    P = sum(p.numel() for p in parameters)
    identity, v = torch.eye(P, dtype=torch.float64), torch.randn(P, dtype=torch.float64)

    ready = GGNLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(x, labels)], check_deterministic=False)
    pieces = v.split([p.numel() for p in parameters])
    shaped = {name: piece.view_as(p) for (name, p), piece in zip(model.named_parameters(), pieces, strict=True)}

    def product() -> Tensor:
        return nn.utils.parameters_to_vector(fisher.product(model, x, "categorical", shaped).values())

    def top() -> Tensor:
        values = eigsh(ready.to_scipy(), k=5, which="LA", return_eigenvectors=False, tol=1e-12)
        return torch.as_tensor(values).sort(descending=True).values

    return [
        _row("matrix", lambda: _matrix(model, x), lambda: (ready @ identity).detach()),
        _row("matrix times vector", product, lambda: (ready @ v).detach()),
        _row("five largest eigenvalues, theirs by scipy's eigsh",
             lambda: fisher.top_eigenvalues(model, x, "categorical", 5).values, top),
        _row("all eigenvalues, theirs of its matrix", lambda: _spectrum(model, x),
             lambda: torch.linalg.eigvalsh((ready @ identity).detach())),
        _row("trace, theirs of its matrix", lambda: _trace(model, x),
             lambda: (ready @ identity).detach().trace()),
    ]  # fmt: skip


def _matrix(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return fisher.matrix(model, x, "categorical")


def _trace(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return fisher.trace(model, x, "categorical")


def _spectrum(model: nn.Module, x: Tensor) -> Tensor:
    return fisher.spectrum(model, x, "categorical")


def _row(what: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> dict[str, Any]:
    """Times, and the largest difference over the largest entry; of spectra the part that labkit reports as nonzero."""
    found, other = ours().detach(), theirs().detach().to(torch.float64)
    if other.ndim == 1 and len(other) > len(found):
        other = other.sort(descending=True).values[: len(found)]
    labkit, peer = medians([ours, theirs], 5)
    return {
        "what": what,
        "difference_to_largest": float((found - other).abs().max() / found.abs().max()),
        "labkit_ms": labkit,
        "peer_ms": peer,
        "peer_to_labkit": peer / labkit,
    }
