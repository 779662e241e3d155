# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N999  # the path that files of nvidia-physicsnemo name
"""A recurrent U-Net for fields on the HEALPix grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix._durations import hours
from physicsnemo.models.dlwp_healpix._fields import Fields, Given, coupled_fields
from physicsnemo.models.dlwp_healpix._inputs import take
from physicsnemo.models.dlwp_healpix._network import NEWER_FILES, PATHS, build_network
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, plain
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module

__all__ = ["HEALPixRecUNet", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`HEALPixRecUNet` supports."""

    name: str = "DLWP_HEALPixRec"
    cuda_graphs: bool = True
    amp_cpu: bool | None = True
    amp_gpu: bool | None = True
    var_dim: int = 1


class HEALPixRecUNet(Module):
    """Deep-learning weather prediction by a U-Net with memory on the HEALPix grid.

    The network predicts by how much the state changes in ``input_time_dim`` times, and is called
    again with its own prediction until ``output_time_dim`` times are predicted. Its memory is
    filled in ``presteps`` calls before the first step, and again each ``reset_cycle``.

    Parameters
    ----------
    encoder, decoder, input_channels, output_channels, n_constants, decoder_input_channels
        As in :class:`physicsnemo.models.dlwp_healpix.HEALPixUNet`, with as many output channels as
        input channels; there must be constants or known fields.
    input_time_dim
        Number of times that one step starts from, and predicts.
    output_time_dim
        Number of times to predict, a multiple of ``input_time_dim``.
    delta_time
        From one time to the next, as in ``6h``.
    reset_cycle
        After how long the memory is filled anew, as in ``24h`` or ``1d``.
    presteps
        Number of calls that fill the memory.
    enable_nhwc, enable_healpixpad, couplings
        As in :class:`physicsnemo.models.dlwp_healpix.HEALPixUNet`.

    Raises
    ------
    NotImplementedError
        If there are neither constants nor known fields, or there are couplings and not both.
    TypeError
        If a configuration is no mapping, or a layer does not take an argument.
    ValueError
        If a configuration names no known class, a duration is none, or numbers do not fit together.

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
        return super().__new__(cls, *map(plain, args), **plain(kwargs))

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
            input_channels,
            output_channels,
            n_constants,
            decoder_input_channels,
            input_time_dim,
            output_time_dim,
            coupled_fields(couplings, n_constants, decoder_input_channels),
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
        step, cycle = input_time_dim * hours(delta_time), hours(reset_cycle)
        self.resets = [n for n in range(self.fields.steps) if n * step % cycle == 0]
        self.encoder, self.decoder = build_network(
            encoder,
            decoder,
            (self.fields.network_inputs, self.fields.network_outputs),
            enable_nhwc,
            enable_healpixpad,
        )

    @property
    def integration_steps(self) -> int:
        """How many steps make up a prediction."""
        return self.fields.steps

    def reset(self) -> None:
        """Forget what the two halves remember of calls of their own; calls of the model do not."""
        self.encoder.reset()
        self.decoder.reset()

    def forward(self, inputs: Sequence[Any], output_only_last: bool = False) -> Tensor:
        """Predict.

        Parameters
        ----------
        inputs
            A list, without those parts of which there are no channels:

            - the state, of shape (batch, 12, times, input_channels, size, size), at the times of
              ``presteps + 1`` steps, the last of which the prediction starts from;
            - known fields, of shape (batch, 12, times, decoder_input_channels, size, size), at
              the times of these, and of all further steps;
            - constants, of shape (12, n_constants, size, size);
            - couplings, a list or a tensor with, for each of these steps, fields of shape
              (batch, channels, 12, size, size).
        output_only_last
            Return the last step's prediction alone.

        Returns
        -------
        Fields of shape (batch, 12, times, output_channels, size, size), at ``output_time_dim``
        times, or at those of the last step.

        Raises
        ------
        TypeError
            If a part does not hold floating-point numbers.
        ValueError
            If a part is missing, or has another shape, device or number of times than needed.
        """
        fields, steps = self.fields, self.presteps + self.integration_steps
        given = take(fields, inputs, self._state_steps(), steps, next(self.parameters()))
        state = fields.times(given.state, self.presteps)
        outputs: list[Tensor] = []
        memory: list[Tensor] = []
        for step in range(self.integration_steps):
            if step in self.resets:
                memory = self._fill_memory(given, outputs, step)
            faces = fields.at_step(given, state, step + self.presteps)
            change, memory = self.decoder.step(self.encoder(faces), memory)
            state = fields.of_outputs(faces[:, : fields.state_channels] + change)
            outputs.append(state)
        return state if output_only_last else torch.cat(outputs, dim=2)

    def _fill_memory(self, given: Given, outputs: list[Tensor], step: int) -> list[Tensor]:
        memory: list[Tensor] = []
        for index in range(step, step + self.presteps):
            if step < self.presteps:
                state, when = self.fields.times(given.state, index), index
            else:
                # At step == presteps, the first of these is the latest prediction (index -1), as
                # nvidia-physicsnemo has it, and not the state that the first step started from.
                when = index - self.presteps + 1
                state = outputs[when - 2]
            encoded = self.encoder(self.fields.at_step(given, state, when))
            _, memory = self.decoder.step(encoded, memory)
        return memory

    def _state_steps(self) -> int:
        """Return for how many steps the state must be given."""
        return self.presteps + max([1, *(step for step in self.resets if step < self.presteps)])
