# SPDX-License-Identifier: Apache-2.0
"""The processes of a job: joined at the start, released at the end."""

import atexit
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from physicsnemo.distributed.meeting import meet

__all__ = ["Job", "start"]

METHOD = "PHYSICSNEMO_DISTRIBUTED_INITIALIZATION_METHOD"
_ADDRESS, _PORT = "localhost", "12355"


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others, and where these meet."""

    rank: int
    world_size: int
    local_rank: int
    address: str = _ADDRESS
    port: str = _PORT


class Job:
    """The processes that train together, seen from one of them.

    As a context manager it leaves the process group at the end of the block.

    Attributes
    ----------
    rank
        Number of this process among all.
    local_rank
        Its number among those of this machine.
    world_size
        How many processes there are.
    device
        What this process computes on.

    Examples
    --------
    >>> with start(device="cpu") as job:
    ...     mesh = job.mesh(data=-1)
    >>> job.rank, job.world_size, mesh.mesh_dim_names
    (0, 1, ('data',))
    """

    def __init__(self, place: Place, device: torch.device, owns_group: bool) -> None:
        self.rank, self.world_size = place.rank, place.world_size
        self.local_rank, self.device = place.local_rank, device
        self._owns_group = owns_group

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.world_size > 1

    def mesh(self, **sizes: int) -> DeviceMesh:
        """Arrange all processes in a mesh, by default in one row called ``data``.

        Parameters
        ----------
        **sizes
            Number of processes along each axis, by the axis's name; neighbors on the last axis
            have consecutive ranks, so it belongs within a machine. One size may be -1: whatever
            is left.

        Returns
        -------
        The mesh; index it by a name or several for a part, as in ``mesh["data"]``.

        Raises
        ------
        ValueError
            If the sizes do not multiply to the number of processes.
        """
        shape = _shape(sizes or {"data": -1}, self.world_size)
        if not dist.is_initialized():  # one process
            backend, device = _backend(self.device), _device_id(self.device)
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=device)
            self._owns_group = True
        return init_device_mesh(
            self.device.type, tuple(shape.values()), mesh_dim_names=tuple(shape)
        )

    def close(self) -> None:
        """Leave the process group, unless something else made it.

        Captured steps give back their CUDA graphs, for which NCCL would wait; see
        :func:`physicsnemo.utils.release_graphs`.
        """
        if self._owns_group and dist.is_initialized():
            from physicsnemo.utils import release_graphs  # which loads what captures steps

            release_graphs()
            dist.destroy_process_group()
        self._owns_group = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def start(
    device: torch.device | str | None = None,
    *,
    method: str | None = None,
    timeout: timedelta | None = None,
) -> Job:
    """Join the processes of a job, and set this one's device.

    The launcher is found by the environment variables that it sets: ``torchrun``, ``srun`` of
    SLURM or ``mpirun`` of OpenMPI. Without one this process is the only one. A process group that
    exists already is used, and left alone in the end. GPUs talk by NCCL; tensors on the CPU by
    Gloo, which is always there.

    Parameters
    ----------
    device
        What to compute on: by default the GPU of this process's local rank, or the CPU where there
        are none.
    method
        ``"ENV"``, ``"SLURM"`` or ``"OPENMPI"``; by default what the environment variable
        ``PHYSICSNEMO_DISTRIBUTED_INITIALIZATION_METHOD`` says, else whatever is found.
    timeout
        How long a process waits for another one before it gives up; by default as PyTorch has it.

    Raises
    ------
    RuntimeError
        If the method is unknown, its environment variables are missing, or this machine has fewer
        GPUs than processes.
    """
    place = find_place(os.environ, method)
    return join(place or Place(0, 1, 0), device, timeout)


def join(
    place: Place,
    device: torch.device | str | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
) -> Job:
    """Join the processes of a job, given where this one stands."""
    chosen = _device(device, place)
    if chosen.type != "cpu":
        torch.accelerator.set_device_index(chosen.index)
    owns_group = place.world_size > 1 and not dist.is_initialized()
    if owns_group:
        dist.init_process_group(
            backend or _backend(chosen),
            **_meeting(place, timeout),
            rank=place.rank,
            world_size=place.world_size,
            timeout=timeout,
            device_id=_device_id(chosen),
        )
    elif dist.is_initialized():
        place = Place(dist.get_rank(), dist.get_world_size(), place.local_rank)
    job = Job(place, chosen, owns_group)
    atexit.register(job.close)
    return job


def _meeting(place: Place, timeout: timedelta | None) -> dict[str, Any]:
    """Return where the processes meet, as ``init_process_group`` takes it."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        patience = timeout or dist.default_pg_timeout
        address, port = place.address, int(place.port)
        return {"store": meet(address, port, place.rank, place.world_size, patience)}
    return {"init_method": f"tcp://{_bracketed(place.address)}:{place.port}"}


def find_place(environment: Mapping[str, str], method: str | None = None) -> Place | None:
    """Return where this process stands by what its launcher has set, None without a launcher.

    Raises
    ------
    RuntimeError
        If a method is asked for that is unknown, or whose variables are missing.
    """
    method = method or environment.get(METHOD)
    if method is None:
        found = (read(environment) for read in _METHODS.values())
        return next((place for place in found if place is not None), None)
    if method.upper() not in _METHODS:
        raise RuntimeError(f"expected {METHOD} to be {', '.join(_METHODS)}, got {method!r}")
    place = _METHODS[method.upper()](environment)
    if place is None:
        raise RuntimeError(
            f"{METHOD} is {method!r}, but its launcher has not set its variables: start the "
            f"processes with it, or leave the method out"
        )
    return place


def _torchrun(environment: Mapping[str, str]) -> Place | None:
    return _read(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK")


def _slurm(environment: Mapping[str, str]) -> Place | None:
    address = environment.get("SLURM_LAUNCH_NODE_IPADDR")  # srun sets it, a batch script lacks it
    if address is None:
        return None
    met = {"MASTER_ADDR": address, **environment}
    return _read(met, "SLURM_PROCID", "SLURM_NPROCS", "SLURM_LOCALID")


def _open_mpi(environment: Mapping[str, str]) -> Place | None:
    names = (f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK"))
    return _read(environment, *names)


_METHODS: dict[str, Callable[[Mapping[str, str]], Place | None]] = {
    "ENV": _torchrun,
    "SLURM": _slurm,
    "OPENMPI": _open_mpi,
}


def _read(environment: Mapping[str, str], rank: str, size: str, local_rank: str) -> Place | None:
    if rank not in environment or size not in environment:
        return None
    return Place(
        int(environment[rank]),
        int(environment[size]),
        int(environment.get(local_rank, environment[rank])),
        environment.get("MASTER_ADDR", _ADDRESS),
        environment.get("MASTER_PORT", _PORT),
    )


def _device(device: torch.device | str | None, place: Place) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cpu" or chosen.index is not None:
        return chosen
    count = torch.get_device_module(chosen.type).device_count()
    if count > 1 and place.local_rank >= count:
        raise RuntimeError(
            f"process {place.rank} is number {place.local_rank} of its machine, which has {count} "
            f"devices of type {chosen.type}: start one process for each device"
        )
    # A launcher may show each process a single device, its own.
    return torch.device(chosen.type, place.local_rank if count > 1 else 0)


def _backend(device: torch.device) -> str:
    if device.type == "cpu":
        return "gloo"
    own = dist.get_default_backend_for_device(device)
    return f"cpu:gloo,{device.type}:{own}"


def _device_id(device: torch.device) -> torch.device | None:
    return None if device.type == "cpu" else device


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _shape(sizes: Mapping[str, int], world_size: int) -> dict[str, int]:
    known = 1
    for size in sizes.values():
        known *= size if size > 0 else 1
    rest = [name for name, size in sizes.items() if size == -1]
    shape = dict(sizes)
    if len(rest) == 1 and world_size % known == 0:
        shape[rest[0]], known = world_size // known, world_size
    if known != world_size or any(size < 1 for size in shape.values()):
        said = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(
            f"expected sizes whose product is the number of processes, {world_size}, at most one "
            f"of them -1; got {said}"
        )
    return shape
