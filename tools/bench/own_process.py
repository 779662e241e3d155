# SPDX-License-Identifier: Apache-2.0
"""Measurements in a process of their own, which alone answers for its memory and its failures."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Event, Timer
from types import TracebackType
from typing import Any, Self

from tools.bench.report import ROOT

_SCALE = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, to bytes


def peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _SCALE


def printed_by(module: str, *arguments: str) -> Any:
    """Run a module as a program, and return what it prints as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.check_output(command, text=True))


class InStages:
    """A module as a program that calls :func:`answer`; a context, which ends it.

    Parameters
    ----------
    module, arguments
        What to run.
    variables
        Of its environment, besides those of this process.
    """

    def __init__(
        self, module: str, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | (variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # to end the compiler's processes with it
        )

    def next(self, seconds: float) -> dict[str, Any]:
        """Let it go on, and return what the stage yields.

        If that takes longer than some seconds, the process is ended. Of this, and of any other
        failure, the result tells under the name ``error``.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = Event()

        def give_up() -> None:
            late.set()
            self._end()

        timer = Timer(seconds, give_up)
        timer.start()
        try:
            print("next", file=self._process.stdin, flush=True)
            values: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            if late.is_set():
                return {"error": f"not done after {seconds:.0f} s"}
            return {"error": f"the process ended with status {self._process.wait()}"}
        finally:
            timer.cancel()
        return values

    def _end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, and those that it started."""
        self._end()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what was not read is lost
                pipe.close()
        self._process.wait()


def answer(stages: Iterator[Mapping[str, Any]]) -> None:
    """Print, as JSON, what each stage yields, when another process asks for it; then end.

    A stage that fails is the last one.
    """
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # for what libraries print
    for _ in iter(sys.stdin.readline, ""):
        try:
            values = next(stages)
        except StopIteration:
            return
        except Exception as error:
            first, *_ = str(error).strip().splitlines() or [""]
            values = {"error": f"{type(error).__name__}: {first}"}
        print(json.dumps(values), file=output, flush=True)
