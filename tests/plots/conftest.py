"""Every test of a picture closes what it drew."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    yield
    plt.close("all")
