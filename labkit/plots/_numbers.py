"""What plots are handed, tensors of any device among it, as numpy arrays of float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array"]


def array(values: Any) -> NDArray[np.float64]:
    """Numbers, nested lists, arrays or tensors (with or without gradients) as a float64 array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)
