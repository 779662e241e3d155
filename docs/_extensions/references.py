# SPDX-License-Identifier: Apache-2.0
"""Names in docstrings that Python would find where they stand, but Sphinx does not.

A docstring says ``AFNO2DLayer``, as its module does, or ``physicsnemo.models.diffusion.
preconditioning.EDMPrecond``; pages document classes by the names that users import.
"""

from importlib import import_module

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment


def setup(app: Sphinx) -> None:
    """Look for names that were not found."""
    app.connect("missing-reference", resolve)


def resolve(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Return a link to the one object that a name means; None if there is not one."""
    if node.get("refdomain") != "py":
        return None
    domain = environment.domains.python_domain
    name = str(node["reftarget"])
    found = _by_import(domain, name) if "." in name else set()
    found = found or _in_family(domain, name, str(node.get("py:module") or ""))
    if len(found) != 1:
        return None
    page, place = found.pop()
    address = f"{app.builder.get_relative_uri(node['refdoc'], page)}#{place}"
    return nodes.reference("", "", content, internal=True, refuri=address)


def _by_import(domain: PythonDomain, name: str) -> set[tuple[str, str]]:
    """Return where an object is documented that is imported by another name."""
    module, _, attribute = name.rpartition(".")
    try:
        target = getattr(import_module(module), attribute)
        entry = domain.objects.get(f"{target.__module__}.{target.__qualname__}")
    except (ImportError, AttributeError):
        return set()
    return {(entry.docname, entry.node_id)} if entry else set()


def _in_family(domain: PythonDomain, name: str, module: str) -> set[tuple[str, str]]:
    """Return where objects of a name are documented in the family of a module."""
    if not module.startswith("physicsnemo."):
        return set()
    family = ".".join(module.split(".")[:3])
    return {
        (entry.docname, entry.node_id)
        for known, entry in domain.objects.items()
        if known.endswith(f".{name}") and known.startswith(f"{family}.")
    }
