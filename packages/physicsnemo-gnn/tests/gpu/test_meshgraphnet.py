# SPDX-License-Identifier: Apache-2.0
"""Graph networks on a GPU: the same bits each time, compiled, in CUDA graphs, in less memory."""

import runpy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import mse_loss

from physicsnemo.models.gnn_layers import as_graph
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.testing import Case
from physicsnemo.utils import StaticCaptureTraining

pytestmark = pytest.mark.gpu

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "cases.py"))
NETWORKS = [case for case in EXAMPLES["CASES"] if "MeshGraphNet" in str(case)]

MESH = {"input_dim_nodes": 11, "input_dim_edges": 3, "output_dim": 3}
on_mesh = partial(EXAMPLES["on_graph"], features=(11, 3))
MEAN = MESH | {"processor_size": 3, "aggregation": "mean"}
LARGE = Case("large", "MeshGraphNet", MEAN, on_mesh(3000, 18000))

WARMUP, STEPS = 3, 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [*NETWORKS, LARGE], ids=str)
def test_results_are_the_same_bits_each_time(case, dtype, on_gpu, assert_same_bits):
    model, inputs = on_gpu(case)
    assert_same_bits(model, model, inputs, dtype)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_a_network_compiles_to_one_graph(case, on_gpu, outputs_and_gradients):
    model, inputs = on_gpu(case)
    expected = outputs_and_gradients(model, model, inputs)
    got = outputs_and_gradients(torch.compile(model, fullgraph=True), model, inputs)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def own(graph):
    return graph


def of_pyg(graph):
    from torch_geometric.data import Data  # which machines with a GPU may lack

    # Captured steps take tensors, which the other library's object hides.
    return as_graph(Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", [own, of_pyg])
def test_captured_steps_are_replays(kind, compiled, on_gpu, caplog):
    case = Case("captured", "MeshGraphNet", MESH | {"processor_size": 3}, on_mesh(600, 3600))
    losses = []
    for captured in (False, True):
        model, (nodes, edges, graph) = on_gpu(case)
        graph = kind(graph)
        capture = StaticCaptureTraining(
            model,
            torch.optim.Adam(model.parameters(), fused=True),
            use_amp=False,
            use_graphs=captured,
            cuda_graph_warmup=WARMUP,
            compile=compiled,
        )
        step = capture(lambda x, e, g, y, model=model: mse_loss(model(x, e, g), y))
        losses.append([step(nodes, edges, graph, nodes[:, :3]).item() for _ in range(STEPS)])
    assert step.replays() >= STEPS - WARMUP - 1, caplog.text
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-5)


def test_a_graph_of_another_library_is_sorted_once(on_gpu):
    from torch_geometric.data import Data

    _, (_, _, graph) = on_gpu(Case("sorted", "MeshGraphNet", MESH, on_mesh(600, 3600)))
    data = Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)
    first = as_graph(data)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert as_graph(data) is first
    finally:
        torch.cuda.set_sync_debug_mode("default")
    data.edge_index[0, 0] = (data.edge_index[0, 0] + 1) % data.num_nodes
    assert as_graph(data) is not first


def test_a_graph_on_the_cpu_is_refused(gpu):
    nodes, edges, graph = on_mesh(20, 120)()
    model = MeshGraphNet(**MESH, processor_size=1).to(gpu)
    with pytest.raises(ValueError, match="the graph is on cpu and the model on cuda:0"):
        model(nodes.to(gpu), edges.to(gpu), graph)


def test_checkpoint_segments_give_the_same_gradients_in_less_memory(on_gpu, outputs_and_gradients):
    found, peaks = [], []
    for segments in (0, 5):
        arguments = MESH | {"num_processor_checkpoint_segments": segments}
        model, inputs = on_gpu(Case("segments", "MeshGraphNet", arguments, on_mesh(3000, 18000)))
        torch.cuda.reset_peak_memory_stats()
        found.append(outputs_and_gradients(model, model, inputs))
        peaks.append(torch.cuda.max_memory_allocated())
        del model, inputs
    assert all(map(torch.equal, *found))
    assert peaks[1] < 0.6 * peaks[0]
