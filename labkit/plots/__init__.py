"""One style, one file per family of pictures; draws what it is handed and computes nothing."""

from labkit.plots.style import use

__all__ = ["use"]
