# SPDX-License-Identifier: Apache-2.0
"""Guidance of release 2.2: scores with terms of :class:`~physicsnemo.diffusion.Observed`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from physicsnemo.diffusion.guidance import Observed, check_gradients
from physicsnemo.diffusion.release_2_2.multi_diffusion import MultiDiffusionPredictor
from physicsnemo.diffusion.release_2_2.protocols import DPSGuidance, Predictor

_Of = Callable[[Tensor], Tensor]
Norm = int | Callable[[Tensor, Tensor], Tensor]


class _Consistency:
    """Minus the gradient of an energy of observations, with the level of the noise by time."""

    def __init__(
        self,
        observed: Observed,
        sigma_fn: _Of | None,
        alpha_fn: _Of | None,
        retain_graph: bool,
        create_graph: bool,
    ) -> None:
        if sigma_fn is None and _is_positive(observed.gamma):
            raise ValueError("gamma needs sigma_fn, the noise by time: give scheduler.sigma")
        self.observed = observed
        self.sigma_fn, self.alpha_fn = sigma_fn, alpha_fn
        self.retain_graph, self.create_graph = retain_graph, create_graph

    def __call__(self, x: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """Return the term of the score, at noisy data, times and the estimate that depends on x."""
        keeps = self.retain_graph or self.create_graph
        return _downhill(self.energy(x_0, t), x, keeps, self.create_graph)

    def energy(self, x_0: Tensor, t: Tensor, slice_start: int | None = None) -> Tensor:
        """Return the energy, a scalar."""
        level: float | Tensor = 0.0
        if self.sigma_fn is not None:
            level = self.sigma_fn(t) / (1.0 if self.alpha_fn is None else self.alpha_fn(t))
        return self._seen(slice_start, len(x_0))(x_0, level).sum()

    def _seen(self, slice_start: int | None, number: int) -> Observed:
        return self.observed


class ModelConsistencyDPSGuidance(_Consistency):
    r"""Guidance to observations :math:`y = A(x_0)` with noise.

    The energy is that of :class:`~physicsnemo.diffusion.Observed`, with the level
    ``sigma_fn(t) / alpha_fn(t)``.

    Parameters
    ----------
    observation_operator, y, std_y, norm, gamma
        ``operator``, ``y``, ``std``, ``p`` and ``gamma`` of
        :class:`~physicsnemo.diffusion.Observed`.
    sigma_fn, alpha_fn
        The noise and the data by time, as ``scheduler.sigma`` and ``scheduler.alpha``; by default
        the latter is 1. Only with ``gamma`` do they matter.
    retain_graph, create_graph
        As of :func:`torch.autograd.grad`; :class:`DPSScorePredictor` needs neither.

    Raises
    ------
    ValueError
        If there is a ``gamma`` and no ``sigma_fn``, or as of
        :class:`~physicsnemo.diffusion.Observed`.
    """

    def __init__(
        self,
        observation_operator: Callable[[Tensor], Tensor],
        y: Tensor,
        std_y: float | Tensor,
        norm: Norm = 2,
        gamma: float | Tensor = 0.0,
        sigma_fn: _Of | None = None,
        alpha_fn: _Of | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        observed = Observed(y, std_y, observation_operator, gamma=gamma, p=norm)
        super().__init__(observed, sigma_fn, alpha_fn, retain_graph, create_graph)


class DataConsistencyDPSGuidance(_Consistency):
    """Guidance to observations of the data themselves, where a mask is true.

    Parameters
    ----------
    mask
        Where there are observations, of the shape of the data.
    y, std_y, norm, gamma, sigma_fn, alpha_fn, retain_graph, create_graph
        As of :class:`ModelConsistencyDPSGuidance`, and so is the error. What the mask leaves out of
        ``y`` may be NaN.
    """

    def __init__(
        self,
        mask: Tensor,
        y: Tensor,
        std_y: float | Tensor,
        norm: Norm = 2,
        gamma: float | Tensor = 0.0,
        sigma_fn: _Of | None = None,
        alpha_fn: _Of | None = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        observed = Observed(y, std_y, mask=mask.bool(), gamma=gamma, p=norm)
        super().__init__(observed, sigma_fn, alpha_fn, retain_graph, create_graph)


class DPSScorePredictor:
    """A predictor of the score, with the terms of guidance.

    Parameters
    ----------
    x0_predictor
        Estimates the data, ``predictor(x, t)``.
    x0_to_score_fn
        ``function(x0, x, t)`` to the score, as ``scheduler.x0_to_score``.
    guidances
        One or several. Those of this module take one gradient together; others may take their own.

    References
    ----------
    Chung et al. 2023, arXiv:2209.14687; Rozet and Louppe 2023, arXiv:2306.10574.
    """

    def __init__(
        self,
        x0_predictor: Predictor,
        x0_to_score_fn: Callable[[Tensor, Tensor, Tensor], Tensor],
        guidances: DPSGuidance | Sequence[DPSGuidance],
    ) -> None:
        self.x0_predictor, self.x0_to_score_fn = x0_predictor, x0_to_score_fn
        self.guidances = [guidances] if callable(guidances) else list(guidances)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the score at noisy data and times (batch,).

        Raises
        ------
        RuntimeError
            Under :func:`torch.inference_mode`, which leaves no gradients.
        """
        check_gradients()
        differentiable = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            leaf = x if differentiable else x.detach().requires_grad_()
            x0 = self.x0_predictor(leaf, t)
            terms = _terms(self.guidances, leaf, t, x0, differentiable)
        if not differentiable:
            x0, terms = x0.detach(), terms.detach()
        return self.x0_to_score_fn(x0, x, t) + terms


class _PatchConsistency(_Consistency):
    def __init__(
        self,
        predictor: MultiDiffusionPredictor,
        observed: Observed,
        sigma_fn: _Of | None,
        alpha_fn: _Of | None,
        fuse: bool,
        retain_graph: bool,
        create_graph: bool,
    ) -> None:
        super().__init__(observed, sigma_fn, alpha_fn, retain_graph, create_graph)
        self.predictor, self.fuse = predictor, fuse
        self._of_patches = {
            name: predictor.patch_fn(it.expand_as(observed.y) if name != "y" else it)
            for name in ("y", "std", "mask", "gamma")
            if isinstance(it := getattr(observed, name), Tensor)
        }

    def __call__(self, x: Tensor, t: Tensor, x_0: Tensor, slice_start: int | None = None) -> Tensor:
        """Return the term of the score of patches, from the one at ``slice_start`` on or of all.

        The terms of all are put together if ``fuse`` says so.
        """
        keeps = self.retain_graph or self.create_graph
        term = _downhill(self.energy(x_0, t, slice_start), x, keeps, self.create_graph)
        return self.predictor.fuse_fn(term) if self.fuse and slice_start is None else term

    def _seen(self, slice_start: int | None, number: int) -> Observed:
        start = slice_start or 0
        parts: dict[str, Any]
        parts = {name: it[start : start + number] for name, it in self._of_patches.items()}
        return replace(self.observed, **parts)


class MultiDiffusionModelConsistencyDPSGuidance(_PatchConsistency):
    """:class:`ModelConsistencyDPSGuidance` of patches, each observed by itself.

    Parameters
    ----------
    predictor
        Its patches are those observed: call ``set_patching`` first.
    observation_operator, y, std_y, norm, gamma, sigma_fn, alpha_fn, retain_graph, create_graph
        As of the other; the operator is of patches, and ``y`` and other tensors are images.
    fuse
        Put terms together that are of all patches.
    """

    def __init__(
        self,
        predictor: MultiDiffusionPredictor,
        observation_operator: Callable[[Tensor], Tensor],
        y: Tensor,
        std_y: float | Tensor,
        norm: Norm = 2,
        gamma: float | Tensor = 0.0,
        sigma_fn: _Of | None = None,
        alpha_fn: _Of | None = None,
        fuse: bool = False,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        observed = Observed(y, std_y, observation_operator, gamma=gamma, p=norm)
        graphs = retain_graph, create_graph
        super().__init__(predictor, observed, sigma_fn, alpha_fn, fuse, *graphs)


class MultiDiffusionDataConsistencyDPSGuidance(_PatchConsistency):
    """:class:`DataConsistencyDPSGuidance` of patches.

    Parameters
    ----------
    predictor, fuse
        As of :class:`MultiDiffusionModelConsistencyDPSGuidance`.
    mask, y, std_y, norm, gamma, sigma_fn, alpha_fn, retain_graph, create_graph
        As of :class:`DataConsistencyDPSGuidance`, of images.
    """

    def __init__(
        self,
        predictor: MultiDiffusionPredictor,
        mask: Tensor,
        y: Tensor,
        std_y: float | Tensor,
        norm: Norm = 2,
        gamma: float | Tensor = 0.0,
        sigma_fn: _Of | None = None,
        alpha_fn: _Of | None = None,
        fuse: bool = False,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        observed = Observed(y, std_y, mask=mask.bool(), gamma=gamma, p=norm)
        graphs = retain_graph, create_graph
        super().__init__(predictor, observed, sigma_fn, alpha_fn, fuse, *graphs)


class MultiDiffusionDPSScorePredictor:
    """:class:`DPSScorePredictor` of patches, one chunk after another, then put together.

    The gradient of a chunk is taken with respect to its patches, so memory follows the chunk.

    Parameters
    ----------
    x0_predictor
        A :class:`MultiDiffusionPredictor` with a ``chunk_size``.
    x0_to_score_fn
        As of :class:`DPSScorePredictor`.
    guidances
        One or several of patches.

    Raises
    ------
    TypeError
        If the predictor is another.
    ValueError
        If it has no ``chunk_size``.
    """

    def __init__(
        self,
        x0_predictor: MultiDiffusionPredictor,
        x0_to_score_fn: Callable[[Tensor, Tensor, Tensor], Tensor],
        guidances: Any,
    ) -> None:
        if not isinstance(x0_predictor, MultiDiffusionPredictor):
            raise TypeError(
                f"expected a MultiDiffusionPredictor, got a {type(x0_predictor).__name__}"
            )
        if x0_predictor.chunk_size is None:
            raise ValueError("expected a MultiDiffusionPredictor with a chunk_size, got none")
        self.x0_predictor, self.x0_to_score_fn = x0_predictor, x0_to_score_fn
        self.guidances = [guidances] if callable(guidances) else list(guidances)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the score at noisy images and times (batch,).

        Raises
        ------
        RuntimeError
            Under :func:`torch.inference_mode`, which leaves no gradients.
        """
        check_gradients()
        scores = []
        with torch.enable_grad():
            for start, x0, patches, times in self.x0_predictor.chunks(x.detach(), t):
                terms = _terms(self.guidances, patches, times, x0, slice_start=start)
                scores.append(self.x0_to_score_fn(x0, patches, times).detach() + terms.detach())
        return self.x0_predictor.fuse_fn(torch.cat(scores))


def _terms(
    guidances: Sequence[Any],
    x: Tensor,
    t: Tensor,
    x0: Tensor,
    create_graph: bool = False,
    **rows: int,
) -> Tensor:
    """Return the sum of the terms of guidances; those of this module take one gradient."""
    own = [it for it in guidances if isinstance(it, _Consistency)]
    others = [it for it in guidances if not isinstance(it, _Consistency)]
    terms = torch.zeros_like(x)
    if own:
        energy = torch.stack([it.energy(x0, t, **rows) for it in own]).sum()
        terms = terms + _downhill(energy, x, bool(others) or create_graph, create_graph)
    for guidance in others:
        terms = terms + guidance(x, t, x0, **rows)
    return terms


def _downhill(energy: Tensor, x: Tensor, retain_graph: bool, create_graph: bool) -> Tensor:
    (slope,) = torch.autograd.grad(energy, x, retain_graph=retain_graph, create_graph=create_graph)
    return -slope


def _is_positive(gamma: Any) -> bool:
    return bool((gamma > 0).any()) if isinstance(gamma, Tensor) else gamma > 0
