"""Draws the picture of the README, one circle of inputs deep in three networks: `python scripts/cover.py`."""

from pathlib import Path

import matplotlib.pyplot as plt

from labkit.lessons.explorers import S0
from labkit.plots import style

DEPTH = 15

with style.context():
    figure, panels = plt.subplots(1, 3, figsize=(8.4, 3.1), layout="constrained")
    S0.draw(S0.circle(DEPTH), list(panels))
    figure.savefig(Path(__file__).parents[1] / "docs" / "cover.webp", dpi=160, facecolor="white")
