# SPDX-License-Identifier: Apache-2.0
"""Code without the empty lines at its end, which doctests need after what they expect."""

from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> None:
    """Strip code when a page is read."""
    app.connect("doctree-read", strip)


def strip(app: Sphinx, document: nodes.document) -> None:
    """Remove empty lines at the end of code."""
    for block in document.findall(nodes.literal_block):
        if block.rawsource == block.astext():  # else it is highlighted already
            block.rawsource = block.rawsource.rstrip("\n")
            block.children[:] = [nodes.Text(block.rawsource)]
