# SPDX-License-Identifier: Apache-2.0
"""The fields that go into a network on the HEALPix grid at each step, and those that come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix_layers import HEALPixFoldFaces, HEALPixUnfoldFaces
from physicsnemo.nn.checks import check_at_least

__all__ = ["Fields", "Given", "coupled_fields"]


@dataclass(frozen=True)
class Given:
    """What a model is called with, by its parts.

    Parameters
    ----------
    state
        The state at all times given, of shape (batch, 12, times, input_channels, size, size).
    forcing
        Known fields at all times, of shape (batch, 12, times, decoder_input_channels, size, size).
    constants
        Of shape (12, n_constants, size, size).
    couplings
        Fields of another model for each step, each of shape (batch, channels, 12, size, size).
    """

    state: Tensor
    forcing: Tensor | None = None
    constants: Tensor | None = None
    couplings: Sequence[Tensor] | Tensor | None = None


@dataclass(frozen=True)
class Fields:
    """How many fields there are of each kind, and at how many times.

    Parameters
    ----------
    input_channels, output_channels, n_constants, decoder_input_channels
        Number of fields of the state, of the prediction, constant ones and known ones.
    input_time_dim, output_time_dim
        Number of times that one step starts from, and that all steps predict.
    coupled
        Number of fields that come from other models.

    Raises
    ------
    TypeError
        If a number is no whole one.
    ValueError
        If there are too few of something, steps do not make up the times predicted, or they cannot
        go on from their own prediction.
    """

    input_channels: int
    output_channels: int
    n_constants: int
    decoder_input_channels: int
    input_time_dim: int
    output_time_dim: int
    coupled: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_at_least(0, **self._numbers("n_constants", "decoder_input_channels"))
        check_at_least(1, **self._numbers("input_channels", "output_channels"))
        check_at_least(1, **self._numbers("input_time_dim", "output_time_dim"))
        if not self.is_diagnostic and self.output_time_dim % self.input_time_dim:
            raise ValueError(
                f"'output_time_dim' must be a multiple of 'input_time_dim', or 1; got "
                f"{self.output_time_dim} and {self.input_time_dim}"
            )
        if self.steps > 1 and self.output_channels != self.input_channels:
            raise ValueError(
                f"{self.steps} steps, each from the prediction of the one before, need as many "
                f"output_channels as input_channels, got {self.output_channels} and "
                f"{self.input_channels}"
            )

    @property
    def is_diagnostic(self) -> bool:
        """Whether one time is predicted from several."""
        return self.output_time_dim == 1 and self.input_time_dim > 1

    @property
    def steps(self) -> int:
        """How often the network is called for one prediction."""
        return max(self.output_time_dim // self.input_time_dim, 1)

    @property
    def network_inputs(self) -> int:
        """Channels that the network takes."""
        at_each_time = self.input_channels + self.decoder_input_channels
        return self.input_time_dim * at_each_time + self.n_constants + self.coupled

    @property
    def state_channels(self) -> int:
        """Those of them that are the state, the first ones."""
        return self.input_time_dim * self.input_channels

    @property
    def network_outputs(self) -> int:
        """Channels that the network returns."""
        return (1 if self.is_diagnostic else self.input_time_dim) * self.output_channels

    def at_step(self, given: Given, state: Tensor, step: int) -> Tensor:
        """Return what goes into the network.

        Parameters
        ----------
        given
            What the model is called with.
        state
            The state at the times that the step starts from, (batch, 12, times, channels, ...).
        step
            Which step's fields of other kinds to take.

        Returns
        -------
        Faces of shape (batch * 12, network_inputs, size, size).
        """
        parts = [state.flatten(2, 3)]
        if given.forcing is not None:
            parts.append(self.times(given.forcing, step).flatten(2, 3))
        if given.constants is not None:
            parts.append(given.constants.expand(len(state), -1, -1, -1, -1))
        if given.couplings is not None:
            parts.append(given.couplings[step].transpose(1, 2))
        return HEALPixFoldFaces().forward(torch.cat(parts, dim=2))

    def times(self, x: Tensor, step: int) -> Tensor:
        """Return the fields at the times of one step."""
        return x[:, :, step * self.input_time_dim : (step + 1) * self.input_time_dim]

    def of_outputs(self, faces: Tensor) -> Tensor:
        """Return (batch * 12, network_outputs, ...) as (batch, 12, times, output_channels, ...)."""
        times = 1 if self.is_diagnostic else self.input_time_dim
        unfolded = HEALPixUnfoldFaces().forward(faces)
        fields: Tensor = unfolded.unflatten(2, (times, self.output_channels))
        return fields

    def _numbers(self, *names: str) -> dict[str, int]:
        return {name: getattr(self, name) for name in names}


def coupled_fields(
    couplings: Sequence[Mapping[str, Any]], n_constants: int, decoder_input_channels: int
) -> int:
    """Return how many fields come from other models.

    Parameters
    ----------
    couplings
        As models take them.
    n_constants, decoder_input_channels
        Of which a model with couplings must have both.

    Raises
    ------
    NotImplementedError
        If it has not.
    TypeError
        If a coupling is no mapping as models take them.
    """
    needed = {"constant fields": n_constants, "decoder inputs": decoder_input_channels}
    for what, number in needed.items():
        if couplings and not number:
            raise NotImplementedError(
                f"no support for coupled models with no {what}: couplings are given, n_constants "
                f"is {n_constants} and decoder_input_channels is {decoder_input_channels}; pass a "
                f"field of zeros"
            )
    return sum(map(_coupled_fields, couplings))


def _coupled_fields(coupling: Mapping[str, Any]) -> int:
    """Return how many fields come from one other model.

    Parameters
    ----------
    coupling
        A mapping whose ``params`` have ``variables`` and ``input_times``, which make a field each.

    Raises
    ------
    TypeError
        If it is no such mapping.
    """
    try:
        params = coupling["params"]
        return len(params["variables"]) * len(params["input_times"])
    except (KeyError, TypeError) as error:
        raise TypeError(
            f"expected a coupling as {{'params': {{'variables': [...], 'input_times': [...]}}}}, "
            f"got {coupling!r}; the name of a field alone does not tell at how many times it comes"
        ) from error
