# SPDX-License-Identifier: Apache-2.0
"""Prove the GPU flags in the metadata of all models and write the proofs beside this file.

Run it on a machine with a GPU: ``python -m tools.gpu.prove_flags [FILE]``. A test on the CPU checks
that each flag has a proof that belongs to the current code.
"""

import json
import os
import sys
import traceback
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch

from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import Case, check_flag, provable_flags
from tools.cases import all_cases
from tools.gpu.code import code_hash

PROOFS = Path(__file__).with_name("proofs.json")

Claim = tuple[int, str]
"""The number of a case, and a flag of its model."""


def main(output: Path = PROOFS) -> int:
    """Run all proofs, print one line each, and return the number of failures."""
    claims = [
        (index, flag)
        for index, case in enumerate(_cases())
        for flag in provable_flags(case, "cuda")
    ]
    # Exports keep a core busy and not the GPU, some for minutes: they begin first, side by side.
    claims.sort(key=lambda claim: not claim[1].startswith("onnx"))
    workers = max(1, (os.cpu_count() or 1) // 2)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        held = dict(zip(claims, pool.map(_holds, claims), strict=True))
    proven: dict[tuple[str, str], list[str]] = defaultdict(list)
    for index, flag in sorted(claim for claim in claims if held[claim]):
        case = _cases()[index]
        proven[str(case.model), flag].append(case.id)
    report = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "proofs": [
            {
                "model": model,
                "flag": flag,
                "cases": cases,
                "code": code_hash(ModelRegistry().factory(model)),
            }
            for (model, flag), cases in sorted(proven.items())
        ],
    }
    output.write_text(json.dumps(report, indent=2) + "\n")
    failures = len(claims) - sum(held.values())
    print(f"{sum(held.values())} passed, {failures} failed")
    return failures


@cache
def _cases() -> list[Case]:
    return all_cases()


def _holds(claim: Claim) -> bool:
    index, flag = claim
    case = _cases()[index]
    torch.set_num_threads(1)
    try:
        check_flag(case, flag, "cuda")
    except Exception:  # a failed proof is a result, whatever the model raised
        traceback.print_exc()
        print(f"FAIL {case} {flag}", flush=True)
        return False
    print(f"PASS {case} {flag}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(min(1, main(*map(Path, sys.argv[1:2]))))
