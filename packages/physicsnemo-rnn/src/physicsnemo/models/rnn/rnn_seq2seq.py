# SPDX-License-Identifier: Apache-2.0
"""Convolutional recurrent network that continues a sequence of fields."""

from dataclasses import dataclass

import torch
from torch import Tensor

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.rnn._recurrent import RecurrentModel, each_step

__all__ = ["MetaData", "Seq2SeqRNN"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Seq2SeqRNN` supports."""

    name: str = "Seq2SeqRNN"
    cuda_graphs: bool = True
    amp: bool = True
    torch_fx: bool = True
    onnx: bool = True
    onnx_runtime: bool = True
    func_torch: bool = True
    auto_grad: bool = True


class Seq2SeqRNN(RecurrentModel):
    """Convolutional recurrent network from a sequence of fields to the sequence that follows.

    A recurrent cell, :class:`~physicsnemo.models.rnn.layers.ConvGRULayer`, works on a coarser grid
    than the fields. Residual blocks lead there and back:

    - encoder: gated residual blocks, some of which halve the grid and double the channels;
    - cell: from a state of zeros through all encoded fields; by the last of them, once more, to the
      first state that is decoded; and from each state to the next, with the state itself as input;
    - decoder: transposed convolutions double the grid and halve the channels, each before more
      blocks, as often as the encoder halved it; two pointwise linear layers end it.

    Where gradients are recorded, encoder and decoder get all time steps as one batch. Elsewhere one
    time step is encoded or decoded after the other, into the output, and the memory for all else is
    that of one time step.

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
        Number of time steps of the input, and of the output.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it: until 1.3, to halve a grid, its axes
        swap their paddings, which matters if the number of points is even along one and odd along
        another; and in all of them n points are doubled to 2 n - 1 if n is odd, so that fewer
        points may come out than went in. See :class:`~physicsnemo.models.rnn.layers.ConvLayer` and
        :class:`~physicsnemo.models.rnn.layers.TransposeConvLayer`. It makes no difference where
        2^nr_downsamples divides all axes of the grid, or where nr_downsamples is 1.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If another option has a value that it cannot have, or the first block would have more
        channels in than out.

    References
    ----------
    Sutskever et al. 2014, Sequence to sequence learning with neural networks, arXiv:1409.3215;
    Ballas et al. 2016, Delving deeper into convolutional networks for learning video
    representations, arXiv:1511.06432 (the cell); Salimans et al. 2017,
    arXiv:1701.05517 (the gated blocks).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.rnn import Seq2SeqRNN
    >>> model = Seq2SeqRNN(input_channels=2, nr_latent_channels=8, nr_tsteps=5)
    >>> model(torch.randn(4, 2, 5, 16, 24)).shape
    torch.Size([4, 2, 5, 16, 24])
    """

    _meta = MetaData

    def forward(self, x: Tensor) -> Tensor:
        """Continue sequences of fields.

        Parameters
        ----------
        x
            Fields of shape (batch, input_channels, nr_tsteps, *grid).

        Returns
        -------
        Fields of that shape at the time steps that follow.

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        self._check(x, {"nr_tsteps": self.nr_tsteps})
        frames = (x.select(2, step) for step in range(self.nr_tsteps))
        encodings = each_step(self.encoder_layers, frames)
        encoding = next(encodings)
        hidden = self.rnn_layer(encoding, torch.zeros_like(encoding))
        for encoding in encodings:
            hidden = self.rnn_layer(encoding, hidden)
        return self._continue(encoding, hidden, x)
