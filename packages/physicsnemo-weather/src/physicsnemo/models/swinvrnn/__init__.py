# SPDX-License-Identifier: Apache-2.0
"""SwinRNN: a recurrent Swin transformer that forecasts the next state of the weather."""

from physicsnemo.models.swinvrnn.swinvrnn import SwinRNN

__all__ = ["SwinRNN"]
