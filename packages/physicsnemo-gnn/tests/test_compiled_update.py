# SPDX-License-Identifier: Apache-2.0
"""Which layers are left to the kernel, and what is not; with tensors that have no values."""

import functools
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrize

from physicsnemo.models.gnn_layers import Graph, _compiled_update

WIDTH, NODES, EDGES = 32, 6, 20
KERNEL = "physicsnemo.models.gnn_layers._mlp_update"


def layers(*, activation=nn.ReLU, hidden=2, width=WIDTH, bias=True):
    """Return what follows a first layer."""
    act = activation()
    linear = functools.partial(nn.Linear, width, width, bias=bias)
    parts = [part for _ in range(hidden) for part in (act, linear())]
    return [*parts, nn.LayerNorm(width)]


def given(*, edges=True, dtype=torch.float16, x_dtype=torch.float32, width=WIDTH, device="cuda:1"):
    """Return arguments that the kernel serves."""
    with FakeTensorMode():
        empty = functools.partial(torch.empty, device=device)
        x = empty(EDGES, width, dtype=x_dtype)
        rows = (NODES, NODES) if edges else (EDGES,)
        added = tuple(empty(count, width, dtype=dtype) for count in rows)
        weight = empty(width, width)
    ends = torch.zeros(2, EDGES, dtype=torch.long)
    graph = Graph(ends, NODES) if edges else None
    parts = layers(width=width)
    return SimpleNamespace(x=x, added=added, graph=graph, weight=weight, layers=parts)


@pytest.fixture
def asked(monkeypatch):
    """Compile for a second GPU that has the kernel, besides one that has not; return who asked."""
    devices = []

    def capability(device=None):
        devices.append(device)
        assert device.type == "cuda"
        return (9, 0) if device == torch.device("cuda:1") else (8, 0)

    def update(x, *others):
        return x, others

    kernel = SimpleNamespace(IS_AVAILABLE=True, mlp_update=update)
    monkeypatch.setitem(sys.modules, KERNEL, kernel)
    monkeypatch.setattr(sys.modules["physicsnemo.models.gnn_layers"], "_mlp_update", kernel, False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    return devices


def update(arguments):
    return _compiled_update.compiled_update(
        arguments.x, arguments.added, arguments.graph, arguments.weight, arguments.layers
    )


def changed(**changes):
    """Return a function that sets attributes of the arguments."""
    return lambda arguments: vars(arguments).update(changes)


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("width", [16, 128])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_served(asked, edges, activation, hidden, width, dtype):
    arguments = given(edges=edges, dtype=dtype, width=width)
    arguments.layers = layers(activation=activation, hidden=hidden, width=width)
    result = update(arguments)
    assert result.dtype is (dtype if edges else torch.float32)
    assert asked == [torch.device("cuda:1")]


def empty(*shape, dtype=torch.float16, device="cuda:1"):
    with FakeTensorMode():
        return torch.empty(shape, dtype=dtype, device=device)


def nothing(*arguments):
    """Serve as a hook."""


class Linear(nn.Linear):
    """A layer that may do anything."""


class Weight(nn.Parameter):
    """A weight that may be anything."""


def parametrized(arguments):
    parametrize.register_parametrization(arguments.layers[1], "weight", nn.Identity())


def other_layer(index, layer):
    def change(arguments):
        arguments.layers[index] = layer()

    return change


def hooked(method, index):
    return lambda arguments: getattr(arguments.layers[index], method)(nothing)


def other_weight(arguments):
    arguments.layers[1].weight = Weight(torch.zeros(WIDTH, WIDTH))


HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)
REFUSED = {
    "no GPU": changed(x=empty(EDGES, WIDTH, device="cpu")),
    "another kind of GPU": changed(x=empty(EDGES, WIDTH, device="cuda:0")),
    "activation": lambda arguments: changed(layers=layers(activation=nn.GELU))(arguments),
    "no hidden layer": lambda arguments: changed(layers=[nn.ReLU(), nn.LayerNorm(WIDTH)])(
        arguments
    ),
    "three layers": lambda arguments: changed(layers=layers(hidden=3))(arguments),
    "activations that differ": other_layer(2, nn.SiLU),
    "no normalization": lambda arguments: arguments.layers.pop(),
    "another normalization": other_layer(-1, lambda: nn.RMSNorm(WIDTH)),
    "normalization without weights": other_layer(
        -1, lambda: nn.LayerNorm(WIDTH, elementwise_affine=False)
    ),
    "normalization without a bias": other_layer(-1, lambda: nn.LayerNorm(WIDTH, bias=False)),
    "normalization of two axes": other_layer(-1, lambda: nn.LayerNorm((EDGES, WIDTH))),
    "derived class": other_layer(1, lambda: Linear(WIDTH, WIDTH)),
    "derived weight": other_weight,
    "parametrized weight": parametrized,
    "no bias": other_layer(1, lambda: nn.Linear(WIDTH, WIDTH, bias=False)),
    "wider in between": other_layer(1, lambda: nn.Linear(WIDTH, 2 * WIDTH)),
    "rows": changed(x=empty(EDGES - 1, WIDTH)),
    "three axes": changed(x=empty(EDGES, 1, WIDTH)),
    "first weight": changed(weight=empty(WIDTH, WIDTH + 1)),
    "nodes": changed(added=(empty(NODES, WIDTH), empty(NODES + 1, WIDTH))),
    "single precision": changed(added=(empty(NODES, WIDTH, dtype=torch.float32),) * 2),
    "two precisions": changed(
        added=(empty(NODES, WIDTH), empty(NODES, WIDTH, dtype=torch.bfloat16))
    ),
    **{f"{hook} of layer {at}": hooked(hook, at) for hook in HOOKS for at in (0, 1, -1)},
}


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_refused(change):
    arguments = given()
    change(arguments)
    assert update(arguments) is None


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("width", [8, 24, 256])
def test_refused_widths(width):
    assert update(given(width=width)) is None


@pytest.mark.usefixtures("asked")
def test_refused_precision_of_nodes():
    assert update(given(edges=False, x_dtype=torch.bfloat16)) is None
    assert update(given(edges=False, x_dtype=torch.float64)) is None


@pytest.mark.usefixtures("asked")
def test_refused_without_triton_or_a_compiler(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[KERNEL], "IS_AVAILABLE", False)
        assert update(given()) is None
    for name, answer in (("is_exporting", True), ("is_compiling", False)):
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, name, lambda answer=answer: answer)
            assert update(given()) is None


@pytest.mark.usefixtures("asked")
def test_refused_within_transforms():
    arguments = given()

    def inside(x):
        assert update(arguments) is None
        return x

    torch.func.vmap(inside)(torch.zeros(2))
    assert update(arguments) is not None


def test_the_gpu_of_the_features_is_asked_by_compiled_code(monkeypatch):
    answers = {"cpu": (9, 0)}
    kernel = SimpleNamespace(IS_AVAILABLE=True)
    monkeypatch.setitem(sys.modules, KERNEL, kernel)
    monkeypatch.setattr(sys.modules["physicsnemo.models.gnn_layers"], "_mlp_update", kernel, False)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device=None: answers[str(device)]
    )
    parts = layers()

    def function(x):
        served = _compiled_update._is_served(parts, WIDTH)
        return x + (1 if served and _compiled_update._has_kernel(x.device) else 0)

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(2)).tolist() == [1, 1]
