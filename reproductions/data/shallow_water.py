# SPDX-License-Identifier: Apache-2.0
r"""Shallow water equations on a rotating sphere, by spherical harmonics.

For the height :math:`h` above a mean depth :math:`H`, the vorticity :math:`\zeta` and the
divergence :math:`\delta` of the wind :math:`v`, with :math:`F = (\zeta + f) v`:

.. math::
    \partial_t h = -\nabla \cdot ((H + h) v), \quad
    \partial_t \zeta = -\nabla \cdot F, \quad
    \partial_t \delta = k \cdot \nabla \times F - \nabla^2 (g h + |v|^2 / 2)

Bonev et al. 2023, arXiv:2306.03838: random Gaussian fields on a planet of the radius and rotation
of the Earth. The transform method is that of Bourke 1972, Mon. Weather Rev. 100, 683-689.

A state is a complex tensor of shape (samples, 3, degrees, degrees): the coefficients of height (m),
vorticity and divergence (1/s) by degree and order, in the orthonormal harmonics of
:class:`physicsnemo.models.sfno.RealSHT`.
"""

import math

import torch
from torch import Tensor

from physicsnemo.models.sfno import InverseRealSHT, RealSHT, SphericalGrid
from reproductions.data.random_fields import white_noise

RADIUS = 6.37122e6  # of the Earth, in m
ROTATION = 7.292e-5  # of the Earth, in 1/s
GRAVITY = 9.80616  # in m/s²
DEPTH = 1e4  # mean depth, in m: waves travel with 313 m/s
STEP = 5000.0  # of time in s, by the number of degrees: the fastest wave turns by 0.25
BATCH = 256  # solved at a time, which bounds the memory
DAMPING = 7200.0  # time in which the smallest waves of the wind fade by e, in s


def trajectories(
    number: int, degrees: int, hours: int, seed: int, device: str | torch.device = "cpu"
) -> Tensor:
    """Draw initial states and solve for the state at each hour from 0 on.

    Returns
    -------
    States of shape (number, hours + 1, 3, degrees, degrees), complex in double precision.
    """
    solver, found = ShallowWater(degrees, device), []
    for noise in white_noise((number, 3, degrees, degrees, 2), seed).split(BATCH):
        states = [solver.random_states(noise.to(device))]
        for _ in range(hours):
            states.append(solver.advance(states[-1], 3600.0))
        found.append(torch.stack(states, dim=1))
    return torch.cat(found)


class ShallowWater:
    """Shallow water equations, truncated to the degrees below a number.

    Parameters
    ----------
    degrees
        Number of degrees and of orders, from 0 on.
    device
        Where to compute, in float64.
    rotation
        Angular velocity of the planet, in 1/s.
    damping
        Time in s in which the wind at the highest degree fades by a factor e; the rate grows with
        the fourth power of the Laplacian's eigenvalues. ``math.inf`` for none.
    """

    def __init__(
        self,
        degrees: int,
        device: str | torch.device = "cpu",
        *,
        rotation: float = ROTATION,
        damping: float = DAMPING,
    ) -> None:
        self.degrees = degrees
        # Products of two fields, and of these with a harmonic, are integrated exactly.
        self.grid = SphericalGrid((3 * degrees + 1) // 2 + 1, 3 * degrees, "legendre-gauss")
        # The wind times the cosine of the latitude has one degree more than its potentials.
        self._to_modes = RealSHT(self.grid, degrees + 1, degrees).double().to(device)
        self._to_grid = InverseRealSHT(self.grid, degrees + 1, degrees).double().to(device)
        sine = self.grid.nodes().to(device)[:, None]
        self.squared_cosine = 1 - sine**2
        self.coriolis = 2 * rotation * sine

        degree = torch.arange(degrees + 2, dtype=torch.float64, device=device)[:, None]
        self._order = torch.arange(degrees, dtype=torch.float64, device=device)
        self._degree = degree
        # (1 - x²) dP_l/dx = (l + 1) e_l P_(l-1) - l e_(l+1) P_(l+1), with x the latitude's sine.
        squares = (degree**2 - self._order**2) / (4 * degree**2 - 1)
        self._epsilon = squares.clamp_min(0).sqrt()
        self.laplacian = -(degree * (degree + 1))[:degrees] / RADIUS**2
        self._inverse = torch.where(self.laplacian < 0, 1 / self.laplacian.clamp_max(-1e-30), 0)
        self._fading = (self.laplacian / self.laplacian[-1]) ** 4 / damping

    def random_states(self, noise: Tensor) -> Tensor:
        """Make Gaussian states with a spectrum that is flat over the degrees.

        As in the example of torch-harmonics, by authors of the paper, deviations would be 120 m
        for the height, and a fifth of the waves' speed by the radius for vorticity and divergence,
        if there were 120 degrees.

        Parameters
        ----------
        noise
            White noise of shape (samples, 3, degrees, degrees, 2).
        """
        size = torch.tensor(
            [120.0, *[0.2 * math.sqrt(GRAVITY * DEPTH) / RADIUS] * 2],
            dtype=torch.float64,
            device=noise.device,
        )
        share = math.sqrt(4 * math.pi / (120 * 121) / 2)
        states = torch.view_as_complex(noise * share * size[:, None, None, None]).tril()
        states[:, :, :, 0] = states[:, :, :, 0].real * math.sqrt(2)  # zonal waves have one part
        states[:, :, 0] = 0  # neither mass nor a mean vorticity is added
        return states

    def tendency(self, state: Tensor) -> Tensor:
        """Return the derivative of a state by time."""
        height, vorticity, divergence = state.unbind(1)
        u, v = self.wind_modes(vorticity, divergence)
        wide = torch.stack((_one_more(height), _one_more(vorticity), u, v), dim=1)
        height_, vorticity_, u_, v_ = self.to_grid(wide).unbind(1)

        # Here and below, u_ and v_ are the wind times the cosine of the latitude.
        absolute = (vorticity_ + self.coriolis) / self.squared_cosine
        depth = (DEPTH + height_) / self.squared_cosine
        energy = (u_**2 + v_**2) / (2 * self.squared_cosine)
        products = (absolute * u_, absolute * v_, depth * u_, depth * v_, energy)
        f_u, f_v, mass_u, mass_v, energy = self.to_modes(torch.stack(products, dim=1)).unbind(1)

        pressure = GRAVITY * height + energy[:, : self.degrees]
        return torch.stack(
            (
                -self._divergence(mass_u, mass_v),
                -self._divergence(f_u, f_v) - self._fading * vorticity,
                self._curl(f_u, f_v) - self.laplacian * pressure - self._fading * divergence,
            ),
            dim=1,
        )

    def advance(self, state: Tensor, seconds: float, step: float | None = None) -> Tensor:
        """Return states after a time, by steps of Runge and Kutta's method of fourth order."""
        count = math.ceil(seconds / (step or STEP / self.degrees))
        dt = seconds / count
        for _ in range(count):
            first = self.tendency(state)
            second = self.tendency(state + dt / 2 * first)
            third = self.tendency(state + dt / 2 * second)
            fourth = self.tendency(state + dt * third)
            state = state + dt / 6 * (first + 2 * second + 2 * third + fourth)
        return state

    def wind_modes(self, vorticity: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """Return coefficients of the wind times the cosine of the latitude, of one degree more."""
        stream, potential = self._inverse * vorticity, self._inverse * divergence
        eastward = self._along(_one_more(potential)) - self._across(stream)
        northward = self._along(_one_more(stream)) + self._across(potential)
        return eastward / RADIUS, northward / RADIUS

    def to_grid(self, modes: Tensor) -> Tensor:
        """Return fields on the solver's grid; coefficients have one degree more than states."""
        fields: Tensor = self._to_grid(torch.view_as_real(modes))
        return fields

    def to_modes(self, fields: Tensor) -> Tensor:
        """Return coefficients, of one degree more than those of states."""
        return torch.view_as_complex(self._to_modes(fields).contiguous())

    def _along(self, modes: Tensor) -> Tensor:
        """Differentiate by the longitude."""
        return 1j * self._order * modes

    def _across(self, modes: Tensor) -> Tensor:
        """Apply (1 - x²) d/dx, with x the latitude's sine, which adds a degree."""
        n = self.degrees + 1
        higher = _one_more(modes[:, 1:], 2)  # at degree l the coefficient of l + 1
        lower = torch.nn.functional.pad(modes, (0, 0, 1, 0))
        up, own = self._epsilon[1 : n + 1], self._epsilon[:n]
        return (self._degree[:n] + 2) * up * higher - (self._degree[:n] - 1) * own * lower

    def _adjoint(self, modes: Tensor) -> Tensor:
        """Apply the adjoint of :meth:`_across`, for integration by parts."""
        n = self.degrees
        lower = torch.nn.functional.pad(modes, (0, 0, 1, 0))[:, :n]
        own, up = self._epsilon[:n], self._epsilon[1 : n + 1]
        return (self._degree[:n] + 1) * own * lower - self._degree[:n] * up * modes[:, 1 : n + 1]

    def _divergence(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the divergence of a vector, given its products with 1 / cosine of the latitude."""
        return (self._along(u)[:, : self.degrees] - self._adjoint(v)) / RADIUS

    def _curl(self, u: Tensor, v: Tensor) -> Tensor:
        return (self._along(v)[:, : self.degrees] + self._adjoint(u)) / RADIUS


def _one_more(modes: Tensor, number: int = 1) -> Tensor:
    """Append degrees of which a field has nothing."""
    return torch.nn.functional.pad(modes, (0, 0, 0, number))
