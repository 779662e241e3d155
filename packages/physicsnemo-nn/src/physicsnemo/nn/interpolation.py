# SPDX-License-Identifier: Apache-2.0
"""Values of fields on regular grids at any points."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_at_least, check_choice, check_input

__all__ = ["interpolation"]


def interpolation(
    query_points: Tensor,
    context_grid: Tensor,
    grid: Sequence[tuple[float, float, int]],
    interpolation_type: str = "smooth_step_2",
) -> Tensor:
    """Interpolate fields on a regular grid to any points.

    Beyond the ends of the grid, the field goes on with its value there.

    Parameters
    ----------
    query_points
        Coordinates of shape (points, axes).
    context_grid
        Fields of shape (channels, *grid).
    grid
        Of each axis, the coordinates of its first and last node, and the number of nodes, two or
        more.
    interpolation_type
        How the nodes around a point are weighted along each axis: ``nearest_neighbor``;
        ``linear``; ``smooth_step_1``, whose first derivative is continuous, and
        ``smooth_step_2``, whose second is, too, by polynomials of degree 3 and 5 that are flat at
        nodes; ``gaussian``, a mean over five nodes with the weights of a normal distribution, whose
        standard deviation is the distance between nodes.

    Returns
    -------
    Values of shape (points, channels).

    Raises
    ------
    ValueError
        If a shape does not fit the grid, an axis has fewer than two nodes or ends where it begins,
        or there is no such type.

    References
    ----------
    Perlin 1985, An image synthesizer, and 2002, Improving noise (smooth steps).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.interpolation import interpolation
    >>> field = torch.tensor([[0.0, 1.0, 4.0]])
    >>> interpolation(torch.tensor([[0.25], [1.0]]), field, [(0.0, 1.0, 3)], "linear")
    tensor([[0.5000],
            [4.0000]])
    """
    check_choice("interpolation_type", interpolation_type, _WEIGHTS)
    for axis, (first, last, count) in enumerate(grid):
        check_at_least(2, **{f"grid[{axis}][2]": count})
        if not first < last:
            raise ValueError(f"expected grid[{axis}] to begin below its end, got {grid[axis]}")
    points = {"points": None, "axes": len(grid)}
    check_input(query_points, points, context_grid, name="query_points")
    fields = {"channels": None} | {f"n{axis}": n for axis, (*_, n) in enumerate(grid, start=1)}
    check_input(context_grid, fields, query_points, name="context_grid")

    along_axes = []
    for coordinates, (first, last, count) in zip(query_points.unbind(1), grid, strict=True):
        place = (coordinates - first) * ((count - 1) / (last - first))
        along_axes.append(_WEIGHTS[interpolation_type](place.clamp(0, count - 1), count))
    values = torch.zeros_like(query_points[:, :1] * context_grid.flatten()[:1])
    for nodes in product(*[range(weights.shape[1]) for _, weights in along_axes]):
        at = (node[:, i] for (node, _), i in zip(along_axes, nodes, strict=True))
        index: tuple[slice | Tensor, ...] = (slice(None), *at)
        weight = torch.stack([w[:, i] for (_, w), i in zip(along_axes, nodes, strict=True)])
        values = values + (weight.prod(dim=0) * context_grid[index]).T
    return values


def _nearest(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    node = place.detach().round().long()
    return node[:, None], torch.ones_like(place)[:, None]


def _between(step: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """Return the nodes on both sides of places, with weights by a step from 0 to 1 in between."""

    def weights(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
        node = place.detach().floor().long().clamp(max=count - 2)
        upper = step(place - node)
        return torch.stack((node, node + 1), dim=1), torch.stack((1 - upper, upper), dim=1)

    return weights


def _gaussian(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    node = place.detach().round().long()[:, None] + torch.arange(-2, 3, device=place.device)
    weights = torch.exp(-0.5 * (place[:, None] - node).square())
    weights = torch.where((node >= 0) & (node < count), weights, 0.0)
    return node.clamp(0, count - 1), weights / weights.sum(dim=1, keepdim=True)


_WEIGHTS: dict[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {
    "nearest_neighbor": _nearest,
    "linear": _between(lambda t: t),
    "smooth_step_1": _between(lambda t: t * t * (3 - 2 * t)),
    "smooth_step_2": _between(lambda t: t * t * t * (t * (6 * t - 15) + 10)),
    "gaussian": _gaussian,
}
