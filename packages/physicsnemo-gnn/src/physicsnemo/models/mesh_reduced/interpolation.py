# SPDX-License-Identifier: Apache-2.0
"""k-nearest-neighbor interpolation between point sets."""

from typing import NamedTuple

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.checks import can_read, check_dense
from physicsnemo.models.gnn_layers.graph import Incidence
from physicsnemo.models.gnn_layers.messages import gather
from physicsnemo.nn.checks import check_at_least
from physicsnemo.nn.precision import at_least_float32

__all__ = ["Interpolation", "knn_interpolate"]

# Number of distances in memory at a time.
_CHUNK = 2**24


class Interpolation(NamedTuple):
    """Interpolated features, with the neighbors and weights that they were computed from.

    Parameters
    ----------
    y
        Interpolated features, of shape (new points, channels).
    x_idx, y_idx
        Indices of each pair of a source point and a new point, grouped by new point, nearest first;
        both of shape (pairs,).
    weights
        Weight of each pair, not normalized, of shape (pairs, 1).
    """

    y: Tensor
    x_idx: Tensor
    y_idx: Tensor
    weights: Tensor


def knn_interpolate(
    x: Tensor,
    pos_x: Tensor,
    pos_y: Tensor,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
    k: int = 3,
    num_workers: int = 1,
) -> Interpolation:
    r"""Interpolate features by inverse squared distances to the k nearest neighbors.

    With distances :math:`d_i`, the result is :math:`\sum_i w_i x_i / \sum_i w_i`, where
    :math:`w_i = 1 / \max(d_i^2, 10^{-16})`. Neighbors are found by brute force, in chunks.
    Gradients flow to the features only.

    Parameters
    ----------
    x
        Features of shape (points, channels).
    pos_x
        Their positions, of shape (points, dimensions).
    pos_y
        Positions of the new points, of shape (new points, dimensions).
    batch_x, batch_y
        Sample index of each point and each new point, integers; by default, there is one sample.
        Points of other samples are ignored, NaN included; a sample without points gives NaN.
    k
        Number of neighbors, or all points if a sample has fewer.
    num_workers
        Ignored; PyTorch manages threads.

    Raises
    ------
    TypeError
        If features or positions are no tensors.
    ValueError
        If shapes do not fit each other, ``k`` is below 1, only one batch is given, there are no
        points, or a position is not finite.

    References
    ----------
    Qi et al. 2017, PointNet++, arXiv:1706.02413, eq. (2).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.mesh_reduced import knn_interpolate
    >>> line = torch.tensor([[0.0], [1.0], [2.0]])
    >>> knn_interpolate(10 * line, line, torch.tensor([[0.5], [2.0]]), k=2).y
    tensor([[ 5.],
            [20.]])
    """
    _check(x, pos_x, pos_y, batch_x=batch_x, batch_y=batch_y)
    check_at_least(1, k=k)
    nearest = nearest_points(pos_x, pos_y, k, batch_x=batch_x, batch_y=batch_y)
    y = weighted_mean(x, nearest)
    x_idx, weights = nearest
    y_idx = torch.arange(x_idx.shape[0], device=x.device)[:, None].expand_as(x_idx)
    if batch_x is not None:
        found = weights > 0
        x_idx, y_idx, weights = x_idx[found], y_idx[found], weights[found]
    return Interpolation(
        y, x_idx=x_idx.flatten(), y_idx=y_idx.flatten(), weights=weights.view(-1, 1)
    )


class Nearest(NamedTuple):
    """Nearest neighbors of each new point, and their weights, both of shape (new points, k)."""

    points: Tensor
    weights: Tensor


@torch.no_grad()
def nearest_points(
    pos_x: Tensor,
    pos_y: Tensor,
    k: int,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
) -> Nearest:
    """Find the nearest neighbors of each new point; the weight of other samples' points is 0."""
    _check_positions(pos_x, pos_y)
    dtype = at_least_float32(torch.promote_types(pos_x.dtype, pos_y.dtype))
    pos_x, pos_y = pos_x.detach().to(dtype), pos_y.detach().to(dtype)  # from forward mode, too
    size = max(1, _CHUNK // max(1, pos_x.shape[0]))
    blocks = []
    for start in range(0, max(1, pos_y.shape[0]), size):
        rows = slice(start, start + size)
        distance = _distances(pos_y[rows], pos_x)
        if batch_x is not None and batch_y is not None:
            distance = distance.masked_fill(batch_y[rows, None] != batch_x, torch.inf)
        blocks.append(distance.topk(min(k, pos_x.shape[0]), largest=False))
    distance = torch.cat([block.values for block in blocks])
    points = torch.cat([block.indices for block in blocks])
    return Nearest(points, 1 / distance.square().clamp(min=1e-16))


def weighted_mean(x: Tensor, nearest: Nearest) -> Tensor:
    """Return the weighted mean of the neighbors' features, ignoring those of weight 0, NaN too.

    Parameters
    ----------
    x
        Features of shape (points, ..., channels).
    nearest
        The neighbors and their weights.

    Returns
    -------
    Features of shape (new points, ..., channels).
    """
    points, weights = nearest
    ends = Incidence.of(points.flatten(), x.shape[0])
    shares = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
    values = gather(x, ends).unflatten(0, points.shape)
    ignored = (weights == 0).view(*points.shape, *[1] * (x.ndim - 1))
    values = values.masked_fill(ignored, 0)  # zero times NaN is not zero
    return torch.einsum("nk,nk...->n...", shares, values)


def _distances(pos_y: Tensor, pos_x: Tensor) -> Tensor:
    # From differences: |a|^2 + |b|^2 - 2ab, as matrix units compute it, cancels for close points.
    return torch.cdist(pos_y, pos_x, compute_mode="donot_use_mm_for_euclid_dist")


def _check(
    x: Tensor, pos_x: Tensor, pos_y: Tensor, *, batch_x: Tensor | None, batch_y: Tensor | None
) -> None:
    for name, tensor in (("x", x), ("pos_x", pos_x), ("pos_y", pos_y)):
        check_dense(tensor, name)
    if x.ndim != 2 or x.shape[0] != pos_x.shape[0]:
        raise ValueError(
            f"expected x of shape (points, channels), with {pos_x.shape[0]} points as pos_x has, "
            f"got {tuple(x.shape)}"
        )
    if (batch_x is None) != (batch_y is None):
        raise ValueError("expected both batch_x and batch_y or neither, got one of them")
    for name, batch, pos in (("batch_x", batch_x, pos_x), ("batch_y", batch_y, pos_y)):
        if batch is not None and batch.shape != pos.shape[:1]:
            raise ValueError(
                f"expected {name} of shape ({pos.shape[0]},), got {tuple(batch.shape)}"
            )


def _check_positions(pos_x: Tensor, pos_y: Tensor) -> None:
    shapes = f"{tuple(pos_x.shape)} and {tuple(pos_y.shape)}"
    if pos_x.ndim != 2 or pos_y.ndim != 2 or pos_x.shape[1] != pos_y.shape[1]:
        raise ValueError(
            f"expected two sets of positions of shape (points, dimensions) with equally many "
            f"dimensions, got {shapes}"
        )
    if not pos_x.shape[0]:
        raise ValueError(f"expected points to interpolate from, got positions of shapes {shapes}")
    for name, pos in (("first", pos_x), ("second", pos_y)):
        if can_read(pos) and not pos.isfinite().all():
            raise ValueError(f"expected finite positions, got NaN or infinity in the {name} ones")
    if pos_x.device != pos_y.device:
        raise ValueError(
            f"expected positions on one device, got {pos_x.device} and {pos_y.device}; move one "
            f"of them"
        )
