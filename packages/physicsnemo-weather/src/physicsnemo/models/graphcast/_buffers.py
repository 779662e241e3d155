# SPDX-License-Identifier: Apache-2.0
"""Graphs and features as non-persistent buffers, and their values after moves and casts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.nn.precision import at_least_float32

Part = Any
"""A ``physicsnemo.distributed.Part``, in a model whose graphs are divided over ranks."""
Constants = Mapping[str, Tensor]
"""Values of buffers by their names in the model, on the CPU and in double precision."""


class GraphBuffers(nn.Module):
    """Graph as non-persistent buffers: it follows the model's device and is in no checkpoint.

    Call the module for the graph; or for the part of one, if that is what it was given.
    """

    edge_index: Tensor
    source_perm: Tensor
    source_indptr: Tensor
    target_perm: Tensor
    target_indptr: Tensor

    send: Tensor

    def __init__(self, graph: Graph | Part) -> None:
        super().__init__()
        for name, tensor in graph_tensors(graph).items():
            self.register_buffer(name, tensor.to(torch.get_default_device()), persistent=False)
        self._part = None if isinstance(graph, Graph) else graph
        self._structure = pytree.tree_structure(graph if isinstance(graph, Graph) else graph.graph)

    def forward(self) -> Graph | Part:
        """Return the graph, without sorting its edges again."""
        source, target = self.edge_index
        parts = [self.edge_index, None, None, source, self.source_perm, self.source_indptr]
        parts += [target, self.target_perm, self.target_indptr]
        graph: Graph = pytree.tree_unflatten(parts, self._structure)
        if self._part is None:
            return graph
        return replace(self._part, graph=graph, halo=replace(self._part.halo, send=self.send))


def graph_tensors(graph: Graph | Part) -> dict[str, Tensor]:
    """Return a graph's tensors by their names in :class:`GraphBuffers`."""
    if not isinstance(graph, Graph):
        return graph_tensors(graph.graph) | {"send": graph.halo.send}
    return {
        "edge_index": graph.edge_index,
        "source_perm": graph.source.perm,
        "source_indptr": graph.source.indptr,
        "target_perm": graph.target.perm,
        "target_indptr": graph.target.indptr,
    }


def restore_constants(
    model: nn.Module,
    names: list[str],
    *,
    apply: Callable[[], object],
    make: Callable[[], Constants],
) -> None:
    """Apply a function to a model's tensors, then restore the values of its constants.

    Constants follow the device and the dtype, but not below single precision. They get values again
    where ``to_empty`` leaves none, and the digits that a cast from single to double precision would
    lack.

    Parameters
    ----------
    model
        The model.
    names
        Names of the constant buffers.
    apply
        Applies the function, as ``_apply`` of a module does.
    make
        Makes the constants; called only if their values are needed.
    """
    before = {name: model.get_buffer(name) for name in names}
    apply()
    made: Constants | None = None
    for name, old in before.items():
        new = model.get_buffer(name)
        # Neither moved nor cast, or without values; or one of a trace, which has none either.
        if new is old or new.is_meta or type(new) is not Tensor:
            continue
        dtype = at_least_float32(new.dtype) if new.is_floating_point() else new.dtype
        # Made anew if the old values are missing, or less precise than the new dtype.
        if old.is_meta or torch.promote_types(old.dtype, dtype) != old.dtype:
            made = make() if made is None else made
            old = made[name]
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, old.to(new.device, dtype))
