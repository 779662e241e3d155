# SPDX-License-Identifier: Apache-2.0
"""The trainings that each engine runs, in two processes, and that one process can run alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from physicsnemo import Module
from physicsnemo.metrics.diffusion import EDMLoss
from physicsnemo.models.diffusion import EDMPrecond
from physicsnemo.models.fno import FNO
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.utils import StaticCaptureTraining, load_checkpoint, save_checkpoint, unwrap

STEPS, HALF = 4, 2

Loss = Callable[[nn.Module, Tensor], Tensor]
Prepare = Callable[[Module], tuple[nn.Module, Optimizer]]
Backward = Callable[[Tensor], None]


@dataclass(frozen=True)
class Task:
    """A model to build, its loss for fields of a shape, and whether that draws random numbers."""

    build: Callable[[], Module]
    loss: Loss
    shape: tuple[int, ...]
    draws: bool = False

    def fields(self, step: int, rank: int) -> Tensor:
        """Return the fields that a process sees at a step."""
        generator = torch.Generator().manual_seed(10 * step + rank)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64)


def build_fno() -> Module:
    """Return a small operator in two dimensions."""
    sizes = {"num_fno_layers": 2, "num_fno_modes": 3, "padding": 2, "decoder_layer_size": 8}
    return FNO(in_channels=2, out_channels=2, dimension=2, latent_channels=8, **sizes)


def build_mesh_graph_net() -> Module:
    """Return a small network for the graph below."""
    names = "processor", "node_encoder", "edge_encoder", "node_decoder"
    widths = {f"hidden_dim_{name}": 8 for name in names}
    return MeshGraphNet(2, 1, 2, processor_size=2, **widths)


def build_precond() -> Module:
    """Return a small preconditioned U-Net, with dropout."""
    sizes = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
    return EDMPrecond(8, img_channels=2, model_type="SongUNet", **sizes)


def square(model: nn.Module, x: Tensor) -> Tensor:
    """Return what makes a model learn the identity."""
    return (model(x) - x).square().mean()


def square_on_ring(model: nn.Module, x: Tensor) -> Tensor:
    """Return the same of nodes in a ring, whose edges know in which direction they go."""
    nodes = torch.arange(len(x))
    ends = torch.stack((nodes, nodes.roll(1)))
    graph = Graph(torch.cat((ends, ends.flip(0)), dim=1), len(x))
    edges = torch.tensor([1.0, -1.0], dtype=x.dtype).repeat_interleave(len(x))[:, None]
    return (model(x, edges, graph) - x).square().mean()


def denoising(model: nn.Module, x: Tensor) -> Tensor:
    """Return the loss of a diffusion model."""
    return EDMLoss()(model, x).mean()


TASKS = {
    "FNO": Task(build_fno, square, (2, 2, 8, 7)),
    "MeshGraphNet": Task(build_mesh_graph_net, square_on_ring, (9, 2)),
    "EDMPrecond": Task(build_precond, denoising, (2, 2, 8, 8), draws=True),
}


def made(name: str, seed: int) -> Module:
    """Return a model in double precision."""
    torch.manual_seed(seed)
    return TASKS[name].build().double()


def train_all(folder: Path, resumes: bool, prepare: Prepare, backward: Backward) -> None:
    """Train each model in this process's place of an engine, by its own ways and by captured steps.

    A training that resumes begins with other weights and random numbers, and loads what the first
    one has left halfway.

    Parameters
    ----------
    folder
        Where files go: the model at the end, and the training at every other step.
    resumes
        Whether to begin from halfway.
    prepare
        Wraps a model as the engine does, and makes its optimizer.
    backward
        Differentiates as the engine does.
    """
    for name in TASKS:
        for way in ("own", "captured"):
            train(name, folder / name / way, resumes, prepare, backward if way == "own" else None)


def train(
    name: str, folder: Path, resumes: bool, prepare: Prepare, backward: Backward | None
) -> None:
    """Train one model; with captured steps, if there is no way to differentiate."""
    task, rank = TASKS[name], dist.get_rank()
    model, optimizer = prepare(made(name, seed=100 if resumes else 0))
    torch.manual_seed(10 * resumes + rank)

    def own_step(x: Tensor) -> None:
        optimizer.zero_grad()
        assert backward is not None
        backward(task.loss(model, x))
        optimizer.step()

    def loss(x: Tensor) -> Tensor:
        return task.loss(model, x)

    captured = StaticCaptureTraining(model=model, optim=optimizer, use_amp=False)
    step_once = captured(loss) if backward is None else own_step

    run = folder / "run"
    first = load_checkpoint(run, model, optimizer, epoch=HALF) if resumes else 0
    for step in range(first, STEPS):
        step_once(task.fields(step, rank))
        if not resumes:
            save_checkpoint(run, model, optimizer, epoch=step + 1)
    inner = unwrap(model)
    sharded = any(hasattr(it, "full_tensor") for it in inner.parameters())
    if sharded or rank == 0:
        inner.save(folder / f"{'resumed' if resumes else 'whole'}.mdlus")


def train_alone(name: str) -> Module:
    """Train a model in one process, on what two see."""
    task, model = TASKS[name], made(name, seed=0)
    optimizer = AdamW(model.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in range(2):
            (task.loss(model, task.fields(step, rank)) / 2).backward()
        optimizer.step()
    return model
