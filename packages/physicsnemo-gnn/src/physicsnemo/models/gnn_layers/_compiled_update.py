# SPDX-License-Identifier: Apache-2.0
"""Which features plus an MLP of them are computed by one kernel, where they are compiled."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.nn.tracing import assume_constant_result, is_exporting

_ACTIVATIONS = (nn.ReLU, nn.SiLU)
_HALVES = (torch.float16, torch.bfloat16)


def compiled_update(
    x: Tensor,
    added: tuple[Tensor, ...],
    graph: Graph | None,
    weight: Tensor,
    layers: Iterable[nn.Module],
) -> Tensor | None:
    """Return features plus an MLP of them by one kernel, or None if there is none for them.

    Parameters
    ----------
    x
        Features, of shape (rows, width).
    added
        What the first layer adds to ``x @ weight.T``, of shape (rows, width); with a graph, what it
        makes of source nodes and of target nodes, before that is gathered.
    graph
        The graph whose edges the rows are, if so. Their features are updated in half precision, for
        they are most of what is read and written.
    weight
        Part of the first layer's weight.
    layers
        All layers that follow.
    """
    if not torch.compiler.is_compiling() or is_exporting() or not x.is_cuda:
        return None
    layers = list(layers)
    if graph is not None:
        x = x.to(added[0].dtype)
    fits = _is_served(layers, x.shape[-1]) and _fits(x, added, graph, weight)
    if not (fits and _has_kernel(x.device)):
        return None
    # Not before: it imports PyTorch's compiler for GPUs.
    from physicsnemo.models.gnn_layers import _mlp_update

    activation, *middle, last, norm = layers
    sources, targets = added if graph is not None else (*added, None)
    return _mlp_update.mlp_update(  # type: ignore[no-any-return]
        x,
        sources,
        targets,
        [] if graph is None else [*graph.source, *graph.target],
        weight,
        middle[0].weight if middle else None,
        middle[0].bias if middle else None,
        last.weight,
        last.bias,
        norm.weight,
        norm.bias,
        norm.eps,
        isinstance(activation, nn.SiLU),
        torch.is_grad_enabled(),
    )[0]


def _is_served(layers: list[nn.Module], width: int) -> bool:
    """Return whether the layers are one or two of this width, normalized, and just layers."""
    kinds = [type(layer) for layer in layers]
    activation = kinds[0]
    one, two = ([activation, nn.Linear] * number + [nn.LayerNorm] for number in (1, 2))
    if activation not in _ACTIVATIONS or kinds not in (one, two):
        return False
    # Not a weight of many processes, or one that a hook makes.
    shapes = {nn.Linear: (width, width), nn.LayerNorm: (width,)}
    return not any(map(_has_hooks, layers)) and all(
        type(layer.weight) is nn.Parameter
        and layer.weight.shape == shapes[type(layer)]
        and layer.bias is not None
        for layer in layers
        if type(layer) in shapes
    )


def _has_hooks(layer: nn.Module) -> bool:
    """Return whether a layer calls more than its function, of which the kernel knows nothing."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def _fits(x: Tensor, added: tuple[Tensor, ...], graph: Graph | None, weight: Tensor) -> bool:
    """Return whether shapes and precisions are those of the kernel."""
    rows, width = x.shape[0], x.shape[-1]
    counts = [rows] if graph is None else [graph.source.num_nodes, graph.target.num_nodes]
    return (
        x.ndim == 2
        and 16 <= width <= 128
        and width & (width - 1) == 0
        and weight.shape == (width, width)
        and (graph is None or graph.source.node.shape[0] == rows)
        and [part.shape for part in added] == [(count, width) for count in counts]
        and all(part.dtype in _HALVES and part.dtype == added[0].dtype for part in added)
        and x.dtype in (torch.float32, added[0].dtype)
        and not torch._C._are_functorch_transforms_active()
    )


@assume_constant_result
def _has_kernel(device: torch.device) -> bool:
    """Return whether a GPU is of the kind that the kernel is made for, and Triton is there."""
    if torch.cuda.get_device_capability(device)[0] != 9:
        return False
    from physicsnemo.models.gnn_layers import _mlp_update

    return _mlp_update.IS_AVAILABLE
