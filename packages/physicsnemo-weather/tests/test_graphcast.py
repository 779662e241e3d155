# SPDX-License-Identifier: Apache-2.0
"""What GraphCastNet promises: its formula, numerics, checkpoints, switches, clear errors."""

import copy
import json
import runpy
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.graphcast import GraphCastNet, build_graphs
from physicsnemo.models.graphcast.graph_cast_net import MetaData, get_lat_lon_partition_separators
from physicsnemo.models.graphcast.graph_cast_processor import GraphCastProcessor
from physicsnemo.models.module import Module
from physicsnemo.testing import check_reference_case

SMALL = {
    "mesh_level": 1,
    "input_res": [7, 11],
    "input_dim_grid_nodes": 3,
    "output_dim_grid_nodes": 2,
    "processor_layers": 4,
    "hidden_dim": 8,
}
CASES = runpy.run_path(str(Path(__file__).with_name("cases_graphcast.py")))["CASES"]
REFERENCE = Path(__file__).parent / "reference" / "GraphCastNet__level1"


def build(**arguments):
    return GraphCastNet(**SMALL | arguments).double()


def draw():
    return torch.randn(1, 3, 7, 11).double()


def gradients(model, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    torch.manual_seed(1)
    model(x).square().sum().backward()
    return [x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


def test_outputs_and_gradients_of_a_checkpoint_of_the_reference():
    case = json.loads((REFERENCE / "case.json").read_text(encoding="utf-8"))
    inputs = load_file(REFERENCE / "inputs.safetensors")
    expected = load_file(REFERENCE / "outputs.safetensors")
    model = Module.from_checkpoint(REFERENCE / "reference.mdlus").eval()
    x = inputs["arg0"].requires_grad_()
    raw = model(x)
    output = raw * inputs[case["output_mask"]]  # without the points whose triangle is a tie
    (gradient,) = torch.autograd.grad(output.square().mean(), x)
    results = {"raw_out0": raw, "out0": output, "grad_arg0": gradient}
    assert results.keys() == expected.keys()
    for name, tensor in expected.items():
        tolerance = case["tolerance"]
        atol = tolerance["atol_scaled"] * tensor.abs().max().item()
        torch.testing.assert_close(results[name], tensor, rtol=tolerance["rtol"], atol=atol)


def test_file_of_a_later_release():
    check_reference_case(REFERENCE.parent / "GraphCastNet__release_2_0")


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    assert flags == {"cuda_graphs", "amp_gpu", "bf16"}
    assert MetaData().name == "GraphCastNet"


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
@pytest.mark.parametrize("numerics", ["paper", "reference-2.1"])
def test_formula_of_the_paper(aggregation, numerics):
    model, x = build(aggregation=aggregation, numerics=numerics), draw()
    graphs = build_graphs(1, (7, 11), numerics=numerics)

    def to_targets(edges, graph):
        zeros = edges.new_zeros(graph.num_targets, edges.shape[1])
        total = zeros.index_add(0, graph.edge_index[1], edges)
        count = torch.bincount(graph.edge_index[1], minlength=graph.num_targets)
        return total / count.clamp(min=1)[:, None] if aggregation == "mean" else total

    def on_edges(layer, edges, sources, targets, graph):
        source, target = graph.edge_index
        return layer.edge_mlp.model(torch.cat((edges, sources[source], targets[target]), dim=1))

    embed = {name: mlp.model for name, mlp in model.encoder_embedder.items()}
    grid = embed["grid_node_mlp"](x[0].permute(1, 2, 0).reshape(77, 3))
    mesh = embed["mesh_node_mlp"](graphs.mesh_ndata.double())
    edges = embed["grid2mesh_edge_mlp"](graphs.g2m_edata.double())
    edges = on_edges(model.encoder, edges, grid, mesh, graphs.g2m)
    joined = torch.cat((to_targets(edges, graphs.g2m), mesh), dim=1)
    mesh = mesh + model.encoder.dst_node_mlp.model(joined)
    grid = grid + model.encoder.src_node_mlp.model(grid)
    edges = embed["mesh_edge_mlp"](graphs.mesh_edata.double())
    parts = (model.processor_encoder, model.processor, model.processor_decoder)
    blocks = [block for part in parts for block in part.processor_layers]
    assert len(blocks) == 8
    for edge_block, node_block in zip(blocks[::2], blocks[1::2], strict=True):
        update = on_edges(edge_block, edges, mesh, mesh, graphs.mesh)
        edges = edges + update
        sent = update if numerics == "paper" else edges
        joined = torch.cat((to_targets(sent, graphs.mesh), mesh), dim=1)
        mesh = mesh + node_block.node_mlp.model(joined)
    edges = model.decoder_embedder["mesh2grid_edge_mlp"].model(graphs.m2g_edata.double())
    edges = on_edges(model.decoder, edges, mesh, grid, graphs.m2g)
    joined = torch.cat((to_targets(edges, graphs.m2g), grid), dim=1)
    grid = grid + model.decoder.node_mlp.model(joined)
    output = model.finale.model(grid).T.reshape(1, 2, 7, 11)
    torch.testing.assert_close(model(x), output)


@pytest.mark.parametrize(("numerics", "sent"), [("paper", 0.0), ("reference-1.2", 5.0)])
def test_residuals_of_edges_are_added_after_the_sum(numerics, sent):
    processor = GraphCastProcessor("sum", 1, 1, 1, 1, 1, numerics=numerics)
    for parameter in processor.parameters():
        torch.nn.init.zeros_(parameter)
    seen = []
    node_block = processor.processor_layers[1]
    node_block.node_mlp.register_forward_pre_hook(lambda _, parts: seen.append(parts[0]))
    graph = Graph(torch.tensor([[0], [1]]), 2)
    edges, vertices = torch.tensor([[5.0]]), torch.tensor([[1.0], [2.0]])
    got = processor(edges, vertices, graph)
    assert seen[0].tolist() == [[0.0], [sent]]
    assert (got[0].tolist(), got[1].tolist()) == ([[5.0]], [[1.0], [2.0]])


def test_features_are_as_exact_as_the_model():
    single, double = GraphCastNet(**SMALL), build()
    graphs = build_graphs(1, (7, 11))
    for name in ("g2m_edata", "mesh_edata", "m2g_edata", "mesh_ndata"):
        exact = getattr(graphs, name)
        assert exact.dtype == torch.float64
        assert torch.equal(single.get_buffer(name), exact.float())
        assert torch.equal(double.get_buffer(name), exact)
        for dtype in (torch.bfloat16, torch.float16):
            assert torch.equal(GraphCastNet(**SMALL).to(dtype).get_buffer(name), exact.float())
        back = GraphCastNet(**SMALL).half().double().get_buffer(name)
        assert torch.equal(back, exact)
    low = GraphCastNet(**SMALL).bfloat16()
    assert low(draw().bfloat16()).dtype == torch.bfloat16


def test_a_default_of_double_precision_reaches_the_features():
    torch.set_default_dtype(torch.float64)
    try:
        model = GraphCastNet(**SMALL)
    finally:
        torch.set_default_dtype(torch.float32)
    ours = build()
    ours.load_state_dict(model.state_dict())
    x = draw()
    assert torch.equal(model(x), ours(x))


@pytest.mark.parametrize("kind", ["MessagePassing", "GraphTransformer"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_graphs_are_there_again_after_to_empty(kind, device):
    arguments = {"processor_type": kind, "khop_neighbors": 1}
    expected, x = build(**arguments).eval(), draw()
    with torch.device(device):
        model = torch.nn.ModuleList([GraphCastNet(**SMALL | arguments)]).double().eval()
    model.to_empty(device="cpu")
    for buffer in model.buffers():
        assert not buffer.is_meta
    model[0].load_state_dict(expected.state_dict())
    assert torch.equal(model[0](x), expected(x))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_forward_mode_is_the_transpose_of_reverse_mode(case):
    model = case.build().double().eval()
    (x,) = (x.double() for x in case.inputs())
    tangent = torch.randn_like(x)
    output, along = torch.func.jvp(model, (x,), (tangent,))
    weight = torch.randn_like(output)
    (back,) = torch.func.vjp(model, x)[1](weight)
    torch.testing.assert_close((weight * along).sum(), (back * tangent).sum())


def test_numerics_differ():
    ours, x = build(), draw()
    outputs = {}
    for numerics in ("paper", "reference-1.2", "reference-2.1"):
        model = build(numerics=numerics)
        model.load_state_dict(ours.state_dict())
        outputs[numerics] = model(x)
    assert torch.equal(outputs["reference-1.2"], outputs["reference-2.1"])
    assert not torch.allclose(outputs["reference-1.2"], outputs["paper"])


def test_graphs_are_shared_until_they_move_and_are_in_no_checkpoint():
    one, other = GraphCastNet(**SMALL), GraphCastNet(**SMALL)
    names = [name for name, _ in one.named_buffers() if name != "device_buffer"]
    assert {"m2g_edata", "mesh_ndata", "g2m_graph.edge_index", "mesh_graph.target_perm"} <= {*names}
    for name in names:
        assert one.get_buffer(name).data_ptr() == other.get_buffer(name).data_ptr()
    assert not {*names} & one.state_dict().keys()
    assert set(one._ddp_params_and_buffers_to_ignore) == {*names}
    parent = torch.nn.ModuleList([one]).to("meta")
    assert all(buffer.is_meta for buffer in parent.buffers())
    assert one.g2m_graph().device.type == "meta"
    assert not any(buffer.is_meta for buffer in other.buffers())


def test_graphs_that_models_hold():
    model, graphs = GraphCastNet(**SMALL), build_graphs(1, (7, 11))
    for name in ("g2m", "mesh", "m2g"):
        held, built = getattr(model, f"{name}_graph")(), getattr(graphs, name)
        assert (held.num_nodes, held.num_targets) == (built.num_nodes, built.num_targets)
        assert torch.equal(held.edge_index, built.edge_index)
        for end in ("source", "target"):
            ours, theirs = getattr(held, end), getattr(built, end)
            assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("kind", ["MessagePassing", "GraphTransformer"])
@pytest.mark.parametrize(
    "switches",
    [
        {"model": True},
        {"encoder": True, "decoder": True, "processor": 2},
        {"processor": 4},
        {"processor": -1},
    ],
    ids=str,
)
def test_recomputation_changes_no_bit(kind, switches):
    model, x = build(processor_type=kind), draw()
    expected = gradients(model, x)
    for part, value in switches.items():
        getattr(model, f"set_checkpoint_{part}")(value)
    got = gradients(model, x)
    assert len(got) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    "options", [{}, {"aggregation": "mean"}, {"do_concat_trick": True}], ids=str
)
@pytest.mark.parametrize("kind", ["MessagePassing", "GraphTransformer"])
@pytest.mark.parametrize("chunks", [2, 5])
def test_chunks_of_the_grid_give_the_same_numbers(kind, options, chunks):
    model, x = build(processor_type=kind, **options).eval(), draw()
    expected = gradients(model, x)
    model.set_checkpoint_encoder(True, chunks=chunks)
    model.set_checkpoint_decoder(True, chunks=chunks)
    assert len(model.g2m_chunks) == len(model.m2g_chunks) == chunks
    largest = max(float(want.abs().max()) for want in expected)  # those of some biases are zero
    for got, want in zip(gradients(model, x), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12 * largest)
    model.set_checkpoint_model(True)
    assert len(model.g2m_chunks) == len(model.m2g_chunks) == 0


def test_chunks_divide_the_edges():
    model = build()
    model.set_checkpoint_decoder(True, chunks=3)
    graphs = [chunk() for chunk in model.m2g_chunks]
    bounds = [0]
    for graph in graphs:
        bounds.append(bounds[-1] + graph.target.num_nodes)
    whole = model.m2g_graph()
    assert bounds[-1] == whole.target.num_nodes
    shifts = [
        graph.edge_index + torch.tensor([[0], [n]])
        for graph, n in zip(graphs, bounds, strict=False)
    ]
    assert torch.equal(torch.cat(shifts, dim=1), whole.edge_index)


def test_chunks_keep_no_activations_of_edges():
    model, x = build(), draw()
    model.set_checkpoint_encoder(True)
    model.set_checkpoint_decoder(True)
    kept = kept_bytes(model, x)
    model.set_checkpoint_encoder(True, chunks=4)
    model.set_checkpoint_decoder(True, chunks=4)
    assert kept_bytes(model, x) < 1.5 * kept
    rows = []
    for step in (model.encoder, model.decoder):
        step.edge_mlp.register_forward_hook(lambda *call: rows.append(len(call[-1])))
    gradients(model, x)
    assert len(rows) == 4 * 4  # both steps, each in four parts, in both passes
    assert max(rows) < 0.4 * model.m2g_graph().num_edges


def test_chunks_have_their_values_after_to_empty():
    model, x = build().eval(), draw()
    model.set_checkpoint_encoder(True, chunks=2)
    model.set_checkpoint_decoder(True, chunks=3)
    state, expected = copy.deepcopy(model.state_dict()), model(x)
    model.to("meta").to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(model(x), expected)


def test_number_of_chunks():
    with pytest.raises(ValueError, match="chunks.*0"):
        build().set_checkpoint_encoder(True, chunks=0)


def kept_bytes(model, x):
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    assert output.requires_grad
    own = [*model.parameters(), *model.buffers()]
    return sum(sizes.values()) - sum(
        sizes.get(tensor.untyped_storage().data_ptr(), 0) for tensor in own
    )


def test_switches_save_memory():
    model, x = build(processor_layers=8), draw()
    kept = {"nothing": kept_bytes(model, x)}
    for part, value in (("processor", 6), ("encoder", True), ("decoder", True), ("model", True)):
        getattr(model, f"set_checkpoint_{part}")(value)
        kept[part] = kept_bytes(model, x)
    assert kept["nothing"] > 1.5 * kept["processor"]
    assert kept["processor"] > kept["encoder"] > kept["decoder"] > kept["model"]
    assert kept["model"] < 0.05 * kept["nothing"]
    model.set_checkpoint_model(False)
    assert kept_bytes(model, x) == kept["nothing"]


def test_segments_that_do_not_divide():
    with pytest.raises(ValueError, match="divides the 4 blocks of the processor, .* got 3"):
        build().set_checkpoint_processor(3)


def test_autocast_is_close():
    model, x = GraphCastNet(**SMALL), draw().float()
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x)
    assert got.dtype == torch.bfloat16
    assert (got - expected).norm() < 0.03 * expected.norm()


def test_concat_trick_renames_weights_alone():
    plain, x = build(), draw()
    state = {}
    for name, value in plain.state_dict().items():
        block, inside, layer = name.partition("edge_mlp.model.")
        index, _, kind = layer.partition(".")
        if name.startswith(("encoder_embedder", "decoder_embedder")) or not inside:
            state[name] = value
        elif index != "0":
            state[f"{block}{inside}{int(index) - 1}.{kind}"] = value
        elif kind == "bias":
            state[f"{block}edge_mlp.bias"] = value
        else:
            parts = zip(("efeat", "src", "dst"), value.chunk(3, dim=1), strict=True)
            state |= {f"{block}edge_mlp.lin_{part}": weight for part, weight in parts}
    split = build(do_concat_trick=True)
    split.load_state_dict(state)
    torch.testing.assert_close(split(x), plain(x))


def test_recomputed_activations_change_no_bit_and_save_memory():
    plain, saving, x = build(), build(recompute_activation=True), draw()
    saving.load_state_dict(plain.state_dict())
    for ours, theirs in zip(gradients(saving, x), gradients(plain, x), strict=True):
        assert torch.equal(ours, theirs)
    assert kept_bytes(saving, x) < 0.8 * kept_bytes(plain, x)


def test_normalization_of_transformer_engine():
    plain, x = build(), draw()
    with pytest.warns(UserWarning, match="torch.nn.LayerNorm is used, which computes the same"):
        model = build(norm_type="TELayerNorm")
    extra = {
        f"{name.removesuffix('weight')}_extra_state": torch.empty(0)
        for name in plain.state_dict()
        if name.endswith("model.3.weight")
    }
    assert len(extra) == 18
    model.load_state_dict(plain.state_dict() | extra)
    assert torch.equal(model(x), plain(x))


def test_vertices_without_points_of_the_grid():
    model = GraphCastNet(**SMALL | {"mesh_level": 2, "input_res": [7, 12]})
    assert model.g2m_graph().target.degrees.min() == 0
    assert model(torch.randn(1, 3, 7, 12)).isfinite().all()


def test_a_file_without_numerics_is_of_the_reference_and_stays_so(tmp_path):
    model = Module.from_checkpoint(REFERENCE / "reference.mdlus")
    assert model._args["__args__"]["numerics"] == "reference-1.2"
    model.save(tmp_path / "again.mdlus")
    with tarfile.open(tmp_path / "again.mdlus") as file:
        arguments = json.load(file.extractfile("args.json"))["__args__"]
    assert "numerics" not in arguments


def test_samples_by_vmap():
    model, x = build(), torch.randn(2, 1, 3, 7, 11).double()
    together = torch.func.vmap(model)(x)
    torch.testing.assert_close(together, torch.stack([model(sample) for sample in x]))


def test_arguments_without_effect_in_one_process():
    x = draw()
    plain = build()
    expected = plain(x)
    for arguments in (
        {"partition_group_name": "graph", "use_lat_lon_partitioning": True},
        {"expect_partitioned_input": True, "produce_aggregated_output": False},
        {"global_features_on_rank_0": True, "produce_aggregated_output_on_all_ranks": False},
    ):
        model = build(**arguments)
        model.load_state_dict(plain.state_dict())
        assert torch.equal(model(x), expected)


def test_several_processes_are_taken_for_one():
    plain, x = build(), draw()
    with pytest.warns(UserWarning, match="partition_size=4 is taken for 1"):
        model = build(partition_size=4)
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model(x), plain(x))


def test_numbers_of_numpy():
    numbers = {"mesh_level": np.int64(1), "input_res": [*np.array([7, 11])]}
    model, plain, x = build(**numbers), build(), draw()
    model.load_state_dict(plain.state_dict())
    assert model.input_res == (7, 11)
    assert torch.equal(model(x), plain(x))


def test_points_are_numbered_row_by_row():
    model, x = build(), draw()
    points = model.prepare_input(x)
    assert torch.equal(points[3 * 11 + 4], x[0, :, 3, 4])
    assert torch.equal(model.prepare_output(points), x)
    assert torch.equal(model.prepare_output(model.custom_forward(points)), model(x))


def test_former_name_of_the_level():
    with pytest.warns(DeprecationWarning, match="pass it as mesh_level"):
        model = GraphCastNet(**SMALL | {"mesh_level": 5, "multimesh_level": 1})
    assert len(model.mesh_ndata) == 42


@pytest.mark.parametrize("part", ["encoder", "processor", "decoder"])
def test_kernels_that_there_are_not(part):
    with pytest.warns(UserWarning, match="compute the same"):
        GraphCastNet(**SMALL | {f"use_cugraphops_{part}": True})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"processor_type": "Messages"}, ValueError, "MessagePassing, GraphTransformer, got 'Mess"),
        ({"processor_layers": 2}, ValueError, "processor_layers of at least 3, got 2"),
        ({"input_dim_mesh_nodes": 4}, ValueError, "input_dim_mesh_nodes=3 .* got 4 and 4"),
        ({"input_dim_edges": 3}, ValueError, "input_dim_edges=4, .* got 3 and 3"),
        ({"mesh_level": -1}, ValueError, "mesh_level of at least 0, got -1"),
        ({"mesh_level": "1"}, TypeError, "mesh_level to be a whole number, got '1'"),
        ({"mesh_level": 9}, ValueError, "at most 8, got 9, with which the mesh has 3e"),
        ({"mesh_level": 10**30}, ValueError, "mesh_level of at most 8"),
        (
            {"mesh_level": 7, "processor_type": "GraphTransformer"},
            ValueError,
            "at most 6 with GraphTransformer",
        ),
        ({"input_res": [1, 10]}, ValueError, "the latitudes with both poles, of at least 2, got 1"),
        ({"input_res": [10]}, ValueError, r"input_res of two numbers, got \[10\]"),
        ({"input_res": 10}, TypeError, "input_res of two numbers, got 10"),
        ({"input_res": [10.5, 20]}, TypeError, "both poles, to be a whole number, got 10.5"),
        ({"input_res": [2049, 2048]}, ValueError, "at most 4194304 points, got 2049 x 2048"),
        ({"input_res": [10**9, 10**9]}, ValueError, "at most 4194304 points"),
        ({"hidden_layers": None}, TypeError, "hidden_layers to be a whole number, got None"),
        ({"hidden_layers": -1}, ValueError, "hidden_layers of at least 0, got -1"),
        ({"aggregation": "max"}, ValueError, "'sum' or 'mean', got 'max'"),
        ({"activation_fn": "silo"}, KeyError, "did you mean silu"),
        ({"norm_type": "GroupNorm"}, ValueError, "'LayerNorm' or 'TELayerNorm', got 'GroupNorm'"),
        ({"numerics": "exact"}, ValueError, "numerics to be one of paper"),
        (
            {"expect_partitioned_input": True, "global_features_on_rank_0": True},
            ValueError,
            "contradict each other",
        ),
        (
            {"processor_type": "GraphTransformer", "khop_neighbors": 0},
            ValueError,
            "khop_neighbors of at least 1, got 0",
        ),
        (
            {"processor_type": "GraphTransformer", "num_attention_heads": 3},
            ValueError,
            "num_attention_heads that divide hidden_dim=8, got 3",
        ),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(2, 3, 7, 11).double(), ValueError, r"where batch is 2"),
        (torch.zeros(1, 4, 7, 11).double(), ValueError, r"where input_dim_grid_nodes is 4"),
        (torch.zeros(1, 3, 8, 11).double(), ValueError, r"where input_res\[0\] is 8"),
        (torch.zeros(1, 3, 11, 7).double(), ValueError, r"where input_res\[0\] is 11"),
        (torch.zeros(3, 7, 11).double(), ValueError, "which has 3 dimensions"),
        (torch.zeros(1, 3, 7, 11).long(), TypeError, "floating-point numbers, got torch.int64"),
        (torch.zeros(1, 3, 7, 11), TypeError, "of torch.float64, as the weights are"),
        (None, TypeError, "got None; pass one"),
        (torch.zeros(1, 3, 7, 10, device="meta"), ValueError, "on meta and the model on cpu"),
    ],
    ids=["batch", "fields", "latitudes", "turned", "axes", "integers", "type", "none", "device"],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        build()(x)


def test_contradicting_origins_of_the_input():
    with pytest.raises(ValueError, match="contradict each other"):
        build().prepare_input(draw(), True, True)


@pytest.mark.parametrize(("size", "rows"), [(1, 1), (2, 1), (4, 2), (6, 2), (7, 1), (12, 3)])
def test_rectangles_cover_the_sphere_once(size, rows):
    lower, upper = get_lat_lon_partition_separators(size)
    assert len(lower) == len(upper) == size
    assert len({lat for lat, _ in lower}) == rows
    ends = [[90 if lat is None else lat, 180 if lon is None else lon] for lat, lon in upper]
    steps = torch.tensor(ends) - torch.tensor(lower)
    torch.testing.assert_close(steps, torch.tensor([180 / rows, 360 * rows / size]).expand(size, 2))
    assert len({tuple(bounds) for bounds in lower}) == size


def test_no_rectangles():
    with pytest.raises(ValueError, match="partition_size of at least 1, got 0"):
        get_lat_lon_partition_separators(0)


def test_a_model_built_on_a_device_has_its_graphs_there_and_leaves_those_of_others():
    build_graphs.__globals__["_build"].cache_clear()
    with torch.device("meta"):
        elsewhere = GraphCastNet(**SMALL)
    assert {tensor.device.type for tensor in elsewhere.buffers()} == {"meta"}
    assert {tensor.device.type for tensor in GraphCastNet(**SMALL).buffers()} == {"cpu"}
