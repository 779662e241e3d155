# SPDX-License-Identifier: Apache-2.0
"""Proofs of the flags in a model's metadata: each runs the model as the flag promises."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from physicsnemo.models.module import Module
from physicsnemo.testing.case import Case
from physicsnemo.utils.capture import StaticCaptureTraining

# What a product in bfloat16, which has 8 significant bits, may lose over a few layers.
_LOW_PRECISION = 0.05
# What sums in another order may change in float32.
_SAME = 1e-5

Proof = Callable[[Case, torch.device], None]


def check_flag(case: Case, flag: str, device: str | torch.device = "cpu") -> None:
    """Run a model in the way that a flag of its metadata promises.

    Parameters
    ----------
    case
        The model and its inputs.
    flag
        One of :func:`provable_flags` for the device.
    device
        Where to run it.

    Raises
    ------
    AssertionError
        If the result differs from that of the plain model.
    Exception
        Whatever the model raises where it does not support the feature.
    ValueError
        If the flag cannot be proven on the device.
    """
    proofs = _proofs(torch.device(device))
    if flag not in proofs:
        raise ValueError(f"no proof of {flag!r} on {device}; there is one of {', '.join(proofs)}")
    proofs[flag](case, torch.device(device))


def provable_flags(case: Case, device: str | torch.device = "cpu") -> list[str]:
    """Return the flags that a model's metadata sets and that can be proven on a device.

    ``amp`` and ``onnx`` stand for their two parts, one a device.
    """
    meta = case.build().meta
    if meta is None:
        return []
    return [flag for flag in _proofs(torch.device(device)) if asdict(meta)[flag]]


def _proofs(device: torch.device) -> dict[str, Proof]:
    if device.type == "cuda":
        return {
            "cuda_graphs": _prove_cuda_graphs,
            "amp_gpu": _prove_autocast,
            "bf16": _prove_bf16,
            "onnx_gpu": _prove_onnx_export,
        }
    return {
        "jit": _prove_jit,
        "amp_cpu": _prove_autocast,
        "torch_fx": _prove_torch_fx,
        "bf16": _prove_bf16,
        "onnx_cpu": _prove_onnx_export,
        "onnx_runtime": _prove_onnx_runtime,
        "func_torch": _prove_func_torch,
        "auto_grad": _prove_auto_grad,
    }


def _prepare(case: Case, device: torch.device) -> tuple[Module, tuple[Any, ...]]:
    return case.build().eval().to(device), _to(case.inputs(), device)


def _to(inputs: Any, target: torch.device | torch.dtype) -> Any:
    """Move tensors to a device, or those of floating point to a type."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        keep = isinstance(target, torch.dtype) and not tensor.is_floating_point()
        return tensor if keep else tensor.to(target)

    return pytree.tree_map_only(torch.Tensor, move, inputs)


def _assert_equal(got: Any, expected: Any, tolerance: float) -> None:
    """Compare all tensors of two results by their norms."""
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True)
    for ours, theirs in pairs:
        ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
        error = (torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs)).item()
        if not error <= tolerance:
            raise AssertionError(f"relative error {error:.2e} exceeds {tolerance:.0e}")


def _prove_jit(case: Case, device: torch.device) -> None:
    model, inputs = _prepare(case, device)
    traced = torch.jit.trace(model, inputs, check_trace=False)
    stored = io.BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    others = pytree.tree_map_only(torch.Tensor, lambda t: t * 0.5, inputs)
    _assert_equal(torch.jit.load(stored)(*others), model(*others), _SAME)


def _prove_torch_fx(case: Case, device: torch.device) -> None:
    model, inputs = _prepare(case, device)
    _assert_equal(torch.fx.symbolic_trace(model)(*inputs), model(*inputs), _SAME)


def _prove_autocast(case: Case, device: torch.device) -> None:
    for dtype in (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,):
        model, inputs = _prepare(case, device)
        expected = model(*inputs)
        with torch.autocast(device.type, dtype=dtype):
            outputs = model(*inputs)
        _assert_equal(outputs, expected, _LOW_PRECISION)
        sum(output.float().square().mean() for output in pytree.tree_leaves(outputs)).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                raise AssertionError(f"the gradient of {name} is not finite in {dtype}")


def _prove_bf16(case: Case, device: torch.device) -> None:
    model, inputs = _prepare(case, device)
    expected = model(*inputs)
    _assert_equal(model.bfloat16()(*_to(inputs, torch.bfloat16)), expected, _LOW_PRECISION)


def _prove_onnx_export(case: Case, device: torch.device) -> None:
    import onnx

    model, inputs = _prepare(case, device)
    onnx.checker.check_model(_export(model, inputs), full_check=True)


def _prove_onnx_runtime(case: Case, device: torch.device) -> None:
    import onnxruntime

    model, inputs = _prepare(case, device)
    session = onnxruntime.InferenceSession(
        _export(model, inputs).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    arrays = [tensor.numpy() for tensor in pytree.tree_leaves(inputs)]
    outputs = session.run(None, dict(zip(names, arrays, strict=True)))
    _assert_equal([torch.from_numpy(array) for array in outputs], model(*inputs), _SAME)


def _export(model: Module, inputs: tuple[Any, ...]) -> Any:
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, inputs, path, dynamo=True, verbose=False)
        return onnx.load(path)


def _prove_func_torch(case: Case, device: torch.device) -> None:
    """Compare gradients for each sample, by ``vmap`` of ``grad``, with those of one alone."""
    model, inputs = _prepare(case, device)
    model, inputs = model.double(), _to(inputs, torch.float64)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], *sample: torch.Tensor) -> torch.Tensor:
        batch = [tensor.unsqueeze(0) for tensor in sample]
        output: torch.Tensor = torch.func.functional_call(model, weights, tuple(batch))
        return output.square().mean()

    gradient = torch.func.grad(loss)
    together = torch.func.vmap(gradient, in_dims=(None, *[0] * len(inputs)))(weights, *inputs)
    alone = gradient(weights, *[tensor[0] for tensor in inputs])
    _assert_equal({name: grad[0] for name, grad in together.items()}, alone, _SAME)


def _prove_auto_grad(case: Case, device: torch.device) -> None:
    """Compare the second derivative along a direction with a difference of first ones."""
    model, inputs = _prepare(case, device)
    model, (x, *rest) = model.double(), _to(inputs, torch.float64)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def slope(point: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(
            model(point, *rest).square().sum(), point, create_graph=True
        )
        along: torch.Tensor = (gradient * direction).sum()
        return along

    point = x.clone().requires_grad_()
    (second,) = torch.autograd.grad(slope(point), point)
    step = 1e-5
    ahead, behind = (slope((x + s * direction).requires_grad_()) for s in (step, -step))
    _assert_equal((second * direction).sum(), (ahead - behind) / (2 * step), 1e-4)


def _prove_cuda_graphs(case: Case, device: torch.device) -> None:
    """Compare the losses of steps replayed from a CUDA graph with those of eager steps."""
    losses = {}
    for use_graphs in (False, True):
        model, inputs = _prepare(case, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        @StaticCaptureTraining(
            model=model, optim=optimizer, use_graphs=use_graphs, use_amp=False, cuda_graph_warmup=3
        )
        def step(*inputs: Any, model: Module = model) -> torch.Tensor:
            outputs = pytree.tree_leaves(model(*inputs))
            return torch.stack([output.square().mean() for output in outputs]).sum()

        losses[use_graphs] = torch.stack([step(*inputs) for _ in range(8)])
    _assert_equal(losses[True], losses[False], 1e-4)
