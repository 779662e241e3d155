# SPDX-License-Identifier: Apache-2.0
"""The choice between the mathematics of the papers and that of nvidia-physicsnemo.

Releases of nvidia-physicsnemo compute some things otherwise than the papers say, and later ones
mended some of them. Weights that were trained with an oddity need it, so the models concerned take
``numerics``: ``"paper"``, or the name of a release, as in ``"reference-1.3"``, which stands for the
oddities that this release had. ``ODDITIES`` is the one table of them.
"""

from dataclasses import dataclass

from physicsnemo.models.history import Implied
from physicsnemo.nn.checks import check_choice

PAPER = "paper"
"""The mathematics of the paper that a model cites."""

RELEASES = ("1.2", "1.3", "2.0", "2.1", "2.2")
"""Releases of nvidia-physicsnemo that numerics can name; what is older counts as the first."""


@dataclass(frozen=True)
class Oddity:
    """What releases of nvidia-physicsnemo compute otherwise than the paper.

    Attributes
    ----------
    what
        What it is.
    models
        Which models have it.
    since
        The first release that has it, None for all from the first on.
    until
        The first release without it, None where the newest still has it.
    """

    what: str
    models: str
    since: str | None = None
    until: str | None = None

    def of(self, release: str) -> bool:
        """Return whether a release has it."""
        place = RELEASES.index(release)
        begun = self.since is None or place >= RELEASES.index(self.since)
        return begun and (self.until is None or place < RELEASES.index(self.until))


ODDITIES = {
    "heads_split_pixels": Oddity(
        "attention heads split the pixels instead of the channels",
        "diffusion backbones",
        until="1.3",
    ),
    "sines_before_cosines": Oddity(
        "a sinusoidal grid of four channels is sin y, sin x, cos y, cos x, as under ``paper``",
        "SongUNetPosEmbd, SongUNetPosLtEmbd",
        until="1.3",
    ),
    "joined_embedding_selection": Oddity(
        "embedding_selector is called once, on the grid joined with the field of the first label",
        "SongUNetPosEmbd, SongUNetPosLtEmbd",
        until="1.3",
    ),
    "lead_times_need_grid": Oddity(
        "without a grid, the fields of lead times are left out too",
        "SongUNetPosEmbd, SongUNetPosLtEmbd",
        until="1.3",
    ),
    "first_step_of_many": Oddity(
        "further time steps of the input are ignored", "One2ManyRNN", until="2.0"
    ),
    "swapped_pads": Oddity(
        "each axis is padded by the amount of another", "One2ManyRNN, Seq2SeqRNN", until="2.0"
    ),
    "short_doubling": Oddity(
        "an odd number n of points is doubled to 2 n - 1", "One2ManyRNN, Seq2SeqRNN"
    ),
    "fixed_neighbours": Oddity("k is ignored, and 3 taken", "Mesh_Reduced", until="2.0"),
    "summed_corners": Oddity(
        "where corners of the spectrum overlap their products add up, instead of one replacing the "
        "other",
        "FNO in two or more dimensions",
        since="2.0",
    ),
    "latitude_roll": Oddity(
        "shifted windows roll longitudes by the shift of latitudes", "Pangu, Fengwu", until="2.1"
    ),
    "unbiased_variance": Oddity(
        "group normalization takes the unbiased variance in evaluation", "diffusion backbones"
    ),
    "images_before_patches": Oddity(
        "positions of patches are ordered by image and then by patch, unlike the patches",
        "SongUNetPosEmbd, SongUNetPosLtEmbd",
    ),
    "batch_residual": Oddity(
        "the residual's mean square is taken over the whole batch", "VEPrecond_dfsr_cond"
    ),
    "modes_of_one_axis": Oddity(
        "the kept modes follow one axis and are centred on the highest", "AFNO, ModAFNO"
    ),
    "dateline_mask": Oddity(
        "attention masks separate the two sides of the dateline", "Pangu, Fengwu"
    ),
    "level_patch_pads_latitude": Oddity("latitudes are padded by the patch of the levels", "Pangu"),
    "degrees_as_radians": Oddity(
        "sines and cosines of positions are taken of degrees", "GraphCastNet"
    ),
    "nearest_centroid": Oddity(
        "a grid point takes the face of any level whose centroid is nearest", "GraphCastNet"
    ),
    "normalized_before": Oddity(
        "blocks normalize what attention and their network take, not what these return", "Pangu"
    ),
    "fixed_shift": Oddity(
        "windows of any size are shifted by 1, 3 and 6 points, half of the default ones",
        "Pangu, Fengwu",
    ),
    "predicted_state": Oddity(
        "the network predicts the state and not by how much it changes", "HEALPixUNet"
    ),
    "residual_before_sum": Oddity(
        "edges are updated before they are summed at vertices, instead of after it", "GraphCastNet"
    ),
    "crossed_poles": Oddity("the polar faces border on the other pole", "DLWP"),
}
"""What ``numerics`` switches, by name; a class says which concern it, see :func:`implied`."""


def has_oddity(numerics: str, name: str) -> bool:
    """Return whether numerics include an oddity.

    Parameters
    ----------
    numerics
        ``"paper"``, for which the answer is always False, or the name of a release as in
        ``"reference-1.3"``.
    name
        A key of ``ODDITIES``.

    Raises
    ------
    ValueError
        If there are no such numerics.

    Examples
    --------
    >>> from physicsnemo.nn.numerics import has_oddity
    >>> has_oddity("reference-1.3", "latitude_roll"), has_oddity("reference-2.1", "latitude_roll")
    (True, False)
    """
    check_numerics(numerics)
    return numerics != PAPER and ODDITIES[name].of(numerics.removeprefix("reference-"))


def check_numerics(numerics: str) -> None:
    """Check that there are such numerics.

    Parameters
    ----------
    numerics
        ``"paper"``, or ``"reference-1.2"`` to ``"reference-2.2"``.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    check_choice("numerics", numerics, (PAPER, *map(_named, RELEASES)))


def implied(*oddities: str) -> dict[str, dict[str, Implied]]:
    """Return what files of nvidia-physicsnemo mean, by release: a model's ``_implied_args``.

    Parameters
    ----------
    oddities
        Those that concern the model; numerics that agree in them are the same to it.

    Examples
    --------
    >>> from physicsnemo.nn.numerics import implied
    >>> implied("swapped_pads")["2.0"]["numerics"].same
    ('reference-2.0', 'reference-2.1', 'reference-2.2')
    """
    had = {release: tuple(ODDITIES[name].of(release) for name in oddities) for release in RELEASES}
    return {
        release: {
            "numerics": Implied(_named(release), tuple(_named(r) for r in had if had[r] == own))
        }
        for release, own in had.items()
    }


def _named(release: str) -> str:
    return f"reference-{release}"
