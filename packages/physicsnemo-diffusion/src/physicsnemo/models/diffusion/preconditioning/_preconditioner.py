# SPDX-License-Identifier: Apache-2.0
"""The base of all preconditioners."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from physicsnemo.models.diffusion._architecture import IMPLIED
from physicsnemo.models.diffusion._inputs import (
    Resolution,
    check_noise_levels,
    check_real,
    numbers_of,
)
from physicsnemo.models.diffusion._network import (
    NETWORK_HISTORY,
    OVERRIDABLE,
    any_sigma,
    build_network,
    join,
    network_type,
    wide_type,
)
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


def legacy(name: str) -> Mapping[str, str]:
    """Return where files record a preconditioner, by the first release that does so."""
    return {"2.0": f"physicsnemo.diffusion.preconditioners.legacy.{name}"}


class Scalings(NamedTuple):
    """Functions of the noise level: Karras et al. 2022, table 1.

    Parameters
    ----------
    c_skip, c_out, c_in
        Factors of the noisy fields, of the network's output and of its input.
    c_noise
        Noise level as the network is told it, one number for each sample.
    """

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioner(Module):
    r"""Denoiser :math:`D(x; \sigma) = c_{skip}\, x + c_{out}\, F(c_{in}\, x; c_{noise})`.

    A subclass gives :meth:`scalings`, the four functions of the noise level, and, where the
    network :math:`F` sees something else than the scaled fields and a condition beside them,
    :meth:`network_input`.

    Parameters
    ----------
    img_resolution
        Height and width of the fields, or one number for both.
    channels
        Channels of the fields: the first ones of the network's output.
    in_channels, out_channels
        Channels of the network.
    sigma_min, sigma_max
        Range of noise levels, which samplers keep to.
    label_dim
        Number of class labels; 0 for none.
    use_fp16
        Compute the network in float16 on GPUs. Autocast, which keeps the weights in float32 and
        also takes bfloat16, is the better way for most.
    model_type
        Network: ``SongUNet``, ``SongUNetPosEmbd``, ``SongUNetPosLtEmbd`` or ``DhariwalUNet``.
    numerics
        ``paper``, or what a release, ``reference-1.2`` to ``reference-2.2``, means in the network.
    **model_kwargs
        Further arguments of the network.

    Attributes
    ----------
    model
        The network.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

    References
    ----------
    Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
    arXiv:2206.00364, eq. 7 and table 1.
    """

    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    _argument_history = NETWORK_HISTORY
    _sigma_may_be_zero: ClassVar[bool] = False
    round_sigma = staticmethod(any_sigma)

    def __init__(
        self,
        *,
        img_resolution: Resolution,
        channels: int,
        in_channels: int,
        out_channels: int,
        sigma_min: float,
        sigma_max: float,
        use_fp16: bool,
        model_type: str,
        numerics: str,
        label_dim: int = 0,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(meta=MetaData(name=type(self).__name__))
        self.img_resolution = img_resolution
        self.label_dim = label_dim
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self._channels = channels
        self.model = build_network(
            model_type,
            img_resolution=img_resolution,
            in_channels=in_channels,
            out_channels=out_channels,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.use_fp16 = use_fp16  # last, as some subclasses convert the weights by it

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level, computed in its precision.

        Parameters
        ----------
        sigma
            Noise levels of shape (batch, 1, 1, 1).
        """
        raise NotImplementedError(f"{type(self).__name__} gives no scalings")

    def network_input(self, x: Tensor, c_in: Tensor, condition: Tensor | None) -> Tensor:
        """Return what the network sees: the scaled fields, then the condition as it is."""
        return x * c_in if condition is None else join(x * c_in, condition)

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Estimate the fields in noise.

        Parameters
        ----------
        x
            Noisy fields of shape (batch, channels, height, width), also of whole numbers.
        sigma
            Standard deviation of the noise, finite and above 0: a number, or a tensor with one
            number or one for each sample, of any shape, on the device of ``x`` or on the CPU.
            Values are checked where that is free, not on a GPU, where anything else makes NaN.
        class_labels
            Class labels of shape (batch, label_dim) or (label_dim,), numbers or truth values, by
            default zeros. Ignored if ``label_dim`` is 0.
        force_fp32
            Compute the network in float32 despite ``use_fp16``.
        **model_kwargs
            Further arguments of the network's ``forward``.

        Returns
        -------
        Fields of the same shape, in float32, or in the type of the weights if that is wider.

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If an argument has another shape or device than described, or a noise level is none.
        """
        return self._denoise(
            x,
            sigma,
            condition=None,
            class_labels=class_labels,
            force_fp32=force_fp32,
            model_kwargs=model_kwargs,
        )

    def _denoise(
        self,
        x: Tensor,
        sigma: Sigma,
        *,
        condition: Tensor | None,
        class_labels: Tensor | None,
        force_fp32: bool,
        model_kwargs: dict[str, Any],
    ) -> Tensor:
        layout = {"batch": None, "channels": self._channels, "height": None, "width": None}
        check_input(x, layout, self.device_buffer, name="x", numbers="real")
        check_noise_levels(sigma, x, or_zero=self._sigma_may_be_zero)
        # Half precision would lose the fields in strong noise, and weak noise in the fields: all
        # but the network is computed in float32 at least.
        wide = wide_type(self)
        own = network_type(self, bool(self.use_fp16), force_fp32)
        x = x.to(wide)
        c = self.scalings(_of_batch(sigma, x))
        output: Tensor = self.model(
            self.network_input(x, c.c_in, condition).to(own),
            c.c_noise.flatten(),
            class_labels=_labels_of_batch(class_labels, self.label_dim, x),
            **model_kwargs,
        )
        return c.c_skip * x + c.c_out * output[:, : self._channels].to(wide)


def _of_batch(sigma: Sigma, x: Tensor) -> Tensor:
    """Return noise levels of shape (batch, 1, 1, 1), in the type of the fields."""
    batch = x.shape[0]
    if not isinstance(sigma, Tensor):
        return x.new_full((batch, 1, 1, 1), sigma)
    return sigma.to(x).reshape(-1, 1, 1, 1).expand(batch, -1, -1, -1)


def _labels_of_batch(class_labels: Tensor | None, label_dim: int, x: Tensor) -> Tensor | None:
    """Return labels of shape (batch, label_dim), or None for a network that takes none."""
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
