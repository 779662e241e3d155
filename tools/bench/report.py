# SPDX-License-Identifier: Apache-2.0
"""Results as a table and as JSON, with what is needed to tell where they come from."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

ROOT = Path(__file__).parents[2]
COMMIT = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def provenance() -> dict[str, Any]:
    """Return when, of which commit and on what machine results were taken."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(ROOT),
        "python": platform.python_version(),
        "torch": version("torch"),
        "platform": platform.platform(),
    }


def device_name(device: "str | torch.device") -> str:
    """Return the name of a card, or of the CPU's instructions."""
    import torch

    device = torch.device(device)
    if device.type == "cpu":
        return f"CPU with {torch.backends.cpu.get_cpu_capability()}"
    return str(torch.get_device_module(device).get_device_name(device))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of numbers whose first and last columns are text."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        text = column in (columns[0], columns[-1])
        table.add_column(column, justify="left" if text else "right", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)


def write_json(
    path: Path, environment: Mapping[str, Any], **tables: "Sequence[DataclassInstance]"
) -> None:
    """Write where results come from, and lists of them."""
    lists = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
    content = {"environment": environment, **lists}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what :func:`write_json` has written."""
    return json.loads(path.read_text(encoding="utf-8"))


def duration(seconds: float) -> str:
    """Return a time with three digits and the unit that suits it."""
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{_rounded(seconds * scale)} {unit}"
    return f"{_rounded(seconds * 1e6)} µs"


def _rounded(number: float) -> str:
    return f"{number:#.3g}".rstrip(".")


def _commit(folder: Path) -> str | None:
    """Return the commit, marked where files differ from it; None outside a repository."""
    try:
        found = subprocess.run(COMMIT, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:  # git is not installed
        return None
    return found.stdout.strip() or None
