# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N999  # the path that files of nvidia-physicsnemo name
"""Recurrent U-Net on the HEALPix grid."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix._fields import Fields, Inputs, coupled_fields, split_inputs
from physicsnemo.models.dlwp_healpix._network import NEWER_FILES, PATHS, build_network
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, serializable
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

__all__ = ["HEALPixRecUNet", "MetaData"]

_HOURS = {"m": Fraction(1, 60), "h": Fraction(1), "d": Fraction(24)}  # by the unit's first letter
_DURATION = r"\s*(\d+(?:\.\d+)?)\s*(min|minutes?|h|hr|hours?|d|days?)\s*"


@dataclass
class MetaData(ModelMetaData):
    """What :class:`HEALPixRecUNet` supports."""

    name: str = "DLWP_HEALPixRec"
    cuda_graphs: bool = True
    amp_cpu: bool | None = True
    amp_gpu: bool | None = True
    var_dim: int = 1


class HEALPixRecUNet(Module):
    """Deep-learning weather prediction (DLWP) by a recurrent U-Net on the HEALPix grid.

    Each step predicts the increment of the state over ``input_time_dim`` times; steps are rolled
    out autoregressively up to ``output_time_dim`` times. The hidden state of the recurrent blocks
    is warmed up by ``presteps`` calls before the first step, and anew in each ``reset_cycle``.

    Parameters
    ----------
    encoder, decoder, input_channels, output_channels, n_constants, decoder_input_channels
        As in :class:`physicsnemo.models.dlwp_healpix.HEALPixUNet`, with as many output channels as
        input channels, and constant or forcing fields.
    input_time_dim
        Number of input times, and of predicted times, of a step.
    output_time_dim
        Number of predicted times, a multiple of ``input_time_dim``.
    delta_time
        Time step of the data, as in ``6h``.
    reset_cycle
        Interval at which the hidden state is reset, as in ``24h`` or ``1d``.
    presteps
        Number of warm-up calls of the hidden state.
    enable_nhwc, enable_healpixpad, couplings
        As in :class:`physicsnemo.models.dlwp_healpix.HEALPixUNet`.

    Raises
    ------
    NotImplementedError
        If there are neither constant nor forcing fields, or there are couplings and not both.
    TypeError
        If a configuration is not a mapping, or a layer does not take an argument.
    ValueError
        If a configuration names an unknown class, a duration is invalid, or numbers do not fit
        together.

    References
    ----------
    Karlbauer et al. 2024, Advancing parsimonious deep learning weather prediction using the
    HEALPix mesh, arXiv:2311.06253.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.dlwp_healpix import HEALPixRecUNet
    >>> layers = "physicsnemo.models.dlwp_healpix_layers."
    >>> block = {"_target_": layers + "ConvNeXtBlock", "activation": "gelu"}
    >>> model = HEALPixRecUNet(
    ...     encoder={
    ...         "_target_": layers + "UNetEncoder",
    ...         "conv_block": block,
    ...         "down_sampling_block": {"_target_": layers + "AvgPool"},
    ...         "n_channels": [8, 16],
    ...         "n_layers": [1, 1],
    ...     },
    ...     decoder={
    ...         "_target_": layers + "UNetDecoder",
    ...         "conv_block": block,
    ...         "up_sampling_block": {"_target_": layers + "TransposedConvUpsample"},
    ...         "output_layer": {"_target_": layers + "BasicConvBlock", "kernel_size": 1},
    ...         "recurrent_block": {"_target_": layers + "ConvGRUBlock"},
    ...         "n_channels": [16, 8],
    ...         "n_layers": [1, 1],
    ...     },
    ...     input_channels=2, output_channels=2, n_constants=1, decoder_input_channels=1,
    ...     input_time_dim=2, output_time_dim=4,
    ... )
    >>> state, radiation = torch.randn(4, 12, 4, 2, 8, 8), torch.randn(4, 12, 6, 1, 8, 8)
    >>> land = torch.randn(12, 1, 8, 8)
    >>> model([state, radiation, land]).shape
    torch.Size([4, 12, 4, 2, 8, 8])
    """

    __supported_model_checkpoint_version__ = NEWER_FILES
    _argument_history = PATHS

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record configurations as files hold them, whatever kind of mapping they are."""
        return super().__new__(cls, *map(serializable, args), **serializable(kwargs))

    def __init__(
        self,
        encoder: Configuration,
        decoder: Configuration,
        input_channels: int,
        output_channels: int,
        n_constants: int,
        decoder_input_channels: int,
        input_time_dim: int,
        output_time_dim: int,
        delta_time: str = "6h",
        reset_cycle: str = "24h",
        presteps: int = 1,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
        couplings: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(meta=MetaData())
        if not n_constants and not decoder_input_channels:
            raise NotImplementedError(
                "no support for models with no constant fields and no decoder inputs: n_constants "
                "and decoder_input_channels are 0; pass a field of zeros"
            )
        self.fields = Fields(
            input_channels=input_channels,
            output_channels=output_channels,
            n_constants=n_constants,
            decoder_input_channels=decoder_input_channels,
            input_time_dim=input_time_dim,
            output_time_dim=output_time_dim,
            coupled=coupled_fields(couplings, n_constants, decoder_input_channels),
        )
        if self.fields.network_outputs != self.fields.state_channels:
            raise ValueError(
                f"changes are predicted, of all fields at all times: expected as many "
                f"output_channels as input_channels, and an output_time_dim that is a multiple of "
                f"input_time_dim; got {output_channels}, {input_channels}, {output_time_dim} and "
                f"{input_time_dim}"
            )
        if presteps < 0:
            raise ValueError(f"expected presteps of at least 0, got {presteps}")
        self.presteps = presteps
        # As fractions, since a remainder of floating-point hours need not be 0.
        step, cycle = input_time_dim * hours(delta_time), hours(reset_cycle)
        self.resets = [n for n in range(self.fields.steps) if n * step % cycle == 0]
        self.encoder, self.decoder = build_network(
            encoder,
            decoder,
            input_channels=self.fields.network_inputs,
            output_channels=self.fields.network_outputs,
            enable_nhwc=enable_nhwc,
            enable_healpixpad=enable_healpixpad,
        )

    @property
    def integration_steps(self) -> int:
        """Number of autoregressive steps of a forecast."""
        return self.fields.steps

    def reset(self) -> None:
        """Reset the hidden state of encoder and decoder, which calls of the model do not use."""
        self.encoder.reset()
        self.decoder.reset()

    def forward(self, inputs: Sequence[Any], output_only_last: bool = False) -> Tensor:
        """Forecast.

        Parameters
        ----------
        inputs
            List of these tensors, without those that have no channels:

            - state, of shape (batch, 12, times, input_channels, size, size), at the times of
              ``presteps + 1`` steps, the last of which is the initial one;
            - forcing, of shape (batch, 12, times, decoder_input_channels, size, size), at these
              times and those of all further steps;
            - constants, of shape (12, n_constants, size, size);
            - couplings, a list or a tensor of fields for each of these steps, of shape
              (batch, channels, 12, size, size).
        output_only_last
            Whether to return the prediction of the last step alone.

        Returns
        -------
        Fields of shape (batch, 12, times, output_channels, size, size), at ``output_time_dim``
        times, or at those of the last step.

        Raises
        ------
        TypeError
            If an input is not floating-point.
        ValueError
            If an input is missing, or its shape, device or number of times does not fit.
        """
        fields = self.fields
        given = split_inputs(
            fields,
            inputs,
            state_steps=self._state_steps(),
            steps=self.presteps + self.integration_steps,
            weight=next(self.parameters()),
        )
        state = fields.times(given.state, self.presteps)
        outputs: list[Tensor] = []
        hidden: list[Tensor] = []
        for step in range(self.integration_steps):
            if step in self.resets:
                hidden = self._warm_up(given, outputs, step)
            faces = fields.at_step(given, state, step + self.presteps)
            increment, hidden = self.decoder.step(self.encoder(faces), hidden)
            state = fields.of_outputs(faces[:, : fields.state_channels] + increment)
            outputs.append(state)
        return state if output_only_last else torch.cat(outputs, dim=2)

    def _warm_up(self, given: Inputs, outputs: list[Tensor], step: int) -> list[Tensor]:
        """Return the hidden state before a step, from calls with the states before it."""
        hidden: list[Tensor] = []
        for index in range(step, step + self.presteps):
            if step < self.presteps:
                state, when = self.fields.times(given.state, index), index
            else:
                # At step == presteps, the first of these is the latest prediction (index -1), as
                # nvidia-physicsnemo has it, and not the state that the first step started from.
                when = index - self.presteps + 1
                state = outputs[when - 2]
            encoded = self.encoder(self.fields.at_step(given, state, when))
            _, hidden = self.decoder.step(encoded, hidden)
        return hidden

    def _state_steps(self) -> int:
        """Return the number of steps that the input state covers."""
        return self.presteps + max([1, *(step for step in self.resets if step < self.presteps)])


def hours(duration: str) -> Fraction:
    """Parse a duration, and return its number of hours.

    Parameters
    ----------
    duration
        Number and unit: minutes, hours or days, as in ``30min``, ``6h`` or ``1 day``.

    Raises
    ------
    ValueError
        If it has another form, or is zero.

    Examples
    --------
    >>> from physicsnemo.models.dlwp_healpix.HEALPixRecUNet import hours
    >>> int(hours("1.5d"))
    36
    """
    match = re.fullmatch(_DURATION, str(duration).lower())
    if match is None or not float(match[1]):
        raise ValueError(f"expected a duration such as '6h', '30min' or '1d', got {duration!r}")
    return Fraction(match[1]) * _HOURS[match[2][0]]
