# SPDX-License-Identifier: Apache-2.0
"""Layers between fields and tokens, and those at each token."""

from collections.abc import Sequence

from torch import Tensor, nn

from physicsnemo.models.afno._modes import Grid
from physicsnemo.nn import Mlp
from physicsnemo.nn.checks import check_at_least, check_input, is_integer


class PatchEmbed(nn.Module):
    """Divide fields into patches, and map each to a token.

    Parameters
    ----------
    inp_shape
        Height and width of the fields.
    in_channels
        Channels of the fields.
    patch_size
        Height and width of a patch.
    embed_dim
        Channels of the tokens.

    Attributes
    ----------
    grid
        Number of patches along both axes.

    Raises
    ------
    ValueError
        If ``inp_shape`` or ``patch_size`` has not two entries, or the patches do not fill the
        fields.
    """

    def __init__(
        self,
        inp_shape: Sequence[int],
        in_channels: int,
        patch_size: Sequence[int] = (16, 16),
        embed_dim: int = 256,
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels, embed_dim=embed_dim)
        self.grid = _grid_of_patches(inp_shape, patch_size)
        self.inp_shape = tuple(inp_shape)
        self.patch_size = (patch_size[0], patch_size[1])
        self.in_channels = in_channels
        self.proj = nn.Conv2d(in_channels, embed_dim, self.patch_size, stride=self.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *inp_shape).

        Returns
        -------
        Tokens of shape (batch, number of patches, embed_dim).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        height, width = self.inp_shape
        layout = {
            "batch": None,
            "in_channels": self.in_channels,
            "inp_shape[0]": height,
            "inp_shape[1]": width,
        }
        check_input(x, layout, self.proj.weight)
        tokens: Tensor = self.proj(x)
        return tokens.flatten(start_dim=2).transpose(1, 2)


class AFNOMlp(Mlp):
    """MLP of each token: :class:`physicsnemo.nn.Mlp` by the argument names of nvidia-physicsnemo.

    Parameters
    ----------
    in_features
        Channels of the input.
    latent_features
        Hidden channels.
    out_features
        Channels of the output.
    drop
        Dropout probability of hidden and output channels.
    """

    def __init__(
        self, in_features: int, latent_features: int, out_features: int, drop: float = 0.0
    ) -> None:
        super().__init__(
            in_features, hidden_features=latent_features, out_features=out_features, drop=drop
        )


def join_patches(tokens: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Put the points of patches where they belong in a field.

    Parameters
    ----------
    tokens
        Patches of shape (batch, rows, columns, points of a patch times channels), channels last.
    patch_size
        Height and width of a patch.

    Returns
    -------
    Fields of shape (batch, channels, height, width).
    """
    batch, rows, columns, _ = tokens.shape
    height, width = patch_size
    patches: Tensor = tokens.unflatten(-1, (height, width, -1))
    field = patches.permute(0, 5, 1, 3, 2, 4)
    return field.reshape(batch, field.shape[1], rows * height, columns * width)


def initialize(module: nn.Module) -> None:
    """Start all linear maps in a module from normally distributed weights and without bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _grid_of_patches(inp_shape: Sequence[int], patch_size: Sequence[int]) -> Grid:
    if len(inp_shape) != 2 or len(patch_size) != 2:
        raise ValueError(
            f"expected inp_shape and patch_size to have two entries, height and width, "
            f"got inp_shape={list(inp_shape)} and patch_size={list(patch_size)}"
        )
    if not all(map(is_integer, (*inp_shape, *patch_size))):
        raise TypeError(
            f"expected inp_shape and patch_size to hold whole numbers, got "
            f"inp_shape={list(inp_shape)} and patch_size={list(patch_size)}"
        )
    if min(*inp_shape, *patch_size) < 1 or any(
        n % p for n, p in zip(inp_shape, patch_size, strict=True)
    ):
        raise ValueError(
            f"expected patch_size to divide inp_shape, got inp_shape={list(inp_shape)} and "
            f"patch_size={list(patch_size)}; pad or crop the fields, or take other patches"
        )
    height, width = (n // p for n, p in zip(inp_shape, patch_size, strict=True))
    return height, width
