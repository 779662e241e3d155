# SPDX-License-Identifier: Apache-2.0
"""What BiStrideMeshGraphNet promises: symmetries, independence of batches, far reach, errors."""

import math
import runpy
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data

from physicsnemo.models.gnn_layers import Graph, unchecked
from physicsnemo.models.gnn_layers.bsms import BistrideGraphMessagePassing, make_hierarchy
from physicsnemo.models.meshgraphnet import BiStrideMeshGraphNet, MeshGraphNet, bistride_levels
from physicsnemo.models.meshgraphnet.bsms_mgn import MetaData

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("cases_multiscale.py")))
triangles, draw = EXAMPLES["triangles"], EXAMPLES["draw"]
SMALL = EXAMPLES["NETWORK"] | {"output_dim": 2, "bistride_pos_dim": 2}


def build(**arguments):
    torch.manual_seed(0)
    return BiStrideMeshGraphNet(**SMALL | arguments).double().eval()


def example(num_levels=2, mesh=None):
    """Return features, mesh and coarser graphs in float64."""
    mesh = mesh or triangles(6, 5)
    mesh = mesh.with_nodes(mesh.pos.double(), mesh.batch, mesh.num_graphs)
    nodes, edges = (t.double() for t in draw((mesh.num_nodes, 4), (mesh.num_edges, 3)))
    return (nodes, edges, mesh, *bistride_levels(mesh.edge_index, mesh.num_nodes, num_levels))


def moved(mesh, pos):
    return mesh.with_nodes(pos, mesh.batch, mesh.num_graphs)


def chain(nodes):
    first = torch.arange(nodes - 1)
    edges = torch.stack((first, first + 1))
    pos = torch.rand(nodes, 2, generator=torch.Generator().manual_seed(0))
    return Graph(torch.cat((edges, edges.flip(0)), dim=1), nodes, pos=pos)


def test_weights_of_edges_divide_what_a_node_has_and_average_what_arrives():
    star = Graph(torch.tensor([[0, 1, 2, 3, 3, 3], [3, 3, 3, 0, 1, 2]]), 4)
    pos = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [7.0, 7.0]])
    pair = Graph(torch.tensor([[0, 1], [1, 0]]), 2)
    hierarchy = make_hierarchy(pos, [star, pair], [torch.tensor([0, 3])])
    # Each leaf sends 1 to the hub, which sends a third to each leaf.
    weight = hierarchy.passages[0].weight
    torch.testing.assert_close(weight, torch.tensor([1 / 3] * 3 + [1.0] * 3))
    # So the leaf takes the place of the hub, and the hub the mean of the leaves'.
    away = torch.tensor([6.0, 6.0])
    fiber = torch.cat((away, away.norm()[None]))
    expected = torch.stack((fiber, torch.cat((-away, away.norm()[None]))))
    torch.testing.assert_close(hierarchy.scales[1].fiber, expected)


def test_second_masses_are_those_that_arrived():
    path = chain(5)
    ids = torch.tensor([0, 2, 4])
    coarse = Graph(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    last = Graph(torch.tensor([[0], [0]]), 1)
    hierarchy = make_hierarchy(path.pos.double(), [path, coarse, last], [ids, torch.tensor([1])])
    # Masses on the path are 1/2, 3/2, 1, 3/2, 1/2; of those kept, 1/2, 1, 1/2 are sent on.
    expected = torch.tensor([0.5, 1.0, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(hierarchy.passages[1].weight, expected)


def test_the_way_up_is_the_transpose_of_the_way_down():
    *_, mesh, ms_edges, ms_ids = example(1)
    (passage,) = make_hierarchy(mesh.pos, ms_edges, ms_ids).passages
    fine = draw((mesh.num_nodes, 3))[0].double()
    coarse = draw((passage.ids.shape[0], 3))[0].double()
    torch.testing.assert_close(
        (passage.down(fine) * coarse).sum(), (fine * passage.up(coarse)).sum()
    )


def test_the_way_down_keeps_constants():
    *_, mesh, ms_edges, ms_ids = example(2)
    for passage in make_hierarchy(mesh.pos, ms_edges, ms_ids).passages:
        ones = torch.ones(passage.graph.num_nodes, 1, dtype=torch.float64)
        reached = passage.graph.target.degrees[passage.ids] > 0
        torch.testing.assert_close(passage.down(ones)[reached], ones[: int(reached.sum())])


@pytest.mark.parametrize(
    ("angle", "shift"), [(0.0, 5.0), (math.pi / 3, 0.0)], ids=["translated", "rotated"]
)
def test_only_differences_of_positions_count(angle, shift):
    model = build()
    nodes, edges, mesh, *levels = example()
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    other = moved(mesh, mesh.pos @ turn.double().T + shift)
    difference = model(nodes, edges, other, *levels) - model(nodes, edges, mesh, *levels)
    if angle:  # directions are features of the edges
        assert difference.norm() > 1e-3
    else:
        assert difference.abs().max() < 1e-12


def test_permutation_of_nodes_and_edges_permutes_the_output():
    model = build()
    nodes, edges, mesh, ms_edges, ms_ids = example()
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(graph.num_nodes, generator=generator) for graph in ms_edges]
    places = [order.argsort() for order in orders]
    shuffled = [
        Graph(place[graph.edge_index][:, torch.randperm(graph.num_edges)], graph.num_nodes)
        for graph, place in zip(ms_edges, places, strict=True)
    ]
    ids = [
        place[kept][order] for kept, place, order in zip(ms_ids, places, orders[1:], strict=False)
    ]
    swap = torch.randperm(mesh.num_edges, generator=generator)
    other = Graph(places[0][mesh.edge_index][:, swap], mesh.num_nodes, pos=mesh.pos[orders[0]])
    output = model(nodes[orders[0]], edges[swap], other, shuffled, ids)
    expected = model(nodes, edges, mesh, ms_edges, ms_ids)[orders[0]]
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_graphs_in_a_batch_do_not_influence_each_other():
    model = build()
    meshes = [triangles(6, 5), chain(9), triangles(2, 2)]
    alone = [example(mesh=mesh) for mesh in meshes]
    nodes, edges = (torch.cat(parts) for parts in list(zip(*alone, strict=True))[:2])
    whole = Graph.join([one[2] for one in alone])
    levels = bistride_levels(whole.edge_index, whole.num_nodes, 2)
    expected = torch.cat([model(*one) for one in alone])
    torch.testing.assert_close(model(nodes, edges, whole, *levels), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_mesh_levels", "reach"), [(0, 2), (1, 7), (2, 17)])
def test_messages_travel_far_on_coarser_graphs(num_mesh_levels, reach):
    """One edge before; on level l, 2**l edges twice down and twice up, or once at the bottom."""
    model = build(processor_size=1, num_mesh_levels=num_mesh_levels)
    inputs = list(example(num_mesh_levels, chain(61)))
    inputs[0].requires_grad_()
    model(*inputs)[30].sum().backward()
    touched = inputs[0].grad.abs().sum(1).nonzero().squeeze(1)
    assert (30 - touched.min(), touched.max() - 30) == (reach, reach)


def test_without_the_u_net_it_is_a_mesh_graph_net():
    model = build(bistride_unet_levels=0)
    arguments = {name: value for name, value in SMALL.items() if name != "bistride_pos_dim"}
    plain = MeshGraphNet(**arguments).double()
    plain.load_state_dict(model.state_dict(), strict=False)
    inputs = example()
    assert torch.equal(model(*inputs), plain(*inputs[:3]))


@pytest.mark.parametrize(
    "options", [{"num_processor_checkpoint_segments": 1}, {"recompute_activation": True}]
)
def test_computing_again_changes_nothing(options):
    nodes, *others = example()
    gradients = []
    for arguments in ({}, options):
        model = build(bistride_unet_levels=2, **arguments)
        x = nodes.clone().requires_grad_()
        model(x, *others).square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    model = build(num_mesh_levels=1, mlp_activation_fn="tanh")
    nodes, edges, mesh, ms_edges, ms_ids = example(1, chain(7))

    def function(nodes, edges, pos):
        return model(nodes, edges, moved(mesh, pos), ms_edges, ms_ids)

    inputs = [tensor.requires_grad_() for tensor in (nodes, edges, mesh.pos.clone())]
    assert torch.autograd.gradcheck(function, inputs)


def test_repeated_training_steps_are_bitwise_equal():
    results = []
    for _ in range(2):
        model = build().float()
        inputs = [t.float() if isinstance(t, torch.Tensor) else t for t in example()]
        inputs[2] = moved(inputs[2], inputs[2].pos.float())
        model(*inputs).square().sum().backward()
        results.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_graphs_of_pytorch_geometric_and_edges_as_a_data_loader_hands_them_over():
    model = build()
    nodes, edges, mesh, ms_edges, ms_ids = example()
    expected = model(nodes, edges, mesh, ms_edges, ms_ids)
    data = Data(edge_index=mesh.edge_index, pos=mesh.pos)
    loose = [graph.edge_index[None].int() for graph in ms_edges]
    ids = [kept[None] for kept in ms_ids]
    assert torch.equal(model(nodes, edges, data, loose, ids), expected)
    assert torch.equal(model(nodes, edges, Batch.from_data_list([data]), loose, ids), expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's
@pytest.mark.parametrize("sorted_before", [True, False], ids=["graphs", "edges"])
def test_it_compiles_as_one_graph(sorted_before):
    model = build(num_mesh_levels=1)
    nodes, edges, mesh, ms_edges, ms_ids = example(1)
    levels = ms_edges if sorted_before else [graph.edge_index for graph in ms_edges]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    output = compiled(nodes, edges, mesh, levels, ms_ids)
    torch.testing.assert_close(output, model(nodes, edges, mesh, ms_edges, ms_ids))


def test_bfloat16():
    model = build().float()
    inputs = [t.float() if isinstance(t, torch.Tensor) else t for t in example()]
    inputs[2] = moved(inputs[2], inputs[2].pos.float())
    expected = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*inputs)
    assert output.dtype == torch.bfloat16
    assert (output - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("share", ["edges", "graphs", "ids"])
def test_edits_of_levels_through_numpy_are_seen(share):
    model = build(num_mesh_levels=1)
    nodes, edges, mesh, ms_edges, ms_ids = example(1)
    array = ms_ids[0].clone().numpy() if share == "ids" else ms_edges[1].edge_index.clone().numpy()
    given = torch.from_numpy(array)
    if share == "ids":
        ms_ids = [given]
    else:
        count = ms_edges[1].num_nodes
        ms_edges = [ms_edges[0], given if share == "edges" else Graph(given, count)]
    before = model(nodes, edges, mesh, ms_edges, ms_ids)
    array[..., 0] = array[..., -1]
    if share == "ids":
        with pytest.raises(ValueError, match=r"ms_ids\[0\] to name different nodes"):
            model(nodes, edges, mesh, ms_edges, ms_ids)
        return
    after = model(nodes, edges, mesh, ms_edges, ms_ids)
    assert not torch.equal(after, before)
    fresh = [ms_edges[0], Graph(torch.tensor(array), count)]
    assert torch.equal(after, model(nodes, edges, mesh, fresh, ms_ids))


def test_levels_that_are_no_tensors():
    model = build(num_mesh_levels=1)
    nodes, edges, mesh, ms_edges, ms_ids = example(1)
    with pytest.raises(TypeError, match=r"ms_edges\[1\] to be a tensor, got NoneType"):
        model(nodes, edges, mesh, [ms_edges[0], None], ms_ids)
    data = Data(edge_index=ms_edges[1].edge_index)
    with pytest.raises(TypeError, match=r"ms_edges\[1\] .*, got Data; pass its edge_index$"):
        model(nodes, edges, mesh, [ms_edges[0], data], ms_ids)
    with pytest.raises(ValueError, match="; correct the edges or the number of nodes"):
        model(nodes, edges, mesh, [ms_edges[0], ms_edges[0].edge_index], ms_ids)
    turned = ms_edges[1].edge_index.T
    with pytest.raises(ValueError, match=r"ms_edges\[1\] of shape \(2, edges\), .*\.T\.contiguous"):
        model(nodes, edges, mesh, [ms_edges[0], turned], ms_ids)
    with pytest.raises(TypeError, match="ms_edges to be a list of one for each level, got NoneT"):
        model(nodes, edges, mesh, None, ms_ids)
    with pytest.raises(TypeError, match=r"ms_ids\[0\] to be a tensor, got list; convert"):
        model(nodes, edges, mesh, ms_edges, [ms_ids[0].tolist()])
    with pytest.raises(TypeError, match=r"ms_ids\[0\] to be a tensor, got Graph$"):
        model(nodes, edges, mesh, ms_edges, [mesh])


def test_errors_of_the_constructor():
    with pytest.raises(ValueError, match="num_mesh_levels of at least 0, got -1"):
        build(num_mesh_levels=-1)
    with pytest.raises(ValueError, match="bistride_pos_dim of at least 1, got 0"):
        build(bistride_pos_dim=0)


def test_errors_of_features_and_positions():
    model = build()
    nodes, edges, mesh, *levels = example()
    with pytest.raises(ValueError, match="input_dim_nodes=4"):
        model(nodes[:, :3], edges, mesh, *levels)
    with pytest.raises(ValueError, match="input_dim_edges=3"):
        model(nodes, edges[1:], mesh, *levels)
    with pytest.raises(ValueError, match=r"positions of its nodes, got one without; set pos in"):
        model(nodes, edges, moved(mesh, None), *levels)
    with pytest.raises(ValueError, match="bistride_pos_dim=2"):
        model(nodes, edges, moved(mesh, torch.rand(mesh.num_nodes, 3)), *levels)


def test_errors_of_levels():
    model = build()
    nodes, edges, mesh, ms_edges, ms_ids = example()
    with pytest.raises(
        ValueError, match="3 ms_edges and 2 ms_ids for num_mesh_levels=2, got 0 and"
    ):
        model(nodes, edges, mesh)
    with pytest.raises(ValueError, match=r"got 3 and 1; make them by bistride_levels"):
        model(nodes, edges, mesh, ms_edges, ms_ids[:1])
    with pytest.raises(ValueError, match=r"ms_edges\[1\] to have \d+ nodes.*got a graph of 34"):
        model(nodes, edges, mesh, [ms_edges[0], ms_edges[0], ms_edges[2]], ms_ids)
    with pytest.raises(ValueError, match="nodes from 0 to"):
        model(nodes, edges, mesh, [graph.edge_index + 9 for graph in ms_edges], ms_ids)
    with pytest.raises(TypeError, match=r"ms_edges\[0\] to hold integers"):
        model(nodes, edges, mesh, [graph.edge_index.float() for graph in ms_edges], ms_ids)


@pytest.mark.parametrize(
    "broken", [lambda ids: ids + 3, lambda ids: ids - 1, lambda ids: ids.clamp(min=4)]
)
def test_numbers_of_nodes_that_there_are_not_or_twice(broken):
    nodes, edges, mesh, ms_edges, ms_ids = example()
    with pytest.raises(ValueError, match=r"ms_ids\[0\] to name different nodes from 0 to 33, got"):
        build()(nodes, edges, mesh, ms_edges, [broken(ms_ids[0]), ms_ids[1]])


def test_numbers_are_read_again_after_they_are_edited():
    model = build()
    nodes, edges, mesh, ms_edges, ms_ids = example()
    model(nodes, edges, mesh, ms_edges, ms_ids)
    ms_ids[0][0] = 34
    with pytest.raises(ValueError, match=r"ms_ids\[0\] to name different nodes from 0 to 33"):
        model(nodes, edges, mesh, ms_edges, ms_ids)


def test_what_is_unchecked_is_not_read():
    nodes, edges, mesh, ms_edges, ms_ids = example()
    expected = build()(nodes, edges, mesh, ms_edges, ms_ids)
    with unchecked():
        assert torch.equal(build()(nodes, edges, mesh, ms_edges, ms_ids), expected)
        twice = [ms_ids[0].clamp(min=4), ms_ids[1]]
        assert build()(nodes, edges, mesh, ms_edges, twice).shape == expected.shape


@pytest.mark.parametrize("ids", [torch.zeros(3, 2, dtype=torch.long), torch.ones(3)])
def test_other_errors_of_nodes(ids):
    nodes, edges, mesh, ms_edges, ms_ids = example()
    with pytest.raises(ValueError, match=r"ms_ids\[1\] to hold integers of shape \(nodes,\)"):
        build()(nodes, edges, mesh, ms_edges, [ms_ids[0], ids])


def test_the_u_net_refuses_another_number_of_graphs():
    *_, mesh, ms_edges, ms_ids = example(1)
    unet = BistrideGraphMessagePassing(2, latent_dim=4, hidden_layer=1, pos_dim=2).double()
    with pytest.raises(ValueError, match="zip"):
        unet(torch.zeros(mesh.num_nodes, 4).double(), make_hierarchy(mesh.pos, ms_edges, ms_ids))


def test_flags():
    meta = MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == {
        "cuda_graphs",
        "amp_gpu",
        "func_torch",
        "auto_grad",
    }
    assert meta.name == "BiStrideMeshGraphNet"
