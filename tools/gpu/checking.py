# SPDX-License-Identifier: Apache-2.0
"""Running checks by name, one line each."""

import traceback
from collections.abc import Callable, Iterable

import torch


def run(checks: Iterable[tuple[str, Callable[[], None]]], words: tuple[str, ...]) -> int:
    """Run the checks whose name contains all words, and return the number of failures."""
    chosen = [(name, check) for name, check in checks if all(word in name for word in words)]
    failed = 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, check in chosen:
        torch.compiler.reset()
        try:
            check()
        except Exception as failure:
            traceback.print_exc()
            failed += 1
            print(f"FAIL {name}: {failure}", flush=True)
        else:
            print(f"PASS {name}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed
