# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: a trained model with other channels, another resolution or depth."""

import os
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

import torch

from physicsnemo.core.adaptation.carry_over import Carried, carry_over
from physicsnemo.core.base import class_of, device_of, record_of
from physicsnemo.core.format.files import Url
from physicsnemo.core.rebuild.blueprint import construct
from physicsnemo.models.module import Module

Model = TypeVar("Model", bound=Module)


@dataclass(frozen=True)
class Adapted(Generic[Model]):
    """What :func:`physicsnemo.utils.adapt` returns.

    Attributes
    ----------
    model
        The new model.
    tensors
        What became of each tensor, of the new model's in their order, then of those left out.
    """

    model: Model
    tensors: list[Carried]

    def __str__(self) -> str:
        """Return how many tensors were carried over, and what became of those that were not."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = Counter(it.how for it in self.tensors)
        counted = ", ".join(f"{number} {how}" for how, number in counts.items())
        yield f"{class_of(self.model).__name__}: {counted or 'no tensors'}"
        for it in self.tensors:
            if it.how not in ("copied", "computed"):
                shapes = " to ".join(str(shape) for shape in (it.before, it.after) if shape)
                yield f"  {it.how:8}  {it.name}  {shapes}"


@overload
def adapt(source: Model, /, **changes: Any) -> Adapted[Model]: ...


@overload
def adapt(source: Url, /, **changes: Any) -> Adapted[Any]: ...


def adapt(source: Module | Url, /, **changes: Any) -> Adapted[Any]:
    """Build a model like a trained one, with some constructor arguments changed, from its weights.

    Tensors of the same shape are copied. Of others, the channels that both have are carried over:
    added inputs start with weights of zero wherever they lead to outputs that were there before,
    so that these are the same function at first, and added outputs start as the constructor makes
    them. Added Fourier modes start at zero as well, positions on a grid are interpolated, and
    blocks correspond by their number. What has no counterpart is fresh, such as kernels of another
    size and blocks that were added. Where the inputs of a layer are normalized together with added
    ones, outputs change in spite of the zeros.

    Parameters
    ----------
    source
        A model, or the path or URL of a ``.mdlus`` file.
    **changes
        Constructor arguments to replace.

    Returns
    -------
    The new model, on the device and of the type of the first, and what became of each tensor.

    Raises
    ------
    TypeError
        If the class has no such argument.
    ValueError
        If the class does not take the arguments.

    Examples
    --------
    >>> from physicsnemo import Module
    >>> import torch
    >>> class Mean(Module):
    ...     def __init__(self, channels):
    ...         super().__init__()
    ...         self.mix = torch.nn.Linear(channels, 1)
    ...     def forward(self, x):
    ...         return self.mix(x)
    >>> adapted = adapt(Mean(channels=3), channels=5)
    >>> print(adapted)
    Mean: 1 adapted, 1 copied
      adapted   mix.weight  (1, 3) to (1, 5)
    >>> adapted.model.mix.weight[0, 3:].tolist()
    [0.0, 0.0]
    """
    before = source if isinstance(source, Module) else _load(source)
    model_class = class_of(before)
    arguments = deepcopy(record_of(before)["__args__"])
    after = construct(model_class, {**arguments, **changes})
    precision = next((it.dtype for it in before.parameters() if it.is_floating_point()), None)
    after.to(device=device_of(before), dtype=precision).train(before.training)
    return Adapted(cast(Module, after), carry_over(before, after))


def _load(source: Any) -> Module:
    if not isinstance(source, str | os.PathLike):
        kind = "a model" if isinstance(source, torch.nn.Module) else f"a {type(source).__name__}"
        raise TypeError(
            f"expected a physicsnemo.Module or the path of a .mdlus file, got {kind} of the class "
            f"{type(source).__name__}; physicsnemo.Module.from_torch converts a class of PyTorch"
        )
    model: Module = Module.from_checkpoint(source)
    return model
