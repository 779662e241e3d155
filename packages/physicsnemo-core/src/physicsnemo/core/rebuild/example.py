# SPDX-License-Identifier: Apache-2.0
"""The example in a checkpoint: inputs of a model, and what it made of them in evaluation mode.

It is kept as a state: ``args`` and ``kwargs`` of the call, and the leaves of what came back.
"""

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from physicsnemo.core.base import ModelBase
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_checkpoint
from physicsnemo.core.format.files import Url
from physicsnemo.core.format.storable import problem_of, problem_of_tensor
from physicsnemo.core.pytree import flatten, map_tensors

Inputs = tuple[Any, ...] | Mapping[str, Any]
_KINDS: dict[str, type | tuple[type, ...]] = {
    "args": (list, tuple),
    "kwargs": dict,
    "outputs": list,
}


def make_example(model: ModelBase, inputs: Inputs) -> dict[str, Any]:
    """Run a model on inputs, and return what a file holds of that.

    Parameters
    ----------
    model
        The model; its mode is what it was afterwards.
    inputs
        Arguments of its ``forward``, in a tuple, or by name.

    Raises
    ------
    TypeError
        If the inputs are neither, or a file cannot hold one of them or of the outputs.
    """
    if not isinstance(inputs, tuple | Mapping):
        raise TypeError(
            f"expected example to be a tuple of inputs, or a dictionary of them by name, got a "
            f"{type(inputs).__name__}"
        )
    args = () if isinstance(inputs, Mapping) else inputs
    kwargs = dict(inputs) if isinstance(inputs, Mapping) else {}
    example: dict[str, Any] = {"args": args, "kwargs": kwargs, "outputs": []}
    _check_storable(model, example)
    example = map_tensors(example, lambda it: it.detach().cpu().clone())  # models may change them
    example["outputs"] = [
        it.detach().cpu() if isinstance(it, torch.Tensor) else it for it in _run(model, example)
    ]
    _check_storable(model, example)
    return example


def stored_example(url: Url) -> dict[str, Any] | None:
    """Return the example in a file, which is read as data, None if it has none.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    with open_checkpoint(url) as checkpoint:
        if not checkpoint.has_example:
            return None
        example = checkpoint.example()
        _check_kinds(example, checkpoint.name)
    return example


def stored_inputs(url: Url) -> Inputs | None:
    """Return the inputs of the example in a file, None if it has none.

    Raises what :func:`stored_example` does.
    """
    example = stored_example(url)
    return None if example is None else example["kwargs"] or tuple(example["args"])


def check_example(model: ModelBase, example: Mapping[str, Any], source: str) -> str:
    """Run a model on the inputs of an example, and compare.

    Numbers may differ by the root of the machine precision, relative to the largest of a tensor:
    other machines sum in other orders.

    Parameters
    ----------
    model
        The model that the file holds.
    example
        As the file holds it.
    source
        The file's name, for error texts.

    Returns
    -------
    What was found, for people.

    Raises
    ------
    CheckpointError
        If the example is none, the model fails on it, or returns something else.
    """
    _check_kinds(example, source)
    try:
        outputs = _run(model, example)
    except Exception as error:  # whatever a model makes of inputs that it does not expect
        raise CheckpointError(
            f"{type(model).__name__} fails on the example in {source}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return check_outputs(model, outputs, example, source)


def check_outputs(
    model: ModelBase, outputs: list[Any], example: Mapping[str, Any], source: str
) -> str:
    """Compare what a model made of an example with what the file holds, as :func:`check_example`.

    Parameters
    ----------
    outputs
        The leaves of what :func:`evaluate` returned.
    """
    stored = example["outputs"]
    if len(outputs) != len(stored):
        raise CheckpointError(
            f"{type(model).__name__} returns {len(outputs)} values for the example in {source}, "
            f"which holds {len(stored)}"
        )
    weights = [it.dtype for it in model.parameters() if it.is_floating_point()]
    largest = 0.0
    for number, (own, theirs) in enumerate(zip(outputs, stored, strict=True), 1):
        distance = _distance(own, theirs, weights)
        if distance is not None:
            raise CheckpointError(
                f"output {number} of {len(stored)} for the example in {source} {distance}"
            )
        largest = max(largest, relative_distance(own, theirs))
    return f"{len(stored)} outputs, which differ by {largest:.1e} of the largest number at most"


def relative_distance(own: Any, theirs: Any) -> float:
    """Return the largest distance of two tensors, relative to the largest number of the second."""
    if not isinstance(own, torch.Tensor) or not theirs.numel():
        return 0.0
    own, theirs = (it.cpu().to_dense() for it in (own, theirs))
    wide = torch.complex128 if theirs.is_complex() else torch.float64
    own, theirs = own.to(wide).nan_to_num(), theirs.to(wide).nan_to_num()
    distance = float((own - theirs).abs().max())
    scale = float(theirs.abs().max())
    return distance / scale if scale else distance


def _check_kinds(example: Mapping[str, Any], source: str) -> None:
    if example.keys() != _KINDS.keys() or not all(
        isinstance(example[name], kind) for name, kind in _KINDS.items()
    ):
        raise CheckpointError(f"the example in {source} has no inputs and outputs")


def evaluate(model: ModelBase, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what a model makes of inputs in evaluation mode, the same each time.

    It is given copies, on its device.
    """
    device = model.device_buffer.device
    args, kwargs = map_tensors(
        (tuple(args), dict(kwargs)), lambda it: it.detach().clone().to(device)
    )
    with _evaluating(model), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return model(*args, **kwargs)


def _run(model: ModelBase, example: Mapping[str, Any]) -> list[Any]:
    """Return the leaves of what a model returns for the inputs of an example."""
    outputs: list[Any] = []
    flatten(evaluate(model, example["args"], example["kwargs"]), outputs)
    return outputs


@contextmanager
def _evaluating(model: torch.nn.Module) -> Any:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check_storable(model: ModelBase, example: dict[str, Any]) -> None:
    if problem := problem_of(example, torch.Tensor, problem_of_tensor):
        what = problem.partition(", which is no data")[0]
        raise TypeError(
            f"the example for {type(model).__name__} cannot be saved: {what}; a file holds tensors "
            f"and what JSON holds, so leave example out for models of graphs and other objects"
        )


def _distance(own: Any, theirs: Any, weights: list[torch.dtype]) -> str | None:
    """Say how two outputs differ, None if they do not."""
    if not isinstance(own, torch.Tensor) or not isinstance(theirs, torch.Tensor):
        is_same = type(own) is type(theirs) and own == theirs
        return None if is_same else f"is {own!r:.100}, expected {theirs!r:.100}"
    own = own.cpu()
    if own.shape != theirs.shape or own.dtype != theirs.dtype:
        return (
            f"is a tensor of shape {tuple(own.shape)} and type {own.dtype}, expected "
            f"{tuple(theirs.shape)} and {theirs.dtype}"
        )
    if own.layout != theirs.layout:
        return f"has the layout {own.layout}, expected {theirs.layout}"
    precisions = [torch.finfo(dtype).eps for dtype in (*weights, own.dtype) if _is_rounded(dtype)]
    allowed = max(precisions) ** 0.5 if _is_rounded(own.dtype) else 0.0
    own, theirs = own.to_dense(), theirs.to_dense()
    if not torch.equal(own.isnan(), theirs.isnan()):
        return "has numbers that are none (NaN) in other places"
    if (found := relative_distance(own, theirs)) > allowed:
        return (
            f"differs by {found:.1e} of the largest number in it; {allowed:.1e} is allowed for "
            f"{str(own.dtype).removeprefix('torch.')}"
        )
    return None


def _is_rounded(dtype: torch.dtype) -> bool:
    """Tell whether a type is of real or complex numbers of limited precision."""
    return dtype.is_floating_point or dtype.is_complex
