# SPDX-License-Identifier: Apache-2.0
"""Steps whose tensors each process writes for itself, and files that are merged from them."""

import os
import re
import runpy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner

import physicsnemo
from physicsnemo.cli import main
from physicsnemo.distributed import shard
from physicsnemo.utils import load_checkpoint, save_checkpoint

shared = runpy.run_path(str(Path(__file__).with_name("test_files.py")), run_name=__name__)
Net, check_equal, error_of = (shared[name] for name in ("Net", "check_equal", "error_of"))
load_and_train, prepared, trained, whole, made, mesh = (
    shared[name] for name in ("load_and_train", "prepared", "trained", "whole", "made", "mesh")
)


def train_and_save(folder, sharded, wait):
    model, optimizer, scheduler = prepared(sharded)
    trained(model, optimizer, 3)
    scheduler.step()
    torch.manual_seed(100 + (dist.get_rank() if dist.is_initialized() else 0))
    arguments = {"epoch": 3, "metadata": {"loss": 0.5}, "layout": "shards", "wait": wait}
    saving = save_checkpoint(folder, model, optimizer, scheduler, **arguments)
    draw = torch.rand(2)
    trained(model, optimizer, 3, start=3)  # while it is written
    if not wait:
        saving.wait()
    return whole(model), draw


@pytest.mark.parametrize("wait", [True, False], ids=["at_once", "later"])
@pytest.mark.parametrize("saver", ["one", "two"])
@pytest.mark.parametrize("loader", ["one", "two"])
def test_a_training_goes_on_with_another_number_of_processes(
    processes, tmp_path, saver, loader, wait
):
    folder = str(tmp_path / "run")

    def done(who, function, *arguments):
        if who == "one":
            return [function(folder, False, *arguments)]
        return processes.run(function, folder, True, *arguments)

    saved, loaded = done(saver, train_and_save, wait), done(loader, load_and_train)
    states = [state for state, _ in (*saved, *loaded)]
    check_equal(states, exact=saver == loader)
    assert torch.equal(saved[0][1], loaded[0][1])
    names = sorted(re.sub("[0-9a-f]{32}", "TOKEN", name) for name in os.listdir(folder))
    assert names == [
        "Net.0.3.json",
        "checkpoint.0.3.pt",
        "manifest.0.3.json",
        "shards.0.3.TOKEN",
        "shards.0.3.json",
    ]


def save_steps(folder):
    model, optimizer, _ = prepared(sharded=True)
    for step in range(3):
        trained(model, optimizer, 1, start=step)
        save_checkpoint(folder, model, optimizer, epoch=step, layout="shards", keep_last=2)
    save_checkpoint(folder, model, optimizer, epoch=1, layout="shards")  # over a step
    model.save(f"{folder}/whole.mdlus")


def test_a_step_is_merged_into_the_file_that_the_model_would_have_written(processes, tmp_path):
    processes.run(save_steps, str(tmp_path))
    folders = [name for name in os.listdir(tmp_path) if (tmp_path / name).is_dir()]
    assert sorted(name[:10] for name in folders) == ["shards.0.1", "shards.0.2"]
    for arguments in ([], ["--step", "1"], ["--model", "Net"]):
        target = str(tmp_path / "merged.mdlus")
        result = CliRunner().invoke(main, ["merge", str(tmp_path), target, *arguments])
        assert result.exit_code == 0, result.output
        merged = physicsnemo.Module.from_checkpoint(target, trusted=[Net])
        expected = physicsnemo.Module.from_checkpoint(tmp_path / "whole.mdlus", trusted=[Net])
        check_equal([merged.state_dict(), expected.state_dict()])
        assert list(merged.state_dict()) == list(expected.state_dict())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--step", "7"], "has no step 7 of layout 'shards'; it has 1, 2"),
        (["--model", "Nothing"], "say which model of step 2 to merge; it has Net"),
    ],
)
def test_what_cannot_be_merged(processes, tmp_path, arguments, text):
    processes.run(save_steps, str(tmp_path))
    result = CliRunner().invoke(
        main, ["merge", str(tmp_path), str(tmp_path / "x.mdlus"), *arguments]
    )
    assert result.exit_code == 1
    assert text in result.output


def damaged(folder, which):
    model, optimizer, _ = prepared(sharded=True)
    rank = dist.get_rank()
    save_checkpoint(folder, model, optimizer, epoch=0, layout="shards")
    dist.barrier()
    (shards,) = Path(folder).glob("shards.0.0.?*[!n]")
    if rank == 0 and which == "torn":
        path = next(shards.glob("__1_0.distcp"))
        path.write_bytes(path.read_bytes()[:-1])
    if rank == 0 and which == "executed":
        path = shards / ".metadata"
        path.write_bytes(b"cos\nsystem\n(S'echo'\ntR.".ljust(path.stat().st_size, b" "))
    dist.barrier()
    before = whole(model)
    error = error_of(lambda: load_checkpoint(folder, model, optimizer))
    check_equal([before, whole(model)])
    return error


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("torn", r"__1_0.distcp of step 0 .* is torn or was changed: expected \d+ bytes"),
        ("executed", "os.system is no part of a description"),
    ],
)
def test_damage_is_found_and_nothing_is_loaded(processes, tmp_path, which, text):
    for error in processes.run(damaged, str(tmp_path), which):
        assert error.startswith("CheckpointError")
        assert re.search(text, error)


def refused(folder):
    model = shard(made(), mesh())
    other = shard(physicsnemo.Module.from_torch(torch.nn.Linear)(3, 4), mesh())
    save_checkpoint(folder, other, epoch=0, layout="shards")
    return [
        error_of(lambda: save_checkpoint("memory://run", model, epoch=0, layout="shards")),
        error_of(lambda: save_checkpoint(folder, model, epoch=0, wait=False)),
        error_of(lambda: save_checkpoint(folder, model, epoch=0, layout="pieces")),
        error_of(lambda: save_checkpoint(folder, model, epoch=0, layout="shards", rank=0)),
        error_of(lambda: load_checkpoint(folder, model)),
    ]


def test_misuse_says_what_to_do(processes, tmp_path):
    for errors in processes.run(refused, str(tmp_path)):
        for error, text in zip(
            errors,
            (
                "CheckpointError: layout 'shards' needs a folder .* that all processes share",
                "ValueError: wait=False needs layout='shards'",
                "ValueError: expected layout 'whole' or 'shards', got 'pieces'",
                "CheckpointError: .*leave rank=0 out",
                "CheckpointError: step 0 in .* has no model Net; it has Linear",
            ),
            strict=True,
        ):
            assert re.search(text, error)
