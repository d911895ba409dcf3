"""A control of an explorer: a keyword, its values, and how they are written and said.

Apart from `explorer`, whose public names it is part of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

__all__ = ["Control", "minus"]


@dataclass(frozen=True)
class Control:
    """A keyword of `compute` and its values, in order: a slider, or a menu where the values are words.

    Args:
        name: the keyword.
        values: all values, hashable.
        start: the value shown first, one of `values`.
        label: what the reader sees and a screen reader says, such as "weight scale σ_w".
        show: how a value is written.

    Example:
        >>> Control("depth", range(1, 21), 6, "depth", lambda d: f"{d} layers").say(6)
        'depth 6 layers'
    """

    name: str
    values: Any
    start: Any
    label: str
    show: Callable[[Any], str] = str

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if unhashable := [value for value in self.values if not isinstance(value, Hashable)]:
            raise TypeError(
                f"control {self.name!r} needs values that can be hashed, such as tuples; got {unhashable[0]}"
            )
        if len(set(self.values)) != len(self.values) or not self.values:
            raise ValueError(f"control {self.name!r} needs values, each once; got {self.values}")
        if self.start not in self.values:
            values = ", ".join(map(str, self.values))
            raise ValueError(f"control {self.name!r} cannot start at {self.start!r}; its values are {values}")

    @property
    def menu(self) -> bool:
        """Whether the values are words."""
        return isinstance(self.start, str)

    def say(self, value: Any) -> str:
        """Label and value, in words."""
        return f"{self.label} {self.word(value)}"

    def word(self, value: Any) -> str:
        """The value as it is written."""
        return minus(self.show(value))


def minus(text: str) -> str:
    """The minus sign where a hyphen stands before a number, as the figures write it."""
    return re.sub(r"(?<![\w.])-(?=[\d.∞])", "−", text)
