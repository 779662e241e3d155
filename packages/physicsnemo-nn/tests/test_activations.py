# SPDX-License-Identifier: Apache-2.0
"""Activations against their formulas."""

import math

import pytest
import torch

from physicsnemo.nn import CappedGELU, CappedLeakyReLU, SquarePlus, Stan, get_activation

X = torch.linspace(-4, 4, 33, dtype=torch.float64)  # zero included
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.1 * x),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "relu6": lambda x: x.clamp(0, 6),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "celu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "selu": lambda x: SELU_SCALE * torch.where(x > 0, x, SELU_ALPHA * (x.exp() - 1)),
    "silu": lambda x: x / (1 + (-x).exp()),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "logsigmoid": lambda x: -(1 + (-x).exp()).log(),
    "softplus": lambda x: (1 + x.exp()).log(),
    "softshrink": lambda x: x.sign() * (x.abs() - 0.5).clamp(min=0),
    "softsign": lambda x: x / (1 + x.abs()),
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "tanhshrink": lambda x: x - x.tanh(),
    "threshold": lambda x: torch.where(x > 1, x, 1.0),
    "hardtanh": lambda x: x.clamp(-1, 1),
    "identity": lambda x: x,
    "stan": lambda x: x.tanh() * (1 + x),
    "squareplus": lambda x: (x + (x**2 + 4).sqrt()) / 2,
    "capped_leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x).clamp(max=1),
    "cappek_leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x).clamp(max=1),
    "sin": lambda x: ((1j * x).exp() - (-1j * x).exp()).imag / 2,
    "capped_gelu": lambda x: (0.5 * x * (1 + torch.erf(x / math.sqrt(2)))).clamp(max=1),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_by_name_follows_its_formula(name):
    activation = get_activation(name).double()
    torch.testing.assert_close(activation(X), FORMULAS[name](X), atol=1e-7, rtol=1e-7)


def test_name_in_any_case():
    assert isinstance(get_activation("Leaky_ReLU"), torch.nn.LeakyReLU)
    assert isinstance(get_activation("GELU"), torch.nn.GELU)


def test_every_call_builds_a_new_module():
    assert get_activation("prelu").weight is not get_activation("prelu").weight


def test_unknown_name_lists_close_matches_and_all_names():
    with pytest.raises(KeyError, match="'leaky_rleu'; did you mean leaky_relu.*there are relu, "):
        get_activation("leaky_rleu")
    with pytest.raises(KeyError, match="'xyzzy'; there are relu, .*capped_gelu"):
        get_activation("xyzzy")


def test_name_that_is_no_string():
    with pytest.raises(TypeError, match="expected the name of an activation.*got SiLU"):
        get_activation(torch.nn.SiLU())


def test_stan_with_one_beta_serves_any_width():
    activation = get_activation("stan")
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(activation(x), torch.tanh(x) * (1 + x))
    activation(x).sum().backward()
    torch.testing.assert_close(activation.beta.grad, (torch.tanh(x) * x).sum().reshape(1))


def test_stan_with_a_beta_for_each_channel():
    activation = Stan(3)
    with torch.no_grad():
        activation.beta.copy_(torch.tensor([0.0, 1.0, 2.0]))
    y = activation(torch.ones(5, 3))
    torch.testing.assert_close(y, math.tanh(1) * torch.tensor([1.0, 2.0, 3.0]).expand(5, 3))
    with pytest.raises(ValueError, match=r"out_features=3\), got \(5, 4\)"):
        activation(torch.ones(5, 4))


def test_squareplus_of_opposite_numbers_multiply_to_one():
    torch.testing.assert_close(SquarePlus()(X) * SquarePlus()(-X), torch.ones_like(X))


@pytest.mark.parametrize(
    ("activation", "inner"),
    [(CappedLeakyReLU(2.5, negative_slope=0.2), "leaky_relu"), (CappedGELU(2.5), "gelu")],
)
def test_cap_is_part_of_the_state(activation, inner):
    assert activation(torch.tensor([9.0])).item() == 2.5
    assert dict(activation.state_dict()) == {"cap": torch.tensor(2.5)}
    assert hasattr(activation, inner)
    assert activation(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.bfloat16
