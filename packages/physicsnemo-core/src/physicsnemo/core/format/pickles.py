# SPDX-License-Identifier: Apache-2.0
"""The pickles that ``torch.save`` writes, read as data by an interpreter of their own.

It knows the opcodes of pickle protocol 2 that states consist of, calls nothing but what it is
given, and makes nothing larger than the text that asks for it. Keys are text alone, since a file
can choose numbers and tuples whose hashes collide.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

_MAX_NAME = 200  # bytes of what a pickle imports
_MAX_STACK = 10_000  # values; a pickler writes dictionaries in batches of 1000
_PROTOCOL = 2


def read_pickle(
    data: bytes,
    start: int,
    names: Mapping[str, Any],
    load: Callable[[Any], Any],
) -> tuple[Any, int]:
    """Return the value of a pickle, and where it ends.

    Parameters
    ----------
    data, start
        What holds the pickle, and where it begins.
    names
        What each name that it may import stands for; those that are functions may be called.
    load
        Returns what a persistent identifier stands for.

    Raises
    ------
    ValueError, LookupError, TypeError, struct.error
        If it holds anything else, or is damaged.
    """
    machine = _Machine(data, start, names, load)
    return machine.run(), machine.place


class _Machine:
    """A stack machine; ``place`` is that of the next opcode."""

    def __init__(
        self, data: bytes, start: int, names: Mapping[str, Any], load: Callable[[Any], Any]
    ) -> None:
        self.place = start
        self._data, self._names, self._load = data, names, load
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what is under each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self._take(1)[0]) != pickle.STOP[0]:
            if code not in _OPCODES:
                raise ValueError(f"Unsupported opcode {code}")
            if len(self._stack) + len(self._below) > _MAX_STACK:
                raise ValueError(f"more than {_MAX_STACK} values wait for a place")
            _OPCODES[code](self)
        return self._stack.pop()

    def _take(self, count: int) -> bytes:
        taken = self._data[self.place : self.place + count]
        if len(taken) < count:
            raise ValueError("the pickle is cut off")
        self.place += count
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self.place, self.place + _MAX_NAME)
        if end < 0:
            raise ValueError(f"a name has more than {_MAX_NAME} bytes")
        return self._take(end - self.place + 1)[:-1].decode()

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def protocol(self) -> None:
        if (protocol := self._take(1)[0]) != _PROTOCOL:
            raise ValueError(f"Unsupported pickle protocol {protocol}, expected {_PROTOCOL}")

    def name(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in self._names:
            raise ValueError(f"Unsupported global {name!r}: a state is made of tensors and data")
        self._stack.append(self._names[name])

    def call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        # What a pickle puts on the stack itself is data, so a function is one of those given.
        if type(arguments) is not tuple or not callable(function):
            raise ValueError("a call of what is no function")
        self._stack.append(function(*arguments))

    def build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is not OrderedDict or type(state) is not dict:
            raise ValueError("attributes of what has none")
        if "_metadata" in state:  # the versions of modules, which their ways to load depend on
            vars(target)["_metadata"] = state["_metadata"]

    def persistent(self) -> None:
        self._stack.append(self._load(self._stack.pop()))

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def tuple_since_mark(self) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise ValueError("a tuple of what is not there")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def append(self) -> None:
        item = self._stack.pop()
        self._extend([item])

    def appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("an item for what is no list")
        self._stack[-1].extend(items)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def set_items(self) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise ValueError("a key for what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                raise ValueError(f"a key is of type {type(key).__name__}, expected text")
            target[key] = value

    def text(self) -> None:
        self._stack.append(self._take(self._number("<I")).decode("utf-8", "surrogatepass"))

    def long(self) -> None:
        self._stack.append(pickle.decode_long(self._take(self._take(1)[0])))

    def put(self, form: str) -> None:
        self._memo[self._number(form)] = self._stack[-1]

    def get(self, form: str) -> None:
        self._stack.append(self._memo[self._number(form)])

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def push_number(self, form: str) -> None:
        self._stack.append(self._number(form))


_OPCODES: dict[int, Callable[[_Machine], None]] = {
    code[0]: run
    for code, run in {
        pickle.PROTO: _Machine.protocol,
        pickle.GLOBAL: _Machine.name,
        pickle.REDUCE: _Machine.call,
        pickle.BUILD: _Machine.build,
        pickle.BINPERSID: _Machine.persistent,
        pickle.MARK: _Machine.mark,
        pickle.TUPLE: _Machine.tuple_since_mark,
        pickle.TUPLE1: lambda machine: machine.tuple_of(1),
        pickle.TUPLE2: lambda machine: machine.tuple_of(2),
        pickle.TUPLE3: lambda machine: machine.tuple_of(3),
        pickle.APPEND: _Machine.append,
        pickle.APPENDS: _Machine.appends,
        pickle.SETITEM: _Machine.set_item,
        pickle.SETITEMS: _Machine.set_items,
        pickle.BINUNICODE: _Machine.text,
        pickle.LONG1: _Machine.long,
        pickle.BINPUT: lambda machine: machine.put("<B"),
        pickle.LONG_BINPUT: lambda machine: machine.put("<I"),
        pickle.BINGET: lambda machine: machine.get("<B"),
        pickle.LONG_BINGET: lambda machine: machine.get("<I"),
        pickle.NONE: lambda machine: machine.push(None),
        pickle.NEWTRUE: lambda machine: machine.push(True),
        pickle.NEWFALSE: lambda machine: machine.push(False),
        pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
        pickle.EMPTY_LIST: lambda machine: machine.push([]),
        pickle.EMPTY_DICT: lambda machine: machine.push({}),
        pickle.BININT: lambda machine: machine.push_number("<i"),
        pickle.BININT1: lambda machine: machine.push_number("<B"),
        pickle.BININT2: lambda machine: machine.push_number("<H"),
        pickle.BINFLOAT: lambda machine: machine.push_number(">d"),
    }.items()
}
