# SPDX-License-Identifier: Apache-2.0
"""Test what graph networks promise on a GPU: the same bits each time, compiled, in CUDA graphs.

Run it on a machine with a GPU: ``python -m tools.gpu.check_graphs [WORD ...]`` runs the checks
whose name contains all words. PyTorch Geometric is needed for those of its graphs. It prints one
line a check and how many passed.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from physicsnemo import Module
from physicsnemo.models.gnn_layers import Graph, as_graph
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.testing import Case
from physicsnemo.utils import StaticCaptureTraining
from tools.bench.cases import MESH, on_triangles
from tools.cases import all_cases
from tools.gpu.capture_common import log, require
from tools.gpu.checking import gradients, on_gpu, require_same_bits, run, to_gpu

Checks = Iterator[tuple[str, Callable[[], None]]]
WARMUP = 3
STEPS = 20


def checks() -> Checks:
    """Yield the name of each check and the function that raises an error if it fails."""
    networks = [case for case in all_cases() if "MeshGraphNet" in str(case)]
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    for case, dtype in product([*networks, _large()], dtypes):
        yield f"{case}, {dtype}: the same bits each time", partial(_repeat, case, dtype)
    for case in networks:
        yield f"{case}: one compiled graph", partial(_compile, case)
    for kind, compiled in product((_own, _pyg), (False, True)):
        name = f"{kind.__name__[1:]} graph, {'compiled' if compiled else 'plain'}"
        yield f"{name}: captured steps are replays", partial(_capture, kind, compiled)
    yield "graph of another library: sorted once, without waiting later", _adapt_once
    yield "graph on the CPU: refused", _refuse_other_device
    yield "checkpoint segments: the same gradients in less memory", _segments


def _large() -> Case:
    aggregation = {"processor_size": 3, "aggregation": "mean"}
    return Case("large", "MeshGraphNet", MESH | aggregation, on_triangles(50, 60, 11, 3))


def _repeat(case: Case, dtype: torch.dtype) -> None:
    model, inputs = on_gpu(case)
    require_same_bits(model, model, inputs, dtype)


def _compile(case: Case) -> None:
    model, inputs = on_gpu(case)
    expected = gradients(model, model, inputs, torch.float32)
    got = gradients(torch.compile(model, fullgraph=True), model, inputs, torch.float32)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def _capture(kind: Callable[[Graph], Graph], compiled: bool) -> None:
    nodes, edges, graph = to_gpu(on_triangles(20, 30, 11, 3)())
    graph = kind(graph)
    losses = []
    for capture in (False, True):
        torch.manual_seed(0)
        model = MeshGraphNet(**MESH, processor_size=3).cuda()
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        capturing = StaticCaptureTraining(
            model,
            optimizer,
            use_amp=False,
            use_graphs=capture,
            cuda_graph_warmup=WARMUP,
            compile=compiled,
        )
        step = capturing(partial(_loss, model))
        with log() as texts:
            losses.append([step(nodes, edges, graph, nodes[:, :3]).item() for _ in range(STEPS)])
        least = (STEPS - WARMUP - 1) * capture
        require(step.replays() >= least, f"only {step.replays()} replays: {texts}")
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-5)


def _loss(model: Module, nodes: Tensor, edges: Tensor, graph: Any, targets: Tensor) -> Tensor:
    return mse_loss(model(nodes, edges, graph), targets)


def _own(graph: Graph) -> Graph:
    return graph


def _pyg(graph: Graph) -> Graph:
    from torch_geometric.data import Data

    # Captured steps take tensors, which the other library's object hides.
    return as_graph(Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes))


def _adapt_once() -> None:
    from torch_geometric.data import Data

    graph = to_gpu(on_triangles(20, 30, 11, 3)()[2])
    data = Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)
    first = as_graph(data)
    torch.cuda.set_sync_debug_mode("error")
    try:
        require(as_graph(data) is first, "a graph that did not change is sorted again")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    data.edge_index[0, 0] = data.edge_index[0, 1]
    require(as_graph(data) is not first, "an edit in place is not seen")


def _refuse_other_device() -> None:
    nodes, edges, graph = on_triangles(4, 5, 11, 3)()
    model = MeshGraphNet(**MESH, processor_size=1).cuda()
    try:
        model(nodes.cuda(), edges.cuda(), graph)
    except ValueError as error:
        require("the graph is on cpu and the model on cuda:0" in str(error), str(error))
    else:
        raise AssertionError("a graph on another device is taken")


def _segments() -> None:
    _, inputs = on_gpu(_large())
    found, peaks = [], []
    for segments in (0, 5):
        torch.manual_seed(0)
        model = MeshGraphNet(**MESH, num_processor_checkpoint_segments=segments).cuda()
        torch.cuda.reset_peak_memory_stats()
        found.append(gradients(model, model, inputs, torch.float32))
        peaks.append(torch.cuda.max_memory_allocated())
    for one, other in zip(*found, strict=True):
        require(torch.equal(one, other), "gradients differ")
    require(peaks[1] < 0.6 * peaks[0], f"{peaks[1]} bytes at peak instead of {peaks[0]}")


if __name__ == "__main__":
    sys.exit(min(1, run(checks(), tuple(sys.argv[1:]))))
