# SPDX-License-Identifier: Apache-2.0
"""Time and memory of saving and loading a model, against plain ``torch.save`` and ``torch.load``.

``python -m tools.bench.checkpoint --megabytes 1000`` runs each in a process of its own and prints a
table with ratios; ``--json FILE`` also writes one.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.bench.own_process import peak_bytes, printed_by

WIDTH = 2048
LAYER_BYTES = 4 * WIDTH * WIDTH


def model(megabytes: int) -> Any:
    """Return a fully connected network of about that size."""
    from physicsnemo.registry import ModelRegistry

    layers = max(1, megabytes * 10**6 // LAYER_BYTES)
    return ModelRegistry().factory("FullyConnected")(WIDTH, WIDTH, WIDTH, num_layers=layers)


def torch_save(folder: Path, megabytes: int) -> Callable[[], object]:
    """Save a state dict."""
    import torch

    state = model(megabytes).state_dict()
    return lambda: torch.save(state, folder / "weights.pt")


def mdlus_save(folder: Path, megabytes: int) -> Callable[[], object]:
    """Save a model."""
    built = model(megabytes)
    return lambda: built.save(folder / "model.mdlus")


def torch_load(folder: Path, megabytes: int) -> Callable[[], object]:
    """Build a model and load a state dict into it."""
    import torch

    return lambda: model(megabytes).load_state_dict(torch.load(folder / "weights.pt"))


def mdlus_load(folder: Path, megabytes: int) -> Callable[[], object]:
    """Build a model from a checkpoint."""
    from physicsnemo import Module

    return lambda: Module.from_checkpoint(folder / "model.mdlus")


def mdlus_load_and_read(folder: Path, megabytes: int) -> Callable[[], object]:
    """Build a model from a checkpoint, and read every weight of it."""
    from physicsnemo import Module

    return lambda: [p.sum() for p in Module.from_checkpoint(folder / "model.mdlus").parameters()]


ACTIONS = {
    "torch.save": torch_save,
    "Module.save": mdlus_save,
    "build and torch.load": torch_load,
    "Module.from_checkpoint": mdlus_load,
    "the same, all weights read": mdlus_load_and_read,
}


def measure(name: str, folder: Path, megabytes: int) -> dict[str, float]:
    """Run one action in this process: seconds, and growth of the peak of resident memory."""
    import torch

    torch.set_num_threads(1)
    run = ACTIONS[name](folder, megabytes)
    before = peak_bytes()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    del result
    return {"seconds": seconds, "megabytes": (peak_bytes() - before) / 1e6}


def main() -> None:
    """Measure everything, or one action where the name of one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=ACTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.folder, options.megabytes)))
        return
    with TemporaryDirectory(dir=os.curdir) as folder:
        results = {name: _runs(name, folder, options.megabytes, options.runs) for name in ACTIONS}
    Console().print(_table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _runs(name: str, folder: str, megabytes: int, runs: int) -> dict[str, float]:
    one = ("--one", name, "--folder", folder, "--megabytes", str(megabytes))
    found = [printed_by("tools.bench.checkpoint", *one) for _ in range(runs)]
    return {key: median(result[key] for result in found) for key in found[0]}


def _table(results: dict[str, dict[str, float]]) -> Table:
    table = Table("action", "seconds", "against PyTorch", "peak memory grows by (MB)")
    for name, result in results.items():
        baseline = "torch.save" if "save" in name else "build and torch.load"
        ratio = results[baseline]["seconds"] / result["seconds"]
        table.add_row(
            name, f"{result['seconds']:.2f}", f"{ratio:.1f}x", f"{result['megabytes']:.0f}"
        )
    return table


if __name__ == "__main__":
    main()
