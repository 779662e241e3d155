# SPDX-License-Identifier: Apache-2.0
"""Padding of faces that cover a sphere, as one fixed linear map of their cells.

Cells are rows of a tensor of shape (batch, rows, channels). Most rows of the result are copies of
one row, a few are sums; so are those of the transposed map, which takes gradients back. Nothing is
added into memory that others add into: results are the same bit by bit each time, on GPUs too.
"""

import operator
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.face_layers._maps import Sources, map_and_transpose

__all__ = ["Sources", "pad_faces"]


def pad_faces(x: Tensor, padding: int, sources: Sources) -> Tensor:
    """Surround faces by cells of their neighbours.

    Parameters
    ----------
    x
        Values of shape (batch, faces, size, size, channels).
    padding
        Width of the rim.
    sources
        The cells, of shape (padded cells, k), whose mean each padded cell is, by size and padding.
        A function of a module, not a new one at each call: what it returns is kept.

    Returns
    -------
    Values of shape (batch, faces, size + 2 padding, size + 2 padding, channels).
    """
    # Numbers, also where PyTorch's compiler would take symbols for them.
    size, padding = operator.index(x.shape[2]), operator.index(padding)
    there, back = map_and_transpose(x, size, padding, sources)
    rows = _mapped(x.flatten(1, 3), *there, *back)
    padded: Tensor = rows.unflatten(1, (-1, size + 2 * padding, size + 2 * padding))
    return padded


def _mapped(x: Tensor, *maps: Tensor) -> Tensor:
    # PyTorch's compiler refuses functions that have a derivative in forward mode.
    kind = _Map if torch.compiler.is_compiling() else _MapWithTangents
    rows: Tensor = kind.apply(x, *maps)  # type: ignore[no-untyped-call]
    return rows


class _Map(torch.autograd.Function):
    """A map of rows, given with its transpose, which is its gradient."""

    @staticmethod
    def forward(  # each by its name, for PyTorch's compiler counts them
        x: Tensor,
        copied: Tensor,
        summed: Tensor,
        terms: Tensor,
        weights: Tensor,
        copied_back: Tensor,
        summed_back: Tensor,
        terms_back: Tensor,
        weights_back: Tensor,
    ) -> Tensor:
        rows = x.index_select(1, copied)
        if summed.numel():
            parts = x.index_select(1, terms.flatten()).unflatten(1, terms.shape)
            # The weights are of single precision at least, and so is the sum.
            total = (weights[..., None] * parts).sum(2)
            rows = rows.index_copy(1, summed, total.to(x.dtype))
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        maps = ctx.saved_tensors  # once: where activations are computed again, they are gone then
        there, back = maps[:4], maps[4:]
        return _mapped(gradient, *back, *there), *(None for _ in maps)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *maps: Tensor) -> tuple[Tensor, int]:
        rows = _mapped(x.movedim(in_dims[0], 0).flatten(0, 1), *maps)
        return rows.unflatten(0, (info.batch_size, -1)), 0


class _MapWithTangents(_Map):
    """The same with a derivative in forward mode, which is the map itself."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _mapped(tangent, *ctx.saved_tensors)
