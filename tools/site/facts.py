# SPDX-License-Identifier: Apache-2.0
"""What only a human can say of a model, read from ``docs/models/facts.toml``."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field

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


def all_facts() -> dict[str, Facts]:
    """Return what is said of each model, by its name in the registry."""
    entries = tomllib.loads(FACTS.read_text(encoding="utf-8"))
    return {name: Facts(**entry) for name, entry in entries.items()}
