# SPDX-License-Identifier: Apache-2.0
"""MeshGraphNet: flow past a cylinder, with and without noise in training.

Pfaff et al. 2021, Learning mesh-based simulation with graph networks, arXiv:2010.03409: a graph
network that predicts the next 0.01 s of a flow stays stable when it is applied to its own
predictions, if it was trained on states with noise. The flows are computed here::

    python -m reproductions.cylinder_flow --device cuda --output outputs/cylinder_flow

writes ``metrics.json``, the models as ``noise-0.02.mdlus`` and ``noise-0.mdlus``, means and
deviations as ``.safetensors`` beside them, and ``rollout.png``; all once more after each training.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation
from torch import Tensor
from torch.nn.functional import one_hot

from physicsnemo.models.gnn_layers import Graph, unchecked
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.utils import StaticCaptureTraining
from reproductions.data.cylinder_flow import (
    FLUID,
    KINDS,
    OUTFLOW,
    STEP,
    Setting,
    Trajectory,
    benchmark,
    strouhal,
    trajectories,
    workers,
)
from reproductions.data.triangles import Spacing
from reproductions.pace import paced
from reproductions.records import Scale, environment, save_scales, write_metrics

NOISES = (0.02, 0.0)  # in m/s; the first is the paper's
PAPER = {
    "rmse": {"1 step": 2.34e-3, "50 steps": 6.3e-3, "all steps": 40.88e-3},
    "source": "table 1",
}
HORIZON = 50


@dataclass(frozen=True)
class Size:
    """How much to compute."""

    setting: Setting
    train: int  # trajectories
    test: int
    steps: int  # of training
    width: int
    messages: int  # how many edges information travels in a step
    benchmark: float  # for how long to compute a flow whose forces are known, in s
    batch: int = 2


FULL = Size(
    Setting(Spacing(), states=600),
    train=240,
    test=16,
    steps=40_000,
    width=128,
    messages=15,
    benchmark=6.0,
)
SMALL = Size(
    Setting(Spacing(near=0.03, far=0.05), states=40),
    train=4,
    test=2,
    steps=150,
    width=32,
    messages=4,
    benchmark=3.0,
)


def scale_of(values: Tensor) -> Scale:
    """Measure values of shape (values, components), for each component."""
    deviation, mean = torch.std_mean(values, dim=0)
    return Scale(mean, deviation)


@dataclass(frozen=True)
class Flows:
    """Trajectories on graphs of equal size, so that all batches look alike.

    Parameters
    ----------
    pairs
        Nodes of each edge, in both directions, of shape (flows, 2, edges). Edges that were added
        join added nodes to themselves.
    edges
        Displacement along each edge and its length, in m, of shape (flows, edges, 3).
    kind
        One-hot, of shape (flows, nodes, kinds); zero for nodes that were added.
    states
        Of shape (flows, times, nodes, 3); zero for nodes that were added.
    """

    pairs: Tensor
    edges: Tensor
    kind: Tensor
    states: Tensor

    @classmethod
    def of(cls, flows: list[Trajectory], device: torch.device) -> "Flows":
        """Add nodes and edges up to the largest numbers of them."""
        graphs = [both_ways(it.triangles) for it in flows]
        edges = max(it.shape[1] for it in graphs)
        nodes = max(len(it.nodes) for it in flows) + 1  # so that added edges have a node
        padded = [_padded(it, graph, nodes, edges) for it, graph in zip(flows, graphs, strict=True)]
        return cls(*(torch.stack(it).to(device) for it in zip(*padded, strict=True)))

    def part(self, which: slice) -> "Flows":
        """Return some of the flows."""
        return Flows(self.pairs[which], self.edges[which], self.kind[which], self.states[which])


def both_ways(triangles: Tensor) -> Tensor:
    """Return each edge of triangles (triangles, 3) in both directions, of shape (2, edges)."""
    corners = triangles.long()
    pairs = torch.cat([corners[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = pairs.sort(dim=1).values.unique(dim=0).T
    return torch.cat((pairs, pairs.flip(0)), dim=1)


def _padded(flow: Trajectory, pairs: Tensor, nodes: int, edges: int) -> tuple[Tensor, ...]:
    count = len(flow.nodes)
    added = torch.arange(edges - pairs.shape[1]) % (nodes - count) + count
    pairs = torch.cat((pairs, added.expand(2, -1)), dim=1)
    places = torch.zeros(nodes, 2)
    places[:count] = flow.nodes
    way = places[pairs[0]] - places[pairs[1]]
    kind, states = torch.zeros(nodes, len(KINDS)), torch.zeros(len(flow.states), nodes, 3)
    kind[:count] = one_hot(flow.kind, len(KINDS)).float()
    states[:, :count] = flow.states
    return pairs, torch.cat((way, way.norm(dim=1, keepdim=True)), dim=1), kind, states


class Data:
    """Flows to learn from and to test with, and what the values of the former are like.

    Raises
    ------
    FloatingPointError
        If a state is not finite: it would make the means, and so all that is learned, so too.
    """

    def __init__(self, flows: list[Trajectory], test: int, device: torch.device) -> None:
        broken = [index for index, it in enumerate(flows) if not it.states.isfinite().all()]
        if broken:
            raise FloatingPointError(f"trajectories {broken} have states that are not finite")
        every = Flows.of(flows, device)
        self.test, self.train = every.part(slice(test)), every.part(slice(test, None))
        known = list(zip(self.train.states, self.train.kind, strict=True))
        states = torch.cat([it[:, kind.any(dim=1)].flatten(0, 1) for it, kind in known])
        self.velocity, self.pressure = scale_of(states[:, :2]), scale_of(states[:, 2:])
        changes = [it[:, is_free(kind)[:, 0] > 0, :2].diff(dim=0) for it, kind in known]
        self.change = scale_of(torch.cat([it.flatten(0, 1) for it in changes]))
        self.edge = scale_of(self.train.edges[self.train.edges[..., 2] > 0])


def is_free(kind: Tensor) -> Tensor:
    """Return 1 where a velocity is to be predicted, given one-hot kinds: shape (nodes, 1)."""
    return kind[:, FLUID, None] + kind[:, OUTFLOW, None]


@dataclass(frozen=True)
class Batch:
    """Several flows as one graph: the fields are those of :class:`Flows` of all nodes and edges."""

    graph: Graph
    edges: Tensor
    kind: Tensor

    @classmethod
    def of(cls, pairs: Tensor, edges: Tensor, kind: Tensor) -> "Batch":
        """Join flows."""
        number, nodes = kind.shape[:2]
        shifts = nodes * torch.arange(number, device=pairs.device)[:, None, None]
        joined = (pairs + shifts).transpose(0, 1).flatten(1)
        with unchecked():  # or it would wait for the device
            return cls(Graph(joined, number * nodes), edges.flatten(0, 1), kind.flatten(0, 1))


class Stepper:
    """A model between states: normalized features go in, a change and a pressure come out."""

    def __init__(self, size: Size, data: Data, noise: float, device: torch.device) -> None:
        self.model = MeshGraphNet(
            input_dim_nodes=2 + len(KINDS),
            input_dim_edges=3,
            output_dim=3,
            processor_size=size.messages,
            hidden_dim_processor=size.width,
            hidden_dim_node_encoder=size.width,
            hidden_dim_edge_encoder=size.width,
            hidden_dim_node_decoder=size.width,
        ).to(device)
        self.data, self.noise = data, noise
        # What is to be predicted undoes the noise too.
        self.change = Scale(data.change.mean, (data.change.deviation**2 + noise**2).sqrt())

    def save(self, path: Path) -> None:
        """Write the model, and beside it the means and deviations of what goes in and out."""
        self.model.save(path)
        data = self.data
        scales = {"velocity": data.velocity, "pressure": data.pressure, "edge": data.edge}
        scales["change"] = self.change
        save_scales(scales, path.with_suffix(".safetensors"))

    def outputs(self, batch: Batch, velocity: Tensor) -> Tensor:
        """Return what the model makes of a state."""
        nodes = torch.cat((self.data.velocity.encode(velocity), batch.kind), dim=1)
        result: Tensor = self.model(nodes, self.data.edge.encode(batch.edges), batch.graph)
        return result

    def loss(
        self,
        pairs: Tensor,
        edges: Tensor,
        kind: Tensor,
        now: Tensor,
        later: Tensor,
        random: Tensor,
    ) -> Tensor:
        """Return the mean square of normalized errors, from states with noise."""
        batch = Batch.of(pairs, edges, kind)
        free, now, later = is_free(batch.kind), now.flatten(0, 1), later.flatten(0, 1)
        noisy = now[:, :2] + self.noise * random.flatten(0, 1) * free
        change = self.change.encode(later[:, :2] - noisy)
        target = torch.cat((change, self.data.pressure.encode(later[:, 2:])), dim=1)
        errors = (self.outputs(batch, noisy) - target).square()
        return (errors * free).sum() / (3 * free.sum())

    def advance(self, batch: Batch, now: Tensor) -> Tensor:
        """Return the next state; where velocities are given, they stay."""
        outputs = self.outputs(batch, now[:, :2])
        change = self.change.decode(outputs[:, :2]) * is_free(batch.kind)
        return torch.cat((now[:, :2] + change, self.data.pressure.decode(outputs[:, 2:])), dim=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute flows, train twice, and write what has been found."""
    options = parse(arguments)
    size = SMALL if options.small else FULL
    steps = options.steps or size.steps
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")  # TF32, where there is such
    options.output.mkdir(parents=True, exist_ok=True)

    begin = time.perf_counter()
    number = size.test + (options.trajectories or size.train)
    flows = trajectories(
        size.setting, number, options.seed, options.processes, options.data_seconds
    )
    if len(flows) <= size.test:
        raise SystemExit(f"--data-seconds: too short for more than {len(flows)} trajectories")
    data_seconds = time.perf_counter() - begin
    print(f"{len(flows)} trajectories in {data_seconds:.0f} s", flush=True)
    if options.only_data:
        return
    data = Data(flows, size.test, device)
    metrics: dict[str, Any] = {
        "problem": "cylinder flow",
        "paper": PAPER,
        "seed": options.seed,
        "small": options.small,
        "compiled": options.compile,
        "trajectories": {"train": len(data.train.states), "test": size.test},
        "states": size.setting.states,
        "nodes": sum(len(it.nodes) for it in flows) / len(flows),
        "batch": size.batch,
        "data_seconds": data_seconds,
        "processes": options.processes,
        "spacing": asdict(size.setting.spacing),
        "without_model": persistence(data.test),
        "runs": {},
        "environment": environment(device, "physicsnemo-gnn"),
    }
    rollouts = {}
    with workers(1) as pool:
        check = pool.submit(check_solver, size)
        for noise in NOISES:
            name = f"noise-{noise:g}"
            print(name, flush=True)
            torch.manual_seed(options.seed)
            stepper = Stepper(size, data, noise, device)
            training = train(stepper, data.train, size, steps, options)
            run, rollouts[name] = evaluate(stepper, data.test)
            metrics["runs"][name] = {"noise": noise} | run | training
            metrics["parameters"] = stepper.model.num_parameters()
            metrics["wall_seconds"] = time.perf_counter() - begin
            stepper.save(options.output / f"{name}.mdlus")
            write(options.output, metrics, flows, rollouts)
            print(json.dumps(run["rmse"]), flush=True)
        metrics["benchmark"] = check.result()
    write(options.output, metrics, flows, rollouts)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.cylinder_flow")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0, help="of flows, weights and their order")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/cylinder_flow"))
    parser.add_argument("--trajectories", type=int, help="to train on")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--processes", type=int, default=2, help="that compute flows")
    parser.add_argument(
        "--data-seconds", type=float, default=float("inf"), help="when to begin no more flows"
    )
    parser.add_argument(
        "--training-seconds", type=float, default=float("inf"), help="for each training, at most"
    )
    parser.add_argument("--only-data", action="store_true", help="compute flows and end")
    parser.add_argument("--small", action="store_true", help="a minute on a CPU")
    parser.add_argument("--compile", action="store_true", help="compile the captured step too")
    return parser.parse_args(arguments)


def train(
    stepper: Stepper, flows: Flows, size: Size, steps: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train on random states, by replays of one captured step, until steps or time are used up."""
    device = flows.states.device
    optimizer = torch.optim.Adam(stepper.model.parameters(), 1e-3, fused=device.type == "cuda")
    step = StaticCaptureTraining(
        model=stepper.model,
        optim=optimizer,
        use_amp=False,
        gradient_clip_norm=1.0,
        compile="auto" if options.compile else False,
    )(stepper.loss)
    generator = torch.Generator().manual_seed(options.seed)
    number, times = flows.states.shape[:2]
    which, when = (
        torch.randint(limit, (steps, size.batch), generator=generator).to(device)
        for limit in (number, times - 1)
    )
    losses: list[Tensor] = []
    history: list[dict[str, float]] = []
    begin = time.perf_counter()

    def record() -> None:
        if losses:
            mean = torch.stack(losses).mean().item()
            seconds = time.perf_counter() - begin
            history.append({"step": count, "seconds": seconds, "loss": mean})
            print(f"step {count}: loss {mean:.4f}, {seconds:.0f} s", flush=True)
            losses.clear()

    for count in paced(optimizer, steps, options.training_seconds):
        few, at = which[count - 1], when[count - 1]
        graphs = flows.pairs[few], flows.edges[few], flows.kind[few]
        now, later = flows.states[few, at], flows.states[few, at + 1]
        losses.append(step(*graphs, now, later, torch.randn_like(now[..., :2])))
        if count % max(steps // 40, 1) == 0:
            record()
    record()
    return {"steps": count, "training_seconds": history[-1]["seconds"], "history": history}


@torch.no_grad()
def evaluate(stepper: Stepper, flows: Flows) -> tuple[dict[str, Any], Tensor]:
    """Return errors, and the rollout (times, flows, nodes, 3) from the first states."""
    batch = Batch.of(flows.pairs, flows.edges, flows.kind)
    truth = flows.states.transpose(0, 1).flatten(1, 2)
    one = torch.stack([stepper.advance(batch, state) for state in truth[:-1]])
    states = [truth[0]]
    for _ in truth[1:]:
        states.append(stepper.advance(batch, states[-1]))
    rollout = torch.stack(states)
    found = errors(one, rollout[1:], truth[1:], batch.kind)
    return found, rollout.unflatten(1, flows.kind.shape[:2])


def persistence(flows: Flows) -> dict[str, Any]:
    """Return the errors of predicting that nothing changes."""
    truth = flows.states.transpose(0, 1).flatten(1, 2)
    return errors(truth[:-1], truth[:1].expand_as(truth[1:]), truth[1:], flows.kind.flatten(0, 1))


def errors(one: Tensor, rollout: Tensor, truth: Tensor, kind: Tensor) -> dict[str, Any]:
    """Return root mean square errors of velocities, over nodes, components and times."""
    real = kind.any(dim=1)
    squares = (rollout - truth)[:, real, :2].double().square().mean(dim=(1, 2))
    found = {
        "1 step": (one - truth)[:, real, :2].square().mean(),
        f"{HORIZON} steps": squares[:HORIZON].mean(),
        "all steps": squares.mean(),
    }
    return {
        "rmse": {name: _root(it) for name, it in found.items()},
        "rmse_of_pressure": _root((one - truth)[:, real, 2].square().mean()),
        "rmse_by_step": [_root(it) for it in squares],
    }


def _root(square: Tensor) -> float | None:
    """Return the square root; nothing if a rollout went beyond all numbers, which JSON lacks."""
    return square.sqrt().item() if square.isfinite() else None


def check_solver(size: Size) -> dict[str, Any]:
    """Compute a flow whose forces are known, on a mesh as fine as those of the samples."""
    times, drag, lift, _ = benchmark(1.5, size.setting.spacing, size.benchmark)
    late = times > 0.7 * size.benchmark
    return {
        "source": "Schäfer & Turek 1996, case 2D-2",
        "drag": {"here": drag[late].max(), "reference": [3.22, 3.24]},
        "lift": {"here": lift[late].max(), "reference": [0.99, 1.01]},
        "strouhal": {"here": strouhal(times[late], lift[late], 1.5), "reference": [0.295, 0.305]},
    }


def write(
    folder: Path, metrics: dict[str, Any], flows: list[Trajectory], rollouts: dict[str, Tensor]
) -> None:
    """Write numbers and a picture."""
    write_metrics(folder, metrics)
    flow, last = flows[0], len(flows[0].states) - 1
    shown = {"solver": flow.states} | {
        name: states[:, 0, : len(flow.nodes)].cpu() for name, states in rollouts.items()
    }
    rows = len(shown) + 1
    figure = plt.figure(figsize=(13, 2.2 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    for column, at in enumerate((min(HORIZON, last), last)):
        limit = flow.states[at, :, :2].norm(dim=1).max().item()
        for row, (name, states) in enumerate(shown.items()):
            axes = figure.add_subplot(grid[row, column])
            draw(axes, flow, states[at], f"{name}, {at * STEP:g} s", limit)
    curves = figure.add_subplot(grid[-1, :])
    for name, run in (metrics["runs"] | {"nothing changes": metrics["without_model"]}).items():
        by_step = [float("nan") if it is None else it for it in run["rmse_by_step"]]
        curves.semilogy([STEP * (it + 1) for it in range(len(by_step))], by_step, label=name)
    curves.set(xlabel="s", ylabel="RMSE of velocity (m/s)")
    curves.legend()
    figure.savefig(folder / "rollout.png", dpi=90)
    plt.close(figure)


def draw(axes: Axes, flow: Trajectory, state: Tensor, title: str, limit: float) -> None:
    """Draw the speed."""
    x, y = flow.nodes.T.numpy()
    mesh = Triangulation(x, y, flow.triangles.numpy())
    speed = state[:, :2].norm(dim=1).nan_to_num(2 * limit).clamp(max=2 * limit).numpy()
    image = axes.tripcolor(mesh, speed, vmin=0, vmax=limit, shading="gouraud")
    axes.figure.colorbar(image, ax=axes, label="m/s", shrink=0.8)
    axes.set(title=title, aspect="equal")
    axes.axis("off")


if __name__ == "__main__":
    main()
