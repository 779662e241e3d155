# SPDX-License-Identifier: Apache-2.0
"""Layers compile to one graph."""

import pytest
import torch

from physicsnemo import nn

LAYERS = {
    "FCLayer": (nn.FCLayer(3, 4, "silu"), (2, 3)),
    "WeightNormLinear": (nn.WeightNormLinear(3, 4), (2, 3)),
    "WeightFactLinear": (nn.WeightFactLinear(3, 4), (2, 3)),
    "Conv1dFCLayer": (nn.Conv1dFCLayer(3, 4, "gelu"), (2, 3, 5)),
    "Conv2dFCLayer": (nn.Conv2dFCLayer(3, 4, "gelu"), (2, 3, 5, 4)),
    "Conv3dFCLayer": (nn.Conv3dFCLayer(3, 4, "gelu"), (2, 3, 5, 4, 2)),
    "ConvNdFCLayer": (nn.ConvNdFCLayer(3, 4, "gelu"), (2, 3, 5, 4, 2, 2)),
    "PixelShuffle": (nn.PixelShuffle(2), (2, 8, 3, 2, 4)),
    "Stan": (nn.Stan(3), (2, 3)),
    "SquarePlus": (nn.SquarePlus(), (2, 3)),
    "CappedGELU": (nn.CappedGELU(), (2, 3)),
    "CappedLeakyReLU": (nn.CappedLeakyReLU(), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_one_graph(name):
    layer, shape = LAYERS[name]
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(shape)
    torch.testing.assert_close(compiled(x), layer(x))
