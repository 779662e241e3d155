# SPDX-License-Identifier: Apache-2.0
"""Formulas as MathML, which browsers draw: pages need no script and nothing from elsewhere."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def setup(app: Sphinx) -> None:
    """Add the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a text."""
    translator.body.append(mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula that stands by itself, and its number if it has one."""
    formula = mathml(node.astext(), as_block=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math-block", tabindex="0"))
    translator.body.append(formula)
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def mathml(formula: str, as_block: bool) -> str:
    r"""Return LaTeX as MathML; docutils knows ``\ldots``, not ``\dots``.

    >>> "<mo>…</mo>" in mathml(r"u_0, \dots, u_M", as_block=False)
    True
    """
    known = re.sub(r"\\dots\b", r"\\ldots", formula)
    return str(latex2mathml.tex2mathml(known, as_block=as_block))
