# SPDX-License-Identifier: Apache-2.0
"""Tables of guides: what models support, and what nvidia-physicsnemo computes otherwise."""

from collections.abc import Mapping, Sequence

from physicsnemo.nn.numerics import ODDITIES, RELEASES
from tools.site.cards import list_table
from tools.site.evidence import evidence
from tools.site.facts import all_facts

PRECISION = {
    "amp_gpu": "mixed precision on a GPU (``amp_gpu``)",
    "amp_cpu": "on a CPU (``amp_cpu``)",
    "bf16": "all in bfloat16 (``bf16``)",
}
PROGRAMS = {
    "onnx_cpu": "ONNX (``onnx``)",
    "onnx_runtime": "ONNX Runtime (``onnx_runtime``)",
}


def tables() -> dict[str, str]:
    """Return each table by the name of its file."""
    return {
        "precision.txt": support(PRECISION),
        "programs.txt": support(PROGRAMS),
        "oddities.txt": oddities(),
    }


def support(columns: Mapping[str, str]) -> str:
    """Return which models support what; those that support the same share a row."""
    models: dict[tuple[bool, ...], list[str]] = {}
    for name in sorted(all_facts(), key=str.lower):
        known = evidence(name)
        models.setdefault(tuple(known[it].holds for it in columns), []).append(name)
    rows = [(_links(names), *map(_yes, held)) for held, names in sorted(models.items())[::-1]]
    return list_table(("models", *columns.values()), rows, [":widths: 4" + " 1" * len(columns)])


def oddities() -> str:
    """Return what releases of nvidia-physicsnemo compute otherwise than the papers."""
    head = ("models", "what differs from the paper", "in releases")
    rows = [
        (it.models, it.what, ", ".join(name for name in RELEASES if it.of(name)))
        for it in ODDITIES.values()
    ]
    return list_table(head, rows, [":widths: 3 6 2"])


def _links(names: Sequence[str]) -> str:
    return ", ".join(f":doc:`{name} </models/cards/{name}>`" for name in names)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
