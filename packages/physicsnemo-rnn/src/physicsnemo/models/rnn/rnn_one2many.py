# SPDX-License-Identifier: Apache-2.0
"""Convolutional recurrent network that continues one field."""

from dataclasses import dataclass

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.rnn._recurrent import RecurrentModel
from physicsnemo.nn.tracing import is_tracing

__all__ = ["MetaData", "One2ManyRNN"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`One2ManyRNN` supports."""

    name: str = "One2ManyRNN"
    cuda_graphs: bool = True
    amp: bool = True
    torch_fx: bool = True
    onnx: bool = True
    onnx_runtime: bool = True
    func_torch: bool = True
    auto_grad: bool = True


class One2ManyRNN(RecurrentModel):
    """Convolutional recurrent network from one field to those of the next time steps.

    A recurrent cell, :class:`~physicsnemo.models.rnn.layers.ConvGRULayer`, works on a coarser grid
    than the fields. Residual blocks lead there and back:

    - encoder: gated residual blocks, some of which halve the grid and double the channels;
    - cell: from a state of zeros and the encoded field to the first state, and from each state to
      the next, each time with the state itself as input;
    - decoder: transposed convolutions double the grid and halve the channels, each before more
      blocks, as often as the encoder halved it; two pointwise linear layers end it.

    Where gradients are recorded, the decoder gets all time steps as one batch. Elsewhere one time
    step is decoded after the other, into the output, and the memory for all else is that of one
    time step.

    Checkpoints also hold weights of a last level of the decoder, and of linear layers beside the
    other levels, which nothing depends on. They are not computed, and their ``requires_grad`` is
    false, so that data-parallel training needs no search for unused parameters.

    Parameters
    ----------
    input_channels
        Input and output channels.
    dimension
        Number of spatial dimensions, 2 or 3.
    nr_latent_channels
        Base channel count: latent channels on the finest grid, at least 2; each halving of the grid
        doubles them.
    nr_residual_blocks
        Number of residual blocks on each level of encoder and decoder.
    activation_fn
        Activation of the residual blocks, by name (:func:`physicsnemo.nn.get_activation`); all
        share it. That of the cell is ReLU.
    nr_downsamples
        Number of encoder levels. The grid is halved from each to the next one, so that 1 keeps the
        grid of the fields.
    nr_tsteps
        Number of time steps of the output.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it: until 1.3, to halve a grid, its axes
        swap their paddings, which matters if the number of points is even along one and odd along
        another; and in all of them n points are doubled to 2 n - 1 if n is odd, so that fewer
        points may come out than went in. See :class:`~physicsnemo.models.rnn.layers.ConvLayer` and
        :class:`~physicsnemo.models.rnn.layers.TransposeConvLayer`. Both make no difference where
        2^nr_downsamples divides all axes of the grid, or where nr_downsamples is 1. Until 1.3,
        further time steps of the input are ignored, too.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If another option has a value that it cannot have, or the first block would have more
        channels in than out.

    References
    ----------
    Ballas et al. 2016, Delving deeper into convolutional networks for learning video
    representations, arXiv:1511.06432 (the cell); Salimans et al. 2017,
    arXiv:1701.05517 (the gated blocks).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.rnn import One2ManyRNN
    >>> model = One2ManyRNN(input_channels=2, nr_latent_channels=8, nr_tsteps=5)
    >>> model(torch.randn(4, 2, 1, 16, 24)).shape
    torch.Size([4, 2, 5, 16, 24])
    """

    _meta = MetaData

    def forward(self, x: Tensor) -> Tensor:
        """Continue fields.

        Parameters
        ----------
        x
            Fields of shape (batch, input_channels, 1, *grid). With the numerics of a release before
            2.0 they may have several time steps, of which all but the first are ignored.

        Returns
        -------
        Fields of shape (batch, input_channels, nr_tsteps, *grid) at the time steps that follow.

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        self._check(x, {"nr_tsteps": ...})
        if not self.ignores_further_steps and not is_tracing():
            _check_steps(x)
        encoding = self.encoder_layers(x.select(2, 0))
        return self._continue(encoding, torch.zeros_like(encoding), x)


@torch.fx.wrap  # symbolic tracing keeps the call
def _check_steps(x: Tensor) -> None:
    if x.shape[2] > 1:
        raise ValueError(
            f"expected one time step, got {x.shape[2]} in an input of shape {tuple(x.shape)}, of "
            f"which only the first would matter; pass that alone, as in x[:, :, :1], or continue "
            f"several by Seq2SeqRNN"
        )
