# SPDX-License-Identifier: Apache-2.0
"""Loading equals constructing, then loading; and nothing is built that no file can mean."""

import functools
import threading

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format import container
from physicsnemo.core.format.container import open_checkpoint, write_checkpoint

GIGABYTES = 2**31  # numbers of one byte


class Drawing(Module):
    """Draws weights, and keeps besides what it draws and what it makes of them."""

    def __init__(self, size=3, seed=None):
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
        self.layer = torch.nn.Linear(size, size)
        self.register_buffer("features", torch.randn(size), persistent=False)
        self.rank = int(torch.linalg.matrix_rank(self.layer.weight.detach()))
        self.first = self.layer.weight.detach().clone()


class Declared(Module):
    """Draws nothing but weights, and says so."""

    _draws_only_weights = True

    def __init__(self, size=3):
        super().__init__()
        self.layer = torch.nn.Linear(size, size)


class Derived(Declared):
    """Inherits from one that says so, and draws more."""

    def __init__(self, size=3):
        super().__init__(size)
        self.register_buffer("features", torch.randn(size), persistent=False)


class Holder(Module):
    """Takes another model."""

    _draws_only_weights = True

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def forget_back(model, state, prefix, metadata):
    del state[f"{prefix}back"]


class Frozen(Module):
    """Leaves a seeded parameter out of its state."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.back = torch.nn.Parameter(torch.empty(2, 2), requires_grad=False)
        torch.nn.init.normal_(self.back, generator=torch.Generator().manual_seed(3))
        self.register_state_dict_post_hook(forget_back)
        self.register_load_state_dict_post_hook(lambda model, keys: keys.missing_keys.clear())


class Counted(Module):
    """Counts how often it is built."""

    built = 0

    def __init__(self):
        super().__init__()
        type(self).built += 1


@functools.cache
def grid(size):
    return torch.linspace(0, 1, size)


class Caching(Module):
    """Keeps a tensor for later models of its class."""

    def __init__(self, size=4):
        super().__init__()
        self.register_buffer("grid", grid(size), persistent=False)


def grown(size, how):
    """Make a tensor of some bytes in one of many ways."""
    few = torch.zeros(2**16, dtype=torch.uint8)
    return {
        "zeros": lambda: torch.zeros(size, dtype=torch.uint8),
        "randint": lambda: torch.randint(9, (size,), dtype=torch.uint8),
        "arange": lambda: torch.arange(0.0, 1.0, 8 / size, dtype=torch.float64),
        "expand": lambda: few[:1].expand(size).clone(),
        "repeat": lambda: few.repeat(size // 2**16),
        "outer": lambda: few[:, None] * few[: size // 2**16],
        "pad": lambda: torch.nn.functional.pad(few, (0, size)),
        "one_hot": lambda: torch.nn.functional.one_hot(few[: 2**8].long(), size // 2**11),
        "many": lambda: torch.cat([torch.zeros(size // 8, dtype=torch.uint8) for _ in range(8)]),
        "kept": lambda: [torch.empty(size // 64, dtype=torch.uint8) for _ in range(64)],
        "module": lambda: torch.nn.Linear(size // 2**16, 2**14),
    }[how]()


class Growing(Module):
    """Makes a tensor as large as it is told to."""

    def __init__(self, size, how):
        super().__init__()
        self.made = grown(size, how)


class Passing(Module):
    """Makes many tensors, one after the other, and keeps none."""

    def __init__(self, times):
        super().__init__()
        for _ in range(times):
            torch.empty(2**26)


def saved(model, path):
    model.save(path)
    return path


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("strict", [True, False])
def test_loading_draws_what_constructing_draws(tmp_path, seed, strict):
    path = saved(Drawing(seed=seed), tmp_path / "drawing.mdlus")
    torch.manual_seed(1)
    built = Drawing(seed=seed)
    built.load(path)
    next_number = torch.rand(())
    torch.manual_seed(1)
    loaded = Module.from_checkpoint(path, strict=strict)
    assert torch.equal(torch.rand(()), next_number)
    assert torch.equal(loaded.layer.weight, built.layer.weight)
    assert torch.equal(loaded.features, built.features)
    assert torch.equal(loaded.first, built.first)
    assert loaded.rank == built.rank


def test_parameters_that_no_file_holds_are_drawn(tmp_path):
    model = Frozen()
    loaded = Module.from_checkpoint(saved(model, tmp_path / "frozen.mdlus"))
    assert torch.equal(loaded.back, model.back)


def test_a_constructor_runs_once(tmp_path):
    path = saved(Counted(), tmp_path / "counted.mdlus")
    Counted.built = 0
    Module.from_checkpoint(path)
    assert Counted.built == 1


def test_what_a_constructor_keeps_for_others_is_on_the_cpu(tmp_path):
    path = saved(Caching(), tmp_path / "caching.mdlus")
    grid.cache_clear()
    assert Module.from_checkpoint(path).grid.tolist() == Caching().grid.tolist()


def test_declared_classes_draw_nothing(tmp_path):
    model = Holder(Declared())
    path = saved(model, tmp_path / "declared.mdlus")
    before = torch.get_rng_state()
    loaded = Module.from_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(loaded.inner.layer.weight, model.inner.layer.weight)
    Module.from_checkpoint(path, strict=False)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("model", [Derived(), Holder(Derived())])
def test_the_declaration_holds_for_the_class_alone_that_makes_it(tmp_path, model):
    path = saved(model, tmp_path / "derived.mdlus")
    torch.manual_seed(1)
    expected = Derived().features
    torch.manual_seed(1)
    loaded = Module.from_checkpoint(path)
    assert torch.equal(getattr(loaded, "inner", loaded).features, expected)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_other_default_devices(tmp_path, device):
    model = Drawing()
    path = saved(model, tmp_path / "drawing.mdlus")
    with torch.device(device):
        in_context = Module.from_checkpoint(path)
    torch.set_default_device(device)
    try:
        by_default = Module.from_checkpoint(path)
    finally:
        torch.set_default_device(None)
    for loaded in (in_context, by_default):
        assert loaded.device.type == loaded.features.device.type == "cpu"
        assert torch.equal(loaded.layer.weight, model.layer.weight)


HOWS = ["zeros", "randint", "arange", "expand", "repeat", "outer", "pad", "one_hot", "many"]
HOWS += ["kept", "module"]


@pytest.mark.parametrize("how", HOWS)
def test_small_files_cannot_ask_for_gigabytes(tmp_path, how):
    path = tmp_path / "growing.mdlus"
    state, arguments, metadata = content(saved(Growing(2**16, how), path))
    arguments["__args__"]["size"] = GIGABYTES
    write_checkpoint(path, state, arguments, metadata)
    with pytest.raises(CheckpointError, match=r"growing.mdlus asks for tensors of \d+ bytes, and"):
        Module.from_checkpoint(path)


@pytest.mark.parametrize("how", HOWS)
def test_files_may_ask_for_what_is_not_large(tmp_path, how):
    Module.from_checkpoint(saved(Growing(2**24, how), tmp_path / "growing.mdlus"))


def test_weights_that_claim_to_be_large_count_as_what_they_are(tmp_path, monkeypatch):
    path = tmp_path / "stretched.mdlus"
    _, arguments, metadata = content(saved(Declared(2), path))
    arguments["__args__"]["size"] = 2**15
    weight = torch.zeros(1)
    state = {"layer.weight": weight.expand(2**15, 2**15), "layer.bias": weight.expand(2**15)}
    with pytest.raises(CheckpointError, match="whose elements overlap claim"):
        write_checkpoint(path, state, arguments, metadata)
    monkeypatch.setattr(container, "_read_back", lambda path: None)  # as other programs write
    write_checkpoint(path, state, arguments, metadata)
    with pytest.raises(CheckpointError, match="whose elements overlap claim"):
        Module.from_checkpoint(path)


def test_memory_that_is_free_again_does_not_count(tmp_path):
    Module.from_checkpoint(saved(Passing(8), tmp_path / "passing.mdlus"))


def test_threads_load_and_build_at_once(tmp_path):
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(50)))
    deep = Module.from_torch(Deep)
    path = saved(deep(50), tmp_path / "deep.mdlus")
    errors = []

    def work(load):
        try:
            for _ in range(5):
                Module.from_checkpoint(path) if load else Deep(2000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(load,)) for load in (True, False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(model) == 50


class Deep(torch.nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(depth))


def test_constructors_may_use_numpy_and_other_generators(tmp_path):
    class Tables(Module):
        def __init__(self, size):
            super().__init__()
            table = torch.from_numpy(np.linspace(0, 1, size)).float()
            self.register_buffer("table", table, persistent=False)
            noise = torch.randn(size, generator=torch.Generator().manual_seed(1))
            self.register_buffer("noise", noise, persistent=False)
            self.total = float(torch.fft.rfft(noise).abs().numpy().sum())

    model = Tables(2000)
    loaded = Module.from_checkpoint(saved(model, tmp_path / "tables.mdlus"))
    assert torch.equal(loaded.table, model.table)
    assert torch.equal(loaded.noise, model.noise)
    assert loaded.total == model.total


def content(path):
    with open_checkpoint(path) as file:
        return file.state_dict(), file.arguments, file.metadata
