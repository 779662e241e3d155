# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Song et al.: encoder, decoder, and the embedding of the noise level."""

import math
from collections.abc import Callable, Mapping, Sequence
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
    Level,
    plan_levels,
)
from physicsnemo.models.diffusion._inputs import (
    Resolution,
    as_vectors,
    check_images,
    check_noise_labels,
    dropped,
    height_and_width,
)
from physicsnemo.models.diffusion.layers import (
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    UNetBlock,
)
from physicsnemo.models.diffusion.layers.block import profile_range
from physicsnemo.models.history import Argument, Value
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import check_choice
from physicsnemo.nn.numerics import PAPER

PUBLIC = "physicsnemo.models.diffusion.song_unet"
"""The module that users import the networks from, by which files name them."""

_INIT: dict[str, Any] = {"init_mode": "xavier_uniform"}
# Nearly zero, so that a block starts as its skip connection.
_INIT_ZERO: dict[str, Any] = {"init_mode": "xavier_uniform", "init_weight": 1e-5}
_INIT_ATTENTION = {"init_mode": "xavier_uniform", "init_weight": math.sqrt(0.2)}


@dataclass
class MetaData(ModelMetaData):
    """Metadata of :class:`SongUNet` and its variants."""

    name: str = "SongUNet"
    cuda_graphs: bool = True
    amp_gpu: bool = True
    bf16: bool = True


class SongUNet(Module):
    """U-Net of Song et al., as Karras et al. use it for diffusion (DDPM++ and NCSN++).

    Each level halves the resolution. The output of each encoder block skips to a decoder block,
    and an embedding of the noise level is added to the features in all of them. The defaults make
    DDPM++; ``embedding_type="fourier"``, ``channel_mult_noise=2``, ``encoder_type="residual"`` and
    ``resample_filter=[1, 3, 3, 1]`` make NCSN++.

    Under autocast, convolutions and matrix products run in half precision.

    Parameters
    ----------
    img_resolution
        Height and width of the images, as a list, or as one number if they are equal; levels are
        named by the height. Images may have another size, except with ``additive_pos_embed``.
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
        deepest level has it in any case, in its first decoder block, unless
        ``bottleneck_attention`` is off.
    dropout
        Dropout probability, before the last convolution of each block.
    label_dropout
        Dropout probability of a sample's class labels, for classifier-free guidance.
    embedding_type
        Embedding of the noise level: ``positional``, a
        :class:`~physicsnemo.models.diffusion.layers.PositionalEmbedding`; ``fourier``, a
        :class:`~physicsnemo.models.diffusion.layers.FourierEmbedding`; ``zero``, none of the noise
        level nor of labels.
    channel_mult_noise
        Channel multiplier of the noise level's features.
    encoder_type
        Auxiliary skips of the encoder, from the image to deeper levels: ``standard``, none;
        ``skip``, of the downsampled image; ``residual``, of learned features of it.
    decoder_type
        Output of the decoder: ``standard``, of the last level; ``skip``, a sum over all levels.
    resample_filter
        Resampling filter for up- and downsampling, along each axis.
    checkpoint_level
        Activation checkpointing at so many of the highest resolutions; 0 for none. It saves memory
        and costs time.
    additive_pos_embed
        Learned positional embedding, added to the features of the first level.
    use_apex_gn
        Group normalization of NVIDIA Apex, on a GPU and for the memory format channels-last.
    act
        Activation in blocks, see :class:`~physicsnemo.models.diffusion.layers.GroupNorm`.
    profile_mode
        Mark the network and its blocks in profiles.
    amp_mode
        Leave types to autocast. Otherwise layers cast their weights to the type of their input
        where autocast does not cast both.
    numerics
        ``paper``, or a release of nvidia-physicsnemo whose numbers to reproduce, ``reference-1.2``
        to ``reference-2.2``. All of these use the unbiased variance in group normalization in
        evaluation. (In the first, attention heads divide pixels, but here there is one head.)
    bottleneck_attention
        Attention in the first decoder block of the deepest level.

    Raises
    ------
    ValueError
        If an option has a value that it cannot have.

    References
    ----------
    Song et al. 2021, Score-based generative modeling through stochastic differential equations,
    arXiv:2011.13456; Karras et al. 2022, Elucidating the design space of diffusion-based
    generative models, arXiv:2206.00364.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import SongUNet
    >>> model = SongUNet(
    ...     img_resolution=[16, 24], in_channels=5, out_channels=2, label_dim=3, model_channels=8,
    ...     channel_mult=[1, 2], num_blocks=1, attn_resolutions=[8],
    ... )
    >>> x, noise_labels, class_labels = torch.randn(4, 5, 16, 24), torch.rand(4), torch.rand(4, 3)
    >>> model(x, noise_labels, class_labels).shape
    torch.Size([4, 2, 16, 24])
    """

    _recorded_as = f"{PUBLIC}.SongUNet"
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.song_unet.SongUNet"
    }
    _implied_args = IMPLIED
    _overridable_args: ClassVar[set[str]] = {"use_apex_gn", "act"}
    _argument_history: ClassVar[tuple[Argument | Value, ...]] = (
        Argument("bottleneck_attention", True, since="2.0"),
    )
    __jit_unused_properties__: ClassVar[list[str]] = [*Module.__jit_unused_properties__, *FLAGS]

    amp_mode = AMP_MODE
    profile_mode = PROFILE_MODE

    def __init__(
        self,
        img_resolution: Resolution,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[int] = (1, 1),
        checkpoint_level: int = 0,
        additive_pos_embed: bool = False,
        use_apex_gn: bool = False,
        act: str = "silu",
        profile_mode: bool = False,
        amp_mode: bool = False,
        numerics: str = PAPER,
        *,
        bottleneck_attention: bool = True,
    ) -> None:
        super().__init__(meta=MetaData())
        check_choice("embedding_type", embedding_type, ("positional", "fourier", "zero"))
        check_choice("encoder_type", encoder_type, ("standard", "skip", "residual"))
        check_choice("decoder_type", decoder_type, ("standard", "skip"))
        self.img_shape = height_and_width(img_resolution)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.label_dim, self.augment_dim = label_dim, augment_dim
        self.label_dropout, self.embedding_type = label_dropout, embedding_type
        self.encoder_type, self.decoder_type = encoder_type, decoder_type
        self._recompute_above = _recompute_above(self.img_shape, checkpoint_level)

        features = model_channels * channel_mult_emb
        if embedding_type != "zero":
            self._build_embedding(model_channels * channel_mult_noise, features)
        self.emb_channels = features
        if additive_pos_embed:
            start = torch.empty(1, model_channels, *self.img_shape)
            self.spatial_emb = nn.Parameter(nn.init.trunc_normal_(start, std=0.02))
        self.additive_pos_embed = additive_pos_embed

        self.levels = plan_levels(
            height=self.img_shape[0],
            first_channels=model_channels,
            channels=[model_channels * multiple for multiple in channel_mult],
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
            attention_in_last_only=True,
            bottleneck_attention=bottleneck_attention,
        )
        self._taps = len(resample_filter)
        block = partial(
            UNetBlock,
            emb_channels=features,
            num_heads=1,
            dropout=dropout,
            skip_scale=math.sqrt(0.5),  # keeps the variance of a sum of two
            eps=1e-6,
            resample_filter=resample_filter,
            resample_proj=True,
            adaptive_scale=False,
            init=_INIT,
            init_zero=_INIT_ZERO,
            init_attn=_INIT_ATTENTION,
            use_apex_gn=use_apex_gn,
            act=act,
            fused_conv_bias=True,
            numerics=numerics,
        )
        norm = partial(
            GroupNorm,
            eps=1e-6,
            use_apex_gn=use_apex_gn,
            fused_act=True,
            act="silu",
            numerics=numerics,
        )
        self.enc = self._build_encoder(block, model_channels, resample_filter)
        self.dec = self._build_decoder(block, norm, resample_filter)
        self.amp_mode, self.profile_mode = amp_mode, profile_mode

    def _build_embedding(self, noise_channels: int, features: int) -> None:
        if self.embedding_type == "fourier":
            self.map_noise: nn.Module = FourierEmbedding(noise_channels)
        else:
            self.map_noise = PositionalEmbedding(noise_channels, endpoint=True)
        self.map_label = self.map_augment = None
        if self.label_dim:
            self.map_label = Linear(self.label_dim, noise_channels, **_INIT)
        if self.augment_dim:
            self.map_augment = Linear(self.augment_dim, noise_channels, bias=False, **_INIT)
        self.map_layer0 = Linear(noise_channels, features, **_INIT)
        self.map_layer1 = Linear(features, features, **_INIT)

    def _build_encoder(
        self,
        block: Callable[..., UNetBlock],
        model_channels: int,
        resample_filter: Sequence[int],
    ) -> nn.ModuleDict:
        smaller: dict[str, Any] = {"down": True, "resample_filter": resample_filter}
        layers = nn.ModuleDict()
        layers[f"{self.levels[0].name}_conv"] = Conv2d(self.in_channels, model_channels, 3, **_INIT)
        aux = self.in_channels  # channels of the auxiliary skip
        for level in self.levels:
            for plan in level.encoder:
                layers[plan.name] = block(**plan.arguments())
                if not plan.down:
                    continue
                width = plan.out_channels
                if self.encoder_type == "skip":
                    layers[f"{level.name}_aux_down"] = Conv2d(aux, aux, 0, **smaller)
                    layers[f"{level.name}_aux_skip"] = Conv2d(aux, width, 1, **_INIT)
                if self.encoder_type == "residual":
                    layers[f"{level.name}_aux_residual"] = Conv2d(
                        aux, width, 3, fused_resample=True, **smaller, **_INIT
                    )
                    aux = width
        return layers

    def _build_decoder(
        self,
        block: Callable[..., UNetBlock],
        norm: Callable[..., GroupNorm],
        resample_filter: Sequence[int],
    ) -> nn.ModuleDict:
        first, deepest = self.levels[0], self.levels[-1]
        layers, out = nn.ModuleDict(), self.out_channels
        for level in reversed(self.levels):
            for plan in level.decoder:
                layers[plan.name] = block(**plan.arguments())
            if self.decoder_type == "standard" and level is not first:
                continue
            if level is not deepest and self.decoder_type == "skip":
                layers[f"{level.name}_aux_up"] = Conv2d(
                    out, out, 0, up=True, resample_filter=resample_filter
                )
            layers[f"{level.name}_aux_norm"] = norm(level.channels)
            layers[f"{level.name}_aux_conv"] = Conv2d(level.channels, out, 3, **_INIT_ZERO)
        return layers

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
        weight = next(self.parameters())
        check_images(
            x,
            channels=self.in_channels,
            levels=len(self.levels),
            weight=weight,
            size=self._size(),
            taps=self._taps,
        )
        with profile_range("SongUNet", self.profile_mode):
            emb = self._embed(
                x,
                noise_labels=noise_labels,
                class_labels=class_labels,
                augment_labels=augment_labels,
            ).to(x.dtype)
            return self._decode(*self._encode(x, emb), emb)

    def _size(self) -> tuple[int, int] | None:
        """Return the size that images must have, if any."""
        return self.img_shape if self.additive_pos_embed else None

    def _positions(self) -> Tensor:
        """Return the embedding of the pixels' positions."""
        return self.spatial_emb

    def _embed(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None,
    ) -> Tensor:
        check_noise_labels(noise_labels, x)
        if self.embedding_type == "zero":
            return x.new_zeros(1, self.emb_channels)
        # Song et al. put the sines first; the embedding has the order of Dhariwal and Nichol.
        cosines, sines = self.map_noise(noise_labels).chunk(2, dim=1)
        emb = torch.cat((sines, cosines), dim=1)
        if self.map_label is not None:
            labels = as_vectors(
                class_labels, features=self.label_dim, name="class_labels", x=x, dtype=emb.dtype
            )
            if self.training and self.label_dropout:
                labels = dropped(labels, self.label_dropout, x.shape[0])
            # One-hot labels have mean square 1 / label_dim; the factor makes it 1.
            emb = emb + self.map_label(labels * math.sqrt(self.label_dim))
        if self.map_augment is not None and augment_labels is not None:
            labels = as_vectors(
                augment_labels,
                features=self.augment_dim,
                name="augment_labels",
                x=x,
                dtype=emb.dtype,
            )
            emb = emb + self.map_augment(labels)
        return silu(self.map_layer1(silu(self.map_layer0(emb))))

    def _encode(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features of the deepest level, and the skip connections."""
        image = x
        x = self.enc[f"{self.levels[0].name}_conv"](x)
        if self.additive_pos_embed:
            x = x + self._positions().to(x.dtype)
        skips = [x]
        for level in self.levels:
            for plan in level.encoder:
                x = self._run(self.enc[plan.name], x, emb)
                if plan.down:
                    x, image = self._aux_skip(x, image, level)
                skips.append(x)
        return x, skips

    def _aux_skip(self, x: Tensor, image: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Return features with the auxiliary skip of the image, and the image for deeper levels."""
        if self.encoder_type == "skip":
            image = self.enc[f"{level.name}_aux_down"](image)
            return x + self.enc[f"{level.name}_aux_skip"](image), image
        if self.encoder_type == "residual":
            x = (x + self.enc[f"{level.name}_aux_residual"](image)) * math.sqrt(0.5)
            return x, x
        return x, image

    def _decode(self, x: Tensor, skips: list[Tensor], emb: Tensor) -> Tensor:
        output = None
        for level in reversed(self.levels):
            for plan in level.decoder:
                x = torch.cat((x, skips.pop()), dim=1) if plan.takes_skip else x
                x = self._run(self.dec[plan.name], x, emb, factor=2 if plan.up else 1)
            output = self._add_output(output, level, x)
        return output  # type: ignore[return-value]  # the last level has one

    def _add_output(self, output: Tensor | None, level: Level, x: Tensor) -> Tensor | None:
        """Return the output with the contribution of a level, if it has one."""
        if f"{level.name}_aux_conv" not in self.dec:
            return output
        features = self.dec[f"{level.name}_aux_norm"](x)
        contribution: Tensor = self.dec[f"{level.name}_aux_conv"](features)
        if output is None:
            return contribution
        deeper: Tensor = self.dec[f"{level.name}_aux_up"](output)
        return contribution + deeper

    def _run(self, block: nn.Module, x: Tensor, emb: Tensor, factor: int = 1) -> Tensor:
        """Apply a block that works at ``factor`` times the resolution of its input."""
        pixels = factor**2 * x.shape[2] * x.shape[3]
        again = self._recompute_above is not None and pixels > self._recompute_above
        result: Tensor = maybe_checkpoint(block, again, x, emb, preserve_rng_state=True)
        return result


def _recompute_above(img_shape: tuple[int, int], checkpoint_level: int) -> int | None:
    """Return the number of pixels of a feature map from which on it is not remembered, if any."""
    if checkpoint_level < 0:
        raise ValueError(f"expected checkpoint_level of at least 0, got {checkpoint_level}")
    if checkpoint_level == 0:
        return None
    # Above the resolution of that level, of a square of the same area; 1 more allows for rounding.
    return int(((math.isqrt(math.prod(img_shape)) >> checkpoint_level) + 1) ** 2)
