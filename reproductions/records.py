# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: its numbers, and how its fields were normalized."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.bench.report import device_name, provenance


def environment(device: torch.device | str, package: str) -> dict[str, Any]:
    """Return when, of which commit, on what device and with which package a run was made."""
    return provenance() | {"device": device_name(device), package: version(package)}


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the numbers of a run."""
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of values, by which they are normalized."""

    mean: Tensor
    deviation: Tensor

    def encode(self, values: Tensor) -> Tensor:
        """Return values with mean 0 and deviation 1."""
        return (values - self.mean) / self.deviation

    def decode(self, values: Tensor) -> Tensor:
        """Undo :meth:`encode`."""
        return values * self.deviation + self.mean


def save_scales(scales: Mapping[str, Scale], path: Path) -> None:
    """Write means and deviations, as NAME.mean and NAME.deviation."""
    tensors = {f"{name}.mean": it.mean for name, it in scales.items()}
    tensors |= {f"{name}.deviation": it.deviation for name, it in scales.items()}
    save_file({name: it.cpu().contiguous() for name, it in tensors.items()}, path)
