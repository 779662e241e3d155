# SPDX-License-Identifier: Apache-2.0
"""A page for each model, in reStructuredText, as docstrings are."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from physicsnemo.core.install.entry_points import shipped_models
from physicsnemo.registry import ModelRegistry
from tools.site.architectures import FIGURES
from tools.site.costs import Cost, costs
from tools.site.docstrings import escape_axes, linked, papers, parameters, sections
from tools.site.evidence import evidence, gpu
from tools.site.facts import Facts
from tools.site.figures import draw
from tools.workspace import PREFIX, closure, packages


class Card:
    """What the page of a model says, of which :meth:`text` makes reStructuredText.

    Parameters
    ----------
    name
        The model's name in the registry.
    facts
        What a human says of it.
    """

    def __init__(self, name: str, facts: Facts) -> None:
        self.name, self.facts = name, facts
        self.model_class = ModelRegistry().factory(name)
        self.module = shipped_models()[name]["module"]
        self.package = shipped_models()[name]["distribution"]
        self.sections = sections(self.model_class)
        self.costs = costs(name, facts)

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return self.sections[""].partition("\n")[0]

    @property
    def papers(self) -> list[tuple[str, str]]:
        """The papers of the docstring."""
        return papers(self.sections.get("References", ""))

    def option(self, name: str) -> str:
        """Return what a docstring says of an argument, that of a base class if it refers there."""
        found = _told([sections(owner) for owner in self._owners()]).get(name)
        if not found:
            raise ValueError(f"no docstring of {self.name} says what {name} is")
        return found

    def text(self) -> str:
        """Return the page."""
        parts = [
            f".. meta::\n   :description: {_plain(f'{self.name}. {self.summary}')}",
            f".. index:: ! {self.name}",
            f".. currentmodule:: {self.module}",
            f"{self.name}\n{'=' * len(self.name)}",
            self.summary,
            self._at_a_glance(),
            _section("What it is for", self.facts.purpose),
            _raw(draw(FIGURES[self.facts.figure])),
            f".. math::\n\n   {self.facts.formula}",
            self._example(),
            _section("Shapes", self._shapes()),
            _section("Options that matter first", self._options()),
            _section("Limits", _bullets(self.facts.limits)),
            _section("Numbers of other releases: ``numerics``", self._numerics()),
            _section("What it supports", self._support()),
            _section("What a training step takes", self._costs()),
            *self._references(),
            _section("See also", _bullets([*self.facts.see, NEXT])),
            _section("API", f".. autoclass:: {self.module}.{self.name}\n{_API}"),
        ]
        return "\n\n".join(parts) + "\n"

    def _owners(self) -> list[type]:
        """Return the class and its bases of this project."""
        return [it for it in self.model_class.__mro__ if it.__module__.startswith("physicsnemo.")]

    def _at_a_glance(self) -> str:
        cost = self.costs[0]
        rows = {
            "Task": ", ".join(self.facts.task),
            "Data": ", ".join(self.facts.data),
            "Outcome": ", ".join(self.facts.outcome),
            "Install": f"``{install_line(self.package)}`` in a clone (:doc:`/install`)",
            "Import": f"``from {self.module} import {self.name}``",
            "Package": f":doc:`{self.package} <{family(self.package)}>`",
            "Parameters": f"{millions(cost.parameters)} million ({cost.at})",
        }
        fields = "\n".join(f":{name}: {text}" for name, text in rows.items())
        return f".. rst-class:: at-a-glance\n\n{fields}"

    def _example(self) -> str:
        return _section("Example", self.sections["Examples"]) if "Examples" in self.sections else ""

    def _shapes(self) -> str:
        own = [it for it in self._owners() if "forward" in vars(it)]
        found = [sections(vars(owner)["forward"]) for owner in own]
        entries = _told(found, only_first=True)
        returned = next((it["Returns"] for it in found if "Returns" in it), "")
        texts = [f"``{name}``\n{_indented(text)}" for name, text in entries.items()]
        texts.append(f"Returns\n{_indented(returned)}")
        return escape_axes("\n\n".join(texts))

    def _options(self) -> str:
        return escape_axes(
            "\n\n".join(
                f"``{name}``\n{_indented(self.option(name))}" for name in self.facts.options
            )
        )

    def _numerics(self) -> str:
        try:
            return self.option("numerics")
        except ValueError:
            return "There is one way to compute it, so it has no option ``numerics``."

    def _support(self) -> str:
        rows = [
            (it.what, "yes" if it.holds else "no", it.proof) for it in evidence(self.name).values()
        ]
        where = (
            f"Tests are in ``packages/{self.package}/tests/test_conformance.py`` and run on every "
            f"change; cases on a GPU ran on an {gpu()}, and ``tools/gpu/proofs.json`` ties them to "
            "the current code."
        )
        return f"{where} {MEANINGS}\n\n{list_table(('', '', 'shown by'), rows)}"

    def _costs(self) -> str:
        if all(cost.step_ms is None for cost in self.costs):
            return "Not measured yet. " + "; ".join(
                f"{millions(cost.parameters)} million parameters ({cost.at})" for cost in self.costs
            )
        head = ("size", "million parameters", "a step, ms", "memory, GB", "how")
        how = ":doc:`/performance` tells on which card, and compares ways."
        return f"{list_table(head, map(_cost_row, self.costs))}\n\n{how}"

    def _references(self) -> Iterator[str]:
        if "References" in self.sections:
            yield _section("Papers", linked(self.sections["References"]))


NEXT = (
    "What comes next: :doc:`train it </capture>`, :doc:`on several GPUs </several_gpus>`, "
    ":doc:`save it </checkpoints>`, :doc:`fine-tune it </fine_tuning>`, "
    ":doc:`export it </export>`"
)
MEANINGS = (
    "What is not claimed may work all the same: it is not shown. The rows on ONNX are separate: "
    "the exports write a file that ONNX finds valid, from a model on that device; ONNX Runtime "
    "computes the same from a file that was written on a CPU, and runs it there."
)
_API = """   :members:
   :show-inheritance:"""


def install_line(package: str) -> str:
    """Return how to install a package from a clone, with those of this project that it needs."""
    needed = [it.name.removeprefix(PREFIX) for it in closure(package, packages())]
    return f"pip install packages/{PREFIX}{{{','.join(needed)}}}"


def family(package: str) -> str:
    """Return the page of a package, from the folder of cards."""
    return f"../{package.removeprefix(PREFIX)}"


def list_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], options: Sequence[str] = ()
) -> str:
    """Return a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", *(f"   {it}" for it in options), ""]
    for row in (head, *rows):
        marks = ("   * - ", *["     - "] * (len(row) - 1))
        lines += [f"{mark}{cell}".rstrip() for mark, cell in zip(marks, row, strict=True)]
    return "\n".join(lines)


def number(value: float | None) -> str:
    r"""Return a number with three digits, a dash (escaped, since it is no list) if there is none.

    >>> number(1.23456), number(None)
    ('1.23', '\\-')
    """
    return r"\-" if value is None else f"{value:#.3g}".rstrip(".")


def millions(count: int) -> str:
    """Return a count in millions."""
    return f"{count / 1e6:.0f}" if count >= 1e8 else f"{count / 1e6:#.3g}".rstrip(".")


def _cost_row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.at,
        millions(cost.parameters),
        number(cost.step_ms),
        number(cost.memory_gb),
        cost.way,
    )


def _section(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n\n{text}"


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def _told(found: Sequence[Mapping[str, str]], only_first: bool = False) -> dict[str, str]:
    """Return what docstrings say of parameters, that of a base where a class refers there."""
    entries = [parameters(it.get("Parameters", "")) for it in found]
    names = dict.fromkeys(name for it in entries[: 1 if only_first else None] for name in it)
    told = {name: [it[name] for it in entries if it.get(name)] for name in names}
    return {
        name: next((it for it in texts if not it.startswith(("As in", "See"))), texts[0])
        for name, texts in told.items()
        if texts
    }


def _raw(html: str) -> str:
    return f'.. raw:: html\n\n   <div class="architecture-frame" tabindex="0">{html}</div>'


def _plain(text: str) -> str:
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("`", "")
