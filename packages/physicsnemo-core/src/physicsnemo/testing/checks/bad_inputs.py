# SPDX-License-Identifier: Apache-2.0
"""A model says what is wrong with an input that it cannot take."""

import dis
import inspect
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.models.module import Module
from physicsnemo.testing._compare import prepare, run, tensors
from physicsnemo.testing.case import Case

# What is made of a tensor, by name; None where there is nothing of the kind to make.
_SPOILED: dict[str, Callable[[Tensor], Any]] = {
    "none": lambda x: None,
    "list": lambda x: x.tolist() if x.ndim else None,
    "numpy": lambda x: x.cpu().numpy(),
    "text": lambda x: "text",
    "complex": lambda x: x.to(torch.complex64),
    "bool": lambda x: x > 0,
    "integer": lambda x: x.long() if x.is_floating_point() else None,
    "float64": lambda x: x.double() if x.is_floating_point() else None,
    "sparse": lambda x: x.to_sparse() if x.ndim else None,
    "meta": lambda x: x.to("meta"),
    "scalar": lambda x: x.flatten()[0] if x.ndim else None,
    "fewer_axes": lambda x: x[0] if x.ndim > 1 else None,
    "more_axes": lambda x: x[None],
    "channels_last": lambda x: (
        x.movedim(1, -1) if x.ndim > 2 and x.shape[1] not in x.shape[2:] else None
    ),
    "no_points": lambda x: x[..., :0] if x.ndim > 1 else None,
}


def check_bad_inputs(case: Case, device: str | torch.device = "cpu") -> None:
    """Spoil each input: an error of the model's own must say so, and no part may be ignored.

    Each tensor that the model is called with is spoiled in turn: by something else in its place, by
    numbers that are not floating-point ones of the weights' type, by another layout or device, by
    an axis more, fewer or in another place, and by no points. That must raise a ``TypeError`` or a
    ``ValueError`` by a ``raise`` statement outside of PyTorch. Then each axis but the first gets
    one more entry, which must raise such an error or have an effect.

    Parameters
    ----------
    case
        The model and its inputs; what it ``accepts`` must be computed instead.
    device
        Where to run it.

    Raises
    ------
    AssertionError
        If the model computes something from a bad input, an error comes from elsewhere, or
        the case accepts what is refused.
    """
    model, inputs = prepare(case, torch.device(device))
    wrong, used = [], set()
    for name, outcome in _outcomes(model, inputs):
        patterns = [pattern for pattern in case.accepts if fnmatch(name, pattern)]
        if outcome == _COMPUTED and patterns:
            used.update(patterns)
        elif outcome != _REFUSED:
            wrong.append(f"{name} {outcome}")
    if wrong:
        raise AssertionError(
            "refuse these inputs with a TypeError or ValueError, as by physicsnemo.nn.checks, or "
            "list what the model can take in the case: accepts={name: reason}\n  "
            + "\n  ".join(wrong)
        )
    if stale := sorted(case.accepts.keys() - used):
        raise AssertionError(f"the case accepts what is refused, or not tried: {stale}")


_REFUSED, _COMPUTED = "is refused", "is computed with"


def _outcomes(model: Module, inputs: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of each bad input, and what the model makes of it."""
    leaves, structure = pytree.tree_flatten(inputs, is_leaf=_is_argument)
    for index, (path, leaf) in enumerate(_paths(model, inputs)):
        if not isinstance(leaf, Tensor):
            continue

        def outcome(spoiled: Any, index: int = index) -> tuple[str, Any]:
            changed = [*leaves[:index], spoiled, *leaves[index + 1 :]]
            return _outcome(model, pytree.tree_unflatten(changed, structure))

        for kind, spoil in _SPOILED.items():
            spoiled = spoil(leaf)
            if (spoiled is None) == (kind == "none") and not _optional(model, path, kind):
                yield f"{path}:{kind}", outcome(spoiled)[0]
        for axis in range(1, leaf.ndim):
            result, first = outcome(_longer(leaf, axis, 1.0))
            if result == _COMPUTED and not _equal(outcome(_longer(leaf, axis, 0.5))[1], first):
                result = _REFUSED  # all of it counts, so that it is no surplus
            yield f"{path}:surplus_{axis}", result


def _paths(model: Module, inputs: Any) -> list[tuple[str, Any]]:
    """Return the leaves of what a model is called with, as in ``x`` or ``inputs.0``."""
    names = [*inspect.signature(model.forward).parameters]

    def named(path: pytree.KeyPath) -> str:
        first, *rest = (getattr(key, "idx", getattr(key, "key", None)) for key in path)
        # Further positional arguments belong to the last name.
        start = names[min(first, len(names) - 1)] if isinstance(first, int) else first
        return ".".join(map(str, (start, *rest)))

    found, _ = pytree.tree_flatten_with_path(inputs, is_leaf=_is_argument)
    return [(named(path), leaf) for path, leaf in found]


def _is_argument(value: Any) -> bool:
    """Tell what is taken whole: all but containers, as a graph has checks of its own."""
    return not isinstance(value, tuple | list | dict)


def _optional(model: Module, path: str, kind: str) -> bool:
    parameter = inspect.signature(model.forward).parameters.get(path)
    return kind == "none" and parameter is not None and parameter.default is None


def _outcome(model: Module, inputs: Any) -> tuple[str, Any]:
    """Say what a model makes of inputs, and return what it computes from them, if anything."""
    try:
        result = run(model, inputs)
    except Exception as error:
        if isinstance(error, TypeError | ValueError) and _is_raised(error):
            return _REFUSED, None
        return f"fails inside, by {type(error).__name__}: {str(error)[:100]}", None
    return _COMPUTED, result


def _is_raised(error: Exception) -> bool:
    """Tell whether a ``raise`` statement outside of PyTorch has raised an error."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None or step.tb_frame.f_globals.get("__name__", "").split(".")[0] == "torch":
        return False
    return step.tb_frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _longer(x: Tensor, axis: int, factor: float) -> Tensor:
    """Return a tensor with one more entry along an axis: the first one again, times a factor."""
    extra = x.narrow(axis, 0, 1)
    return torch.cat((x, (factor * extra).to(x.dtype)), dim=axis)


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)
