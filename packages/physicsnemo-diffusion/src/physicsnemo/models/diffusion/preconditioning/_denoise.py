# SPDX-License-Identifier: Apache-2.0
"""What all preconditioners do with a network, given their functions of the noise level."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import check_noise_levels, check_real, numbers_of
from physicsnemo.models.diffusion._network import network_type, wide_type
from physicsnemo.models.diffusion.preconditioning._formulas import Scalings
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_input

PUBLIC = "physicsnemo.models.diffusion.preconditioning"
"""The module that checkpoints name, and that users import from."""

Sigma = Tensor | float


@dataclass
class MetaData(ModelMetaData):
    """What the preconditioners support."""

    cuda_graphs: bool = True
    amp_gpu: bool | None = True


def denoise(
    wrapper: Module,
    scalings: Callable[[Tensor], Scalings],
    x: Tensor,
    sigma: Sigma,
    *,
    channels: int,
    scaled_input: Callable[[Tensor, Tensor], Tensor] = torch.mul,
    label_dim: int = 0,
    class_labels: Tensor | None = None,
    force_fp32: bool = False,
    or_zero: bool = False,
    **model_kwargs: Any,
) -> Tensor:
    """Estimate the fields in noise by a preconditioned network.

    Parameters
    ----------
    wrapper
        The preconditioner; its ``model`` is the network.
    scalings
        The functions of the noise level.
    x
        Noisy fields of shape (batch, channels, height, width).
    sigma
        Standard deviation of the noise: one, or one for each sample.
    channels
        Number of channels of the fields.
    scaled_input
        Takes the fields and their factor, and returns the network's input.
    label_dim, class_labels
        See :func:`labels_of_batch`.
    force_fp32
        Leave float16 aside.
    or_zero
        Whether a noise level may be 0.
    **model_kwargs
        What else the network takes.

    Raises
    ------
    TypeError
        If the fields, the noise levels or the labels are no real numbers.
    ValueError
        If they have another shape or device than described, or a noise level is not above 0; see
        :func:`~physicsnemo.models.diffusion._inputs.check_noise_levels`.
    """
    layout = {"batch": None, "channels": channels, "height": None, "width": None}
    check_input(x, layout, wrapper.device_buffer, name="x", numbers="real")
    check_noise_levels(sigma, x, or_zero=or_zero)
    wide = wide_type(wrapper)
    own = network_type(wrapper, bool(wrapper.use_fp16), force_fp32)
    x = x.to(wide)
    factors = scalings(sigma_of_batch(sigma, x))
    network = cast(Module, wrapper.model)
    output: Tensor = network(
        scaled_input(x, factors.input).to(own),
        factors.noise.flatten(),
        class_labels=labels_of_batch(class_labels, label_dim, x),
        **model_kwargs,
    )
    selected = output[:, :channels].to(wide)
    return factors.skip * x + factors.out * selected


def sigma_of_batch(sigma: Sigma, x: Tensor) -> Tensor:
    """Return noise levels of shape (batch, 1, 1, 1), in the type of the fields."""
    batch = x.shape[0]
    if not isinstance(sigma, Tensor):
        return x.new_full((batch, 1, 1, 1), sigma)
    return sigma.to(x).reshape(-1, 1, 1, 1).expand(batch, -1, -1, -1)


def labels_of_batch(class_labels: Tensor | None, label_dim: int, x: Tensor) -> Tensor | None:
    """Return labels of shape (batch, label_dim), zeros by default.

    Labels for a network that takes none are left out.

    Raises
    ------
    TypeError
        If they are no tensor of real numbers; truth values count as 0 and 1.
    ValueError
        If there are neither ``label_dim`` numbers nor so many for each sample, or they are on
        another device.
    """
    batch = x.shape[0]
    if label_dim == 0:
        return None
    if class_labels is None:
        return x.new_zeros(batch, label_dim)
    class_labels = numbers_of(class_labels)
    check_real("class_labels", class_labels, x)
    if class_labels.numel() not in (label_dim, batch * label_dim):
        raise ValueError(
            f"expected class_labels of shape (batch={batch}, label_dim={label_dim}) or "
            f"({label_dim},), got {tuple(class_labels.shape)}"
        )
    return class_labels.to(x).reshape(-1, label_dim).expand(batch, -1)
