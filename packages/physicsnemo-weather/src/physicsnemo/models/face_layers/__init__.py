# SPDX-License-Identifier: Apache-2.0
"""Padding of square faces that cover the sphere."""

from physicsnemo.models.face_layers.padding import Sources, pad_faces

__all__ = ["Sources", "pad_faces"]
