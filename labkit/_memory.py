"""Whether dense Jacobians or jets fit into the memory that is free, asked before any of them is allocated.

What is free is what the system says, and within a container what its limit leaves.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["available_bytes", "check_jet_memory", "check_memory"]

Link = Callable[[Tensor], Tensor]


def check_memory(states: Sequence[Tensor], unknown: Sequence[int], chunk_size: int | None) -> None:
    """Refuse dense Jacobians that would not fit, with the figure and the way out."""
    sizes = [h.shape[1:].numel() for h in states]
    batch, item = len(states[0]), states[0].element_size()
    kept = sum(batch * n * m * item for n, m in pairwise(sizes))
    work = 0
    for index in unknown:  # links without a rule: their columns are all alive at once
        n, m = sizes[index : index + 2]
        work = max(work, 2 * batch * min(n, m, chunk_size or n) * (n + m) * item)
    if kept + work < 2**26:
        return
    free = available_bytes(states[0].device)
    if kept > free:
        raise MemoryError(
            f"the dense Jacobians of {len(sizes) - 1} links on {batch} samples need {_gigabytes(kept)}, "
            f"{_gigabytes(free)} are free; use dense=False and push a basis, or fewer samples"
        )
    if kept + work > free:
        raise MemoryError(
            f"the dense Jacobians need {_gigabytes(kept)} and their columns at once {_gigabytes(work)} more, "
            f"{_gigabytes(free)} are free; pass a smaller chunk_size, or dense=False and a basis"
        )


def check_jet_memory(links: Sequence[Link], states: Sequence[Tensor], k: int, by_link: bool, keeps_graph: bool) -> None:
    """Refuse 2-jets in k directions that would not fit, with the figure and the way out."""
    batch, item = len(states[0]), states[0].element_size()
    sizes = [h.numel() for h in states]
    pairs, groups = k * (k + 1) // 2, len(links) if by_link else 1
    columns = k + groups * pairs
    kept = columns * (sum(sizes) if keeps_graph else max(sizes)) + (groups + by_link) * k * k * sizes[-1]
    work = (columns + 3 * pairs) * item  # bytes for every number inside a link: its columns, and products of pairs
    need = kept * item + work * max(sizes)
    if need < 2**20:
        return
    free = available_bytes(states[0].device)
    if need <= free:
        need = kept * item + work * max(_widest(link, h) for link, h in zip(links, states, strict=False))
    if need > free:
        raise MemoryError(
            f"the second derivatives of {batch} samples in {k} directions need {_gigabytes(need)}, "
            f"{_gigabytes(free)} are free; pass a basis of fewer columns, or fewer samples"
        )


def available_bytes(device: torch.device) -> float:
    """Free memory of the device in bytes; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = math.inf
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = 1024.0 * int(fields["MemAvailable"].split()[0])
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if device.type == "cpu" and limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, float(text) - float(used.read_text()))
    return free


def _gigabytes(count: int | float) -> str:
    return f"{count / 1e9:.3g} GB"


class _Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the most numbers that any one operation makes."""

    numbers: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not any(isinstance(a, Tensor) and _shares(a, out) for a in args):
            self.numbers = max(self.numbers, out.numel())
        return out


def _widest(link: Link, h: Tensor) -> int:
    """The size of the largest tensor that a link makes inside, an attention matrix or a hidden layer say."""
    widest = _Widest()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.no_grad(), widest:
        link(h.clone())
    return max(widest.numbers, h.numel())


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
