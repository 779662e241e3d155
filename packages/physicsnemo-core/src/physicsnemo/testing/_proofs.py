# SPDX-License-Identifier: Apache-2.0
"""Proofs of the flags in a model's metadata: each runs the model as the flag promises."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.models.module import Module
from physicsnemo.testing._compare import (
    LOW_PRECISION,
    SAME,
    assert_equal,
    call,
    function_of_floats,
    gradients,
    move,
    prepare,
    split,
    tensors,
    vary,
)
from physicsnemo.testing.case import Case
from physicsnemo.utils.capture import StaticCaptureTraining

_LAST_EXPORT: list[Any] = []
"""A case, a device, and the ONNX model made of them."""

# What a difference quotient, and a few steps of training, add to rounding.
_STEP = 1e-4


ONNX_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
"""The libraries that proofs of its flags need."""


class UnprovenError(Exception):
    """A flag is set that the device at hand cannot prove."""


class Proof(NamedTuple):
    """What runs the model, and on which kinds of device it can."""

    function: Callable[[Case, torch.device], None]
    devices: tuple[str, ...]
    expensive: bool = False


def _prove_jit(case: Case, device: torch.device) -> None:
    """``torch.jit.trace`` records the model, and the stored program computes the same."""
    model, inputs = prepare(case, device)
    positional, named = split(inputs)
    traced = torch.jit.trace(
        model, positional or None, check_trace=False, example_kwarg_inputs=named or None
    )
    stored = io.BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    others = vary(inputs)
    assert_equal(call(torch.jit.load(stored), others), call(model, others), SAME)


def _prove_torch_fx(case: Case, device: torch.device) -> None:
    """``torch.fx`` traces the model by its symbols, and the program computes the same."""
    model, inputs = prepare(case, device)
    assert_equal(call(torch.fx.symbolic_trace(model), inputs), call(model, inputs), SAME)


def _prove_autocast(case: Case, device: torch.device) -> None:
    """Under autocast the outputs agree within its precision, and all gradients are finite."""
    for dtype in (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,):
        model, inputs = prepare(case, device)
        expected = call(model, inputs)
        with torch.autocast(device.type, dtype=dtype):
            outputs = call(model, inputs)
        assert_equal(outputs, expected, LOW_PRECISION)
        for name, gradient in gradients(model, outputs).items():
            if not gradient.isfinite().all():
                raise AssertionError(f"the gradient of {name} is not finite in {dtype}")


def _prove_bf16(case: Case, device: torch.device) -> None:
    """In bfloat16 the outputs agree within its precision."""
    model, inputs = prepare(case, device)
    expected = call(model, inputs)
    outputs = call(model.bfloat16(), move(inputs, torch.bfloat16))
    assert_equal(outputs, expected, LOW_PRECISION)


def _prove_onnx_export(case: Case, device: torch.device) -> None:
    """ONNX export makes a valid file of the model."""
    import onnx

    onnx.checker.check_model(_export(case, device), full_check=True)


def _prove_onnx_runtime(case: Case, device: torch.device) -> None:
    """ONNX Runtime computes the same from the exported model."""
    import onnxruntime

    model, inputs = prepare(case, device)
    session = onnxruntime.InferenceSession(
        _export(case, device).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    arrays = [tensor.numpy() for tensor in tensors(inputs)]
    outputs = session.run(None, dict(zip(names, arrays, strict=True)))
    assert_equal([torch.from_numpy(array) for array in outputs], call(model, inputs), SAME)


def _export(case: Case, device: torch.device) -> Any:
    """Export a model, unless it is the last that was: the flags of a case come in a row."""
    import onnx

    if _LAST_EXPORT and _LAST_EXPORT[0] is case and _LAST_EXPORT[1] == device:
        return _LAST_EXPORT[2]
    model, inputs = prepare(case, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # What is asked is whether the model can be exported. To simplify what comes out takes time
        # that grows with the square of the model's depth.
        positional, named = split(inputs)
        torch.onnx.export(
            model, positional, path, kwargs=named, dynamo=True, verbose=False, optimize=False
        )
        _LAST_EXPORT[:] = case, device, onnx.load(path)
    return _LAST_EXPORT[2]


def _prove_func_torch(case: Case, device: torch.device) -> None:
    """Gradients for each sample, by ``vmap`` of ``grad``, are those of the sample alone."""
    model, inputs = prepare(case, device)
    model, inputs = model.double(), move(inputs, torch.float64)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    leaves, structure = pytree.tree_flatten(inputs)
    samples, axes = zip(*[_samples(leaf, case.batched) for leaf in leaves], strict=True)

    def loss(weights: dict[str, Tensor], *sample: Any) -> Tensor:
        arguments = split(pytree.tree_unflatten(list(sample), structure))
        output: Tensor = torch.func.functional_call(model, weights, *arguments)
        return output.square().mean()

    gradient = torch.func.grad(loss)
    together = torch.func.vmap(gradient, in_dims=(None, *axes))(weights, *samples)
    first = (s if axis is None else s[0] for s, axis in zip(samples, axes, strict=True))
    alone = gradient(weights, *first)
    assert_equal({name: grad[0] for name, grad in together.items()}, alone, SAME, "a gradient")


def _samples(leaf: Any, batched: bool) -> tuple[Any, int | None]:
    """Return several values of one leaf of the inputs, and the axis that tells them apart."""
    if batched and isinstance(leaf, Tensor):
        return leaf.unsqueeze(1), 0
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return torch.stack((leaf, 0.5 * leaf)), 0
    return leaf, None  # whole numbers, such as the edges of a graph, are the same in all


def _prove_auto_grad(case: Case, device: torch.device) -> None:
    """Second derivatives along a direction are differences of first ones."""
    model, inputs = prepare(case, device)
    function, (x, *rest) = function_of_floats(model.double(), move(inputs, torch.float64))
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def slope(point: Tensor) -> Tensor:
        total = torch.stack([output.square().sum() for output in function(point, *rest)]).sum()
        (gradient,) = torch.autograd.grad(total, point, create_graph=True)
        along: Tensor = (gradient * direction).sum()
        return along

    point = x.clone().requires_grad_()
    (second,) = torch.autograd.grad(slope(point), point)
    step = 1e-5
    ahead, behind = (slope((x + s * direction).requires_grad_()) for s in (step, -step))
    assert_equal(
        (second * direction).sum(), (ahead - behind) / (2 * step), _STEP, "the second derivative"
    )


def _prove_cuda_graphs(case: Case, device: torch.device) -> None:
    """Training steps replayed from a CUDA graph, whole, have the losses of eager steps."""
    losses = {}
    for use_graphs in (False, True):
        model, inputs = prepare(case, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)

        @StaticCaptureTraining(
            model=model, optim=optimizer, use_graphs=use_graphs, use_amp=False, cuda_graph_warmup=3
        )
        def step(*positional: Any, model: Module = model, **named: Any) -> Tensor:
            outputs = tensors(model(*positional, **named))
            return torch.stack([output.square().mean() for output in outputs]).sum()

        losses[use_graphs] = torch.stack([call(step, inputs) for _ in range(8)])
    if step.replays() != 5:
        raise AssertionError(
            f"{step.replays()} of the last 5 steps replayed a CUDA graph; the logger "
            f"'physicsnemo.capture' says why"
        )
    assert_equal(losses[True], losses[False], _STEP, "the losses")


def _prove_trt(case: Case, device: torch.device) -> None:
    """TensorRT compiles the model."""
    raise UnprovenError("TensorRT is not tried on any device")


PROOFS = {
    "jit": Proof(_prove_jit, ("cpu",)),
    "torch_fx": Proof(_prove_torch_fx, ("cpu",)),
    "amp_cpu": Proof(_prove_autocast, ("cpu",)),
    "amp_gpu": Proof(_prove_autocast, ("cuda",)),
    "bf16": Proof(_prove_bf16, ("cpu", "cuda")),
    "func_torch": Proof(_prove_func_torch, ("cpu",)),
    "auto_grad": Proof(_prove_auto_grad, ("cpu",)),
    "cuda_graphs": Proof(_prove_cuda_graphs, ("cuda",)),
    "onnx_cpu": Proof(_prove_onnx_export, ("cpu",), expensive=True),
    "onnx_gpu": Proof(_prove_onnx_export, ("cuda",), expensive=True),
    "onnx_runtime": Proof(_prove_onnx_runtime, ("cpu",), expensive=True),
    "trt": Proof(_prove_trt, ()),
}
