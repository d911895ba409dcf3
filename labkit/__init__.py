"""Geometry of the nonlinear Jacobian chain: a deep network as a composition of links, and the metric it induces.

`Chain` and `cut` make a network into links; `labkit.geometry` measures what they do to lengths, angles and volumes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.chain import Chain as Chain
    from labkit.cutting import cut as cut
    from labkit.linearization import Linearization as Linearization

__version__ = "0.1.0"
__all__ = ["Chain", "Linearization", "cut"]
_HOME = {"Chain": "labkit.chain", "Linearization": "labkit.linearization", "cut": "labkit.cutting"}


def __getattr__(name: str) -> Any:  # PEP 562: `import labkit` stays instant, torch loads with the first name
    if name not in _HOME:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
