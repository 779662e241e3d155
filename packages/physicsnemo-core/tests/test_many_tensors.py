# SPDX-License-Identifier: Apache-2.0
"""Tables of the kernels over many tensors, and which of PyTorch's calls these replace.

The kernels run on the CPU: their source is C++ but for a few words, which are defined here.
"""

import ctypes
import logging
import math
import subprocess
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam, AdamW

from physicsnemo import Module
from physicsnemo.core.capture import many_tensors
from physicsnemo.core.capture.many_tensors import AdamSettings, adam_table, check_table
from physicsnemo.utils import StaticCaptureTraining

LOGGER = logging.getLogger("a logger of the caller's")
SHAPES = [(3,), (2048,), (5000,), (7, 11), (), (0,), (4, 3, 3, 3)]


def at(address, number):
    """Return the numbers in memory at an address."""
    pointer = ctypes.cast(ctypes.c_void_p(int(address)), ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=(int(number),))


def tensors():
    made = [torch.randn(shape) for shape in SHAPES]
    return [*made[:-1], made[-1].to(memory_format=torch.channels_last)]


# What CUDA has and C++ does not; and threads that run block after block.
ON_CPU = """
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>
#define __device__
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
using std::isfinite;
struct Place { unsigned x; };
static thread_local Place blockIdx, threadIdx;
static std::barrier<> together(THREADS);
static void __syncthreads() { together.arrive_and_wait(); }
#include "many_tensors.cu"
template <typename Kernel> void launch(unsigned blocks, Kernel kernel)
{
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < THREADS; ++thread)
        threads.emplace_back([=] {
            for (unsigned block = 0; block < blocks; ++block) {
                blockIdx.x = block;
                threadIdx.x = thread;
                kernel();
                __syncthreads();
            }
        });
    for (std::thread& thread : threads)
        thread.join();
}
extern "C" void adam_on_cpu(
    unsigned blocks, AdamSettings* settings, AdamRow* rows, float* rate, float* scale, float* found)
{
    launch(blocks, [=] { adam(settings, rows, rate, scale, found); });
}
extern "C" void check_on_cpu(unsigned blocks, CheckRow* rows, float* found, float* factor)
{
    launch(blocks, [=] { check(rows, found, factor); });
}
"""


class OnCpu:
    """Kernel of the CPU, launched as one of a GPU is."""

    def __init__(self, function):
        self.function, self.launches = function, 0

    def launch(self, blocks, *tensors):
        self.launches += 1
        self.function(blocks, *(x if x is None else ctypes.c_void_p(x.data_ptr()) for x in tensors))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "on_cpu.cpp").write_text(ON_CPU)
    options = ["-std=c++20", "-shared", "-fPIC", "-pthread", "-DTHREADS=4", "-DEACH=512"]
    source = files("physicsnemo.core.capture")
    command = ["c++", *options, f"-I{source}", "on_cpu.cpp", "-o", "on_cpu.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "on_cpu.so"))


@pytest.fixture
def kernels(library, monkeypatch):
    """The kernels of Adam and of the check, in the place of those for GPUs."""
    made = [OnCpu(library.adam_on_cpu), OnCpu(library.check_on_cpu)]
    monkeypatch.setattr(many_tensors, "_kernels", lambda device: made)
    return made


def test_a_table_has_each_number_once():
    given = tensors()
    rows = check_table(given).view(-1, 2)
    assert rows[:, 1].max() == 2048
    found = np.concatenate([at(*row) for row in rows.tolist()])
    # In the order in which they lie in memory.
    stored = [x.permute(0, 2, 3, 1) if x.ndim == 4 else x for x in given]
    np.testing.assert_array_equal(found, torch.cat([x.flatten() for x in stored]).numpy())


def test_a_table_begins_with_the_settings():
    numbers = [[torch.zeros(1)] for _ in range(4)]
    settings = AdamSettings(0.0, 0.5, 1e-3, 0.1, decoupled=True, maximize=True, checked=True)
    table = adam_table(numbers, [torch.ones(())], settings)
    assert table[:10].view(torch.float64).tolist() == [
        *(-math.inf, -1.0, 0.0, 0.5, 1e-3),
        *(0.0, 0.1, -1.0, 0.0, 1.0),
    ]


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"maximize": True, "betas": (0.0, 0.9)}, {"amsgrad": True}],
    ids=str,
)
@pytest.mark.parametrize("scale", [None, 8.0])
def test_a_step_is_that_of_pytorch(kind, options, scale, kernels):
    torch.manual_seed(0)
    start = tensors()
    ends = []
    for replace in (True, False):
        parameters = [x.clone().requires_grad_() for x in start]
        optimizer = kind(parameters, lr=torch.tensor(0.01), fused=True, **options)
        if scale is not None:
            optimizer.grad_scale = torch.tensor(scale)
        for number in range(4):
            generator = torch.Generator().manual_seed(number)
            for p in parameters:
                drawn = torch.randn(p.shape, generator=generator) * (scale or 1.0)
                p.grad = torch.empty_like(p).copy_(drawn)
            if scale is not None:
                optimizer.found_inf = torch.tensor(float(number == 2))  # whose step is skipped
            with many_tensors._Replacement(lambda table: table) if replace else torch.no_grad():
                optimizer.step()
        ends.append([*(p.detach() for p in parameters), *(p.grad for p in parameters)])
    assert kernels[0].launches == (0 if "amsgrad" in options else 4)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_a_recording_has_its_tables_beforehand(kernels, monkeypatch):
    calls, checked = [], []
    run_adam = many_tensors.run_adam
    monkeypatch.setattr(many_tensors, "is_usable", lambda device, logger: True)
    monkeypatch.setattr(many_tensors, "run_adam", lambda *given: calls.append(given))
    monkeypatch.setattr(many_tensors, "run_check", lambda *given: checked.append(given))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    parameters = [x.requires_grad_() for x in tensors()]
    expected = [x.detach().clone().requires_grad_() for x in parameters]
    for p, q in zip(parameters, expected, strict=True):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
    rate = torch.tensor(0.1)
    groups = [{"params": parameters[:3]}, {"params": parameters[3:], "weight_decay": 0.1}]
    optimizer = AdamW(groups, lr=rate, fused=True)
    replacement = many_tensors.ManyTensors(LOGGER)
    replacement.prepare(optimizer, checked=True)
    (whole,) = (replacement._room.untyped_storage(),)
    with replacement.active() as tables:
        gradients = [p.grad for p in parameters]
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, torch.zeros(1), torch.ones(1))
        optimizer.step()
    assert len(tables) == 3
    # All room is used, and none is taken while the stream is captured.
    assert sum(map(len, tables)) == whole.nbytes() // 8
    assert {table.untyped_storage().data_ptr() for table in tables} == {whole.data_ptr()}
    replacement.write()
    assert checked[0][0].tolist() == check_table(gradients).tolist()
    for given in calls:
        run_adam(*given)
    own = AdamW([{"params": expected[:3]}, {"params": expected[3:], "weight_decay": 0.1}], lr=0.1)
    own.step()
    torch.testing.assert_close(parameters, expected, rtol=1e-5, atol=1e-6)


def test_numbers_beside_those_of_a_table_stay(kernels):
    whole = [torch.full((5000,), number) for number in (1.0, 2.0, 3.0, 5.0)]
    parts = [[x[7:4990]] for x in whole]
    many_tensors.run_adam(
        adam_table(parts, [torch.ones(())], AdamSettings()), torch.tensor(0.1), None, None
    )
    many_tensors.run_check(check_table(parts[1]), torch.zeros(()), torch.tensor(2.0))
    for after, before in zip(whole, (1, 2, 3, 5), strict=True):
        assert (after != before).nonzero().flatten().tolist() == list(range(7, 4990))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [0, 2047, 2048, 4999])
def test_a_check_finds_what_is_not_finite(bad, place, kernels):
    gradients = [torch.full((5000,), 3e38), torch.randn(3, 3)]
    found, halves = torch.zeros(()), [x / 2 for x in gradients]
    many_tensors.run_check(check_table(gradients), found, torch.tensor(0.5))
    torch.testing.assert_close(gradients, halves, rtol=0, atol=0)
    assert found == 0
    gradients[0][place] = bad
    many_tensors.run_check(check_table(gradients), found, torch.ones(()))
    torch.testing.assert_close(gradients[1], halves[1], rtol=0, atol=0)
    assert found == 1


def test_without_room_pytorch_makes_the_step():
    parameter, found = torch.ones(1, requires_grad=True), torch.zeros(())
    parameter.grad = torch.ones(1)
    with many_tensors._Replacement(lambda table: None):
        torch._amp_foreach_non_finite_check_and_unscale_([parameter.grad], found, torch.ones(()))
        Adam([parameter], lr=torch.tensor(0.1), fused=True).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9]))


def test_a_check_is_replaced(monkeypatch):
    calls = []
    monkeypatch.setattr(many_tensors, "run_check", lambda *given: calls.append(given))
    gradients, found = [torch.ones(3)], torch.zeros(())
    with many_tensors._Replacement(lambda table: table):
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, torch.ones(()))
    ((table, flag, factor),) = calls
    assert table.tolist() == [gradients[0].data_ptr(), 3]
    assert flag is found
    assert factor == 1


def test_only_ordinary_tensors_suit():
    suits = many_tensors._suit
    given = torch.zeros(4, 6)
    assert suits([given], [torch.zeros(4, 6)])
    assert suits([torch.zeros(4, 1)], [torch.zeros(4, 7)[:, :1].contiguous()])
    assert not suits([given.half()])
    assert not suits([given[:, ::2]])
    assert not suits([given], [torch.zeros(6, 4).T])
    assert not suits([given.to_sparse()])
    assert suits([torch.empty(2**25, device="meta")])
    assert not suits([torch.empty(2**25, device="meta"), given])


def test_nothing_is_compiled_that_no_step_needs(monkeypatch):
    asked = []
    monkeypatch.setattr(many_tensors, "is_usable", lambda device, logger: asked.append(device))
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    kernels = many_tensors.ManyTensors(LOGGER)
    kernels.prepare(optimizer, checked=False)
    assert asked == []
    kernels.prepare(optimizer, checked=True)
    assert asked == [torch.device("cpu")]


def test_where_kernels_fail_each_logger_says_so_once(caplog):
    nowhere, other = torch.device("cuda:99"), logging.getLogger("another")
    many_tensors.is_usable.cache_clear()
    for logger in (LOGGER, other, LOGGER):
        assert not many_tensors.is_usable(nowhere, logger)
    assert [record.name for record in caplog.records] == [LOGGER.name, other.name]
    (told,) = {record.getMessage().partition(": ")[0] for record in caplog.records}
    assert told == "optimizers run PyTorch's kernels"


@pytest.mark.parametrize("logger", [None, LOGGER])
def test_that_logger_is_the_steps(logger, monkeypatch):
    asked = []
    monkeypatch.setattr(many_tensors, "is_usable", lambda device, logger: asked.append(logger))
    model = Module.from_torch(torch.nn.Linear)(1, 1)
    capture = StaticCaptureTraining(model, Adam(model.parameters()), logger=logger)
    capture._program(lambda x: model(x).sum()).prepare()
    assert asked == [logger or logging.getLogger("physicsnemo.capture")]


def test_nothing_is_replaced_without_a_gpu():
    kernels = many_tensors.ManyTensors(LOGGER)
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = Adam([parameter], lr=torch.tensor(0.1), fused=True)
    kernels.prepare(optimizer, checked=True)
    with kernels.active() as tables:
        parameter.grad = torch.ones(1)
        optimizer.step()
    kernels.write()
    assert tables == []
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.1]))
