# SPDX-License-Identifier: Apache-2.0
"""Repeated blocks compile once, and a step whose compilation fails runs uncompiled."""

import logging
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from physicsnemo import Module
from physicsnemo.core.capture import compilation, decorator
from physicsnemo.core.capture.blocks import CompiledBlocks, find_blocks
from physicsnemo.core.capture.compilation import Compilation, why_no_compiler
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining

LOGGER = logging.getLogger("physicsnemo.capture")


class Block(nn.Module):
    def __init__(self, width, slope):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.outer, self.slope = nn.Linear(2 * width, width), slope

    def forward(self, x):
        return x + self.outer(nn.functional.leaky_relu(self.inner(self.norm(x)), self.slope))


class Stack(Module):
    def __init__(self, depth=8, width=4, slopes=(0.1,)):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            Block(width, slopes[number % len(slopes)]) for number in range(depth)
        )
        self.last = nn.Linear(width, 1)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


@pytest.fixture
def counter():
    torch.compiler.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()


def test_blocks_are_what_is_repeated():
    assert find_blocks(Stack(depth=2)) == []  # too small to be worth it
    model = Stack(depth=8)
    assert find_blocks(model) == [list(model.blocks)]
    model = Stack(depth=8, slopes=[0.1, 0.2])
    assert find_blocks(model) == [list(model.blocks[::2]), list(model.blocks[1::2])]
    assert find_blocks(Stack(depth=8, slopes=[0.1 * n for n in range(8)])) == []
    model = Stack(depth=8)
    assert find_blocks(nn.ModuleDict({"inner": nn.Sequential(model)})) == [list(model.blocks)]


@pytest.mark.parametrize("depth", [6, 18])
def test_blocks_of_one_kind_compile_once(depth, counter):
    model, x = Stack(depth).double(), torch.randn(5, 3, dtype=torch.float64)
    expected = model(x)
    gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
    blocks = CompiledBlocks(find_blocks(model), partial(torch.compile, backend=counter))
    with blocks.active():
        got = model(x)
        torch.testing.assert_close(got, expected)
        found = torch.autograd.grad(got.sum(), list(model.parameters()))
    torch.testing.assert_close(found, gradients)
    assert counter.frame_count == 1


def test_only_the_first_new_batch_size_compiles_again(counter):
    model = Stack()
    blocks = CompiledBlocks(find_blocks(model), partial(torch.compile, backend=counter))
    counts = []
    for size in (5, 7, 11, 6, 5):
        x = torch.randn(size, 3)
        expected = model(x)
        with blocks.active():
            torch.testing.assert_close(model(x), expected)
        counts.append(counter.frame_count)
    assert counts == [1, 2, 2, 2, 2]


def test_kinds_do_not_make_each_other_dynamic(counter):
    model = nn.ModuleList([Stack(width=4), Stack(width=6)])
    blocks = CompiledBlocks(find_blocks(model), partial(torch.compile, backend=counter))
    with blocks.active():
        for part in model:
            part(torch.randn(5, 3))
    assert counter.frame_count == 2
    sizes = [
        size
        for graph in counter.graphs
        for node in graph.graph.find_nodes(op="placeholder")
        if isinstance(node.meta["example_value"], torch.Tensor)
        for size in node.meta["example_value"].shape
    ]
    assert all(isinstance(size, int) for size in sizes)


def test_outside_a_step_the_model_is_as_it_was():
    model = Stack()
    own = model.blocks[1]
    own.forward = mine = lambda x: x
    blocks = CompiledBlocks(find_blocks(model))
    with blocks.active(), blocks.active():
        assert own.forward is mine
        assert "forward" in vars(model.blocks[0])
    assert own.forward is mine
    assert [part for part in model.modules() if "forward" in vars(part)] == [own]


def test_training_by_blocks_equals_training_without(monkeypatch, counter):
    monkeypatch.setattr(
        CompiledBlocks.__init__, "__defaults__", (partial(torch.compile, backend=counter),)
    )
    losses = []
    for compile in (False, "blocks"):
        torch.manual_seed(0)
        model = Stack().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        @StaticCaptureTraining(model, optimizer, use_amp=False, compile=compile)
        def step(x, model=model):
            return model(x).square().mean()

        @StaticCaptureEvaluateNoGrad(model, use_amp=False, compile=compile)
        def evaluate(x, model=model):
            return model(x).square().mean()

        x = torch.randn(5, 3, dtype=torch.float64)
        losses.append(torch.stack([*(step(x) for _ in range(3)), evaluate(x)]))
    torch.testing.assert_close(*losses)
    assert losses[0][0] > losses[0][-1]
    assert counter.frame_count == 2  # with gradients and without


def broken(graph, inputs):
    raise RuntimeError("no such register")


def always_captured(monkeypatch):
    def captured(*args, **options):
        return Compilation(*args, **{**options, "captured": True})

    monkeypatch.setattr(decorator, "Compilation", captured)
    monkeypatch.setattr(compilation, "why_no_compiler", lambda: None)


@pytest.mark.parametrize("depth", [1, 8])  # compiled as a whole, and by blocks
def test_auto_falls_back_where_compiling_fails(depth, monkeypatch, caplog):
    torch.compiler.reset()
    always_captured(monkeypatch)
    failing = partial(torch.compile, backend=broken)
    monkeypatch.setattr(torch, "compile", failing)
    monkeypatch.setattr(CompiledBlocks.__init__, "__defaults__", (failing,))
    model = Stack(depth).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = model(x).square().mean()

    @StaticCaptureTraining(model, optimizer, use_amp=False, compile="auto")
    def step(x):
        return model(x).square().mean()

    torch.testing.assert_close(step(x), expected.detach())
    assert step(x) < expected
    (message,) = [
        record.message for record in caplog.records if record.name == "physicsnemo.capture"
    ]
    assert "uncompiled, since compiling it failed: BackendCompilerFailed" in message
    assert "no such register" in message


def test_errors_of_the_step_itself_are_raised(monkeypatch, caplog):
    always_captured(monkeypatch)
    monkeypatch.setattr(
        CompiledBlocks.__init__, "__defaults__", (partial(torch.compile, backend="eager"),)
    )
    model = Stack()

    @StaticCaptureEvaluateNoGrad(model, use_amp=False, compile="auto")
    def step(x):
        raise RuntimeError("the step's own")

    with pytest.raises(RuntimeError, match="the step's own"):
        step(torch.ones(5, 3))
    assert caplog.records == []


def test_by_blocks_an_error_of_the_compiler_is_raised(monkeypatch):
    monkeypatch.setattr(
        CompiledBlocks.__init__, "__defaults__", (partial(torch.compile, backend=broken),)
    )
    model = Stack()
    step = StaticCaptureEvaluateNoGrad(model, use_amp=False, compile="blocks")(model.forward)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="no such register"):
        step(torch.ones(5, 3))


def test_auto_compiles_nothing_without_cuda_graphs(monkeypatch, caplog):
    def compile(*args, **options):
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", compile)
    model = Stack()
    step = StaticCaptureEvaluateNoGrad(model, use_amp=False, compile="auto")(model.forward)
    assert step(torch.ones(5, 3)).shape == (5, 1)
    assert caplog.records == []


def test_auto_says_what_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(compilation, "why_no_compiler", lambda: "nothing to compile with")
    model = Stack()
    step = Compilation(model.forward, model, "auto", captured=True, logger=LOGGER)
    assert step(torch.ones(5, 3)).shape == (5, 1)
    assert caplog.messages == ["the step runs uncompiled: nothing to compile with"]


def test_compilers_are_looked_for(monkeypatch):
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    present = {"gcc", "g++"}
    monkeypatch.setattr(compilation, "find_spec", lambda name: object())
    monkeypatch.setattr(compilation.shutil, "which", lambda name: name in present or None)
    assert why_no_compiler() is None
    present.remove("g++")
    assert "no C++ compiler (g++, clang++, c++)" in why_no_compiler()
    monkeypatch.setenv("CXX", "nvc++")
    assert "no C++ compiler (nvc++)" in why_no_compiler()
    present.add("nvc++")
    assert why_no_compiler() is None
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    assert why_no_compiler() == "Triton is not installed"


def test_other_choices_are_refused():
    with pytest.raises(ValueError, match="compile must be True, False, 'blocks' or 'auto', got 'a"):
        StaticCaptureEvaluateNoGrad(Stack(), compile="all")
