"""One line of a lesson's answer, shown in a notebook as a quiet coloured card and elsewhere as plain text.

Every message carries its text in full; the colour only repeats what the words say.
"""

import html
import sys
from typing import Any

__all__ = ["card", "show"]

_COLOURS = {"good": "#2E7D4F", "bad": "#B3372B", "plain": "#53398F", "quiet": "#6B7280"}


def show(text: str, markup: str, data: dict[str, Any] | None = None) -> None:
    """Display `text`, with richer representations where a notebook can take them.

    Args:
        text: what a terminal prints.
        markup: the same as HTML.
        data: further representations, mime type → content.
    """
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if not shell:
        sys.stdout.write(text + "\n")
        return
    from IPython.display import display

    display({"text/plain": text, "text/html": markup, **(data or {})}, raw=True)  # type: ignore[no-untyped-call]


def card(text: str, mood: str, detail: str = "") -> str:
    """HTML of one message: a coloured edge, the text, and preformatted detail where there is some."""
    block = f"<pre style='margin:.4em 0 0;overflow:auto'>{html.escape(detail)}</pre>" if detail else ""
    return (
        f"<div style='border-left:4px solid {_COLOURS[mood]};padding:.35em .8em;margin:.3em 0'>"
        f"{html.escape(text)}{block}</div>"
    )
