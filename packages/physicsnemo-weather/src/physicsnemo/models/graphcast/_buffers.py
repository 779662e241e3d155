# SPDX-License-Identifier: Apache-2.0
"""Graphs and other constants as parts of a model."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.nn.precision import at_least_float32

Constants = Mapping[str, Tensor]
"""Buffers by their names in the model, on the CPU; numbers in double precision."""


class GraphBuffers(nn.Module):
    """Holds a graph that moves with the model from device to device and is in no checkpoint.

    Call it for the graph.
    """

    edge_index: Tensor
    source_perm: Tensor
    source_indptr: Tensor
    target_perm: Tensor
    target_indptr: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        for name, tensor in graph_tensors(graph).items():
            self.register_buffer(name, tensor.to(torch.get_default_device()), persistent=False)
        self._structure = pytree.tree_structure(graph)

    def forward(self) -> Graph:
        """Return the graph; its edges are not sorted again."""
        source, target = self.edge_index
        parts = [self.edge_index, None, None, source, self.source_perm, self.source_indptr]
        parts += [target, self.target_perm, self.target_indptr]
        graph: Graph = pytree.tree_unflatten(parts, self._structure)
        return graph


def graph_tensors(graph: Graph) -> dict[str, Tensor]:
    """Return the tensors of a graph by their names in :class:`GraphBuffers`."""
    return {
        "edge_index": graph.edge_index,
        "source_perm": graph.source.perm,
        "source_indptr": graph.source.indptr,
        "target_perm": graph.target.perm,
        "target_indptr": graph.target.indptr,
    }


def keep_constants(
    model: nn.Module, names: list[str], apply: Callable[[], object], make: Callable[[], Constants]
) -> None:
    """Apply a function to the tensors of a model, then give its constants their values again.

    They follow devices and types, but never below single precision. What ``to_empty`` leaves
    without values has them again, and double precision is that of the constants as they are made,
    not of single precision converted.

    Parameters
    ----------
    model
        The model.
    names
        The names of its constants.
    apply
        What applies the function.
    make
        What makes the constants, called where it is needed.
    """
    before = {name: model.get_buffer(name) for name in names}
    apply()
    made: Constants | None = None
    for name, old in before.items():
        new = model.get_buffer(name)
        if new is old or new.is_meta or type(new) is not Tensor:
            continue
        dtype = at_least_float32(new.dtype) if new.is_floating_point() else new.dtype
        if old.is_meta or torch.promote_types(old.dtype, dtype) != old.dtype:
            made = make() if made is None else made
            old = made[name]
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, old.to(new.device, dtype))
