# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Dhariwal and Nichol (ADM)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from physicsnemo.models.diffusion._architecture import (
    AMP_MODE,
    FLAGS,
    IMPLIED,
    PROFILE_MODE,
    plan_levels,
)
from physicsnemo.models.diffusion._inputs import (
    as_vectors,
    check_images,
    check_noise_labels,
    dropped,
)
from physicsnemo.models.diffusion.layers import (
    Conv2d,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    UNetBlock,
)
from physicsnemo.models.diffusion.layers.block import profile_range
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import is_integer
from physicsnemo.nn.numerics import PAPER

__all__ = ["DhariwalUNet", "MetaData"]

_INIT: dict[str, Any] = {
    "init_mode": "kaiming_uniform",
    "init_weight": math.sqrt(1 / 3),
    "init_bias": math.sqrt(1 / 3),
}
# A block starts as its skip connection.
_INIT_ZERO: dict[str, Any] = {"init_weight": 0}


@dataclass
class MetaData(ModelMetaData):
    """Metadata of :class:`DhariwalUNet`."""

    name: str = "DhariwalUNet"
    cuda_graphs: bool = True
    amp_gpu: bool = True
    bf16: bool = True


class DhariwalUNet(Module):
    """U-Net of Dhariwal and Nichol, as Karras et al. use it for diffusion (ADM).

    Each level halves the resolution. The output of each encoder block skips to a decoder block, and
    an embedding of the noise level scales and shifts the features in all of them. Attention has one
    head for every 64 channels.

    Parameters
    ----------
    img_resolution
        Height, and width, of the images, by which levels are named. Images may have another size.
    in_channels
        Input channels.
    out_channels
        Output channels.
    label_dim
        Number of class labels; 0 ignores ``class_labels``.
    augment_dim
        Number of augmentation labels; 0 ignores ``augment_labels``.
    model_channels
        Base channel count.
    channel_mult
        Channel multiplier of each level.
    channel_mult_emb
        Channel multiplier of the embedding.
    num_blocks
        Residual blocks of each level.
    attn_resolutions
        Resolutions with attention: the heights that images of ``img_resolution`` have there. The
        deepest level has it in any case.
    dropout
        Dropout probability, before the last convolution of each block.
    label_dropout
        Dropout probability of a sample's class labels, for classifier-free guidance.
    numerics
        ``paper``, or a release of nvidia-physicsnemo whose numbers to reproduce, ``reference-1.2``
        to ``reference-2.2``. In the first, attention heads divide pixels in place of channels, and
        all of them use the unbiased variance in group normalization in evaluation, see
        :class:`~physicsnemo.models.diffusion.layers.Attention` and
        :class:`~physicsnemo.models.diffusion.layers.GroupNorm`.

    Raises
    ------
    ValueError
        If there is attention with fewer than 64 channels, or another option has a value that it
        cannot have.

    References
    ----------
    Dhariwal and Nichol 2021, Diffusion models beat GANs on image synthesis, arXiv:2105.05233;
    Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
    arXiv:2206.00364.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import DhariwalUNet
    >>> model = DhariwalUNet(
    ...     img_resolution=16, in_channels=5, out_channels=2, model_channels=64,
    ...     channel_mult=[1, 1], num_blocks=1, attn_resolutions=[8],
    ... )
    >>> model(torch.randn(3, 5, 16, 24), torch.rand(3), None).shape
    torch.Size([3, 2, 16, 24])
    """

    _implied_args = IMPLIED
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.dhariwal_unet.DhariwalUNet"
    }
    __jit_unused_properties__: ClassVar[list[str]] = [*Module.__jit_unused_properties__, *FLAGS]

    amp_mode = AMP_MODE
    profile_mode = PROFILE_MODE

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        if not is_integer(img_resolution):
            raise ValueError(
                f"expected img_resolution to be one number, got {img_resolution!r}; images may "
                f"have another height and width than that"
            )
        self.in_channels, self.label_dim, self.augment_dim = in_channels, label_dim, augment_dim
        self.label_dropout = label_dropout
        features = model_channels * channel_mult_emb

        self.map_noise = PositionalEmbedding(model_channels)
        self.map_augment = self.map_label = None
        if augment_dim:
            self.map_augment = Linear(augment_dim, model_channels, bias=False, **_INIT_ZERO)
        self.map_layer0 = Linear(model_channels, features, **_INIT)
        self.map_layer1 = Linear(features, features, **_INIT)
        if label_dim:
            scale = math.sqrt(label_dim)  # one-hot labels have mean square 1 / label_dim
            self.map_label = Linear(label_dim, features, bias=False, init_weight=scale)

        channels = [model_channels * multiple for multiple in channel_mult]
        self.levels = plan_levels(
            height=int(img_resolution),
            first_channels=channels[0],
            channels=channels,
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
            attention_in_last_only=False,
        )
        block = partial(
            UNetBlock,
            emb_channels=features,
            dropout=dropout,
            init=_INIT,
            init_zero=_INIT_ZERO,
            numerics=numerics,
        )
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self.enc[f"{self.levels[0].name}_conv"] = Conv2d(in_channels, channels[0], 3, **_INIT)
        for level in self.levels:
            for plan in level.encoder:
                self.enc[plan.name] = block(**plan.arguments())
        for level in reversed(self.levels):
            for plan in level.decoder:
                self.dec[plan.name] = block(**plan.arguments())
        self.out_norm = GroupNorm(channels[0], fused_act=True, act="silu", numerics=numerics)
        self.out_conv = Conv2d(channels[0], out_channels, 3, **_INIT_ZERO)
        self.amp_mode = self.profile_mode = False

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Images of shape (batch, in_channels, height, width). Each level but the first halves
            height and width, which must be divisible accordingly.
        noise_labels
            Noise levels, as the preconditioner encodes them, of shape (batch,) or (1,).
        class_labels
            Conditions of shape (batch, label_dim) or (1, label_dim), or None without ``label_dim``.
        augment_labels
            How samples were augmented, of shape (batch, augment_dim) or (1, augment_dim); by
            default, not at all.

        Returns
        -------
        Images of shape (batch, out_channels, height, width).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers, labels do not hold real ones, or
            ``class_labels`` are missing.
        ValueError
            If anything has another shape or device than expected.
        """
        check_images(
            x, channels=self.in_channels, levels=len(self.levels), weight=self.map_layer0.weight
        )
        with profile_range("DhariwalUNet", self.profile_mode):
            emb = self._embed(
                x,
                noise_labels=noise_labels,
                class_labels=class_labels,
                augment_labels=augment_labels,
            ).to(x.dtype)
            x = self.enc[f"{self.levels[0].name}_conv"](x)
            skips = [x]
            for level in self.levels:
                for plan in level.encoder:
                    x = self.enc[plan.name](x, emb)
                    skips.append(x)
            for level in reversed(self.levels):
                for plan in level.decoder:
                    x = torch.cat((x, skips.pop()), dim=1) if plan.takes_skip else x
                    x = self.dec[plan.name](x, emb)
            output: Tensor = self.out_conv(self.out_norm(x))
            return output

    def _embed(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None,
    ) -> Tensor:
        check_noise_labels(noise_labels, x)
        emb: Tensor = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            labels = as_vectors(
                augment_labels,
                features=self.augment_dim,
                name="augment_labels",
                x=x,
                dtype=emb.dtype,
            )
            emb = emb + self.map_augment(labels)
        emb = self.map_layer1(silu(self.map_layer0(emb)))
        if self.map_label is not None:
            labels = as_vectors(
                class_labels, features=self.label_dim, name="class_labels", x=x, dtype=emb.dtype
            )
            if self.training and self.label_dropout:
                labels = dropped(labels, self.label_dropout, x.shape[0])
            emb = emb + self.map_label(labels)
        return silu(emb)
