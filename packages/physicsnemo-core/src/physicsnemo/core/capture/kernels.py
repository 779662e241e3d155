# SPDX-License-Identifier: Apache-2.0
"""Kernels that are compiled from CUDA C++ where they are needed: a fraction of a second each time.

By NVRTC, which PyTorch is linked to, so that no compiler has to be installed; and through
``cuda.bindings``, which PyTorch for NVIDIA's GPUs needs itself on Linux, and which other builds
lack, so that they are imported late.
"""

from collections.abc import Sequence
from ctypes import c_void_p
from typing import Any

import torch
from torch import Tensor


class Kernel:
    """Kernel that takes addresses alone.

    Parameters
    ----------
    function
        What the driver has loaded for one device.
    threads
        Number of threads in a block.
    """

    def __init__(self, function: Any, threads: int) -> None:
        self._function, self._threads = function, threads

    def launch(self, blocks: int, first: Tensor, *others: Tensor | None) -> None:
        """Launch it on the current stream of the device that tensors are on.

        Parameters
        ----------
        blocks
            How many blocks of threads; of none, nothing is launched.
        first, others
            What to pass the addresses of, those of None being 0.
        """
        from cuda.bindings import driver

        if not blocks:
            return
        tensors = (first, *others)
        addresses = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        with torch.cuda.device(first.device):
            stream = torch.cuda.current_stream().cuda_stream
            arguments = (addresses, (c_void_p,) * len(addresses))
            size = (blocks, 1, 1, self._threads, 1, 1)
            _done(driver.cuLaunchKernel(self._function, *size, 0, stream, arguments, 0))


def compile_kernels(
    source: str, names: Sequence[str], device: torch.device, *, threads: int, **macros: int
) -> list[Kernel]:
    """Return kernels of a source for one device.

    Parameters
    ----------
    source
        CUDA C++ without headers, which calls the number of threads ``THREADS``.
    names
        Of the kernels, which are ``extern "C"``.
    device
        Where they will run.
    threads
        Number of threads in their blocks.
    macros
        What else the source leaves open.

    Raises
    ------
    RuntimeError
        If the compiler or the driver reports an error; of a compiler's, it holds the messages.
    """
    from cuda.bindings import driver

    code = _machine_code(source, device, {"THREADS": threads, **macros})
    with torch.cuda.device(device):
        module = _done(driver.cuModuleLoadData(code))
        functions = [_done(driver.cuModuleGetFunction(module, name.encode())) for name in names]
    return [Kernel(function, threads) for function in functions]


def _machine_code(source: str, device: torch.device, macros: dict[str, int]) -> bytearray:
    from cuda.bindings import nvrtc

    major, minor = torch.cuda.get_device_capability(device)
    options = [f"--gpu-architecture=sm_{major}{minor}".encode()]
    options += [f"--define-macro={name}={value}".encode() for name, value in macros.items()]
    program = _done(nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, None, None))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != 0:
            log = bytearray(_done(nvrtc.nvrtcGetProgramLogSize(program)))
            _done(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"{status.name}: {log.rstrip(bytes(1)).decode().strip()}")
        code = bytearray(_done(nvrtc.nvrtcGetCUBINSize(program)))
        _done(nvrtc.nvrtcGetCUBIN(program, code))  # which is written to in place
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return code


def _done(results: tuple[Any, ...]) -> Any:
    """Return what a call returned, unless that is an error."""
    status, *values = results
    if status != 0:
        raise RuntimeError(status.name)
    return values[0] if values else None
