# SPDX-License-Identifier: Apache-2.0
"""Write the pages on models: a card for each, and the tables that other pages include."""

from pathlib import Path

from tools.site.cards import Card, list_table, millions, number
from tools.site.evidence import evidence
from tools.site.facts import all_facts
from tools.site.tables import tables

TABLE = "table.txt"
HEAD = (
    "Model",
    "Task",
    "Data",
    "Outcome",
    "AMP",
    "CUDA graphs",
    "Compile",
    "ONNX",
    "Export",
    "Parameters, M",
    "Step, ms",
    "Memory, GB",
    "Size",
    "Paper",
)
SUPPORT = ("amp_gpu", "cuda_graphs", "compile", "onnx_cpu", "export")


def write(folder: Path) -> None:
    """Write all cards, and the tables, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cards = [Card(name, facts) for name, facts in sorted(all_facts().items(), key=_alphabetic)]
    for card in cards:
        _write(folder / f"{card.name}.rst", card.text())
    _write(folder / TABLE, list_table(HEAD, map(row, cards), [":class: finder"]))
    for name, text in tables().items():
        _write(folder / name, text)


def row(card: Card) -> tuple[str, ...]:
    """Return what the table says of a model."""
    cost, known = card.costs[0], evidence(card.name)
    author, address = card.papers[0] if card.papers else ("-", "")
    return (
        f":doc:`{card.name} <cards/{card.name}>`",
        ", ".join(card.facts.task),
        ", ".join(card.facts.data),
        ", ".join(card.facts.outcome),
        *("yes" if known[name].holds else "no" for name in SUPPORT),
        millions(cost.parameters),
        number(cost.step_ms),
        number(cost.memory_gb),
        cost.at,
        f"`{author} <{address}>`__" if address else author,
    )


def _alphabetic(item: tuple[str, object]) -> str:
    return item[0].lower()


def _write(path: Path, text: str) -> None:
    """Write a file unless it says this already, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
