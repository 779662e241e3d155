# SPDX-License-Identifier: Apache-2.0
"""Time autoregressive rollouts of weather models: ``python -m tools.bench.rollouts``.

Each step is captured, or not; what it returns is the input of the next. The table also tells by how
much the memory after many steps is above that after few.
"""

import argparse
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.benchmark import Timer

from physicsnemo import Module
from physicsnemo.testing.case import Case, noise
from physicsnemo.utils import StaticCaptureEvaluateNoGrad
from physicsnemo.utils.weather import rollout
from tools.bench.cases import (
    DLWP,
    GRAPHCAST,
    HEALPIX,
    PANGU,
    SFNO,
    in_time,
)
from tools.bench.report import device_name, duration, provenance, show, write_json

COLUMNS = ("model", "variant", "step", "ratio", "memory", "growth")
VARIANTS = ("eager", "amp", "capture", "capture+amp")
WARMUP = 3
FEW, MANY = WARMUP + 2, 40

State = Any
Advance = Callable[[Module, State], State]


def _same_fields(model: Module, state: Tensor) -> Tensor:
    predicted: Tensor = model(state)
    return predicted


def _healpix(model: Module, state: list[Tensor]) -> list[Tensor]:
    fields, *given = state
    return [model([fields, *given]), *given]


def _pangu(model: Module, state: Tensor) -> Tensor:
    surface, levels = model(state)
    return torch.cat((surface, state[:, 4:7], levels.flatten(1, 2)), dim=1)


def _graphcast(model: Module, state: Tensor) -> Tensor:
    fields = (state.shape[1] - 20) // 2  # now and one step before, and what is given
    return torch.cat((state[:, fields : 2 * fields], model(state), state[:, 2 * fields :]), dim=1)


@dataclass(frozen=True)
class Forecast:
    """A model, what it starts from, and how a state follows from another.

    Attributes
    ----------
    case
        The model and its initial state, alone in a tuple.
    advance
        A step.
    """

    case: Case
    advance: Advance


_NARROW = {"n_channels": [8, 8, 8], "n_layers": [1, 1, 1]}
SMALL_HEALPIX = HEALPIX | {
    "encoder": HEALPIX["encoder"] | _NARROW,
    "decoder": HEALPIX["decoder"] | _NARROW,
}
FORECASTS = {
    "small": [
        Forecast(
            Case("small", "DLWP", DLWP | {"nr_initial_channels": 8}, noise(1, 18, 6, 16, 16)),
            _same_fields,
        ),
        Forecast(Case("small", "HEALPixRecUNet", SMALL_HEALPIX, in_time(1, 8)), _healpix),
        Forecast(
            Case(
                "small",
                "SFNO",
                SFNO | {"inp_shape": [24, 48], "out_shape": [24, 48], "embed_dim": 16},
                noise(1, 20, 24, 48),
            ),
            _same_fields,
        ),
        Forecast(
            Case(
                "small",
                "Pangu",
                PANGU | {"img_size": [21, 40], "embed_dim": 12, "num_heads": [2, 4, 4, 2]},
                noise(1, 72, 21, 40),
            ),
            _pangu,
        ),
        Forecast(
            Case(
                "small",
                "GraphCastNet",
                GRAPHCAST | {"mesh_level": 1, "input_res": [10, 20], "hidden_dim": 16},
                noise(1, 474, 10, 20),
            ),
            _graphcast,
        ),
    ],
    "1-degree": [
        Forecast(Case("64", "DLWP", DLWP, noise(1, 18, 6, 64, 64)), _same_fields),
        Forecast(Case("64", "HEALPixRecUNet", HEALPIX, in_time(1, 64)), _healpix),
        Forecast(Case("1-degree", "SFNO", SFNO, noise(1, 20, 181, 360)), _same_fields),
        Forecast(Case("1-degree", "Pangu", PANGU, noise(1, 72, 181, 360)), _pangu),
        Forecast(Case("1-degree", "GraphCastNet", GRAPHCAST, noise(1, 474, 181, 360)), _graphcast),
    ],
}


@dataclass(frozen=True)
class Result:
    """What one variant of a forecast took.

    Attributes
    ----------
    case, variant
        What was measured.
    seconds
        The median time of a step.
    bytes
        Memory that tensors take between two steps, 0 on the CPU.
    growth
        How much more it is after many steps than after few.
    """

    case: str
    variant: str
    seconds: float
    bytes: int
    growth: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one variant after the other."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.rollouts", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--size", choices=list(FORECASTS), default="1-degree")
    parser.add_argument("--models", nargs="+", help="by default all")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=MANY, help="of the longer rollout")
    parser.add_argument("--min-run-time", type=float, default=1.0, help="in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    results: list[Result] = []
    for forecast in FORECASTS[options.size]:
        if options.models and forecast.case.model not in options.models:
            continue
        for variant in options.variants:
            results.append(
                measure(forecast, variant, options.device, options.steps, options.min_run_time)
            )
            print(results[-1], flush=True)
    eager = {result.case: result.seconds for result in reversed(results)}
    rows = [
        (
            result.case,
            result.variant,
            duration(result.seconds),
            f"{eager[result.case] / result.seconds:.2f}",
            f"{result.bytes / 2**20:.0f} MiB",
            f"{result.growth / 2**20:.1f} MiB",
        )
        for result in results
    ]
    show(f"Rollouts, {options.device}", COLUMNS, rows)
    if options.json:
        write_json(
            options.json, provenance() | {"device": device_name(options.device)}, results=results
        )


def measure(
    forecast: Forecast, variant: str, device: torch.device, steps: int, min_run_time: float
) -> Result:
    """Roll a model out, and time a step."""
    following, state = prepare(forecast, variant, device)
    memory = []
    for number, _ in enumerate(rollout(following, state, steps), 1):
        if number in (FEW, steps):
            gc.collect()
            memory.append(torch.cuda.memory_allocated() if device.type == "cuda" else 0)
    timer = Timer(
        "following(state)",
        globals={"following": following, "state": state},
        num_threads=torch.get_num_threads(),
    )
    median = timer.blocked_autorange(min_run_time=min_run_time).median
    return Result(str(forecast.case), variant, median, memory[0], memory[-1] - memory[0])


def prepare(
    forecast: Forecast, variant: str, device: torch.device, warmup: int = WARMUP
) -> tuple[Callable[[State], State], State]:
    """Return a step as a function of the state, and the state to begin with."""
    model = forecast.case.build().eval().to(device)
    (state,) = forecast.case.inputs()
    advance, parts = forecast.advance, variant.split("+")
    capture = StaticCaptureEvaluateNoGrad(
        model,
        use_graphs="capture" in parts,
        use_amp="amp" in parts,
        amp_type=torch.bfloat16,
        cuda_graph_warmup=warmup,
    )

    @capture
    def following(state: State) -> State:
        after = advance(model, state)
        # Fresh weights forecast no weather: what they let grow is held in bounds, and what autocast
        # has rounded gets the type of the state again.
        return pytree.tree_map(lambda new, old: new.to(old.dtype).clamp(-10, 10), after, state)

    return following, pytree.tree_map_only(Tensor, lambda it: it.to(device), state)


if __name__ == "__main__":
    main()
