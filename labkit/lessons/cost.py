"""What a computation costs in multiplications, which do not depend on who else uses the machine.

Counted are the multiplications of matrix products, convolutions and attention; elementwise work is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["multiplications"]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base class is not annotated
    """Adds up the products that reach the dispatcher."""

    total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out) // 2  # an addition goes with each
        elif packet is torch.ops.aten.mv:  # torch's own table has no matrix-vector product
            self.total += args[0].numel()
        return out


def multiplications(run: Callable[[], object]) -> int:
    """Multiplications of the matrix products in one call of `run`.

    Args:
        run: called once, without arguments; its result is dropped.

    Example:
        >>> multiplications(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
        24
    """
    counter: Any = _Counter  # not annotated in torch
    with torch.no_grad(), counter() as counted:
        run()
    return int(counted.total)
