"""The Fisher spectrum on parameters by duality, against eigenvalues of the dense P × P matrix, and alone at P = 10⁵.

A classifier 20-n-n-10 on 32 samples in float64, hence 320 rows, one thread. Times are processor times; memory is the
largest resident size of a fresh process beyond what its imports and data take.
"""

import multiprocessing
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.timing import medians
from labkit.geometry import fisher

WIDTHS = {"against the dense matrix": 85, "alone": 300}  # 9,955 and 99,610 parameters
AT_LEAST = 10.0


def rows(widths: dict[str, int] = WIDTHS, runs: int = 3) -> list[dict[str, float | str | None]]:
    """One row a size: seconds of both ways and their ratio where both are run, the spectrum's own memory in MB."""
    torch.set_num_threads(1)
    return [_row(case, width, runs) for case, width in widths.items()]


def problem(width: int) -> tuple[nn.Module, Tensor]:
    """The classifier and its samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
    return model.double(), torch.randn(32, 20, dtype=torch.float64)


def dense(model: nn.Module, x: Tensor) -> Tensor:
    """All P eigenvalues of the matrix, descending."""
    with torch.no_grad():
        values: Tensor = torch.linalg.eigvalsh(fisher.matrix(model, x, "categorical"))
        return values.flip(0)


def _row(case: str, width: int, runs: int) -> dict[str, float | str | None]:
    model, x = problem(width)
    values = fisher.spectrum(model, x, "categorical")
    (ours,) = medians([lambda: fisher.spectrum(model, x, "categorical")], runs)
    row: dict[str, float | str | None] = {
        "case": case,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rank": len(values),
        "spectrum_s": ours / 1e3,
        "spectrum_mb": _memory(width),
    }
    if case == "alone":
        return row | {"dense_s": None, "ratio": None, "at_least": None, "difference": None}
    start = time.process_time()
    theirs = dense(model, x)
    spent = time.process_time() - start
    difference = float((theirs[: len(values)] - values).abs().max() / values[0])
    return row | {"dense_s": spent, "ratio": 1e3 * spent / ours, "at_least": AT_LEAST, "difference": difference}


def _memory(width: int) -> float:
    """The peak of one call in a process of its own, in MB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak: float = pool.apply(_peak, (width,))
        return peak


def _peak(width: int) -> float:
    torch.set_num_threads(1)
    model, x = problem(width)
    fisher.spectrum(*problem(2), "categorical")  # what only the first call loads
    before = _most_resident()
    fisher.spectrum(model, x, "categorical")
    return _most_resident() - before


def _most_resident() -> float:
    """In MB; not from getrusage, whose maximum a child takes over from its parent."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1e3
