# SPDX-License-Identifier: Apache-2.0
"""The files of a training's steps: names, damage, and which of them are kept."""

import importlib
import logging
import os
import pickle

import fsspec
import pytest
import torch
from torch.optim import SGD, Adam

import physicsnemo.utils
from physicsnemo import ModelMetaData, Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils.checkpoint import get_checkpoint_dir, load_checkpoint, save_checkpoint


class Net(Module):
    def __init__(self, name="Net"):
        super().__init__(meta=ModelMetaData(name=name))
        self.layer = torch.nn.Linear(3, 2)


PLUGIN = """
from physicsnemo import hookimpl
seen = []

@hookimpl
def saved(url):
    seen.append(("saved", url))

@hookimpl
def loaded(url):
    seen.append(("loaded", url))
"""


def training():
    """A model, a plain one, and an optimizer for both, as arguments."""
    models = [Net(), torch.nn.Linear(2, 1)]
    parameters = [p for model in models for p in model.parameters()]
    return {"models": models, "optimizer": Adam(parameters, lr=torch.rand(1).item())}


def states(training):
    """What a failed load must leave as it is."""
    weights = [p.detach().clone() for model in training["models"] for p in model.parameters()]
    rest = [torch.get_rng_state(), torch.tensor(training["optimizer"].param_groups[0]["lr"])]
    return [*weights, *rest]


def names(folder):
    return sorted(os.listdir(folder))


def test_epochs_count_from_zero(tmp_path):
    model = torch.nn.Linear(2, 1)
    save_checkpoint(tmp_path, model)
    assert torch.load(tmp_path / "checkpoint.0.0.pt")["epoch"] == 0
    assert load_checkpoint(tmp_path, model) == 0
    save_checkpoint(tmp_path, model, epoch=7)
    save_checkpoint(tmp_path, model)
    assert load_checkpoint(tmp_path, model) == 8
    assert load_checkpoint(tmp_path, model, epoch=0) == 0


@pytest.mark.parametrize(("epoch", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_epochs_are_natural_numbers(epoch, error, tmp_path):
    with pytest.raises(error):
        save_checkpoint(tmp_path / "run", epoch=epoch)
    assert not (tmp_path / "run").exists()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["checkpoint.0.0.pt", "Linear.0.0.pt"])
def test_nothing_in_a_file_is_executed(name, tmp_path):
    save_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    (tmp_path / "manifest.0.0.json").unlink()
    proof = tmp_path / "executed"
    for content in (pickle.dumps(Payload(str(proof))), b"", b"PK\x03\x04"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} of step 0 .* cannot be read as data"):
            load_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    assert not proof.exists()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "missing": os.unlink,
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "changed": flip_a_byte,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["Net.0.2.mdlus", "Linear.0.2.pt", "checkpoint.0.2.pt"])
def test_a_damaged_part_is_named_and_nothing_is_loaded(name, damage, tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, **training(), epoch=step)
    DAMAGES[damage](tmp_path / name)
    resumed = training()
    before = states(resumed)
    what = "missing" if damage == "missing" else "torn"
    with pytest.raises(CheckpointError, match=f"{name} of step 2 .* is {what}"):
        load_checkpoint(tmp_path, **resumed)
    assert all(map(torch.equal, states(resumed), before))
    assert load_checkpoint(tmp_path, **resumed, epoch=1) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "token": "a", "files": {}, "metadata": {}}',
        '{"format": 1, "token": "../a", "files": {}, "metadata": {}}',
        '{"format": 1, "token": "a", "files": {"../a.pt": {"bytes": 1, "sha256": ""}}, '
        '"metadata": {}}',
    ],
)
def test_a_damaged_manifest_is_an_error(content, tmp_path):
    save_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    (tmp_path / "manifest.0.0.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.0\.0\.json in .* is damaged"):
        load_checkpoint(tmp_path, torch.nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"models": Net()}, r"there is no Net\.0\.0\.mdlus of step 0 .* has Linear\.0\.0\.pt"),
        ({"epoch": 3}, r"step 3 .* lacks checkpoint\.0\.3\.pt; complete steps: 0"),
        ({"scaler": torch.amp.GradScaler("cpu")}, r"checkpoint\.0\.0\.pt .* has no scaler_state"),
        ({"models": torch.nn.Linear(3, 1)}, r"Linear\.0\.0\.pt .*of another shape: weight"),
        ({"optimizer": SGD([torch.ones(1)])}, "optimizer_state_dict in .* does not fit: Value"),
    ],
)
def test_what_is_not_there_is_an_error(asked, text, tmp_path):
    model = torch.nn.Linear(2, 1)
    save_checkpoint(tmp_path, model, SGD(model.parameters()))
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(tmp_path, **asked)


def test_weights_of_another_model_are_an_error_unless_not_strict(tmp_path):
    class Net2(Net):
        def __init__(self):
            super().__init__()
            self.more = torch.nn.Linear(1, 1)

    save_checkpoint(tmp_path, Net())
    with pytest.raises(CheckpointError, match=r"Net\.0\.0\.mdlus of step 0 .* 2 missing: more"):
        load_checkpoint(tmp_path, Net2())
    assert load_checkpoint(tmp_path, Net2(), strict=False) == 0


@pytest.mark.parametrize("exists", [False, True])
def test_without_any_checkpoint_the_log_tells(exists, tmp_path, caplog):
    caplog.set_level(logging.INFO, "physicsnemo.checkpoint")
    folder = tmp_path if exists else tmp_path / "run"
    assert load_checkpoint(folder, **training()) == 0
    assert caplog.record_tuples == [
        (
            "physicsnemo.checkpoint",
            logging.INFO,
            f"there is no checkpoint in {folder}, nothing is loaded",
        )
    ]
    with pytest.raises(CheckpointError, match="step 3 .* lacks"):
        load_checkpoint(folder, Net(), epoch=3)


@pytest.mark.parametrize("function", [load_checkpoint, save_checkpoint])
def test_a_file_is_no_folder(function, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="expected a folder, .* is a file"):
        function(tmp_path / "file")


def test_wrapped_models_are_unwrapped(tmp_path):
    net = Net()
    wrapped = torch.nn.DataParallel(torch.compile(net, backend="eager"))
    optimizer = Adam(wrapped.module.named_parameters())
    save_checkpoint(tmp_path, wrapped, optimizer)
    other = torch.compile(Net(), backend="eager")
    load_checkpoint(tmp_path, other)
    assert torch.equal(other._orig_mod.layer.weight, net.layer.weight.cpu())
    groups = torch.load(tmp_path / "checkpoint.0.0.pt")["optimizer_state_dict"]["param_groups"]
    assert groups[0]["param_names"] == [name for name, _ in net.named_parameters()]
    assert optimizer.param_groups[0]["param_names"][0] == "_orig_mod.layer.weight"


def test_an_attribute_called_module_is_no_wrapper(tmp_path):
    model = torch.nn.Sequential()
    model.module = torch.nn.Linear(2, 1)
    save_checkpoint(tmp_path, model)
    assert torch.load(tmp_path / "Sequential.0.0.pt").keys() == {"module.weight", "module.bias"}


class checkpoint(torch.nn.Linear):  # noqa: N801
    pass


class Linear0(torch.nn.Linear):
    pass


@pytest.mark.parametrize(
    "models",
    [
        checkpoint(2, 1),
        [torch.nn.Linear(2, 1), torch.nn.Linear(2, 1), Linear0(2, 1)],
        Net("a/b"),
    ],
)
def test_names_that_cannot_be_used_are_refused(models, tmp_path):
    with pytest.raises(ValueError, match=r"model \d cannot be stored as"):
        save_checkpoint(tmp_path / "run", models)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", [Net(), torch.nn.Linear(2, 1)], ids=["model", "plain"])
def test_weights_pass_through_the_device(model, tmp_path):
    save_checkpoint(tmp_path, model)
    with pytest.raises(RuntimeError, match="Cannot copy out of meta tensor"):
        load_checkpoint(tmp_path, model, device="meta")


def test_a_replaced_step_keeps_nothing_of_the_old_one(tmp_path):
    save_checkpoint(tmp_path, [Net(), torch.nn.Linear(2, 1)], epoch=0)
    save_checkpoint(tmp_path, Net(), epoch=0)
    assert names(tmp_path) == ["Net.0.0.mdlus", "checkpoint.0.0.pt", "manifest.0.0.json"]


def test_folders_may_be_urls():
    url = get_checkpoint_dir("memory://trainings", "net")
    for _ in range(3):
        save_checkpoint(url, **(saved := training()), keep_last=2)
    resumed = training()
    assert load_checkpoint(url, **resumed) == 2
    assert all(map(torch.equal, states(resumed), states(saved)))
    filesystem = fsspec.filesystem("memory")
    found = {path.rpartition("/")[2] for path in filesystem.find("/trainings")}
    parts = ("Linear.0.{}.pt", "Net.0.{}.mdlus", "checkpoint.0.{}.pt", "manifest.0.{}.json")
    assert found == {part.format(step) for part in parts for step in (1, 2)}
    filesystem.pipe_file("/trainings/checkpoints_net/Linear.0.2.pt", b"torn")
    with pytest.raises(CheckpointError, match=r"Linear\.0\.2\.pt of step 2 .* is torn"):
        load_checkpoint(url, **resumed)


def test_plugins_are_told_where_the_files_are(install, tmp_path):
    install("steps-lab", "[physicsnemo.plugins]\nlab = told_of_steps\n", told_of_steps=PLUGIN)
    folder = tmp_path / "run"
    save_checkpoint(folder, **training(), epoch=3)
    load_checkpoint(folder, **training())
    url = str(folder / "Net.0.3.mdlus")
    assert importlib.import_module("told_of_steps").seen == [("saved", url), ("loaded", url)]


def kept(folder):
    """The steps of which there is any file."""
    return sorted({int(name.split(".")[2]) for name in names(folder)})


@pytest.mark.parametrize(
    ("options", "losses", "expected"),
    [
        ({}, [3, 2, 1], [0, 1, 2]),
        ({"keep_last": 1}, [3, 2, 1], [2]),
        ({"keep_last": 2}, [1, 2, 3, 4], [2, 3]),
        ({"keep_best": ("loss", "min")}, [3, 1, 2, 4], [1, 3]),
        ({"keep_best": ("loss", "max")}, [3, 1, 2], [0, 2]),
        ({"keep_best": ("loss", "min")}, [3, 2, 1], [2]),
        ({"keep_best": ("loss", "min"), "keep_last": 2}, [1, 2, 3, 4], [0, 2, 3]),
        ({"keep_best": ("loss", "min")}, [float("nan"), 2.0, float("nan")], [1, 2]),
        ({"keep_best": ("loss", "max")}, [float("nan"), 2.0, float("-inf")], [1, 2]),
    ],
)
def test_the_last_and_the_best_steps_are_kept(options, losses, expected, tmp_path):
    model = torch.nn.Linear(2, 1)
    for loss in losses:
        save_checkpoint(tmp_path, model, metadata={"loss": loss}, **options)
    assert kept(tmp_path) == expected
    assert load_checkpoint(tmp_path, model) == len(losses) - 1
    assert len(names(tmp_path)) == 3 * len(expected)


def test_the_step_just_written_is_kept_though_it_is_not_the_newest(tmp_path):
    for epoch in (4, 5, 6, 2):
        save_checkpoint(tmp_path, epoch=epoch, keep_last=2)
    assert kept(tmp_path) == [2, 5, 6]


def test_files_without_manifest_and_of_other_ranks_are_not_deleted(tmp_path):
    torch.save({}, tmp_path / "checkpoint.0.0.pt")
    save_checkpoint(tmp_path, epoch=1, rank=3)
    for epoch in (2, 3):
        save_checkpoint(tmp_path, epoch=epoch, keep_last=1)
    assert kept(tmp_path) == [0, 1, 3]
    assert load_checkpoint(tmp_path, rank=3) == 1
    assert load_checkpoint(tmp_path) == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep_last": 0}, "keep_last must be at least 1, got 0"),
        ({"keep_best": ("loss", "least")}, "'min' or 'max', got .*least"),
        ({"keep_best": ("error", "min")}, r"needs a number metadata\['error'\], got None"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(options, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        save_checkpoint(tmp_path / "run", metadata={"loss": 1}, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("runs", "runs/checkpoints_net"),
        ("", "checkpoints_net"),
        ("memory://", "memory://checkpoints_net"),
        ("msc://profile/runs/", "msc://profile/runs/checkpoints_net"),
    ],
)
def test_checkpoint_folders_are_called_by_their_model(base, expected):
    assert get_checkpoint_dir(base, "net") == expected


def test_functions_are_exported_by_utils():
    assert physicsnemo.utils.save_checkpoint is save_checkpoint
    assert physicsnemo.utils.load_checkpoint is load_checkpoint
    assert physicsnemo.utils.get_checkpoint_dir is get_checkpoint_dir
