# SPDX-License-Identifier: Apache-2.0
"""What only a human can say of a model, read from ``docs/models/facts.toml``."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.workspace import ROOT

FACTS = ROOT / "docs" / "models" / "facts.toml"
DATA = (
    "features",
    "regular grid",
    "latitude-longitude grid",
    "cubed sphere",
    "HEALPix grid",
    "mesh or graph",
    "sequence",
)
"""What fields live on."""

OUTCOMES = ("deterministic", "ensemble")


@dataclass(frozen=True)
class Size:
    """Arguments of a model whose parameters are counted, and what to call them."""

    at: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a human says of a model; ``facts.toml`` explains each part."""

    task: Sequence[str]
    data: Sequence[str]
    outcome: Sequence[str]
    purpose: str
    figure: str
    formula: str
    options: Sequence[str]
    limits: Sequence[str]
    see: Sequence[str]
    bench: Sequence[str] = field(default_factory=tuple)
    size: Size | None = None


def all_facts() -> dict[str, Facts]:
    """Return what is said of each model, by its name in the registry."""
    entries = tomllib.loads(FACTS.read_text(encoding="utf-8"))
    return {name: _facts(entry) for name, entry in entries.items()}


def _facts(entry: dict[str, Any]) -> Facts:
    size = entry.pop("size", None)
    return Facts(**entry, size=Size(**size) if size else None)
