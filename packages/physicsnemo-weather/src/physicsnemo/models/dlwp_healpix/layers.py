# SPDX-License-Identifier: Apache-2.0
"""The layers, where releases of nvidia-physicsnemo from 2.0 on have them."""

from physicsnemo.models import dlwp_healpix_layers
from physicsnemo.models.dlwp_healpix_layers import *  # noqa: F403  # all of them

__all__ = list(dlwp_healpix_layers.__all__)
