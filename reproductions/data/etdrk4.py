# SPDX-License-Identifier: Apache-2.0
"""Exponential time differencing of fourth order, for stiff equations with a diagonal linear part.

Cox and Matthews 2002, J. Comput. Phys. 176, 430-455; the coefficients are computed by a contour
integral, after Kassam and Trefethen 2005, SIAM J. Sci. Comput. 26, 1214-1233.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ROOTS = 32  # points of the contour: the coefficients then have all digits


class ETDRK4:
    """Steps of du/dt = linear * u + nonlinear(u).

    Parameters
    ----------
    linear
        Real factors of each mode, in float64, of a shape that broadcasts with states.
    nonlinear
        What remains of the right-hand side: a function of the state alone.
    step
        Length of a time step.
    """

    def __init__(self, linear: Tensor, nonlinear: Callable[[Tensor], Tensor], step: float) -> None:
        self.nonlinear = nonlinear
        z = step * linear
        self.whole, self.half = z.exp(), (z / 2).exp()
        sums = [torch.zeros_like(z) for _ in range(4)]
        for number in range(ROOTS):
            angle = math.pi * (number + 0.5) / ROOTS  # half the circle, as z is real
            r = z + complex(math.cos(angle), math.sin(angle))
            e = r.exp()
            parts = (
                ((r / 2).exp() - 1) / r,
                (-4 - r + e * (4 - 3 * r + r**2)) / r**3,
                (2 + r + e * (r - 2)) / r**3,
                (-4 - 3 * r - r**2 + e * (4 - r)) / r**3,
            )
            sums = [total + part.real for total, part in zip(sums, parts, strict=True)]
        self.q, self.f1, self.f2, self.f3 = (step / ROOTS * total for total in sums)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance a state by one step."""
        n = self.nonlinear(u)
        a = self.half * u + self.q * n
        n_a = self.nonlinear(a)
        b = self.half * u + self.q * n_a
        n_b = self.nonlinear(b)
        n_c = self.nonlinear(self.half * a + self.q * (2 * n_b - n))
        return self.whole * u + self.f1 * n + 2 * self.f2 * (n_a + n_b) + self.f3 * n_c
