# SPDX-License-Identifier: Apache-2.0
"""Models whose fields or graphs are divided over processes compute what one process does."""

import runpy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from physicsnemo.distributed import collectives
from physicsnemo.distributed.partition import partition
from physicsnemo.distributed.rules import distribute, domain_of, split
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import Case
from tools.workspace import ROOT

PROCESSES = ROOT / "packages" / "physicsnemo-distributed" / "tests" / "processes.py"
TOLERANCE = 1e-12  # of the largest number
FEW = ("FNO-2d", "AFNO", "SongUNet", "Pix2Pix-1d", "One2ManyRNN", "Pangu", "DLWP", "HEALPixUNet")
COMPILED = ("FNO-2d", "Pix2Pix-2d", "Seq2SeqRNN", "SongUNet-filter", "Pangu", "DLWP", "HEALPixUNet")


@dataclass(frozen=True)
class Example:
    """A model and its inputs.

    Parameters
    ----------
    model
        The model's name.
    arguments
        What it is built with.
    shapes
        Of its inputs, which are tensors of floating-point numbers.
    axes
        Of the inputs that are divided, where these are others than a model's usual one.
    outputs
        The same of the outputs.
    others
        Arguments of ``forward`` that follow, which are not divided.
    listed
        Whether ``forward`` takes the inputs in a list.
    changed
        Sets attributes of the model's modules that no argument does.
    """

    model: str
    arguments: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    axes: Sequence[int | None] = ()
    outputs: Sequence[int | None] = (None,)
    others: tuple[Any, ...] = ()
    listed: bool = False
    changed: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the model in double precision, with parameters of which none is zero."""
        model = ModelRegistry().factory(self.model)(**self.arguments).double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        for module in model.modules():
            for name, value in self.changed.items():
                if hasattr(module, name):
                    setattr(module, name, value)
        return model

    def call(self, model: Callable[..., Any], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the model's outputs."""
        torch.manual_seed(1)  # of what training draws
        args = (list(inputs),) if self.listed else inputs
        output = model(*args, *self.others)
        return output if isinstance(output, tuple) else (output,)


def unet(model: str, arguments: Mapping[str, Any], **changed: Any) -> Example:
    """Return an example of a U-Net of diffusion."""
    sizes = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [12]}
    common = {"img_resolution": [24, 16], "in_channels": 2, "out_channels": 3, "dropout": 0.0}
    labels = torch.tensor([0.3, 0.7], dtype=torch.float64)
    return Example(
        model,
        common | sizes | dict(arguments),
        [(2, 2, 24, 16)],
        others=(labels, None),
        changed=changed,
    )


def preconditioned(model: str) -> Example:
    """Return an example of a preconditioned network of diffusion."""
    sizes = {
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [12],
    }
    return Example(
        model,
        {"img_resolution": 24, "img_channels": 2, "dropout": 0.0} | sizes,
        [(2, 2, 24, 16)],
        others=(torch.tensor([0.3, 0.7], dtype=torch.float64),),
    )


FNO = {"in_channels": 2, "out_channels": 3, "latent_channels": 6, "num_fno_layers": 2}
AFNO = {
    "inp_shape": [20, 24],
    "in_channels": 2,
    "out_channels": 3,
    "patch_size": [4, 3],
    "embed_dim": 8,
    "depth": 2,
    "num_blocks": 2,
}
SFNO = {
    "inp_shape": [33, 64],
    "out_shape": [33, 64],
    "inp_chans": 3,
    "out_chans": 2,
    "embed_dim": 8,
    "scale_factor": 2,
    "num_layers": 3,
}
PIX2PIX = {"in_channels": 2, "out_channels": 3, "conv_layer_size": 4, "n_blocks": 1}
SRRESNET = {"in_channels": 3, "out_channels": 3, "conv_layer_size": 4, "n_resid_blocks": 1}
RNN = {"input_channels": 2, "nr_latent_channels": 4, "nr_residual_blocks": 1, "nr_tsteps": 2}
PANGU = {
    "img_size": [45, 12],
    "embed_dim": 4,
    "num_heads": [1, 2, 2, 1],
    "patch_size": [2, 4, 4],
    "window_size": [2, 2, 2],
}
FENGWU = PANGU | {"pressure_level": 2, "patch_size": [4, 4]}
SWIN = {
    "img_size": [2, 91, 14],
    "patch_size": [2, 2, 3],
    "in_chans": 2,
    "out_chans": 2,
    "embed_dim": 4,
    "num_groups": 2,
    "num_heads": 2,
    "window_size": 2,
}
DLWP = {"nr_input_channels": 3, "nr_output_channels": 2, "nr_initial_channels": 4}


def is_floating(value: Any) -> bool:
    """Tell whether a value is a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


@cache
def examples() -> dict[str, Example]:
    """Return the examples by their names, which begin with those of the models."""
    found = {
        "FNO-1d": Example("FNO", FNO | {"dimension": 1, "num_fno_modes": 6}, [(2, 2, 37)]),
        "FNO-2d": Example("FNO", FNO | {"dimension": 2, "num_fno_modes": 6}, [(2, 2, 21, 16)]),
        "FNO-circular": Example(
            "FNO",
            FNO | {"dimension": 3, "num_fno_modes": 3, "padding": 2, "padding_type": "circular"},
            [(1, 2, 13, 12, 10)],
        ),
        "FNO-reference": Example(
            "FNO",
            FNO
            | {"dimension": 4, "num_fno_modes": 3, "coord_features": False}
            | {"numerics": "reference-2.0"},
            [(1, 2, 7, 8, 6, 8)],
        ),
        "AFNO": Example("AFNO", AFNO, [(2, 2, 20, 24)]),
        "AFNO-fewer": Example("AFNO", AFNO | {"hard_thresholding_fraction": 0.6}, [(2, 2, 20, 24)]),
        "AFNO-reference": Example("AFNO", AFNO | {"numerics": "reference-1.2"}, [(2, 2, 20, 24)]),
        "ModAFNO": Example(
            "ModAFNO",
            AFNO | {"mod_dim": 8},
            [(2, 2, 20, 24)],
            others=(torch.tensor([0.2, 0.6], dtype=torch.float64),),
        ),
        "SFNO": Example("SFNO", SFNO, [(2, 3, 33, 64)]),
        "SFNO-diagonal": Example("SFNO", SFNO | {"operator_type": "diagonal"}, [(2, 3, 33, 64)]),
        "SFNO-embedding": Example("SFNO", SFNO | {"pos_embed": "frequency"}, [(2, 3, 33, 64)]),
        "SFNO-layers": Example(
            "SFNO",
            SFNO
            | {"normalization_layer": "layer_norm", "big_skip": False, "pos_embed": "direct"}
            | {"scale_factor": 3, "model_grid_type": "legendre-gauss"},
            [(2, 3, 33, 64)],
        ),
        "SongUNet": unet("SongUNet", {}),
        "SongUNet-filter": unet(
            "SongUNet",
            {"resample_filter": [1, 3, 3, 1], "encoder_type": "residual"},
        ),
        "SongUNet-skip": unet(
            "SongUNet",
            {"resample_filter": [1, 3, 3, 1], "encoder_type": "skip", "decoder_type": "skip"},
        ),
        "SongUNet-additive": unet("SongUNet", {"additive_pos_embed": True}),
        "SongUNet-heads": unet("SongUNet", {"numerics": "reference-1.2"}, num_heads=2),
        "SongUNetPosEmbd": unet(
            "SongUNetPosEmbd",
            {"in_channels": 6, "N_grid_channels": 4, "additive_pos_embed": True},
        ),
        "DhariwalUNet": unet("DhariwalUNet", {"img_resolution": 24, "model_channels": 32}),
        "EDMPrecond": preconditioned("EDMPrecond"),
        "VEPrecond": preconditioned("VEPrecond"),
        "VEPrecond_dfsr": preconditioned("VEPrecond_dfsr"),
        "VPPrecond": preconditioned("VPPrecond"),
        "iDDPMPrecond": preconditioned("iDDPMPrecond"),
        "Pix2Pix-1d": Example(
            "Pix2Pix", PIX2PIX | {"dimension": 1, "n_downsampling": 2}, [(2, 2, 37)]
        ),
        "Pix2Pix-2d": Example(
            "Pix2Pix",
            PIX2PIX
            | {"dimension": 2, "n_downsampling": 2, "n_upsampling": 3, "padding_type": "zero"},
            [(2, 2, 38, 15)],
        ),
        "Pix2Pix-3d": Example(
            "Pix2Pix",
            PIX2PIX
            | {"dimension": 3, "n_downsampling": 1, "padding_type": "replicate"}
            | {"batch_norm": True},
            [(2, 2, 22, 6, 5)],
        ),
        "Pix2Pix-uneven": Example(
            "Pix2Pix",
            PIX2PIX | {"dimension": 2, "n_downsampling": 2, "batch_norm": True},
            [(2, 2, 37, 15)],
        ),
        "SRResNet": Example("SRResNet", SRRESNET | {"scaling_factor": 4}, [(1, 3, 10, 5, 6)]),
        "One2ManyRNN": Example("One2ManyRNN", RNN, [(2, 2, 1, 13, 8)]),
        "One2ManyRNN-3d": Example("One2ManyRNN", RNN | {"dimension": 3}, [(2, 2, 1, 9, 5, 6)]),
        "One2ManyRNN-reference": Example(
            "One2ManyRNN",
            RNN | {"numerics": "reference-1.2", "nr_downsamples": 3},
            [(2, 2, 1, 20, 9)],
        ),
        "Seq2SeqRNN": Example("Seq2SeqRNN", RNN | {"nr_downsamples": 3}, [(2, 2, 2, 25, 7)]),
        "Seq2SeqRNN-reference": Example(
            "Seq2SeqRNN",
            RNN | {"numerics": "reference-2.1", "nr_downsamples": 3},
            [(2, 2, 2, 25, 9)],
        ),
        "Pangu": Example("Pangu", PANGU, [(2, 72, 45, 12)], outputs=(2, 3)),
        "Pangu-reference": Example(
            "Pangu", PANGU | {"numerics": "reference-1.2"}, [(1, 72, 45, 12)], outputs=(2, 3)
        ),
        "Pangu-odd": Example(
            "Pangu",
            PANGU | {"window_size": [2, 3, 2], "img_size": [71, 12]},
            [(1, 72, 71, 12)],
            outputs=(2, 3),
        ),
        "Fengwu": Example("Fengwu", FENGWU, [(2, 14, 45, 12)], outputs=(None,) * 6),
        "Fengwu-reference": Example(
            "Fengwu",
            FENGWU | {"numerics": "reference-1.2"},
            [(1, 14, 45, 12)],
            outputs=(None,) * 6,
        ),
        "SwinRNN": Example("SwinRNN", SWIN, [(1, 2, 2, 91, 14)], outputs=(2,)),
        "DLWP": Example("DLWP", DLWP, [(2, 3, 6, 4, 4)]),
        "DLWP-reference": Example(
            "DLWP", DLWP | {"depth": 1, "numerics": "reference-1.2"}, [(1, 3, 6, 6, 6)]
        ),
        "FullyConnected": Example(
            "FullyConnected", {"in_features": 3, "out_features": 2, "layer_size": 8}, [(7, 3)]
        ),
    }
    known = {example.model for example in found.values()}
    return found | diffusion(known) | healpix()


def cases_of(package: str, file: str) -> list[Case]:
    """Return the examples of a family."""
    cases: list[Case] = runpy.run_path(str(ROOT / "packages" / package / "tests" / file))["CASES"]
    return cases


def diffusion(known: Collection[str]) -> dict[str, Example]:
    """Return examples of the family's other networks and wrappers."""
    found = {}
    for case in cases_of("physicsnemo-diffusion", "cases.py"):
        if case.model in known:
            continue
        inputs = [it.double() if is_floating(it) else it for it in case.inputs()]
        shapes = [tuple(it.shape) for it in inputs if is_floating(it) and it.ndim == 4]
        others = tuple(inputs[len(shapes) :])
        name = str(case) if case.model in found else case.model
        arguments = case.arguments | {"dropout": 0.0}
        found[name] = Example(case.model, arguments, shapes, others=others)
    return found


def healpix() -> dict[str, Example]:
    """Return examples of the networks on the HEALPix grid, with each kind of block and input."""
    found = {}
    for case in cases_of("physicsnemo-weather", "cases_healpix.py"):
        name = case.model if case.id in ("convnext", "recurrent") else f"{case.model}-{case.id}"
        (inputs,) = case.inputs()
        # Of the state, of forcing fields, of constants and of coupled fields.
        axes = [{4: 0}.get(it.ndim, 1 if it.shape[1] == 12 else 3) for it in inputs]
        shapes = [tuple(it.shape) for it in inputs]
        found[name] = Example(case.model, case.arguments, shapes, axes=axes, listed=True)
    return found


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[[int], Any]]:
    """Return a function that returns some number of processes, started at the first."""
    kind, running = runpy.run_path(str(PROCESSES))["Processes"], {}

    def processes(count: int) -> Any:
        return running.setdefault(count, kind(count, timeout=900.0))

    yield processes
    for each in running.values():
        each.stop()


def few(names: Sequence[str]) -> list[Any]:
    """Return parameters of which a few run always, and the others in a session of their own."""
    return [
        pytest.param(name, marks=() if name in FEW else pytest.mark.distributed) for name in names
    ]


RANKS = pytest.mark.parametrize(
    "ranks", [2, pytest.param(3, marks=pytest.mark.distributed)], ids="on{}".format
)


@RANKS
@pytest.mark.parametrize("name", few(list(examples())))
def test_equal_to_one_process(started: Any, name: str, ranks: int):
    started(ranks).run(check_example, name, True, False)


@pytest.mark.distributed
@pytest.mark.parametrize("name", list(examples()))
def test_evaluated(started: Any, name: str):
    started(2).run(check_example, name, False, False)


@pytest.mark.distributed
@pytest.mark.parametrize("name", COMPILED)
def test_compiled(started: Any, name: str):
    started(2).run(check_example, name, True, True)


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["DLWP", "DLWP-reference", "HEALPixUNet"])
def test_faces_on_four(started: Any, name: str):
    started(4).run(check_example, name, True, False)


@RANKS
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"do_concat_trick": True}, marks=pytest.mark.distributed),
        pytest.param({"aggregation": "mean"}, marks=pytest.mark.distributed),
        pytest.param({"recompute_activation": True}, marks=pytest.mark.distributed),
        pytest.param({"num_processor_checkpoint_segments": 3}, marks=pytest.mark.distributed),
    ],
    ids=str,
)
def test_graphs_equal_to_one_process(started: Any, options: dict[str, Any], ranks: int):
    started(ranks).run(check_graph, options)


REFUSED = {
    "rows": ("Pix2Pix", PIX2PIX | {"dimension": 2}, (1, 2, 8, 16), 2, "in units of 8"),
    "halo": (
        "Pix2Pix",
        PIX2PIX | {"dimension": 2, "n_downsampling": 1},
        (1, 2, 4, 16),
        2,
        "a layer looks 3 rows far, and a rank holds 2",
    ),
    "paddings": (
        "One2ManyRNN",
        RNN | {"numerics": "reference-1.2"},
        (1, 2, 1, 13, 8),
        3,
        "swap the paddings",
    ),
    "windows": (
        "Pangu",
        PANGU | {"img_size": [11, 12]},
        (1, 72, 11, 12),
        2,
        "at least one window for each of 2 ranks, got 1 of 2 rows",
    ),
    "taps": (
        "SongUNet",
        {"img_resolution": [25, 17], "in_channels": 2, "out_channels": 3, "model_channels": 8}
        | {"channel_mult": [1, 2], "num_blocks": 1, "resample_filter": [1, 2, 1]},
        (1, 2, 25, 17),
        2,
        "an even number of taps",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(started: Any, name: str):
    started(2).run(check_refused, name)


def check_example(name: str, training: bool, compiled: bool) -> None:
    """Compare outputs and gradients of a divided model with those of one process."""
    with double_precision():
        example = examples()[name]
        torch.manual_seed(0)
        alone = example.build().train(training)
        inputs = [torch.randn(shape, requires_grad=True) for shape in example.shapes]
        expected = example.call(alone, inputs)
        weights = [torch.randn_like(it) for it in expected]
        loss_of(expected, weights).backward()

        torch.manual_seed(0)
        model = example.build().train(training)
        distribute(model, init_device_mesh("cpu", (dist.get_world_size(),)))
        axes = example.axes or [None] * len(inputs)
        parts = [
            split(it.detach(), model, axis=axis).clone().requires_grad_()
            for it, axis in zip(inputs, axes, strict=True)
        ]
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        outputs = example.call(call, parts)

        own_weights = []
        usual = domain_of(model).axis
        for got, right, weight, axis in zip(
            outputs, expected, weights, example.outputs, strict=True
        ):
            axis = usual if axis is None else axis
            own_weights.append(part_like(weight, got, axis))
            check_close("output", joined(got.detach(), axis), right)
        loss_of(outputs, own_weights).backward()
        for part, whole, axis in zip(parts, inputs, axes, strict=True):
            gradient = joined(part.grad, usual if axis is None else axis)
            check_close("gradient of an input", gradient, whole.grad)
        check_parameters(model, alone)


def check_graph(options: dict[str, Any]) -> None:
    """Compare a network on parts of a graph with that on the graph."""
    with double_precision():
        torch.manual_seed(0)
        positions = torch.rand(60, 2)
        ends = (torch.cdist(positions, positions) < 0.25).nonzero().T
        ends = ends[:, ends[0] != ends[1]]
        graph = Graph(ends[:, torch.randperm(ends.shape[1])], 60, pos=positions)
        widths = ("processor", "node_encoder", "edge_encoder", "node_decoder")
        arguments = {"input_dim_nodes": 3, "input_dim_edges": 4, "output_dim": 2}
        arguments |= {f"hidden_dim_{it}": 8 for it in widths} | {"processor_size": 3} | options
        alone, model = (Example("MeshGraphNet", arguments, ()).build() for _ in range(2))
        model.load_state_dict(alone.state_dict())
        nodes = torch.randn(60, 3, requires_grad=True)
        edges = torch.randn(graph.num_edges, 4, requires_grad=True)
        weight = torch.randn(60, 2)
        right = alone(nodes, edges, graph)
        (right * weight).sum().backward()

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        part = partition(graph, mesh)
        distribute(model, mesh)
        own_nodes = part.of_nodes(nodes.detach()).requires_grad_()
        own_edges = part.of_edges(edges.detach()).requires_grad_()
        got = model(own_nodes, own_edges, part)
        (got * part.of_nodes(weight)).sum().backward()
        check_close("output", part.gather(got.detach()), right)
        check_close("gradient of nodes", part.gather(own_nodes.grad), nodes.grad)
        check_close("gradient of edges", own_edges.grad, part.of_edges(edges.grad))
        check_parameters(model, alone)


def check_refused(name: str) -> None:
    """Expect an error in every process, and none that waits."""
    model, arguments, shape, axis, message = REFUSED[name]
    built = ModelRegistry().factory(model)(**arguments)

    def used() -> None:
        distribute(built, init_device_mesh("cpu", (dist.get_world_size(),)))
        built(split(torch.randn(shape), built, axis=axis))

    with pytest.raises((ValueError, NotImplementedError), match=message):
        used()


def check_parameters(model: nn.Module, alone: nn.Module) -> None:
    """Compare sums of the processes' gradients, and buffers, with those of one process."""
    own = dict(model.named_parameters())
    known = {name: it.grad for name, it in alone.named_parameters() if it.grad is not None}
    top = max(it.abs().max().item() for it in known.values())
    for name, right in known.items():
        total = torch.zeros_like(right) if own[name].grad is None else own[name].grad.clone()
        dist.all_reduce(total)
        check_close(f"gradient of {name}", total, right, scale=top)
    for (name, got), right in zip(model.named_buffers(), alone.buffers(), strict=True):
        if got.is_floating_point():
            check_close(name, got, right)


def check_close(name: str, got: Tensor, right: Tensor, scale: float = 0.0) -> None:
    """Raise AssertionError unless two tensors are equal up to rounding."""
    assert got.shape == right.shape, f"{name} has the shape {tuple(got.shape)}"
    if got.numel():
        error = (got - right).abs().max().item()
        scale = max(scale, right.abs().max().item())
        assert error <= TOLERANCE * scale, f"{name} differs by {error:.1e} of {scale:.1e}"


def loss_of(outputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return a loss that tells all numbers apart."""
    return sum((a * b).sum() for a, b in zip(outputs, weights, strict=True))


def sizes_of(part: Tensor, axis: int) -> list[int]:
    """Return how long an axis is in each process."""
    sizes = [0] * dist.get_world_size()
    dist.all_gather_object(sizes, part.shape[axis])
    return sizes


def joined(part: Tensor, axis: int) -> Tensor:
    """Return the processes' parts of fields as one."""
    return collectives.all_gather(part, axis, sizes_of(part, axis), dist.group.WORLD)


def part_like(whole: Tensor, part: Tensor, axis: int) -> Tensor:
    """Return what this process has of fields that are divided as others are."""
    return whole.split(sizes_of(part, axis), dim=axis)[dist.get_rank()]


@contextmanager
def double_precision() -> Iterator[None]:
    """Make new tensors double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
