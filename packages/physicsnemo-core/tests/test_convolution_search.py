# SPDX-License-Identifier: Apache-2.0
"""When captured steps let cuDNN search for algorithms, with a stand-in for CUDA graphs."""

from collections import deque

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from physicsnemo.utils import StaticCaptureEvaluateNoGrad, StaticCaptureTraining

WARMUP = 3

pytestmark = pytest.mark.usefixtures("replays", "searches")


@pytest.fixture
def searches(monkeypatch):
    """Note whether there is a search, and compile nothing."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    return deque()  # which guards do not watch


@pytest.fixture
def model():
    return Module.from_torch(torch.nn.Linear, ModelMetaData(cuda_graphs=True))(3, 1)


def capture(kind, *args, **options):
    options = {"use_amp": False, "compile": True, "cuda_graph_warmup": WARMUP} | options
    captured = kind(*args, **options)
    captured.use_graphs = True
    return captured


@pytest.fixture
def note(searches):
    def function(x):
        searches.append(torch.backends.cudnn.benchmark)
        return x + 1

    return function


@pytest.fixture
def evaluate(model, note):
    return capture(StaticCaptureEvaluateNoGrad, model)(note)


@pytest.mark.parametrize("choice", [False, True, "auto", "blocks"])
def test_what_is_compiled_searches(model, note, searches, choice):
    capture(StaticCaptureEvaluateNoGrad, model, compile=choice)(note)(torch.zeros(2))
    assert list(searches) == [choice is not False]


def test_the_first_call_of_each_kind_searches(evaluate, searches):
    for size in (2, 3, 2):
        searches.append(size)
        for _ in range(WARMUP + 1):
            evaluate(torch.zeros(size))
    # The warm-up, the recording, which cannot wait for a search, and what stands for its replay.
    runs = [True, *(WARMUP + 1) * [False]]
    assert list(searches) == [2, *runs, 3, *runs, 2, *(WARMUP + 1) * [False]]
    assert not torch.backends.cudnn.benchmark


def test_backward_passes_search_too(model, searches):
    def loss(x):
        y = model(x)
        y.register_hook(lambda gradient: searches.append(torch.backends.cudnn.benchmark))
        return y.mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = capture(StaticCaptureTraining, model, optimizer)(loss)
    for _ in range(WARMUP):
        step(torch.zeros(2, 3))
    assert list(searches) == [True, False, False]


def test_a_search_ends_with_a_call_that_fails(model):
    def function(x):
        assert torch.backends.cudnn.benchmark
        raise KeyError("of the function")

    with pytest.raises(KeyError, match="of the function"):
        capture(StaticCaptureEvaluateNoGrad, model)(function)(torch.zeros(2))
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("reason", ["cuDNN", "algorithms", "flags"])
def test_what_is_settled_is_not_searched_for(evaluate, searches, monkeypatch, reason):
    if reason == "cuDNN":
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    elif reason == "algorithms":
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    else:
        monkeypatch.setattr(torch.backends, "flags_frozen", lambda: True)
    evaluate(torch.zeros(2))
    assert list(searches) == [False]


def test_the_callers_own_search_stays(evaluate, searches, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for _ in range(WARMUP):
        evaluate(torch.zeros(2))
    assert list(searches) == WARMUP * [True]
    assert torch.backends.cudnn.benchmark


def test_calls_that_always_change_do_not_search_for_long(evaluate, searches):
    for size in range(10):
        evaluate(torch.zeros(size))
    assert list(searches) == [*4 * [True], *6 * [False]]


def test_after_a_replay_new_kinds_search_again(evaluate, searches):
    for size in range(5):
        evaluate(torch.zeros(size))
    for _ in range(WARMUP):
        evaluate(torch.zeros(4))
    searches.clear()
    evaluate(torch.zeros(5))
    assert list(searches) == [True]
