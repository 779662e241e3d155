# SPDX-License-Identifier: Apache-2.0
"""What a model supports, and what proves it: metadata, tests on the CPU, records of a GPU."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from physicsnemo.core.base import metadata_of
from physicsnemo.testing import Case
from tools.cases import all_cases
from tools.gpu.prove_flags import PROOFS

FLAGS = {
    "amp_gpu": "mixed precision on a GPU",
    "amp_cpu": "mixed precision on a CPU",
    "bf16": "parameters in bfloat16",
    "cuda_graphs": "CUDA graphs",
    "onnx_cpu": "ONNX export on a CPU",
    "onnx_gpu": "ONNX export on a GPU",
    "onnx_runtime": "ONNX Runtime",
    "jit": "``torch.jit.trace``",
    "torch_fx": "``torch.fx``",
    "func_torch": "``torch.func``",
    "auto_grad": "second derivatives and higher",
}
"""The flags of :class:`physicsnemo.ModelMetaData`, in the order of importance."""

CHECKS = {
    "compile": "``torch.compile`` without graph breaks",
    "export": "``torch.export``",
    "recomputation": "activations computed again",
    "vmap": "``torch.vmap``",
}
"""Checks that the conformance kit tries on every model, unless a case excepts them."""

ON_GPU = ("amp_gpu", "cuda_graphs", "onnx_gpu")
TESTED = "test on a CPU"


@dataclass(frozen=True)
class Evidence:
    """What proves that a model supports something.

    Attributes
    ----------
    what
        In words, as reStructuredText.
    holds
        Whether it does.
    proof
        Where that was tried, or why it does not hold.
    """

    what: str
    holds: bool
    proof: str


def evidence(model: str) -> dict[str, Evidence]:
    """Return what is known of each flag and check, by name."""
    return dict(_flags(model)) | dict(_checks(model))


def gpu() -> str:
    """Return where the records of a GPU were made."""
    records = json.loads(PROOFS.read_text(encoding="utf-8"))
    return f"{records['gpu']}, PyTorch {records['torch'].partition('+')[0]}"


@cache
def cases() -> dict[str, list[Case]]:
    """Return the cases of each model by its name in the registry."""
    found: dict[str, list[Case]] = {}
    for case in all_cases():
        found.setdefault(str(case.model), []).append(case)
    return found


@cache
def metadata(model: str) -> dict[str, Any]:
    """Return a model's metadata as a dictionary."""
    meta = metadata_of(cases()[model][0].build())
    if meta is None:
        raise ValueError(f"{model} has no metadata")
    return asdict(meta)


def _flags(model: str) -> Iterator[tuple[str, Evidence]]:
    records = json.loads(PROOFS.read_text(encoding="utf-8"))
    of_model = {it["flag"]: it["cases"] for it in records["proofs"] if it["model"] == model}
    for flag, what in FLAGS.items():
        holds = bool(metadata(model)[flag])
        proof = TESTED if holds else "not claimed"
        if holds and flag in ON_GPU:
            number = len(of_model[flag])
            proof = f"{number} {'case' if number == 1 else 'cases'} on a GPU"
        yield flag, Evidence(what, holds, proof)


def _checks(model: str) -> Iterator[tuple[str, Evidence]]:
    for check, what in CHECKS.items():
        reasons = [case.exceptions[check] for case in cases()[model] if check in case.exceptions]
        proof = reasons[0] if reasons else TESTED
        yield check, Evidence(what, not reasons, proof)
