# SPDX-License-Identifier: Apache-2.0
"""Small files that ask for much and large ones that say little are refused at little cost."""

import io
import json
import tarfile
import tracemalloc
import zipfile

import pytest
import torch

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.archive import list_tar
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint

BLOCK = 512


@pytest.fixture
def saved(affine, tmp_path):
    affine(3).save(tmp_path / "model.mdlus")
    return tmp_path / "model.mdlus"


def header(name="model.pt", size=b"00000000000\0", kind=b"0"):
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157] = size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def refused(content):
    """Return why a tar is refused, after reading few of its blocks."""

    class Counting(io.BytesIO):
        reads = 0

        def read(self, size=-1):
            Counting.reads += 1
            return super().read(size)

    with pytest.raises((ValueError, OSError)) as raised:
        list_tar(Counting(content))
    assert Counting.reads <= 500
    return str(raised.value)


@pytest.mark.parametrize(
    "size", [b"\xff" * 12, b"\xff" * 10 + b"\xfe\x00", b"-0000001000\0", b"x" * 12]
)
def test_sizes_below_zero_or_without_sense(size):
    assert "number from 0 is expected" in refused(header(size=size) + bytes(BLOCK))


def test_sizes_that_are_larger_than_the_file():
    huge = b"\x80" + (2**80).to_bytes(11, "big")
    assert "number from 0 is expected" in refused(header(size=huge) + bytes(BLOCK))
    assert "ends before its end mark" in refused(header(size=b"77777777777\0") + bytes(BLOCK))


def test_members_without_end():
    assert "more than 100 members" in refused(header() * 10_000)


def test_headers_of_nothing_without_end():
    assert "more than 200 headers" in refused(header(kind=b"x") * 10_000)


def pax(*records):
    content = b"".join(records)
    size = b"%011o\0" % len(content)
    return header(size=size, kind=b"x") + content + bytes(-len(content) % BLOCK)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b"11 size=-1\n", "a size that is no number"),
        (b"99 path=x\n", "records are damaged"),
        (b"0 path=x\n", "records are damaged"),
        (b"path=x\n", "records are damaged"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
    ],
)
def test_damaged_extensions(record, text):
    assert text in refused(pax(record) + header() + bytes(2 * BLOCK))


def test_extensions_longer_than_any_name():
    size = b"%011o\0" % 2**20
    long = header(size=size, kind=b"L") + b"x" * 2**20
    assert "claims 1048576 bytes, at most 16384" in refused(long + header() + bytes(BLOCK))


@pytest.mark.parametrize(
    "tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]
)
def test_headers_of_every_format_are_read(tar_format, saved, members_of):
    members = {**members_of(saved), "a" * 80 + "é" * 9: b"more"}
    with tarfile.open(saved, "w", format=tar_format) as archive:
        folder = tarfile.TarInfo(".")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo("./" + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with open(saved, "rb") as file:
        listed = {it.name: it for it in list_tar(file)}
        assert list(listed) == list(members)
        for name, content in members.items():
            file.seek(listed[name].offset)
            assert file.read(listed[name].size) == content
    Module.from_checkpoint(saved)


def growth(function, sizes):
    """Return the peak memory of Python's objects while a function refuses inputs of two sizes."""
    peaks = []
    for size in sizes:
        prepared = function(size)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError) as raised:
                inspect_checkpoint(prepared)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert len(str(raised.value)) < 5_000
    return peaks


def record(**changed):
    return {"__name__": "Affine", "__module__": "lab", "__args__": {}} | changed


TEXTS = {
    "the class": lambda size: record(__name__="x" * size),
    "dots in the module": lambda size: record(__module__="x." * (size // 2)),
    "the key of a nested model": lambda size: record(
        **{"__physicsnemo.Module__." + "x" * size: record()}
    ),
}


@pytest.mark.parametrize("where", TEXTS)
def test_long_names_are_refused_with_memory_that_grows_with_the_file(
    where, saved, members_of, write_tar
):
    members = members_of(saved)

    def prepare(size):
        write_tar(saved, {**members, "args.json": json.dumps(TEXTS[where](size)).encode()})
        return saved

    small, large = growth(prepare, [10**4, 10**6])
    assert large - small < 10 * 10**6
    with pytest.raises(CheckpointError, match=r"a name of \d+ characters, at most 1000 are read"):
        inspect_checkpoint(saved)


@pytest.mark.parametrize("member", ["args.json", "metadata.json"])
def test_long_json_is_not_parsed(member, saved, members_of, write_tar):
    members = members_of(saved)

    def prepare(size):
        write_tar(saved, {**members, member: b'{"a": [' + b"[]," * size + b"0]}"})
        return saved

    small, large = growth(prepare, [2_000_000, 20_000_000])
    assert large < small + 10**5
    with pytest.raises(CheckpointError, match="claims 60000010 bytes, at most 4194304 are read"):
        inspect_checkpoint(saved)


def test_arguments_that_would_not_be_read_are_not_written(tmp_path):
    arguments = record(__args__={"table": [0.123456789] * 10**6})
    with pytest.raises(ValueError, match=r"args\.json would have .* bytes, at most 4194304"):
        write_checkpoint(tmp_path / "model.mdlus", {}, arguments, {})
    with pytest.raises(ValueError, match="a name of 2000 characters"):
        write_checkpoint(tmp_path / "model.mdlus", {}, record(__name__="x" * 2_000), {})
    assert list(tmp_path.iterdir()) == []


def test_control_characters_are_escaped(saved, members_of, write_tar):
    members = members_of(saved)
    write_tar(saved, {**members, "a\x1b[2Jb/\n": b""})
    with pytest.raises(CheckpointError) as raised:
        inspect_checkpoint(saved)
    assert str(raised.value).isprintable()
    hostile = record(__name__="\x1b]0;owned\x07", __module__="\u202egnp.\ud800")
    write_tar(saved, {**members, "args.json": json.dumps(hostile).encode()})
    with pytest.raises(CheckpointError) as raised:
        Module.from_checkpoint(saved)
    assert str(raised.value).isprintable()


def test_a_zip_within_old_weights_is_not_unpacked(saved, members_of, write_tar):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))
    write_tar(saved, {**members_of(saved), "model.pt": b"x" + bomb.getvalue()})
    with (
        open_checkpoint(saved) as checkpoint,
        pytest.raises(CheckpointError, match="cannot be read"),
    ):
        checkpoint.check_sums()


def test_weights_with_a_damaged_number_differ_from_their_checksum(saved):
    content = saved.read_bytes()
    number = torch.ones(3).numpy().tobytes()
    assert content.count(number) == 1
    saved.write_bytes(content.replace(number, torch.tensor([1.0, 1.0, 2.0]).numpy().tobytes()))
    with (
        open_checkpoint(saved) as checkpoint,
        pytest.raises(CheckpointError, match="differs from its checksum"),
    ):
        checkpoint.check_sums()
