# SPDX-License-Identifier: Apache-2.0
"""The variant of the U-Net of Song et al. with positional, and lead-time, embeddings."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from physicsnemo.models.diffusion._constants import converted, rounded
from physicsnemo.models.diffusion.song_unet._backbone import PUBLIC, SongUNet
from physicsnemo.models.diffusion.song_unet._fields import (
    Selector,
    as_lead_times,
    check_fields,
    check_index,
    cut_by_function,
    cut_by_index,
    number_of_images,
)
from physicsnemo.models.diffusion.song_unet._grids import position_grid
from physicsnemo.models.history import Constant, Value
from physicsnemo.nn.checks import Layout, check_input
from physicsnemo.nn.numerics import PAPER, has_oddity


class SongUNetPosEmbd(SongUNet):
    r""":class:`SongUNet` with a positional embedding, and a lead-time embedding if asked for.

    The positional embedding ("the grid") is appended to the channels of the image. It covers a
    whole domain, of which images may be patches; then either the indices of their pixels, or a
    function that cuts the patches out, says where they are.

    Parameters
    ----------
    img_resolution
        Height and width of the grid, see :class:`SongUNet`.
    in_channels
        Input channels, those of the grid (``N_grid_channels``) and of lead times
        (``lead_time_channels``) included.
    out_channels, label_dim, augment_dim, model_channels, channel_mult, channel_mult_emb
        As in :class:`SongUNet`, of which some defaults differ.
    num_blocks, attn_resolutions, dropout, label_dropout, embedding_type, channel_mult_noise
        As in :class:`SongUNet`.
    encoder_type, decoder_type, resample_filter, checkpoint_level, additive_pos_embed
        As in :class:`SongUNet`.
    use_apex_gn, act, profile_mode, amp_mode
        As in :class:`SongUNet`.
    gridtype
        Type of the grid: ``sinusoidal``, with 4 channels the sines of y and x, then their
        cosines, where both go once around the circle; with another multiple of 4, sines of fx and
        fy and cosines of them, for n frequencies f from 1 to :math:`2^n`, in geometric progression.
        ``sinusoidal_octave``, a multiple of 4: the same for the frequencies :math:`1, 2, 4, ...,
        2^{n-1}`, and for each of them. ``linear``, 2 channels: x, then y, both from -1 to 1.
        ``learnable``, weights. ``test``, 2 channels: the indices of row and column.
    N_grid_channels
        Channels of the grid; 0 for no grid.
    lead_time_mode
        Lead-time embedding: append learned fields, too, one for each lead time.
    lead_time_channels
        Channels of the lead-time embedding, by default none.
    lead_time_steps
        Number of lead times.
    prob_channels
        Output channels that are class probabilities: logits in training, and their softmax in
        evaluation.
    numerics
        See :class:`SongUNet`. The releases of nvidia-physicsnemo also go through the patches of one
        image after the other where ``global_index`` is given, but through the images of one patch
        after the other in their functions that cut patches. In ``reference-1.2``,
        ``embedding_selector`` cuts the grid joined with the field of the first lead time, for all
        images, and without a grid there are no lead times either. From ``reference-1.3`` on, it
        cuts the grid, and then the fields of all lead times, of shape (images, channels, *grid);
        and of four sinusoidal channels those of x come before those of y.
    bottleneck_attention
        As in :class:`SongUNet`.

    Attributes
    ----------
    pos_embd
        The grid, of shape (N_grid_channels, height, width), or None.
    lt_embd
        The fields for lead times, of shape (lead_time_steps, lead_time_channels, height, width), or
        None.

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
    >>> from physicsnemo.models.diffusion import SongUNetPosEmbd
    >>> model = SongUNetPosEmbd(
    ...     img_resolution=[32, 48], in_channels=3 + 4, out_channels=2, model_channels=8,
    ...     channel_mult=[1, 2], num_blocks=1, attn_resolutions=[],
    ... )
    >>> model(torch.randn(2, 3, 32, 48), torch.rand(2), None).shape
    torch.Size([2, 2, 32, 48])
    >>> rows, columns = torch.meshgrid(torch.arange(8, 24), torch.arange(16), indexing="ij")
    >>> patch = torch.stack((rows, columns))
    >>> model(torch.randn(2, 3, 16, 16), torch.rand(2), None, global_index=patch[None]).shape
    torch.Size([2, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.SongUNetPosEmbd"
    _recorded_by_release: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.models.diffusion_unets.song_unet.SongUNetPosEmbd"
    }
    _argument_history = (
        *SongUNet._argument_history,
        Value("gridtype", "sinusoidal_octave", since="2.1"),
        Value("N_grid_channels", 0, since="1.3"),
        Value("lead_time_mode", True, until="1.3"),
    )
    _state_history: ClassVar[tuple[Constant, ...]] = (Constant("pos_embd", until="1.3"),)

    pos_embd: Tensor | None

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
        checkpoint_level: int = 0,
        additive_pos_embed: bool = False,
        use_apex_gn: bool = False,
        act: str = "silu",
        profile_mode: bool = False,
        amp_mode: bool = False,
        lead_time_mode: bool = False,
        lead_time_channels: int | None = None,
        lead_time_steps: int | None = 9,
        prob_channels: Sequence[int] = (),
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
            checkpoint_level=checkpoint_level,
            additive_pos_embed=additive_pos_embed,
            use_apex_gn=use_apex_gn,
            act=act,
            profile_mode=profile_mode,
            amp_mode=amp_mode,
            numerics=numerics,
            bottleneck_attention=bottleneck_attention,
        )
        self.numerics = numerics
        self._lead_times_need_grid = has_oddity(numerics, "lead_times_need_grid")
        self.prob_channels = _checked_channels(prob_channels, out_channels)
        self.pos_embd = self.lt_embd = None
        if lead_time_mode and lead_time_channels and lead_time_steps:
            start = torch.empty(lead_time_steps, lead_time_channels, *self.img_shape)
            self.lt_embd = nn.Parameter(start.normal_())
        if self.prob_channels:
            self.scalar = nn.Parameter(torch.ones(1, len(self.prob_channels), 1, 1))
        self._gridtype, self._grid_channels = gridtype, N_grid_channels
        if N_grid_channels == 0:
            return
        grid = self._make_grid()
        if gridtype == "learnable":
            self.pos_embd = nn.Parameter(grid)
        else:
            del self.pos_embd  # the None of above, where a buffer is to be
            self.register_buffer("pos_embd", rounded(grid))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.pos_embd
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before is not None and "pos_embd" in self._buffers:
            self.pos_embd = converted(before, cast(Tensor, self.pos_embd), self._make_grid)
        return self

    def _make_grid(self) -> Tensor:
        height, width = self.img_shape
        return position_grid(
            self._gridtype,
            channels=self._grid_channels,
            height=height,
            width=width,
            sines_of_y_first=self.numerics == PAPER
            or has_oddity(self.numerics, "sines_before_cosines"),
        )

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        global_index: Tensor | None = None,
        embedding_selector: Selector | None = None,
        augment_labels: Tensor | None = None,
        lead_time_label: Tensor | None = None,
    ) -> Tensor:
        """Apply the network to images, or to patches of them.

        Parameters
        ----------
        x
            Images of shape (batch, channels, height, width), where channels are ``in_channels``
            less those of the grid and of lead times.
        noise_labels, class_labels, augment_labels
            As in :class:`SongUNet`.
        global_index
            Row and column in the grid of each pixel, of shape (patches, 2, height, width). The
            batch holds all images of the first patch, then those of the second, and so on, as
            :mod:`physicsnemo.utils.patching` returns them. By default, images cover the grid.
        embedding_selector
            A function that cuts the same patches out of fields, given in place of the indices: it
            maps fields of shape (channels, *grid) to (batch, channels, height, width), and does
            the same to each channel.
        lead_time_label
            Index of the lead time of each image, of shape (images,) or (images, 1), or (1,) for
            all.

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
        x = self._with_positions(
            x,
            global_index=global_index,
            embedding_selector=embedding_selector,
            lead_time_label=lead_time_label,
        )
        output = super().forward(
            x, noise_labels=noise_labels, class_labels=class_labels, augment_labels=augment_labels
        )
        return self._with_probabilities(output) if self.prob_channels else output

    def positional_embedding_indexing(
        self,
        x: Tensor,
        global_index: Tensor | None = None,
        lead_time_label: Tensor | None = None,
    ) -> Tensor:
        """Return the embedding that is appended to images, by the indices of their pixels.

        Parameters
        ----------
        x, global_index, lead_time_label
            As in :meth:`forward`.

        Returns
        -------
        Fields of shape (batch, channels of the grid and of lead times, height, width).

        Raises
        ------
        TypeError
            If the lead time is missing.
        ValueError
            If shapes do not fit each other.
        """
        if global_index is not None:
            check_index(global_index, x, self.img_shape)
        images = number_of_images(x, global_index)
        fields = []  # of shape (patches, images, channels, height, width)
        if self.pos_embd is not None:
            grid = self.pos_embd.expand(images, -1, -1, -1)
            fields.append(cut_by_index(grid, global_index))
        if self.lt_embd is not None:
            steps = self.lt_embd[as_lead_times(lead_time_label, self.lt_embd, images)]
            fields.append(cut_by_index(steps, global_index))
        embedded = torch.cat(fields, dim=2)
        # The reference implementation takes all patches of an image, then those of the next.
        images_first = has_oddity(self.numerics, "images_before_patches")
        ordered = embedded.transpose(0, 1) if images_first else embedded
        return ordered.flatten(0, 1).to(x.dtype)

    def positional_embedding_selector(
        self,
        x: Tensor,
        embedding_selector: Selector,
        lead_time_label: Tensor | None = None,
    ) -> Tensor:
        """Return the embedding that is appended to images, by a function that cuts it out.

        Parameters
        ----------
        x, embedding_selector, lead_time_label
            As in :meth:`forward`.

        Returns
        -------
        Fields of shape (batch, channels of the grid and of lead times, height, width).

        Raises
        ------
        TypeError
            If the lead time is missing.
        ValueError
            If shapes do not fit each other.
        """
        grid = [] if self.pos_embd is None else [self.pos_embd]
        if self.lt_embd is None:
            return embedding_selector(torch.cat(grid)).to(x.dtype)
        lead_times = as_lead_times(lead_time_label, self.lt_embd)
        joined = has_oddity(self.numerics, "joined_embedding_selection")
        if self.numerics != PAPER and not joined:  # reference-1.3 and later
            fields = (*grid, self.lt_embd[lead_times])
            return torch.cat([embedding_selector(field) for field in fields], dim=1).to(x.dtype)
        if lead_times.shape[0] == 1 or joined:  # one lead time for all images
            first = self.lt_embd[lead_times[:1]][0]
            return embedding_selector(torch.cat((*grid, first))).to(x.dtype)
        return cut_by_function(
            embedding_selector, grid=grid, steps=self.lt_embd, lead_times=lead_times
        ).to(x.dtype)

    def _with_positions(
        self,
        x: Tensor,
        global_index: Tensor | None,
        embedding_selector: Selector | None,
        lead_time_label: Tensor | None,
    ) -> Tensor:
        layout: Layout = {"batch": None, "channels": ..., "height": None, "width": None}
        check_input(x, layout, next(self.parameters()), name="x", numbers="floating")
        if global_index is not None and embedding_selector is not None:
            raise ValueError(
                "expected global_index or embedding_selector, got both; they say the same"
            )
        if self.pos_embd is None and (self.lt_embd is None or self._lead_times_need_grid):
            return x
        if embedding_selector is not None:
            fields = self.positional_embedding_selector(x, embedding_selector, lead_time_label)
        else:
            fields = self.positional_embedding_indexing(x, global_index, lead_time_label)
        check_fields(fields, x, self.in_channels)
        return torch.cat((x, fields), dim=1)

    def _with_probabilities(self, output: Tensor) -> Tensor:
        logits = torch.stack([output[:, c] for c in self.prob_channels], dim=1) * self.scalar
        replaced = logits if self.training else logits.softmax(dim=1)
        # Not written in place, as the gradient of the scale needs the output as it was.
        channels = list(output.unbind(dim=1))
        for i, channel in enumerate(self.prob_channels):
            channels[channel] = replaced[:, i]
        return torch.stack(channels, dim=1)


def _checked_channels(prob_channels: Sequence[int], out_channels: int) -> list[int]:
    if any(not -out_channels <= channel < out_channels for channel in prob_channels):
        raise ValueError(
            f"expected prob_channels between 0 and {out_channels - 1}, or counted from the end by "
            f"negative numbers, as there are out_channels={out_channels}, got "
            f"{list(prob_channels)}"
        )
    return [int(channel) % out_channels for channel in prob_channels]
