"""What right spectra cost: `log_spectrum` of every prefix against `svdvals` of the products, which is wrong.

Run `python benchmarks/log_spectrum.py`; one thread, the median of several runs, ratios of processor time.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


import torch
from torch import Tensor

from benchmarks.timing import medians
from labkit import Linearization
from labkit.geometry import spectra

CASES = [(8, 50, 64), (64, 100, 16), (16, 20, 256), (1, 50, 64), (1, 100, 16), (8, 100, 8)]
TARGETS = {(8, 50, 64): 4.0, (64, 100, 16): 4.0, (16, 20, 256): 4.0, (1, 50, 64): 8.0}


def rows(cases: list[tuple[int, int, int]] = CASES, runs: int = 3) -> list[dict[str, float | str | None]]:
    """One dictionary a case: times in ms, ratios to the naive way, and how wrong that is, in nats."""
    torch.set_num_threads(1)
    return [_row(*case, runs) for case in cases]


def _row(batch: int, depth: int, width: int, runs: int) -> dict[str, float | str | None]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, width, width)
    links = [torch.randn(shape, generator=generator, dtype=torch.float64) / width**0.5 for _ in range(depth)]
    lin, depths = Linearization(links), range(1, depth + 1)

    def naive() -> Tensor:
        products = links[:1]
        for J in links[1:]:
            products.append(J @ products[-1])
        return torch.linalg.svdvals(torch.stack(products)).log()

    def values() -> Tensor:
        return spectra.log_spectrum(lin, depths=depths).values

    def with_error() -> Tensor:
        return spectra.log_spectrum(lin, depths=depths).error

    times = medians([naive, values, with_error], runs)
    right, error = values(), with_error()
    return {
        "case": f"B={batch} L={depth} n={width}",
        "naive_ms": times[0],
        "values_ms": times[1],
        "ratio": times[1] / times[0],
        "target": TARGETS.get((batch, depth, width)),
        "ratio_with_error": times[2] / times[0],
        "naive_wrong_by_nats": float((naive() - right).abs().max()),
        "largest_error_nats": float(error.max()),
    }


if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, one thread, torch {torch.__version__}")
    print(
        f"{'case':>18} {'naive':>9} {'values':>9} {'ratio':>7} {'target':>7} {'+error':>7} {'naive wrong by':>15}"
        f" {'error':>9}"
    )
    for row in rows():
        target = "" if row["target"] is None else f"{row['target']:.0f}"
        print(
            f"{row['case']:>18} {row['naive_ms']:6.0f} ms {row['values_ms']:6.0f} ms {row['ratio']:6.1f}x {target:>7} "
            f"{row['ratio_with_error']:6.1f}x {row['naive_wrong_by_nats']:10.1f} nats {row['largest_error_nats']:9.1e}"
        )
