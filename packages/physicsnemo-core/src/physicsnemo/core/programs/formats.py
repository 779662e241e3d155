# SPDX-License-Identifier: Apache-2.0
"""Formats of programs: how a file of each is written, and run as those do who have only that."""

import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from physicsnemo.core.errors import ExportError

Run = Callable[..., Any]


class Format(ABC):
    """Format of a program's file.

    Attributes
    ----------
    title
        What it is called.
    how
        How its files are run, as a line of Python with a place for the file's name.
    devices
        Kinds of devices that its files can be written on.
    mixes
        Whether its programs may be in mixed precision.
    assumes_strides
        Whether its programs read tensors by the strides of the example, whatever they are given.
    """

    title: str
    how: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    mixes: bool = True
    assumes_strides: bool = False

    @abstractmethod
    def check(self) -> None:
        """Raise an ImportError or ExportError unless all that writes the format is there."""

    @abstractmethod
    def write(self, program: ExportedProgram, path: Path) -> None:
        """Write a file."""

    @abstractmethod
    def load(self, path: Path) -> Run:
        """Return what runs a file on the inputs of the program."""


class Compiled(Format):
    """Machine code by AOTInductor, for one kind of device and processor."""

    title = "AOTInductor package"
    how = "torch._inductor.aoti_load_package({!r})"
    assumes_strides = True

    def check(self) -> None:
        """Raise an ExportError if there is no C++ compiler."""
        compiler = next(filter(shutil.which, ("g++", "clang++", "cl", "c++")), None)
        if compiler is None:
            raise ExportError(
                "AOTInductor needs a C++ compiler, and there is no g++ or clang++ on the PATH; "
                "install one, or write a program that is not compiled, by compile=False or, on the "
                "command line, --no-compile"
            )

    def write(self, program: ExportedProgram, path: Path) -> None:
        """Compile the program."""
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))

    def load(self, path: Path) -> Run:
        """Return the compiled program."""
        run: Run = torch._inductor.aoti_load_package(str(path))
        return run


class Recorded(Format):
    """The program itself, for any processor, to be run by PyTorch or compiled later."""

    title = "torch.export program"
    how = "torch.export.load({!r}).module()"

    def check(self) -> None:
        """Pass: PyTorch has all that it takes."""

    def write(self, program: ExportedProgram, path: Path) -> None:
        """Write the program."""
        for tensors in (program.state_dict, program.constants):
            _give_own_memory(tensors)
        torch.export.save(program, path)

    def load(self, path: Path) -> Run:
        """Return the program as a module."""
        with warnings.catch_warnings():
            # PyTorch 2.11 warns of the file's own memory, which a program does not write to.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            return torch.export.load(path).module()


class Onnx(Format):
    """ONNX, for ONNX Runtime and others."""

    title = "ONNX model"
    how = "onnxruntime.InferenceSession({!r})"
    devices = ("cpu",)  # where it is written; it runs on any
    mixes = False

    def check(self) -> None:
        """Raise an ImportError if a library is missing."""
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"ONNX files need {error.name}; run pip install 'physicsnemo-core[onnx]'"
            ) from error

    def write(self, program: ExportedProgram, path: Path) -> None:
        """Translate the program."""
        # Runtimes simplify what they load; here it would take the square of the depth.
        translated = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
        if translated is None:
            raise RuntimeError("the exporter returned no ONNX model")
        translated.save(str(path), external_data=False)

    def load(self, path: Path) -> Run:
        """Return a session of ONNX Runtime on the CPU, as a function of tensors."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]

        def run(*args: Any, **kwargs: Any) -> list[Tensor]:
            given = [it for it in pytree.tree_leaves((args, kwargs)) if isinstance(it, Tensor)]
            arrays = [tensor.numpy(force=True) for tensor in given]
            outputs = session.run(None, dict(zip(names, arrays, strict=True)))
            return [torch.from_numpy(output) for output in outputs]

        return run


def _give_own_memory(tensors: dict[str, Any]) -> None:
    """Replace tensors that are parts of others, or lie in memory in another order, by copies.

    PyTorch looks for the whole of such a part among the tensors that it writes, and does without if
    it finds none. It takes for one, too, what has no elements but an address, such as the memory of
    an array of NumPy.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and not _is_whole(tensor):
            copy = tensor.detach().clone(memory_format=torch.contiguous_format)
            is_weight = isinstance(tensor, nn.Parameter)
            tensors[name] = nn.Parameter(copy, tensor.requires_grad) if is_weight else copy


def _is_whole(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided:
        return True
    size = tensor.numel() * tensor.element_size()
    return size > 0 and tensor.is_contiguous() and tensor.untyped_storage().nbytes() == size


def format_of(path: Path, format: str | None, compile: bool) -> Format:
    """Return the format that is asked for, by default that of the file's suffix.

    Raises
    ------
    ValueError
        If it is unknown, or the suffix is that of another one.
    """
    suffix = path.suffix.removeprefix(".").lower()
    name = suffix if format is None else format
    if name not in ("pt2", "onnx"):
        raise ValueError(
            f"expected a file that ends in .pt2 or .onnx, or format to be 'pt2' or 'onnx', got "
            f"{path.name!r} and format {format!r}"
        )
    if name == "pt2" and suffix != "pt2":  # which PyTorch insists on when it loads one
        raise ValueError(f"expected a file that ends in .pt2, got {path.name!r}")
    if name == "onnx":
        return Onnx()
    return Compiled() if compile else Recorded()
