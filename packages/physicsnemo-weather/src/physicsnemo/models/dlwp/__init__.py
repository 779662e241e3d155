# SPDX-License-Identifier: Apache-2.0
"""Deep-learning weather prediction on the cubed sphere."""

from physicsnemo.models.dlwp.dlwp import DLWP

__all__ = ["DLWP"]
