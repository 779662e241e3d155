# SPDX-License-Identifier: Apache-2.0
"""Kernels over many tensors at once, that fill a GPU for small models too.

PyTorch's fused optimizers, and its check of gradients for overflow, give 65536 numbers to each
block of threads: a model of a few hundred thousand parameters then keeps a few of more than a
hundred multiprocessors busy, for as long as one needs for 65536 numbers. The kernels here give 2048
to each. They find the tensors by a table of addresses; so they are for recordings, whose tensors
lie where they lie, and whose tables are written once.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.overrides import TorchFunctionMode

from physicsnemo.core.capture.kernels import Kernel, compile_kernels
from physicsnemo.core.capture.optimizers import parameters
from physicsnemo.core.capture.promotion import are_aligned

_BLOCK, _THREADS = 2048, 512
_LARGEST = 2**25  # numbers in all: of more, PyTorch's own blocks are enough to fill any GPU

# Places in tables, as the kernels' structures have them: of the settings, and of a row for each
# block.
_SETTINGS, _ADAM_WIDTH, _CHECK_WIDTH = 10, 6, 2
_SHARED = ("beta1", "beta2", "eps", "weight_decay", "maximize")


class ManyTensors:
    """Kernels over many tensors in recordings of a step, and their tables.

    A table is written once, after the capture. So it cannot lie in the memory of the graph, where
    each replay writes what comes before: there is room for it beforehand.

    Parameters
    ----------
    logger
        Where it is said if kernels do not run.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._room: Tensor | None = None
        self._unwritten: list[tuple[Tensor, Tensor]] = []

    def prepare(self, optimizer: Optimizer, *, checked: bool) -> None:
        """Compile what a step of an optimizer needs, and make room for tables of one recording.

        Parameters
        ----------
        optimizer
            The optimizer.
        checked
            Whether gradients are checked for overflow. If not, there is a kernel for Adam alone.
        """
        self._room = None
        advanced = parameters(optimizer)
        devices = {parameter.device for parameter in advanced}
        if not (checked or isinstance(optimizer, Adam)) or len(devices) != 1:
            return
        (device,) = devices
        if is_usable(device, self._logger):
            blocks = int(_number_of_blocks(advanced).sum())
            size = len(optimizer.param_groups) * _SETTINGS + blocks * (_ADAM_WIDTH + _CHECK_WIDTH)
            self._room = torch.empty(size, dtype=torch.int64, device=device)

    @contextmanager
    def active(self) -> Iterator[list[Tensor]]:
        """Replace PyTorch's kernels while a stream is captured, where these can stand for them.

        Yields the tables, which must live as long as the recording, and have no values before
        :meth:`write`.
        """
        tables: list[Tensor] = []
        if self._room is None or not torch.cuda.is_current_stream_capturing():
            yield tables
            return

        def table_of(values: Tensor) -> Tensor | None:
            if self._room is None or len(values) > len(self._room):
                return None
            table, self._room = self._room.tensor_split([len(values)])
            tables.append(table)
            self._unwritten.append((table, values))
            return table

        with _Replacement(table_of):
            yield tables

    def write(self) -> None:
        """Write the tables that were made since: a copy is no part of a capture."""
        for table, values in self._unwritten:
            table.copy_(values)
        self._unwritten.clear()


@dataclass(frozen=True)
class AdamSettings:
    """Settings of a step of Adam, as :class:`torch.optim.Adam` has them.

    Attributes
    ----------
    beta1, beta2, eps, weight_decay, decoupled, maximize
        Of a parameter group; ``decoupled`` is weight decay as AdamW has it.
    scaled
        Whether gradients are to be divided by a scale.
    checked
        Whether there is a note of overflow.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    maximize: bool = False
    scaled: bool = False
    checked: bool = False

    def row(self) -> Tensor:
        """Return them as the kernel reads them, double-precision numbers stored as integers."""
        powers = [math.log2(beta) if beta else -math.inf for beta in (self.beta1, self.beta2)]
        decays = (self.weight_decay * (not self.decoupled), self.weight_decay * self.decoupled)
        rest = (-1.0 if self.maximize else 1.0, float(self.scaled), float(self.checked))
        values = [*powers, self.beta1, self.beta2, self.eps, *decays, *rest]
        return torch.tensor(values, dtype=torch.float64).view(torch.int64)


@cache
def is_usable(device: torch.device, logger: logging.Logger) -> bool:
    """Return whether kernels run on a device, which takes a GPU and a compiler for it.

    What the compiler meets is logged once for each logger.
    """
    if device.type != "cuda":
        return False
    try:
        numbers = [[torch.zeros(1, device=device)] for _ in range(4)]
        one = torch.ones((), device=device)
        run_adam(adam_table(numbers, [one], AdamSettings()).to(device), one, None, None)
        run_check(check_table(numbers[0]).to(device), torch.zeros_like(one), one)
    except Exception as error:  # whatever the compiler meets
        logger.warning("optimizers run PyTorch's kernels: %s: %s", type(error).__name__, error)
        return False
    return True


def adam_table(
    lists: Sequence[Sequence[Tensor]], counts: Sequence[Tensor], settings: AdamSettings
) -> Tensor:
    """Return the table of a step of Adam: its settings, then a row for each block.

    Parameters
    ----------
    lists
        Parameters, gradients, and the moving averages of these and of their squares.
    counts
        Of steps, one for each parameter.
    settings
        The settings.
    """
    *addresses, size = _blocks(*lists)
    count = torch.tensor([tensor.data_ptr() for tensor in counts])
    count = count.repeat_interleave(_number_of_blocks(lists[0]))
    rows = torch.stack([*addresses, count, size], dim=1)
    return torch.cat([settings.row(), rows.flatten()])


def check_table(tensors: Sequence[Tensor]) -> Tensor:
    """Return the table of a check: for each block the address, and how many numbers there are."""
    return torch.stack(_blocks(tensors), dim=1).flatten()


def run_adam(table: Tensor, rate: Tensor, scale: Tensor | None, found: Tensor | None) -> None:
    """Make a step of Adam, whose counts have been increased.

    Parameters
    ----------
    table
        Of :func:`adam_table`.
    rate
        The learning rate.
    scale
        What gradients are divided by, if the settings say so.
    found
        Not 0 if gradients overflowed, so that nothing is to change, if they say that it is noted.
    """
    adam, _ = _kernels(table.device)
    settings, rows = table.tensor_split([_SETTINGS])
    adam.launch(rows.numel() // _ADAM_WIDTH, settings, rows, rate, scale, found)


def run_check(table: Tensor, found: Tensor, factor: Tensor) -> None:
    """Multiply numbers by a factor, and set ``found`` to 1 if any is infinite or not a number."""
    _, check = _kernels(table.device)
    check.launch(table.numel() // _CHECK_WIDTH, table, found, factor)


@cache
def _kernels(device: torch.device) -> list[Kernel]:
    source = files("physicsnemo.core.capture").joinpath("many_tensors.cu").read_text("utf-8")
    each = _BLOCK // _THREADS
    return compile_kernels(source, ("adam", "check"), device, threads=_THREADS, EACH=each)


class _Replacement(TorchFunctionMode):
    """Call these kernels instead of PyTorch's."""

    def __init__(self, table_of: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self._table_of = table_of

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch._fused_adam_, torch._fused_adamw_):
            *lists, _, counts = args
            rate, scale, found = (kwargs[name] for name in ("lr", "grad_scale", "found_inf"))
            if not kwargs["amsgrad"] and type(rate) is Tensor and _suit(*lists):
                settings = AdamSettings(
                    **{name: kwargs[name] for name in _SHARED},
                    decoupled=func is torch._fused_adamw_,
                    scaled=scale is not None,
                    checked=found is not None,
                )
                table = self._table_of(adam_table(lists, counts, settings))
                if table is not None:
                    return run_adam(table, rate, scale, found)
        elif func is torch._amp_foreach_non_finite_check_and_unscale_ and _suit(args[0]):
            table = self._table_of(check_table(args[0]))
            if table is not None:
                return run_check(table, *args[1:])
        return func(*args, **kwargs)


def _suit(*lists: Sequence[Tensor]) -> bool:
    """Return whether tensors are ordinary ones in single precision, and not too many."""
    return sum(tensor.numel() for tensor in lists[0]) <= _LARGEST and all(
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dtype == torch.float32
        and _is_dense(tensor)
        and are_aligned(first, tensor)
        for tensors in lists
        for tensor, first in zip(tensors, lists[0], strict=True)
    )


def _is_dense(tensor: Tensor) -> bool:
    """Return whether numbers lie side by side in memory, in whatever order."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.numel() == 0 or last + 1 == tensor.numel()


def _number_of_blocks(tensors: Sequence[Tensor]) -> Tensor:
    return torch.tensor([-(-tensor.numel() // _BLOCK) for tensor in tensors])


def _blocks(*lists: Sequence[Tensor]) -> list[Tensor]:
    """Return for each block the address in a tensor of each list, and how many numbers follow."""
    number = _number_of_blocks(lists[0])
    size = torch.tensor([tensor.numel() for tensor in lists[0]]).repeat_interleave(number)
    before = (number.cumsum(0) - number).repeat_interleave(number)
    start = (torch.arange(len(size)) - before) * _BLOCK
    addresses = [
        torch.tensor([tensor.data_ptr() for tensor in tensors]).repeat_interleave(number)
        + 4 * start
        for tensors in lists
    ]
    return [*addresses, (size - start).clamp(max=_BLOCK)]
