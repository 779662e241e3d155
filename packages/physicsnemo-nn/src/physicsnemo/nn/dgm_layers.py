# SPDX-License-Identifier: Apache-2.0
"""Layer of the deep Galerkin method."""

import torch
from torch import Tensor, nn

from physicsnemo.nn.activations import Activation, as_activation
from physicsnemo.nn.checks import check_at_least, check_input
from physicsnemo.nn.linear import WeightNormLinear

__all__ = ["DGMLayer"]


class DGMLayer(nn.Module):
    r"""Gate of the deep Galerkin method's network, :math:`\sigma(U x + W s + b)`.

    It joins the coordinates :math:`x` of a point with what the layers before made of them, as the
    gates of a recurrent network do with an input and a state.

    Parameters
    ----------
    in_features_1
        Features of the first input, such as the coordinates.
    in_features_2
        Features of the second input, such as the state.
    out_features
        Output features.
    activation_fn
        Name of an activation (:func:`~physicsnemo.nn.get_activation`), a module or function, or
        None for none.
    weight_norm
        Weight normalization (:class:`~physicsnemo.nn.WeightNormLinear`).
    activation_par
        Adaptive activation: a trainable factor on its input, of shape (1,), which layers may share.

    References
    ----------
    Sirignano and Spiliopoulos 2018, DGM: a deep learning algorithm for solving partial differential
    equations, arXiv:1708.07469, section 4.2.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.dgm_layers import DGMLayer
    >>> DGMLayer(3, 8, 16, "tanh")(torch.zeros(5, 3), torch.zeros(5, 8)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features_1: int,
        in_features_2: int,
        out_features: int,
        activation_fn: Activation = None,
        weight_norm: bool = False,
        activation_par: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        check_at_least(
            1,
            in_features_1=in_features_1,
            in_features_2=in_features_2,
            out_features=out_features,
        )
        self.in_features_1 = in_features_1
        self.in_features_2 = in_features_2
        self.activation_fn = as_activation(activation_fn)
        self.activation_par = activation_par
        linear = WeightNormLinear if weight_norm else nn.Linear
        self.linear_1 = linear(in_features_1, out_features, bias=False)
        self.linear_2 = linear(in_features_2, out_features, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_features))
        for layer in (self.linear_1, self.linear_2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, input_1: Tensor, input_2: Tensor) -> Tensor:
        """Map two inputs to one output.

        Parameters
        ----------
        input_1, input_2
            Features of shape (..., in_features_1) and (..., in_features_2).

        Returns
        -------
        Features of shape (..., out_features).
        """
        first = {"...": None, "in_features_1": self.in_features_1}
        second = {"...": None, "in_features_2": self.in_features_2}
        check_input(input_1, first, self.bias, name="input_1")
        check_input(input_2, second, self.bias, name="input_2")
        x = self.linear_1(input_1) + self.linear_2(input_2) + self.bias
        return self.activation_fn(x if self.activation_par is None else self.activation_par * x)
