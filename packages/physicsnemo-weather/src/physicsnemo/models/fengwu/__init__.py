# SPDX-License-Identifier: Apache-2.0
"""FengWu: a transformer that encodes each kind of field alone and then fuses them."""

from physicsnemo.models.fengwu.fengwu import Fengwu

__all__ = ["Fengwu"]
