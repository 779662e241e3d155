# SPDX-License-Identifier: Apache-2.0
"""Flow past a cylinder in a channel, each time with another cylinder, inflow and mesh.

As in Pfaff et al. 2021, Learning mesh-based simulation with graph networks, arXiv:2010.03409,
appendix A.1, states are 0.01 s apart. The paper does not state ranges; here they are::

    radius 0.04 to 0.08, center 0.2 to 0.4 along a channel of 1.6 by 0.41, and off its middle by up
    to 0.06 (m); inflow parabolic with a peak of 0.5 to 1.5 m/s; viscosity 0.001 m²/s

so that the Reynolds number, of the mean inflow and the diameter, is 27 to 160.
"""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from reproductions.data.cache import cached_tensors
from reproductions.data.incompressible import Array, Flow, Numbers
from reproductions.data.triangles import Channel, Spacing, triangulate

STEP, VISCOSITY = 0.01, 1e-3  # in s, and in m²/s
KINDS = ("fluid", "wall", "inflow", "outflow")
FLUID, WALL, INFLOW, OUTFLOW = range(4)


@dataclass(frozen=True)
class Setting:
    """What trajectories have in common.

    Parameters
    ----------
    spacing
        Of the nodes.
    states
        How many states are kept.
    """

    spacing: Spacing
    states: int

    @property
    def name(self) -> str:
        """Tell settings apart."""
        it = self.spacing
        return f"{it.near}-{it.far}-{it.growth}-{it.wake}-{self.states}"


@dataclass(frozen=True)
class Trajectory:
    """States on one mesh.

    Parameters
    ----------
    nodes
        Places of the nodes, in m, of shape (nodes, 2).
    triangles
        Their corners, of shape (triangles, 3).
    kind
        Of each node, an index of ``KINDS``, of shape (nodes,).
    states
        Velocity in m/s, and pressure over density in m²/s², of shape (times, nodes, 3).
    """

    nodes: Tensor
    triangles: Tensor
    kind: Tensor
    states: Tensor


def trajectories(
    setting: Setting, number: int, seed: int, processes: int, seconds: float = math.inf
) -> list[Trajectory]:
    """Compute trajectories, or take them from the disk.

    Parameters
    ----------
    setting, number, seed
        What to compute: the n-th trajectory is the same for every number.
    processes
        How many to use.
    seconds
        After that time, no more trajectories are begun, and so there are fewer.
    """
    end = time.time() + seconds
    compute = partial(_trajectory_before, setting, seed, end)
    with workers(processes) as pool:
        done = list(pool.map(compute, range(number)))
    return [trajectory(setting, seed, index) for index in range(number) if done[index]]


def trajectory(setting: Setting, seed: int, index: int) -> Trajectory:
    """Compute one trajectory, or take it from the disk."""
    name = f"cylinder-flow-{setting.name}/{seed}-{index}"
    return Trajectory(**cached_tensors(name, lambda: _simulate(setting, seed, index)))


@contextmanager
def workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open processes of one thread each: NumPy's libraries read how many when they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def fastest(channel: Channel, peak: float) -> float:
    """Return the speed, in m/s, of an inflow with that peak beside the cylinder."""
    return peak / (1 - 2 * channel.radius / channel.height)


def steps(speed: float, spacing: Spacing) -> int:
    """Return how many steps make ``STEP``, for a flow of that speed (m/s) to be stable.

    In a step of length t, a wave with wave number k that is carried along at a speed u grows like
    (u k t)⁴, since convection is extrapolated from two times, and the viscosity c damps it like
    c k² t. So u t has to be below a multiple of (c k / u)^(1/3) / k, where 1 / k is about an edge.
    A tenth of an edge, up to a Reynolds number of 18, was found by trial: with steps longer by a
    quarter, the fastest flows are unstable.
    """
    reynolds = speed * spacing.near / VISCOSITY
    crossed: float = 0.1 * spacing.near * min(1.0, math.cbrt(18 / reynolds))
    return math.ceil(STEP * speed / crossed)


def flow(
    channel: Channel, peak: float, spacing: Spacing, seed: int, finer: int = 1
) -> tuple[Flow, Tensor, int]:
    """Return the flow through a channel before its first step, and what is on its mesh.

    Returns
    -------
    The flow; the kinds of the velocity's degrees of freedom; and how many steps make ``STEP``:
    ``finer`` times as many as are known to do.
    """
    mesh = triangulate(channel, spacing, seed)
    count = finer * steps(fastest(channel, peak), spacing)
    result = Flow(mesh, VISCOSITY, STEP / count)
    kind = kinds(channel, result.places, result.boundary)
    fixed = np.flatnonzero((kind == WALL) | (kind == INFLOW))
    values = np.zeros((len(fixed), 2))
    y = result.places[1, fixed] / channel.height
    values[:, 0] = np.where(kind[fixed] == INFLOW, 4 * peak * y * (1 - y), 0)
    result.enclose(fixed, values, np.flatnonzero(mesh.p[0] > channel.length - 1e-9))
    return result, torch.from_numpy(kind), count


def kinds(channel: Channel, places: Array, boundary: Numbers) -> Numbers:
    """Return what is at each place: corners of the channel are wall."""
    x, y = places
    kind = np.full(len(x), FLUID)
    kind[boundary] = WALL
    between = (y > 1e-9) & (y < channel.height - 1e-9)
    kind[between & (x < 1e-9)] = INFLOW
    kind[between & (x > channel.length - 1e-9)] = OUTFLOW
    return kind


def benchmark(peak: float, spacing: Spacing, seconds: float, length: float = 2.2) -> Array:
    """Compute the benchmark of Schäfer & Turek 1996, flow around a cylinder, cases 2D-1 and 2D-2.

    Parameters
    ----------
    peak
        Of the inflow: 0.3 m/s in the case 2D-1, which becomes steady, and 1.5 m/s in 2D-2.
    spacing
        Of the nodes.
    seconds
        How long to compute.
    length
        Of the channel, in m.

    Returns
    -------
    Times; coefficients of drag and of lift; and the difference of pressure between the front and
    the back of the cylinder, in m²/s², of shape (4, steps).
    """
    channel = Channel(0.2, 0.2, 0.05, length)
    found, kind, count = flow(channel, peak, spacing, seed=0)
    places = found.places
    near = channel.beside_cylinder(places) < spacing.near / 4
    cylinder = np.flatnonzero((kind.numpy() == WALL) & near)
    ends = [
        np.hypot(*(places[:, found.nodes].T - it).T).argmin() for it in ((0.15, 0.2), (0.25, 0.2))
    ]
    scale = 2 / ((2 / 3 * peak) ** 2 * 2 * channel.radius)
    state, rows = found.at_rest(), []
    for step in range(round(seconds / STEP) * count):
        state = found.advance(state)
        drag, lift = scale * found.force_on(cylinder, state)
        front, back = state.pressure[ends]
        rows.append(((step + 1) * found.step, drag, lift, front - back))
    return np.array(rows).T


def strouhal(times: Array, lift: Array, peak: float) -> float:
    """Return the frequency of a lift times the diameter over the mean inflow, 0 if steady."""
    swing = lift - lift.mean()
    (up,) = np.nonzero((swing[:-1] < 0) & (swing[1:] >= 0))
    share = swing[up] / (swing[up] - swing[up + 1])
    crossings = times[up] + share * (times[1] - times[0])
    if len(crossings) < 2:
        return 0.0
    return float(0.1 / (np.diff(crossings).mean() * 2 / 3 * peak))


def _trajectory_before(setting: Setting, seed: int, end: float, index: int) -> bool:
    """Compute a trajectory unless it is too late, and tell whether it is there."""
    if time.time() < end:
        trajectory(setting, seed, index)
        return True
    return False


def _simulate(setting: Setting, seed: int, index: int) -> dict[str, Tensor]:
    rng = np.random.default_rng((seed, index))
    radius = rng.uniform(0.04, 0.08)
    channel = Channel(rng.uniform(0.2, 0.4), Channel.height / 2 + rng.uniform(-0.06, 0.06), radius)
    mesh_seed = int(rng.integers(2**31))
    peak = rng.uniform(0.5, 1.5)
    try:
        return _states(setting, channel, peak, mesh_seed)
    except FloatingPointError:  # by a mesh that is finer somewhere than it should be
        return _states(setting, channel, peak, mesh_seed, finer=2)


def _states(
    setting: Setting, channel: Channel, peak: float, mesh_seed: int, finer: int = 1
) -> dict[str, Tensor]:
    found, kind, count = flow(channel, peak, setting.spacing, mesh_seed, finer)
    limit = 2 * fastest(channel, peak)
    state, states = found.at_rest(), []
    for _ in range(setting.states):
        # Flows are up to 1.2 times as fast as that: this is soon beyond all numbers.
        if not abs(state.velocity).max() < limit:
            raise FloatingPointError(f"unstable flow: more than {limit:.2f} m/s in {channel}")
        states.append(np.hstack((state.velocity[found.nodes], state.pressure[:, None])))
        for _ in range(count):
            state = found.advance(state)
    return {
        "nodes": torch.from_numpy(found.mesh.p.T.copy()).float(),
        "triangles": torch.from_numpy(found.mesh.t.T.copy()).int(),
        "kind": kind[found.nodes],
        "states": torch.from_numpy(np.stack(states)).float(),
    }
