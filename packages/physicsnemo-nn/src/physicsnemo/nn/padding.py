# SPDX-License-Identifier: Apache-2.0
"""Same-size convolutions with zero, reflect or replicate padding."""

from torch import nn

from physicsnemo.nn.checks import check_at_least, check_choice
from physicsnemo.nn.dimensions import by_dimension, convolution

_PADDINGS: dict[str, list[type[nn.Module]]] = {
    "reflect": [nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d],
    "replicate": [nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d],
}
PADDING_TYPES = ("zero", *_PADDINGS)
"""Types of padding: zeros, the mirrored field, or its values at the border."""


def padded_convolution(
    dimension: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    padding_type: str = "zero",
) -> list[nn.Module]:
    """Return a same-size convolution, as modules to apply in turn.

    The convolution itself pads with zeros, a module before it with other values. So a name
    such as ``0.weight`` in a :class:`torch.nn.Sequential`, and in its checkpoints, depends on the
    type of padding.

    Parameters
    ----------
    dimension
        Number of spatial dimensions, 1 to 3.
    in_channels
        Input channels.
    out_channels
        Output channels.
    kernel_size
        Kernel size, an odd number.
    padding_type
        Padding type: ``zero``, ``reflect`` or ``replicate``. To reflect, a grid must
        have more than ``kernel_size // 2`` points along each axis.

    Raises
    ------
    ValueError
        If an option has another value.

    Examples
    --------
    >>> from physicsnemo.nn.padding import padded_convolution
    >>> padded_convolution(1, 3, 8, kernel_size=5)
    [Conv1d(3, 8, kernel_size=(5,), stride=(1,), padding=(2,))]
    >>> padded_convolution(1, 3, 8, kernel_size=5, padding_type="reflect")
    [ReflectionPad1d((2, 2)), Conv1d(3, 8, kernel_size=(5,), stride=(1,))]
    """
    check_choice("padding_type", padding_type, PADDING_TYPES)
    check_at_least(0, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"expected an odd kernel_size, which keeps the grid, got {kernel_size}")
    layer, width = convolution(dimension), kernel_size // 2
    if padding_type == "zero":
        return [layer(in_channels, out_channels, kernel_size, padding=width)]
    padding = by_dimension(_PADDINGS[padding_type], dimension)
    return [padding(width), layer(in_channels, out_channels, kernel_size)]
