"""Pointwise geometry of a linearization: the metric that a chain induces, and its spectra at every depth.

Every function takes the linearization, answers at the depths asked, and recomputes nothing that it holds.
"""

from labkit.geometry import curvature as curvature
from labkit.geometry import metric as metric
from labkit.geometry import spectra as spectra

__all__ = ["curvature", "metric", "spectra"]
