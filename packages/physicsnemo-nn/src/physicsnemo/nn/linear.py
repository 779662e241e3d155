# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers, plain, with weight normalization and with weight factorization."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn.activations import Activation, as_activation


class FCLayer(nn.Module):
    """Fully connected layer: a linear layer with an activation.

    Weights start from Glorot's uniform distribution, biases from zero.

    Parameters
    ----------
    in_features
        Input features, the size of the last axis.
    out_features
        Output features.
    activation_fn
        Name of an activation (:func:`get_activation`), a module or function, or None for none.
    weight_norm
        Weight normalization (:class:`WeightNormLinear`).
    weight_fact
        Weight factorization (:class:`WeightFactLinear`).
    activation_par
        Adaptive activation: a trainable factor on its input, of shape (1,), which layers may share.

    Raises
    ------
    ValueError
        If both ``weight_norm`` and ``weight_fact`` are asked for.

    References
    ----------
    Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
    networks; Jagtap et al. 2020, arXiv:1906.01170 (adaptive activations).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn import FCLayer
    >>> FCLayer(3, 8, "tanh")(torch.zeros(5, 3)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation_fn: Activation = None,
        weight_norm: bool = False,
        weight_fact: bool = False,
        activation_par: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        if weight_norm and weight_fact:
            raise ValueError("weight_norm and weight_fact exclude each other, set only one of them")
        self.activation_fn = as_activation(activation_fn)
        self.activation_par = activation_par
        if weight_norm:
            self.linear: nn.Module = WeightNormLinear(in_features, out_features)
        elif weight_fact:
            self.linear = WeightFactLinear(in_features, out_features)
        else:
            self.linear = glorot_(nn.Linear(in_features, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., in_features) to shape (..., out_features)."""
        x = self.linear(x)
        return self.activation_fn(x if self.activation_par is None else self.activation_par * x)


class WeightNormLinear(nn.Module):
    r"""Linear layer with weight normalization.

    The weight is :math:`g v / \|v\|` row by row, where ``weight_g`` of shape (out_features, 1) is
    :math:`g` and ``weight`` of shape (out_features, in_features) is :math:`v`.

    Parameters
    ----------
    in_features
        Input features, the size of the last axis.
    out_features
        Output features.
    bias
        Add a trainable bias.

    References
    ----------
    Salimans and Kingma 2016, arXiv:1602.07868.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.weight_g = nn.Parameter(torch.ones(out_features, 1))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., in_features) to shape (..., out_features)."""
        length = torch.linalg.vector_norm(self.weight, dim=1, keepdim=True)
        return functional.linear(x, self.weight_g * self.weight / length, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return _sizes(self)


class WeightFactLinear(nn.Module):
    """Linear layer with random weight factorization.

    The weight is ``g * v``, with ``g`` of shape (out_features, 1) and ``v`` of shape
    (out_features, in_features). At the start the product has Glorot's uniform distribution.

    Parameters
    ----------
    in_features
        Input features, the size of the last axis.
    out_features
        Output features.
    bias
        Add a trainable bias.
    mean, stddev
        Mean and standard deviation of the logarithm of ``g`` at the start, which is normally
        distributed.

    References
    ----------
    Wang et al. 2022, arXiv:2210.01274.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        mean: float = 1.0,
        stddev: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        weight = nn.init.xavier_uniform_(torch.empty(out_features, in_features))
        factor = torch.exp(torch.empty(out_features, 1).normal_(mean, stddev))
        self.g = nn.Parameter(factor)
        self.v = nn.Parameter(weight / factor)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., in_features) to shape (..., out_features)."""
        return functional.linear(x, self.g * self.v, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return _sizes(self)


def glorot_(layer: nn.Module) -> nn.Module:
    """Initialize a layer in place, Glorot's uniform weight and zero bias, and return it."""
    weight, bias = layer.parameters()
    nn.init.xavier_uniform_(weight)
    nn.init.zeros_(bias)
    return layer


def _sizes(layer: WeightNormLinear | WeightFactLinear) -> str:
    bias = layer.bias is not None
    return f"in_features={layer.in_features}, out_features={layer.out_features}, bias={bias}"
