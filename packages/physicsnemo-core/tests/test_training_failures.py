# SPDX-License-Identifier: Apache-2.0
"""A load that fails leaves everything as it was, and whatever is wrong with files is told."""

import json
import os
from types import SimpleNamespace

import pytest
import torch
from torch.optim import SGD, AdamW, lr_scheduler

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.utils import StaticCaptureTraining
from physicsnemo.utils.checkpoint import load_checkpoint, save_checkpoint


class Net(Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = torch.nn.Linear(3, width)
        self.norm = torch.nn.BatchNorm1d(width)  # has a way of its own to load


class Picky(torch.nn.Linear):
    """Refuses some weights, after it has taken others."""

    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)
        if self.bias.isnan().any():
            raise ValueError("not these")


def training(optimizer=AdamW):
    """All that can be saved, after a step."""
    models = [Net(), Picky(2, 1)]
    optimizer = optimizer([p for model in models for p in model.parameters()], lr=0.05)
    schedules = [lr_scheduler.ConstantLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 6)]
    made = SimpleNamespace(
        models=models,
        optimizer=optimizer,
        scheduler=lr_scheduler.SequentialLR(optimizer, schedules, [2]),
        scaler=torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2),
    )
    loss = (models[1](models[0].norm(models[0].layer(torch.rand(5, 3)))) ** 2).mean()
    made.scaler.scale(loss).backward()
    made.scaler.step(optimizer)
    made.scaler.update()
    made.scheduler.step()
    return made


def everything(made):
    """The content of what a load may change, as it is now."""
    holders = [*made.models, made.optimizer, made.scheduler, made.scaler]
    state = [holder.state_dict() for holder in holders]
    return json.dumps([state, torch.get_rng_state()], default=lambda tensor: tensor.tolist())


def tamper(change):
    """Return a change of the file that holds the training."""

    def apply(folder):
        state = torch.load(folder / "checkpoint.0.0.pt")
        change(state)
        torch.save(state, folder / "checkpoint.0.0.pt")

    return apply


def spoil_a_model(folder):
    weights = torch.load(folder / "Picky.0.0.pt")
    weights["bias"].fill_(float("nan"))
    torch.save(weights, folder / "Picky.0.0.pt")


def weights_are(value):
    return lambda folder: torch.save(value, folder / "Picky.0.0.pt")


def in_place_of(name):
    def apply(folder):
        os.unlink(folder / name)
        os.mkdir(folder / name)

    return apply


FAULTS = {
    "optimizer": (tamper(lambda s: s["optimizer_state_dict"]["param_groups"].pop()), "optimizer"),
    "no dictionary": (tamper(lambda s: s.update(optimizer_state_dict=3)), "optimizer_state_dict"),
    "second schedule": (
        tamper(lambda s: s["scheduler_state_dict"].update(_schedulers=[{"factor": 0.75}, 3])),
        "scheduler_state_dict",
    ),
    "schedule's parts": (tamper(lambda s: s["scheduler_state_dict"].pop("_schedulers")), "schedul"),
    "scaler": (tamper(lambda s: s["scaler_state_dict"].pop("growth_interval")), "scaler_state"),
    "scaler's number": (tamper(lambda s: s["scaler_state_dict"].update(scale="x")), "scaler_state"),
    "captures": (tamper(lambda s: s.update(static_capture_state_dict=[1])), "static_capture"),
    "a capture": (
        tamper(lambda s: s.update(static_capture_state_dict={"own": {"scale": 2.0}})),
        "static_capture",
    ),
    "metadata": (tamper(lambda s: s.update(metadata=[1, 2])), "metadata in"),
    "random numbers": (tamper(lambda s: s["random_state"].update(cpu=torch.ones(3))), "random_sta"),
    "random text": (tamper(lambda s: s.update(random_state={"cpu": "x"})), "random_state"),
    "Python's random numbers": (
        tamper(lambda s: s["random_state"]["python"].update(words=torch.ones(3))),
        "random_state",
    ),
    "NumPy's random numbers": (
        tamper(lambda s: s["random_state"]["numpy"].update(words=torch.ones(3))),
        "random_state",
    ),
    "random list": (tamper(lambda s: s.update(random_state=[])), "random_state"),
    "a list": (lambda folder: torch.save([1], folder / "checkpoint.0.0.pt"), "not a dictionary"),
    "second model": (spoil_a_model, "Picky.*not these"),
    "missing weight": (weights_are({"weight": torch.ones(1, 2)}), "1 missing: bias"),
    "surplus weight": (
        weights_are({"weight": torch.ones(1, 2), "bias": torch.ones(1), "more": torch.ones(1)}),
        "1 unexpected: more",
    ),
    "text": (weights_are({"weight": "x", "bias": torch.ones(1)}), "of type str"),
    "number as key": (weights_are({0: torch.ones(1)}), "keys are not text"),
    "sparse": (weights_are({"weight": torch.ones(1, 2).to_sparse(), "bias": torch.ones(1)}), "spa"),
    "meta": (weights_are({"weight": torch.ones(1, 2), "bias": torch.ones(1).to("meta")}), "meta"),
    "model is a folder": (in_place_of("Net.0.0.mdlus"), "lacks Net|cannot be read"),
    "training is a folder": (in_place_of("checkpoint.0.0.pt"), "cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_load_that_fails_changes_nothing(fault, tmp_path):
    damage, text = FAULTS[fault]
    StaticCaptureTraining.reset_state()
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    StaticCaptureTraining._scalers.add(scaler, "own", None)
    save_checkpoint(tmp_path, **vars(training()), epoch=0)
    os.unlink(tmp_path / "manifest.0.0.json")  # so that the files count as they are
    damage(tmp_path)
    resumed, found = training(), {"mine": 1}
    tensors = [id(value) for state in resumed.optimizer.state.values() for value in state.values()]
    before = everything(resumed)
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(tmp_path, **vars(resumed), metadata_dict=found)
    assert everything(resumed) == before
    after = [id(value) for state in resumed.optimizer.state.values() for value in state.values()]
    assert after == tensors
    assert found == {"mine": 1}
    assert scaler.get_scale() == 512.0
    StaticCaptureTraining.reset_state()


def test_what_did_not_fit_can_be_loaded_afterwards(tmp_path):
    saved = training()
    save_checkpoint(tmp_path, **vars(saved), epoch=0, metadata={"loss": 1.0})
    resumed = training()
    with pytest.raises(CheckpointError, match="optimizer_state_dict"):
        load_checkpoint(tmp_path, resumed.models, SGD([torch.ones(1)]))
    load_checkpoint(tmp_path, **vars(resumed))
    assert everything(resumed) == everything(saved)


class WithPicky(Module):
    def __init__(self):
        super().__init__()
        self.inner, self.picky = torch.nn.Linear(2, 2), Picky(2, 2)


class Larger(WithPicky):
    def __init__(self):
        super().__init__()
        self.more = torch.nn.BatchNorm1d(1)


@pytest.mark.parametrize("strict", [True, False])
def test_loading_a_model_changes_all_or_nothing(strict, tmp_path):
    saved, other = WithPicky(), WithPicky()
    torch.nn.init.constant_(saved.picky.bias, float("nan"))
    saved.save(tmp_path / "model.mdlus")
    before = {name: value.clone() for name, value in other.named_parameters()}
    with pytest.raises(CheckpointError, match=r"model\.mdlus .*not these"):
        other.load(tmp_path / "model.mdlus", strict=strict)
    assert all(torch.equal(value, before[name]) for name, value in other.named_parameters())


def test_a_model_with_more_weights_is_left_as_it_is(tmp_path):
    WithPicky().save(tmp_path / "model.mdlus")
    larger = Larger()
    before = {name: value.clone() for name, value in larger.named_parameters()}
    with pytest.raises(CheckpointError, match=r"missing: more\.weight, more\.bias"):
        larger.load(tmp_path / "model.mdlus")
    assert all(torch.equal(value, before[name]) for name, value in larger.named_parameters())


@pytest.mark.parametrize(
    "name",
    ["Picky.0.1.pt", "Picky.1.0.pt", "notes.pt", "a\nb.0.2.pt", "Picky.0.00.pt", "x.0.0.pt.pt"],
)
def test_a_manifest_names_files_of_its_own_step_only(name, tmp_path):
    for epoch in range(2):
        save_checkpoint(tmp_path, Picky(2, 1), epoch=epoch)
    (tmp_path / name).write_bytes(b"precious")
    manifest = json.loads((tmp_path / "manifest.0.0.json").read_text())
    manifest["files"][name] = {"bytes": 8, "sha256": "0"}
    (tmp_path / "manifest.0.0.json").write_text(json.dumps(manifest))
    text = r"manifest\.0\.0\.json in .* is damaged: it names "
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(tmp_path, Picky(2, 1), epoch=0)
    with pytest.raises(CheckpointError, match=text):
        save_checkpoint(tmp_path, Picky(2, 1), epoch=2, keep_last=1)
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 100_000, b'{"format": 1e999}'])
def test_a_manifest_of_any_bytes_is_an_error(content, tmp_path):
    save_checkpoint(tmp_path, Picky(2, 1), epoch=0)
    (tmp_path / "manifest.0.0.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.0\.0\.json in .* is damaged"):
        load_checkpoint(tmp_path, Picky(2, 1))


def test_a_manifest_that_is_a_folder_is_an_error(tmp_path):
    save_checkpoint(tmp_path, Picky(2, 1), epoch=0)
    in_place_of("manifest.0.0.json")(tmp_path)
    with pytest.raises(CheckpointError, match=r"manifest\.0\.0\.json in .* cannot be read"):
        load_checkpoint(tmp_path, Picky(2, 1))


def test_a_part_that_is_a_folder_is_an_error(tmp_path):
    save_checkpoint(tmp_path, Picky(2, 1), epoch=0)
    in_place_of("Picky.0.0.pt")(tmp_path)
    with pytest.raises(CheckpointError, match=r"Picky\.0\.0\.pt of step 0 .* cannot be read"):
        load_checkpoint(tmp_path, Picky(2, 1))


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_available():
        pytest.skip("PyTorch was built without torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # of PyTorch's, about sharding on a CPU
def test_shards_are_saved_whole(one_process, tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    net, plain = Net(), torch.nn.Linear(2, 1)
    expected = {"net": clone(net.state_dict()), "plain": clone(plain.state_dict())}
    for model in (net, plain):
        fully_shard(model, mesh=mesh)
    optimizer = AdamW(plain.parameters())
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["step"] = torch.ones(())
            optimizer.state[parameter]["exp_avg"] = torch.full_like(parameter, 2.0)
    whole, whole_plain = Net(), torch.nn.Linear(2, 1)
    whole_optimizer = AdamW(whole_plain.parameters())
    save_checkpoint(tmp_path / "run", [net, plain], optimizer)
    load_checkpoint(tmp_path / "run", [whole, whole_plain], whole_optimizer)
    assert_equal(whole.state_dict(), expected["net"])
    assert_equal(whole_plain.state_dict(), expected["plain"])
    assert [it["exp_avg"].unique().tolist() for it in whole_optimizer.state.values()] == [[2.0]] * 2
    save_checkpoint(tmp_path / "optimizer", optimizer=optimizer)
    load_checkpoint(tmp_path / "optimizer", optimizer=whole_optimizer)
    assert list(whole_optimizer.state_dict()["state"][0]) == ["step", "exp_avg"]


def clone(state):
    return {key: value.clone() for key, value in state.items()}


def assert_equal(got, expected):
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], value) for key, value in expected.items())
