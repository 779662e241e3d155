# SPDX-License-Identifier: Apache-2.0
"""The parts of what a model on the HEALPix grid is called with, told apart and checked."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from physicsnemo.models.dlwp_healpix._fields import Fields, Given
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import FACES
from physicsnemo.nn.checks import Layout, check_input

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
        For how many steps there is to be a state, and everything else; no more, since it would be
        ignored.
    weight
        Any weight of the model.

    Raises
    ------
    TypeError
        If there is no list of parts, or one is no tensor of floating-point numbers.
    ValueError
        If there are more or fewer parts, or one has another shape, device or number of times than
        needed.
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
    given = Given(**dict(zip(names, inputs, strict=True)))
    _check_state(fields, given, state_steps, weight)
    _check_others(fields, given, steps, weight)
    return given


def _check_state(fields: Fields, given: Given, steps: int, weight: Tensor) -> None:
    layout = {"batch": None, "faces": FACES, "times": None}
    layout |= {"input_channels": fields.input_channels, "height": None, "width": None}
    check_input(given.state, layout, weight, name="the state")
    height, width = given.state.shape[-2:]
    if height != width:
        raise ValueError(f"expected square faces, got a state of {height} x {width} cells")
    _check_times("state", given.state, steps, fields.input_time_dim)


def _check_others(fields: Fields, given: Given, steps: int, weight: Tensor) -> None:
    # Whatever was given in their place.
    forcing: Any = given.forcing
    constants: Any = given.constants
    batch: dict[str, int | None] = {"batch": given.state.shape[0]}
    faces: dict[str, int | None] = {"faces": FACES}
    grid: dict[str, int | None] = dict.fromkeys(("height", "width"), given.state.shape[-1])
    if fields.decoder_input_channels:
        channels: dict[str, int | None] = {"times": None}
        channels |= {"decoder_input_channels": fields.decoder_input_channels}
        check_input(forcing, batch | faces | channels | grid, weight, "the decoder inputs")
        _check_times("decoder inputs", forcing, steps, fields.input_time_dim)
    if fields.n_constants:
        layout = faces | {"n_constants": fields.n_constants} | grid
        check_input(constants, layout, weight, "the constants")
    if fields.coupled:
        layout = batch | {"coupled": fields.coupled} | faces | grid
        _check_couplings(given.couplings, steps, layout, weight)


def _check_couplings(couplings: Any, steps: int, layout: Layout, weight: Tensor) -> None:
    if isinstance(couplings, Tensor):
        check_input(couplings, {"steps": steps, **layout}, weight, "the couplings")
        return
    if not isinstance(couplings, list | tuple):
        raise TypeError(
            f"expected couplings in a tensor or a list of such, one for each of {steps} steps, got "
            f"{type(couplings).__name__!r}"
        )
    if len(couplings) != steps:
        raise ValueError(f"expected couplings for {steps} steps, got {len(couplings)}")
    for coupling in couplings:
        check_input(coupling, layout, weight, "the couplings")


def _check_times(name: str, x: Tensor, steps: int, at_each_step: int) -> None:
    needed, times = steps * at_each_step, x.shape[2]
    if times != needed:
        advice = f"; leave out the last, as in x[:, :, :{needed}]" if times > needed else ""
        raise ValueError(
            f"expected the {name} at {needed} times, {at_each_step} for each of {steps} steps, got "
            f"{times}{advice}"
        )
