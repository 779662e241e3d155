# SPDX-License-Identifier: Apache-2.0
"""Graph models over processes, each with a part of the graph, compute what one process does."""

import copy
import runpy
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from physicsnemo.distributed import (
    Part,
    distribute,
    gather,
    partition,
    partition_levels,
    split,
)
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.graphcast import GraphCastNet
from physicsnemo.models.graphcast._domain import vertex_owners
from physicsnemo.models.graphcast.icosahedral_mesh import mesh_hierarchy
from physicsnemo.models.mesh_reduced import Mesh_Reduced, Sequence_Model
from physicsnemo.models.meshgraphnet import (
    BiStrideMeshGraphNet,
    MeshGraphNet,
    bistride_levels,
)
from physicsnemo.models.module import Module
from tools.workspace import ROOT

PROCESSES = ROOT / "packages" / "physicsnemo-distributed" / "tests" / "processes.py"
TOLERANCE = 1e-12  # of the largest number
RES = (13, 9)
WIDTHS = ("processor", "node_encoder", "edge_encoder", "node_decoder")
ATTENTION = {"processor_type": "GraphTransformer", "num_attention_heads": 2}


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.distributed)])
def processes(request: pytest.FixtureRequest) -> Iterator[Any]:
    group = runpy.run_path(str(PROCESSES))["Processes"](request.param, timeout=120.0)
    yield group
    group.stop()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_concat_trick": True, "aggregation": "mean"},
        {"recompute_activation": True, "num_processor_checkpoint_segments": 3},
        {"num_processor_checkpoint_segments": 2, "checkpoint_offloading": True},
    ],
    ids=["sum", "mean", "recompute", "offload"],
)
def test_meshgraphnet(processes: Any, options: dict[str, Any]):
    processes.run(check_mesh, options)


def check_mesh(options: dict[str, Any]) -> None:
    widths = {f"hidden_dim_{name}": 8 for name in WIDTHS}
    torch.manual_seed(0)
    model = MeshGraphNet(3, 4, 2, processor_size=3, **widths, **options).double()
    graph = cloud()
    compare_on_graph(model, graph, partition(graph, ranks()), [], [])


@pytest.mark.parametrize(
    ("levels", "options"),
    [
        (2, {}),
        (2, {"recompute_activation": True, "bistride_unet_levels": 2}),
        (5, {}),
    ],
    ids=["two", "recompute", "fewer-nodes-than-ranks"],
)
@pytest.mark.parametrize("one_way", [False, True], ids=["both-ways", "one-way"])
def test_bistride(processes: Any, levels: int, options: dict[str, Any], one_way: bool):
    processes.run(check_bistride, levels, options, one_way)


def check_bistride(levels: int, options: dict[str, Any], one_way: bool) -> None:
    widths = {f"hidden_dim_{name}": 8 for name in WIDTHS}
    torch.manual_seed(0)
    model = BiStrideMeshGraphNet(
        3, 4, 2, processor_size=2, num_mesh_levels=levels, bistride_pos_dim=2, **widths, **options
    ).double()
    graph = cloud()
    graphs, ids = bistride_levels(graph.edge_index, graph.num_nodes, levels, graph.pos)
    if one_way:  # edges that have no opposite
        kept = [torch.randperm(each.num_edges)[: each.num_edges * 2 // 3] for each in graphs]
        graphs = [
            Graph(each.edge_index[:, some], each.num_nodes)
            for each, some in zip(graphs, kept, strict=True)
        ]
    part = partition(graph, ranks())
    compare_on_graph(model, graph, part, [graphs, ids], list(partition_levels(part, graphs, ids)))


def test_graphs_that_are_whole(processes: Any):
    processes.run(check_whole_graphs)


def check_whole_graphs() -> None:
    graph = cloud()
    graphs, ids = bistride_levels(graph.edge_index, graph.num_nodes, 2, graph.pos)
    part = partition(graph, ranks())
    inputs = torch.zeros(len(part.nodes), 3), torch.zeros(len(part.edges), 4)
    with pytest.raises(TypeError, match="expected this rank's part of a graph, got Graph"):
        distribute(MeshGraphNet(3, 4, 2), ranks())(*inputs, graph)
    model = distribute(BiStrideMeshGraphNet(3, 4, 2, bistride_pos_dim=2), ranks())
    with pytest.raises(TypeError, match="expected this rank's part of a graph, got Graph"):
        model(*inputs, part, graphs, ids)
    parts, kept = partition_levels(part, graphs, ids)
    with pytest.raises(ValueError, match="expected 3 ms_edges and 2 ms_ids .* got 3 and 1"):
        model(*inputs, part, parts, kept[:1])


@pytest.mark.parametrize(
    ("points", "options"),
    [(6, {}), (6, {"numerics": "reference-1.2"}), (80, {"k": 5, "aggregation": "sum"})],
    ids=["few", "reference", "more-points-than-nodes"],
)
def test_mesh_reduced(processes: Any, points: int, options: dict[str, Any]):
    processes.run(check_reduced, points, options)


def check_reduced(points: int, options: dict[str, Any]) -> None:
    widths = {f"hidden_dim_{name}": 8 for name in WIDTHS}
    torch.manual_seed(0)
    model = Mesh_Reduced(3, 4, 2, processor_size=2, **widths, **options).double()
    graph, pivotal = cloud(), torch.rand(points, 2, dtype=torch.float64)
    part = partition(graph, ranks())
    positions = [graph.pos, pivotal], [part.of_nodes(graph.pos), pivotal]
    compare_on_graph(copy.deepcopy(model), graph, part, *positions)
    # The pivotal points, and what a model of time may make of them, are whole on every rank.
    nodes, edges = torch.rand(60, 3).double(), torch.rand(graph.num_edges, 4).double()
    want = model.encode(nodes, edges, graph, *positions[0])
    distribute(model, ranks())
    own = part.of_nodes(nodes), part.of_edges(edges), part
    got = model.encode(*own, *positions[1])
    assert_close(got.detach(), want)
    assert len(model.decode(got, *own[1:], *positions[1])) == len(part.nodes)


@pytest.mark.parametrize(
    ("options", "checkpoints"),
    [
        ({}, {}),
        ({"aggregation": "mean", "do_concat_trick": True, "multimesh": False}, {}),
        ({"numerics": "reference-1.2"}, {}),
        ({"recompute_activation": True}, {}),
        ({}, {"model": True}),
        ({}, {"encoder": True, "processor": 2, "decoder": True}),
        (ATTENTION | {"khop_neighbors": 2}, {}),
        (ATTENTION, {"encoder": True, "processor": 2, "decoder": True}),
    ],
    ids=["sum", "mean", "reference", "recompute", "whole", "parts", "attention", "attention-parts"],
)
def test_graphcast(processes: Any, options: dict[str, Any], checkpoints: dict[str, Any]):
    processes.run(check_graphcast, options, checkpoints)


def check_graphcast(options: dict[str, Any], checkpoints: dict[str, Any]) -> None:
    model = small_graphcast(**options).double().eval()  # the attention has dropout
    for name, value in checkpoints.items():
        getattr(model, f"set_checkpoint_{name}")(value)
    one = copy.deepcopy(model)
    x = torch.randn(1, 3, *RES, dtype=torch.float64, requires_grad=True)
    want = one(x)
    weight = torch.randn_like(want)
    (want * weight).sum().backward()

    distribute(model, ranks())
    part = split(x.detach(), model).requires_grad_()
    got = model(part)
    (got * split(weight, model)).sum().backward()
    assert got.shape[2] < RES[0]
    assert_close(gather(got.detach(), model), want)
    assert_close(gather(part.grad, model), x.grad)
    assert_gradients(model, one)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_graphcast_divides_the_work_on_its_mesh(ranks: int):
    model = GraphCastNet(
        mesh_level=4, input_res=(91, 180), hidden_dim=4, input_dim_grid_nodes=1, processor_layers=16
    )
    graphs = model._graphs()
    owners = vertex_owners(graphs, 4, 16, ranks)
    assert owners.unique().tolist() == list(range(ranks))
    messages = torch.bincount(owners[graphs.mesh.edge_index[1]])
    assert messages.max() <= 1.1 * messages.double().mean()
    # In bands from south to north, of which few edges cross the borders.
    vertices = torch.from_numpy(mesh_hierarchy(4)[-1].vertices[:, 2])
    assert all(
        vertices[owners == rank].max() <= vertices[owners == rank + 1].min() + 1e-12
        for rank in range(ranks - 1)
    )


def test_graphcast_stays_a_module(processes: Any):
    processes.run(check_module)


def check_module() -> None:
    model = small_graphcast()
    x = torch.randn(1, 3, *RES)
    one = copy.deepcopy(model)
    distribute(model, ranks())
    assert list(model.state_dict()) == list(one.state_dict())
    with TemporaryDirectory() as folder:  # a file of the whole model
        model.save(f"{folder}/model.mdlus")
        loaded = Module.from_checkpoint(f"{folder}/model.mdlus")
    torch.testing.assert_close(loaded(x), one(x), rtol=0, atol=0)
    # Graphs and features are constants, with values and digits after any move and cast.
    model.to("meta").to_empty(device="cpu").double().load_state_dict(one.state_dict())
    again = gather(model(split(x.double(), model)), model)
    assert_close(again, one.double()(x.double()))


@pytest.mark.distributed
def test_graphcast_compiled(processes: Any):
    processes.run(check_compiled)


def check_compiled() -> None:
    model = small_graphcast().double()
    x = torch.randn(1, 3, *RES, dtype=torch.float64)
    want = model(x)
    distribute(model, ranks())
    part = split(x, model).requires_grad_()
    got = torch.compile(model, fullgraph=True, backend="aot_eager")(part)
    got.sum().backward()
    assert_close(gather(got.detach(), model), want)
    assert part.grad is not None


def test_graphcast_needs_a_latitude_for_each_rank(processes: Any):
    processes.run(check_few_latitudes)


def check_few_latitudes() -> None:
    model = small_graphcast(input_res=(2, 4))
    if dist.get_world_size() > 2:
        with pytest.raises(ValueError, match="at least one latitude a rank, got 2 for 3"):
            distribute(model, ranks())
        return
    x = torch.randn(1, 3, 2, 4)
    want = model(x)
    distribute(model, ranks())
    torch.testing.assert_close(gather(model(split(x, model)), model), want)


def test_models_without_rules(processes: Any):
    processes.run(check_without_rules)


def check_without_rules() -> None:
    with pytest.raises(NotImplementedError, match="no rules for domain parallelism"):
        distribute(Sequence_Model(8, 4), ranks())


def ranks() -> DeviceMesh:
    """Return all processes, in a row."""
    return init_device_mesh("cpu", (dist.get_world_size(),))


def cloud() -> Graph:
    """Return points in the plane, each joined to those near it, in an order of no meaning."""
    torch.manual_seed(0)
    pos = torch.rand(60, 2, dtype=torch.float64)
    edges = (torch.cdist(pos, pos) < 0.25).nonzero().T
    edges = edges[:, edges[0] != edges[1]]
    return Graph(edges[:, torch.randperm(edges.shape[1])], 60, pos=pos)


def small_graphcast(**options: Any) -> GraphCastNet:
    torch.manual_seed(0)
    sizes = {"mesh_level": 2, "input_res": RES, "hidden_dim": 8, "processor_layers": 4}
    fields = {"input_dim_grid_nodes": 3, "output_dim_grid_nodes": 2}
    return GraphCastNet(**sizes | fields | options)


def compare_on_graph(
    model: nn.Module, graph: Graph, part: Part, whole: list[Any], parts: list[Any]
) -> None:
    """Compare outputs and gradients, given further arguments of the model and their parts."""
    one = copy.deepcopy(model)
    options: dict[str, Any] = {"dtype": torch.float64, "requires_grad": True}
    nodes = torch.randn(graph.num_nodes, 3, **options)
    edges = torch.randn(graph.num_edges, 4, **options)
    want = one(nodes, edges, graph, *whole)
    weight = torch.randn_like(want)
    (want * weight).sum().backward()

    distribute(model, ranks())
    own_nodes = part.of_nodes(nodes.detach()).requires_grad_()
    own_edges = part.of_edges(edges.detach()).requires_grad_()
    got = model(own_nodes, own_edges, part, *parts)
    (got * part.of_nodes(weight)).sum().backward()
    assert len(got) < graph.num_nodes
    assert_close(part.gather(got.detach()), want)
    assert_close(part.gather(own_nodes.grad), nodes.grad)
    assert_close(own_edges.grad, part.of_edges(edges.grad))
    assert_gradients(model, one)


def assert_gradients(model: nn.Module, one: nn.Module) -> None:
    """Raise an error unless the ranks' gradients of parameters sum to those of one process."""
    gradients = {name: parameter.grad for name, parameter in one.named_parameters()}
    used = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    scale = max(gradient.abs().max().item() for gradient in used.values())
    for name, parameter in model.named_parameters():
        if name not in used:  # the mesh's edges, where vertices attend to each other
            assert parameter.grad is None, name
            continue
        total = parameter.grad.clone()
        dist.all_reduce(total)
        assert (total - used[name]).abs().max().item() <= TOLERANCE * scale, name


def assert_close(got: Tensor, want: Tensor) -> None:
    scale = want.abs().max().item()
    torch.testing.assert_close(got, want.detach(), rtol=0, atol=TOLERANCE * scale)
