"""How long the door takes to open: labkit alone without torch, and what `Chain` adds to torch.

Each import runs in a fresh interpreter; processor time, medians of several taken in turn, the first not counted.
"""

import os
import statistics
import sys

STATEMENTS = ["pass", "import labkit", "import torch", "from labkit import Chain"]


def rows(runs: int = 7) -> list[dict[str, float | str]]:
    """Two rows: milliseconds of `import labkit` over a bare interpreter, and of `Chain` over torch."""
    spent: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(runs + 1):
        for statement in STATEMENTS:
            spent[statement].append(_processor_ms(statement))
    ms = {statement: statistics.median(times[1:]) for statement, times in spent.items()}
    asked = [("import labkit", "pass", 100.0), ("from labkit import Chain", "import torch", 150.0)]
    return [
        {"statement": statement, "over": over, "ms": ms[statement] - ms[over], "at_most": at_most}
        for statement, over, at_most in asked
    ]


def _processor_ms(statement: str) -> float:
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", statement], os.environ)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{statement!r} failed in a fresh interpreter")
    return 1e3 * (used.ru_utime + used.ru_stime)
