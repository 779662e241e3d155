# SPDX-License-Identifier: Apache-2.0
"""Examples of the networks on the HEALPix grid, with each kind of block and of input."""

import torch

from physicsnemo.testing import Case

LAYERS = "physicsnemo.models.dlwp_healpix_layers."
CAPPED = {"_target_": "physicsnemo.nn.activations.CappedGELU", "cap_value": 2}


def layer(name: str, **arguments):
    """Return the configuration of a layer."""
    return {"_target_": LAYERS + name, **arguments}


def network(block, *, pool=None, up=None, recurrent=None, dilations=(1, 1)):
    """Return the configurations of a U-Net of two levels with some kind of block."""
    up = layer("TransposedConvUpsample", activation=CAPPED) if up is None else up
    levels = {"n_layers": [2, 1], "dilations": list(dilations)}
    return {
        "encoder": layer(
            "UNetEncoder",
            conv_block=block,
            down_sampling_block=layer("AvgPool") if pool is None else pool,
            n_channels=[4, 6],
            **levels,
        ),
        "decoder": layer(
            "UNetDecoder",
            conv_block=block,
            up_sampling_block=up,
            output_layer=layer("BasicConvBlock", kernel_size=1),
            recurrent_block=recurrent,
            n_channels=[6, 4],
            **levels,
        ),
    }


CONVNEXT = network(layer("ConvNeXtBlock", upscale_factor=2, activation=CAPPED))
RECURRENT = network(
    layer("ConvNeXtBlock", upscale_factor=2, activation=CAPPED), recurrent=layer("ConvGRUBlock")
)
FIELDS = {
    "input_channels": 2,
    "output_channels": 2,
    "n_constants": 1,
    "decoder_input_channels": 1,
    "input_time_dim": 1,
    "output_time_dim": 2,
}
IN_TWO = FIELDS | {"input_time_dim": 2, "output_time_dim": 4}
OCEAN = {"params": {"variables": ["sst"], "input_times": ["0h", "6h"]}}


def fields(state, forcing, *, constants=True, couplings=0, size=4):
    """Return a function that draws the same inputs each time, by how many times there are."""

    def inputs():
        generator = torch.Generator().manual_seed(0)
        shapes = [(2, 12, state, 2, size, size)]
        shapes += [(2, 12, forcing, 1, size, size)] if forcing else []
        shapes += [(12, 1, size, size)] if constants else []
        shapes += [(couplings, 2, 2, 12, size, size)] if couplings else []
        return ([torch.randn(shape, generator=generator) for shape in shapes],)

    return inputs


CASES = [
    Case("convnext", "HEALPixUNet", CONVNEXT | FIELDS, fields(1, 2), batched=False),
    Case(
        "double_without_constants",
        "HEALPixUNet",
        network(layer("DoubleConvNeXtBlock", upscale_factor=2, activation="silu"))
        | FIELDS
        | {"n_constants": 0},
        fields(1, 2, constants=False),
    ),
    Case(
        "multi_symmetric_coupled",
        "HEALPixUNet",
        network(
            layer("Multi_SymmetricConvNeXtBlock", upscale_factor=2, activation=CAPPED),
            pool=layer("MaxPool"),
        )
        | FIELDS
        | {"couplings": [OCEAN], "enable_nhwc": True, "enable_healpixpad": True},
        fields(1, 2, couplings=2),
        batched=False,
    ),
    Case(
        "basic_diagnostic",
        "HEALPixUNet",
        network(
            layer("BasicConvBlock", activation="gelu"), up=layer("Interpolate"), dilations=(2, 1)
        )
        | IN_TWO
        | {"output_channels": 3, "output_time_dim": 1, "decoder_input_channels": 0},
        fields(2, 0),
        batched=False,
    ),
    Case("recurrent", "HEALPixRecUNet", RECURRENT | IN_TWO, fields(4, 6), batched=False),
    Case(
        "symmetric_reset",
        "HEALPixRecUNet",
        network(
            layer("SymmetricConvNeXtBlock", upscale_factor=2, activation=CAPPED),
            recurrent=layer("ConvGRUBlock", kernel_size=3),
        )
        | FIELDS
        | {"output_time_dim": 3, "reset_cycle": "12h", "couplings": [OCEAN]},
        fields(2, 4, couplings=4),
        batched=False,
    ),
    Case(
        "without_memory",
        "HEALPixRecUNet",
        CONVNEXT | FIELDS | {"presteps": 0, "n_constants": 0},
        fields(1, 2, constants=False),
    ),
]
