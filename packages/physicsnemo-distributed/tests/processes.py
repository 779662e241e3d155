# SPDX-License-Identifier: Apache-2.0
"""Processes of one job, started once, that run function after function for tests."""

import os
import pickle
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any


class Processes:
    """Two processes, or more, joined by Gloo; replaced by new ones after a failure."""

    def __init__(self, count: int = 2, timeout: float = 60.0) -> None:
        self.count, self.timeout = count, timeout
        self._workers: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call a function of a test's file in every process, and return what they return.

        The arguments go to the processes by pickle, the function by its file and name. Whatever
        one raises is shown in an AssertionError.
        """
        if not self._workers:
            self._start()
        place = function.__code__.co_filename, function.__module__
        for connection in self._connections:
            _send(connection, (place, function.__name__, arguments))
        answers: dict[int, tuple[bool, Any]] = {}
        end = time.monotonic() + self.timeout
        while len(answers) < self.count and time.monotonic() < end:
            for rank, connection in enumerate(self._connections):
                if rank not in answers and connection.poll(0.005):
                    answers[rank] = _received(connection)
                    if not answers[rank][0]:  # the others may wait for it
                        end = min(end, time.monotonic() + 10.0)
        if len(answers) < self.count or not all(passed for passed, _ in answers.values()):
            self.stop()
            texts = [f"rank {rank}: {it}" for rank, (passed, it) in answers.items() if not passed]
            raise AssertionError("\n".join(texts) or f"only {sorted(answers)} answered in time")
        return [answers[rank][1] for rank in range(self.count)]

    def stop(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self._workers, self._connections = [], []

    def _start(self) -> None:
        folder = Path(tempfile.mkdtemp())
        with Listener(str(folder / "socket"), "AF_UNIX") as listener:
            paths = os.pathsep.join(filter(None, sys.path))
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
            for rank in range(self.count):
                command = [sys.executable, __file__, str(folder), str(rank), str(self.count)]
                self._workers.append(subprocess.Popen(command, env=environment))
            arrived = {}
            for _ in range(self.count):
                connection = listener.accept()
                arrived[_receive(connection)] = connection
        self._connections = [arrived[rank] for rank in range(self.count)]


def _send(connection: Connection, value: Any) -> None:
    # By plain pickle: once PyTorch is imported, its tensors go by memory that is shared else.
    connection.send_bytes(pickle.dumps(value))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


def _received(connection: Connection) -> tuple[bool, Any]:
    try:
        answer: tuple[bool, Any] = _receive(connection)
        return answer
    except (EOFError, ConnectionError):
        return False, "the process has ended"


def _serve(folder: Path, rank: int, count: int) -> None:
    import torch.distributed as dist

    connection = Client(str(folder / "socket"), "AF_UNIX")
    _send(connection, rank)
    store = dist.FileStore(str(folder / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    while True:
        try:
            place, name, arguments = _receive(connection)
        except EOFError:
            os._exit(0)
        try:
            answer = True, _module(*place)[name](*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        _send(connection, answer)


@cache
def _module(file: str, name: str) -> dict[str, Any]:
    return runpy.run_path(file, run_name=name)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
