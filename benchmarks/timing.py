"""How the benchmarks measure: functions take turns, so that a passing load meets all of them, and medians are kept."""

import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["medians", "turns"]


def medians(functions: Sequence[Callable[[], object]], runs: int = 5) -> list[float]:
    """Median processor times in ms of each function."""
    return [statistics.median(times) for times in turns(functions, runs)]


def turns(functions: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Processor times in ms of each function in every run; one more run warms up and is not counted.

    Processor time, not wall time: on a machine that others use it is the one that repeats.
    """
    spent: list[list[float]] = [[] for _ in functions]
    for _ in range(runs + 1):
        for function, times in zip(functions, spent, strict=True):
            start = time.process_time()
            function()
            times.append(1e3 * (time.process_time() - start))
    return [times[1:] for times in spent]
