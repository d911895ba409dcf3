"""The first call of every lesson: one style, one seed, one thread, and parameters that are checked early.

Under LABKIT_STRICT=1 (tests and headless runs) warnings inside a lesson are errors.
"""

import os
import random
import warnings

import numpy as np
import torch

__all__ = ["PROFILES", "setup"]

PROFILES = ("fast", "full")


def setup(profile: str = "fast", seed: int = 0, device: str = "cpu") -> bool:
    """Prepare a lesson's session.

    Args:
        profile: "fast" (seconds) or "full" (the figures of the papers).
        seed: of torch, numpy and random.
        device: "cpu", "cuda", …

    Returns:
        Whether the profile is "full".

    Raises:
        ValueError: an unknown profile or device.
        RuntimeError: the device is not there.

    Example:
        >>> setup("fast")
        False
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; {' or '.join(map(repr, PROFILES))} would do.")
    _demand(device)
    from labkit.plots import style

    style.use()
    if "OMP_NUM_THREADS" not in os.environ and device == "cpu":
        torch.set_num_threads(1)  # small batched problems run up to twenty times slower on shared cores
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if os.environ.get("LABKIT_STRICT") == "1":
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", DeprecationWarning)
    return profile == "full"


def _demand(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"device is {device!r}; 'cpu' or 'cuda' would do.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device is 'cuda', but torch finds no NVIDIA GPU here; device='cpu' would do.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError("device is 'mps', but torch finds no Apple GPU here; device='cpu' would do.")
