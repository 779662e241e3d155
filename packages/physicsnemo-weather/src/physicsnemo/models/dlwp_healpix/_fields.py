# SPDX-License-Identifier: Apache-2.0
"""Inputs of the HEALPix models: their checks, and what the network takes and returns per step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix_layers import HEALPixUnfoldFaces
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import FACES
from physicsnemo.nn.checks import Layout, check_at_least, check_input

__all__ = ["Fields", "Inputs", "coupled_fields", "split_inputs"]


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model.

    Parameters
    ----------
    state
        State at all given times, of shape (batch, 12, times, input_channels, size, size).
    forcing
        Forcing fields, of shape (batch, 12, times, decoder_input_channels, size, size).
    constants
        Constant fields, of shape (12, n_constants, size, size).
    couplings
        Fields of other models for each step, each of shape (batch, channels, 12, size, size).
    """

    state: Tensor
    forcing: Tensor | None = None
    constants: Tensor | None = None
    couplings: Sequence[Tensor] | Tensor | None = None


@dataclass(frozen=True)
class Fields:
    """Number of fields of each kind, and of times.

    Parameters
    ----------
    input_channels, output_channels, n_constants, decoder_input_channels
        Number of fields of the state and of the prediction, of constant and of forcing fields.
    input_time_dim, output_time_dim
        Number of input times of a step, and of predicted times of all steps.
    coupled
        Number of fields of other models.
    faces
        Number of faces.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is too small, steps do not add up to the predicted times, or a prediction does
        not have the fields that the next step starts from.
    """

    input_channels: int
    output_channels: int
    n_constants: int
    decoder_input_channels: int
    input_time_dim: int
    output_time_dim: int
    coupled: int = 0
    faces: int = FACES

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
        """Number of autoregressive steps."""
        return max(self.output_time_dim // self.input_time_dim, 1)

    @property
    def network_inputs(self) -> int:
        """Number of input channels of the network."""
        at_each_time = self.input_channels + self.decoder_input_channels
        return self.input_time_dim * at_each_time + self.n_constants + self.coupled

    @property
    def state_channels(self) -> int:
        """Number of input channels, the first ones, that are the state."""
        return self.input_time_dim * self.input_channels

    @property
    def network_outputs(self) -> int:
        """Number of output channels of the network."""
        return (1 if self.is_diagnostic else self.input_time_dim) * self.output_channels

    def at_step(self, given: Inputs, state: Tensor, step: int) -> Tensor:
        """Return the input of the network at a step.

        Parameters
        ----------
        given
            Inputs of the model.
        state
            State at the input times of the step, of shape (batch, 12, times, channels, ...).
        step
            Step whose forcing and coupled fields to take.

        Returns
        -------
        Faces of shape (batch * 12, network_inputs, size, size).
        """
        parts = [state.flatten(2, 3)]
        if given.forcing is not None:
            parts.append(self.times(given.forcing, step).flatten(2, 3))
        if given.constants is not None:
            parts.append(given.constants.expand(state.shape[0], -1, -1, -1, -1))
        if given.couplings is not None:
            parts.append(given.couplings[step].transpose(1, 2))
        return torch.cat(parts, dim=2).flatten(0, 1)

    def times(self, x: Tensor, step: int) -> Tensor:
        """Return the fields at the times of a step."""
        return x[:, :, step * self.input_time_dim : (step + 1) * self.input_time_dim]

    def of_outputs(self, faces: Tensor) -> Tensor:
        """Reshape (batch * 12, network_outputs, ...) to (batch, 12, times, channels, ...)."""
        times = 1 if self.is_diagnostic else self.input_time_dim
        unfolded = HEALPixUnfoldFaces(self.faces).forward(faces)
        fields: Tensor = unfolded.unflatten(2, (times, self.output_channels))
        return fields

    def _numbers(self, *names: str) -> dict[str, int]:
        return {name: getattr(self, name) for name in names}


def split_inputs(
    fields: Fields, inputs: Sequence[Any], *, state_steps: int, steps: int, weight: Tensor
) -> Inputs:
    """Name and check the inputs of a model.

    Parameters
    ----------
    fields
        Number of fields of each kind.
    inputs
        List of inputs, without those that have no channels.
    state_steps, steps
        Number of steps that the state, and all other inputs, must cover exactly.
    weight
        Any weight of the model.

    Raises
    ------
    TypeError
        If there is no list of inputs, or one is not a floating-point tensor.
    ValueError
        If the number of inputs is another, or a shape, device or number of times does not fit.
    """
    expected = {
        "state": fields.input_channels,
        "forcing": fields.decoder_input_channels,
        "constants": fields.n_constants,
        "couplings": fields.coupled,
    }
    names = [name for name, channels in expected.items() if channels]
    wanted = f"expected a list of {len(names)} inputs ({', '.join(names)})"
    if not isinstance(inputs, list | tuple):
        what = "a tensor" if isinstance(inputs, Tensor) else repr(type(inputs).__name__)
        raise TypeError(f"{wanted}, got {what}")
    if len(inputs) != len(names):
        raise ValueError(
            f"{wanted}, got {len(inputs)}; those of which there are no channels are left out"
        )
    given = Inputs(**dict(zip(names, inputs, strict=True)))
    _check_state(fields, given, steps=state_steps, weight=weight)
    _check_others(fields, given, steps=steps, weight=weight)
    return given


def _check_state(fields: Fields, given: Inputs, *, steps: int, weight: Tensor) -> None:
    layout = {"batch": None, "faces": fields.faces, "times": None}
    layout |= {"input_channels": fields.input_channels, "height": None, "width": None}
    check_input(given.state, layout, weight, name="the state")
    height, width = given.state.shape[-2:]
    if height != width:
        raise ValueError(f"expected square faces, got a state of {height} x {width} cells")
    _check_times("state", given.state, steps=steps, at_each_step=fields.input_time_dim)


def _check_others(fields: Fields, given: Inputs, *, steps: int, weight: Tensor) -> None:
    forcing: Any = given.forcing
    constants: Any = given.constants
    batch: dict[str, int | None] = {"batch": given.state.shape[0]}
    faces: dict[str, int | None] = {"faces": fields.faces}
    grid: dict[str, int | None] = dict.fromkeys(("height", "width"), given.state.shape[-1])
    if fields.decoder_input_channels:
        channels: dict[str, int | None] = {"times": None}
        channels |= {"decoder_input_channels": fields.decoder_input_channels}
        check_input(forcing, batch | faces | channels | grid, weight, name="the decoder inputs")
        _check_times("decoder inputs", forcing, steps=steps, at_each_step=fields.input_time_dim)
    if fields.n_constants:
        layout = faces | {"n_constants": fields.n_constants} | grid
        check_input(constants, layout, weight, name="the constants")
    if fields.coupled:
        layout = batch | {"coupled": fields.coupled} | faces | grid
        _check_couplings(given.couplings, layout, steps=steps, weight=weight)


def _check_couplings(couplings: Any, layout: Layout, *, steps: int, weight: Tensor) -> None:
    if isinstance(couplings, Tensor):
        check_input(couplings, {"steps": steps, **layout}, weight, name="the couplings")
        return
    if not isinstance(couplings, list | tuple):
        raise TypeError(
            f"expected couplings in a tensor or a list of such, one for each of {steps} steps, got "
            f"{type(couplings).__name__!r}"
        )
    if len(couplings) != steps:
        raise ValueError(f"expected couplings for {steps} steps, got {len(couplings)}")
    for coupling in couplings:
        check_input(coupling, layout, weight, name="the couplings")


def _check_times(name: str, x: Tensor, *, steps: int, at_each_step: int) -> None:
    needed, times = steps * at_each_step, x.shape[2]
    if times != needed:
        advice = f"; leave out the last, as in x[:, :, :{needed}]" if times > needed else ""
        raise ValueError(
            f"expected the {name} at {needed} times, {at_each_step} for each of {steps} steps, got "
            f"{times}{advice}"
        )


def coupled_fields(
    couplings: Sequence[Mapping[str, Any]], n_constants: int, decoder_input_channels: int
) -> int:
    """Return the number of fields of other models.

    Parameters
    ----------
    couplings
        Couplings, as models take them.
    n_constants, decoder_input_channels
        Number of constant and of forcing fields; coupled models must have both.

    Raises
    ------
    NotImplementedError
        If a coupled model lacks one of them.
    TypeError
        If a coupling is not a mapping as models take it.
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
    try:
        params = coupling["params"]
        return len(params["variables"]) * len(params["input_times"])
    except (KeyError, TypeError) as error:
        raise TypeError(
            f"expected a coupling as {{'params': {{'variables': [...], 'input_times': [...]}}}}, "
            f"got {coupling!r}; the name of a field alone does not tell at how many times it comes"
        ) from error
