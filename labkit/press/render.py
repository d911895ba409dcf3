"""An executed notebook as a piece of HTML: prose, code, and of each output the best that a page can show.

Explorers become sliders with embedded pictures; everything else is text, a picture with its description, or MathML.
"""

import base64
import copy
import html
import mimetypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mistune
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

from labkit.lessons.claims import MIME as CLAIM
from labkit.press.formulas import restore, set_aside

__all__ = ["CODE_STYLE", "EXPLORER", "lesson_html", "markdown_html"]

EXPLORER = "application/vnd.labkit.explorer+json"
_FORMATTER = HtmlFormatter(nowrap=True, style="default")
CODE_STYLE = HtmlFormatter(style="default").get_style_defs("pre.code")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_markdown = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "footnotes", "url"])


def lesson_html(notebook: Any, lesson_id: str, folder: Path, default: bool, explorer: Callable[..., str]) -> str:
    """The cells of a notebook, one after the other.

    Args:
        notebook: executed, from nbformat.
        lesson_id: prefix of the headings' anchors.
        folder: where relative pictures are looked for.
        default: whether it ran with the lesson's own parameters, of which prose tagged `reads` speaks.
        explorer: `explorer(id, **parameters)` makes a slider's HTML.
    """
    pieces = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            note = "" if default or "reads" not in tags else '<p class="note">Numbers of the default run:</p>'
            pieces.append(note + markdown_html(cell.source, lesson_id, folder))
        elif cell.cell_type == "code":
            pieces.append(_code(cell.source) if cell.source.strip() else "")
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            pieces += [_output(output, alt, explorer) for output in _joined(cell)]
    return "\n".join(piece for piece in pieces if piece)


def markdown_html(text: str, prefix: str, folder: Path) -> str:
    """Markdown as HTML, headings one level down and with anchors, pictures embedded, formulas as MathML.

    Links to other lessons become links to their pages.
    """
    held, found = set_aside(text)
    made = str(_markdown(held))
    made = re.sub(r"<h([1-5])>(.*?)</h\1>", lambda m: _heading(int(m[1]), m[2], prefix, found), made, flags=re.DOTALL)
    made = re.sub(r'(<img[^>]*src=")([^":]+)"', lambda m: f'{m[1]}{_embedded(folder / m[2])}"', made)
    made = re.sub(r'href="(?:[^":]*/)?([^"/:]+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', made)
    made = re.sub(r"(<table>.*?</table>)", r'<div class="wide" tabindex="0">\1</div>', made, flags=re.DOTALL)
    return restore(made, found)


def _heading(level: int, inner: str, prefix: str, found: list[str]) -> str:
    words = re.sub(r"<[^>]*>|MATHTOKEN\d{4}X|&\w+;", " ", inner).lower()
    anchor = prefix if level == 1 else f"{prefix}-{'-'.join(re.findall(r'[a-z0-9]+', words))}"
    return f'<h{level + 1} id="{anchor}">{inner}</h{level + 1}>'


def _embedded(picture: Path) -> str:
    if not picture.is_file():
        return str(picture.name)
    kind = mimetypes.guess_type(picture.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _code(source: str) -> str:
    return f'<pre class="code" tabindex="0"><code>{highlight(source, PythonLexer(), _FORMATTER).rstrip()}</code></pre>'


def _pre(text: str, kind: str) -> str:
    return f'<pre class="{kind}" tabindex="0">{html.escape(_ANSI.sub("", text)).rstrip()}</pre>'


def _joined(cell: Any) -> list[Any]:
    """The outputs, with what was printed in one go in one piece, however often the kernel flushed."""
    coalesce: Any = CoalesceStreamsPreprocessor
    whole, _ = coalesce().preprocess_cell(copy.deepcopy(cell), {}, 0)
    return list(whole.outputs)


def _output(output: Any, alt: str, explorer: Callable[..., str]) -> str:
    if output.output_type == "stream":
        return _pre(output.text, output.name)
    if output.output_type == "error":
        return _pre("\n".join(output.traceback) or f"{output.ename}: {output.evalue}", "error")
    data = output.data
    if EXPLORER in data:
        return explorer(data[EXPLORER]["id"], **data[EXPLORER].get("parameters", {}))
    if CLAIM in data or ("text/html" in data and "image/png" not in data):
        return f'<div class="output">{data["text/html"]}</div>'
    for kind in ("image/png", "image/jpeg", "image/webp"):
        if kind in data:
            return _figure(f"data:{kind};base64,{''.join(data[kind].split())}", output.metadata.get(kind, {}), alt)
    if "image/svg+xml" in data:
        coded = base64.b64encode(data["image/svg+xml"].encode()).decode()
        return _figure(f"data:image/svg+xml;base64,{coded}", {}, alt)
    if "text/latex" in data or "text/markdown" in data:
        held, found = set_aside(data.get("text/markdown", data.get("text/latex")))
        return restore(str(_markdown(held)), found)
    return _pre(data.get("text/plain", ""), "stdout")


def _figure(url: str, size: Any, alt: str) -> str:
    width = f' width="{size["width"]}"' if "width" in size else ""
    return f'<figure><img src="{url}"{width} alt="{html.escape(alt)}"></figure>'
