# SPDX-License-Identifier: Apache-2.0
"""What a replayed training step costs the host: ``python -m tools.bench.host``.

On a GPU, each call of a captured step is timed by itself when the device has nothing left to do, as
a CUDA graph that is launched again before it has finished may wait for itself; then many calls with
waiting at their end. Without one, a stand-in records nothing and replays nothing, so that what is
left is this library's own work.
"""

import argparse
import cProfile
import logging
import pstats
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.capture import training_step
from physicsnemo.core.capture.graphs import GraphPool
from physicsnemo.models.mlp import FullyConnected
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.report import device_name, provenance, show, write_json
from tools.bench.unet import UNet

_WARMUP = 11
_ADAM = partial(Adam, lr=1e-3)
_FUSED = partial(Adam, lr=1e-3, fused=True)
_COLUMNS = ("case", "tensors", "host", "launch", "copies", "step")


@dataclass(frozen=True)
class Case:
    """A captured training.

    Attributes
    ----------
    name
        What it is.
    build
        Makes the model.
    shapes
        Of the input and of what the output is to become.
    optimizer
        Makes the optimizer from parameters.
    amp
        Mixed precision, in float16 on a GPU.
    """

    name: str
    build: Callable[[], Module]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    optimizer: Callable[..., Optimizer] = _ADAM
    amp: bool = False


@dataclass(frozen=True)
class HostCost:
    """What a replayed call takes.

    Attributes
    ----------
    case
        The training.
    parameters
        Number of its model's parameters, tensors that is.
    host_us
        Median time until a call returns.
    launch_us
        Median of the part of it in which the CUDA graph is launched.
    copies_us
        Median of the part of it in which a result is copied for the caller to keep.
    step_us
        Time of a step among many, the device's work included; None without a GPU.
    """

    case: str
    parameters: int
    host_us: float
    launch_us: float
    copies_us: float
    step_us: float | None


class Deep(nn.Module):
    """Many small layers, for the sake of the number of their parameters."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Apply all of them."""
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


_SUPPORTS = ModelMetaData(name="Deep", cuda_graphs=True, amp=True)
_NET = (UNet, ((8, 1, 128, 128), (8, 1, 64, 64)))
_FLAT = (
    partial(FullyConnected, in_features=32, layer_size=512, out_features=32, num_layers=4),
    ((256, 32), (256, 32)),
)


def _deep(parameters: int) -> tuple[Any, Any]:
    make = partial(cast(Any, Module.from_torch(Deep, _SUPPORTS)), parameters // 2)
    return make, ((64, 16), (64, 16))


CASES = [
    Case("the documented loop, float16, Adam", *_NET, amp=True),
    Case("the documented loop, float16, fused Adam", *_NET, _FUSED, amp=True),
    Case("the documented loop, float32, Adam", *_NET),
    Case("the documented loop, float32, fused Adam", *_NET, _FUSED),
    Case("FullyConnected, float32, Adam", *_FLAT),
    Case("FullyConnected, float32, fused Adam", *_FLAT, _FUSED),
    Case("FullyConnected, float32, SGD", *_FLAT, partial(SGD, lr=1e-3, momentum=0.9)),
    Case("FullyConnected, float16, Adam", *_FLAT, amp=True),
    Case("200 parameters, float32, Adam", *_deep(200)),
    Case("1000 parameters, float32, Adam", *_deep(1000)),
]


class NoGraphs:
    """Stands for the graph pool: keeps the result of the call that is recorded."""

    @staticmethod
    def run(function: Callable[[], Any]) -> Any:
        """Run a function."""
        return function()

    @staticmethod
    def record(function: Callable[[], Any], generators: Any) -> tuple[Callable[[], None], Any]:
        """Return a replay that does nothing, and a result."""
        return (lambda: None), function()


@contextmanager
def stand_in() -> Iterator[None]:
    """Let steps be recorded without a GPU."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(GraphPool, "of", lambda device: NoGraphs()))
        stack.enter_context(patch.object(training_step, "why_outside", lambda optimizer: None))
        yield


@contextmanager
def timed(owner: Any, name: str) -> Iterator[list[int]]:
    """Note how long each call of a function or method takes, in nanoseconds."""
    times: list[int] = []
    function = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        start = time.perf_counter_ns()
        result = function(*arguments)
        times.append(time.perf_counter_ns() - start)
        return result

    with patch.object(owner, name, call):
        yield times


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.host", description=__doc__)
    parser.add_argument("--only", default="", help="part of the names of cases")
    parser.add_argument("--calls", type=int, default=200, help="to time")
    parser.add_argument("--profile", action="store_true", help="show what takes the time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if options.only in case.name]
    if not cases:
        parser.error(f"no case is named like {options.only!r}: {[case.name for case in CASES]}")
    results = [measure(case, options.calls, options.profile) for case in cases]
    rows = [
        (
            result.case,
            str(result.parameters),
            f"{result.host_us:.1f}",
            f"{result.launch_us:.1f}",
            f"{result.copies_us:.1f}",
            "-" if result.step_us is None else f"{result.step_us:.0f}",
        )
        for result in results
    ]
    show("Microseconds of a replayed training step", _COLUMNS, rows)
    if options.json:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        write_json(options.json, provenance() | {"device": device_name(device)}, results=results)


def measure(case: Case, calls: int, profiled: bool = False) -> HostCost:
    """Measure one case.

    Raises
    ------
    RuntimeError
        If its calls are no replays.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    with ExitStack() as stack:
        if not on_gpu:
            stack.enter_context(stand_in())
        launches = stack.enter_context(timed(torch.cuda.CUDAGraph, "replay"))
        copies = stack.enter_context(timed(torch, "clone"))
        torch.manual_seed(0)
        model = case.build().to(device)
        step = _captured(case, model, case.optimizer(model.parameters()))
        x, y = (torch.randn(shape, device=device) for shape in case.shapes)
        for _ in range(_WARMUP + 20):
            step(x, y)
        before = step.replays()
        launches.clear()
        copies.clear()
        times = [_time_of(step, x, y, device) for _ in range(calls)]
        if profiled:
            _profile(step, x, y, calls)
        launch, copying = (statistics.median(each or [0]) / 1e3 for each in (launches, copies))
        total = _time_of_many(step, x, y, calls) if on_gpu else None
        if step.replays() - before < calls:
            raise RuntimeError(f"{case.name}: expected replays of a CUDA graph, got eager calls")
    count = len(list(model.parameters()))
    return HostCost(case.name, count, statistics.median(times) / 1e3, launch, copying, total)


def _captured(case: Case, model: Module, optimizer: Optimizer) -> Any:
    capture = StaticCaptureTraining(
        model=model,
        optim=optimizer,
        use_amp=case.amp,
        cuda_graph_warmup=_WARMUP,
        logger=logging.getLogger("tools.bench.host"),
    )
    if not torch.cuda.is_available():
        capture.use_graphs = True
        capture.scaler = torch.amp.GradScaler("cpu", enabled=case.amp)

    @capture
    def training_step(invar: Tensor, outvar: Tensor) -> Tensor:
        predvar = model(invar)
        return torch.sum(torch.pow(predvar - outvar, 2))

    return training_step


def _time_of(step: Any, x: Tensor, y: Tensor, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter_ns()
    step(x, y)
    return time.perf_counter_ns() - start


def _time_of_many(step: Any, x: Tensor, y: Tensor, calls: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        step(x, y)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls * 1e6


def _profile(step: Any, x: Tensor, y: Tensor, calls: int) -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(calls):
        step(x, y)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
