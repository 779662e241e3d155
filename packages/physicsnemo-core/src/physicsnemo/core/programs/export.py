# SPDX-License-Identifier: Apache-2.0
"""Export: a model as a file that computes the same without this library."""

import copy
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from physicsnemo.core.base import ModelBase, metadata_of
from physicsnemo.core.errors import ExportError
from physicsnemo.core.format.atomic import atomic_write
from physicsnemo.core.programs.formats import Format, format_of
from physicsnemo.core.programs.inputs import (
    Arguments,
    TakesTensors,
    as_arguments,
    batch_dimensions,
    batches,
    check_contiguous,
    moved,
    plain,
)
from physicsnemo.core.rebuild.example import Inputs, relative_distance
from physicsnemo.models.meta import ModelMetaData

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_ANY_BATCH = (
    " Does its first axis count samples, in all inputs, and does the model leave their number open?"
    " Without dynamic_batch, the program takes as many as the example has"
)


@dataclass(frozen=True)
class Exported:
    """What :func:`physicsnemo.utils.export` has written.

    Attributes
    ----------
    path
        The file.
    format
        What it is.
    how
        A line of Python that loads it.
    device
        Where it runs.
    inputs, outputs
        Types and shapes of its tensors, in their order; ``batch`` stands for any size.
    difference
        How far its outputs for the example are from the model's, relative to the largest number.
    """

    path: Path
    format: str
    how: str
    device: str
    inputs: list[str]
    outputs: list[str]
    difference: float


def export(
    model: torch.nn.Module,
    path: str | os.PathLike[str],
    example: Inputs,
    *,
    format: str | None = None,
    compile: bool = True,
    dynamic_batch: bool = False,
    device: torch.device | str = "cpu",
    precision: str | None = None,
) -> Exported:
    """Write a model as a program that runs without this library, and compare the two.

    What is written is the model in evaluation mode, without gradients. The file takes its place
    after it was loaded and has computed the same as the model for the example; an older file of
    that name survives if it does not.

    Parameters
    ----------
    model
        A :class:`physicsnemo.Module` or another module, which stays as it is.
    path
        The file. One that ends in ``.pt2`` is for PyTorch: it is loaded by
        ``torch._inductor.aoti_load_package``, from C++ too. One that ends in ``.onnx`` is for ONNX
        Runtime and others.
    example
        Inputs of ``forward``, in a tuple, or by name. Their shapes are those that the program
        takes; numbers, texts and None are fixed. A graph stands for its tensors, which the program
        takes as a tuple in its place. A compiled program takes contiguous tensors.
    format
        ``"pt2"`` or ``"onnx"``, by default what ``path`` ends in.
    compile
        Compile a ``.pt2`` file by AOTInductor, which takes minutes for large models and makes code
        for this kind of processor. Otherwise it holds the program as ``torch.export.load`` reads
        it.
    dynamic_batch
        Let the first axis of all input tensors, which is to be the batch, have any size.
    device
        Where the program will run, ``"cpu"`` or ``"cuda"``. An ONNX file is written on the CPU and
        runs on any device.
    precision
        ``"float32"`` or ``"float64"`` for weights, inputs and outputs; ``"bfloat16"`` or
        ``"float16"`` for mixed precision as by ``torch.autocast``, of ``.pt2`` files, with weights
        and inputs as they are. By default all are as they are.

    Raises
    ------
    ValueError
        If format, precision or device is unknown, or the metadata does not allow it; or if an
        input of a compiled program is not contiguous.
    TypeError
        If an input cannot be one of a program.
    ExportError
        If the model fails on the example, cannot be recorded, translated or compiled, or the file
        computes something else; the text tells what fails.
    ImportError
        If a library for ONNX is missing.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo import Module
    >>> from physicsnemo.utils import export
    >>> model = Module.from_torch(torch.nn.Linear)(3, 2)
    >>> x = torch.ones(4, 3)
    >>> made = export(model, "linear.pt2", (x,), compile=False, dynamic_batch=True)
    >>> made.inputs, made.outputs
    (['float32 (batch, 3)'], ['float32 (batch, 2)'])
    >>> program = torch.export.load("linear.pt2").module()
    >>> torch.equal(program(x[:2]), model(x[:2]))
    True
    """
    path, device = Path(path), torch.device(device)
    kind = format_of(path, format, compile)
    dtype, mixed = _precision(model, precision, device)
    if device.type not in kind.devices:
        raise ValueError(
            f"expected device of an {kind.title} to be one of {', '.join(kind.devices)}, got "
            f"'{device}'"
        )
    if mixed is not None and not kind.mixes:
        raise ValueError(
            f"expected precision of an {kind.title} to be float32 or float64, got {precision}; "
            f"convert the file by tools of its runtime"
        )
    if not path.parent.is_dir():  # which should not be found out after minutes of compiling
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    kind.check()
    arguments = as_arguments(example)
    if kind.assumes_strides:
        check_contiguous(plain(arguments), kind.title)  # before copies hide it
    with _without_notices():
        model = copy.deepcopy(model).eval().to(device, dtype)
    arguments = moved(arguments, device, dtype)
    given = plain(arguments)
    if pytree.tree_structure(given) != pytree.tree_structure(arguments):
        if dynamic_batch:
            raise ValueError(
                "dynamic_batch is for models whose inputs are tensors with the batch first, and "
                "this example has an object, such as a graph"
            )
        model = TakesTensors(model, arguments).eval()
    given = batches(given) if dynamic_batch else given
    model = model if mixed is None else _InMixedPrecision(model, mixed)
    with torch.no_grad():
        expected = _outputs(model, moved(given, device, None))  # as it may write to its inputs
        program = _record(model, given, dynamic_batch)
    with TemporaryDirectory() as folder:
        scratch = Path(folder, f"program{path.suffix}")
        run = _written(kind, program, scratch)
        with torch.no_grad():
            difference = _compare(_tensors(run(*given[0], **given[1])), expected, precision)
        with open(scratch, "rb") as source, atomic_write(path) as target:
            shutil.copyfileobj(source, target)
    return Exported(
        path=path,
        format=kind.title,
        how=kind.how.format(str(path)),
        device=str(device),
        inputs=[_shown(it, dynamic_batch, given) for it in _tensors(given)],
        outputs=[_shown(it, dynamic_batch, given) for it in expected],
        difference=difference,
    )


class _InMixedPrecision(torch.nn.Module):
    """A model whose program has autocast in it."""

    def __init__(self, model: torch.nn.Module, autocast: torch.autocast) -> None:
        super().__init__()
        self.model, self._autocast = model, autocast

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self._autocast:
            return self.model(*args, **kwargs)


def _precision(
    model: torch.nn.Module, precision: str | None, device: torch.device
) -> tuple[torch.dtype | None, torch.autocast | None]:
    """Return the type of weights and inputs, None for their own, and autocast if it is mixed."""
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(
            f"expected precision to be one of {', '.join(PRECISIONS)}, got {precision!r}"
        )
    dtype = None if precision is None else PRECISIONS[precision]
    if dtype is None or dtype.itemsize > 2:
        return dtype, None
    flag = "amp_gpu" if device.type == "cuda" else "amp_cpu"
    if isinstance(model, ModelBase) and not getattr(metadata_of(model) or ModelMetaData(), flag):
        raise ValueError(
            f"the metadata of {type(model).__name__} does not set {flag}, which {precision} needs; "
            f"leave precision out"
        )
    return None, torch.autocast(device.type, dtype)


def _outputs(model: torch.nn.Module, arguments: Arguments) -> list[Tensor]:
    args, kwargs = arguments
    try:
        return _tensors(model(*args, **kwargs))
    except Exception as error:  # whatever a model makes of inputs that it does not expect
        raise ExportError(f"the model fails on the example: {_first_line(error)}") from error


def _record(model: torch.nn.Module, arguments: Arguments, dynamic_batch: bool) -> ExportedProgram:
    shapes = batch_dimensions(model, arguments) if dynamic_batch else None
    try:
        args, kwargs = arguments
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever a model does that cannot be recorded
        advice = _ANY_BATCH if dynamic_batch else ""
        raise ExportError(
            f"torch.export cannot record the model: {_first_line(error)}{advice}"
        ) from error


def _written(kind: Format, program: ExportedProgram, path: Path) -> Any:
    try:
        with torch.no_grad(), _without_notices():
            kind.write(program, path)
            return kind.load(path)
    except Exception as error:  # of compilers, translators and runtimes
        raise ExportError(f"no {kind.title} can be made: {_first_line(error)}") from error


@contextmanager
def _without_notices() -> Iterator[None]:
    """Leave out what PyTorch notes about itself, when it copies or loads structures of inputs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        yield


def _compare(found: list[Tensor], expected: list[Tensor], precision: str | None) -> float:
    """Return the largest relative distance.

    Raises
    ------
    ExportError
        If one is more than what rounding can make.
    """
    if len(found) != len(expected):
        raise ExportError(f"the file returns {len(found)} tensors, and the model {len(expected)}")
    largest = 0.0
    for number, (own, theirs) in enumerate(zip(found, expected, strict=True), 1):
        if own.shape != theirs.shape or own.dtype != theirs.dtype:
            raise ExportError(
                f"output {number} of the file is {_shown(own)}, and that of the model "
                f"{_shown(theirs)}"
            )
        distance = relative_distance(own, theirs)
        rounded = theirs.is_floating_point() or theirs.is_complex()
        types = [theirs.dtype, *([PRECISIONS[precision]] if precision else [])]
        allowed = max(torch.finfo(it).eps for it in types) ** 0.5 if rounded else 0.0
        if not distance <= allowed:
            raise ExportError(
                f"output {number} of the file differs by {distance:.1e} of the largest number from "
                f"the model's; {allowed:.1e} is allowed"
            )
        largest = max(largest, distance)
    return largest


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _shown(tensor: Tensor, dynamic_batch: bool = False, given: Any = None) -> str:
    sizes = list(map(str, tensor.shape))
    batch = {len(it) for it in _tensors(given) if it.ndim}
    if dynamic_batch and sizes and len(tensor) in batch:
        sizes[0] = "batch"
    return f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(sizes)})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
