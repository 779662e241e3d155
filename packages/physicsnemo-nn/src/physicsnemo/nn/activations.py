# SPDX-License-Identifier: Apache-2.0
"""Activation functions by name, and those that PyTorch lacks."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.nn.checks import check_input

Activation = str | Callable[[Tensor], Tensor] | None
"""Activation of a layer: a name, a module or function, or None for the identity."""


def get_activation(name: str) -> nn.Module:
    """Build a new activation module from its name.

    Parameters
    ----------
    name
        One of the names below, in any case. ``leaky_relu`` has the slope 0.1, ``threshold`` the
        threshold and value 1, ``prelu`` and ``stan`` one trainable parameter each.

        relu, leaky_relu, prelu, relu6, elu, celu, selu, silu, gelu, sigmoid, logsigmoid,
        softplus, softshrink, softsign, tanh, tanhshrink, threshold, hardtanh, identity, stan,
        squareplus, capped_leaky_relu, capped_gelu, sin

    Raises
    ------
    KeyError
        If there is no activation of that name; the text gives close matches and all names.
    TypeError
        If ``name`` is not a string.

    Examples
    --------
    >>> from physicsnemo.nn import get_activation
    >>> get_activation("SiLU")
    SiLU()
    """
    if not isinstance(name, str):
        raise TypeError(f"expected the name of an activation, such as 'silu', got {name!r}")
    try:
        return _ACTIVATIONS[name.lower()]()
    except KeyError:
        raise KeyError(_unknown_text(name)) from None


class Stan(nn.Module):
    r"""Self-scalable tanh, :math:`\tanh(x) (1 + \beta x)` with a trainable :math:`\beta`.

    Parameters
    ----------
    out_features
        Number of trainable scales :math:`\beta`: one for each channel of the last axis, or 1.

    References
    ----------
    Gnanasambandam et al. 2022, arXiv:2204.12589.
    """

    def __init__(self, out_features: int = 1) -> None:
        super().__init__()
        self.out_features = out_features
        self.beta = nn.Parameter(torch.ones(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation.

        Parameters
        ----------
        x
            Values of shape (..., out_features), or of any shape where ``out_features`` is 1.

        Raises
        ------
        ValueError
            If the last axis has another size than ``out_features`` and that is not 1.
        """
        if self.out_features != 1:
            layout = {"...": None, "out_features": self.out_features}
            check_input(x, layout, self.beta, numbers="floating")
        return torch.tanh(x) * (1 + self.beta * x)


class SquarePlus(nn.Module):
    r"""Smooth ReLU without exponentials, :math:`(x + \sqrt{x^2 + 4}) / 2`.

    References
    ----------
    Barron 2021, arXiv:2112.11687.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return 0.5 * (x + torch.sqrt(x * x + 4))


class Sin(nn.Module):
    """Sine as an activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise, in radians."""
        return torch.sin(x)


class CappedLeakyReLU(nn.Module):
    """Leaky ReLU, clamped from above.

    Parameters
    ----------
    cap_value
        Upper bound of the output.
    **kwargs
        Arguments of :class:`torch.nn.LeakyReLU`.
    """

    def __init__(self, cap_value: float = 1.0, **kwargs: Any) -> None:
        super().__init__()
        self.leaky_relu = nn.LeakyReLU(**kwargs)
        self.cap: Tensor
        self.register_buffer("cap", torch.tensor(cap_value, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return torch.clamp(self.leaky_relu(x), max=self.cap)


class CappedGELU(nn.Module):
    """GELU, clamped from above.

    Parameters
    ----------
    cap_value
        Upper bound of the output.
    **kwargs
        Arguments of :class:`torch.nn.GELU`.
    """

    def __init__(self, cap_value: float = 1.0, **kwargs: Any) -> None:
        super().__init__()
        self.gelu = nn.GELU(**kwargs)
        self.cap: Tensor
        self.register_buffer("cap", torch.tensor(cap_value, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return torch.clamp(self.gelu(x), max=self.cap)


def as_activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    """Return the callable that a layer's activation stands for."""
    if activation is None:
        return nn.Identity()
    return get_activation(activation) if isinstance(activation, str) else activation


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, negative_slope=0.1),
    "prelu": nn.PReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "logsigmoid": nn.LogSigmoid,
    "softplus": nn.Softplus,
    "softshrink": nn.Softshrink,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
    "threshold": partial(nn.Threshold, threshold=1.0, value=1.0),
    "hardtanh": nn.Hardtanh,
    "identity": nn.Identity,
    "stan": Stan,
    "squareplus": SquarePlus,
    "capped_leaky_relu": CappedLeakyReLU,
    "cappek_leaky_relu": CappedLeakyReLU,  # how files of nvidia-physicsnemo spell it
    "capped_gelu": CappedGELU,
    "sin": Sin,
}


def _unknown_text(name: str) -> str:
    matches = get_close_matches(name.lower(), _ACTIVATIONS)
    hint = f"; did you mean {' or '.join(matches)}?" if matches else ";"
    return f"no activation is named {name!r}{hint} there are {', '.join(_ACTIVATIONS)}"
