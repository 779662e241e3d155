# SPDX-License-Identifier: Apache-2.0
"""Load mutated checkpoints: each loads or raises ``CheckpointError``, in bounded time and memory.

``python -m tools.fuzz --count 20000 --seed 0`` prints how many files got how far.
"""

import argparse
import copy
import io
import json
import random
import resource
import sys
import tarfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import open_records
from physicsnemo.core.rebuild.example import check_example
from physicsnemo.core.rebuild.inspection import inspect_open, inspect_tensors

SECONDS = 10.0  # for one file; the slowest build thousands of modules before they are refused
GIGABYTES = 4  # of address space, beyond what the process has at the start
CHARACTERS = 50_000  # of an error text, each escaped
STAGES = {  # what from_checkpoint was doing when it refused a file
    "open_checkpoint": "container",
    "__enter__": "container",
    "Blueprint": "arguments",
    "__init__": "arguments",
    "load_model": "model",
}
NUMBERS = [0, 1, -1, 7, 2**31 - 1, 2**31, 2**62, 2**63, 2**64, 10**12, 0.5, -0.0, 1e308]
INFINITE = [float("nan"), float("inf"), -float("inf")]
OTHERS: list[Any] = [None, True, "", "x", "relu", [], {}, [[]], {"a": 1}, *INFINITE]
NAMES = [
    "os.system",
    "posixpath",
    "builtins.eval",
    "torch.nn.Linear",
    "modulus.models.fno",
    "\ud800",
    "\x1b[2J",
    "x." * 5_000,
]

Parts = dict[str, bytes]


class Pair(Module):
    """Two nested models, for files with more than one record."""

    def __init__(self, first: Module, others: list[Module]) -> None:
        super().__init__()
        self.first, self.others = first, torch.nn.ModuleList(others)


@dataclass
class Report:
    """What became of the files."""

    files: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __str__(self) -> str:
        count = sum(self.files.values())
        deep = count - self.files["bytes"]
        lines = [f"{count} files, {deep} of them with a valid container"]
        lines += [f"  mutated in {kind}: {n}" for kind, n in sorted(self.files.items())]
        lines += [f"  ended in {stage}: {n}" for stage, n in sorted(self.ends.items())]
        lines += [f"  slowest: {self.slowest:.2f} s", *self.failures[:5]]
        return "\n".join(
            [*lines, f"{count - len(self.failures)} passed, {len(self.failures)} failed"]
        )


def fuzz(count: int, seed: int, folder: Path) -> Report:
    """Load so many mutated files, one after the other.

    Parameters
    ----------
    count
        How many.
    seed
        Of the mutations.
    folder
        Where to write them.
    """
    chance, report, path = random.Random(seed), Report(), folder / "mutated.mdlus"
    originals = [_parts(model, folder) for model in _models()]
    originals.append(_parts(_small(), folder, (torch.ones(2, 3),)))
    kinds = list(MUTATORS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        path.write_bytes(MUTATORS[kind](chance, chance.choice(originals)))
        report.files[kind] += 1
        _load(path, f"{kind}, file {number} of seed {seed}", report)
    return report


def _load(path: Path, name: str, report: Report) -> None:
    start = time.perf_counter()
    try:
        with suppress(CheckpointError), open_records(path) as checkpoint:
            inspect_open(checkpoint)
            inspect_tensors(checkpoint)
            if checkpoint.has_example:
                check_example(_small(), checkpoint.example(), checkpoint.name)
        Module.from_checkpoint(path)
    except CheckpointError as error:
        report.ends[_stage(error)] += 1
        if len(str(error)) > CHARACTERS or not str(error).isprintable():
            report.failures.append(f"{name} has the error text {str(error)!r}")
    except BaseException:  # whatever else comes out of a file is the bug that is looked for
        report.failures.append(f"{name}:\n{traceback.format_exc()}")
    else:
        report.ends["loaded"] += 1
    seconds = time.perf_counter() - start
    report.slowest = max(report.slowest, seconds)
    if seconds > SECONDS:
        report.failures.append(f"{name} took {seconds:.1f} s")


def _stage(error: CheckpointError) -> str:
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if "_tensors" in names:
        return "weights"
    return STAGES[names[names.index("from_checkpoint") + 1]]


def _models() -> Iterator[Module]:
    from physicsnemo.registry import ModelRegistry

    torch.manual_seed(0)
    dense = ModelRegistry().factory("FullyConnected")(3, 4, 2, num_layers=2)
    yield dense
    yield ModelRegistry().factory("FNO")(1, 1, latent_channels=4, num_fno_layers=1, num_fno_modes=2)
    yield Module.from_torch(torch.nn.Linear)(3, 2)
    yield Pair(dense, [Pair(dense, []), Module.from_torch(torch.nn.Linear)(1, 1)])


@cache
def _small() -> Module:
    """Return a model whose file holds an example."""
    from physicsnemo.registry import ModelRegistry

    model: Module = ModelRegistry().factory("FullyConnected")(3, 4, 2, num_layers=2)
    return model


def _parts(model: Module, folder: Path, example: tuple[Any, ...] | None = None) -> Parts:
    model.save(folder / "original.mdlus", example=example)
    with tarfile.open(folder / "original.mdlus") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def _tar(parts: Parts) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, part in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(part)
            archive.addfile(info, io.BytesIO(part))
    return content.getvalue()


def _zip(parts: Parts) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return content.getvalue()


def mutate_bytes(chance: random.Random, parts: Parts) -> bytes:
    """Change bytes anywhere in the file."""
    return _scramble(chance, chance.choice([_tar, _zip])(parts))


def mutate_headers(chance: random.Random, parts: Parts) -> bytes:
    """Change a member's header in an otherwise valid tar, its checksum made right again."""
    content = bytearray(_tar(parts))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        start = chance.choice(archive.getmembers()).offset
    name, mode, size, kind = slice(0, 100), slice(100, 108), slice(124, 136), slice(156, 157)
    header = bytearray(content[start : start + 512])
    match chance.randrange(6):
        case 0:
            names = [
                b"../model.pt",
                b"/args.json",
                b"a/model.pt",
                b"model.pt",
                b"args.json",
                b"\xff",
            ]
            header[name] = chance.choice(names).ljust(100, b"\0")
        case 1:
            header[size] = b"%011o\0" % chance.choice([0, 1, 511, 2**20, 2**32, 8**11 - 1])
        case 2:
            header[size] = bytes([128]) + chance.randbytes(11)
        case 5:  # below zero, to be read for ever
            header[size] = (-chance.choice([512, 1024, 2048])).to_bytes(12, "big", signed=True)
        case 3:
            header[kind] = bytes([chance.choice(b"0123456789gxLKSV\0")])
        case _:
            header[mode] = chance.randbytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[start : start + 512] = header
    return bytes(content)


def mutate_json(chance: random.Random, parts: Parts) -> bytes:
    """Change the arguments or the metadata, mostly into valid JSON."""
    member = chance.choice(["args.json", "args.json", "args.json", "metadata.json"])
    if chance.random() < 0.2:
        return _wrap(chance, parts | {member: _scramble(chance, parts[member])})
    if chance.random() < 0.05:
        depth = chance.choice([10, 1000, 10**5])
        return _wrap(chance, parts | {member: b'{"a":' * depth + b"1" + b"}" * depth})
    content = json.loads(parts[member])
    for _ in range(chance.randint(1, 2)):
        _change_somewhere(chance, content)
    return _wrap(chance, parts | {member: json.dumps(content).encode()})


def mutate_pickle(chance: random.Random, parts: Parts) -> bytes:
    """Change opcodes and operands of the pickle inside the weights."""
    return _with_record(chance, parts, "/data.pkl", lambda record: _scramble(chance, record))


def mutate_into_traps(chance: random.Random, parts: Parts) -> bytes:
    """Put a pickle into the weights that asks for time or memory without end, or for code."""
    size = chance.choice([10, 1000, 10**5])
    trap = chance.choice(
        [
            b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x70\x01\x85R",
            b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R",
            b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R",
            b"}" + b")" + b"\x85" * size + b"Ns",
            b"]" * size,
            b"(" * size,
            b"}X\x01\x00\x00\x00a]" + b"]a" * size + b"s",
            b"}X\x01\x00\x00\x00a]q\x00" + b"]h\x00ah\x00aq\x00" * 64 + b"s",
            b"}X\x01\x00\x00\x00a]q\x00h\x00as",
            b"c" + b"x" * size + b"\nx\n",
        ]
    )
    return _with_record(chance, parts, "/data.pkl", lambda record: b"\x80\x02" + trap + b".")


def mutate_storage(chance: random.Random, parts: Parts) -> bytes:
    """Change the length of a storage, or numbers in the pickle that describe it."""
    if chance.random() < 0.5:
        return _with_record(chance, parts, "/data/", lambda record: _resize(chance, record))
    return _with_record(chance, parts, "/data.pkl", lambda record: _change_numbers(chance, record))


def mutate_records(chance: random.Random, parts: Parts) -> bytes:
    """Change bytes of the archive that the weights are, or compress it."""
    if chance.random() < 0.1:
        return _with_record(chance, parts, "/data.pkl", lambda record: record, zipfile.ZIP_DEFLATED)
    member = _tensors(chance, parts)
    weights = bytearray(parts[member])
    start = max(0, len(weights) - 1500)  # the directory of the archive lies at its end
    tail = _scramble(chance, bytes(weights[start:]))
    return _wrap(chance, parts | {member: bytes(weights[:start]) + tail})


MUTATORS: dict[str, Callable[[random.Random, Parts], bytes]] = {
    "bytes": mutate_bytes,
    "headers": mutate_headers,
    "JSON": mutate_json,
    "the pickle": mutate_pickle,
    "traps": mutate_into_traps,
    "storages": mutate_storage,
    "records": mutate_records,
}


def _wrap(chance: random.Random, parts: Parts) -> bytes:
    return chance.choice([_tar, _tar, _zip])(parts)


def _scramble(chance: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if place < len(data):
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place : place + 1] = chance.randbytes(1)
            case 2:
                del data[place : place + chance.choice([1, 4, 64])]
            case 3:
                other = chance.randrange(len(data) + 1)
                data[place:place] = data[other : other + chance.choice([1, 4, 64])]
            case _:
                data[place : place + 4] = chance.choice(
                    [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff"]
                )
    return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.05 else data)


def _change_somewhere(chance: random.Random, content: Any) -> None:
    """Replace, remove or add one value somewhere in a nest of lists and dictionaries."""
    inner = list(content.values() if isinstance(content, dict) else content)
    nests = [value for value in inner if isinstance(value, (dict, list)) and value]
    if nests and chance.random() < 0.8:
        _change_somewhere(chance, chance.choice(nests))
        return
    # A copy, for later changes are not to put a value into itself.
    value = copy.deepcopy(chance.choice([*NUMBERS, *OTHERS, *NAMES, *inner]))
    places = list(content) if isinstance(content, dict) else list(range(len(content)))
    place = chance.choice(places) if places else None
    if chance.random() < 0.15 and place is not None:
        del content[place]
    elif place is not None and chance.random() < 0.85:
        content[place] = value
    elif isinstance(content, dict):
        content[chance.choice(["extra", "", "__physicsnemo.Module__.x", *NAMES])] = value
    else:
        content.append(value)


def _with_record(
    chance: random.Random,
    parts: Parts,
    which: str,
    change: Callable[[bytes], bytes],
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """Change one record of the archive that tensors are in, and keep the archive valid."""
    content, member = io.BytesIO(), _tensors(chance, parts)
    with (
        zipfile.ZipFile(io.BytesIO(parts[member])) as source,
        zipfile.ZipFile(content, "w", compression) as target,
    ):
        names = source.namelist()
        chosen = chance.choice([name for name in names if which in name])
        for name in names:
            record = source.read(name)
            target.writestr(name, change(record) if name == chosen else record)
    return _wrap(chance, parts | {member: content.getvalue()})


def _tensors(chance: random.Random, parts: Parts) -> str:
    return chance.choice([name for name in parts if name.endswith(".pt")])


def _resize(chance: random.Random, record: bytes) -> bytes:
    return chance.choice([record[: len(record) // 2], record * 2, b"", record + b"\0"])


def _change_numbers(chance: random.Random, record: bytes) -> bytes:
    """Replace operands of the opcodes that push small integers."""
    data = bytearray(record)
    places = [i for i, byte in enumerate(data[:-1]) if byte == ord("K")]
    for place in chance.sample(places, min(len(places), chance.choice([1, 1, 3]))):
        data[place : place + 2] = chance.choice(
            [
                b"K" + bytes([chance.randrange(256)]),
                b"J" + chance.randbytes(4),
                b"J\xff\xff\xff\x7f",
                b"\x8a\x08" + chance.randbytes(8),
            ]
        )
    return bytes(data)


def main() -> int:
    """Run from the command line and return 1 if a file made trouble."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    limit_memory()
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        report = fuzz(options.count, options.seed, Path(folder))
    print(report)
    return min(1, len(report.failures))


def limit_memory() -> None:
    """Let allocations fail that would make the process grow by more than a few gigabytes."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTES * 2**30, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
