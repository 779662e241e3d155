# SPDX-License-Identifier: Apache-2.0
"""Fully connected network (MLP)."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat

import torch
from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import FCLayer
from physicsnemo.nn.checks import check_at_least, check_input

__all__ = ["FullyConnected", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`FullyConnected` supports."""

    name: str = "FullyConnected"
    jit: bool = True
    cuda_graphs: bool = True
    amp: bool = True
    torch_fx: bool = True
    onnx: bool = True
    onnx_runtime: bool = True
    func_torch: bool = True
    auto_grad: bool = True


class FullyConnected(Module):
    """Fully connected network (MLP): hidden layers of one size, then a linear layer.

    Parameters
    ----------
    in_features
        Input features, the size of the last axis.
    layer_size
        Hidden features: size of each hidden layer.
    out_features
        Output features.
    num_layers
        Number of hidden layers. With 0 the linear layer is all there is, and it expects
        ``layer_size`` features rather than ``in_features``.
    activation_fn
        Activation of the hidden layers, by name (:func:`physicsnemo.nn.get_activation`), or a list
        with a name for each layer. The last name of a shorter list serves the remaining layers;
        surplus names of a longer one are not used, and a warning says so.
    skip_connections
        Skip connections: add to the output of the third, fifth, ... hidden layer that of the layer
        two before, as it was before its own skip connection.
    adaptive_activations
        Adaptive activations: one trainable factor on the input of every activation.
    weight_norm
        Weight normalization of the hidden layers (:class:`physicsnemo.nn.WeightNormLinear`).
    weight_fact
        Weight factorization of the hidden layers (:class:`physicsnemo.nn.WeightFactLinear`).

    Raises
    ------
    KeyError
        If there is no activation of that name.
    TypeError
        If a size or number is no whole number.
    ValueError
        If ``num_layers`` is negative, a size is not positive, ``activation_fn`` is an empty list,
        or both ``weight_norm`` and ``weight_fact`` are asked for.

    References
    ----------
    Jagtap et al. 2020, arXiv:1906.01170 (adaptive activations); Salimans and Kingma 2016,
    arXiv:1602.07868 (weight normalization); Wang et al. 2022, arXiv:2210.01274 (weight
    factorization).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.mlp import FullyConnected
    >>> model = FullyConnected(in_features=32, out_features=64)
    >>> model(torch.randn(128, 32)).shape
    torch.Size([128, 64])
    """

    _draws_only_weights = True

    def __init__(
        self,
        in_features: int = 512,
        layer_size: int = 512,
        out_features: int = 512,
        num_layers: int = 6,
        activation_fn: str | list[str] = "silu",
        skip_connections: bool = False,
        adaptive_activations: bool = False,
        weight_norm: bool = False,
        weight_fact: bool = False,
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(0, num_layers=num_layers)
        check_at_least(1, in_features=in_features, layer_size=layer_size, out_features=out_features)
        entry = {"in_features": in_features} if num_layers else {"layer_size": layer_size}
        self._layout = {"...": None} | entry
        self.skip_connections = skip_connections
        factor = nn.Parameter(torch.ones(1)) if adaptive_activations else None
        activations = _activation_of_each_layer(activation_fn, num_layers)
        self.layers = nn.ModuleList(
            FCLayer(
                layer_size if index else in_features,
                layer_size,
                activation_fn=activation,
                weight_norm=weight_norm,
                weight_fact=weight_fact,
                activation_par=factor,
            )
            for index, activation in enumerate(activations)
        )
        self.final_layer = FCLayer(layer_size, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to the last axis.

        Parameters
        ----------
        x
            Features of shape (..., in_features); (..., layer_size) if ``num_layers`` is 0.

        Returns
        -------
        Features of shape (..., out_features).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If its last axis has another size than that, or it is on another device.
        """
        check_input(x, self._layout, next(self.parameters()))
        skipped = None
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if self.skip_connections and index % 2 == 0:
                x, skipped = (x if skipped is None else x + skipped), x
        output: Tensor = self.final_layer(x)
        return output


def _activation_of_each_layer(activation_fn: str | list[str], num_layers: int) -> Iterator[str]:
    names = [activation_fn] if isinstance(activation_fn, str) else list(activation_fn)
    if not names:
        raise ValueError("expected activation_fn to name at least one activation, got []")
    if not isinstance(activation_fn, str) and len(names) > num_layers:
        warnings.warn(
            f"activation_fn names {len(names)} activations for num_layers={num_layers} hidden "
            f"layers; not used: {', '.join(names[num_layers:])}",
            stacklevel=3,
        )
    return islice(chain(names, repeat(names[-1])), num_layers)
