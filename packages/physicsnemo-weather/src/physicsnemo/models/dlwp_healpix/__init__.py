# SPDX-License-Identifier: Apache-2.0
"""Deep-learning weather prediction on the HEALPix grid."""

from physicsnemo.models.dlwp_healpix.HEALPixRecUNet import HEALPixRecUNet
from physicsnemo.models.dlwp_healpix.HEALPixUNet import HEALPixUNet

__all__ = ["HEALPixRecUNet", "HEALPixUNet"]
