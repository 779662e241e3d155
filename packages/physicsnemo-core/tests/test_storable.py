# SPDX-License-Identifier: Apache-2.0
"""What is saved can be loaded, or is refused by name before anything is written."""

import re

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format.container import open_checkpoint


class Holder(Module):
    """Holds one tensor as a buffer."""

    def __init__(self):
        super().__init__()

    def holding(self, tensor):
        self.register_buffer("held", tensor)
        return self


class Extra(Module):
    """Has a state besides its tensors."""

    def __init__(self):
        super().__init__()
        self.extra = None

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


class Subclass(torch.Tensor):
    pass


class Lazy(Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.LazyLinear(2)
        self.norm = torch.nn.LazyBatchNorm1d()

    def forward(self, x):
        return self.norm(self.linear(x))


class Labelled(torch.nn.Module):
    """Adds to its state dict what only its own files need, as neural operators do."""

    def state_dict(self, *, destination=None, prefix="", keep_vars=False):
        state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        state["_metadata"] = {"activation": torch.nn.functional.gelu}
        return state


class Wrapping(Module):
    def __init__(self):
        super().__init__()
        self.inner = Labelled()
        self.weight = torch.nn.Parameter(torch.zeros(2))


@pytest.fixture
def sharded(tmp_path):
    """A parameter of a model that is sharded over the processes of a group."""
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield distribute_tensor(torch.ones(4), init_device_mesh("cpu", (1,)), [Shard(0)])
    distributed.destroy_process_group()


def refused(model, folder):
    """Return the error of saving a model, after which the folder is as before."""
    folder = folder / "empty"
    folder.mkdir()
    with pytest.raises(TypeError) as raised:
        model.save(folder / "model.mdlus")
    assert list(folder.iterdir()) == []
    return str(raised.value)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (lambda: torch.ones(2, device="meta"), "'held' lies on the meta device"),
        (lambda: torch.ones(2).as_subclass(Subclass), "'held' is a .*Subclass, a subclass"),
        (lambda: torch.nn.UninitializedBuffer(), "'held' is not initialized: call the model"),
        (lambda: torch.ones(2).to_mkldnn(), "'held' has the layout .*: convert it with to_dense"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "is quantized"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_without_plain_numbers_are_refused(tensor, text, tmp_path):
    model = Holder().holding(tensor())
    model._buffers["held"] = tensor()  # a state dict detaches, which makes some of them plain
    message = refused(model, tmp_path)
    assert message.startswith("Holder cannot be saved: 'held' ")
    assert re.search(text, message)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nested_tensors_are_refused(tmp_path):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert "'held' is a nested tensor" in refused(Holder().holding(nested), tmp_path)


def test_sharded_weights_are_gathered(sharded, tmp_path):
    Holder().holding(sharded).save(tmp_path / "model.mdlus")
    with open_checkpoint(tmp_path / "model.mdlus") as checkpoint:
        assert checkpoint.state_dict()["held"].tolist() == [1.0] * 4


def test_lazy_parameters_are_refused_until_they_have_sizes(tmp_path):
    model = Lazy()
    assert "'linear.weight' is not initialized" in refused(model, tmp_path)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"function": len}, r"'_extra_state'\['function'\] is a builtins.builtin_function"),
        ({1: 2}, "a key of '_extra_state' is a builtins.int, expected text"),
        ([object()], r"'_extra_state'\[0\] is a builtins.object"),
        (b"bytes", "'_extra_state' is a builtins.bytes"),
        (2**3000, "an integer of more than 2000 bits"),
        (["a"] * 200_000, "more than 100000 values"),
    ],
)
def test_extra_state_that_is_no_data_is_refused(state, text, tmp_path):
    model = Extra()
    model.extra = state
    assert re.search(text, refused(model, tmp_path))


def test_what_loading_would_not_read_is_left_out(tmp_path):
    model = Wrapping()
    torch.nn.init.ones_(model.weight)
    model.save(tmp_path / "model.mdlus")
    assert Module.from_checkpoint(tmp_path / "model.mdlus").weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "state", [{"seen": 5, "rates": [0.1, None]}, [torch.ones(2)], torch.ones(3), None, 7]
)
def test_extra_state_comes_back(state, tmp_path):
    model = Extra()
    model.extra = state
    model.save(tmp_path / "model.mdlus")
    twin, loaded = Module.from_checkpoint(tmp_path / "model.mdlus"), Extra()
    loaded.load(tmp_path / "model.mdlus", map_location="cpu")
    for it in (twin, loaded):
        torch.testing.assert_close(it.extra, state, rtol=0, atol=0, equal_nan=True)


def test_lazy_parameters_that_have_sizes_come_back(tmp_path):
    model = Lazy().eval()
    x = torch.rand(5, 3)
    model.train()(x)
    model.eval().save(tmp_path / "model.mdlus")
    twin = Module.from_checkpoint(tmp_path / "model.mdlus").eval()
    assert torch.equal(twin(x), model(x))
    other = Lazy()
    other.load(tmp_path / "model.mdlus")
    assert torch.equal(other.eval()(x), model(x))


class Graph(Module):
    """Holds a sparse matrix."""

    def __init__(self, layout):
        super().__init__()
        matrix = torch.zeros(3, 3).to_sparse(layout=getattr(torch, layout))
        self.register_buffer("matrix", matrix)


@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_buffers_come_back(layout, tmp_path):
    model = Graph(layout)
    model.matrix = torch.diag(torch.tensor([1.0, 0.0, 2.0])).to_sparse(layout=model.matrix.layout)
    model.save(tmp_path / "model.mdlus")
    twin, other = Module.from_checkpoint(tmp_path / "model.mdlus"), Graph(layout)
    other.load(tmp_path / "model.mdlus")
    for it in (twin, other):
        assert it.matrix.layout is model.matrix.layout
        assert torch.equal(it.matrix.to_dense(), model.matrix.to_dense())
