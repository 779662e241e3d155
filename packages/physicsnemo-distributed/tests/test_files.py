# SPDX-License-Identifier: Apache-2.0
"""Files of sharded models: ordinary ones, whoever reads them, and whole ones or none."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import physicsnemo
from physicsnemo.distributed import shard
from physicsnemo.utils import load_checkpoint, save_checkpoint

Processes = runpy.run_path(str(Path(__file__).with_name("processes.py")))["Processes"]


class Scaled(physicsnemo.Module):
    """Has a constant that no file holds, and a model among its arguments that has one too."""

    def __init__(self, sizes, inner=None):
        super().__init__()
        self.linear, self.inner = torch.nn.Linear(5, 5), inner
        self.register_buffer("scale", torch.tensor(sizes), persistent=False)

    def forward(self, x):
        x = self.linear(x) * self.scale
        return x if self.inner is None else self.inner(x)


class Net(physicsnemo.Module):
    """Odd sizes, a shared module, a buffer that changes."""

    def __init__(self, width=5):
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(3))
        self.act = torch.nn.PReLU()
        self.norm = torch.nn.BatchNorm1d(width)
        self.last = torch.nn.Linear(width, 3)
        self.tied = self.last

    def forward(self, x):
        for block in self.blocks:
            x = self.act(block(x))
        return self.last(self.norm(x))


def made(seed=0):
    torch.manual_seed(seed)
    return Net()


def mesh():
    return init_device_mesh("cpu", (dist.get_world_size(),))


def trained(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        torch.manual_seed(step)
        model(torch.randn(8, 5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def whole(model):
    return {
        key: it.full_tensor() if hasattr(it, "full_tensor") else it
        for key, it in model.state_dict().items()
    }


def error_of(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def save(folder, for_release):
    model = shard(made(), mesh())
    model(torch.ones(4, 5)) if for_release is None else None
    model.save(f"{folder}/sharded.mdlus", for_release=for_release)


@pytest.mark.parametrize("release", [None, "1.2", "2.2"])
def test_a_sharded_model_is_saved_byte_for_byte_as_one_that_is_not(processes, tmp_path, release):
    processes.run(save, str(tmp_path), release)
    model = made()
    model(torch.ones(4, 5)) if release is None else None
    model.save(tmp_path / "alone.mdlus", for_release=release)
    assert sorted(os.listdir(tmp_path)) == ["alone.mdlus", "sharded.mdlus"]
    got, expected = ((tmp_path / f"{it}.mdlus").read_bytes() for it in ("sharded", "alone"))
    if release != "2.2":  # whose container has the time in it
        assert got == expected
    restored = physicsnemo.Module.from_checkpoint(tmp_path / "sharded.mdlus", trusted=[Net])
    for key, value in model.state_dict().items():
        torch.testing.assert_close(restored.state_dict()[key], value, rtol=0, atol=0)


PLACED = {  # shape, dtype, shape of the mesh, placements
    "uneven": ((5, 3), torch.float32, (4,), [Shard(0)]),
    "fewer rows than processes": ((2, 3), torch.float64, (4,), [Shard(0)]),
    "empty": ((0, 3), torch.float32, (4,), [Shard(0)]),
    "other axis": ((2, 8, 3), torch.complex64, (4,), [Shard(1)]),
    "replicas": ((6, 3), torch.bfloat16, (2, 2), [Replicate(), Shard(0)]),
    "replicas within": ((6, 3), torch.int64, (2, 2), [Shard(0), Replicate()]),
    "whole": ((3,), torch.float32, (2, 2), [Replicate(), Replicate()]),
    "two axes": ((4, 6), torch.float32, (2, 2), [Shard(0), Shard(1)]),
    "one axis twice": ((8, 3), torch.float32, (2, 2), [Shard(0), Shard(0)]),
}


class Placed(physicsnemo.Module):
    """Tensors to place."""

    def __init__(self):
        super().__init__()
        for name, (shape, dtype, _, _) in PLACED.items():
            tensor = torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape).to(dtype)
            self.register_buffer(name, tensor)


def save_placed(path):
    model = Placed()
    for name, (_, _, sizes, placements) in PLACED.items():
        placed = distribute_tensor(getattr(model, name), init_device_mesh("cpu", sizes), placements)
        setattr(model, name, placed)
    model.save(path)


def test_every_placement_is_gathered(tmp_path):
    four = Processes(4)
    try:
        four.run(save_placed, str(tmp_path / "placed.mdlus"))
    finally:
        four.stop()
    loaded = physicsnemo.Module.from_checkpoint(tmp_path / "placed.mdlus", trusted=[Placed])
    expected = Placed().state_dict()
    torch.testing.assert_close(loaded.state_dict(), expected, rtol=0, atol=0)


class Large(physicsnemo.Module):
    """Tensors of 16 MiB at full width."""

    def __init__(self, width=2048):
        super().__init__()
        layers = (torch.nn.Linear(width, width, bias=False) for _ in range(16))
        self.layers = torch.nn.ModuleList(layers)


def sharded(width):
    with torch.device("meta"):
        model = Large(width)
    shard(model, mesh()).to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.to_local().detach().fill_(1.0)
    return model


def save_large(path):
    sharded(8).save(path)  # what PyTorch loads for its first file is no tensor
    model = sharded(2048)
    dist.barrier()
    before = peak()
    model.save(path)
    return peak() - before


def peak():
    """Return the most bytes that this process has held; getrusage counts its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak on Linux")
def test_saving_needs_memory_for_one_tensor(tmp_path):
    path, tensor = tmp_path / "large.mdlus", 4 * 2048**2
    pair = Processes(2)  # whose peak is not that of a former test
    try:
        first, second = pair.run(save_large, str(path))
    finally:
        pair.stop()
    assert path.stat().st_size > 16 * tensor
    assert first < 1.5 * tensor
    assert second < 0.5 * tensor


def save_flat(path, original):
    model = made()
    wrapper = FullyShardedDataParallel(
        model, use_orig_params=original, device_id=torch.device("cpu")
    )
    return error_of(lambda: model.save(path)), wrapper.state_dict()


@pytest.mark.parametrize("original", [True, False])
def test_slices_of_flat_parameters_are_not_taken_for_the_model(processes, tmp_path, original):
    path = tmp_path / "flat.mdlus"
    for error, state in processes.run(save_flat, str(path), original):
        assert error.startswith("CheckpointError: this process has but slices of Net's parameters")
        again = made(seed=1)
        again.load_state_dict(state)  # as the error says
        torch.testing.assert_close(again.state_dict(), made().state_dict(), rtol=0, atol=0)
    assert not path.exists()


def load(path):
    model = shard(made(seed=1), mesh())
    model(torch.ones(4, 5))  # so that the root's parameters are gathered when it loads
    model.load(path)
    return whole(model)


def test_a_sharded_model_reads_an_ordinary_file(processes, tmp_path):
    model, _ = trained(made(), torch.optim.AdamW(made().parameters()), 1)
    model.save(tmp_path / "alone.mdlus")
    for state in processes.run(load, str(tmp_path / "alone.mdlus")):
        assert state.keys() == model.state_dict().keys()
        for key, value in model.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=0)


def load_another(path):
    return error_of(lambda: shard(torch_linear(), mesh()).load(path))


def torch_linear():
    return physicsnemo.Module.from_torch(torch.nn.Linear)(5, 4)


def test_weights_of_another_model_are_refused(processes, tmp_path):
    made().save(tmp_path / "alone.mdlus")
    for error in processes.run(load_another, str(tmp_path / "alone.mdlus")):
        assert error.startswith("CheckpointError")
        assert "not those of LinearPhysicsNeMoModel" in error


def prepared(sharded):
    model = made()
    if sharded:
        shard(model, mesh())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    return model, optimizer, scheduler


def train_and_save(folder, sharded):
    model, optimizer, scheduler = prepared(sharded)
    trained(model, optimizer, 3)
    scheduler.step()
    torch.manual_seed(100 + (dist.get_rank() if dist.is_initialized() else 0))
    save_checkpoint(folder, model, optimizer, scheduler, epoch=3, metadata={"loss": 0.5})
    draw = torch.rand(2)
    trained(model, optimizer, 3, start=3)
    return whole(model), draw


def load_and_train(folder, sharded):
    model, optimizer, scheduler = prepared(sharded)
    found = {}
    assert load_checkpoint(folder, model, optimizer, scheduler, metadata_dict=found) == 3
    assert found == {"loss": 0.5}
    assert scheduler.last_epoch == 1
    draw = torch.rand(2)
    trained(model, optimizer, 3, start=3)
    return whole(model), draw


def check_equal(states, exact=True):
    first, *others = states
    tolerance = {"rtol": 0, "atol": 0} if exact else {}
    for state in others:
        assert state.keys() == first.keys()
        for key, value in first.items():
            torch.testing.assert_close(state[key], value, **tolerance)


@pytest.mark.parametrize("saver", ["one", "two"])
@pytest.mark.parametrize("loader", ["one", "two"])
def test_a_training_goes_on_with_another_number_of_processes(processes, tmp_path, saver, loader):
    folder = str(tmp_path / "run")

    def done(who, function):
        if who == "one":
            return [function(folder, False)]
        return processes.run(function, folder, True)

    saved, loaded = done(saver, train_and_save), done(loader, load_and_train)
    states = [state for state, _ in (*saved, *loaded)]
    # The processes train on the same batch, so what they reduce is rounded alike.
    check_equal(states, exact=saver == loader)
    assert torch.equal(saved[0][1], loaded[0][1])
    if saver == loader == "two":
        assert torch.equal(saved[1][1], loaded[1][1])
    assert sorted(os.listdir(folder)) == ["Net.0.3.mdlus", "checkpoint.0.3.pt", "manifest.0.3.json"]


def misuse(folder, which):
    model, rank = shard(made(), mesh()), dist.get_rank()
    other = f"{folder}/{rank}.mdlus"
    if which == "names":
        return error_of(lambda: model.save(other))
    if which == "extension":
        return error_of(lambda: model.save(f"{folder}/model.{'pt' if rank else 'mdlus'}"))
    if which == "folder":
        return error_of(lambda: model.save(f"{folder}/none/model.mdlus"))
    if which == "rank":
        return error_of(lambda: save_checkpoint(folder, model, epoch=0, rank=rank))
    if which == "epoch":
        return error_of(lambda: save_checkpoint(folder, model, epoch=rank))
    return error_of(lambda: save_checkpoint(folder, model, epoch=-1 if rank else 1))


@pytest.mark.parametrize(
    ("which", "first", "second"),
    [
        (
            "names",
            "CheckpointError.*which all processes must do together: process 0 has .*0.mdlus",
            "process 1 has .*1.mdlus",
        ),
        (
            "extension",
            "CheckpointError.*process 1 failed: ValueError: File name must end",
            "ValueError",
        ),
        (
            "folder",
            "FileNotFoundError: .*there is no folder",
            "CheckpointError.*process 0 failed: FileNotFoundError",
        ),
        (
            "rank",
            "CheckpointError: a sharded model is saved by all processes together.*leave rank=0 out",
            "CheckpointError.*leave rank=1 out",
        ),
        (
            "epoch",
            "CheckpointError.*process 0 has step 0 of Net, process 1 has step 1 of Net",
            "CheckpointError",
        ),
        (
            "negative",
            "CheckpointError.*process 1 failed: ValueError: epoch must be 0 or larger",
            "ValueError",
        ),
    ],
)
def test_what_fails_in_one_process_fails_in_all(processes, tmp_path, which, first, second):
    errors = processes.run(misuse, str(tmp_path), which)
    assert re.search(first, errors[0])
    assert re.search(second, errors[1])
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == []
    # The processes are still in step with each other.
    processes.run(save, str(tmp_path), None)


class FullDisk:
    """Raises when the first file has so many bytes."""

    def __init__(self, size):
        self.size, self.write = size, physicsnemo.core.format.tensors._Target.write

    def __enter__(self):
        def write(target, data):
            self.size -= len(data)
            if self.size < 0:
                target.error = OSError(28, "No space left on device")
                raise target.error
            return self.write(target, data)

        physicsnemo.core.format.tensors._Target.write = write

    def __exit__(self, *error):
        physicsnemo.core.format.tensors._Target.write = self.write


def save_to_a_full_disk(folder, size, step):
    model = shard(made(), mesh())
    with FullDisk(size):
        if step:
            return error_of(lambda: save_checkpoint(folder, model, epoch=0))
        return error_of(lambda: model.save(f"{folder}/model.mdlus"))


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("size", [0, 1000, 3000])
def test_a_full_disk_ends_in_an_error_everywhere_and_no_file(processes, tmp_path, size, step):
    errors = processes.run(save_to_a_full_disk, str(tmp_path), size, step)
    assert errors[0].startswith("OSError: [Errno 28]")
    assert "process 0 failed: OSError: [Errno 28]" in errors[1]
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == []
    processes.run(save, str(tmp_path), None)


def save_alone(folder):
    model = shard(made(), mesh())
    if dist.get_rank():
        os._exit(0)
    error = error_of(lambda: model.save(f"{folder}/model.mdlus"))
    Path(folder, "error").write_text(error)


def test_a_process_that_ends_instead_of_saving_is_noticed(processes, tmp_path):
    with pytest.raises(AssertionError, match="rank 1: the process has ended"):
        processes.run(save_alone, str(tmp_path))
    error = (tmp_path / "error").read_text()
    assert error.startswith("CheckpointError: cannot save")
    assert "another process has ended, or does something else; all must call this" in error
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["error"]


@pytest.mark.parametrize("layout", ["whole", "shards", "later"])
def test_a_process_that_is_killed_while_it_saves(tmp_path, layout):
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(script), "2", layout, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 kills, layout {layout}" in done.stdout


def build_without_memory(path, sharded):
    with torch.device("meta"):
        model = Scaled([1.0, 2.0, 3.0, 4.0, 5.0], Scaled([6.0] * 5))
    if sharded:
        shard(model, mesh())
    torch.manual_seed(7)
    assert model.to_empty(device="cpu") is model
    draw = torch.rand(3)
    model.load(path)
    return model(torch.ones(2, 5)).detach(), draw


@pytest.mark.parametrize("sharded", [False, True])
def test_constants_are_made_again_after_a_model_was_built_without_memory(
    processes, tmp_path, sharded
):
    model = Scaled([1.0, 2.0, 3.0, 4.0, 5.0], Scaled([6.0] * 5))
    model.save(tmp_path / "model.mdlus")
    arguments = build_without_memory, str(tmp_path / "model.mdlus"), sharded
    answers = processes.run(*arguments) if sharded else [arguments[0](*arguments[1:])]
    torch.manual_seed(7)
    draw = torch.rand(3)
    for output, drawn in answers:
        torch.testing.assert_close(output, model(torch.ones(2, 5)))
        assert torch.equal(drawn, draw)
