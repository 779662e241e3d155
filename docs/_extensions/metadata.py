# SPDX-License-Identifier: Apache-2.0
"""What search engines and previews are told of a page: its first paragraph."""

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LENGTH = 200


def setup(app: Sphinx) -> None:
    """Describe each page that does not describe itself."""
    app.connect("html-page-context", describe)


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """Add a description to a page's metadata."""
    if document is None or 'name="description"' in context.get("metatags", ""):
        return
    if text := first_paragraph(document):
        tag = f'<meta name="description" content="{escape(text)}" />\n'
        context["metatags"] = context.get("metatags", "") + tag


def first_paragraph(document: nodes.document) -> str:
    """Return the beginning of a page's first paragraph, in whole words."""
    for paragraph in document.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > LENGTH:
            text = text[:LENGTH].rpartition(" ")[0] + " …"
        if text and isinstance(paragraph.parent, nodes.section):
            return text
    return ""
