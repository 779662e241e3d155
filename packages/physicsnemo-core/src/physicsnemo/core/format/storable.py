# SPDX-License-Identifier: Apache-2.0
"""Which state dicts a file can hold: checked before one is written, and again when one is read.

A state is a dictionary of tensors by text. Values may be plain data too, as ``get_extra_state``
returns them: what JSON holds, with tensors wherever JSON has a value.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import torch

from physicsnemo.core.format.records import MAX_NAME
from physicsnemo.core.format.sharded import is_sharded

_MAX_DEPTH = 50
_MAX_VALUES = 100_000  # that are no tensors
_MAX_INTEGER = 2_000  # bits
_SCALARS = (NoneType, bool, int, float, str)
_TENSORS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
SPARSE_LAYOUTS = (
    torch.sparse_coo,
    torch.sparse_csr,
    torch.sparse_csc,
    torch.sparse_bsr,
    torch.sparse_bsc,
)

Leaf = Callable[[Any], str | None]  # says what is wrong with a tensor; None if nothing is


def check_storable(state: Mapping[str, Any], owner: str) -> None:
    """Check that a file can hold a state, before anything is written.

    Parameters
    ----------
    state
        As ``state_dict`` returns it.
    owner
        Whose state it is, for the error text.

    Raises
    ------
    TypeError
        If not; the text names the key, and says what to do.
    """
    if problem := problem_of(state, torch.Tensor, problem_of_tensor):
        raise TypeError(f"{owner} cannot be saved: {problem}")


def problem_of(state: Any, tensor: type | tuple[type, ...], leaf: Leaf) -> str | None:
    """Return what no file can hold of a state, None if it can hold all of it.

    Parameters
    ----------
    state
        The state; checked with the versions of modules that state dicts carry in ``_metadata``.
    tensor, leaf
        What stands for tensors, and what finds fault with one.
    """
    if not isinstance(state, Mapping):
        return f"a state is a dictionary of tensors, got a {_name(type(state))}"
    try:
        walk = _Walk(tensor, leaf)
        for key, value in state.items():
            walk.visit(value, repr(key)[: MAX_NAME + 2], 0)
            walk.check_key(key, "the state")
        walk.visit(dict(getattr(state, "_metadata", {})), "its attribute _metadata", 0)
    except TypeError as error:
        return str(error)
    return None


class _Walk:
    """One walk through a state, which counts what it meets."""

    def __init__(self, tensor: type | tuple[type, ...], leaf: Leaf) -> None:
        self._tensor, self._leaf, self._count = tensor, leaf, 0

    def visit(self, value: Any, where: str, depth: int) -> None:
        if isinstance(value, self._tensor):
            if problem := self._leaf(value):
                raise TypeError(f"{where} {problem}")
            return
        self._count += 1
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise TypeError(
                f"{where} is nested more than {_MAX_DEPTH} deep, or the state has more than "
                f"{_MAX_VALUES} values besides its tensors: make tensors of them"
            )
        if type(value) in (dict, OrderedDict):
            for key, item in value.items():
                self.check_key(key, where)
                self.visit(item, f"{where}[{key!r}]", depth + 1)
        elif type(value) in (list, tuple):
            for place, item in enumerate(value):
                self.visit(item, f"{where}[{place}]", depth + 1)
        elif type(value) not in _SCALARS:
            raise TypeError(
                f"{where} is a {_name(type(value))}, which is no data: a state holds tensors, and "
                f"from get_extra_state numbers, text, None, or lists and dictionaries of those"
            )
        elif type(value) is int and value.bit_length() > _MAX_INTEGER:
            raise TypeError(f"{where} is an integer of more than {_MAX_INTEGER} bits")

    def check_key(self, key: Any, where: str) -> None:
        if type(key) is not str:
            raise TypeError(f"a key of {where} is a {_name(type(key))}, expected text")
        if len(key) > MAX_NAME:
            raise TypeError(
                f"a key of {where} has {len(key)} characters, at most {MAX_NAME} are allowed: "
                f"{key[:60]!r}..."
            )


def strided_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what a tensor consists of in memory: itself, or the parts of a sparse one."""
    if tensor.layout is torch.strided:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()


def problem_of_tensor(tensor: torch.Tensor) -> str | None:
    """Return why no file can hold a tensor, None if it can."""
    kind = type(tensor)
    if torch.nn.parameter.is_lazy(tensor):
        return "is not initialized: call the model once, so that its sizes are known, then save it"
    if is_sharded(tensor):
        return None
    if kind.__module__.startswith("torch.distributed"):
        return (
            f"is a {_name(kind)}, of which this process has only a part: shard the model with "
            "physicsnemo.distributed.shard or torch.distributed.fsdp.fully_shard instead, whose "
            "tensors are gathered"
        )
    if kind not in _TENSORS:
        return f"is a {_name(kind)}, a subclass of tensors: make a plain tensor of it first"
    if tensor.is_meta:
        return "lies on the meta device, where it has no numbers: load weights first"
    if tensor.is_quantized:
        return "is quantized: save the model before it is quantized, or call dequantize()"
    if tensor.is_nested:
        return "is a nested tensor: pad it with torch.nested.to_padded_tensor, or split it"
    if tensor.layout not in (torch.strided, *SPARSE_LAYOUTS):
        return f"has the layout {tensor.layout}: convert it with to_dense()"
    return None


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
