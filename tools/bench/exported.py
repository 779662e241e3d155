# SPDX-License-Identifier: Apache-2.0
"""Time what is exported against eager mode: ``python -m tools.bench.exported``.

The latency of one call, a batch of one: the model in eager mode, its captured forward pass, and the
file that AOTInductor made of it.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.benchmark import Timer

from physicsnemo.testing.case import Case, noise
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, export
from tools.bench.cases import AFNO, DLWP, FNO_2D, PANGU, SFNO, SONG, in_noise
from tools.bench.report import device_name, duration, provenance, show, write_json

COLUMNS = ("case", "variant", "latency", "ratio", "preparation", "difference")
WARMUP = 3
CASES = [
    Case("512", "FullyConnected", {}, noise(1, 512)),
    Case("2d", "FNO", FNO_2D, noise(1, 3, 128, 128)),
    Case("half-degree", "AFNO", AFNO, noise(1, 20, 360, 720)),
    Case("1-degree", "SFNO", SFNO, noise(1, 20, 181, 360)),
    Case("64", "DLWP", DLWP, noise(1, 18, 6, 64, 64)),
    Case("64", "SongUNet", SONG, in_noise(1, 4, 64)),
    Case("1-degree", "Pangu", PANGU, noise(1, 72, 181, 360)),
]


@dataclass(frozen=True)
class Latency:
    """What one variant of a case took.

    Attributes
    ----------
    case, variant
        What was measured.
    seconds
        The median time of a call that waits for its result.
    prepared_s
        Time to compile, or to record.
    difference
        From the outputs in eager mode, relative to their largest number.
    """

    case: str
    variant: str
    seconds: float
    prepared_s: float
    difference: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one case after the other."""
    known = {str(case): case for case in CASES}
    parser = argparse.ArgumentParser(prog="python -m tools.bench.exported", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--case", nargs="+", choices=known, default=list(known), metavar="NAME")
    parser.add_argument("--min-run-time", type=float, default=1.0, help="in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    results: list[Latency] = []
    for case in map(known.__getitem__, options.case):
        results += measure(case, options.device, options.min_run_time)
        print(*results[-3:], sep="\n", flush=True)
    eager = {result.case: result.seconds for result in reversed(results)}
    rows = [
        (
            result.case,
            result.variant,
            duration(result.seconds),
            f"{eager[result.case] / result.seconds:.2f}",
            duration(result.prepared_s),
            f"{result.difference:.1e}",
        )
        for result in results
    ]
    show(f"Latency of a batch of one, {options.device}", COLUMNS, rows)
    if options.json:
        write_json(
            options.json, provenance() | {"device": device_name(options.device)}, results=results
        )


def measure(case: Case, device: torch.device, min_run_time: float) -> list[Latency]:
    """Time the variants of a case."""
    model = case.build().eval().to(device)
    inputs = pytree.tree_map_only(Tensor, lambda it: it.to(device), case.inputs())

    def captured() -> Callable[..., Any]:
        capture = StaticCaptureEvaluateNoGrad(model, use_amp=False, cuda_graph_warmup=WARMUP)
        return capture(lambda *given: model(*given))

    with TemporaryDirectory() as folder:
        path = Path(folder, "model.pt2")

        def compiled() -> Callable[..., Any]:
            export(model, path, inputs, device=device)
            run: Callable[..., Any] = torch._inductor.aoti_load_package(str(path))
            return run

        makers: dict[str, Callable[[], Callable[..., Any]]]
        makers = {"eager": lambda: model, "capture": captured, "AOTInductor": compiled}
        expected: list[Tensor] = []
        results = []
        for variant, make in makers.items():
            start = time.perf_counter()
            function = make()
            with torch.no_grad():
                for _ in range(WARMUP + 2):
                    outputs = pytree.tree_leaves(function(*inputs))
                prepared = time.perf_counter() - start
                expected = expected or outputs
                seconds = _time(function, inputs, device, min_run_time)
            difference = max(map(_difference, outputs, expected))
            results.append(Latency(str(case), variant, seconds, prepared, difference))
    return results


def _time(
    function: Callable[..., Any], inputs: Sequence[Any], device: torch.device, min_run_time: float
) -> float:
    """Return the median time of a call that waits for its result."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    timer = Timer(
        "function(*inputs); wait()",
        globals={"function": function, "inputs": inputs, "wait": wait},
        num_threads=torch.get_num_threads(),
    )
    return float(timer.blocked_autorange(min_run_time=min_run_time).median)


def _difference(own: Tensor, theirs: Tensor) -> float:
    return float((own - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()
