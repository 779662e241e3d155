# SPDX-License-Identifier: Apache-2.0
"""Models that start from the weights of another one, of other constructor arguments."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.adaptation import rules
from physicsnemo.utils import adapt
from physicsnemo.utils.adaptation import overlap, resampled


class Blocks(Module):
    """Convolutions one after the other, a head that may be missing, and a normalization."""

    def __init__(self, channels, hidden=4, depth=2, kernel=3, head=True):
        super().__init__()
        self.first = torch.nn.Conv1d(channels, hidden, kernel)
        self.blocks = torch.nn.ModuleList(torch.nn.Conv1d(hidden, hidden, 1) for _ in range(depth))
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.head = torch.nn.ConvTranspose1d(hidden, 2, kernel) if head else None

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = torch.tanh(block(x))
        x = self.norm(x)
        return x if self.head is None else self.head(x)


class Outer(Module):
    def __init__(self, inner, gain=1.0):
        super().__init__()
        self.inner, self.gain = inner, gain

    def forward(self, x):
        return self.gain * self.inner(x)


def outcomes(adapted):
    return {it.name: it.how for it in adapted.tensors}


@pytest.fixture
def trained():
    model = Blocks(3)
    model(torch.randn(8, 3, 16))  # so that the statistics are not those of the start
    return model.eval()


def test_unchanged_arguments_make_a_copy(trained):
    adapted = adapt(trained)
    assert set(outcomes(adapted).values()) == {"copied"}
    assert outcomes(adapted).keys() == trained.state_dict().keys() - {"device_buffer"}
    x = torch.randn(2, 3, 16)
    assert torch.equal(adapted.model(x), trained(x))
    adapted.model.first.weight.data.zero_()
    assert trained.first.weight.abs().sum() > 0, "they share memory"


def test_added_inputs_and_channels_leave_the_function(trained):
    model = adapt(trained, channels=5, hidden=7).model
    x, more = torch.randn(2, 3, 16), torch.randn(2, 2, 16)
    # The running statistics of new channels are those of the start; no old output reads them.
    torch.testing.assert_close(model(torch.cat((x, more), 1)), trained(x), rtol=0, atol=1e-6)
    assert not torch.equal(model.first.weight[4:], torch.zeros(3, 5, 3))


def test_added_inputs_are_learned(trained):
    model = adapt(trained, channels=5).model
    model(torch.randn(2, 5, 16)).square().sum().backward()
    assert model.first.weight.grad[:, 3:].abs().min() > 0


def test_fewer_channels_keep_the_first(trained):
    model = adapt(trained, channels=2).model
    x = torch.randn(2, 2, 16)
    absent = torch.cat((x, torch.zeros(2, 1, 16)), 1)
    torch.testing.assert_close(model(x), trained(absent), rtol=0, atol=1e-6)


def test_blocks_correspond_by_number(trained):
    deeper = adapt(trained, depth=3)
    assert torch.equal(deeper.model.blocks[1].weight, trained.blocks[1].weight)
    found = outcomes(deeper)
    assert (found["blocks.1.weight"], found["blocks.2.weight"]) == ("copied", "fresh")
    shallower = adapt(trained, depth=1)
    assert outcomes(shallower)["blocks.1.weight"] == "left out"
    assert str(shallower).splitlines() == [
        "Blocks: 11 copied, 2 left out",
        "  left out  blocks.1.weight  (4, 4, 1)",
        "  left out  blocks.1.bias  (4,)",
    ]


def test_kernels_of_another_size_are_fresh(trained):
    found = outcomes(adapt(trained, kernel=5))
    assert {it for it, how in found.items() if how == "fresh"} == {"first.weight", "head.weight"}


def test_a_file_is_taken_too(trained, tmp_path):
    trained.save(tmp_path / "trained.mdlus")
    model = adapt(tmp_path / "trained.mdlus", head=False).model
    assert torch.equal(model.first.weight, trained.first.weight)
    model.save(tmp_path / "adapted.mdlus")
    again = Module.from_checkpoint(tmp_path / "adapted.mdlus", trusted=[Blocks])
    x = torch.randn(2, 3, 16)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_type_and_mode_stay(trained):
    model = adapt(trained.double(), channels=4).model
    assert model.first.weight.dtype == torch.float64
    assert not model.training
    assert adapt(trained.train()).model.training


def test_a_model_within_a_model(trained):
    outer = Outer(trained)
    other = adapt(outer, gain=2.0).model
    assert other.inner is not trained
    x = torch.randn(2, 3, 16)
    assert torch.equal(other.eval()(x), 2 * outer(x))
    wider = adapt(outer, inner=adapt(trained, channels=4).model).model
    assert wider.inner.first.weight.shape == (4, 4, 3)


def test_converted_models():
    model = Module.from_torch(torch.nn.Linear)(3, 2)
    adapted = adapt(model, in_features=4)
    assert outcomes(adapted) == {"inner_model.weight": "adapted", "inner_model.bias": "copied"}
    assert torch.equal(adapted.model.inner_model.weight[:, :3], model.inner_model.weight)


def test_what_cannot_be_adapted_is_said(trained):
    with pytest.raises(TypeError, match="unexpected keyword argument 'chanels'"):
        adapt(trained, chanels=4)
    with pytest.raises(TypeError, match=r"got a model of the class Linear; .*from_torch"):
        adapt(torch.nn.Linear(2, 3))
    with pytest.raises(TypeError, match=r"path of a \.mdlus file, got a dict"):
        adapt({"weight": 1})


def test_last_entries_may_correspond():
    old, fresh = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0, 8.0])
    assert overlap(old, fresh, from_end=[0]).tolist() == [2.0, 3.0]
    assert overlap(fresh, old, from_end=[0]).tolist() == [1.0, 7.0, 8.0]
    assert overlap(fresh, old, reads=[0], from_end=[0]).tolist() == [0.0, 7.0, 8.0]


def test_resampling_keeps_what_is_linear():
    def plane(rows, columns):
        y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (rows, columns))
        return (2 * y[:, None] - 3 * x + 1)[None]

    assert torch.equal(resampled(plane(32, 64), (32, 64)), plane(32, 64))
    for grid in [(64, 128), (8, 16)]:
        inner = (slice(None), *(slice(size // 4, -size // 4) for size in grid))
        found = resampled(plane(32, 64), grid)
        torch.testing.assert_close(found[inner], plane(*grid)[inner], rtol=0, atol=1e-6)


LAB = """
import torch
from physicsnemo import Module
from physicsnemo.core.adaptation import rules
from physicsnemo.utils.adaptation import Rules, overlap

class Mixing(Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(inputs, outputs))
        self.register_buffer("sizes", torch.tensor([inputs, outputs]))
    def forward(self, x):
        return x @ self.weight

def inputs_first(change):
    return overlap(change.old, change.fresh, reads=[0])

RULES = {Mixing: Rules({"weight": inputs_first}, constants=["sizes"])}
"""


def test_a_package_declares_rules_for_its_layers(install):
    group = "[physicsnemo.adaptation]\nmixing_lab = mixing_lab:RULES\n"
    install("mixing-lab", group, mixing_lab=LAB)
    rules._entry_points.cache_clear()
    from mixing_lab import Mixing

    model, x = Mixing(3, 2), torch.randn(4, 3)
    adapted = adapt(model, inputs=5, outputs=4)
    rules._entry_points.cache_clear()
    assert outcomes(adapted) == {"weight": "adapted", "sizes": "computed"}
    assert adapted.model.sizes.tolist() == [5, 4]
    found = adapted.model(torch.cat((x, torch.randn(4, 2)), dim=1))
    torch.testing.assert_close(found[:, :2], model(x))


def test_vectors_of_any_layer_are_carried_over(affine):
    model = affine(3)
    wider = adapt(model, size=5)
    assert outcomes(wider) == {"scale": "adapted", "shift": "adapted"}
