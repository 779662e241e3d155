# SPDX-License-Identifier: Apache-2.0
r"""Incompressible flow in two dimensions, by finite elements and a projection in each time step.

.. math::
   \partial_t u + (u \cdot \nabla) u = \nu \Delta u - \nabla p, \quad \nabla \cdot u = 0

Taylor-Hood elements: velocities are quadratic on each triangle, pressures linear. Time steps are of
second order: backward differences, with convection extrapolated, and the incremental projection in
rotational form of Guermond, Minev & Shen 2006, An overview of projection methods for incompressible
flows, doi:10.1016/j.cma.2005.10.010. So all matrices are the same in every step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bmat, csc_matrix, csr_matrix, diags, vstack
from scipy.sparse.linalg import splu
from skfem import Basis, BilinearForm, ElementTriP1, ElementTriP2, MeshTri, enforce
from skfem.models.poisson import laplace, mass

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@BilinearForm
def _by_x(u, q, w):  # type: ignore[no-untyped-def]
    return q * u.grad[0]


@BilinearForm
def _by_y(u, q, w):  # type: ignore[no-untyped-def]
    return q * u.grad[1]


@dataclass
class State:
    """A flow at two times, a step apart.

    Parameters
    ----------
    velocity, before
        Velocities now and a step before, of shape (velocity's degrees of freedom, 2).
    pressure
        Pressures, of shape (nodes,).
    correction, correction_before
        By how much the projections changed them.
    """

    velocity: Array
    before: Array
    pressure: Array
    correction: Array
    correction_before: Array


class Flow:
    """The flow through a mesh, where velocities are given on a part of its boundary.

    The rest of the boundary is an outlet, where no force acts: a normal derivative of the velocity
    and the pressure cancel each other.

    Parameters
    ----------
    mesh
        The mesh, in m.
    viscosity
        Kinematic, in m²/s.
    step
        Time step, in s. Convection is explicit: a step has to be much shorter than the time in
        which the flow crosses an edge.

    Attributes
    ----------
    places
        Where the velocity's degrees of freedom are, of shape (2, degrees of freedom).
    boundary
        Which of them are on the boundary.
    """

    def __init__(self, mesh: MeshTri, viscosity: float, step: float) -> None:
        velocity = Basis(mesh, ElementTriP2(), intorder=5)  # exact for convection
        pressure = Basis(mesh, ElementTriP1(), intorder=5)
        self.mesh, self.viscosity, self.step = mesh, viscosity, step
        self.places: Array = velocity.doflocs
        self.boundary: Numbers = velocity.get_dofs().all()
        self.nodes: Numbers = velocity.nodal_dofs[0]
        self._masses = csr_matrix(mass.assemble(velocity))
        self._stiffness = csr_matrix(laplace.assemble(velocity))
        self._by = [csr_matrix(form.assemble(velocity, pressure)) for form in (_by_x, _by_y)]
        self._divergence = csr_matrix(bmat([self._by]))
        self._force = csr_matrix(self._divergence.T)
        self._linear_masses = mass.assemble(pressure)
        self._linear_stiffness = laplace.assemble(pressure)
        self._mass_solver = splu(self._linear_masses.tocsc(), permc_spec="MMD_AT_PLUS_A")
        self._operators = _at_points(velocity)

    def enclose(self, fixed: Numbers, values: Array, outlet: Numbers) -> None:
        """Set where velocities are given, of shape (fixed, 2), and the nodes of the outlet."""
        system = 1.5 / self.step * self._masses + self.viscosity * self._stiffness
        self._fixed, self._values, self._outlet = fixed, values, outlet
        # Symmetric: given values go to the right side.
        self._columns = csr_matrix(system[:, fixed])
        options = {"permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
        self._velocity_solver = splu(_without(system, fixed), **options)
        self._pressure_solver = splu(_without(self._linear_stiffness, outlet), **options)

    def at_rest(self) -> State:
        """Return the flow in which friction and pressure are in balance, as if it had no mass."""
        stiffness = self.viscosity * self._stiffness
        none = csr_matrix((self._linear_masses.shape[0],) * 2)
        size = stiffness.shape[0]
        x, y = self._by
        system = bmat([[stiffness, None, -x.T], [None, stiffness, -y.T], [x, y, none]], "csr")
        given = np.zeros(system.shape[0])
        for axis in (0, 1):
            given[axis * size + self._fixed] = self._values[:, axis]
        known = np.concatenate((self._fixed, size + self._fixed))
        matrix, right = enforce(system, x=given, D=known)
        found = splu(matrix.tocsc()).solve(right)
        velocity, pressure = found[: 2 * size].reshape(2, size).T.copy(), found[2 * size :]
        still = np.zeros_like(pressure)
        return State(velocity, velocity, pressure, still, still)

    def advance(self, now: State) -> State:
        """Return the flow a step later.

        Raises
        ------
        FloatingPointError
            If it goes beyond all numbers: the step is too long.
        """
        step = self.step
        pressure = now.pressure + (4 * now.correction - now.correction_before) / 3
        right = self._masses @ ((4 * now.velocity - now.before) / (2 * step))
        with np.errstate(over="ignore", invalid="ignore"):  # there is an error below
            right -= self.convection(2 * now.velocity - now.before)
        right += (self._force @ pressure).reshape(2, -1).T
        right -= self._columns @ self._values
        right[self._fixed] = self._values
        if not np.isfinite(right).all():
            raise FloatingPointError(f"unstable flow: steps of {step:.3g} s are too long")
        velocity = self._velocity_solver.solve(right)

        divergence = self._divergence @ velocity.T.ravel()
        right = -1.5 / step * divergence
        right[self._outlet] = 0
        correction = self._pressure_solver.solve(right)
        pressure = now.pressure + correction
        pressure -= self.viscosity * self._mass_solver.solve(divergence)
        return State(velocity, now.velocity, pressure, correction, now.correction)

    def convection(self, velocity: Array) -> Array:
        """Return the integrals of convection times each element function.

        Half the divergence is added, which is zero but for errors, so that no energy is made.
        """
        values, gradients, weighted = self._operators
        u, v = (values @ velocity).T
        by_x, by_y = (gradients @ velocity).reshape(2, len(u), 2)
        half = (by_x[:, 0] + by_y[:, 1]) / 2
        change = u[:, None] * by_x + v[:, None] * by_y + half[:, None] * np.stack((u, v), axis=1)
        result: Array = weighted @ change
        return result

    def force_on(self, part: Numbers, now: State) -> Array:
        """Return the force per length and density on a part of the boundary, in m³/s².

        Parameters
        ----------
        part
            The velocity's degrees of freedom there.
        now
            The flow. Its forces are those that keep the velocities there: as accurate as the flow,
            unlike integrals of its derivatives along the boundary.
        """
        # What is left of the time derivative, of first order: it is zero at walls, and small near.
        left = self._masses @ ((now.velocity - now.before) / self.step)
        left += self.viscosity * (self._stiffness @ now.velocity) + self.convection(now.velocity)
        left -= (self._force @ now.pressure).reshape(2, -1).T
        result: Array = -left[part].sum(0)
        return result


def _without(matrix: csr_matrix, fixed: Numbers) -> csc_matrix:
    """Return the matrix with rows and columns of known values replaced by those of unity."""
    kept = np.ones(matrix.shape[0])
    kept[fixed] = 0
    return csc_matrix(diags(kept) @ matrix @ diags(kept) + diags(1 - kept))


def _at_points(basis: Basis) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
    """Return what makes values and gradients at points of integration, and integrals from there."""
    elements, points = basis.dx.shape
    rows = np.arange(elements * points).reshape(elements, points)
    columns = [np.broadcast_to(dofs[:, None], rows.shape) for dofs in basis.element_dofs]
    place = (np.tile(rows.ravel(), len(columns)), np.concatenate([it.ravel() for it in columns]))
    shape = (elements * points, basis.N)

    def operator(parts: list[Array]) -> csr_matrix:
        full = [np.broadcast_to(it, rows.shape).ravel() for it in parts]
        return csr_matrix((np.concatenate(full), place), shape)

    functions = [field[0] for field in basis.basis]
    values = operator([np.asarray(it) for it in functions])
    gradients = [operator([it.grad[axis] for it in functions]) for axis in (0, 1)]
    weighted = csr_matrix(values.multiply(basis.dx.reshape(-1, 1)).T)
    return values, csr_matrix(vstack(gradients)), weighted
