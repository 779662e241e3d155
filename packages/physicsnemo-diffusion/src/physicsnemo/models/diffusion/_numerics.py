# SPDX-License-Identifier: Apache-2.0
"""Which oddities of nvidia-physicsnemo concern the models here."""

from physicsnemo.nn.numerics import implied

IMPLIED = implied(
    "heads_split_pixels",
    "sines_before_cosines",
    "joined_embedding_selection",
    "lead_times_need_grid",
    "unbiased_variance",
    "images_before_patches",
    "batch_residual",
)
"""What files mean that state no numerics: one for all, as a wrapper's network may be any."""
