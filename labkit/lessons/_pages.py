"""An explorer's frames as HTML: a grid of labelled pictures, and a player that needs no kernel.

Both stand alone: pictures and scripts are embedded, so they open from a file without a network.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit.lessons._stage import Frame, Pixels, webp

__all__ = ["CSS", "PLAYER", "grid", "page"]

PLAYER, CSS = (Path(__file__).with_name(f"explorer.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
LAYOUT = "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:1em"


def grid(labelled: Iterable[tuple[str, Frame]]) -> str:
    """Pictures side by side, each below its label; their sentences are their alternative texts."""
    cells = (
        f'<figure style="margin:0"><figcaption><b>{html.escape(label)}</b></figcaption>'
        f'<img style="max-width:100%" alt="{html.escape(frame.text)}" src="{_url(frame)}"></figure>'
        for label, frame in labelled
    )
    return f'<div style="{LAYOUT}">{"".join(cells)}</div>'


def page(spec: Mapping[str, Any], frames: Iterable[Frame], first: Frame, limit: int | None = None) -> str | None:
    """The player with all its frames; without scripts, the first picture.

    Args:
        spec: as of `Explorer.spec`.
        frames: one for each combination of the controls' values, the last control's running fastest.
        first: the frame to begin with, which lies beneath all others.
        limit: in bytes; None for none.

    Returns:
        HTML; None as soon as it passes the limit.
    """
    base = _url(first)
    carried, size = [], len(base)
    for frame in frames:
        source = _url(frame, first.pixels)
        carried.append({"src": source, "text": frame.text, "spots": frame.spots})
        size += len(source)
        if limit and size > limit:
            return None
    data = json.dumps({**spec, "base": base, "frames": carried}, ensure_ascii=False).replace("<", "\\u003c")
    still = f'<img alt="{html.escape(first.text)}" src="{base}">'
    return (
        f'<style>{CSS}</style><div class="explorer"><noscript>{still}</noscript></div><script>{{{PLAYER}'
        f"const spec = {data}; player(document.currentScript.previousElementSibling, spec, async at => "
        "spec.frames[at.reduce((k, i, d) => k * spec.controls[d].values.length + i, 0)])}</script>"
    )


def _url(frame: Frame, base: Pixels | None = None) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp(frame.pixels, base)).decode()}"
