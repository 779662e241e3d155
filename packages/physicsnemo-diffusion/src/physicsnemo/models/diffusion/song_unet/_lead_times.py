# SPDX-License-Identifier: Apache-2.0
"""The variant of the U-Net that always knows the lead time, in its own order of arguments."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from physicsnemo.models.diffusion.song_unet._backbone import PUBLIC
from physicsnemo.models.diffusion.song_unet._fields import Selector
from physicsnemo.models.diffusion.song_unet._positions import SongUNetPosEmbd
from physicsnemo.models.history import Value
from physicsnemo.nn.numerics import PAPER


class SongUNetPosLtEmbd(SongUNetPosEmbd):
    """:class:`SongUNetPosEmbd` whose lead-time mode is always on.

    Parameters
    ----------
    img_resolution, in_channels, out_channels, label_dim, augment_dim, model_channels, \
    channel_mult, channel_mult_emb, num_blocks, attn_resolutions, dropout, label_dropout, \
    embedding_type, channel_mult_noise, encoder_type, decoder_type, resample_filter, gridtype, \
    N_grid_channels, lead_time_channels, lead_time_steps, prob_channels, checkpoint_level, \
    additive_pos_embed, use_apex_gn, act, profile_mode, amp_mode, numerics, bottleneck_attention
        As in :class:`SongUNetPosEmbd`.

    Raises
    ------
    ValueError
        If an option has a value that it cannot have.

    References
    ----------
    Mardani et al. 2023, Residual corrective diffusion modeling for km-scale atmospheric
    downscaling (CorrDiff), arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import SongUNetPosLtEmbd
    >>> model = SongUNetPosLtEmbd(
    ...     img_resolution=16, in_channels=3 + 4 + 2, out_channels=2, model_channels=8,
    ...     channel_mult=[1, 2], num_blocks=1, attn_resolutions=[], lead_time_channels=2,
    ... )
    >>> hours = torch.tensor([0, 8, 3, 3])
    >>> model(torch.randn(4, 3, 16, 16), torch.rand(4), None, lead_time_label=hours).shape
    torch.Size([4, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.SongUNetPosLtEmbd"
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.song_unet.SongUNetPosLtEmbd"
    }
    _argument_history = (
        *SongUNetPosEmbd._argument_history,
        Value("lead_time_channels", None, until="1.3"),
    )

    def __init__(
        self,
        img_resolution: int | Sequence[int],
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (28,),
        dropout: float = 0.13,
        label_dropout: float = 0.0,
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[int] = (1, 1),
        gridtype: str = "sinusoidal",
        N_grid_channels: int = 4,  # noqa: N803  # the name that files have
        lead_time_channels: int | None = None,
        lead_time_steps: int | None = 9,
        prob_channels: Sequence[int] = (),
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
        super().__init__(
            img_resolution=img_resolution,
            in_channels=in_channels,
            out_channels=out_channels,
            label_dim=label_dim,
            augment_dim=augment_dim,
            model_channels=model_channels,
            channel_mult=channel_mult,
            channel_mult_emb=channel_mult_emb,
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
            label_dropout=label_dropout,
            embedding_type=embedding_type,
            channel_mult_noise=channel_mult_noise,
            encoder_type=encoder_type,
            decoder_type=decoder_type,
            resample_filter=resample_filter,
            gridtype=gridtype,
            N_grid_channels=N_grid_channels,
            checkpoint_level=checkpoint_level,
            additive_pos_embed=additive_pos_embed,
            use_apex_gn=use_apex_gn,
            act=act,
            profile_mode=profile_mode,
            amp_mode=amp_mode,
            lead_time_mode=True,
            lead_time_channels=lead_time_channels,
            lead_time_steps=lead_time_steps,
            prob_channels=prob_channels,
            numerics=numerics,
            bottleneck_attention=bottleneck_attention,
        )

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        lead_time_label: Tensor | None = None,
        global_index: Tensor | None = None,
        embedding_selector: Selector | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Apply the network to images, or to patches of them.

        Parameters
        ----------
        x, noise_labels, class_labels, lead_time_label, global_index, embedding_selector, \
        augment_labels
            As in :meth:`SongUNetPosEmbd.forward`.

        Returns
        -------
        Images of shape (batch, out_channels, height, width).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers, labels do not hold real ones, or are
            missing.
        ValueError
            If there are both indices and a function, or anything has another shape or device than
            expected.
        """
        return super().forward(
            x=x,
            noise_labels=noise_labels,
            class_labels=class_labels,
            global_index=global_index,
            embedding_selector=embedding_selector,
            augment_labels=augment_labels,
            lead_time_label=lead_time_label,
        )
