# SPDX-License-Identifier: Apache-2.0
"""Conditions of networks that take images among their channels, as release 2.2 joins them."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, checked_image
from physicsnemo.diffusion.release_2_2.preconditioners import check_times
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER, check_numerics, implied

ALONE = "condition"
"""What :class:`MultiDiffusionModel2D` calls a condition that is one tensor."""

POSITIONS = "positional_embedding"
"""What it calls the positional embedding that it adds."""


class ConcatConditionWrapper(Module):
    """A network that takes a condition: an image among its channels, and a vector.

    ``wrapper(x, t, condition)`` calls networks with ``noise_labels``, such as ``SongUNet``, as
    ``model(x, noise_labels=t, class_labels=vector)``, and others as
    ``model(x, t, condition=vector)``.

    Parameters
    ----------
    model
        The network.
    image_cond_key, vector_cond_key
        Names in a condition that is a mapping.
    numerics
        ``"paper"``, or as release 2.2 has it, ``"reference-2.2"``: a condition's
        ``"positional_embedding"``, which :class:`MultiDiffusionModel2D` adds, is left out instead
        of being one more image. Files of that release need it.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion.utils import ConcatConditionWrapper
    >>> from physicsnemo.models.diffusion_unets import SongUNet
    >>> network = SongUNet(
    ...     8, in_channels=2 + 1, out_channels=2, label_dim=3, model_channels=8, channel_mult=[1]
    ... )
    >>> condition = {"cond_concat": torch.randn(4, 1, 8, 8), "cond_vec": torch.randn(4, 3)}
    >>> x, t = torch.randn(4, 2, 8, 8), torch.rand(4)
    >>> ConcatConditionWrapper(network)(x, t, condition).shape
    torch.Size([4, 2, 8, 8])
    """

    _recorded_as = "physicsnemo.diffusion.utils.ConcatConditionWrapper"
    _implied_args = implied()

    def __init__(
        self,
        model: nn.Module,
        image_cond_key: str = "cond_concat",
        vector_cond_key: str = "cond_vec",
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=ModelMetaData(name="ConcatConditionWrapper"))
        check_numerics(numerics)
        self.model = model
        self.image_cond_key, self.vector_cond_key = image_cond_key, vector_cond_key
        self._images = (
            (image_cond_key,) if numerics != PAPER else (image_cond_key, ALONE, POSITIONS)
        )

    def forward(
        self, x: Tensor, t: Tensor, condition: Condition = None, **model_kwargs: Any
    ) -> Tensor:
        """Call the network.

        Parameters
        ----------
        x
            Fields of shape (batch, channels, ...).
        t
            What the network is told of times, of shape (batch,).
        condition
            A tensor (batch, channels, ...) that is an image, a mapping, or None.
        **model_kwargs
            Further arguments of the network.

        Returns
        -------
        What the network returns.

        Raises
        ------
        TypeError
            If the condition is neither a tensor nor a mapping.
        ValueError
            If it has neither an image nor a vector, or shapes do not fit.
        """
        check_times(t, x)
        named = self._named(condition)
        images = [checked_image(named[key], x) for key in self._images if key in named]
        x, vector = torch.cat((x, *images), dim=1), named.get(self.vector_cond_key)
        output: Tensor
        if "noise_labels" in inspect.signature(self.model.forward).parameters:
            output = self.model(x, noise_labels=t, class_labels=vector, **model_kwargs)
        else:
            output = self.model(x, t, condition=vector, **model_kwargs)
        return output

    def _named(self, condition: Condition) -> Mapping[str, Tensor]:
        if condition is None:
            return {}
        if isinstance(condition, Tensor):
            if (self.image_cond_key, self.vector_cond_key) != ("cond_concat", "cond_vec"):
                warnings.warn(
                    f"a condition that is one tensor is taken for {self.image_cond_key!r}",
                    stacklevel=3,
                )
            return {self.image_cond_key: condition}
        if not isinstance(condition, Mapping):
            raise TypeError(
                f"expected the condition to be a tensor or a mapping, got "
                f"{type(condition).__name__}"
            )
        named = dict(condition.items())
        if not named.keys() & {*self._images, self.vector_cond_key}:
            raise ValueError(
                f"expected a condition with {self.image_cond_key!r} or {self.vector_cond_key!r}, "
                f"got {', '.join(map(repr, named))}"
            )
        return named
