# SPDX-License-Identifier: Apache-2.0
"""A job under the names that existing scripts use."""

import os
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from physicsnemo.distributed.job import METHOD, Job, Place, find_place, join

__all__ = ["DistributedManager", "UninitializedError"]


class UninitializedError(RuntimeError):
    """Raised when a manager is made before :meth:`DistributedManager.initialize` is called."""


class DistributedManager:
    """The processes of a job; every instance is the same one.

    A facade of :func:`physicsnemo.distributed.start` for scripts that exist: call
    :meth:`initialize` once, then make instances anywhere. It sets no environment variables and
    seeds no random numbers.

    Raises
    ------
    UninitializedError
        If :meth:`initialize` has not been called.

    Examples
    --------
    >>> DistributedManager.initialize()
    >>> manager = DistributedManager()
    >>> manager.rank, manager.world_size, manager.distributed
    (0, 1, False)
    >>> DistributedManager.cleanup()
    """

    _job: ClassVar[Job | None] = None
    _groups: ClassVar[dict[str, dist.ProcessGroup]] = {}
    _meshes: ClassVar[dict[str, DeviceMesh]] = {}
    _flags: ClassVar[dict[str, bool]] = {}

    def __init__(self) -> None:
        if self._job is None:
            raise UninitializedError(
                "DistributedManager is not initialized: call DistributedManager.initialize() first"
            )

    @classmethod
    def is_initialized(cls) -> bool:
        """Tell whether there is a job."""
        return cls._job is not None

    @classmethod
    def initialize(cls) -> None:
        """Join the job of the launcher that is found; alone, with a warning, where there is none.

        Raises
        ------
        RuntimeError
            If the environment variable ``PHYSICSNEMO_DISTRIBUTED_INITIALIZATION_METHOD`` names an
            unknown method, or one whose variables are missing.
        """
        if cls._job is not None:
            warnings.warn("DistributedManager is initialized already", stacklevel=2)
            return
        place = find_place(os.environ)
        cls._job = join(place or Place(0, 1, 0))

    @classmethod
    def initialize_env(cls) -> None:
        """Join the job of ``torchrun``."""
        cls._join("ENV")

    @classmethod
    def initialize_slurm(cls, port: int | str) -> None:
        """Join the job of ``srun``."""
        cls._join("SLURM", port=str(port))

    @classmethod
    def initialize_open_mpi(cls, addr: str, port: int | str) -> None:
        """Join the job of ``mpirun``."""
        cls._join("OPENMPI", address=addr, port=str(port))

    @classmethod
    def setup(
        cls,
        rank: int = 0,
        world_size: int = 1,
        local_rank: int | None = None,
        addr: str = "localhost",
        port: str = "12355",
        backend: str | None = None,
        method: str = "env",
    ) -> None:
        """Join a job whose processes know their places.

        Parameters
        ----------
        rank, world_size, local_rank
            Number of this process, of all processes, and of this one on its machine; the last by
            default from the rank and the number of devices.
        addr, port
            Where the processes meet.
        backend
            As for :func:`torch.distributed.init_process_group`; by default that of the device.
        method
            What the place comes from, for the record.
        """
        count = max(1, torch.cuda.device_count())
        local = rank % count if local_rank is None else local_rank
        place = Place(rank, world_size, local, addr, str(port))
        cls._job = join(place, backend=backend)

    @classmethod
    def _join(cls, method: str, **changes: str) -> None:
        place = find_place(os.environ, method)
        if place is None:  # never, as a method that is given must be found
            raise RuntimeError(f"{METHOD} {method} is not available")
        cls._job = join(Place(**{**vars(place), **changes}))

    @staticmethod
    def get_available_backend() -> str:
        """Return the backend for this machine: NCCL with GPUs, else Gloo."""
        return "nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"

    @classmethod
    def cleanup(cls, barrier: bool = False) -> None:
        """Leave the job; wait for the others before if asked to."""
        if barrier and dist.is_initialized():
            dist.barrier()
        if cls._job is not None:
            cls._job.close()
        cls._job = None
        for kept in (cls._groups, cls._meshes, cls._flags):
            kept.clear()

    @property
    def rank(self) -> int:
        """Number of this process among all."""
        return self._own.rank

    @property
    def local_rank(self) -> int:
        """Number of this process among those of this machine."""
        return self._own.local_rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self._own.world_size

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        return self._own.device

    @property
    def cuda(self) -> bool:
        """Whether that is a GPU."""
        return self.device.type == "cuda"

    @property
    def distributed(self) -> bool:
        """Whether there is a process group."""
        return dist.is_initialized()

    @property
    def broadcast_buffers(self) -> bool:
        """What to give to ``DistributedDataParallel`` by this name; False unless set."""
        return self._flags.get("broadcast_buffers", False)

    @broadcast_buffers.setter
    def broadcast_buffers(self, value: bool) -> None:
        self._flags["broadcast_buffers"] = value

    @property
    def find_unused_parameters(self) -> bool:
        """What to give to ``DistributedDataParallel`` by this name; False unless set."""
        return self._flags.get("find_unused_parameters", False)

    @find_unused_parameters.setter
    def find_unused_parameters(self, value: bool) -> None:
        if value:
            warnings.warn(
                "find_unused_parameters costs a pass over the graph at every step: set it only "
                "for models with parameters that some steps do not use",
                stacklevel=2,
            )
        self._flags["find_unused_parameters"] = value

    @property
    def group_names(self) -> set[str]:
        """Names of the process groups that were made."""
        return set(self._groups)

    @property
    def mesh_dims(self) -> dict[str, int]:
        """Size of each axis of the mesh that was initialized."""
        return dict(zip(self.mesh_names(), self.mesh_sizes(), strict=True))

    @property
    def global_mesh(self) -> DeviceMesh:
        """The mesh that was initialized, else one of a single axis ``world``."""
        if "" not in self._meshes:
            self._meshes[""] = self._own.mesh(world=-1)
        return self._meshes[""]

    def initialize_mesh(
        self, mesh_shape: Sequence[int], mesh_dim_names: Sequence[str]
    ) -> DeviceMesh:
        """Arrange all processes in a mesh.

        Parameters
        ----------
        mesh_shape
            Size of each axis; one may be -1.
        mesh_dim_names
            Their names.

        Raises
        ------
        RuntimeError
            If the sizes do not multiply to the number of processes.
        """
        try:
            sizes = dict(zip(mesh_dim_names, mesh_shape, strict=True))
            self._meshes[""] = self._own.mesh(**sizes)
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        return self._meshes[""]

    def mesh(self, name: str | None = None) -> DeviceMesh:
        """Return the mesh, or one of its axes."""
        return self.global_mesh if name is None else self.global_mesh[name]

    def mesh_names(self) -> tuple[str, ...]:
        """Return the names of the mesh's axes."""
        return tuple(self.global_mesh.mesh_dim_names or ())

    def mesh_sizes(self) -> tuple[int, ...]:
        """Return the sizes of the mesh's axes."""
        return tuple(self.global_mesh.shape)

    def get_mesh_group(self, mesh: DeviceMesh) -> dist.ProcessGroup:
        """Return the process group of a mesh, of one axis or of several."""
        flat = mesh if mesh.ndim == 1 else mesh._flatten()
        return flat.get_group()

    def group(self, name: str | None = None) -> dist.ProcessGroup | None:
        """Return a process group by its name; None for that of all processes.

        Raises
        ------
        RuntimeError
            If there is no group of that name.
        """
        if name is None:
            return None
        if name not in self._groups:
            made = ", ".join(sorted(self._groups)) or "none"
            raise RuntimeError(f"there is no process group {name!r}; those made are: {made}")
        return self._groups[name]

    def group_size(self, name: str | None = None) -> int:
        """Return how many processes a group has."""
        return dist.get_world_size(self.group(name)) if self.distributed else 1

    def group_rank(self, name: str | None = None) -> int:
        """Return the number of this process in a group."""
        return dist.get_rank(self.group(name)) if self.distributed else 0

    def group_name(self, group: dist.ProcessGroup | None = None) -> str | None:
        """Return the name of a group, None for one that was not made here."""
        return next((name for name, own in self._groups.items() if own is group), None)

    @classmethod
    def create_process_subgroup(
        cls, name: str, size: int, group_name: str | None = None, verbose: bool = False
    ) -> None:
        """Divide a group, by default all processes, into groups of consecutive ranks.

        Parameters
        ----------
        name
            What the group of this process is called.
        size
            Number of processes in each; must divide that of the whole.
        group_name
            The group to divide.
        verbose
            Whether to print the groups.

        Raises
        ------
        RuntimeError
            If the name is taken or the size does not divide.
        """
        rows = cls._rows(group_name)
        if any(len(row) % size for row in rows):
            raise RuntimeError(f"groups of {size} do not divide one of {len(rows[0])} processes")
        cls._make(
            name,
            [row[at : at + size] for row in rows for at in range(0, len(row), size)],
            verbose,
        )

    @classmethod
    def create_orthogonal_process_group(
        cls, orthogonal_group_name: str, group_name: str, verbose: bool = False
    ) -> None:
        """Join the processes that have the same place in their groups.

        Parameters
        ----------
        orthogonal_group_name
            What the group of this process is called.
        group_name
            A group that was made by :meth:`create_process_subgroup`.
        verbose
            Whether to print the groups.
        """
        rows = cls._rows(group_name)
        cls._make(orthogonal_group_name, [list(it) for it in zip(*rows, strict=True)], verbose)

    @classmethod
    def _rows(cls, name: str | None) -> list[list[int]]:
        """Return the ranks of all groups of a name, one row for each."""
        if name is None:
            return [list(range(dist.get_world_size()))]
        group: Any = cls().group(name)
        rows: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(rows, dist.get_process_group_ranks(group))
        return [list(row) for row in dict.fromkeys(map(tuple, rows))]

    @classmethod
    def _make(cls, name: str, rows: list[list[int]], verbose: bool) -> None:
        if name in cls._groups:
            raise RuntimeError(f"there is a process group {name!r} already")
        for row in rows:  # every process takes part in making each group
            group = dist.new_group(row)
            if dist.get_rank() in row:
                cls._groups[name] = group
        if verbose and dist.get_rank() == 0:
            print(f"process groups {name!r}: {rows}")

    @property
    def _own(self) -> Job:
        if self._job is None:
            raise UninitializedError("DistributedManager has been cleaned up: initialize it again")
        return self._job

    def __repr__(self) -> str:
        job = self._own
        return f"DistributedManager(rank={job.rank} of {job.world_size}, device={job.device})"
