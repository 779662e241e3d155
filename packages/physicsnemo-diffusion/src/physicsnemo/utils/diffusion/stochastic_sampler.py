# SPDX-License-Identifier: Apache-2.0
"""The stochastic sampler of Karras et al. 2022, algorithm 2."""

import math

import torch
from torch import Tensor

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.utils.diffusion._checks import (
    check_churn,
    check_latents,
    check_numbers,
    check_state_type,
)
from physicsnemo.utils.diffusion._denoiser import Denoiser
from physicsnemo.utils.diffusion._nets import Net, RandnLike
from physicsnemo.utils.diffusion._probability_flow import Linear, ProbabilityFlow
from physicsnemo.utils.diffusion._solver import Churn, Solver
from physicsnemo.utils.diffusion._time_steps import edm_levels
from physicsnemo.utils.patching import GridPatching2D


def stochastic_sampler(
    net: Net,
    latents: Tensor,
    img_lr: Tensor | None = None,
    class_labels: Tensor | None = None,
    randn_like: RandnLike = torch.randn_like,
    patching: GridPatching2D | None = None,
    mean_hr: Tensor | None = None,
    lead_time_label: Tensor | None = None,
    num_steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 800,
    rho: float = 7,
    S_churn: float = 0,  # noqa: N803
    S_min: float = 0,  # noqa: N803
    S_max: float = math.inf,  # noqa: N803
    S_noise: float = 1,  # noqa: N803
    *,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> Tensor:
    r"""Stochastic sampler: Heun's method with churn, fresh noise before each step.

    The noise corrects errors of earlier steps. With ``S_churn=0``, the default, none is added, and
    the result is that of :func:`deterministic_sampler`.

    Parameters
    ----------
    net, latents, img_lr, class_labels, patching, mean_hr, lead_time_label, num_steps, rho
        As :func:`deterministic_sampler` takes them.
    randn_like
        Source of noise like a given tensor, drawn once a step. With a
        :class:`StackedRandomGenerator`'s method, samples do not depend on the batch that they are
        in.
    sigma_min, sigma_max
        Noise levels of the last and of the first step; the net's limits narrow them.
    S_churn, S_min, S_max, S_noise
        Churn: noise added over all steps, the range of noise levels where it is, and a factor of
        its standard deviation, slightly above 1 against a loss of detail. Each step multiplies the
        noise level by 1 + S_churn / num_steps, which Karras et al. limit to :math:`\sqrt 2`; here,
        as in nvidia-physicsnemo, there is no limit.
    dtype
        Type of the state and of the samples: float32 or float64. By default that of the latents, in
        single precision at least.
    progress
        Show a progress bar.

    Returns
    -------
    Samples of the shape of the latents. With gradients enabled they are differentiable, in the
    latents, in the conditioning and in the net's parameters; under :class:`torch.no_grad` the
    state stays in memory that is allocated once. Nothing in it waits for the device, so that
    :class:`physicsnemo.utils.StaticCaptureEvaluateNoGrad` records all steps as one CUDA graph; pass
    a :class:`StackedRandomGenerator` to the captured function as an argument.

    Raises
    ------
    TypeError
        If the latents are not floating-point numbers.
    ValueError
        If an option is out of range, shapes do not fit, or the net does not take what it would
        have to be given.

    References
    ----------
    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
    arXiv:2206.00364, Algorithm 2; patches as in Mardani et al. 2023, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.diffusion import StackedRandomGenerator, stochastic_sampler
    >>> def net(x, img_lr, sigma):  # of data that are normal, with mean img_lr
    ...     return img_lr + (x - img_lr) / (1 + sigma**2)
    >>> def sample(seeds, img_lr):
    ...     noise = StackedRandomGenerator("cpu", seeds)
    ...     latents = noise.randn(img_lr.shape)
    ...     return stochastic_sampler(net, latents, img_lr, randn_like=noise.randn_like, S_churn=9)
    >>> images = torch.linspace(0, 1, 2 * 16).reshape(2, 1, 4, 4)
    >>> together, alone = sample([0, 1], images), sample([1], images[1:])
    >>> torch.equal(together[1:], alone)
    True
    """
    check_numbers(num_steps, rho=rho)
    check_churn(churn=S_churn, s_min=S_min, s_max=S_max, s_noise=S_noise)
    check_latents(latents)
    dtype = at_least_float32(latents.dtype) if dtype is None else dtype
    check_state_type(dtype)
    denoiser = Denoiser(
        net,
        latents,
        img_lr=img_lr,
        mean_hr=mean_hr,
        class_labels=class_labels,
        lead_time_label=lead_time_label,
        patching=patching,
        dtype=dtype,
    )
    low, high = denoiser.sigma_range(sigma_min, sigma_max)
    churn = Churn(
        gamma=S_churn / num_steps,
        s_min=S_min,
        s_max=S_max,
        s_noise=S_noise,
        randn_like=randn_like,
    )
    flow = ProbabilityFlow(Linear(), preserves_variance=False)
    levels = edm_levels(num_steps, sigma_min=low, sigma_max=high, rho=rho)
    return Solver(denoiser, flow, churn, alpha=1.0).sample(latents.to(dtype), levels, progress)
