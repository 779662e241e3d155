# SPDX-License-Identifier: Apache-2.0
"""Comparison of a model with outputs that another implementation stored beside its checkpoint."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.models.module import Module

Tensors = dict[str, Tensor]
Makers = Mapping[str, Callable[[dict[str, Any], Tensors], Any]]


def check_reference_case(folder: str | Path, makers: Makers | None = None) -> None:
    """Load a checkpoint, run it, and compare outputs and a gradient with stored ones.

    The folder holds ``reference.mdlus``; ``inputs.safetensors``; ``outputs.safetensors`` with
    ``out0``, ``out1``, ... and, where ``case.json`` has ``grad_of``, ``grad_arg0``: the gradient
    of the outputs' summed mean squares with respect to that input; and ``case.json``:

    - ``class``: name of the class that the checkpoint must yield;
    - ``args`` and ``kwargs``: how to call it, each argument ``{"kind": "tensor", "name": ...}``
      from the inputs, ``{"kind": "value", "value": ...}``, ``{"kind": "none"}``,
      ``{"kind": "list", "items": [...]}`` or a kind of ``makers``;
    - ``tolerance``: ``rtol``, relative to each number, and ``atol_scaled``, relative to the
      largest of its tensor;
    - optionally ``mode`` (``train`` or ``eval``), ``method`` (by default ``forward``) and
      ``override_args`` (for :meth:`physicsnemo.Module.from_checkpoint`).

    Parameters
    ----------
    folder
        The folder.
    makers
        Functions by further kinds of arguments, such as graphs; each takes the argument's entry in
        ``case.json`` and all inputs.

    Raises
    ------
    AssertionError
        If the class, a shape, a type or a number differs.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    model = Module.from_checkpoint(folder / "reference.mdlus", case.get("override_args"))
    if type(model).__name__ != case["class"]:
        raise AssertionError(f"the file holds a {type(model).__name__}, not a {case['class']}")
    results = _run(model, case, load_file(folder / "inputs.safetensors"), makers or {})
    expected = load_file(folder / "outputs.safetensors")
    if results.keys() != expected.keys():
        raise AssertionError(f"got {sorted(results)}, expected {sorted(expected)}")
    for name, tensor in expected.items():
        scale = tensor.abs().max().item() if tensor.numel() else 0.0
        torch.testing.assert_close(
            results[name],
            tensor,
            rtol=case["tolerance"]["rtol"],
            atol=case["tolerance"]["atol_scaled"] * scale,
            msg=(name + ": {}").format,
        )


def _run(model: Module, case: dict[str, Any], inputs: Tensors, makers: Makers) -> Tensors:
    model.train(case.get("mode") == "train")
    leaf = inputs[case["grad_of"]].requires_grad_() if case.get("grad_of") else None
    args = [_decode(spec, inputs, makers) for spec in case["args"]]
    kwargs = {n: _decode(spec, inputs, makers) for n, spec in case.get("kwargs", {}).items()}
    method = case.get("method", "forward")
    outputs = pytree.tree_leaves(
        (model if method == "forward" else getattr(model, method))(*args, **kwargs)
    )
    results = {f"out{index}": output.detach() for index, output in enumerate(outputs)}
    if leaf is not None:
        loss = torch.stack([output.square().mean() for output in outputs]).sum()
        (results["grad_arg0"],) = torch.autograd.grad(loss, leaf)
    return results


def _decode(spec: dict[str, Any], inputs: Tensors, makers: Makers) -> Any:
    match spec:
        case {"kind": "tensor", "name": name}:
            # A copy, since a model may change its input in place, which a leaf does not allow.
            return inputs[name].clone()
        case {"kind": "value", "value": value}:
            return value
        case {"kind": "none"}:
            return None
        case {"kind": "list", "items": items}:
            return [_decode(item, inputs, makers) for item in items]
        case {"kind": kind} if kind in makers:
            return makers[kind](spec, inputs)
    raise ValueError(f"no argument can be made of {spec}")
