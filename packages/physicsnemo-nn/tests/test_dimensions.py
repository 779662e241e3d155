# SPDX-License-Identifier: Apache-2.0
"""Layers by the number of grid axes."""

import pytest
import torch

from physicsnemo.nn import dimensions

CHOICES = {
    dimensions.convolution: "Conv{}d",
    dimensions.transposed_convolution: "ConvTranspose{}d",
    dimensions.batch_normalization: "BatchNorm{}d",
}


@pytest.mark.parametrize(
    ("choice", "name"), CHOICES.items(), ids=lambda it: getattr(it, "__name__", "")
)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_class_of_pytorch(choice, name, dimension):
    assert choice(dimension) is getattr(torch.nn, name.format(dimension))


@pytest.mark.parametrize("choice", CHOICES, ids=lambda it: it.__name__)
@pytest.mark.parametrize("dimension", [0, 4, -1, None, "2"])
def test_no_such_class(choice, dimension):
    with pytest.raises(ValueError, match=f"expected dimension 1, 2 or 3, got {dimension!r}"):
        choice(dimension)
