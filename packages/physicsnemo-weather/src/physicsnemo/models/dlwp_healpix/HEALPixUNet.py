# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N999  # the path that files of nvidia-physicsnemo name
"""U-Net on the HEALPix grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix._fields import Fields, coupled_fields, split_inputs
from physicsnemo.models.dlwp_healpix._network import NEWER_FILES, PATHS, build_network
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, serializable
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER, has_oddity, implied

__all__ = ["HEALPixUNet", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`HEALPixUNet` supports."""

    name: str = "DLWP_HEALPixUNet"
    cuda_graphs: bool = True
    amp_cpu: bool | None = True
    amp_gpu: bool | None = True
    var_dim: int = 1


class HEALPixUNet(Module):
    """Deep-learning weather prediction (DLWP) by a U-Net on the HEALPix grid.

    Each step maps the state at ``input_time_dim`` times to as many later times; steps are rolled
    out autoregressively up to ``output_time_dim`` times. The network predicts the increment of the
    state, as the published code does, or the state itself if input and output differ in their
    fields or times. With ``output_time_dim=1`` and several input times, one step diagnoses a single
    time.

    Faces 0 to 3 are around the north pole, 4 to 7 on the equator and 8 to 11 around the south pole,
    each four eastward. Rows of a face run from its northern corner to the southwest, columns to the
    southeast.

    Parameters
    ----------
    encoder
        Configuration of a :class:`physicsnemo.models.dlwp_healpix_layers.UNetEncoder`: a mapping
        with the path of the class under ``_target_``, and its arguments, some of which are
        configurations too. Only layers of that package, and activations, can be named.
    decoder
        Configuration of a :class:`physicsnemo.models.dlwp_healpix_layers.UNetDecoder`.
    input_channels
        Number of fields of the state.
    output_channels
        Number of predicted fields.
    n_constants
        Number of constant fields.
    decoder_input_channels
        Number of forcing fields, which are known at all times, such as insolation.
    input_time_dim
        Number of input times of a step.
    output_time_dim
        Number of predicted times: a multiple of ``input_time_dim``, or 1.
    presteps
        Ignored; it makes the arguments those of the recurrent model.
    enable_nhwc
        Whether weights of convolutions are in channels-last memory format.
    enable_healpixpad
        Ignored; there is one padding.
    couplings
        Fields of other models, such as an ocean model: mappings whose ``params`` have ``variables``
        and ``input_times``, with a field for each pair.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do, as their files imply. Here they all do the same: the network predicts
        the state itself instead of its increment.

    Raises
    ------
    NotImplementedError
        If there are couplings, but no constant or no forcing fields.
    TypeError
        If a configuration is not a mapping, or a layer does not take an argument.
    ValueError
        If a configuration names an unknown class, numbers do not fit together, or ``numerics`` are
        unknown.

    References
    ----------
    Karlbauer et al. 2024, Advancing parsimonious deep learning weather prediction using the
    HEALPix mesh, arXiv:2311.06253, and the code that its authors publish with it.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.dlwp_healpix import HEALPixUNet
    >>> layers = "physicsnemo.models.dlwp_healpix_layers."
    >>> block = {"_target_": layers + "ConvNeXtBlock", "activation": "gelu"}
    >>> model = HEALPixUNet(
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
    ...         "n_channels": [16, 8],
    ...         "n_layers": [1, 1],
    ...     },
    ...     input_channels=2, output_channels=2, n_constants=1, decoder_input_channels=1,
    ...     input_time_dim=1, output_time_dim=2,
    ... )
    >>> state, radiation = torch.randn(4, 12, 1, 2, 8, 8), torch.randn(4, 12, 2, 1, 8, 8)
    >>> land = torch.randn(12, 1, 8, 8)
    >>> model([state, radiation, land]).shape
    torch.Size([4, 12, 2, 2, 8, 8])
    """

    __supported_model_checkpoint_version__ = NEWER_FILES
    _argument_history = PATHS
    _implied_args = implied("predicted_state")

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
        presteps: int = 0,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
        couplings: Sequence[Mapping[str, Any]] = (),
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        self.fields = Fields(
            input_channels=input_channels,
            output_channels=output_channels,
            n_constants=n_constants,
            decoder_input_channels=decoder_input_channels,
            input_time_dim=input_time_dim,
            output_time_dim=output_time_dim,
            coupled=coupled_fields(couplings, n_constants, decoder_input_channels),
        )
        alike = self.fields.network_outputs == self.fields.state_channels
        self.predicts_changes = not has_oddity(numerics, "predicted_state") and alike
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

    def forward(self, inputs: Sequence[Any], output_only_last: bool = False) -> Tensor:
        """Forecast.

        Parameters
        ----------
        inputs
            List of these tensors, without those that have no channels:

            - state, of shape (batch, 12, times, input_channels, size, size), at ``input_time_dim``
              times;
            - forcing, of shape (batch, 12, times, decoder_input_channels, size, size), at the times
              of all steps;
            - constants, of shape (12, n_constants, size, size);
            - couplings, a list or a tensor of fields for each step, of shape
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
        fields, steps = self.fields, self.integration_steps
        given = split_inputs(
            fields, inputs, state_steps=1, steps=steps, weight=next(self.parameters())
        )
        state = fields.times(given.state, 0)
        outputs: list[Tensor] = []
        memory: list[Tensor] = []
        for step in range(steps):
            faces = fields.at_step(given, state, step)
            predicted, memory = self.decoder.step(self.encoder(faces), memory)
            if self.predicts_changes:
                predicted = faces[:, : fields.state_channels] + predicted
            state = fields.of_outputs(predicted)
            outputs.append(state)
        return state if output_only_last else torch.cat(outputs, dim=2)
