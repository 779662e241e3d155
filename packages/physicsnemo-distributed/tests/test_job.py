# SPDX-License-Identifier: Apache-2.0
"""Launchers are found, meshes made, and scripts of the reference implementation served."""

import os
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
import torch.distributed as dist

from physicsnemo import utils
from physicsnemo.distributed import DistributedManager, start
from physicsnemo.distributed.job import Place, find_place
from physicsnemo.distributed.manager import UninitializedError

METHOD = "PHYSICSNEMO_DISTRIBUTED_INITIALIZATION_METHOD"
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
MEETING = {"MASTER_ADDR": "head", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NPROCS": "16",
    "SLURM_LOCALID": "2",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        (TORCHRUN | MEETING, Place(3, 8, 1, "head", "29500")),
        (SLURM, Place(5, 16, 2, "10.0.0.1", "12355")),
        (SLURM | MEETING, Place(5, 16, 2, "head", "29500")),
        (OPEN_MPI, Place(1, 2, 0, "localhost", "12355")),
        (SLURM | OPEN_MPI | TORCHRUN, Place(3, 8, 1)),
        (SLURM | TORCHRUN | {METHOD: "SLURM"}, Place(5, 16, 2, "10.0.0.1")),
        (SLURM | OPEN_MPI | {METHOD: "OPENMPI"}, Place(1, 2, 0)),
        # A script that sbatch runs, without srun: it is alone.
        ({key: value for key, value in SLURM.items() if "IPADDR" not in key}, None),
    ],
)
def test_the_launcher_is_found(environment, place):
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("method", "text"),
    [("MPI", "to be ENV, SLURM, OPENMPI, got 'MPI'"), ("SLURM", "has not set its variables")],
)
def test_a_method_that_does_not_work_is_named(method, text):
    with pytest.raises(RuntimeError, match=text):
        find_place(TORCHRUN | {METHOD: method})


def test_one_process():
    with start(device="cpu") as job:
        assert (job.rank, job.local_rank, job.world_size) == (0, 0, 1)
        assert not job.is_distributed
        assert not dist.is_initialized()
        assert job.mesh(data=-1, domain=1).shape == (1, 1)
        assert dist.is_initialized()
    assert not dist.is_initialized()


@pytest.mark.parametrize("fails", [False, True])
def test_graphs_go_before_the_group(monkeypatch, fails):
    """NCCL waits for them: its communication ends after that of the last graph."""
    order = []
    destroy = dist.destroy_process_group
    monkeypatch.setattr(utils, "release_graphs", lambda: order.append("graphs"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: (order.append("group"), destroy()))
    with suppress(KeyError), start(device="cpu") as job:
        job.mesh()
        if fails:
            raise KeyError
    assert order == ["graphs", "group"]


def meshes():
    job = start(device="cpu")  # the group of the test's processes exists, and is left alone
    errors = []
    for sizes in ({"data": 3}, {"data": -1, "domain": -1}, {"data": 0}, {"a": 2, "b": 2}):
        with pytest.raises(ValueError, match="is the number of processes, 2") as raised:
            job.mesh(**sizes)
        errors.append(str(raised.value))
    shapes = [job.mesh(**sizes).shape for sizes in ({}, {"data": -1, "domain": 2}, {"a": 2})]
    job.close()
    return job.rank, shapes, dist.is_initialized()


def test_meshes(processes):
    for rank, answer in enumerate(processes.run(meshes)):
        assert answer == (rank, [(2,), (1, 2), (2,)], True)


SCRIPT = """
import torch, torch.distributed as dist
from physicsnemo.distributed import start
with start(device="cpu") as job:
    total = torch.tensor(float(job.rank + 1))
    dist.all_reduce(total)
    mesh = job.mesh(data=-1)
    print(f"{job.rank} {job.world_size} {total.item()} {tuple(mesh.shape)}")
print(dist.is_initialized())
"""


def launched(environment):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    clean = {key: value for key, value in os.environ.items() if key not in (*TORCHRUN, METHOD)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=clean | meeting | environment(rank),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [run.communicate(timeout=120)[0].splitlines() for run in runs]


@pytest.mark.parametrize(
    "environment",
    [
        lambda rank: {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
        lambda rank: SLURM | {"SLURM_PROCID": str(rank), "SLURM_NPROCS": "2"},
    ],
    ids=["torchrun", "slurm"],
)
def test_processes_meet_and_part(environment):
    assert launched(environment) == [[f"{rank} 2 3.0 (2,)", "False"] for rank in range(2)]


def test_manager_alone():
    with pytest.raises(UninitializedError, match="call DistributedManager.initialize"):
        DistributedManager()
    DistributedManager.initialize()
    try:
        manager = DistributedManager()
        assert (manager.rank, manager.local_rank, manager.world_size) == (0, 0, 1)
        assert manager.device == torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        assert manager.cuda == torch.cuda.is_available()
        assert not manager.distributed
        assert (manager.group(), manager.group_size(), manager.group_rank()) == (None, 1, 0)
        assert not manager.broadcast_buffers
        manager.broadcast_buffers = True
        assert DistributedManager().broadcast_buffers
        with pytest.warns(UserWarning, match="initialized already"):
            DistributedManager.initialize()
    finally:
        DistributedManager.cleanup()
    assert not DistributedManager.is_initialized()


def manage():
    DistributedManager.setup(rank=dist.get_rank(), world_size=2)
    manager = DistributedManager()
    before = manager.mesh_names(), manager.mesh_sizes()
    mesh = manager.initialize_mesh([-1, 2], ["ddp", "domain"])
    with pytest.raises(RuntimeError, match="product is the number of processes"):
        manager.initialize_mesh([3], ["ddp"])
    DistributedManager.create_process_subgroup("row", 1)
    DistributedManager.create_orthogonal_process_group("column", "row")
    with pytest.raises(RuntimeError, match="no process group 'none'; those made are: column, row"):
        manager.group("none")
    sizes = [manager.group_size(name) for name in ("row", "column")]
    ranks = [manager.group_rank(name) for name in ("row", "column")]
    assert manager.group_name(manager.group("row")) == "row"
    assert dist.get_world_size(manager.get_mesh_group(mesh)) == 2
    found = before, manager.mesh_dims, manager.mesh("domain").size(), manager.group_names
    DistributedManager.cleanup(barrier=True)
    return (*found, sizes, ranks, manager.distributed)


def test_manager_of_two(processes):
    for rank, answer in enumerate(processes.run(manage)):
        assert answer == (
            (("world",), (2,)),
            {"ddp": 1, "domain": 2},
            2,
            {"row", "column"},
            [1, 2],
            [0, rank],
            True,
        )
