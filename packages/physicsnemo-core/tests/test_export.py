# SPDX-License-Identifier: Apache-2.0
"""A model is written as a program that computes the same, or not at all."""

import itertools
import shutil
import sys

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo import ModelMetaData, Module
from physicsnemo.core.errors import ExportError
from physicsnemo.utils import export

X = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])


class Net(torch.nn.Module):
    """Draws in training, and takes more than tensors."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, scale=1, others=()):
        total = sum(others, self.dropout(self.linear(x)))
        return {"scaled": scale * total, "plain": [total]}


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * (x[0] if isinstance(x, tuple) else x)


def net(**flags):
    return Module.from_torch(Net, ModelMetaData(**flags))()


def written(path, model, example, **options):
    made = export(model, path, example, compile=False, **options)
    return made, torch.export.load(path).module()


@pytest.mark.parametrize("by_name", [False, True])
def test_the_program_computes_what_the_model_does(tmp_path, by_name):
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = {"x": X, "scale": 3, "others": (X[:, :2],)} if by_name else (X, 3, (X[:, :2],))
    made, program = written(tmp_path / "net.pt2", model, example)
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    others = pytree.tree_map_only(torch.Tensor, lambda it: it * 2 - 1, example)
    found = program(**others) if by_name else program(*others)
    model.eval()
    expected = model(**others) if by_name else model(*others)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert made.inputs == ["float32 (2, 3)", "float32 (2, 2)"]
    assert made.outputs == ["float32 (2, 2)"] * 2
    assert (made.device, made.format) == ("cpu", "torch.export program")
    assert made.difference == 0


@pytest.mark.parametrize("size", [1, 2])
def test_any_batch(tmp_path, size):
    model = net().eval()
    made, program = written(tmp_path / "net.pt2", model, (X[:size],), dynamic_batch=True)
    assert made.inputs == ["float32 (batch, 3)"]
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(program(x)["scaled"], model(x)["scaled"])


def test_any_batch_of_a_model_that_needs_its_own(tmp_path):
    model = Module.from_torch(torch.nn.Unflatten)(0, (2, 1))
    with pytest.raises(ExportError, match="Does its first axis count samples, in all inputs"):
        export(model, tmp_path / "net.pt2", (X,), dynamic_batch=True, compile=False)


def test_any_batch_of_a_model_that_counts_it(tmp_path):
    class Counted(torch.nn.Module):
        def forward(self, x):
            return x if tuple(x.shape) == (len(x), 3) else -x

    model = Module.from_torch(Counted)()
    with pytest.raises(
        ExportError,
        match="does the model leave their number open.*takes as many as the example has",
    ):
        export(model, tmp_path / "net.pt2", (X,), dynamic_batch=True, compile=False)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_weights_and_inputs_in_a_precision(tmp_path, precision):
    dtype = getattr(torch, precision)
    made, program = written(tmp_path / "net.pt2", net().double(), (X,), precision=precision)
    assert made.inputs == [f"{precision} (2, 3)"]
    assert program(X.to(dtype))["scaled"].dtype == dtype


@pytest.mark.parametrize("dynamic", [False, True])
def test_mixed_precision_is_in_the_program(tmp_path, dynamic):
    model = net(amp=True).eval()
    made, program = written(
        tmp_path / "net.pt2", model, (X,), precision="bfloat16", dynamic_batch=dynamic
    )
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(X)["scaled"]
    assert made.inputs == [f"float32 ({'batch' if dynamic else 2}, 3)"]
    assert torch.equal(program(X)["scaled"], expected)
    assert expected.dtype == torch.bfloat16


class Parts(torch.nn.Module):
    """Has weights and a constant that are parts of others, in another order, or nothing at all."""

    def __init__(self, make):
        super().__init__()
        self.weight = torch.nn.Parameter(make())
        self.register_buffer("twin", make())
        self.constant = make()

    def forward(self, x):
        total = self.weight.sum(0) + 2 * self.twin.sum(0) + 3 * self.constant.sum(0)
        return x + total[:3].sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.from_numpy(np.zeros((0, 3), np.float32)),
        lambda: torch.arange(12.0).reshape(4, 3)[1:3],
        lambda: torch.arange(12.0).reshape(3, 4)[:, ::2],
        lambda: torch.arange(6.0).reshape(2, 3).T,
        lambda: torch.arange(3.0).expand(2, 3),
    ],
    ids=["no elements", "slice", "columns", "transposed", "expanded"],
)
def test_weights_and_constants_that_are_no_memory_of_their_own(tmp_path, make):
    model = Parts(make)
    expected = model(2 * X)
    _, program = written(tmp_path / "parts.pt2", model, (X,))
    assert torch.equal(program(2 * X), expected)
    assert torch.equal(dict(program.named_parameters())["weight"], make())


class Structured(torch.nn.Linear):
    """Remembers a structure, of a class of which PyTorch says that it will go."""

    def __init__(self):
        super().__init__(3, 2)
        self.structure = pytree.tree_structure([0, (1,)])


def test_a_model_that_remembers_a_structure(tmp_path):
    model = Module.from_torch(Structured)()
    _, program = written(tmp_path / "structured.pt2", model, (X,))
    assert torch.equal(program(2 * X), model(2 * X))


def test_a_graph_stands_for_its_tensors(tmp_path):
    class Edges:
        def __init__(self, ends, name):
            self.ends, self.name = ends, name

    class OnEdges(torch.nn.Module):
        def forward(self, x, edges):
            return x[edges.ends[0]] - x[edges.ends[1]] * len(edges.name)

    pytree.register_pytree_node(
        Edges, lambda it: ([it.ends], it.name), lambda parts, name: Edges(*parts, name)
    )
    edges = Edges(torch.tensor([[0, 1], [1, 0]]), "abc")
    made, program = written(tmp_path / "edges.pt2", OnEdges(), (X, edges))
    assert made.inputs == ["float32 (2, 3)", "int64 (2, 2)"]
    ends = torch.tensor([[1, 1], [1, 0]])
    assert torch.equal(program(X, (ends,)), X[ends[0]] - X[ends[1]] * 3)
    with pytest.raises(ValueError, match="dynamic_batch is for models whose inputs are tensors"):
        export(OnEdges(), tmp_path / "edges.pt2", (X, edges), dynamic_batch=True, compile=False)


def test_onnx(tmp_path):
    import onnxruntime

    model = net().eval()
    made = export(model, tmp_path / "net.onnx", (X,), dynamic_batch=True)
    assert (made.format, made.inputs) == ("ONNX model", ["float32 (batch, 3)"])
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    x = torch.randn(5, 3)
    found, _ = session.run(None, {name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x)["scaled"].detach())


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("net.tar", {}, r"ends in .pt2 or .onnx, or format to be .* got 'net.tar' and format None"),
        ("net.pt2", {"format": "jit"}, "got 'net.pt2' and format 'jit'"),
        ("net.pth", {"format": "pt2"}, "expected a file that ends in .pt2, got 'net.pth'"),
        (
            "net.pt2",
            {"precision": "int8"},
            "expected precision to be one of float32, .* got 'int8'",
        ),
        ("net.pt2", {"precision": "float16"}, "the metadata of .* does not set amp_cpu"),
        ("net.pt2", {"device": "meta"}, "to be one of cpu, cuda, got 'meta'"),
        ("net.onnx", {"device": "cuda"}, "of an ONNX model to be one of cpu, got 'cuda'"),
    ],
)
def test_options_that_are_refused(tmp_path, path, options, message):
    with pytest.raises(ValueError, match=message):
        export(net(), tmp_path / path, (X,), **options)


def test_mixed_precision_is_not_for_onnx(tmp_path):
    with pytest.raises(ValueError, match="of an ONNX model to be float32 or float64"):
        export(net(amp=True), tmp_path / "net.onnx", (X,), precision="bfloat16")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (X, "a tuple of inputs, or a dictionary of them by name, got a Tensor"),
        ((X, object()), "expected inputs of tensors and constants, got a object"),
    ],
)
def test_examples_that_are_refused(tmp_path, example, message):
    with pytest.raises(TypeError, match=message):
        export(net(), tmp_path / "net.pt2", example)


@pytest.mark.parametrize("nested", [False, True])
def test_compiled_programs_take_contiguous_tensors(tmp_path, nested):
    x = torch.ones(2, 8).T
    message = r"got args\[0\]\S* of shape \(8, 2\) with strides \(1, 8\): pass it.contiguous\(\)"
    model = Module.from_torch(Doubled)()
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "model.pt2", ((x,) if nested else x,))
    export(model, tmp_path / "model.pt2", ((x,) if nested else x,), compile=False)
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.equal(program((x,) if nested else x), 2 * x)
    other = torch.arange(16.0).reshape(8, 2)  # whose strides are others
    assert torch.equal(program((other,) if nested else other), 2 * other)


def test_there_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export(net(), tmp_path / "missing" / "net.pt2", (X,))


def test_a_model_that_cannot_be_recorded_leaves_the_older_file(tmp_path):
    class Decides(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    path = tmp_path / "net.pt2"
    path.write_bytes(b"older")
    with pytest.raises(ExportError, match=r"torch.export cannot record the model: \w+: "):
        export(Decides(), path, (X,), compile=False)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    calls = itertools.count()

    class Counts(torch.nn.Module):
        def forward(self, x):
            return x + next(calls)

    with pytest.raises(ExportError, match="output 1 of the file differs by .* is allowed"):
        export(Counts(), tmp_path / "net.pt2", (X,), compile=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_library_for_onnx_is_missing(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"{library}; run pip install 'physicsnemo-core\[onnx\]"):
        export(net(), tmp_path / "net.onnx", (X,))


def test_there_is_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match=r"needs a C\+\+ compiler, .* compile=False"):
        export(net(), tmp_path / "net.pt2", (X,))
