# SPDX-License-Identifier: Apache-2.0
r"""Averages of weights over training, with power-function profiles.

At step :math:`t` the weights of step :math:`\tau` count as :math:`\tau^\gamma`: the average grows
with training, and forgets its random start. The *width* of a profile is its standard deviation
relative to the training so far.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Snapshot(NamedTuple):
    """Averaged weights, and what they are an average of.

    Parameters
    ----------
    step
        Number of training steps so far.
    width
        Width of the profile.
    state
        State dictionary of the model.
    """

    step: int
    width: float
    state: dict[str, Tensor]


class PowerEMA:
    """Averages of a model's weights with power-function profiles, of one or several widths.

    Parameters
    ----------
    model
        The model in training, whose weights count from the first update on.
    widths
        Widths of the profiles, above 0 and below 0.28: 0.05 to 0.25 are common.

    Attributes
    ----------
    models
        A model with averaged weights for each width, in evaluation mode.
    step
        Number of updates so far.

    Raises
    ------
    ValueError
        If a width is out of range.

    References
    ----------
    Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models",
    arXiv:2312.02696, eq. 1 and 2, and algorithm 2.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import PowerEMA
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> averages = PowerEMA(model, widths=[0.1])
    >>> for weight in (1.0, 2.0, 3.0):
    ...     _ = torch.nn.init.constant_(model.weight, weight)
    ...     averages.update(model)
    >>> 2 < averages.models[0].weight.item() < 3
    True
    """

    def __init__(self, model: nn.Module, widths: Sequence[float] = (0.05, 0.1)) -> None:
        self.widths = [float(width) for width in widths]
        self._exponents = [exponent(width) for width in self.widths]
        self.step = 0
        self.models = [copy.deepcopy(model).eval().requires_grad_(False) for _ in widths]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights of a training step into the averages; buffers are copied."""
        self.step += 1
        current = [parameter.detach() for parameter in model.parameters()]
        for average, gamma in zip(self.models, self._exponents, strict=True):
            share = 1 - (1 - 1 / self.step) ** (gamma + 1)
            torch._foreach_lerp_(list(average.parameters()), current, share)
            for own, buffer in zip(average.buffers(), model.buffers(), strict=True):
                own.copy_(buffer)

    def snapshots(self) -> list[Snapshot]:
        """Return copies of the averaged weights, to keep for :func:`combined`."""
        return [
            Snapshot(self.step, width, copy.deepcopy(model.state_dict()))
            for width, model in zip(self.widths, self.models, strict=True)
        ]

    def state_dict(self) -> dict[str, object]:
        """Return what a checkpoint of the training needs to hold."""
        states = [model.state_dict() for model in self.models]
        return {"step": self.step, "widths": self.widths, "models": states}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If it is of averages of other widths.
        """
        if state["widths"] != self.widths:
            raise ValueError(
                f"expected averages of the widths {self.widths}, got {state['widths']}; build "
                f"PowerEMA(model, widths={state['widths']})"
            )
        self.step = state["step"]  # type: ignore[assignment]
        for model, own in zip(self.models, state["models"], strict=True):  # type: ignore[call-overload]
            model.load_state_dict(own)


def exponent(width: float) -> float:
    r"""Return the exponent :math:`\gamma` of the profile of a width.

    Raises
    ------
    ValueError
        If there is none: widths are above 0 and below :math:`1/\sqrt{12}`, that of a plain mean.
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"expected a width above 0 and below {12**-0.5:.3f}, got {width}")
    # (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = width^2, a cubic equation.
    inverse = width**-2
    companion = torch.diag(torch.ones(2, dtype=torch.float64), -1)
    companion[0] = -torch.tensor([7, 16 - inverse, 12 - inverse], dtype=torch.float64)
    return float(torch.linalg.eigvals(companion).real.max())


def combined(
    snapshots: Sequence[Snapshot], width: float, step: int | None = None
) -> dict[str, Tensor]:
    """Return averaged weights of any width, after training, from snapshots of some.

    Parameters
    ----------
    snapshots
        Averages of some steps and widths.
    width
        Width of the profile to come closest to, in the least squares.
    step
        Its last step, by default that of the last snapshot.

    Returns
    -------
    A state dictionary. Tensors of whole numbers are those of the last snapshot.

    Raises
    ------
    ValueError
        If there are no snapshots, or the width is out of range.

    References
    ----------
    Karras et al. 2024, arXiv:2312.02696, section 3.2 and algorithm 3.
    """
    if not snapshots:
        raise ValueError("expected snapshots to combine, got none")
    last = max(snapshots, key=lambda it: it.step)
    profiles = _table([(it.step, it.width) for it in snapshots])
    wanted = _table([(last.step if step is None else step, width)])
    products, targets = _products(profiles, profiles), _products(profiles, wanted)
    shares = torch.linalg.lstsq(products, targets, driver="gelsd").solution[:, 0].tolist()
    state = {}
    for name, tensor in last.state.items():
        state[name] = tensor
        if tensor.is_floating_point():
            terms = (
                share * it.state[name].double() for share, it in zip(shares, snapshots, strict=True)
            )
            state[name] = torch.stack(list(terms)).sum(dim=0).to(tensor.dtype)
    return state


def _table(profiles: Sequence[tuple[int, float]]) -> Tensor:
    """Return steps and exponents, of shape (profiles, 2)."""
    rows = [(step, exponent(width)) for step, width in profiles]
    return torch.tensor(rows, dtype=torch.float64)


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Return the integrals of products of profiles, of shape (profiles, other profiles)."""
    (t_1, gamma_1), (t_2, gamma_2) = one.T[:, :, None], other.T[:, None, :]
    # p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), in ratios of steps, which do not overflow.
    shorter = torch.minimum(t_1, t_2)
    ratio = (shorter / t_1) ** gamma_1 * (shorter / t_2) ** gamma_2 / torch.maximum(t_1, t_2)
    product: Tensor = (gamma_1 + 1) * (gamma_2 + 1) / (gamma_1 + gamma_2 + 1) * ratio
    return product
