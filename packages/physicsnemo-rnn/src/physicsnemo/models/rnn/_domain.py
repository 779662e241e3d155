# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of recurrent models over ranks.

Rows are the first axis of the grid, behind that of time. Only the last rank has rows that strides
may not divide. The entry-point group ``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from physicsnemo.models.rnn._recurrent import RecurrentModel
from physicsnemo.models.rnn.layers import ConvGRULayer, ConvLayer, TransposeConvLayer
from physicsnemo.models.rnn.rnn_one2many import One2ManyRNN
from physicsnemo.models.rnn.rnn_seq2seq import Seq2SeqRNN

ROWS = 2  # of (batch, channels, rows, ...)


def convolution(layer: ConvLayer, domain: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the forward of a convolution that swaps the paddings of its axes."""
    if not layer.swaps_pads:
        return None

    def forward(x: Tensor) -> Tensor:
        if any(size % domain.unit for size in domain.sizes):
            raise ValueError(
                f"expected a number of rows that {domain.unit} divides, since these numerics swap "
                f"the paddings of axes, got {sum(domain.sizes)}"
            )
        # Rows that the last axis would need; no kernel reaches them.
        padded = layer._padded(x).narrow(ROWS, 0, x.shape[ROWS])
        output: Tensor = layer.activation_fn(layer.conv(padded))
        return output

    return forward


def cell(layer: ConvGRULayer, domain: Any) -> None:
    """Let a recurrent cell look at rows of the neighbouring ranks."""

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        axes = [1] * layer.dimension
        result: Tensor = domain.convolve(x, weight, bias, stride=axes, padding=axes)
        return result

    layer._convolve = convolve  # type: ignore[method-assign]


def model(module: RecurrentModel, domain: Any) -> None:
    """Let a decoder whose numerics cut rows off do so at the end of the grid alone."""
    levels = [cast(nn.Sequential, level)[0] for level in list(module.decoder_layers)[:-1]]
    for index, layer in enumerate(levels):
        if cast(TransposeConvLayer, layer).cuts_short:
            layer.forward = _doubling(cast(TransposeConvLayer, layer), index, domain)


def _doubling(layer: TransposeConvLayer, index: int, domain: Any) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        rows = -(-sum(domain.sizes) // domain.unit)
        for _ in range(index):
            rows = 2 * rows - rows % 2
        # Where the grid does not end, as if it were even.
        seen = rows if domain.rank == domain.size - 1 else 2
        return layer._activated(layer.trans_conv(x), [seen, *x.shape[3:]])

    return forward


MODELS = dict.fromkeys(
    (One2ManyRNN, Seq2SeqRNN), lambda model: (3, 2 ** (len(model.decoder_layers) - 1))
)
RULES = {
    ConvGRULayer: cell,
    ConvLayer: convolution,
    One2ManyRNN: model,
    Seq2SeqRNN: model,
}
