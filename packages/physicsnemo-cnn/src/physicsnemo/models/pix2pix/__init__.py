# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks from fields to fields on the same grid, or on a finer one."""

from physicsnemo.models.pix2pix.pix2pix import MetaData, Pix2Pix, ResnetBlock

__all__ = ["MetaData", "Pix2Pix", "ResnetBlock"]
