# SPDX-License-Identifier: Apache-2.0
"""The numbers of an epoch: averaged over its mini-batches and processes, logged when it ends."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import torch

from physicsnemo.core.ranks import Ranks
from physicsnemo.utils.logging.console import PythonLogger

__all__ = ["LaunchLogger"]

Number = float | torch.Tensor
_ROWS = 20  # of a profile


class LaunchLogger:
    """Logs an epoch of a training, or of a validation, when its block ends.

    What :meth:`log_minibatch` is given is averaged over all mini-batches of all processes, which
    must therefore leave the block together; rank 0 logs it. Tensors stay where they are until
    then, so no mini-batch waits for a GPU. After an exception nothing is logged.

    Parameters
    ----------
    name_space
        What the numbers are of, such as ``"train"``.
    epoch
        Its number.
    num_mini_batch
        How many mini-batches there will be, for messages on the way.
    profile
        Whether to log where the time went, by PyTorch's profiler.
    mini_batch_log_freq
        After how many mini-batches to log the averages on the way; 0 for never.
    epoch_alert_freq
        After how many epochs to send an alert by Weights & Biases, if that is used.

    Raises
    ------
    ValueError
        If a frequency is negative.

    Examples
    --------
    >>> with LaunchLogger("train", epoch=3, num_mini_batch=2) as log:
    ...     for loss in (0.5, 0.25):
    ...         log.log_minibatch({"loss": loss})
    ...     log.log_epoch({"learning rate": 1e-3})
    >>> log.values
    {'loss': 0.375, 'learning rate': 0.001}
    """

    _trackers: ClassVar[dict[str, Any]] = {}  # modules by their names

    def __init__(
        self,
        name_space: str,
        epoch: int = 1,
        num_mini_batch: int | None = None,
        profile: bool = False,
        mini_batch_log_freq: int = 100,
        epoch_alert_freq: int | None = None,
    ) -> None:
        if mini_batch_log_freq < 0 or (epoch_alert_freq or 0) < 0:
            raise ValueError(
                f"expected frequencies of 0 or more, got mini_batch_log_freq="
                f"{mini_batch_log_freq} and epoch_alert_freq={epoch_alert_freq}"
            )
        self.name_space, self.epoch, self.num_mini_batch = name_space, epoch, num_mini_batch
        self.profile, self.mini_batch_log_freq = profile, mini_batch_log_freq
        self.epoch_alert_freq = epoch_alert_freq
        self.values: dict[str, float] = {}
        self._logger = PythonLogger()
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    @classmethod
    def initialize(cls, use_wandb: bool = False, use_mlflow: bool = False) -> None:
        """Choose where numbers go besides the log, for all epochs from now on.

        Parameters
        ----------
        use_wandb
            Whether to the run of Weights & Biases that ``wandb.init`` has begun.
        use_mlflow
            Whether to the run of MLflow that ``mlflow.start_run`` has begun.

        Raises
        ------
        ImportError
            If the package is not installed.
        RuntimeError
            If there is no run; where there are several processes, rank 0 alone needs one.
        """
        chosen = [name for name, use in (("wandb", use_wandb), ("mlflow", use_mlflow)) if use]
        trackers = {name: import_module(name) for name in chosen}
        if Ranks().rank == 0:
            for name, tracker in trackers.items():
                if not _HAS_RUN[name](tracker):
                    raise RuntimeError(f"{name} has no run: call {_BEGINS[name]} before")
        cls._trackers = trackers

    def log_minibatch(self, losses: Mapping[str, Number]) -> None:
        """Count a mini-batch in.

        Parameters
        ----------
        losses
            Numbers by their names, or tensors with one element.
        """
        self._count += 1
        for name, value in losses.items():
            number = torch.as_tensor(value).detach().float().reshape(())
            self._sums[name] = self._sums[name] + number if name in self._sums else number
        if self.mini_batch_log_freq and self._count % self.mini_batch_log_freq == 0:
            self._log_progress()

    def log_epoch(self, losses: Mapping[str, Number]) -> None:
        """Log numbers of the epoch, those of this process, when it ends."""
        self.values.update({name: float(value) for name, value in losses.items()})

    def log_figure(
        self,
        figure: Any,
        artifact_file: str = "artifact",
        plot_dir: str = "./",
        log_to_file: bool = False,
    ) -> None:
        """Keep a figure of Matplotlib.

        Parameters
        ----------
        figure
            The figure.
        artifact_file
            What to call it; a file gets the number of the epoch and ``.png`` too.
        plot_dir
            Folder for the file.
        log_to_file
            Whether to write one, besides what :meth:`initialize` has chosen.
        """
        if Ranks().rank != 0:
            return
        name = f"{artifact_file}_epoch_{self.epoch}.png"
        if log_to_file:
            Path(plot_dir).mkdir(parents=True, exist_ok=True)
            figure.savefig(Path(plot_dir, name))
        if "wandb" in self._trackers:
            wandb = self._trackers["wandb"]
            wandb.log({artifact_file: wandb.Image(figure)})
        if "mlflow" in self._trackers:
            self._trackers["mlflow"].log_figure(figure, name)

    def __enter__(self) -> Self:
        self._stack, self._profiler = ExitStack(), None
        if self.profile:
            self._profiler = self._stack.enter_context(torch.profiler.profile())
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if kind is not None:
            return
        means = self._means()
        seconds = time.perf_counter() - self._began
        self.values = {**means, **self.values}
        if Ranks().rank == 0:
            self._log_end(seconds)

    def _means(self) -> dict[str, float]:
        """Return the averages over all mini-batches of all processes."""
        if not self._count:
            return {}
        own = {name: float(total) for name, total in self._sums.items()}
        parts = Ranks().gather((self._count, own))
        count = sum(number for number, _ in parts)
        return {name: sum(sums.get(name, 0.0) for _, sums in parts) / count for name in own}

    def _log_progress(self) -> None:
        if Ranks().rank == 0:
            total = f" of {self.num_mini_batch}" if self.num_mini_batch else ""
            means = {name: float(value) / self._count for name, value in self._sums.items()}
            place = f"{self.name_space}, epoch {self.epoch}, mini-batch {self._count}{total}"
            self._logger.info(f"{place}: {_listed(means)}")

    def _log_end(self, seconds: float) -> None:
        each = f", {1000 * seconds / self._count:.1f} ms a mini-batch" if self._count else ""
        place = f"{self.name_space}, epoch {self.epoch}"
        self._logger.info(f"{place}: {_listed(self.values)}; {seconds:.2f} s{each}")
        if self._profiler is not None:
            self._logger.info(self._profiler.key_averages().table(row_limit=_ROWS))
        named = {f"{self.name_space}/{name}": value for name, value in self.values.items()}
        if "wandb" in self._trackers:
            self._trackers["wandb"].log({**named, "epoch": self.epoch})
            if self.epoch_alert_freq and self.epoch % self.epoch_alert_freq == 0:
                self._trackers["wandb"].alert(title=place, text=_listed(self.values))
        if "mlflow" in self._trackers:
            self._trackers["mlflow"].log_metrics(named, step=self.epoch)


_HAS_RUN: dict[str, Callable[[Any], bool]] = {
    "wandb": lambda wandb: wandb.run is not None,
    "mlflow": lambda mlflow: mlflow.active_run() is not None,
}
_BEGINS = {"wandb": "wandb.init", "mlflow": "mlflow.start_run"}


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in values.items()) or "no numbers"
