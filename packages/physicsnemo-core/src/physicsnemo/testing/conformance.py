# SPDX-License-Identifier: Apache-2.0
"""The conformance kit: it tries on a model whatever the library expects of all models."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from physicsnemo.testing._proofs import ONNX_LIBRARIES, PROOFS, UnprovenError
from physicsnemo.testing.case import Case
from physicsnemo.testing.checks import CHECKS, CONSTRUCTION, Check
from physicsnemo.testing.flags import can_prove, claimed_flags, flag_check

Outcome = Literal["passed", "failed", "excepted", "unproven"]
Plan = Iterator[tuple[Check, torch.device]]


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Parameters
    ----------
    check
        Name of the check.
    description
        The property that it tries, in words.
    outcome
        ``passed``; ``failed``; ``excepted``, which is to fail as the case declares; or
        ``unproven``: a flag of the metadata that cannot be proven here, such as ``cuda_graphs`` on
        a CPU, or ``onnx_cpu`` where the libraries are not installed.
    seconds
        How long it took.
    error
        What was raised, unless it passed.
    reason
        Why the case excepts the check, if it does.
    """

    check: str
    description: str
    outcome: Outcome
    seconds: float = 0.0
    error: Exception | None = None
    reason: str | None = None

    def __str__(self) -> str:
        """Return one line, with why it did not pass, unless it did."""
        why = f"{type(self.error).__name__}: {self.error}" if self.error else ""
        why = self.reason if self.outcome == "excepted" and self.reason else why
        return f"{self.outcome:8} {self.check}{': ' if why else ''}{why.partition(chr(10))[0]}"


def run_checks(
    case: Case, device: str | torch.device = "cpu", expensive: bool = True
) -> list[Result]:
    """Try everything that is expected of a model, and return what came of it.

    Parameters
    ----------
    case
        The model and its inputs.
    device
        Where to run it.
    expensive
        Whether to include the checks that take seconds each, as all compilers do.

    Returns
    -------
    One result a check; of a model that cannot be built or called, the result of that alone.

    Raises
    ------
    ValueError
        If the case excepts a check that does not exist, or gives no reason for an exception.

    Examples
    --------
    >>> from physicsnemo import Module
    >>> linear = Module.from_torch(torch.nn.Linear)
    >>> arguments = {"in_features": 3, "out_features": 2}
    >>> case = Case("small", linear, arguments, lambda: (torch.ones(4, 3),))
    >>> for result in run_checks(case, expensive=False)[:3]:
    ...     print(result)
    passed   construction
    passed   arguments
    passed   inputs
    """
    return list(each_result(case, device, expensive))


def each_result(
    case: Case, device: str | torch.device = "cpu", expensive: bool = True
) -> Iterator[Result]:
    """Yield what :func:`run_checks` returns, each result when it is there."""
    plan = _plan(case, [torch.device(device)], expensive)
    first = _try(*next(plan), case)
    yield first
    if not first.error:
        yield from (_try(check, on, case) for check, on in plan)


def conformance_test(
    cases: Sequence[Case],
    *,
    thorough: Collection[str] | None = None,
    devices: Sequence[str] | None = None,
) -> Callable[..., None]:
    """Make a pytest test of all that is expected of models, one item a case and check.

    One line in a test file is enough; its name must begin with ``test_``. An item that fails says
    which property does not hold and what to do about it. Checks that a case excepts are expected to
    fail, as by ``pytest.mark.xfail`` with its reason, strictly. A flag of the metadata that no
    device at hand can prove has no item; :func:`run_checks` reports it.

    Parameters
    ----------
    cases
        The models and their inputs.
    thorough
        Ids of the cases that also get the checks that take seconds each, as all compilers do; by
        default the first case of each model.
    devices
        Where to run them; by default the CPU, and ``cuda`` where there is one.

    Returns
    -------
    A parametrized test function.

    Raises
    ------
    ValueError
        If a case excepts a check that does not exist, or gives no reason for an exception.

    Examples
    --------
    >>> from physicsnemo import Module
    >>> linear = Module.from_torch(torch.nn.Linear)
    >>> arguments = {"in_features": 3, "out_features": 2}
    >>> CASES = [Case("small", linear, arguments, lambda: (torch.ones(4, 3),))]
    >>> test_conformance = conformance_test(CASES)
    """
    import pytest

    targets = [torch.device(name) for name in devices or _devices()]

    def items() -> Iterator[Any]:
        for case in cases:
            for check, device in _plan(case, targets, _is_thorough(case, cases, thorough)):
                if check.name in PROOFS and not can_prove(check.name, device):
                    continue
                suffix = "" if len(targets) == 1 else f"-{device}"
                reason = case.exceptions.get(check.name)
                marks = pytest.mark.xfail(reason=reason, strict=True) if reason else ()
                identity = f"{case}-{check.name}{suffix}"
                yield pytest.param(case, check, device, id=identity, marks=marks)

    @pytest.mark.parametrize(("case", "check", "device"), list(items()))
    def test(case: Case, check: Check, device: torch.device) -> None:
        check(case, device)

    return test


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _is_thorough(case: Case, cases: Sequence[Case], thorough: Collection[str] | None) -> bool:
    if thorough is not None:
        return case.id in thorough
    return case is next(other for other in cases if other.model == case.model)


def _plan(case: Case, devices: Sequence[torch.device], expensive: bool) -> Plan:
    """Yield what to try where, the construction first."""
    _require_known(case)
    yield from ((CONSTRUCTION, device) for device in devices)
    try:
        claimed = claimed_flags(case)
    except Exception:  # then the construction fails with it, and nothing else makes sense
        return
    pairs = [(check, device) for device in devices for check in CHECKS]
    for flag in claimed:
        able = [device for device in devices if can_prove(flag, device)]
        pairs += [(flag_check(flag), device) for device in able or devices[:1]]
    for check, device in pairs:
        if check.applies(case, device) and (expensive or not check.expensive):
            yield check, device


def _require_known(case: Case) -> None:
    """Raise ``ValueError`` for exceptions from what is no check, or without a reason."""
    names = [check.name for check in CHECKS] + list(PROOFS)
    if unknown := sorted(case.exceptions.keys() - set(names)):
        raise ValueError(f"{case} excepts {unknown}, but the checks are {', '.join(names)}")
    if bare := [name for name, reason in case.exceptions.items() if not reason]:
        raise ValueError(f"{case} excepts {bare} without a reason; say why the check cannot pass")


def _try(check: Check, device: torch.device, case: Case) -> Result:
    start = time.perf_counter()
    outcome, error = _outcome(check, device, case)
    seconds = time.perf_counter() - start
    reason = case.exceptions.get(check.name)
    if reason and outcome == "failed":
        outcome = "excepted"
    elif reason and outcome == "passed":
        outcome, error = "failed", AssertionError(f"passes; delete the exception: {reason}")
    return Result(check.name, check.description, outcome, seconds, error, reason)


def _outcome(check: Check, device: torch.device, case: Case) -> tuple[Outcome, Exception | None]:
    try:
        check(case, device)
    except UnprovenError as reason:
        return "unproven", reason
    except ModuleNotFoundError as missing:
        return ("unproven" if missing.name in ONNX_LIBRARIES else "failed"), missing
    except Exception as failure:  # a failed check is a result, whatever the model raised
        return "failed", failure
    return "passed", None
