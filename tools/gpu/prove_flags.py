# SPDX-License-Identifier: Apache-2.0
"""Prove the GPU flags in the metadata of all models and write the proofs beside this file.

Run it on a machine with a GPU: ``python -m tools.gpu.prove_flags [FILE]``. A test on the CPU checks
that each flag has a proof that belongs to the current code.
"""

import json
import sys
import traceback
from collections import defaultdict
from pathlib import Path

import torch

from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import check_flag, provable_flags
from tools.cases import all_cases
from tools.gpu.code import code_hash

PROOFS = Path(__file__).with_name("proofs.json")


def main(output: Path = PROOFS) -> int:
    """Run all proofs, print one line each, and return the number of failures."""
    proven: dict[tuple[str, str], list[str]] = defaultdict(list)
    failures = 0
    for case in all_cases():
        for flag in provable_flags(case, "cuda"):
            try:
                check_flag(case, flag, "cuda")
            except Exception:  # a failed proof is a result, whatever the model raised
                traceback.print_exc()
                failures += 1
                print(f"FAIL {case} {flag}")
            else:
                proven[str(case.model), flag].append(case.id)
                print(f"PASS {case} {flag}")
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
    print(f"{sum(map(len, proven.values()))} passed, {failures} failed")
    return failures


if __name__ == "__main__":
    sys.exit(min(1, main(*map(Path, sys.argv[1:2]))))
