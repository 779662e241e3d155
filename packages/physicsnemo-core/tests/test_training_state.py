# SPDX-License-Identifier: Apache-2.0
"""A training saved to a folder and resumed from it."""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim import SGD, AdamW, lr_scheduler

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils import StaticCaptureTraining
from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint


class Net(Module):
    def __init__(self, width=8):
        super().__init__(meta=ModelMetaData(name="Net"))
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, width), torch.nn.Dropout(0.5), torch.nn.Linear(width, 2)
        )

    def forward(self, x):
        return self.layers(x)


def new_training(optimizer=AdamW, schedule=lr_scheduler.CosineAnnealingLR, **options):
    """A model, a plain head and all else that has a state."""
    models = [Net(), torch.nn.Linear(2, 1)]
    optimizer = optimizer([p for model in models for p in model.parameters()], lr=0.05)
    return SimpleNamespace(
        models=models,
        optimizer=optimizer,
        scheduler=schedule(optimizer, **(options or {"T_max": 6})),
        scaler=torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2),
    )


def train(training, epochs):
    for _ in range(epochs):
        training.optimizer.zero_grad()
        loss = (training.models[1](training.models[0](torch.ones(5, 3))) ** 2).mean()
        training.scaler.scale(loss).backward()
        training.scaler.step(training.optimizer)
        training.scaler.update()
        training.scheduler.step()
    return training


def states(training):
    holders = [*training.models, training.optimizer, training.scheduler, training.scaler]
    return [holder.state_dict() for holder in holders] + [torch.get_rng_state()]


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.fixture(autouse=True)
def no_captures():
    StaticCaptureTraining.reset_state()
    yield
    StaticCaptureTraining.reset_state()


SCHEDULES = {
    lr_scheduler.CosineAnnealingLR: {"T_max": 6},
    lr_scheduler.OneCycleLR: {"max_lr": 0.1, "total_steps": 9},
    lr_scheduler.MultiStepLR: {"milestones": [2, 4]},
    lr_scheduler.LambdaLR: {"lr_lambda": lambda epoch: 1 / (1 + epoch)},
    lr_scheduler.CyclicLR: {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    lr_scheduler.CosineAnnealingWarmRestarts: {"T_0": 2},
}


@pytest.mark.parametrize("optimizer", [AdamW, SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_six_epochs_are_three_and_three_more_after_a_resume(optimizer, tmp_path):
    torch.manual_seed(0)
    expected = states(train(new_training(optimizer), 6))
    torch.manual_seed(0)
    save_checkpoint(tmp_path, **vars(train(new_training(optimizer), 3)), epoch=3)
    torch.manual_seed(1)
    resumed = new_training(optimizer)
    assert load_checkpoint(tmp_path, **vars(resumed)) == 3
    assert equal(states(train(resumed, 3)), expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_schedules_resume(schedule, tmp_path):
    options = SCHEDULES[schedule]
    torch.manual_seed(0)
    expected = states(train(new_training(schedule=schedule, **options), 6))
    torch.manual_seed(0)
    trained = train(new_training(schedule=schedule, **options), 3)
    save_checkpoint(tmp_path, **vars(trained))
    resumed = new_training(schedule=schedule, **options)
    load_checkpoint(tmp_path, **vars(resumed))
    assert equal(states(train(resumed, 3)), expected)


def drawn():
    """Numbers from all generators that a process shares; each keeps every second normal one."""
    shared = np.random.rand(), np.random.randn()  # noqa: NPY002
    return torch.rand(1).item(), random.random(), random.gauss(0, 1), *shared


def test_random_numbers_of_python_and_numpy_go_on(tmp_path):
    drawn()
    save_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    expected = [drawn() for _ in range(3)]
    load_checkpoint(tmp_path)
    assert [drawn() for _ in range(3)] == expected


def test_random_numbers_of_a_file_without_all_generators(tmp_path):
    save_checkpoint(tmp_path, epoch=0)
    training = torch.load(tmp_path / "checkpoint.0.0.pt")
    del training["random_state"]["python"], training["random_state"]["numpy"]
    torch.save(training, tmp_path / "checkpoint.0.0.pt")
    (tmp_path / "manifest.0.0.json").unlink()
    expected = random.Random(3).random()
    random.seed(3)
    load_checkpoint(tmp_path)
    assert random.random() == expected


def test_random_numbers_are_left_alone_on_request(tmp_path):
    save_checkpoint(tmp_path, torch.nn.Linear(2, 1))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_checkpoint(tmp_path, restore_random_state=False)
    assert torch.equal(torch.rand(3), expected)


def test_scalers_of_captures_are_restored(tmp_path, monkeypatch):
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    capture = StaticCaptureTraining(model, optimizer, use_amp=False, label="main")
    save_checkpoint(tmp_path, epoch=0)
    training = torch.load(tmp_path / "checkpoint.0.0.pt")
    assert "static_capture_state_dict" not in training  # its scaler is off, as always on a CPU
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    capture._scalers.add(scaler, "enabled", capture.logger)
    save_checkpoint(tmp_path, epoch=1)
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0})
    load_checkpoint(tmp_path)
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("shared", [False, True])
def test_files_are_called_as_the_reference_implementation_calls_them(shared, tmp_path):
    models = [Net(), torch.nn.Linear(2, 1), *([Net()] if shared else [])]
    save_checkpoint(tmp_path, models, epoch=4)
    nets = ["Net0.0.4.mdlus", "Net1.0.4.mdlus"] if shared else ["Net.0.4.mdlus"]
    assert sorted(os.listdir(tmp_path)) == [
        "Linear.0.4.pt",
        *nets,
        "checkpoint.0.4.pt",
        "manifest.0.4.json",
    ]
    assert isinstance(Module.from_checkpoint(tmp_path / nets[0]), Net)
    weights = torch.load(tmp_path / "Linear.0.4.pt")
    assert equal(dict(weights), dict(models[1].state_dict()))


def test_the_training_file_is_as_the_reference_implementation_reads_it(tmp_path):
    training = train(new_training(), 2)
    save_checkpoint(tmp_path, **vars(training), epoch=2, metadata={"loss": 0.5})
    content = torch.load(tmp_path / "checkpoint.0.2.pt", weights_only=True)
    assert equal(content.pop("optimizer_state_dict"), training.optimizer.state_dict())
    assert equal(content.pop("scheduler_state_dict"), training.scheduler.state_dict())
    assert equal(content.pop("scaler_state_dict"), training.scaler.state_dict())
    assert content.keys() == {"epoch", "metadata", "random_state"}
    assert (content["epoch"], content["metadata"]) == (2, {"loss": 0.5})


def reference_folder(folder, models=(), training=()):
    """Write what the reference implementation writes: weights and states, each by themselves."""
    folder.mkdir(exist_ok=True)
    for step in models:
        net, head = Net(), torch.nn.Linear(2, 1)
        torch.nn.init.constant_(net.layers[0].weight, step)
        torch.nn.init.constant_(head.weight, step)
        net.save(folder / f"Net.0.{step}.mdlus")
        torch.save(head.state_dict(), folder / f"Linear.0.{step}.pt")
    for step in training:
        states = train(new_training(), step)
        content = {
            "optimizer_state_dict": states.optimizer.state_dict(),
            "scheduler_state_dict": states.scheduler.state_dict(),
            "scaler_state_dict": states.scaler.state_dict(),
        }
        if step:  # it does not store zero
            content |= {"epoch": step, "metadata": {"step": step}}
        torch.save(content, folder / f"checkpoint.0.{step}.pt")
    return folder


@pytest.mark.parametrize("steps", [[0], [0, 1, 2], [9, 10]])
def test_folders_of_the_reference_implementation_load(steps, tmp_path):
    reference_folder(tmp_path / "run", steps, steps)
    for name in ("checkpoint.0.best.pt", "checkpoint.10.7.pt", "Net.0.latest.mdlus"):
        (tmp_path / "run" / name).touch()
    training, found = new_training(), {}
    assert load_checkpoint(tmp_path / "run", **vars(training), metadata_dict=found) == steps[-1]
    assert training.scheduler.last_epoch == steps[-1]
    assert training.models[0].layers[0].weight.unique().item() == steps[-1]
    assert training.models[1].weight.unique().item() == steps[-1]
    assert found == ({"step": steps[-1]} if steps[-1] else {})


@pytest.mark.parametrize(
    ("models", "training", "newest", "lacking"),
    [
        ([0, 1, 2], [0, 1], 1, "checkpoint.0.2.pt"),
        ([0, 1], [0, 1, 2], 1, "Net.0.2.mdlus, Linear.0.2.pt"),
        ([1, 3], [1, 2], 1, "checkpoint.0.3.pt"),
    ],
)
def test_epochs_are_never_mixed(models, training, newest, lacking, tmp_path, caplog):
    folder, resumed = reference_folder(tmp_path / "run", models, training), new_training()
    assert load_checkpoint(folder, **vars(resumed)) == newest
    assert resumed.models[0].layers[0].weight.unique().item() == newest
    assert resumed.scheduler.last_epoch == newest
    assert f"lacks {lacking}; complete steps" in caplog.text
    incomplete = max(models + training)
    with pytest.raises(CheckpointError, match=f"step {incomplete} .* lacks {lacking}"):
        load_checkpoint(folder, **vars(resumed), epoch=incomplete)


def test_a_folder_without_a_complete_step_is_an_error(tmp_path):
    folder = reference_folder(tmp_path / "run", [0, 1], [2])
    with pytest.raises(CheckpointError, match="step 2 .* Linear.0.2.pt; complete steps: none"):
        load_checkpoint(folder, **vars(new_training()))


def test_models_alone_need_no_training_file(tmp_path):
    net = Net()
    assert load_checkpoint(reference_folder(tmp_path / "run", [3]), net) == 3
    assert net.layers[0].weight.unique().item() == 3


def test_a_run_of_the_reference_implementation_goes_on(tmp_path):
    folder = reference_folder(tmp_path / "run", [0, 1], [0, 1])
    training = new_training()
    save_checkpoint(folder, **vars(training))
    assert load_checkpoint(folder, **vars(training)) == 2
    assert load_checkpoint(folder, **vars(training), epoch=1) == 1


def test_metadata_are_those_of_the_loaded_step_only(tmp_path):
    content = {"loss": float("inf"), "shape": (2, 3), "nested": {"names": ["a", None, True]}}
    save_checkpoint(tmp_path, epoch=0, metadata=content)
    save_checkpoint(tmp_path, epoch=1, metadata={"other": 1})
    first, second = {}, {"mine": 0}
    load_checkpoint(tmp_path, epoch=0, metadata_dict=first)
    load_checkpoint(tmp_path, metadata_dict=second)
    assert first == content
    assert second == {"mine": 0, "other": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor(1.0), r"metadata\['a'\]\[1\] is of type torch.Tensor .*item\(\)"),
        (np.float64(1), r"metadata\['a'\]\[1\] is of type numpy.float64 .*item\(\)"),
        ({1: 2}, r"a key of metadata\['a'\]\[1\] is of type builtins.int"),
        (object(), r"metadata\['a'\]\[1\] is of type builtins.object"),
    ],
)
def test_metadata_are_plain(value, text, tmp_path):
    with pytest.raises(TypeError, match=text):
        save_checkpoint(tmp_path / "run", metadata={"a": [0, value]})
    assert not (tmp_path / "run").exists()


def test_states_are_data(tmp_path):
    optimizer = SGD(torch.nn.Linear(2, 1).parameters(), lr=np.float64(0.1))
    with pytest.raises(TypeError, match=r"optimizer_state_dict\['param_groups'\]\[0\]\['lr'\]"):
        save_checkpoint(tmp_path / "run", optimizer=optimizer)
    assert not (tmp_path / "run").exists()
