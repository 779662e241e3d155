# SPDX-License-Identifier: Apache-2.0
"""Fully connected networks."""

from physicsnemo.models.mlp.fully_connected import FullyConnected

__all__ = ["FullyConnected"]
