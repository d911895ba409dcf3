"""Settings that every test shares: one thread, headless pictures, reproducible hypothesis runs."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on shared cores two threads are slower than one

import matplotlib
import pytest
import torch
from hypothesis import settings

matplotlib.use("agg")  # here and not in the environment, where it would empty the notebooks' figures
torch.set_num_threads(1)
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))
