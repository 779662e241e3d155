# SPDX-License-Identifier: Apache-2.0
"""What networks share that cover the sphere by square faces."""

from physicsnemo.models.face_layers.padding import Sources, pad_faces

__all__ = ["Sources", "pad_faces"]
