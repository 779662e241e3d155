# SPDX-License-Identifier: Apache-2.0
"""How the conformance kit plans and reports checks; which models fail is shown beside it."""

import pytest
import torch
from torch import nn

from physicsnemo import ModelMetaData, Module
from physicsnemo.testing import Case, check_compile, conformance_test, noise, run_checks
from physicsnemo.testing._proofs import PROOFS
from physicsnemo.utils import StaticCaptureTraining


class Scale(Module):
    """A model with a flag that a CPU proves, two that it cannot, and an idle parameter."""

    def __init__(self, size: int, inner: Module | None = None) -> None:
        super().__init__(meta=ModelMetaData(bf16=True, cuda_graphs=True, trt=True))
        self.weight = nn.Parameter(torch.ones(size))
        self.idle = nn.Parameter(torch.ones(size))
        self.inner = inner

    def forward(self, x):
        return self.weight * (x if self.inner is None else self.inner(x))


def case_of(id="plain", dead=("idle",), batched=True, **arguments) -> Case:
    reasons = dict.fromkeys(dead, "a test needs it")
    return Case(id, Scale, {"size": 3} | arguments, lambda: (torch.ones(4, 3),), reasons, batched)


def outcomes(case: Case) -> dict[str, str]:
    return {result.check: result.outcome for result in run_checks(case, expensive=False)}


def names(test) -> list[str]:
    (mark,) = test.pytestmark
    return [item.id for item in mark.args[1]]


test_scale = conformance_test([case_of()])


def test_unprovable_claims_are_reported():
    results = {result.check: result for result in run_checks(case_of(), expensive=False)}
    assert results["bf16"].outcome == "passed"
    assert results["cuda_graphs"].outcome == results["trt"].outcome == "unproven"
    assert "jit" not in results
    assert str(results["cuda_graphs"]) == (
        "unproven cuda_graphs: UnprovenError: Scale claims cuda_graphs, which cpu cannot prove"
    )


def test_a_fallback_to_eager_steps_proves_no_graphs():
    model = case_of().build()
    logger = StaticCaptureTraining(model=model, optim=torch.optim.SGD(model.parameters())).logger
    expected = f"0 of the last 5 steps replayed a CUDA graph; the logger '{logger.name}' says why"
    with pytest.raises(AssertionError, match=expected):
        PROOFS["cuda_graphs"].function(case_of(), torch.device("cpu"))


def test_unprovable_claim_has_no_item():
    test = conformance_test([case_of()])
    names = {item.values[1].name for item in test.pytestmark[0].args[1]}
    assert "trt" not in names
    assert "trt" in {result.check for result in run_checks(case_of(), expensive=False)}


@pytest.mark.parametrize(
    ("dead", "message"),
    [
        ([], r"no gradient reaches \['idle'\]"),
        (["idle", "weight"], r"listed as dead, but a gradient reaches: \['weight'\]"),
        (["idle", "absent"], r"listed as dead, but no trainable parameters: \['absent'\]"),
    ],
)
def test_dead_parameters_are_exact(dead, message):
    found = {result.check: result for result in run_checks(case_of(dead=dead), expensive=False)}
    with pytest.raises(AssertionError, match=message):
        raise found["gradients"].error


def test_batches_are_compared_only_where_declared():
    assert outcomes(case_of())["batch"] == "passed"
    assert "batch" not in outcomes(case_of(batched=False))


class KeepsFunction(Scale):
    """A model that cannot be pickled."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.function = lambda x: x


def excepting(model=KeepsFunction, **exceptions) -> Case:
    dead = {"idle": "a test needs it"}
    return Case("plain", model, {"size": 3}, noise(4, 3), dead=dead, exceptions=exceptions)


class Named(Module):
    """A model that takes its inputs by name alone, which torch.jit and torch.fx do not."""

    def __init__(self, size: int) -> None:
        super().__init__(
            meta=ModelMetaData(
                amp_cpu=True, bf16=True, onnx_cpu=True, func_torch=True, auto_grad=True
            )
        )
        self.linear = nn.Linear(size, size)

    def forward(self, *, x, shift):
        return torch.tanh(self.linear(x)) + shift


def by_name():
    x, shift = noise(4, 3)()[0], noise(4, 1)()[0]
    return {"shift": shift, "x": x}


test_named = conformance_test([Case("small", Named, {"size": 3}, by_name)], devices=["cpu"])
test_excepted = conformance_test([excepting(pickle="a function is kept")], thorough=[])


def test_an_exception_is_reported_with_its_reason():
    results = {it.check: it for it in run_checks(excepting(pickle="is kept"), expensive=False)}
    assert str(results.pop("pickle")) == "excepted pickle: is kept"
    assert {result.outcome for result in results.values()} == {"passed", "unproven"}


def test_an_exception_whose_check_passes_is_a_failure():
    found = {it.check: it for it in run_checks(excepting(Scale, pickle="kept"), expensive=False)}
    assert str(found["pickle"]) == (
        "failed   pickle: AssertionError: passes; delete the exception: kept"
    )
    (mark,) = conformance_test([excepting(Scale, pickle="kept")], devices=["cpu"]).pytestmark
    (item,) = (item for item in mark.args[1] if item.values[1].name == "pickle")
    assert [it.kwargs for it in item.marks] == [{"reason": "kept", "strict": True}]


@pytest.mark.parametrize(
    ("exceptions", "message"),
    [
        ({"pickles": "is kept"}, r"Scale-plain excepts \['pickles'\], .* checkpoint, .*, pickle, "),
        ({"pickle": ""}, r"Scale-plain excepts \['pickle'\] without a reason"),
    ],
)
def test_exceptions_that_mean_nothing(exceptions, message):
    case = excepting(Scale, **exceptions)
    with pytest.raises(ValueError, match=message):
        conformance_test([case])
    with pytest.raises(ValueError, match=message):
        run_checks(case)


def test_model_among_the_arguments():
    inner = Module.from_torch(nn.Linear)(3, 3)
    case = case_of(inner=inner)
    assert set(outcomes(case).values()) == {"passed", "unproven"}
    assert case.build().inner is not case.build().inner


@pytest.mark.parametrize(
    ("thorough", "ids"), [(None, {"a"}), (["b"], {"b"}), (["a", "b"], {"a", "b"}), ([], set())]
)
def test_which_cases_get_expensive_checks(thorough, ids):
    items = names(
        conformance_test([case_of("a"), case_of("b")], thorough=thorough, devices=["cpu"])
    )
    assert {item.split("-")[1] for item in items if item.endswith("-compile")} == ids
    assert {item.split("-")[1] for item in items if item.endswith("-pickle")} == {"a", "b"}


def test_each_device_gets_its_own_checks():
    items = names(conformance_test([case_of()], devices=["cpu", "cuda"]))
    assert "Scale-plain-pickle-cpu" in items
    assert "Scale-plain-pickle-cuda" in items
    assert [item for item in items if "cuda_graphs" in item] == ["Scale-plain-cuda_graphs-cuda"]
    assert [item for item in items if "-device" in item] == ["Scale-plain-device-cuda"]


def test_failure_says_what_was_expected():
    case = Case("bad", Scale, {"wide": 3}, lambda: ())
    test = conformance_test([case], devices=["cpu"])
    assert names(test) == ["Scale-bad-construction"]
    with pytest.raises(TypeError, match="wide") as caught:
        test(*test.pytestmark[0].args[1][0].values)
    assert caught.value.__notes__[0].startswith("Scale-bad, check 'construction' on cpu: Argu")


def test_random_numbers_outside_go_on():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_checks(case_of(), expensive=False)
    assert torch.equal(torch.rand(3), expected)


def test_compile_takes_another_backend():
    check_compile(case_of(), backend="eager")
