# SPDX-License-Identifier: Apache-2.0
"""Parts of NumPy docstrings: sections, parameters, and the papers that they name."""

import inspect
import re
import textwrap
from typing import Any

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
AXES = re.compile(r"(?<=[( ])\*(?=\w+( \w+)*[,)])")
AUTHORS = re.compile(r"[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)? \d{4}")
PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})|doi:(10\.\S+\w)")


def sections(target: Any) -> dict[str, str]:
    """Return the sections of a docstring by their headings, the text before them as ``""``."""
    parts = SECTION.split(inspect.getdoc(target) or "")
    named = zip(parts[1::2], parts[2::2], strict=True)
    return {"": parts[0].strip(), **{name: text.strip("\n") for name, text in named}}


def without(lines: list[str], *headings: str) -> list[str]:
    """Return a docstring without some of its sections."""
    parts = SECTION.split("\n".join(lines))
    kept = parts[0]
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name not in headings:
            kept += f"{name}\n{'-' * len(name)}\n{text}"
    return kept.split("\n")


def parameters(section: str) -> dict[str, str]:
    """Return the texts of a section of parameters; names that share one are single keys."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        names, _, text = entry.partition("\n")
        for name in re.split(r",\s*(?:\\\s*)?", names):
            found[name.strip()] = textwrap.dedent(text).strip()
    return found


def papers(references: str) -> list[tuple[str, str]]:
    """Return the papers that a text names by arXiv number or DOI: authors and year, address."""
    found = []
    for match in PAPER.finditer(references):
        before = " ".join(references[: match.start()].split())
        authors = AUTHORS.findall(before)
        arxiv, doi = match.groups()
        address = f"https://arxiv.org/abs/{arxiv}" if arxiv else f"https://doi.org/{doi}"
        found.append((authors[-1] if authors else match[0], address))
    return found


def linked(references: str) -> str:
    """Return a text whose arXiv numbers and DOIs are links."""

    def link(match: re.Match[str]) -> str:
        return f"`{match[0]} <{papers(match[0])[0][1]}>`__"

    return PAPER.sub(link, references)


def escape_axes(text: str) -> str:
    r"""Return a text in which ``*grid`` in a shape stays as it stands.

    reStructuredText would see emphasis there.

    >>> print(escape_axes("of shape (batch, *grid)"))
    of shape (batch, \*grid)
    """
    return AXES.sub(r"\\*", text)
