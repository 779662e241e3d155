# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.rnn.layers import ConvGRULayer, ConvResidualBlock

PLAN = {
    "blocks": (ConvGRULayer, ConvResidualBlock),
    "whole": (ConvGRULayer,),  # the halves of its weights are added where input and state agree
    "methods": {ConvGRULayer: ("advance",)},
}
