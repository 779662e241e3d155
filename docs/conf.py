# SPDX-License-Identifier: Apache-2.0
"""The site: text in Markdown, the API from docstrings, examples run and shown with pictures."""

import inspect
import re
from importlib.metadata import version as installed_version
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from physicsnemo import Module

project = "PhysicsNeMo Models"
author = "The PhysicsNeMo Models authors"
copyright = author
version = release = installed_version("physicsnemo-core")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples", "requirements.txt"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# A reference into the project that leads nowhere is an error; other projects' names stay plain
# text, so that the site builds without network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!physicsnemo\.).*"),
    (  # type variables
        "py:class",
        r".*\.(checkpointing\.Result|rollout\.State|(adapt|rules|sharding)\.Model|tracing\.Function)",
    ),
    ("py:class", r"physicsnemo\.core\.base\.ModelBase"),  # whose members stand at Module
    ("py:class", r".*\._probability_flow\.ProbabilityFlow"),  # what samplers take apart
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_custom_sections = ["Returns"]  # prose, since the type stands in the signature
copybutton_exclude = ".linenos, .gp, .go"  # copy what is typed, neither prompts nor output


def small_settings(gallery: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Return the options with which the site runs an example."""
    return ["--epochs", "10", "--output", "../_build/outputs"]


# In a notebook, the command line is that of Jupyter's kernel, not that of the example.
FIRST_CELL = """\
# Options of this example, as on its command line: ["--epochs", "20"], or ["--help"] for all.
import sys

sys.argv[1:] = []
"""

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "reset_argv": small_settings,
    "first_notebook_cell": FIRST_CELL,
    "download_all_examples": False,
    "show_signature": False,
}

suppress_warnings = ["config.cache"]  # a function among the settings: there is no harm in it

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_show_copyright = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}


def setup(app: Sphinx) -> None:
    """Connect what this file defines."""
    app.connect("autodoc-process-docstring", escape_axes, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", show_constructor)


def escape_axes(
    app: Sphinx, what: str, name: str, target: object, options: object, lines: list[str]
) -> None:
    """Keep ``*grid`` in a shape as it stands, where reStructuredText would see emphasis."""
    lines[:] = [re.sub(r"(?<=[( ])\*(?=\w+( \w+)*[,)])", r"\\*", line) for line in lines]


def show_constructor(
    app: Sphinx, what: str, name: str, target: Any, options: object, signature: str, returns: str
) -> tuple[str, None] | None:
    """Show what a model is built from, where autodoc would show ``Module.__new__``."""
    if what != "class" or not issubclass(target, Module):
        return None
    _, *arguments = inspect.signature(target.__init__).parameters.values()
    return stringify_signature(inspect.Signature(arguments), unqualified_typehints=True), None
