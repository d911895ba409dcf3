"""Formulas: found where they are meant, set as MathML, and drawn with an embedded font that has their letters."""

import base64
import io
import re

import pytest
from fontTools.ttLib import TTFont

from labkit.press.formulas import MathError, font_face, formula, restore, set_aside


@pytest.mark.parametrize(
    ("text", "formulas"),
    [("$x$ and $y$", 2), ("$$x$$", 1), ("costs \\$5 and \\$6", 0), ("`$x$`", 0), ("```\n$x$\n```", 0),
     ("from $5 to 6$7", 0), ("$x$-axis, $\\$$", 2), ("$a\nb$", 1), ("$a\n\nb$", 0), ("<summary>$x$</summary>", 1)],
)  # fmt: skip
def test_formulas_are_found_where_they_are_meant(text: str, formulas: int) -> None:
    held, found = set_aside(text)
    assert len(found) == formulas
    assert restore(held, found).count("<math") == formulas
    assert (held == text) == (formulas == 0)


def test_a_block_is_displayed() -> None:
    assert 'display="block"' in set_aside("$$x$$")[1][0]
    assert 'display="inline"' in set_aside("$x$")[1][0]


@pytest.mark.parametrize(
    ("latex", "has"),
    [(r"z \sim N", "<mo>∼</mo>"), (r"a \pm b", "<mo>±</mo>"), (r"\partial f", "<mi>∂</mi>"), (r"\sqrt{x}", "<msqrt>"),
     (r"\log x", '<mi>log</mi><mspace width="0.167em" />'), (r"\operatorname{var} h", "<mi>var</mi><mspace"),
     (r"\max_i x", "<msub><mi>max</mi><mi>i</mi></msub>"), (r"\mathbb{R}^n", "<mi>ℝ</mi>"),
     (r"\mathbb E\varphi", "<mi>𝔼</mi>"),
     (r"1/n", '<mo lspace="0" rspace="0">/</mo>'), ("C''(1)", '<mi>C</mi><mo lspace="0" rspace="0">″</mo></mrow>'),
     (r"\varphi'^4", '<mo lspace="0" rspace="0">′</mo></mrow><mrow><mn>4</mn>'), ("x^2", "<msup><mi>x</mi><mn>2</mn>")],
)  # fmt: skip
def test_signs_are_what_tex_makes_of_them(latex: str, has: str) -> None:
    assert has in formula(latex)


@pytest.mark.parametrize("latex", [r"\nosuchmacro{x}", "x^"])
def test_what_cannot_be_set_is_named(latex: str) -> None:
    with pytest.raises(MathError, match=r"the formula \$.*\$"):
        formula(latex)


def test_the_font_has_every_letter_and_the_root() -> None:
    page = "".join(formula(latex) for latex in (r"\mathcal{N}(0, \sigma^2)", r"\sqrt{\phi'}", r"A^\top \ne \ell"))
    rule = font_face(page)
    coded = re.search(r"base64,([^)]*)\)", rule)
    assert coded
    font = TTFont(io.BytesIO(base64.b64decode(coded[1])))
    letters = {ord(sign) for sign in re.sub(r"<[^>]*>", "", page)}
    assert letters | {0x221A, ord("𝑥"), ord("𝜙")} <= set(font.getBestCmap())
    assert "MATH" in font  # without it a browser draws no root at all
    assert len(rule) < 120_000
    assert font_face("<p>words</p>") == ""
