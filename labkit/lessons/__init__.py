"""What every notebook imports: predict, check, hint, solution, claim, explore, progress and setup.

The names load when first used, so that the command line can read claims without starting a notebook's machinery.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.lessons.checks import check as check
    from labkit.lessons.checks import hint as hint
    from labkit.lessons.checks import solution as solution
    from labkit.lessons.claims import claim as claim
    from labkit.lessons.explorer import explore as explore
    from labkit.lessons.journal import predict as predict
    from labkit.lessons.journal import progress as progress
    from labkit.lessons.session import setup as setup

__all__ = ["check", "claim", "explore", "hint", "predict", "progress", "setup", "solution"]
MARKER = ".labkit-work.json"  # `labkit lab` leaves it at the top of a working copy
_HOME = {
    "check": "checks", "hint": "checks", "solution": "checks", "claim": "claims", "explore": "explorer",
    "predict": "journal", "progress": "journal", "setup": "session",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'labkit.lessons' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"labkit.lessons.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
