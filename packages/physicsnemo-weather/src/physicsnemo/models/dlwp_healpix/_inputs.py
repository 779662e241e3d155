# SPDX-License-Identifier: Apache-2.0
"""The parts of what a model on the HEALPix grid is called with, told apart and checked."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from physicsnemo.models.dlwp_healpix._fields import Fields, Given
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import FACES
from physicsnemo.nn.checks import check_input

__all__ = ["take"]


def take(
    fields: Fields, inputs: Sequence[Any], state_steps: int, steps: int, weight: Tensor
) -> Given:
    """Tell the parts of what a model is called with, and check them.

    Parameters
    ----------
    fields
        How many fields there are of each kind.
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
    expected = {
        "state": fields.input_channels,
        "forcing": fields.decoder_input_channels,
        "constants": fields.n_constants,
        "couplings": fields.coupled,
    }
    names = [name for name, channels in expected.items() if channels]
    if isinstance(inputs, Tensor) or len(inputs) != len(names):
        what = "a tensor" if isinstance(inputs, Tensor) else len(inputs)
        raise ValueError(f"expected a list of {len(names)} inputs ({', '.join(names)}), got {what}")
    given = Given(**dict(zip(names, inputs, strict=True)))
    _check_state(fields, given, state_steps, weight)
    _check_others(fields, given, steps, weight)
    return given


def _check_state(fields: Fields, given: Given, steps: int, weight: Tensor) -> None:
    size = given.state.shape[-1] if given.state.ndim else None
    layout = {"batch": None, "faces": FACES, "times": None}
    layout |= {"input_channels": fields.input_channels, "height": size, "width": size}
    check_input(given.state, layout, weight)
    _check_times("state", given.state, steps, fields.input_time_dim)


def _check_others(fields: Fields, given: Given, steps: int, weight: Tensor) -> None:
    batch, faces = {"batch": given.state.shape[0]}, {"faces": FACES}
    grid = dict.fromkeys(("height", "width"), given.state.shape[-1])
    if given.forcing is not None:
        channels = {"times": None, "decoder_input_channels": fields.decoder_input_channels}
        check_input(given.forcing, batch | faces | channels | grid, weight)
        _check_times("decoder inputs", given.forcing, steps, fields.input_time_dim)
    if given.constants is not None:
        check_input(given.constants, faces | {"n_constants": fields.n_constants} | grid, weight)
    if given.couplings is not None:
        if len(given.couplings) < steps:
            raise ValueError(
                f"expected couplings for {steps} steps or more, got {len(given.couplings)}"
            )
        for coupling in given.couplings:
            check_input(coupling, batch | {"coupled": fields.coupled} | faces | grid, weight)


def _check_times(name: str, x: Tensor, steps: int, at_each_step: int) -> None:
    needed = steps * at_each_step
    if x.shape[2] < needed:
        raise ValueError(
            f"expected the {name} at {needed} times or more, {at_each_step} for each of {steps} "
            f"steps, got {x.shape[2]}"
        )
