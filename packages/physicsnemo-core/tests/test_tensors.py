# SPDX-License-Identifier: Apache-2.0
"""Weights in the format of PyTorch: every kind of tensor comes back, and hostile ones do not."""

import collections
import io
import pickle
import tracemalloc
import zipfile

import pytest
import torch

from physicsnemo.core.format.file_slice import FileSlice
from physicsnemo.core.format.pickles import read_pickle
from physicsnemo.core.format.tensors import StateFile, write_state


def window(content):
    return FileSlice(io.BytesIO(content), 0, len(content))


def written(state, **options):
    content = io.BytesIO()
    torch.save(state, content, **options)
    return content.getvalue()


def rewritten(content, **changed):
    """Return a state's archive with other records."""
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target,
    ):
        for name in source.namelist():
            record = name.partition("/")[2]
            target.writestr(name, changed.get(record, source.read(name)))
    return result.getvalue()


def with_pickle(content, *, storages=0):
    """Return an archive with a pickle of our own, and storages of 4 bytes."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", content)
        for key in range(storages):
            archive.writestr(f"a/data/{key}", bytes(4))
    return result.getvalue()


GRID = torch.arange(12.0).reshape(3, 4)
TENSORS = {
    "contiguous": GRID,
    "transposed": GRID.t(),
    "strided": GRID[1:, 2],
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "bool": torch.tensor([True, False]),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "negative": torch.tensor([1 + 2j]).conj().imag,
    "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "coo": torch.eye(4).to_sparse(),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old"])
def test_tensors_come_back(name, is_old):
    assert_comes_back(TENSORS[name], is_old)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old"])
def test_compressed_sparse_tensors_come_back(is_old):
    for layout in (torch.sparse_csr, torch.sparse_csc):
        assert_comes_back(torch.eye(4).to_sparse(layout=layout), is_old)
    for layout in (torch.sparse_bsr, torch.sparse_bsc):
        assert_comes_back(torch.eye(4).to_sparse(layout=layout, blocksize=(2, 2)), is_old)


def assert_comes_back(tensor, is_old):
    content = written({"x": tensor}, _use_new_zipfile_serialization=not is_old)
    file = StateFile(window(content))
    read, outline = file.read()["x"], file.outline()["x"]
    for it in (read, outline):
        assert (it.shape, it.dtype, it.layout) == (tensor.shape, tensor.dtype, tensor.layout)
    assert outline.is_meta
    assert torch.equal(read.to_dense(), tensor.detach().to_dense())


def test_weights_of_the_other_byte_order():
    swapped = GRID.clone()
    swapped.untyped_storage().byteswap(torch.float32)
    content = rewritten(written({"x": swapped}), byteorder=b"big")
    assert torch.equal(StateFile(window(content)).read()["x"], GRID)


def test_views_of_one_storage_stay_views():
    state = StateFile(window(written({"all": GRID, "row": GRID[1]}))).read()
    state["all"].zero_()
    assert not state["row"].any()


def test_versions_of_modules_come_back():
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert StateFile(window(written(state))).read()._metadata == {"": {"version": 2}}


@pytest.mark.parametrize(
    "tensor", [torch.ones(1).expand(5), torch.arange(6.0).as_strided((3, 3), (1, 1))]
)
def test_elements_that_share_memory_get_memory_of_their_own(tensor):
    read = StateFile(window(written({"x": tensor}))).read()["x"]
    assert read.is_contiguous()
    assert torch.equal(read, tensor)


def test_what_overlaps_may_not_claim_much_more_than_there_is():
    with pytest.raises(ValueError, match="overlap claim 4000000000 bytes"):
        StateFile(window(written({"x": torch.ones(1).expand(10**9)})))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, (2,), (1,)), "reaches beyond its storage: it needs 8 bytes of 4"),
        ((1, (1,), (1,)), "reaches beyond its storage"),
        ((0, (2**40, 2**40), (0, 1)), "reaches beyond its storage"),
        ((0, (1,), (-1,)), "negative"),
        ((-1, (1,), (1,)), "negative"),
        ((0, (1, 1), (1,)), "do not fit each other"),
        ((0, (1,) * 65, (1,) * 65), "do not fit each other"),
    ],
)
def test_tensors_that_make_no_sense(arguments, text):
    class Lie:
        def __reduce__(self):
            return torch._utils._rebuild_tensor, (Reference(), *arguments)

    class Reference:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, it):
            is_storage = isinstance(it, Reference)
            return ("storage", torch.FloatStorage, "0", "cpu", 1) if is_storage else None

    content = io.BytesIO()
    Pickler(content, 2).dump({"x": Lie()})
    with pytest.raises(ValueError, match=text):
        StateFile(window(with_pickle(content.getvalue(), storages=1)))


def in_turn(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


DEEP = b"]q\x00" + b"]h\x00ah\x00aq\x00" * 64  # each list holds the former one twice
HOSTILE = {
    "a function": in_turn(b"cposix\nsystem\n"),
    "a large buffer": in_turn(b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x70\x01\x85R"),
    "a codec": in_turn(b"c_codecs\nencode\n"),
    "a subclass": in_turn(b"ctorch._utils\n_rebuild_wrapper_subclass\n"),
    "keys of tuples": in_turn(b"}q\x00", b")" + b"\x85" * 1000, b"K\x01s"),
    "numbers as keys": in_turn(b"}K\x01K\x01s"),
    "a key twice as deep each time": in_turn(b"}X\x01\x00\x00\x00x", DEEP, b"s"),
    "a value in itself": in_turn(b"}X\x01\x00\x00\x00x]q\x00h\x00as"),
    "a stack without end": in_turn(b"]" * 200_000),
    "marks without end": in_turn(b"(" * 200_000),
    "lists without end": in_turn(b"}X\x01\x00\x00\x00x]" + b"]a" * 200_000 + b"s"),
    "a long key": in_turn(b"}X\x10\x27\x00\x00" + b"x" * 10_000 + b"K\x01s"),
    "a long name": in_turn(b"c" + b"x" * 100_000 + b"\nx\n"),
    "what is there already": in_turn(b"ccollections\nOrderedDict\n}\x85R"),
    "attributes of a list": in_turn(b"]}b"),
    "no state": in_turn(b"K\x01"),
    "another protocol": b"\x80\x04N.",
    "the opcode for any class": in_turn(b"ctorch\nTensor\n)\x81"),
    "a call of a number": in_turn(b"K\x01)R"),
    "nothing on the stack": in_turn(b"s"),
    "a text that is cut off": b"\x80\x02X\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_with_little_memory(name):
    content = with_pickle(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, LookupError, TypeError)):
            StateFile(window(content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**21 + 64 * len(content)


def test_a_pickle_is_as_long_as_its_storages_allow():
    with pytest.raises(ValueError, match="0 storages are described in .* bytes, at most 1048576"):
        StateFile(window(with_pickle(in_turn(b"N0" * 2**20))))


def test_each_opcode_is_read_once():
    """Time is linear in the pickle: as many values are looked at as it has opcodes."""

    class Counting(bytes):
        taken = 0

        def __getitem__(self, place):
            Counting.taken += 1
            return super().__getitem__(place)

    def taken(size):
        Counting.taken = 0
        read_pickle(Counting(in_turn(b"]" + b"]a" * size)), 0, {}, None)
        return Counting.taken

    assert taken(2_000) - taken(1_000) == taken(3_000) - taken(2_000) == 2_000


def test_records_that_overlap_are_refused():
    content = bytearray(with_pickle(in_turn(b"}"), storages=2))
    name = b"a/data/1"
    assert content.count(name) == 2
    content[content.rindex(name) : content.rindex(name) + len(name)] = b"a/data/0"
    with pytest.raises(ValueError, match="overlap, or have one name"):
        StateFile(window(bytes(content)))


def test_errors_of_the_file_are_not_masked():
    for wanted in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        for number in range(5):

            class Failing(io.BytesIO):
                left = number

                def write(self, data, error=wanted):
                    self.left -= 1
                    if self.left < 0:
                        raise error
                    return super().write(data)

            file = Failing()
            with pytest.raises(type(wanted)) as raised:
                write_state({"x": GRID}, file)
            assert raised.value is wanted


def test_state_of_any_data():
    state = collections.OrderedDict(
        x=GRID, _extra_state={"seen": [1, -5, 2**70, 2.5, "text", None, True], "more": (GRID, ())}
    )
    read = StateFile(window(written(state))).read()
    assert read["_extra_state"]["seen"] == [1, -5, 2**70, 2.5, "text", None, True]
    assert torch.equal(read["_extra_state"]["more"][0], GRID)
    assert read["_extra_state"]["more"][1] == ()
