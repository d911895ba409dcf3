"""Formulas as native MathML, so that a page needs neither script nor network, and a font in which they can be read.

Tokens stand for the formulas while the text goes through Markdown, which would take their signs for its own.
"""

import base64
import io
import re
import unicodedata
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["MathError", "font_face", "formula", "restore", "set_aside"]

_FORMULA = re.compile(
    r"(?P<code>^(?P<fence>```|~~~).*?^(?P=fence)|(?P<tick>`+).+?(?P=tick))"
    r"|(?P<escaped>\\\$)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|\$(?P<inline>(?!\s)(?:\\.|[^$\\\n]|\n(?!\s*\n))+?(?<!\s))\$(?!\d)",
    re.DOTALL | re.MULTILINE,
)
_MATHML = "http://www.w3.org/1998/Math/MathML"
_FONT = Path(__file__).parent / "template" / "stix-two-math.woff"
# What a browser draws without its standing in the text: x in <mi>x</mi> is slanted, a root has its sign.
_IMPLIED = [*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C), 0x221A, 0x2032]


class MathError(ValueError):
    """A formula that cannot be set."""


def set_aside(text: str) -> tuple[str, list[str]]:
    r"""Markdown with a token for each formula, and the formulas as MathML.

    Args:
        text: Markdown with `$…$` and `$$…$$`; code and `\$` are left alone.

    Raises:
        MathError: a formula with a macro that latex2mathml does not know.

    Example:
        >>> text, found = set_aside("cost \\$5, `$x$`, $y$")
        >>> text, len(found)
        ('cost \\$5, `$x$`, MATHTOKEN0000X', 1)
    """
    found: list[str] = []

    def token(match: re.Match[str]) -> str:
        if match["code"] or match["escaped"]:
            return match[0]
        found.append(formula(match["block"] or match["inline"], block=match["block"] is not None))
        return f"MATHTOKEN{len(found) - 1:04d}X"

    return _FORMULA.sub(token, text), found


def restore(html: str, found: list[str]) -> str:
    """HTML with the formulas back in the place of their tokens."""
    return re.sub(r"MATHTOKEN(\d{4})X", lambda match: found[int(match[1])], html)


@cache
def formula(latex: str, block: bool = False) -> str:
    """MathML of one formula.

    Raises:
        MathError: a macro that latex2mathml does not know.
    """
    from latex2mathml.converter import convert

    try:
        braced = re.sub(r"\\math(bb|cal|frak)\s+(\w)", r"\\math\1{\2}", latex.strip())  # else no browser draws it
        made = str(convert(braced, display="block" if block else "inline"))
    except Exception as error:  # latex2mathml has a dozen of its own
        raise MathError(f"the formula ${latex}$ cannot be set ({type(error).__name__}).") from None
    if left := re.search(r">\s*(\\[A-Za-z]+)", made):
        raise MathError(f"the formula ${latex}$ uses {left[1]}, which latex2mathml does not know.")
    return _spaced(made)


def _spaced(made: str) -> str:
    """The same with the spaces of TeX: latex2mathml takes ± and ∼ for letters, and `var` for an operator."""
    ElementTree.register_namespace("", _MATHML)
    root = ElementTree.fromstring(made)
    for power in list(root.iter(f"{{{_MATHML}}}msup")):
        _set_primes(power)
    for parent in list(root.iter()):
        kind = parent.tag.removeprefix(f"{{{_MATHML}}}")
        for child in list(parent):
            _mend(child, inside_limits=kind in ("munder", "munderover"))
        if kind in ("mrow", "math", "mtd", "mstyle"):
            _separate_words(parent)
    return ElementTree.tostring(root, encoding="unicode")


def _set_primes(power: ElementTree.Element) -> None:
    """Primes at full size beside their letter: the font has raised them already, and raised again they are specks."""
    base, script = power
    signs = list(script) if script.tag == f"{{{_MATHML}}}mrow" else [script]
    if not signs or not set(signs[0].text or "x") <= set("′″‴"):
        return
    prime, rest = signs[0], signs[1:]
    prime.tag, prime.attrib = f"{{{_MATHML}}}mo", {"lspace": "0", "rspace": "0"}
    if not rest:
        power.tag, power[:] = f"{{{_MATHML}}}mrow", [base, prime]
        return
    primed, left = (ElementTree.Element(f"{{{_MATHML}}}mrow") for _ in range(2))
    primed[:], left[:] = [base, prime], rest
    power[:] = [primed, left]


def _mend(leaf: ElementTree.Element, inside_limits: bool) -> None:
    text, letter, operator = leaf.text or "", f"{{{_MATHML}}}mi", f"{{{_MATHML}}}mo"
    if leaf.tag == letter and text == "~":
        leaf.tag, leaf.text = operator, "∼"
    elif len(text) == 1 and unicodedata.category(text) == "Sm" and leaf.tag in (letter, operator):
        leaf.tag = letter if text in "∂∇∞∀∃∅" else operator
    if leaf.tag == operator and text in ("/", "|", "‖"):
        leaf.attrib |= {"lspace": "0", "rspace": "0"}
    elif leaf.tag == operator and text.isalpha() and len(text) > 1 and not inside_limits:
        leaf.tag = letter


def _separate_words(row: ElementTree.Element) -> None:
    for place in range(len(row) - 2, -1, -1):
        word, after = row[place], row[place + 1]
        head = word if word.tag.endswith("}mi") or not len(word) else word[0]  # log, or the log of log₂
        if head.tag.endswith("}mi") and len(head.text or "") > 1 and not after.tag.endswith(("}mo", "}mspace")):
            row.insert(place + 1, ElementTree.Element(f"{{{_MATHML}}}mspace", width="0.167em"))


def font_face(html: str) -> str:
    """A CSS rule that embeds STIX Two Math, cut down to what the formulas in `html` need."""
    signs = {ord(sign) for part in re.findall(r"<math.*?</math>", html, re.DOTALL) for sign in part}
    if not signs:
        return ""
    return f"@font-face{{font-family:'Lesson Math';src:url(data:font/woff;base64,{_subset(frozenset(signs))})}}"


@cache
def _subset(signs: frozenset[int]) -> str:
    from fontTools import subset  # type: ignore[import-untyped]
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    font = TTFont(_FONT)
    cutter = subset.Subsetter(subset.Options(hinting=False, layout_features=["ssty", "dtls"], notdef_outline=True))
    cutter.populate(unicodes=[*signs, *_IMPLIED])
    cutter.subset(font)
    font.flavor = "woff"
    made = io.BytesIO()
    font.save(made)
    return base64.b64encode(made.getvalue()).decode()
