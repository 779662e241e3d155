# SPDX-License-Identifier: Apache-2.0
"""Graphs divided over processes: who has which nodes, what is exchanged, and in which order."""

from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from physicsnemo.distributed.partition import bisect, part_of, partition, partition_levels


@dataclass
class Links:
    """A graph, as far as dividing it needs one."""

    edge_index: Tensor
    num_nodes: int
    num_targets: int | None = None
    pos: Tensor | None = None
    batch: Tensor | None = None


def cloud(count: int = 41, seed: int = 0) -> Links:
    """Return points in the plane, each joined to the points near it, in any order."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    edges = (torch.cdist(pos, pos) < 0.3).nonzero().T
    return Links(edges[:, torch.randperm(edges.shape[1], generator=generator)], count, pos=pos)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_as_many_nodes_on_each_rank(ranks: int):
    counts = torch.bincount(bisect(cloud().pos, ranks), minlength=ranks)
    assert counts.sum() == 41
    assert counts.max() - counts.min() <= 1


def test_cut_across_the_longest_axis():
    pos = torch.tensor([[0.0, 0.0], [0.1, 4.0], [0.2, 1.0], [0.9, 3.0], [0.5, 2.0], [0.4, 5.0]])
    assert bisect(pos, 2).tolist() == [0, 1, 0, 1, 0, 1]
    assert bisect(pos, 3).tolist() == [0, 2, 0, 1, 1, 2]


def test_equal_positions_are_divided_too_and_always_alike():
    assert bisect(torch.zeros(5, 3), 2).tolist() == [0, 0, 1, 1, 1]


def test_parts_hold_everything_once(processes):
    nodes, edges, halos = zip(*processes.run(divide), strict=True)
    graph = cloud()
    assert sorted(node for part in nodes for node in part) == list(range(graph.num_nodes))
    assert sorted(edge for part in edges for edge in part) == list(range(graph.edge_index.shape[1]))
    for own, part, halo in zip(nodes, edges, halos, strict=True):
        source, target = graph.edge_index[:, part]
        assert set(target.tolist()) <= set(own)
        assert halo == sorted(set(source.tolist()) - set(own))


def divide() -> tuple[list[int], list[int], list[int]]:
    part = partition(cloud(), init_device_mesh("cpu", (dist.get_world_size(),)))
    halo = part.with_halo(part.nodes)[len(part.nodes) :]
    return part.nodes.tolist(), part.edges.tolist(), halo.tolist()


def test_features_follow_edges_and_come_back_in_order(processes):
    processes.run(check_features)


def check_features() -> None:
    graph = cloud()
    part = partition(graph, init_device_mesh("cpu", (dist.get_world_size(),)))
    x = torch.randn(graph.num_nodes, 3, generator=torch.Generator().manual_seed(1))
    own = part.of_nodes(x)
    source, target = graph.edge_index[:, part.edges]
    local_source, local_target = part.graph.edge_index
    torch.testing.assert_close(part.with_halo(own)[local_source], x[source], rtol=0, atol=0)
    torch.testing.assert_close(own[local_target], x[target], rtol=0, atol=0)
    torch.testing.assert_close(part.graph.pos[local_source], graph.pos[source], rtol=0, atol=0)
    torch.testing.assert_close(part.gather(own), x, rtol=0, atol=0)


def test_sums_over_leaving_edges(processes):
    processes.run(check_leaving)


def check_leaving() -> None:
    graph = cloud()
    part = partition(graph, init_device_mesh("cpu", (dist.get_world_size(),)))
    values = torch.arange(float(graph.edge_index.shape[1]), dtype=torch.float64)
    want = torch.zeros(graph.num_nodes, dtype=torch.float64)
    want.index_add_(0, graph.edge_index[0], values)
    local = torch.zeros(part.graph.num_nodes, dtype=torch.float64)
    local.index_add_(0, part.graph.edge_index[0], values[part.edges])
    torch.testing.assert_close(part.add_halo(local), want[part.nodes], rtol=0, atol=0)


def test_gradients_of_the_halo_go_to_its_owners(processes):
    processes.run(check_gradients)


def check_gradients() -> None:
    graph = cloud()
    part = partition(graph, init_device_mesh("cpu", (dist.get_world_size(),)))
    x = torch.ones(len(part.nodes), dtype=torch.float64, requires_grad=True)
    part.with_halo(x)[part.graph.edge_index[0]].sum().backward()
    leaving = torch.bincount(graph.edge_index[0], minlength=graph.num_nodes)
    torch.testing.assert_close(x.grad, leaving[part.nodes].double(), rtol=0, atol=0)
    y = torch.ones(part.graph.num_nodes, dtype=torch.float64, requires_grad=True)
    (part.add_halo(y) * part.nodes).sum().backward()
    torch.testing.assert_close(y.grad, part.with_halo(part.nodes).double(), rtol=0, atol=0)


def test_coarser_nodes_stay_on_their_rank(processes):
    processes.run(check_levels)


def check_levels() -> None:
    graph = cloud()
    part = partition(graph, init_device_mesh("cpu", (dist.get_world_size(),)))
    # Kept nodes in falling order, so that no order is right by chance.
    ids = [torch.arange(40, -1, -3), torch.arange(12, -1, -5)]
    coarser = [Links(torch.tensor([[0, 1, 2], [1, 2, 0]]), len(kept)) for kept in ids]
    parts, kept = partition_levels(part, [graph, *coarser], ids)
    x = torch.arange(graph.num_nodes)
    for finer, coarse, whole, own in zip(parts[:-1], parts[1:], ids, kept, strict=True):
        torch.testing.assert_close(finer.of_nodes(x)[own], coarse.of_nodes(x[whole]))
        x = x[whole]
    with pytest.raises(ValueError, match="one graph more than ids, got 3 and 1"):
        partition_levels(part, [graph, *coarser], ids[:1])


def test_sources_and_targets_of_two_kinds(processes):
    processes.run(check_bipartite)


def check_bipartite() -> None:
    edges = torch.tensor([[0, 1, 2, 3, 4, 4], [1, 0, 0, 1, 2, 0]])
    sources, targets = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 0, 1])
    part = part_of(Links(edges, 5, 3), sources, targets, dist.group.WORLD)
    x = torch.tensor([10.0, 11.0, 12.0, 13.0, 14.0])[sources == dist.get_rank()]
    seen = part.with_halo(x)[part.graph.edge_index[0]]
    if dist.get_rank() == 0:
        assert part.nodes.tolist() == [1]
        assert seen.tolist() == [10.0, 13.0]
    else:
        assert part.nodes.tolist() == [0, 2]
        assert seen.tolist() == [11.0, 12.0, 14.0, 14.0]
        assert part.graph.edge_index[1].tolist() == [0, 0, 1, 0]
    assert part.gather(part.nodes * 10.0).tolist() == [0.0, 10.0, 20.0]


def test_what_cannot_be_divided(processes):
    processes.run(check_errors)


def check_errors() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    graph = cloud()
    with pytest.raises(ValueError, match=r"positions of the graph's 41 nodes, got \(40, 2\)"):
        partition(graph, mesh, positions=graph.pos[1:])
    with pytest.raises(ValueError, match="nodes, got None"):
        partition(Links(graph.edge_index, 41), mesh)
    with pytest.raises(ValueError, match="at least one node a rank, got 1 for 2"):
        partition(Links(torch.zeros(2, 1, dtype=torch.long), 1, pos=torch.zeros(1, 2)), mesh)
