# SPDX-License-Identifier: Apache-2.0
"""Time how long graphs of other libraries take to adapt: ``python -m tools.bench.adapters``.

The first call sorts the edges; repeated calls find them sorted. Beside them stands a forward pass
of one step of message passing.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.benchmark import Timer

from physicsnemo.models.gnn_layers import Graph, as_graph
from physicsnemo.models.meshgraphnet import MeshGraphNet
from tools.bench.cases import MESH, on_triangles
from tools.bench.report import duration, show

COLUMNS = ("graph", "first call", "repeated call", "one step of message passing")


def main() -> None:
    """Time all adapters that can be had here."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.adapters", description=__doc__)
    parser.add_argument("--rows", type=int, default=100, help="of nodes in the mesh")
    parser.add_argument("--columns", type=int, default=200, help="of nodes in the mesh")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    options = parser.parse_args()
    nodes, edges, graph = on_triangles(options.rows, options.columns, 11, 3)()
    graph = graph.to(options.device)
    model = MeshGraphNet(**MESH, processor_size=1).to(options.device)
    inputs = nodes.to(options.device), edges.to(options.device)
    kinds: dict[str, Callable[[Graph], Any]] = {"Graph": _copy, "Data (PyG)": _pyg}
    if sys.version_info < (3, 12):  # the newest Python that DGL is built for is 3.11
        kinds["DGLGraph"] = _dgl
    rows = [_row(name, make, graph, partial(model, *inputs)) for name, make in kinds.items()]
    title = f"{graph.num_nodes} nodes, {graph.num_edges} edges, {options.device}"
    show(title, COLUMNS, rows)


def _row(
    name: str, make: Callable[[Graph], Any], graph: Graph, forward: Callable[..., Any]
) -> tuple[str, ...]:
    other = make(graph)
    making = _time(partial(make, graph))
    making_and_adapting = _time(lambda: as_graph(make(graph)))
    # Of this library's own graphs, making one is what sorts the edges.
    first = making if isinstance(other, Graph) else making_and_adapting - making
    with torch.no_grad():
        return (
            name,
            duration(first),
            duration(_time(partial(as_graph, other))),
            duration(_time(partial(forward, other))),
        )


def _time(function: Callable[[], Any]) -> float:
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=0.5).median)


def _copy(graph: Graph) -> Graph:
    return Graph(graph.edge_index, graph.num_nodes)


def _pyg(graph: Graph) -> Any:
    from torch_geometric.data import Data

    return Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)


def _dgl(graph: Graph) -> Any:
    import dgl

    return dgl.graph(tuple(graph.edge_index), num_nodes=graph.num_nodes)


if __name__ == "__main__":
    main()
