# SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder of the HEALPix models, built from configurations."""

from physicsnemo.models.dlwp_healpix_layers import UNetDecoder, UNetEncoder
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, build
from physicsnemo.models.history import Renamed

__all__ = ["NEWER_FILES", "PATHS", "build_network"]

NEWER_FILES = {
    "0.2.0": (
        "this file is of version 0.2.0, in which nvidia-physicsnemo 2.2 names layers by other "
        "paths; they are found, and saving it again writes 0.1.0"
    )
}
"""Newer versions of files that both models read, each with its warning."""

_LAYERS = "physicsnemo.models.dlwp_healpix_layers"
_ACTIVATIONS = "physicsnemo.models.layers.activations"
PATHS = (
    Renamed("modulus.", "physicsnemo."),
    Renamed("physicsnemo.nn.module.", "physicsnemo.nn."),
    Renamed("physicsnemo.nn.activations.", f"{_ACTIVATIONS}."),
    Renamed("physicsnemo.models.dlwp_healpix.layers.", f"{_LAYERS}."),
    Renamed("physicsnemo.nn.hpx.pool.", f"{_LAYERS}."),
    Renamed("physicsnemo.nn.hpx.", f"{_LAYERS}."),
    Renamed("physicsnemo.nn.HEALPix", f"{_LAYERS}.HEALPix"),
    Renamed("physicsnemo.nn.", f"{_ACTIVATIONS}."),
    Renamed(f"{_LAYERS}.HEALPixAvgPool", f"{_LAYERS}.AvgPool"),
    Renamed(f"{_LAYERS}.HEALPixMaxPool", f"{_LAYERS}.MaxPool"),
)
"""Paths in configurations as files of version 0.1.0 have them, which all releases read."""


def build_network(
    encoder: Configuration,
    decoder: Configuration,
    *,
    input_channels: int,
    output_channels: int,
    enable_nhwc: bool,
    enable_healpixpad: bool,
) -> tuple[UNetEncoder, UNetDecoder]:
    """Build the encoder and the decoder of a U-Net.

    Parameters
    ----------
    encoder, decoder
        Their configurations.
    input_channels, output_channels
        Number of channels of the input and of the output.
    enable_nhwc, enable_healpixpad
        As in :class:`physicsnemo.models.dlwp_healpix_layers.HEALPixLayer`.

    Raises
    ------
    TypeError
        If a configuration is not a mapping, or a layer does not take an argument.
    ValueError
        If a configuration names an unknown or another class, or the two do not fit.
    """
    options = {"enable_nhwc": enable_nhwc, "enable_healpixpad": enable_healpixpad}
    down = build(encoder, input_channels=input_channels, **options)
    up = build(decoder, output_channels=output_channels, **options)
    if not isinstance(down, UNetEncoder) or not isinstance(up, UNetDecoder):
        raise ValueError(
            f"expected configurations of a UNetEncoder and a UNetDecoder, got those of a "
            f"{type(down).__name__} and a {type(up).__name__}"
        )
    if down.n_channels != up.n_channels[::-1]:
        raise ValueError(
            f"expected n_channels of the decoder to be those of the encoder, "
            f"{down.n_channels}, in reverse order, got {up.n_channels}"
        )
    return down, up
