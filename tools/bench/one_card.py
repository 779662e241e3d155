# SPDX-License-Identifier: Apache-2.0
"""What fits on one card: ``python -m tools.bench.one_card``.

Training steps of weather models at a quarter of a degree, of published sizes, batch 1, in bfloat16
autocast, captured, with fused AdamW. Each is tried in a process of its own; what runs out of memory
is tried again in a way that computes activations anew in the backward pass.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim import AdamW
from torch.utils import _pytree as pytree
from torch.utils.benchmark import Timer

from physicsnemo.models.afno import AFNO
from physicsnemo.models.dlwp import DLWP
from physicsnemo.models.dlwp_healpix import HEALPixUNet
from physicsnemo.models.fengwu import Fengwu
from physicsnemo.models.graphcast import GraphCastNet
from physicsnemo.models.pangu import Pangu
from physicsnemo.models.sfno import SFNO
from physicsnemo.models.swinvrnn import SwinRNN
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.own_process import InStages, answer
from tools.bench.quarter_degree import CASES as QUARTER_DEGREE
from tools.bench.quarter_degree import GRID, HEALPIX
from tools.bench.recomputation import switch
from tools.bench.report import device_name, duration, provenance, write_json
from tools.bench.rollouts import SMALL_HEALPIX
from tools.bench.traffic import Case, number_of_parameters

NOTHING, BLOCKS, IN_CHUNKS = "nothing", "blocks", "all three in chunks"
AGAIN = {"GraphCastNet": IN_CHUNKS}
"""What models compute again that have better ways than each block by itself."""

WARMUP = 3
_COLUMNS = "{:<14} {:<20} {:>10} {:>10} {:>10} {:>10} {:>9}  {}"


def _small_healpix() -> HEALPixUNet:
    single = {"recurrent_block": None}
    parts = {"decoder": SMALL_HEALPIX["decoder"] | single, "encoder": SMALL_HEALPIX["encoder"]}
    return HEALPixUNet(**HEALPIX | parts)


CASES = {
    "quarter-degree": [
        *QUARTER_DEGREE,
        # Hu et al. 2022, arXiv:2205.13158: 70 variables at two times.
        Case("SwinRNN", SwinRNN, [(1, 70, 2, *GRID)]),
    ],
    "small": [
        Case(
            "Pangu",
            lambda: Pangu((21, 40), embed_dim=12, num_heads=(2, 4, 4, 2)),
            [(1, 72, 21, 40)],
        ),
        Case(
            "Fengwu",
            lambda: Fengwu((21, 40), embed_dim=12, num_heads=(2, 4, 4, 2)),
            [(1, 189, 21, 40)],
        ),
        Case(
            "GraphCastNet",
            lambda: GraphCastNet(mesh_level=1, input_res=(10, 20), hidden_dim=16),
            [(1, 474, 10, 20)],
        ),
        Case(
            "SFNO",
            lambda: SFNO((24, 48), (24, 48), 3, 3, embed_dim=8, scale_factor=2),
            [(1, 3, 24, 48)],
        ),
        Case(
            "AFNO",
            lambda: AFNO((16, 32), 2, 2, (8, 8), embed_dim=16, depth=2, num_blocks=2),
            [(1, 2, 16, 32)],
        ),
        Case("DLWP", lambda: DLWP(3, 2, 4), [(1, 3, 6, 8, 8)]),
        Case(
            "HEALPixUNet",
            _small_healpix,
            [(1, 12, 2, 7, 8, 8), (1, 12, 2, 1, 8, 8), (12, 2, 8, 8)],
            listed=True,
        ),
        Case(
            "SwinRNN",
            lambda: SwinRNN((2, 32, 64), in_chans=3, out_chans=3, embed_dim=16, num_groups=4),
            [(1, 3, 2, 32, 64)],
        ),
    ],
}


@dataclass(frozen=True)
class Training:
    """What a training step took.

    Attributes
    ----------
    case
        The model.
    again
        What is computed again in the backward pass.
    parameters
        Their number.
    peak_bytes
        The most memory that tensors took at once, 0 on a CPU.
    reserved_bytes
        The most that PyTorch's allocator had taken from the card, with what it keeps for later.
    step_s
        Median time of a step.
    captured
        Whether it was the replay of a CUDA graph.
    error
        Why the rest could not be measured, if so.
    """

    case: str
    again: str
    parameters: int | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    step_s: float | None = None
    captured: bool | None = None
    error: str | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Try all, print each as it comes, and write the results after each."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.one_card", description=__doc__)
    names = [case.name for case in CASES["quarter-degree"]]
    parser.add_argument("--case", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--size", choices=list(CASES), default="quarter-degree")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--again", choices=[NOTHING, BLOCKS, IN_CHUNKS], help="try this alone")
    parser.add_argument("--limit", type=float, default=40.0, metavar="SECONDS", help="of a process")
    parser.add_argument("--min-run-time", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        (case,) = (case for case in CASES[options.size] if case.name == options.case[0])
        device = torch.device(options.device)
        answer(stages(case, options.again, device, options.min_run_time))
        return
    print(
        _COLUMNS.format(
            *("model", "computed again", "parameters", "memory", "reserved", "step", "captured"), ""
        )
    )
    results: list[Training] = []
    for name in options.case:
        for again in [options.again] if options.again else [NOTHING, AGAIN.get(name, BLOCKS)]:
            results.append(_try(name, again, options))
            print(_line(results[-1]), flush=True)
            if options.json:
                environment = provenance() | {"device": device_name(options.device)}
                write_json(options.json, environment, results=results)
            if not ran_out_of_memory(results[-1]):
                break


def ran_out_of_memory(training: Training) -> bool:
    """Tell whether a step failed for want of memory."""
    return any(text in (training.error or "") for text in ("out of memory", "ALLOC_FAILED"))


def stages(
    case: Case, again: str, device: torch.device, min_run_time: float
) -> Iterator[dict[str, Any]]:
    """Build a model; train it for some steps."""
    torch.manual_seed(0)
    with device:
        model: Any = case.build()
        inputs = [torch.randn(shape) for shape in case.shapes]
    if again == IN_CHUNKS:
        switch(model, again)
    yield {"parameters": number_of_parameters(model)}
    step, replays = _step(case, model, inputs, recompute=again == BLOCKS)
    for _ in range(WARMUP + 2):
        step()
    median = Timer("step()", globals={"step": step}).blocked_autorange(min_run_time=min_run_time)
    on_gpu = device.type == "cuda"
    yield {
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else 0,
        "step_s": median.median,
        "captured": replays() > 0,
    }


def _step(
    case: Case, model: Any, inputs: list[Tensor], recompute: bool
) -> tuple[Callable[[], Any], Callable[[], int]]:
    """Return a training step, and what counts its replays."""
    listed = case.listed

    def outputs(inputs: list[Tensor]) -> list[Tensor]:
        return pytree.tree_leaves(model(inputs) if listed else model(*inputs))

    with torch.no_grad(), torch.autocast(inputs[0].device.type, torch.bfloat16):
        targets = [torch.randn_like(it, dtype=torch.float32) for it in outputs(inputs)]

    @StaticCaptureTraining(
        model,
        AdamW(model.parameters(), fused=True),
        amp_type=torch.bfloat16,
        cuda_graph_warmup=WARMUP,
        recompute=recompute,
    )
    def training_step(inputs: list[Tensor], targets: list[Tensor]) -> Tensor:
        errors = (mse_loss(it.float(), y) for it, y in zip(outputs(inputs), targets, strict=True))
        return reduce(add, errors)

    return partial(training_step, inputs, targets), training_step.replays


def _try(name: str, again: str, options: argparse.Namespace) -> Training:
    arguments = ["--one", "--case", name, "--again", again, "--size", options.size]
    arguments += ["--device", options.device, "--min-run-time", str(options.min_run_time)]
    end = time.monotonic() + options.limit
    with InStages("tools.bench.one_card", *arguments) as process:
        values = process.next(options.limit)
        if "error" not in values:
            values |= process.next(end - time.monotonic())
    return Training(name, again, **values)


def _line(training: Training) -> str:
    def gib(size: int | None) -> str:
        return "-" if size is None else f"{size / 2**30:.1f} GiB"

    count, step = training.parameters, training.step_s
    return _COLUMNS.format(
        *(training.case, training.again, "-" if count is None else f"{count / 1e6:.1f} M"),
        *(gib(training.peak_bytes), gib(training.reserved_bytes)),
        "-" if step is None else duration(step),
        "-" if training.captured is None else "yes" if training.captured else "no",
        training.error or "",
    )


if __name__ == "__main__":
    main()
