# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N999  # the path that files of nvidia-physicsnemo name
"""A U-Net for fields on the HEALPix grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from physicsnemo.models.dlwp_healpix._fields import Fields, coupled_fields
from physicsnemo.models.dlwp_healpix._inputs import take
from physicsnemo.models.dlwp_healpix._network import NEWER_FILES, PATHS, build_network
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, plain
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
    """Deep-learning weather prediction by a U-Net on the HEALPix grid.

    The network maps the state at ``input_time_dim`` times to that at as many later times, and is
    called again with its own prediction until ``output_time_dim`` times are predicted. It predicts
    by how much the state changes, as the published code does; where the prediction has not the
    fields of the state at as many times, there is nothing to add it to, and it is taken as it is.
    With ``output_time_dim=1`` and more input times it is called once, and diagnoses one time.

    Faces 0 to 3 are around the north pole, 4 to 7 around the equator and 8 to 11 around the south
    pole, each four following each other eastwards. Rows of a face run from its northern corner to
    the south-west, columns to the south-east.

    Parameters
    ----------
    encoder
        Configuration of :class:`physicsnemo.models.dlwp_healpix_layers.UNetEncoder`: a mapping
        with the class's path under ``_target_``, and its arguments, some of which are
        configurations too. Only layers of that package, and activations, can be named.
    decoder
        The same of :class:`physicsnemo.models.dlwp_healpix_layers.UNetDecoder`.
    input_channels
        Number of fields of the state.
    output_channels
        Number of fields predicted.
    n_constants
        Number of fields that do not change in time.
    decoder_input_channels
        Number of fields that are known at all times, as is the sun's radiation.
    input_time_dim
        Number of times that one step starts from.
    output_time_dim
        Number of times to predict: a multiple of ``input_time_dim``, or 1.
    presteps
        Not used; there so that both models take the same arguments.
    enable_nhwc
        Keep the weights of convolutions in memory with channels last. The numbers are the same.
    enable_healpixpad
        Has no effect; there is one padding.
    couplings
        What comes from other models, such as one of the ocean: each a mapping whose ``params``
        have ``variables`` and ``input_times``, which make one field each.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. They do the same here: the network
        predicts the state itself, and not by how much it changes.

    Raises
    ------
    NotImplementedError
        If there are couplings, but no constants or no known fields.
    TypeError
        If a configuration is no mapping, or a layer does not take an argument.
    ValueError
        If a configuration names no known class, numbers do not fit together, or ``numerics`` is
        none of the above.

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
        presteps: int = 0,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
        couplings: Sequence[Mapping[str, Any]] = (),
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        self.fields = Fields(
            input_channels,
            output_channels,
            n_constants,
            decoder_input_channels,
            input_time_dim,
            output_time_dim,
            coupled_fields(couplings, n_constants, decoder_input_channels),
        )
        alike = self.fields.network_outputs == self.fields.state_channels
        self.predicts_changes = not has_oddity(numerics, "predicted_state") and alike
        self.encoder, self.decoder = build_network(
            encoder,
            decoder,
            (self.fields.network_inputs, self.fields.network_outputs),
            enable_nhwc,
            enable_healpixpad,
        )

    @property
    def integration_steps(self) -> int:
        """How often the network is called for one prediction."""
        return self.fields.steps

    def forward(self, inputs: Sequence[Any], output_only_last: bool = False) -> Tensor:
        """Predict.

        Parameters
        ----------
        inputs
            A list, without those parts of which there are no channels:

            - the state, of shape (batch, 12, times, input_channels, size, size), at
              ``input_time_dim`` times;
            - known fields, of shape (batch, 12, times, decoder_input_channels, size, size), at
              the times of all steps;
            - constants, of shape (12, n_constants, size, size);
            - couplings, a list or a tensor with, for each step, fields of shape
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
        fields, steps = self.fields, self.integration_steps
        given = take(fields, inputs, 1, steps, next(self.parameters()))
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
