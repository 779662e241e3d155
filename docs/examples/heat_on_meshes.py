# SPDX-License-Identifier: Apache-2.0
r"""
Heat on meshes
==============

A round aluminum plate, 1 m across, has one to three holes with pipes in them. Its initial
temperature is uneven; then hot or cold water begins to run through the pipes, and a flame heats the
plate. The temperature follows the heat equation :math:`\partial_t T = a \, \Delta T + q`, with the
diffusivity :math:`a` of aluminum and the heat source :math:`q` of the flame. What will it be in 20
seconds, and, repeating that step, in a quarter of an hour?

No two plates have the same holes, so each has its own mesh. A finite-element solver generates the
data, and a MeshGraphNet (`Pfaff et al. 2021 <https://arxiv.org/abs/2010.03409>`__) learns to
predict one step, by message passing along the edges of the meshes. (For a problem as simple as heat
conduction the solver is faster than the model; it serves as the reference.) In the environment that
``nox -s dev`` makes, ``python docs/examples/heat_on_meshes.py`` runs this page, in two minutes on a
CPU. On a GPU, use ``--size full --device cuda`` for meshes of 2200 nodes, and the width and depth
of that paper.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation
from numpy.typing import NDArray
from rich.progress import Progress, track
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay
from scipy.special import jnp_zeros, jv
from skfem import Basis, ElementTriP1, MeshTri, enforce
from skfem.models.poisson import laplace, mass
from torch import Tensor
from torch.nn.functional import one_hot

from physicsnemo import Module
from physicsnemo.models.gnn_layers import Graph, gather
from physicsnemo.registry import ModelRegistry
from physicsnemo.utils import StaticCaptureTraining, export


@dataclass
class Size:
    """How much to compute."""

    spacing: float  # of the nodes, in m
    plates: int
    channels: int
    messages: int  # how many edges information travels in a step
    batches: int  # in an epoch
    epochs: int


SIZES = {
    "small": Size(spacing=0.05, plates=100, channels=32, messages=5, batches=100, epochs=20),
    "full": Size(spacing=0.02, plates=400, channels=128, messages=15, batches=1000, epochs=40),
}

parser = argparse.ArgumentParser(description="Learn to step heat on meshes.")
parser.add_argument("--size", choices=SIZES, default="small")
parser.add_argument("--epochs", type=int, help="of training")
parser.add_argument("--seed", type=int, default=0, help="of plates, weights and order of samples")
parser.add_argument("--output", type=Path, default=Path("outputs/heat_on_meshes"), help="folder")
parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
options = parser.parse_args()
size = SIZES[options.size]
epochs = options.epochs or size.epochs
rng = np.random.default_rng(options.seed)
torch.manual_seed(options.seed)
torch.set_num_threads(1)  # such small meshes gain little from more cores

# %%
# The meshes
# ----------
# Boundary nodes are evenly spaced along the rims of the plate and of its holes. Interior nodes are
# a randomly perturbed triangular lattice that keeps a distance from all rims, so that the Delaunay
# triangulation follows them. Triangles with all three corners on one hole fill that hole and are
# removed. Finally, three steps of Laplacian smoothing move interior nodes to the mean of their
# neighbors.

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
PLATE = np.array([[0, 0, 0.5]])  # rows of x, y and radius in m


def random_circles() -> Array:
    """Return the plate, followed by one to three holes, each in a third of its own."""
    third = np.arange(rng.integers(1, 4)) / 3
    angle = 2 * np.pi * (third + rng.random())
    distance, radius = rng.uniform((0.2, 0.05), (0.33, 0.11), (len(third), 2)).T
    holes = np.stack((distance * np.cos(angle), distance * np.sin(angle), radius), axis=1)
    return np.vstack((PLATE, holes))


def triangulate(circles: Array) -> tuple[MeshTri, Numbers]:
    """Return a mesh, and for each node the number of its circle, or -1 inside."""
    rims = []
    for x, y, radius in circles:
        angles = np.linspace(0, 2 * np.pi, round(2 * np.pi * radius / size.spacing) + 1)[1:]
        rims.append(np.stack((x + radius * np.cos(angles), y + radius * np.sin(angles))))
    row, column = np.indices((round(1.4 / size.spacing),) * 2).reshape(2, -1)
    inside = np.stack((column + row % 2 / 2, np.sqrt(3) / 2 * row))
    inside = (inside + rng.uniform(-0.3, 0.3, inside.shape)) * size.spacing - 0.6
    x, y, radius = circles.T[..., None]
    gaps = np.hypot(inside[0] - x, inside[1] - y) - radius
    gaps[0] *= -1  # in the plate, beside the holes
    inside = inside[:, (gaps > 0.6 * size.spacing).all(axis=0)]

    nodes = np.hstack((inside, *rims))
    circle = np.repeat(np.arange(-1, len(rims)), [part.shape[1] for part in (inside, *rims)])
    triangles = Delaunay(nodes.T).simplices
    corners = circle[triangles]
    fills = (corners[:, 0] > 0) & (corners == corners[:, :1]).all(axis=1)
    mesh = MeshTri(nodes, triangles[~fills].T.copy())
    return mesh.smoothed().smoothed().smoothed(), circle


# %%
# The data
# --------
# scikit-fem assembles the mass matrix :math:`M` and the stiffness matrix :math:`K` of piecewise
# linear elements. The backward Euler method solves
# :math:`(M + \delta a K) \, T_{t + \delta} = M (T_t + \delta q)`. The matrix is factorized once per
# mesh. The solver takes eight time steps for each step of the model.

DIFFUSIVITY, STEP, SUBSTEPS, STEPS = 1e-4, 20.0, 8, 50  # in m²/s and s


def solve(mesh: MeshTri, start: Array, heat: Array, fixed: Numbers) -> Array:
    """Return temperatures from the start on, of shape (steps + 1, nodes)."""
    basis, short = Basis(mesh, ElementTriP1()), STEP / SUBSTEPS
    masses, stiffness = mass.assemble(basis), laplace.assemble(basis)
    system = splu(enforce(masses + short * DIFFUSIVITY * stiffness, D=fixed).tocsc())
    states = [start]
    for _ in range(STEPS * SUBSTEPS):
        right = masses @ (states[-1] + short * heat)
        right[fixed] = start[fixed]
        states.append(system.solve(right))
    return np.stack(states[::SUBSTEPS])


# %%
# We check the solver against an exact solution. The outer rim is insulated. Without holes and
# flame, the slowest mode keeps its shape while it decays: a Bessel function times a cosine.


def solver_error() -> float:
    """Return the relative error of the last state of that wave."""
    mesh, _ = triangulate(PLATE)
    number = jnp_zeros(1, 1)[0] / PLATE[0, 2]  # so that it has no slope at the rim
    start = jv(1, number * np.hypot(*mesh.p)) * np.cos(np.arctan2(*mesh.p))
    truth = start * np.exp(-(number**2) * DIFFUSIVITY * STEP * STEPS)
    last = solve(mesh, start, heat=0 * start, fixed=np.array([], dtype=int))[-1]
    return float(np.linalg.norm(last - truth) / np.linalg.norm(truth))


print(f"the solver is off by {solver_error():.2%} of the exact solution")
assert solver_error() < 0.01, "the solver is wrong"

# %%
# The initial state is a sum of random waves, in kelvin relative to room temperature. The rims of
# the holes have the temperature of the water. Node features are a one-hot encoding of the node's
# type (interior, outer rim, pipe) and the heat source.


@dataclass
class Plate:
    """A plate and its history."""

    mesh: MeshTri
    graph: Graph
    features: Tensor  # (nodes, 4)
    states: Tensor  # (steps + 1, nodes, 1)


def random_plate() -> Plate:
    """Sample holes, an initial state, pipes and a flame, and solve."""
    mesh, circle = triangulate(random_circles())
    waves, phases = rng.normal(0, 5, (8, 2)), rng.uniform(0, 2 * np.pi, (8, 1))
    start = 5 * np.cos(waves @ mesh.p + phases).sum(axis=0)
    pipes = np.flatnonzero(circle > 0)
    start[pipes] = rng.uniform(-25, 25, 4)[circle[pipes]]
    flame = rng.uniform(-0.3, 0.3, (2, 1))
    heat = rng.uniform(0, 0.3) * np.exp(-np.square((mesh.p - flame) / 0.1).sum(axis=0))  # in K/s
    states = torch.from_numpy(solve(mesh, start, heat, pipes)).float()

    edges = torch.from_numpy(np.hstack((mesh.facets, mesh.facets[::-1])))  # in both directions
    graph = Graph(edges, len(start), pos=torch.from_numpy(mesh.p.T).float())
    kind = one_hot(torch.from_numpy(circle.clip(-1, 1)) + 1, 3)
    features = torch.hstack((kind, torch.from_numpy(10 * heat)[:, None])).float()
    device = options.device
    return Plate(mesh, graph.to(device), features.to(device), states[..., None].to(device))


train = [random_plate() for _ in track(range(size.plates), "plates to learn from")]
test = [random_plate() for _ in track(range(8), "plates to test with")]

# %%
# The model
# ---------
# Heat conduction depends on temperature differences only: adding ten degrees everywhere changes
# nothing. So the model gets no temperatures, but as edge features their differences, and the
# relative displacement of the two nodes. It predicts the change of temperature in a step, in units
# of the standard deviation of that change. Nodes at pipes keep their temperature.

change = torch.cat([plate.states.diff(dim=0).flatten() for plate in train]).std()
MeshGraphNet = ModelRegistry().factory("MeshGraphNet")
model = MeshGraphNet(
    input_dim_nodes=4,
    input_dim_edges=4,
    output_dim=1,
    processor_size=size.messages,
    mlp_activation_fn="silu",
    num_layers_node_processor=1,
    num_layers_edge_processor=1,
    hidden_dim_processor=size.channels,
    hidden_dim_node_encoder=size.channels,
    hidden_dim_edge_encoder=size.channels,
    hidden_dim_node_decoder=size.channels,
).to(options.device)
print(f"{type(model).__name__} with {model.num_parameters():,} parameters")


def predict(
    graph: Graph, features: Tensor, state: Tensor, model: torch.nn.Module = model
) -> Tensor:
    """Return the change in a step, of shape (nodes, 1)."""
    way = (gather(graph.pos, graph.source) - gather(graph.pos, graph.target)) / size.spacing
    difference = (gather(state, graph.source) - gather(state, graph.target)) / change
    edges = torch.hstack((way, way.norm(dim=1, keepdim=True), difference))
    return model(features, edges, graph) * (1 - features[:, 2:3])


# %%
# Training
# --------
# Each batch has four states, of random plates and times, whose meshes are joined into one graph. In
# a forecast, the model continues from its own predictions, which have errors. To learn to correct
# them, it is trained on states with added noise, and predicts the change from there to the true
# next state; without noise, the last error below is four times as large. CUDA graphs are off, as
# each batch has a different graph. The quickstart explains
# :class:`~physicsnemo.utils.StaticCaptureTraining`.

BATCH, NOISE = 4, 0.2  # in K
optimizer = torch.optim.Adam(model.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=6e-3, total_steps=epochs * size.batches, cycle_momentum=False
)


def join(plates: list[Plate]) -> tuple[Graph, Tensor]:
    """Return graph and features of several plates as one."""
    graph = Graph.join([plate.graph for plate in plates])
    return graph, torch.cat([plate.features for plate in plates])


@StaticCaptureTraining(
    model=model, optim=optimizer, use_graphs=False, use_amp=False, gradient_clip_norm=1.0
)
def training_step(graph: Graph, features: Tensor, state: Tensor, later: Tensor) -> Tensor:
    """Return the loss."""
    noisy = state + NOISE * torch.randn_like(state) * (1 - features[:, 2:3])
    return (predict(graph, features, noisy) - (later - noisy) / change).square().mean()


def train_epoch() -> float:
    """Train on the batches of an epoch and return the mean loss."""
    losses = []
    for _ in range(size.batches):
        plates = [train[number] for number in torch.randint(len(train), (BATCH,))]
        times = (STEPS * torch.rand(BATCH) ** 2).long().tolist()  # most happens early
        pairs = [plate.states[t : t + 2] for plate, t in zip(plates, times, strict=True)]
        losses.append(training_step(*join(plates), *torch.cat(pairs, dim=1)))
        schedule.step()
    return torch.stack(losses).mean().item()


with Progress() as progress:
    task = progress.add_task("loss", total=epochs)
    for _ in range(epochs):
        progress.update(task, advance=1, description=f"loss {train_epoch():.4f}")

options.output.mkdir(parents=True, exist_ok=True)
model.save(options.output / "heat_on_meshes.mdlus")

# %%
# The forecast
# ------------
# On unseen plates, the model predicts fifty steps autoregressively, each from its own prediction.
# Errors are relative L2 errors: predicting room temperature everywhere has an error of 1. After 20
# epochs, expect 0.04 after one step and 0.05 after fifty; persistence, which predicts that nothing
# changes, has 0.35 and 1.2.


def errors(states: Tensor) -> Tensor:
    """Return the relative error of each state."""
    return (states - truth).norm(dim=(1, 2)) / truth.norm(dim=(1, 2))


truth = torch.cat([plate.states for plate in test], dim=1)
graph, features = join(test)
predictions = truth[:1]
with torch.no_grad():
    for _ in range(STEPS):
        later = predictions[-1] + change * predict(graph, features, predictions[-1])
        predictions = torch.cat((predictions, later[None]))
error, persistence = errors(predictions), errors(truth[:1].expand_as(truth))
for step in (1, 10, STEPS):
    ours, same = error[step].item(), persistence[step].item()
    print(f"after {step} steps: relative error {ours:.3f}, if all stays as it is {same:.3f}")
assert (error < persistence)[1:].all(), "the forecast is no better than that all stays as it is"

# %%
# The figure
# ----------
# It shows two of the plates, in kelvin relative to room temperature, and the errors by step on all.


def draw(axes: Axes, mesh: MeshTri, state: Tensor, title: str, limit: float) -> None:
    """Draw temperatures and the mesh."""
    triangles = Triangulation(*mesh.p, mesh.t.T)
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "shading": "gouraud"}
    image = axes.tripcolor(triangles, state.flatten().cpu(), **style)
    axes.triplot(triangles, color="black", lw=0.3, alpha=0.4)
    axes.figure.colorbar(image, ax=axes, shrink=0.7, label="K")
    axes.set(title=title, aspect="equal")
    axes.axis("off")


figure, axes = plt.subplot_mosaic("abcd;efgh;iiii", figsize=(13, 8), layout="constrained")
parts = predictions[-1].split([plate.graph.num_nodes for plate in test])
for row, plate, predicted in zip(("abcd", "efgh"), test, parts, strict=False):
    first, last = plate.states[0], plate.states[-1]
    draw(axes[row[0]], plate.mesh, first, "temperature at the start", 25)
    draw(axes[row[1]], plate.mesh, last, f"solver, {STEPS} steps later", 25)
    draw(axes[row[2]], plate.mesh, predicted, f"MeshGraphNet, {STEPS} steps later", 25)
    draw(axes[row[3]], plate.mesh, predicted - last, "MeshGraphNet - solver", 2)
times = range(1, STEPS + 1)
axes["i"].plot(times, error[1:].cpu(), label="MeshGraphNet")
axes["i"].plot(times, persistence[1:].cpu(), "--", color="gray", label="all stays as it is")
axes["i"].set(xlabel=f"steps of {STEP:.0f} s", ylabel="relative error", yscale="log")
axes["i"].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
picture = options.output / "heat_on_meshes.png"
figure.savefig(picture)
print(f"{picture} shows two of the forecasts")

# %%
# A program of a step
# -------------------
# The file holds the model. What is around it, such as the scale of changes, is part of a step, and
# so of the program that :func:`~physicsnemo.utils.export` writes. It is for one plate, and runs
# with PyTorch alone.


class Step(torch.nn.Module):
    """A step on one plate."""

    def __init__(self, model: torch.nn.Module, plate: Plate) -> None:
        super().__init__()
        self.model, self.graph, self.features = model, plate.graph, plate.features
        self.change = change

    def forward(self, state: Tensor) -> Tensor:
        """Return the temperatures after a step."""
        return state + self.change * predict(self.graph, self.features, state, self.model)


saved = Module.from_checkpoint(options.output / "heat_on_meshes.mdlus").to(options.device)
step, state = Step(saved, test[0]), test[0].states[0]
program = options.output / "step.pt2"
made = export(step, program, (state,), compile=False, device=torch.device(options.device).type)
with torch.no_grad():
    later = torch.export.load(program).module()(state)
assert torch.allclose(later, step(state), atol=1e-4), "the program computes something else"
print(f"{program} takes a step; load it by {made.how}")
