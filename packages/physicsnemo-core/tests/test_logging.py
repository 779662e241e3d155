# SPDX-License-Identifier: Apache-2.0
"""Messages and numbers of a training."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from physicsnemo.utils import LaunchLogger, PythonLogger, RankZeroLoggingWrapper


@pytest.fixture(autouse=True)
def without_trackers(monkeypatch):
    monkeypatch.setattr(LaunchLogger, "_trackers", {})


def test_numbers_of_an_epoch(caplog):
    with LaunchLogger("train", epoch=2, num_mini_batch=4, mini_batch_log_freq=2) as log:
        for value in (1.0, 2.0, 3.0, 6.0):
            loss = torch.tensor([value], requires_grad=True, dtype=torch.bfloat16)
            log.log_minibatch({"loss": loss, "half": value / 2})
        log.log_epoch({"rate": torch.tensor(0.5)})
    assert log.values == {"loss": 3.0, "half": 1.5, "rate": 0.5}
    assert {record.name for record in caplog.records} == {"physicsnemo.launch"}
    halfway, whole, end = caplog.messages
    assert halfway == "train, epoch 2, mini-batch 2 of 4: loss = 1.5, half = 0.75"
    assert whole == "train, epoch 2, mini-batch 4 of 4: loss = 3, half = 1.5"
    assert end.startswith("train, epoch 2: loss = 3, half = 1.5, rate = 0.5; 0.0")
    assert end.endswith(" ms a mini-batch")


def test_an_epoch_that_fails_is_not_logged(caplog):
    def fail():
        with LaunchLogger("train") as log:
            log.log_minibatch({"loss": 1.0})
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        fail()
    assert caplog.messages == []


def test_a_validation_of_few_numbers(caplog):
    with LaunchLogger("valid", epoch=7) as log:
        log.log_epoch({"error": 0.25})
    assert caplog.messages[0].startswith("valid, epoch 7: error = 0.25; ")
    assert "mini-batch" not in caplog.messages[0]


def test_profile(caplog):
    with LaunchLogger("train", profile=True):
        torch.ones(3) @ torch.ones(3)
    assert "aten::dot" in caplog.messages[1]


def test_frequencies_are_checked():
    with pytest.raises(ValueError, match="got mini_batch_log_freq=-1 and epoch_alert_freq=None"):
        LaunchLogger("train", mini_batch_log_freq=-1)


class Recording(SimpleNamespace):
    """Stands for a package that tracks numbers: says what it was called with."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


def test_trackers(monkeypatch, tmp_path):
    wandb = Recording(calls=[], run=None, Image=repr)
    mlflow = Recording(calls=[], active_run=lambda: "a run")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    with pytest.raises(RuntimeError, match=r"wandb has no run: call wandb\.init before"):
        LaunchLogger.initialize(use_wandb=True, use_mlflow=True)
    wandb.run = "a run"
    LaunchLogger.initialize(use_wandb=True, use_mlflow=True)
    figure = Recording(calls=[])
    with LaunchLogger("train", epoch=4, epoch_alert_freq=2) as log:
        log.log_minibatch({"loss": 0.5})
        log.log_figure(figure, "field", plot_dir=str(tmp_path / "plots"), log_to_file=True)
    assert figure.calls == [("savefig", (tmp_path / "plots" / "field_epoch_4.png",), {})]
    assert wandb.calls == [
        ("log", ({"field": repr(figure)},), {}),
        ("log", ({"train/loss": 0.5, "epoch": 4},), {}),
        ("alert", (), {"title": "train, epoch 4", "text": "loss = 0.5"}),
    ]
    assert mlflow.calls == [
        ("log_figure", (figure, "field_epoch_4.png"), {}),
        ("log_metrics", ({"train/loss": 0.5},), {"step": 4}),
    ]
    LaunchLogger.initialize()
    with LaunchLogger("train"):
        pass
    assert len(wandb.calls) == 3


def test_logger(caplog, tmp_path):
    logger = PythonLogger("lab")
    logger.file_logging(str(tmp_path / "lab.log"))
    logger.log("begun")
    logger.success("[done]")
    logger.warning("late")
    logger.error("over")
    assert [(it.name, it.levelname, it.message) for it in caplog.records] == [
        ("physicsnemo.lab", "INFO", "begun"),
        ("physicsnemo.lab", "INFO", "[done]"),
        ("physicsnemo.lab", "WARNING", "late"),
        ("physicsnemo.lab", "ERROR", "over"),
    ]
    lines = (tmp_path / "lab.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "INFO physicsnemo.lab: begun",
        "INFO physicsnemo.lab: [done]",
        "WARNING physicsnemo.lab: late",
        "ERROR physicsnemo.lab: over",
    ]
    for handler in logger.logger.handlers[:]:
        handler.close()
        logger.logger.removeHandler(handler)


def test_only_rank_0_speaks(caplog):
    PythonLogger("ranked")
    for rank in (0, 1):
        logger = RankZeroLoggingWrapper(PythonLogger("ranked"), SimpleNamespace(rank=rank))
        logger.info(f"of {rank}")
        assert logger.logger is logging.getLogger("physicsnemo.ranked")
    assert caplog.messages == ["of 0"]
    with pytest.raises(AttributeError, match="whisper"):
        logger.whisper("of 1")


@pytest.mark.parametrize(
    ("setup", "shown"),
    [
        ("", "INFO physicsnemo.train: begun\n"),
        ("logging.basicConfig(format='%(message)s!')", "begun!\n"),
        ("logging.getLogger('physicsnemo.train').setLevel('ERROR')", ""),
    ],
    ids=["as it is", "set up", "quiet"],
)
def test_where_messages_go(setup, shown):
    code = (
        f"import logging\n{setup}\nfrom physicsnemo.utils import PythonLogger\n"
        "PythonLogger('train')\nPythonLogger('train').info('begun')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr[-len(shown) :] == shown
    assert done.stderr.count("begun") == bool(shown)


def test_on_a_terminal_rich_shows_messages(monkeypatch):
    from rich.logging import RichHandler

    from physicsnemo.utils.logging import console

    monkeypatch.setattr(
        sys, "stderr", SimpleNamespace(isatty=lambda: True, write=lambda text: None)
    )
    assert isinstance(console._console(), RichHandler)
