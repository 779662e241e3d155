# SPDX-License-Identifier: Apache-2.0
"""The site: text in Markdown, the API from docstrings, examples run and shown with pictures."""

import inspect
import os
import sys
from importlib.metadata import version as installed_version
from importlib.resources import files
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from physicsnemo import Module
from physicsnemo.registry import ModelRegistry

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]  # where tools/ lies

from tools.site import changelog, docstrings, pages  # noqa: E402

project = "PhysicsNeMo Models"
author = "The PhysicsNeMo Models authors"
copyright = author
version = release = installed_version("physicsnemo-core")

extensions = [
    "mathml",
    "metadata",
    "references",
    "trailing_lines",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "_next.md",
    "_templates",
    "examples",
    "models/cards/*.txt",
    "requirements.txt",
    "tests",
]
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
    ("py:class", r".*\._recurrent\.RecurrentModel"),  # what two models share
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 60  # longer ones have a line for each argument
napoleon_google_docstring = False
napoleon_custom_sections = ["Returns"]  # prose, since the type stands in the signature
copybutton_exclude = ".linenos, .gp, .go"  # copy what is typed, neither prompts nor output


def settings(gallery: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Return the options with which the site runs an example: none, or those of a quick build."""
    quick = os.environ.get("EXAMPLE_OPTIONS", "").split()
    return [*quick, "--output", f"../_build/outputs/{Path(script['src_file']).stem}"]


# In a notebook, the command line is that of Jupyter's kernel, not that of the example.
FIRST_CELL = """\
# Besides all packages of this project it may need:
# %pip install h5py healpix matplotlib rich scikit-fem scipy
# Options of this example, as on its command line: ["--epochs", "20"], or ["--help"] for all.
import sys

sys.argv[1:] = []
"""


class QuickstartFirst:
    """The order of examples."""

    def __init__(self, folder: str) -> None:
        """Take what the gallery passes."""

    def __call__(self, name: str) -> tuple[bool, str]:
        """Return what a file is sorted by."""
        return name != "quickstart.py", name


sphinx_gallery_conf = {
    "within_subsection_order": QuickstartFirst,
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "reset_argv": settings,
    "first_notebook_cell": FIRST_CELL,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # a page that loads a script from elsewhere
}

suppress_warnings = ["config.cache"]  # a function among the settings: there is no harm in it

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static", str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["site.css"]
html_js_files = [("finder.js", {"defer": "defer"}), ("versions.js", {"defer": "defer"})]
html_favicon = "_static/favicon.svg"
html_show_copyright = False
html_copy_source = True
html_sidebars = {"changelog": [], "coming_from": [], "index": [], "install": [], "models/find": []}
html_math_renderer = "mathml"  # by browsers themselves, without a script or a font from elsewhere
html_theme_options = {
    "logo": {
        "image_light": "_logo/logo.svg",
        "image_dark": "_logo/logo-dark.svg",
        "text": project,
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": {
        "**": ["page-toc", "sourcelink"],
        "index": [],
        "models/find": [],
    },
    "footer_start": ["versions"],
    "footer_end": [],
}
templates_path = ["_templates"]


MODELS = {ModelRegistry().factory(name) for name in ModelRegistry().list_models()}


def setup(app: Sphinx) -> None:
    """Connect what this file defines."""
    pages.write(HERE / "models" / "cards")
    (HERE / "_next.md").write_text(changelog.next_release(), encoding="utf-8")
    app.connect("autodoc-skip-member", skip_models)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", show_constructor)


def skip_models(
    app: Sphinx, what: str, name: str, target: object, skip: bool, options: object
) -> bool | None:
    """Leave models out of the pages of their modules: each has a page of its own."""
    return True if what == "module" and is_model(target) else None


def is_model(target: object) -> bool:
    """Tell whether something is a registered model."""
    return isinstance(target, type) and target in MODELS


def prepare(
    app: Sphinx, what: str, name: str, target: Any, options: object, lines: list[str]
) -> None:
    """Leave out what the page of a model shows anyway, and keep shapes as they stand."""
    if what == "class" and is_model(target):
        lines[:] = docstrings.without(lines, "References", "Examples")
    lines[:] = map(docstrings.escape_axes, lines)


def show_constructor(
    app: Sphinx, what: str, name: str, target: Any, options: object, signature: str, returns: str
) -> tuple[str, None] | None:
    """Show what a model is built from, where autodoc would show ``Module.__new__``."""
    if what != "class" or not issubclass(target, Module):
        return None
    _, *arguments = inspect.signature(target.__init__).parameters.values()
    return stringify_signature(inspect.Signature(arguments), unqualified_typehints=True), None
