"""What a spectral law costs: 2,000 points of a density, and as many solved for one by one.

Run `python -m benchmarks free_probability`; one thread, the median of several runs, processor time.
"""

import math

import torch

from benchmarks.timing import medians
from labkit.theory.free_probability import density

CASES = [
    ("relu", 50, "gaussian"),
    ("relu", 50, "orthogonal"),
    ("hardtanh", 200, "gaussian"),
    ("tanh", 50, "orthogonal"),
]
TARGET_MS = 200.0  # of ReLU, L = 50
SIGMAS = {"relu": (math.sqrt(2), 0.0), "hardtanh": (1.2, 0.1), "tanh": (1.12253900, 0.05)}


def rows(cases: list[tuple[str, int, str]] = CASES, runs: int = 5) -> list[dict[str, float | str | None]]:
    """One dictionary a case: times in ms, the second as if all points were solved alone."""
    torch.set_num_threads(1)
    return [_row(*case, runs) for case in cases]


def _row(activation: str, depth: int, ensemble: str, runs: int) -> dict[str, float | str | None]:
    arguments = (activation, depth, *SIGMAS[activation], ensemble, True)
    law = density(*arguments)
    at = law.s[:: len(law.s) // 50]
    times = medians([lambda: density(*arguments), lambda: [law.pdf(point) for point in at]], runs)
    return {
        "case": f"{activation} L={depth} {ensemble}",
        "points": float(len(law.s)),
        "density_ms": times[0],
        "at_most_ms": TARGET_MS if activation == "relu" else None,
        "one_by_one_ms": times[1] * len(law.s) / len(at),
    }


if __name__ == "__main__":
    for row in rows():
        print(row)
