# SPDX-License-Identifier: Apache-2.0
"""Every conformance check can fail: each has a model that is broken in one way."""

import random
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from physicsnemo import ModelMetaData, Module
from physicsnemo.testing import Case, check_flag, provable_flags, run_checks
from physicsnemo.testing.checks.devices import check_device


class Good(Module):
    """A model that keeps every promise; the broken ones differ from it in one respect."""

    claims = ()

    def __init__(self, size: int = 3) -> None:
        super().__init__(meta=ModelMetaData(**dict.fromkeys(self.claims, True)))
        self.size = size
        self.linear = nn.Linear(size, size)

    def forward(self, x):
        return torch.tanh(self.linear(x))


class RaisesInConstructor(Module):
    def __init__(self, size: int = 3) -> None:
        raise ValueError(f"no model of size {size}")


class ReturnsNaN(Good):
    def forward(self, x):
        return super().forward(x) / torch.zeros(())


class TakesFunction(Good):
    def __new__(cls, size: int = 3):
        return super().__new__(cls, size, torch.tanh)

    def __init__(self, size: int = 3, activation=None) -> None:
        super().__init__(size)


class ChangesInput(Good):
    def forward(self, x):
        return super().forward(x.mul_(2))


class SavesRounded(Good):
    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {name: tensor.half().to(tensor.dtype) for name, tensor in state.items()}


class DrawsAtConstruction(Good):
    def __init__(self, size: int = 3) -> None:
        super().__init__(size)
        self.offset = torch.rand(()).item()

    def forward(self, x):
        return super().forward(x) + self.offset


class SharesWithCopies(Good):
    def __deepcopy__(self, memo):
        twin = type(self)(self.size)
        twin.linear = self.linear
        return twin.train(self.training)


class HoldsLambda(Good):
    def __init__(self, size: int = 3) -> None:
        super().__init__(size)
        self.activation = lambda x: x

    def forward(self, x):
        return self.activation(super().forward(x))


class CountsCallsOfAll(Good):
    calls = 0

    def forward(self, x):
        CountsCallsOfAll.calls += self.training
        return super().forward(x) + self.calls


class SeedsTorch(Good):
    def __init__(self, size: int = 3) -> None:
        torch.manual_seed(0)
        super().__init__(size)


class SeedsNumpy(Good):
    def __init__(self, size: int = 3) -> None:
        np.random.seed(0)  # noqa: NPY002
        super().__init__(size)


class SeedsPython(Good):
    def __init__(self, size: int = 3) -> None:
        random.seed(0)
        super().__init__(size)


class ChangesBackend(Good):
    def __init__(self, size: int = 3) -> None:
        torch.backends.cudnn.benchmark = True
        super().__init__(size)


class FiltersWarnings(Good):
    def __init__(self, size: int = 3) -> None:
        warnings.simplefilter("ignore", ResourceWarning)
        super().__init__(size)


class DropsInEvaluation(Good):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class UnusedParameter(Good):
    def __init__(self, size: int = 3) -> None:
        super().__init__(size)
        self.unused = nn.Parameter(torch.ones(size))


class MixesBatch(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class SumsBatch(Good):
    def forward(self, x):
        return super().forward(x).sum(0)


class SinglePrecision(Good):
    def forward(self, x):
        return super().forward(x).float()


class TensorAttribute(Good):
    def __init__(self, size: int = 3) -> None:
        super().__init__(size)
        self.scale = torch.full((size,), 2.0)

    def forward(self, x):
        return super().forward(x) * self.scale


class StaysWhereItIs(Good):
    def to(self, target):
        return self


class DependsOnGradientMode(Good):
    def forward(self, x):
        return super().forward(x) * (2 if torch.is_grad_enabled() else 1)


class GraphBreak(Good):
    def forward(self, x):
        torch._dynamo.graph_break()
        return super().forward(x)


class BranchesOnValues(Good):
    def forward(self, x):
        return super().forward(x) if x.sum() > -1e9 else x


class TracesAnother(Good):
    claims = ("jit",)

    def forward(self, x):
        return super().forward(2 * x if torch.jit.is_tracing() else x)


class BranchesAndClaims(BranchesOnValues):
    claims = ("torch_fx", "func_torch", "onnx")


class Cancels(Good):
    claims = ("amp", "bf16")

    def forward(self, x):
        return torch.tanh(self.linear(x) + 1e4 - 1e4)


class DetachesPart(Good):
    claims = ("auto_grad",)

    def forward(self, x):
        y = super().forward(x)
        return y * y.detach()


class AddsNeighbour(Good):
    """Takes the features of nodes, and edges, which are not a batch."""

    claims = ("func_torch",)

    def forward(self, x, edges):
        return super().forward(x + x[edges[0]])


class ChangesEdges(AddsNeighbour):
    def forward(self, x, edges):
        return super().forward(x, edges + (x.sum() > 0).long().item())


class _ReadsTwice(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] + ctx.saved_tensors[0]) / 2


class ReadsSavedTensorsTwice(Good):
    def forward(self, x):
        return _ReadsTwice.apply(super().forward(x))


class _LosesTangents(_ReadsTwice):
    generate_vmap_rule = True

    @staticmethod
    def backward(ctx, gradient):
        (output,) = ctx.saved_tensors
        return gradient * output

    @staticmethod
    def jvp(ctx, tangent):
        return torch.zeros_like(tangent)


class DetachesInForwardMode(Good):
    def forward(self, x):
        return _LosesTangents.apply(super().forward(x))


class DetachesPartUnclaimed(Good):
    def forward(self, x):
        y = super().forward(x)
        return y * y.detach()


class ReadsValues(Good):
    def forward(self, x):
        return super().forward(x) + (0.0 if x.isfinite().all().item() else 1.0)


class ExportsAnother(Good):
    claims = ("onnx_runtime",)

    def forward(self, x):
        return super().forward(2 * x if torch.compiler.is_exporting() else x)


def case_of(model, **declarations) -> Case:
    def inputs():
        return (torch.linspace(-1.5, 1.5, 12).reshape(4, 3),)

    return Case("small", model, {}, inputs, **declarations)


def failures(case: Case, expensive: bool = False) -> dict[str, str]:
    results = run_checks(case, expensive=expensive)
    return {result.check: str(result.error) for result in results if result.outcome == "failed"}


def test_good_model_passes_everything():
    results = run_checks(case_of(Good))
    assert [result for result in results if result.outcome != "passed"] == []
    assert {"checkpoint", "compile", "export"} <= {result.check for result in results}


# What else goes wrong when the input is another one after each call.
AFTER_CALL = ["reload", "deepcopy", "pickle", "instances", "eval", "float64", "capture"]
AFTER_CALL += ["recomputation", "double_backward", "vmap"]


@pytest.mark.parametrize(
    ("model", "checks", "message"),
    [
        (RaisesInConstructor, ["construction"], "no model of size 3"),
        (ReturnsNaN, ["construction"], "an output holds NaN or infinite numbers"),
        (TakesFunction, ["arguments", "checkpoint", "reload"], "'activation' .* not JSON"),
        (ChangesInput, ["inputs", *AFTER_CALL], "an input after the call: relative error"),
        (SavesRounded, ["reload"], "the output after [a-z_]+, eval mode: relative error"),
        (
            DrawsAtConstruction,
            ["reload"],
            "the output after [a-z_]+, eval mode: relative error",
        ),
        (SharesWithCopies, ["deepcopy"], "after use of its copy, the output: relative error"),
        (HoldsLambda, ["pickle"], "Can't pickle"),
        (
            CountsCallsOfAll,
            ["instances", "reload", "deepcopy"],
            "after use of another model, the output of an older one",
        ),
        (SeedsTorch, ["global_state"], "seeds the generator of torch"),
        (SeedsNumpy, ["global_state"], "seeds the generator of numpy.random"),
        (SeedsPython, ["global_state"], "seeds the generator of random"),
        (ChangesBackend, ["global_state"], "the model changes torch.backends.cudnn.benchmark"),
        (FiltersWarnings, ["global_state"], "the model changes warnings.filters"),
        (
            DropsInEvaluation,
            ["eval", "capture", "double_backward", "transforms", "vmap"],
            "the output of a second call: relative error",
        ),
        (UnusedParameter, ["gradients"], r"no gradient reaches \['unused'\].*dead={name: reason}"),
        (MixesBatch, ["batch"], "with other samples in the batch, the output: relative error"),
        (
            SumsBatch,
            ["batch", "empty_batch"],
            r"a batch of 8 gives an output of shape \(3,\).*batched=False",
        ),
        (
            SinglePrecision,
            ["float64", "double_backward", "transforms"],
            "an output is torch.float32, though",
        ),
        (
            ReadsSavedTensorsTwice,
            ["recomputation", "transforms", "vmap"],
            "a tensor that was already unpacked once",
        ),
        (DetachesPartUnclaimed, ["double_backward"], "the second derivative: relative error"),
        (DetachesInForwardMode, ["transforms"], "the Jacobian by jacfwd: relative error"),
        (ReadsValues, ["vmap", "meta_device"], "We don't support vmap over calling .item"),
        (TensorAttribute, ["meta_device"], "expected device meta"),
        (StaysWhereItIs, ["meta_device"], "weight is on cpu after .to.meta"),
        (DependsOnGradientMode, ["capture"], "the output: relative error"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.filterwarnings("ignore:the argument 'activation'")  # of one of them
def test_broken_model_fails(model, checks, message, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # one of them changes it
    found = failures(case_of(model))
    assert sorted(found) == sorted(checks)
    assert re.search(message, found[checks[0]], re.DOTALL)


@pytest.mark.parametrize(
    ("model", "message"),
    [(GraphBreak, "Call to `torch._dynamo.graph_break"), (BranchesOnValues, "Data-dependent br")],
)
def test_compilers_refuse(model, message):
    found = failures(case_of(model), expensive=True)
    needs_values = ["meta_device", "vmap"] if "Data" in message else []
    assert sorted(found) == ["compile", "export", *needs_values]
    assert message in found["compile"]


@pytest.mark.parametrize(
    ("model", "flag", "message"),
    [
        (TracesAnother, "jit", "relative error"),
        (BranchesAndClaims, "torch_fx", "symbolically traced variables cannot be used"),
        (BranchesAndClaims, "func_torch", "data-dependent control flow"),
        (BranchesAndClaims, "onnx_cpu", "data-dependent"),
        (Cancels, "amp_cpu", "relative error"),
        (Cancels, "bf16", "relative error"),
        (DetachesPart, "auto_grad", "the second derivative: relative error"),
        (ExportsAnother, "onnx_runtime", "relative error"),
    ],
)
def test_false_claim_fails(model, flag, message):
    assert flag in provable_flags(case_of(model))
    with pytest.raises(Exception, match=message):
        check_flag(case_of(model), flag)


def test_moving_to_another_device_can_fail():
    # Shown with the meta device, since the model fails before anything is computed there.
    with pytest.raises(AssertionError, match="is on cpu after .to.meta"):
        check_device(case_of(StaysWhereItIs), torch.device("meta"))


def test_samples_of_what_is_no_batch_are_whole_inputs():
    def inputs():
        return torch.linspace(-1.5, 1.5, 12).reshape(4, 3), torch.tensor([[1, 2, 3, 3]])

    good, bad = (Case("graph", m, {}, inputs, batched=False) for m in (AddsNeighbour, ChangesEdges))
    check_flag(good, "func_torch")
    with pytest.raises(RuntimeError, match="item"):
        check_flag(bad, "func_torch")


class KeepsWhatItDraws(Good):
    """Declares that it draws nothing but weights, and makes something of them."""

    _draws_only_weights = True

    def __init__(self, size: int = 3) -> None:
        super().__init__(size)
        one = 1 + 0 * self.linear.weight.sum().item()  # unless there is NaN
        self.register_buffer("ones", torch.full((size,), one), persistent=False)


class DrawsOnlyWeights(Good):
    _draws_only_weights = True


def test_undrawn_weights_are_proven():
    assert "undrawn" not in failures(case_of(DrawsOnlyWeights))
    found = failures(case_of(KeepsWhatItDraws))
    assert list(found) == ["undrawn"]
    assert "after loading, ._buffers" in found["undrawn"]
