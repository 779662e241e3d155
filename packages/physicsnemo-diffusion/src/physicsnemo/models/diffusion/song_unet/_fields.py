# SPDX-License-Identifier: Apache-2.0
"""Positional and lead-time embeddings, cut to the patches that a batch holds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import check_real
from physicsnemo.nn.tracing import is_tracing, is_transformed

Selector = Callable[[Tensor], Tensor]


def cut_by_index(fields: Tensor, index: Tensor | None) -> Tensor:
    """Return patches of fields, in the order (patch, image) of the first two axes.

    Parameters
    ----------
    fields
        Of shape (images, channels, *grid).
    index
        Rows and columns, of shape (patches, 2, height, width); by default, the grid is one patch.
    """
    if index is None:
        return fields[None]
    rows, columns = index.long().unbind(dim=1)
    return fields[:, :, rows, columns].movedim(2, 0)


def cut_by_function(
    selector: Selector, grid: Sequence[Tensor], steps: Tensor, lead_times: Tensor
) -> Tensor:
    """Return patches of the grid and of the lead time of each image.

    The function does not tell which image a patch is of, but patches come in the order (patch,
    image); so it cuts those of all lead times, of which one is taken.

    Parameters
    ----------
    selector
        Maps fields of shape (channels, *grid) to (batch, channels, height, width).
    grid
        Fields to cut for all images.
    steps
        Fields of all lead times, of shape (steps, channels, *grid).
    lead_times
        Those of the images.

    Raises
    ------
    ValueError
        If the batch is not a multiple of the number of images.
    """
    selected = selector(torch.cat((*grid, steps.flatten(0, 1))))
    batch, images = selected.shape[0], lead_times.shape[0]
    if batch % images:
        raise ValueError(
            f"embedding_selector cuts {batch} patches, which cannot be those of {images} images as "
            f"in lead_time_label"
        )
    channels = steps.shape[0] * steps.shape[1]
    where, when = selected.split([selected.shape[1] - channels, channels], dim=1)
    numbers = torch.arange(batch, device=selected.device)
    chosen = when.unflatten(1, steps.shape[:2])[numbers, lead_times.repeat(batch // images)]
    return torch.cat((where, chosen), dim=1)


def number_of_images(x: Tensor, global_index: Tensor | None) -> int:
    """Return the number of images whose patches make up a batch.

    Raises
    ------
    ValueError
        If it is no whole number.
    """
    if global_index is None:
        return x.shape[0]
    batch, patches = x.shape[0], global_index.shape[0]
    if not is_tracing() and (patches == 0 or batch % patches):
        raise ValueError(
            f"global_index holds {patches} patches, so the batch must be that number times the "
            f"number of images, got {batch}; is one of the patches empty?"
        )
    return batch // patches


def as_lead_times(labels: Tensor | None, fields: Tensor, images: int | None = None) -> Tensor:
    """Return the lead times of images, or of any number of them.

    Their values are looked at on the CPU only: elsewhere that would wait for the device, whose own
    check of indices comes later.

    Parameters
    ----------
    labels
        The lead times, of shape (images,), (images, 1) or (1,).
    fields
        What they choose from, of shape (steps, channels, *grid).
    images
        How many there are, if that is known.

    Raises
    ------
    TypeError
        If there are none, or they are no real numbers.
    ValueError
        If their number or device is another one, or one is not below the number of steps.
    """
    if labels is None:
        raise TypeError(
            "expected lead_time_label, the index of the lead time of each image, got None; pass "
            "it, or build the model without lead times"
        )
    check_real("lead_time_label", labels, fields)
    labels = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    shape = tuple(labels.shape)
    if len(shape) != 1 or not (images is None or is_tracing() or shape[0] in (1, images)):
        size = "images" if images is None else f"images={images}"
        raise ValueError(f"expected lead_time_label of shape ({size},) or (1,), got {shape}")
    _check_steps(labels, len(fields))
    return labels.long() if images is None else labels.long().expand(images)


def check_index(index: Tensor, x: Tensor, size: tuple[int, int]) -> None:
    """Raise an error unless something holds row and column of pixels of a grid.

    Values are looked at as by :func:`as_lead_times`.

    Raises
    ------
    TypeError
        If it is no dense tensor of real numbers.
    ValueError
        If it is on another device than the images, its shape is not (patches, 2, height, width),
        or it leaves the grid.
    """
    check_real("global_index", index, x)
    shape = tuple(index.shape)
    if not is_tracing() and (len(shape) != 4 or shape[1] != 2):
        raise ValueError(
            f"expected global_index of shape (patches, 2, height, width), rows and then columns, "
            f"got {shape}"
        )
    for axis, (name, number) in enumerate(zip(("rows", "columns"), size, strict=True)):
        outside = _outside(index[:, axis], number)
        if outside is not None:
            raise ValueError(
                f"expected {name} in global_index from 0 to {number - 1}, as the grid is "
                f"{size[0]} by {size[1]}, got {outside}"
            )


def _check_steps(labels: Tensor, steps: int) -> None:
    outside = _outside(labels, steps)
    if outside is not None:
        raise ValueError(
            f"expected lead_time_label to be indices from 0 to {steps - 1}, as there are "
            f"lead_time_steps={steps}, got {outside}"
        )


def _outside(indices: Tensor, number: int) -> float | None:
    """Return an index that is not below a number, if there is one and looking is free."""
    plain = indices.device.type == "cpu" and type(indices) is Tensor
    if torch.compiler.is_compiling() or is_tracing() or is_transformed() or not plain:
        return None
    wrong = ~((indices >= 0) & (indices < number))
    return indices[wrong][0].item() if wrong.any() else None


def check_fields(fields: Tensor, x: Tensor, in_channels: int) -> None:
    """Raise a ValueError unless fields of positions fit the images that they are appended to."""
    expected = (x.shape[0], in_channels - x.shape[1], *x.shape[2:])
    if is_tracing() or fields.shape == expected:
        return
    if fields.shape[1] != expected[1]:
        raise ValueError(
            f"expected images of {in_channels - fields.shape[1]} channels, which with "
            f"{fields.shape[1]} of positions and lead times make in_channels={in_channels}, got "
            f"{x.shape[1]}"
        )
    raise ValueError(
        f"the positions have shape {tuple(fields.shape)} and the images {tuple(x.shape)}; to apply "
        f"the model to patches, pass the global_index or embedding_selector that made them"
    )
