"""The parameters of a lesson: read from its cell tagged `parameters`, and checked before anything runs.

papermill pastes names as code and guesses types; here a name must be declared and a value fits its default.
"""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

__all__ = ["declared", "validated"]

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def declared(cells: list[Any]) -> dict[str, Any]:
    """Names and defaults of the parameters cell.

    Args:
        cells: a notebook's cells.

    Raises:
        ValueError: a line of the cell is no `name: type = literal`.
    """
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    found: dict[str, Any] = {}
    for cell in tagged[:1]:
        for node in ast.parse("".join(cell["source"])).body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target = node.targets[0]  # type: ignore[assignment]
            if not isinstance(target, ast.Name) or not isinstance(node, ast.Assign | ast.AnnAssign):
                raise ValueError(f"the parameters cell holds {ast.unparse(node)!r}; name: type = value would do.")
            try:
                found[target.id] = ast.literal_eval(node.value) if node.value else None
            except ValueError:
                raise ValueError(f"parameter {target.id} starts as no literal: {ast.unparse(node)}.") from None
    return found


def validated(given: Mapping[str, Any], known: Mapping[str, Any], lesson: str) -> dict[str, Any]:
    """The given values, each of its default's type.

    Args:
        given: name → value; text is read by the type of the default, never by a guess.
        known: from `declared`.
        lesson: for the sentence.

    Raises:
        ValueError: a name that is not declared, or a value that does not fit.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.5) or list(known)
            raise ValueError(f"{lesson} has no parameter {name!r}; it has {', '.join(near) or 'none'}.")
    return {name: _fitted(name, value, known[name], lesson) for name, value in given.items()}


def _fitted(name: str, value: Any, default: Any, lesson: str) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _WORDS[str(value).strip().lower()]
        if kind in (int, float, str):
            if isinstance(value, bool) or (kind is int and isinstance(value, float)):
                raise ValueError
            return kind(value)
        read = ast.literal_eval(value) if isinstance(value, str) else value
        if default is not None and not isinstance(read, kind):
            raise ValueError
        return read
    except (ValueError, KeyError, SyntaxError):
        wanted = "any literal" if default is None else kind.__name__
        raise ValueError(f"{lesson}: {name} is {value!r}; {wanted} such as {default!r} would do.") from None
