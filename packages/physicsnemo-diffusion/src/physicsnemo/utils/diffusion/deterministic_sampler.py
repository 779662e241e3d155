# SPDX-License-Identifier: Apache-2.0
"""The deterministic sampler of Karras et al. 2022, algorithm 1, with all choices of table 1."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_choice
from physicsnemo.utils.diffusion._checks import (
    check_churn,
    check_fractions,
    check_latents,
    check_numbers,
    check_state_type,
)
from physicsnemo.utils.diffusion._denoiser import Denoiser
from physicsnemo.utils.diffusion._nets import Net, RandnLike
from physicsnemo.utils.diffusion._probability_flow import (
    Linear,
    ProbabilityFlow,
    ScalingName,
    Schedule,
    ScheduleName,
    VarianceExploding,
    VariancePreserving,
)
from physicsnemo.utils.diffusion._solver import Churn, Solver
from physicsnemo.utils.diffusion._time_steps import (
    Discretization,
    default_range,
    edm_levels,
    iddpm_levels,
    ve_levels,
    vp_levels,
)
from physicsnemo.utils.patching import GridPatching2D

SolverName = Literal["heun", "euler"]


def deterministic_sampler(
    net: Net,
    latents: Tensor,
    img_lr: Tensor | None = None,
    class_labels: Tensor | None = None,
    randn_like: RandnLike = torch.randn_like,
    patching: GridPatching2D | None = None,
    mean_hr: Tensor | None = None,
    lead_time_label: Tensor | None = None,
    num_steps: int = 18,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    solver: SolverName = "heun",
    discretization: Discretization = "edm",
    schedule: ScheduleName = "linear",
    scaling: ScalingName = "none",
    epsilon_s: float = 1e-3,
    C_1: float = 0.001,  # noqa: N803
    C_2: float = 0.008,  # noqa: N803
    M: int = 1000,  # noqa: N803
    alpha: float = 1.0,
    S_churn: float = 0.0,  # noqa: N803
    S_min: float = 0.0,  # noqa: N803
    S_max: float = math.inf,  # noqa: N803
    S_noise: float = 1.0,  # noqa: N803
    dtype: torch.dtype = torch.float64,
    *,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    progress: bool = False,
) -> Tensor:
    r"""Deterministic sampler: solve the probability-flow differential equation.

    It goes from the highest noise level to none, with a choice of solver, time steps, noise
    schedule and scaling. Without churn, equal latents give equal samples.

    Parameters
    ----------
    net
        Denoiser, which returns the expectation of the clean images, given noisy ones: any
        preconditioner, or any callable of one of these forms, which its parameters' names tell
        apart::

            net(x, img_lr, sigma, class_labels=..., lead_time_label=..., embedding_selector=...)
            net(x, sigma, condition=img_lr, ...)
            net(x, sigma, ...)

        The first holds unless a parameter is called ``condition`` or the second one ``sigma``; the
        last is for nets without a conditioning image. ``x`` and ``img_lr`` come in the type of the
        latents, in single precision at least, and ``sigma`` without axes. The keywords are
        passed where there is something to pass; ``embedding_selector`` only to a net that takes
        it, with patches: it cuts a map (channels, height, width) as ``x`` is cut. The attributes
        ``sigma_min``, ``sigma_max`` and ``round_sigma`` are honored if the net has them; the last
        is given levels in float64 on the CPU.
    latents
        Standard normal noise, of shape (batch, channels, ...), images or other fields.
    img_lr
        Conditioning image of shape (batch, more channels, ...), if any.
    class_labels
        Class labels of shape (batch, labels).
    randn_like
        Source of the noise that churn adds, such as a :class:`StackedRandomGenerator`'s method.
    patching
        Patch-based sampling: the net sees patches, of shape (patch_num * batch, channels, ...),
        which are joined after each evaluation. Its conditioning image is then the patch of
        ``mean_hr`` and ``img_lr``, and all of ``img_lr``, resized to the shape of a patch.
    mean_hr
        Mean prediction of shape (1 or batch, more channels, ...), put before ``img_lr``.
    lead_time_label
        Lead-time labels, one for each sample.
    num_steps
        Number of steps. Heun's method evaluates the net twice in each but the last.
    sigma_min, sigma_max
        Noise levels of the last and of the first step; the net's limits narrow them. By
        default, those of the discretization: 0.002 to 80 for ``"edm"`` and to 81 for ``"iddpm"``,
        0.02 to 100 for ``"ve"``, and those that ``beta_d`` and ``beta_min`` give for
        ``"vp"``.
    rho
        Exponent of the time steps of ``"edm"``: how much they gather at low noise levels.
    solver
        ``"heun"``, of second order, or ``"euler"``, of first.
    discretization
        Time-step discretization: ``"vp"``, ``"ve"``, ``"iddpm"`` or ``"edm"``.
    schedule
        Noise schedule: ``"vp"``, ``"ve"`` or ``"linear"``.
    scaling
        Signal scaling: ``"vp"``, down to the variance of the data, or ``"none"``.
    epsilon_s
        Time of ``sigma_min``, for ``"vp"``.
    C_1, C_2, M
        Constants of the levels of ``"iddpm"``; M is their number.
    alpha
        Where in a step Heun's method evaluates the second slope: 1 at the end, 0.5 in the middle.
    S_churn, S_min, S_max, S_noise
        Churn: noise added over all steps and taken away again, the range of noise levels where it
        is, and a factor of its standard deviation. A step raises the noise level to its
        :math:`\sqrt 2`-fold at most.
    dtype
        Type of the state and of the samples: float64, or float32 on devices that have nothing else.
    beta_d, beta_min
        Noise schedule whose levels at the times ``epsilon_s`` and 1 are the default range of
        ``"vp"``. The defaults are those of the paper and of
        :class:`~physicsnemo.models.diffusion.preconditioning.VPPrecond`, and make the highest level
        152.2; the sampler of nvidia-physicsnemo has a ``beta_d`` of 19.1, which makes it 124.6.
    progress
        Show a progress bar.

    Returns
    -------
    Samples of the shape of the latents. With gradients enabled they are differentiable, in the
    latents, in the conditioning and in the net's parameters; under :class:`torch.no_grad` the
    state stays in memory that is allocated once. Nothing in it waits for the device, so that
    :class:`physicsnemo.utils.StaticCaptureEvaluateNoGrad` records all steps as one CUDA graph.

    Raises
    ------
    TypeError
        If the latents are not floating-point numbers.
    ValueError
        If an option is unknown or out of range, shapes do not fit, or the net does not take what
        it would have to be given.

    References
    ----------
    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
    arXiv:2206.00364, Table 1 and Algorithm 1; patches as in Mardani et al. 2023, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.diffusion import deterministic_sampler
    >>> def net(x, sigma):  # of normal data with mean 3 and standard deviation 0.5
    ...     return 3 + (x - 3) * 0.25 / (0.25 + sigma**2)
    >>> latents = torch.randn(10_000, 1, generator=torch.Generator().manual_seed(0))
    >>> samples = deterministic_sampler(net, latents, num_steps=36)
    >>> print(f"{samples.mean():.1f}, {samples.std():.1f}")
    3.0, 0.5
    """
    check_choice("solver", solver, get_args(SolverName))
    check_choice("discretization", discretization, get_args(Discretization))
    check_choice("schedule", schedule, get_args(ScheduleName))
    check_choice("scaling", scaling, get_args(ScalingName))
    check_numbers(num_steps, rho=rho, C_1=C_1, C_2=C_2, M=M, beta_d=beta_d, beta_min=beta_min)
    check_fractions(alpha=alpha, epsilon_s=epsilon_s)
    check_churn(churn=S_churn, s_min=S_min, s_max=S_max, s_noise=S_noise)
    check_latents(latents)
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
    low, high = default_range(discretization, VariancePreserving(beta_d, beta_min), epsilon_s)
    low, high = denoiser.sigma_range(
        low if sigma_min is None else sigma_min, high if sigma_max is None else sigma_max
    )
    levels = {
        "vp": lambda: vp_levels(num_steps, sigma_min=low, sigma_max=high, epsilon_s=epsilon_s),
        "ve": lambda: ve_levels(num_steps, low, high),
        "iddpm": lambda: iddpm_levels(num_steps, low, high, C_1=C_1, C_2=C_2, M=M),
        "edm": lambda: edm_levels(num_steps, sigma_min=low, sigma_max=high, rho=rho),
    }
    schedules: dict[str, Callable[[], Schedule]] = {
        "vp": lambda: VariancePreserving.between(low, high, epsilon_s),
        "ve": VarianceExploding,
        "linear": Linear,
    }
    churn = Churn(
        gamma=min(S_churn / num_steps, math.sqrt(2) - 1),
        s_min=S_min,
        s_max=S_max,
        s_noise=S_noise,
        randn_like=randn_like,
    )
    return Solver(
        denoiser,
        ProbabilityFlow(schedules[schedule](), preserves_variance=scaling == "vp"),
        churn,
        alpha=alpha if solver == "heun" else None,
    ).sample(latents.to(dtype), levels[discretization](), progress)
