# SPDX-License-Identifier: Apache-2.0
"""Random numbers that do not depend on which samples share a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(init=False, repr=False, eq=False)  # for a captured step to find the generators in it
class StackedRandomGenerator:
    """Batch of random generators, one for each sample.

    What a sample gets depends on its own seed alone, so that splitting a batch, or putting it on
    more devices, changes no result. The methods are those of :mod:`torch` by the same names; the
    first axis of what they return is the batch.

    Passed to a step that :class:`physicsnemo.utils.StaticCaptureEvaluateNoGrad` captures, it is as
    in an eager call: a replay draws the same numbers, and leaves the generators as far advanced.

    Parameters
    ----------
    device
        Device of the generators. The same seed gives other numbers on another kind of device.
    seeds
        Seed of each sample.

    Attributes
    ----------
    generators
        The generator of each sample.

    Raises
    ------
    ValueError
        If there are no seeds or, in the methods, if the batch is not of their number.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.diffusion import StackedRandomGenerator
    >>> both = StackedRandomGenerator("cpu", seeds=[5, 6]).randn((2, 3, 4, 4))
    >>> second = StackedRandomGenerator("cpu", seeds=[6]).randn((1, 3, 4, 4))
    >>> torch.equal(both[1:], second)
    True
    """

    generators: list[torch.Generator]

    def __init__(self, device: torch.device | str, seeds: Sequence[int] | Tensor) -> None:
        if len(seeds) == 0:
            raise ValueError("expected a seed for each sample, got none")
        self.generators = [
            torch.Generator(device).manual_seed(int(seed) % (1 << 32)) for seed in seeds
        ]

    def randn(
        self,
        size: Sequence[int],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw from the standard normal distribution.

        Parameters
        ----------
        size
            Shape (batch, ...).
        dtype, device
            Type and device of the result. By default, PyTorch's default type and the device of the
            generators.
        """

        def draw(generator: torch.Generator) -> Tensor:
            return torch.randn(size[1:], generator=generator, dtype=dtype, device=generator.device)

        return self._stack(size, draw).to(device)

    def randn_like(
        self,
        input: Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw from the standard normal distribution as many numbers as a tensor has.

        Parameters
        ----------
        input
            A tensor of shape (batch, ...).
        dtype, device
            Type and device of the result. By default, those of ``input``.
        """
        return self.randn(input.shape, dtype=dtype or input.dtype, device=device or input.device)

    def randt(
        self,
        nu: float,
        size: Sequence[int],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw from the multivariate Student-t distribution, each sample as one vector.

        The numbers of a sample are normal, and are divided by the root of one chi-squared number
        over ``nu``, which makes whole samples heavy-tailed.

        Parameters
        ----------
        nu
            Degrees of freedom, above 0.
        size
            Shape (batch, ...).
        dtype, device
            Type and device of the result. By default, PyTorch's default type and the device of the
            generators.

        References
        ----------
        Pandey et al. 2024, "Heavy-Tailed Diffusion Models", arXiv:2410.14171.
        """
        if nu <= 0:
            raise ValueError(f"expected nu, the degrees of freedom, to be above 0, got {nu}")

        def draw(generator: torch.Generator) -> Tensor:
            half = torch.full((), nu / 2, dtype=dtype, device=generator.device)
            mean_square = torch._standard_gamma(half, generator=generator) / half
            normal = torch.randn(
                size[1:], generator=generator, dtype=dtype, device=generator.device
            )
            return normal / mean_square.sqrt()

        return self._stack(size, draw).to(device)

    def randint(
        self,
        low: int,
        high: int | None = None,
        *,
        size: Sequence[int],
        dtype: torch.dtype = torch.int64,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw from the uniform distribution of integers.

        Parameters
        ----------
        low, high
            Lower bound, and upper bound, which is excluded. A single number is the latter, and the
            lower bound is 0.
        size
            Shape (batch, ...).
        dtype, device
            Type and device of the result. By default, 64-bit integers on the generators' device.
        """
        first, end = (0, low) if high is None else (low, high)

        def draw(generator: torch.Generator) -> Tensor:
            return torch.randint(
                first, end, size[1:], generator=generator, dtype=dtype, device=generator.device
            )

        return self._stack(size, draw).to(device)

    def _stack(self, size: Sequence[int], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        if len(size) == 0 or size[0] != len(self.generators):
            raise ValueError(
                f"expected a shape whose first axis is the batch of {len(self.generators)} "
                f"seeds, got {tuple(size)}"
            )
        return torch.stack([draw(generator) for generator in self.generators])
