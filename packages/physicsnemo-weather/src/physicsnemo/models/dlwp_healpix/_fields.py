# SPDX-License-Identifier: Apache-2.0
"""The fields that go into a network on the HEALPix grid at each step, and those that come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix_layers import HEALPixFoldFaces, HEALPixUnfoldFaces
from physicsnemo.nn.checks import check_input

__all__ = ["Fields", "Given"]

_FACES = 12


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
    forcing: Tensor | None
    constants: Tensor | None
    couplings: Sequence[Tensor] | Tensor | None


@dataclass(frozen=True)
class Fields:
    """How many fields there are of each kind, and at how many times.

    Parameters
    ----------
    input_channels, output_channels, n_constants, decoder_input_channels
        Number of fields of the state, of the prediction, constant ones and known ones.
    input_time_dim, output_time_dim
        Number of times that one step starts from, and that all steps predict.
    couplings
        What comes from other models, each a mapping whose ``params`` have ``variables`` and
        ``input_times``.

    Raises
    ------
    NotImplementedError
        If there are couplings, but no constants or no known fields.
    TypeError
        If a coupling is no such mapping.
    ValueError
        If steps do not make up the times predicted, or cannot go on from their own prediction.
    """

    input_channels: int
    output_channels: int
    n_constants: int
    decoder_input_channels: int
    input_time_dim: int
    output_time_dim: int
    couplings: Sequence[Mapping[str, Any]] = ()
    coupled: int = field(init=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("input_channels", "output_channels", "input_time_dim", "output_time_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}")
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
        for name, what in (("n_constants", "constant fields"), ("decoder_input_channels", "decoder inputs")):
            if self.couplings and not getattr(self, name):
                raise NotImplementedError(
                    f"no support for coupled models with no {what}: {name} is 0, and couplings "
                    f"are given; pass a field of zeros"
                )
        object.__setattr__(self, "coupled", sum(map(_width, self.couplings)))

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

    def take(self, inputs: Sequence[Any], state_steps: int, steps: int, weight: Tensor) -> Given:
        """Tell the parts of what a model is called with, and check them.

        Parameters
        ----------
        inputs
            The parts, without those of which there are none.
        state_steps, steps
            For how many steps there must be a state, and everything else.
        weight
            Any weight of the model.

        Raises
        ------
        TypeError
            If a part does not hold floating-point numbers.
        ValueError
            If a part is missing, or has another shape, device or number of times than needed.
        """
        present = {
            "state": True,
            "forcing": self.decoder_input_channels > 0,
            "constants": self.n_constants > 0,
            "couplings": self.coupled > 0,
        }
        names = [name for name, is_there in present.items() if is_there]
        if len(inputs) != len(names):
            raise ValueError(
                f"expected a list of {len(names)} inputs ({', '.join(names)}), got {len(inputs)}"
            )
        given = Given(**{**dict.fromkeys(present), **dict(zip(names, inputs, strict=True))})
        self._check(given, state_steps, steps, weight)
        return given

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
        faces: Tensor = HEALPixFoldFaces()(torch.cat(parts, dim=2))
        return faces

    def times(self, x: Tensor, step: int) -> Tensor:
        """Return the fields at the times of one step."""
        return x[:, :, step * self.input_time_dim : (step + 1) * self.input_time_dim]

    def of_outputs(self, faces: Tensor) -> Tensor:
        """Return (batch * 12, network_outputs, ...) as (batch, 12, times, output_channels, ...)."""
        times = 1 if self.is_diagnostic else self.input_time_dim
        unfolded: Tensor = HEALPixUnfoldFaces()(faces)
        return unfolded.unflatten(2, (times, self.output_channels))

    def _check(self, given: Given, state_steps: int, steps: int, weight: Tensor) -> None:
        size = given.state.shape[-1] if given.state.ndim else 0
        batch = {"batch": None, "faces": _FACES, "times": None}
        grid = {"height": size, "width": size}
        check_input(given.state, batch | {"input_channels": self.input_channels} | grid, weight)
        batch["batch"] = given.state.shape[0]
        self._check_times("state", given.state, state_steps)
        if given.forcing is not None:
            channels = {"decoder_input_channels": self.decoder_input_channels}
            check_input(given.forcing, batch | channels | grid, weight)
            self._check_times("decoder inputs", given.forcing, steps)
        if given.constants is not None:
            layout = {"faces": _FACES, "n_constants": self.n_constants}
            check_input(given.constants, layout | grid, weight)
        if given.couplings is not None:
            if len(given.couplings) < steps:
                raise ValueError(
                    f"expected couplings for {steps} steps or more, got {len(given.couplings)}"
                )
            layout = {"batch": batch["batch"], "coupled": self.coupled, "faces": _FACES}
            for coupling in given.couplings:
                check_input(coupling, layout | grid, weight)

    def _check_times(self, name: str, x: Tensor, steps: int) -> None:
        needed = steps * self.input_time_dim
        if x.shape[2] < needed:
            raise ValueError(
                f"expected the {name} at {needed} times or more, {self.input_time_dim} for each "
                f"of {steps} steps, got {x.shape[2]}"
            )


def _width(coupling: Mapping[str, Any]) -> int:
    try:
        params = coupling["params"]
        return len(params["variables"]) * len(params["input_times"])
    except (KeyError, TypeError) as error:
        raise TypeError(
            f"expected a coupling as {{'params': {{'variables': [...], 'input_times': [...]}}}}, "
            f"got {coupling!r}"
        ) from error
