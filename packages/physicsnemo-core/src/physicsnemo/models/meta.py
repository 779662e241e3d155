# SPDX-License-Identifier: Apache-2.0
"""What a model supports, declared beside it."""

from dataclasses import dataclass


@dataclass
class ModelMetaData:
    """The optimizations and runtimes that a model supports.

    The flags are declarations: :class:`physicsnemo.utils.StaticCaptureTraining` consults them
    before it uses CUDA graphs or autocast, and the models of this library prove each of theirs
    in a test. Subclass it as a dataclass and override defaults.

    Parameters
    ----------
    name
        Name of the model; the file name that :meth:`physicsnemo.Module.save` falls back to.
    jit
        ``torch.jit.trace`` can record it as a program, which can be stored and computes the same.
        It does not say that ``torch.jit.script`` can compile its source.
    cuda_graphs
        Its forward and backward pass can be captured in a CUDA graph.
    amp
        It supports automatic mixed precision; the default of ``amp_cpu`` and ``amp_gpu``.
    amp_cpu, amp_gpu
        The same, by device.
    torch_fx
        ``torch.fx.symbolic_trace`` can trace it.
    bf16
        It runs in bfloat16.
    onnx
        It can be exported to ONNX; the default of ``onnx_gpu`` and ``onnx_cpu``.
    onnx_gpu, onnx_cpu
        The same, by device.
    onnx_runtime
        The exported model runs under ONNX Runtime.
    trt
        It can be compiled by TensorRT.
    var_dim
        Number of spatial dimensions that may vary in size, -1 where the question has no meaning.
    func_torch
        ``torch.func`` transforms apply to it.
    auto_grad
        Its output can be differentiated twice and more with respect to its input.

    Examples
    --------
    >>> ModelMetaData(amp=True).amp_gpu
    True
    """

    name: str = "PhysicsNeMoModule"
    jit: bool = False
    cuda_graphs: bool = False
    amp: bool = False
    amp_cpu: bool | None = None
    amp_gpu: bool | None = None
    torch_fx: bool = False
    bf16: bool = False
    onnx: bool = False
    onnx_gpu: bool | None = None
    onnx_cpu: bool | None = None
    onnx_runtime: bool = False
    trt: bool = False
    var_dim: int = -1
    func_torch: bool = False
    auto_grad: bool = False

    def __post_init__(self) -> None:
        self.amp_cpu = self.amp if self.amp_cpu is None else self.amp_cpu
        self.amp_gpu = self.amp if self.amp_gpu is None else self.amp_gpu
        self.onnx_cpu = self.onnx if self.onnx_cpu is None else self.onnx_cpu
        self.onnx_gpu = self.onnx if self.onnx_gpu is None else self.onnx_gpu
