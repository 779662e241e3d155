# SPDX-License-Identifier: Apache-2.0
"""Fourier neural operator: Burgers' equation, Darcy flow and the Navier-Stokes equation.

Li et al. 2021, Fourier neural operator for parametric partial differential equations,
arXiv:2010.08895. The samples are computed here, after the definitions of the paper::

    python -m reproductions.fno darcy --resolution 85 --seed 0 --device cuda --output outputs/darcy

writes ``metrics.json``, the model as ``fno.mdlus``, mean and deviation of its inputs and outputs as
``normalizers.safetensors``, and ``prediction.png``. All quantities are dimensionless.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from physicsnemo.models.fno import FNO
from physicsnemo.utils import StaticCaptureTraining
from reproductions.pace import Record, halved, paced, recorded
from reproductions.problems import PROBLEMS, Problem, Samples, small
from reproductions.records import Scale, environment, save_scales, write_metrics
from tools.bench.plain import PlainFNO

TEST_BATCH = 50


def normalizer(fields: Tensor, axes: tuple[int, ...] | None) -> Scale:
    """Measure training samples; 1e-5 is added, since on a boundary they may not vary."""
    if axes is None:
        return Scale(fields.new_zeros(()), fields.new_ones(()))
    deviation, mean = torch.std_mean(fields, axes, keepdim=True)
    return Scale(mean, deviation + 1e-5)


class Data:
    """Samples of a problem on one grid and device, normalized by those for training."""

    def __init__(
        self, problem: Problem, samples: Samples, resolution: int, device: torch.device
    ) -> None:
        inputs, outputs = (problem.on(resolution, fields).to(device) for fields in samples)
        self.train: Samples = (inputs[: problem.train], outputs[: problem.train])
        self.test: Samples = (inputs[problem.train :], outputs[problem.train :])
        self.inputs, self.outputs = (normalizer(it, problem.averaged) for it in self.train)
        self.resolution, self.recurrent = resolution, problem.recurrent
        self.grid = tuple(outputs.shape[2:])

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Apply a model to inputs, which an axis of time repeats if only outputs have it."""
        encoded = self.inputs.encode(inputs)
        if self.recurrent:
            found = in_turn(model, encoded.squeeze(-1), self.grid[-1])
        else:
            found = model(encoded.expand(-1, -1, *self.grid))
        return self.outputs.decode(found)

    @torch.no_grad()
    def error(self, predict: Callable[[Tensor], Tensor]) -> float:
        """Return the mean relative L2 error of predictions from the inputs of the tests."""
        pairs = zip(*(fields.split(TEST_BATCH) for fields in self.test), strict=True)
        errors = [relative_errors(predict(inputs), truth) for inputs, truth in pairs]
        return torch.cat(errors).mean().item()


def in_turn(model: nn.Module, states: Tensor, times: int) -> Tensor:
    """Predict one time after another, by its change: (samples, 1, *grid, times)."""
    found = []
    for _ in range(times):
        found.append(states[:, -1:] + model(states))
        states = torch.cat((states[:, 1:], found[-1]), dim=1)
    return torch.stack(found, dim=-1)


def relative_errors(predictions: Tensor, truth: Tensor) -> Tensor:
    """Return the relative L2 error of each sample."""
    errors: Tensor = (predictions - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute samples, train, evaluate on all grids and write what has been found."""
    options = parse(arguments)
    problem = small(PROBLEMS[options.problem]) if options.small else PROBLEMS[options.problem]
    resolution, epochs = options.resolution or problem.resolution, options.epochs or problem.epochs
    if resolution not in problem.resolutions:
        raise SystemExit(f"--resolution: expected one of {problem.resolutions}, got {resolution}")
    if options.plain and (options.compile or options.amp):
        raise SystemExit("--plain: expected neither --compile nor --amp, for captured steps only")
    if options.plain and not problem.model.get("coord_features", True):
        raise SystemExit(f"--plain: expected a model with coordinates, not that for {problem.name}")
    device = torch.device(options.device)
    folder = options.output or Path("outputs", "fno", problem.name)
    folder.mkdir(parents=True, exist_ok=True)

    begin = time.perf_counter()
    samples = problem.samples(problem, options.seed, device)
    data_seconds = time.perf_counter() - begin

    torch.manual_seed(options.seed)
    model = FNO(**problem.model_on(resolution)).to(device)
    data = Data(problem, samples, resolution, device)
    trained = PlainFNO(model) if options.plain else model
    history = list(train(trained, data, problem, epochs, options))

    errors = {}
    for other in problem.resolutions:
        same_weights = FNO(**problem.model_on(other)).to(device)
        same_weights.load_state_dict(model.state_dict())
        there = Data(problem, samples, other, device)
        errors[other] = there.error(lambda inputs: there.predict(same_weights, inputs))  # noqa: B023
    paper = problem.paper.get(resolution)
    reached = (it["seconds"] for it in history if paper is not None and it["test"] <= paper)
    wall_seconds = time.perf_counter() - begin
    metrics = {
        "problem": problem.name,
        "resolution": resolution,
        "relative_l2": errors[resolution],
        "paper": {"relative_l2": paper, "source": problem.paper_source},
        "relative_l2_by_resolution": errors,
        "relative_l2_without_model": without_model(problem, data),
        "seed": options.seed,
        "small": options.small,
        "plain": options.plain,
        "compiled": options.compile,
        "amp": options.amp,
        "samples": {"train": problem.train, "test": problem.test},
        "epochs": history[-1]["count"],
        "parameters": model.num_parameters(),
        "data_seconds": data_seconds,
        "training_seconds": history[-1]["seconds"],
        "seconds_to_paper": next(reached, None),
        "wall_seconds": wall_seconds,
        "gpu_minutes": wall_seconds / 60 if device.type == "cuda" else 0.0,
        "environment": environment(device, "physicsnemo-fno"),
        "history": history,
    }
    write_metrics(folder, metrics)
    model.save(folder / "fno.mdlus")
    normalizers = {"inputs": data.inputs, "outputs": data.outputs}
    save_scales(normalizers, folder / "normalizers.safetensors")
    draw(folder / "prediction.png", problem, data, model, history)
    print(f"relative L2 error {errors[resolution]:.4f}; the paper, {problem.paper_source}: {paper}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.fno", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--resolution", type=int, help="points along an axis, to train on")
    parser.add_argument("--seed", type=int, default=0, help="of samples, weights and their order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="folder, by default outputs/fno/PROBLEM")
    parser.add_argument("--epochs", type=int, help="passes through the training samples, at most")
    parser.add_argument(
        "--training-seconds", type=float, default=float("inf"), help="at most: navier-stokes only"
    )
    parser.add_argument(
        "--small", action="store_true", help="a minute on a CPU, with less accuracy"
    )
    parser.add_argument("--compile", action="store_true", help="compile the captured step too")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision, float16")
    parser.add_argument(
        "--plain", action="store_true", help="torch.fft and an ordinary loop instead"
    )
    return parser.parse_args(arguments)


def train(
    model: nn.Module, data: Data, problem: Problem, epochs: int, options: argparse.Namespace
) -> Iterator[Record]:
    """Train by Adam; at fifty epochs the loss is read, and a test made."""
    optimizer = torch.optim.Adam(
        model.parameters(), problem.learning_rate, weight_decay=problem.weight_decay
    )
    inputs, outputs = data.train
    generator = torch.Generator(inputs.device).manual_seed(options.seed)

    # Steps in turn are compiled once, not as many times as they are taken.
    compiled: nn.Module = model
    if options.compile and problem.recurrent:
        compiled = torch.compile(model)  # type: ignore[assignment]

    def loss(inputs: Tensor, truth: Tensor) -> Tensor:
        return relative_errors(data.predict(compiled, inputs), truth).mean()

    def plain_step(inputs: Tensor, truth: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = loss(inputs, truth)
        value.backward()
        optimizer.step()
        return value.detach()

    captured = StaticCaptureTraining(
        model=model,
        optim=optimizer,
        use_amp=options.amp,
        amp_type=torch.float16,  # whose rounding is far below the errors; that of bfloat16 is not
        compile="auto" if options.compile and not problem.recurrent else False,
    )
    step = plain_step if options.plain else captured(loss)
    number = -(-len(inputs) // problem.batch)  # of batches
    if problem.halved:
        pace = halved(optimizer, number * epochs)
    else:
        pace = paced(optimizer, number * epochs, options.training_seconds)

    def losses() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(inputs), generator=generator, device=inputs.device)
            batches = zip(order.split(problem.batch), pace, strict=False)
            if not (found := [step(inputs[it], outputs[it]) for it, _ in batches]):
                return
            yield torch.stack(found).mean()

    def test() -> float:
        return data.error(lambda inputs: data.predict(model, inputs))

    yield from recorded(losses(), max(epochs // 50, 1), test)


def without_model(problem: Problem, data: Data) -> dict[str, float]:
    """Return the errors of predictions that need no training."""
    mean = data.train[1].mean(0, keepdim=True)
    errors = {"mean of the training outputs": data.error(lambda inputs: mean)}
    if problem.guess:
        name, predict = problem.guess
        errors[name] = data.error(predict)
    return errors


@torch.no_grad()
def draw(path: Path, problem: Problem, data: Data, model: nn.Module, history: list[Record]) -> None:
    """Draw the sample of the tests with the median error, and the errors by epoch."""
    inputs, truth = (fields[: problem.batch] for fields in data.test)
    predictions = data.predict(model, inputs)
    median = relative_errors(predictions, truth).median(dim=0).indices
    given, true, found = (fields[median].cpu() for fields in (inputs, truth, predictions))
    figure = plt.figure(figsize=(13, 6), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    panels = [figure.add_subplot(grid[0, column]) for column in range(4)]
    drawing = draw_lines if problem.space == 1 else draw_maps
    drawing(panels, problem, given, true, found)
    curves = figure.add_subplot(grid[1, :])
    epochs = [record["count"] for record in history]
    curves.plot(epochs, [record["train"] for record in history], label="training")
    curves.plot(epochs, [record["test"] for record in history], label="test")
    for name, error in without_model(problem, data).items():
        curves.axhline(error, color="gray", linestyle="--")
        curves.annotate(name, (epochs[0], error), va="top", color="gray")
    if (paper := problem.paper.get(data.resolution)) is not None:
        curves.axhline(paper, color="black", linestyle=":", label=f"paper: {paper}")
    curves.set(xlabel="epoch", ylabel="mean relative L2 error", yscale="log")
    curves.legend()
    figure.savefig(path)
    plt.close(figure)


def draw_lines(
    panels: list[Axes], problem: Problem, given: Tensor, true: Tensor, found: Tensor
) -> None:
    """Draw fields on a line: the input, the outputs, and their difference."""
    x = (torch.arange(true.shape[-1]) / true.shape[-1]).numpy()
    panels[0].plot(x, given[0].numpy())
    panels[0].set(title=problem.quantities[0])
    panels[1].plot(x, true[0].numpy(), label="true")
    panels[1].plot(x, found[0].numpy(), "--", label="predicted")
    panels[1].set(title=problem.quantities[1])
    panels[1].legend()
    panels[2].plot(x, (found - true)[0].numpy())
    panels[2].set(title="predicted - true")
    for axes in panels[:3]:
        axes.set(xlabel="x / length", ylabel="dimensionless")
    panels[3].remove()


def draw_maps(
    panels: list[Axes], problem: Problem, given: Tensor, true: Tensor, found: Tensor
) -> None:
    """Draw fields on a square, at the last time if there are several."""
    given, true, found = (
        it[-1, :, :, -1] if it.ndim == 4 else it[-1] for it in (given, true, found)
    )
    scale = {"vmin": true.min().item(), "vmax": true.max().item()}
    limit = (found - true).abs().max().item()
    maps: list[tuple[str, Tensor, dict[str, Any]]] = [
        (problem.quantities[0], given, {}),
        (f"true {problem.quantities[1]}", true, scale),
        (f"predicted {problem.quantities[1]}", found, scale),
        ("predicted - true", found - true, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
    ]
    for axes, (title, field, style) in zip(panels, maps, strict=True):
        image = axes.imshow(field.T.numpy(), origin="lower", extent=(0, 1, 0, 1), **style)
        axes.figure.colorbar(image, ax=axes, shrink=0.8, label="dimensionless")
        axes.set(title=title, xlabel="x / length", ylabel="y / length")


if __name__ == "__main__":
    main()
