# SPDX-License-Identifier: Apache-2.0
"""Super-resolution: convolutional networks from fields to fields on a much finer grid."""

from physicsnemo.models.srrn.super_res_net import MetaData, SRResNet

__all__ = ["MetaData", "SRResNet"]
