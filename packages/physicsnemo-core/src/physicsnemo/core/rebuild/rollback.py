# SPDX-License-Identifier: Apache-2.0
"""Rollback: models, optimizers and the like are as they were if loading fails halfway."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.pytree import map_leaves


@contextmanager
def rollback_on_failure(
    models: Iterable[nn.Module] = (), stateful: Iterable[Any] = ()
) -> Iterator[None]:
    """Roll back what the block has changed if it raises.

    Parameters
    ----------
    models
        Their weights and buffers are copied in the meantime.
    stateful
        Optimizers, schedules, scalers: what has ``state_dict`` and ``load_state_dict``. Their
        tensors are not copied, since loading puts others in their place.
    """
    snapshots: list[_Weights | _State] = [*map(_Weights, models), *map(_State, stateful)]
    try:
        yield
    except BaseException:
        for snapshot in snapshots:
            snapshot.restore()
        raise


class _Weights:
    """The tensors of a model, by value and by identity, and its extra state."""

    def __init__(self, model: nn.Module) -> None:
        self._tables: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (table, dict(table))
            for module in model.modules()
            for table in (module._parameters, module._buffers)
        ]
        tensors = chain(model.parameters(), model.buffers())
        sized = (tensor for tensor in tensors if not nn.parameter.is_lazy(tensor))
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in sized]
        self._extra = [
            (module, copy.deepcopy(module.get_extra_state()))
            for module in model.modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        ]

    @torch.no_grad()
    def restore(self) -> None:
        for table, before in self._tables:
            table.clear()
            table.update(before)
        for tensor, value in self._tensors:
            tensor.copy_(value)
        for module, state in self._extra:
            module.set_extra_state(state)


class _State:
    """The state of an optimizer, a schedule or a scaler."""

    def __init__(self, owner: Any) -> None:
        self._owner, self._attributes = owner, dict(vars(owner))
        self._state = map_leaves(owner.state_dict(), _same)

    def restore(self) -> None:
        with suppress(Exception):  # reaches what lies deeper, as the parts of a chain of schedules
            self._owner.load_state_dict(self._state)
        attributes = vars(self._owner)
        attributes.clear()
        attributes.update(self._attributes)


def _same(value: Any) -> Any:
    return value if isinstance(value, Tensor) else copy.copy(value)
