# SPDX-License-Identifier: Apache-2.0
"""The flags in a model's metadata, and what proves them on which device."""

import functools
from dataclasses import asdict

import torch

from physicsnemo.core.base import metadata_of
from physicsnemo.testing._proofs import PROOFS, UnprovenError
from physicsnemo.testing.case import Case
from physicsnemo.testing.checks import Check


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
    device = torch.device(device)
    if not can_prove(flag, device):
        provable = ", ".join(name for name in PROOFS if can_prove(name, device))
        raise ValueError(f"no proof of {flag!r} on {device}; there is one of {provable}")
    flag_check(flag)(case, device)


def provable_flags(case: Case, device: str | torch.device = "cpu") -> list[str]:
    """Return the flags that a model's metadata sets and that can be proven on a device.

    ``amp`` and ``onnx`` stand for their two parts, one a device.
    """
    device = torch.device(device)
    return [flag for flag in claimed_flags(case) if can_prove(flag, device)]


def claimed_flags(case: Case) -> list[str]:
    """Return the flags that a model's metadata sets, provable or not."""
    meta = metadata_of(case.build())
    return [] if meta is None else [flag for flag in PROOFS if asdict(meta)[flag]]


def can_prove(flag: str, device: torch.device) -> bool:
    """Return whether a device of this kind can show that a flag holds."""
    return flag in PROOFS and device.type in PROOFS[flag].devices


def flag_check(flag: str) -> Check:
    """Return the proof of a flag as a check; it raises ``UnprovenError`` on a wrong device."""

    @functools.wraps(PROOFS[flag].function)
    def prove(case: Case, device: torch.device) -> None:
        if not can_prove(flag, device):
            model = str(case).removesuffix(f"-{case.id}")
            raise UnprovenError(f"{model} claims {flag}, which {device.type} cannot prove")
        PROOFS[flag].function(case, device)

    return Check(flag, prove, PROOFS[flag].expensive)
