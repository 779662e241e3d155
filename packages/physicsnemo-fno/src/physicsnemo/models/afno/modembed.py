# SPDX-License-Identifier: Apache-2.0
"""Embeddings of the number, such as a time, that conditions a model."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from physicsnemo.nn import get_activation

__all__ = ["ModEmbedNet", "OneHotEmbedding", "SinusoidalTimestepEmbedding"]


class ModEmbedNet(nn.Module):
    """Embedding of a number: sinusoidal or one-hot features, then an MLP.

    Parameters
    ----------
    max_time
        The number that becomes 1 in the embedding.
    dim
        Size of the embedding.
    depth
        Number of layers of the MLP.
    activation_fn
        Name of the activation (:func:`physicsnemo.nn.get_activation`), or what makes one.
    method
        Features: ``sinusoidal`` (:class:`SinusoidalTimestepEmbedding`) or ``onehot``
        (:class:`OneHotEmbedding`).

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If there is no such method, or it cannot have so many features.

    References
    ----------
    Leinonen et al. 2024, arXiv:2410.18904.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.afno.modembed import ModEmbedNet
    >>> ModEmbedNet(max_time=6.0, dim=8)(torch.tensor([0.0, 1.5, 6.0])).shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        max_time: float = 1.0,
        dim: int = 64,
        depth: int = 1,
        activation_fn: str | Callable[[], nn.Module] = nn.GELU,
        method: str = "sinusoidal",
    ) -> None:
        super().__init__()
        self.max_time = max_time
        self.method = method
        if method == "onehot":
            self.onehot_embed = OneHotEmbedding(dim)
        elif method == "sinusoidal":
            self.sinusoid_embed = SinusoidalTimestepEmbedding(dim)
        else:
            raise ValueError(f"expected method to be sinusoidal or onehot, got {method!r}")
        self.dim = dim
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(dim, dim), _activation(activation_fn)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, t: Tensor) -> Tensor:
        """Return features of shape (batch, dim) of numbers of shape (batch,) or (batch, 1)."""
        embed = self.onehot_embed if self.method == "onehot" else self.sinusoid_embed
        features: Tensor = self.mlp(embed(t.reshape(-1, 1) / self.max_time))
        return features


class SinusoidalTimestepEmbedding(nn.Module):
    """Sinusoidal embedding: cosines and sines of periods 2, 1, 2/3, ...

    Parameters
    ----------
    dim
        Number of features, half of them cosines. It must be even.

    Raises
    ------
    ValueError
        If it is not.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"expected an even number of sinusoidal features, got dim={dim}")
        self.freqs: Tensor
        self.register_buffer("freqs", math.pi * torch.arange(1, dim // 2 + 1, dtype=torch.float32))

    def forward(self, t: Tensor) -> Tensor:
        """Return features of shape (batch, dim) of numbers of shape (batch, 1)."""
        angles = t * self.freqs
        return torch.cat((torch.cos(angles), torch.sin(angles)), dim=-1)


class OneHotEmbedding(nn.Module):
    """One-hot embedding of the numbers 0, 1 / (dim - 1), ..., 1, interpolated in between.

    Parameters
    ----------
    dim
        Number of features, at least 1.

    Raises
    ------
    ValueError
        If it is less.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"expected at least one feature, got dim={dim}")
        self.dim = dim
        self.indices: Tensor
        self.register_buffer("indices", torch.arange(dim).unsqueeze(0))

    def forward(self, t: Tensor) -> Tensor:
        """Return features of shape (batch, dim) of numbers of shape (batch, 1)."""
        distance = (t * (self.dim - 1) - self.indices).abs()
        return torch.clamp(1 - distance, min=0)


def _activation(activation_fn: str | Callable[[], nn.Module]) -> nn.Module:
    return get_activation(activation_fn) if isinstance(activation_fn, str) else activation_fn()
