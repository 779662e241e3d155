# SPDX-License-Identifier: Apache-2.0
"""Examples of FullyConnected, for tests and benchmarks."""

from physicsnemo.testing import Case, noise

SMALL = {"in_features": 5, "layer_size": 16, "out_features": 3, "num_layers": 3}
ANY_AXES = {"x:*_axes": "the last axis counts, whatever is before it"}

CASES = [
    Case("plain", "FullyConnected", SMALL, noise(7, 5), accepts=ANY_AXES),
    Case(
        "no_hidden_layer",
        "FullyConnected",
        SMALL | {"num_layers": 0},
        noise(7, 16),
        accepts=ANY_AXES,
    ),
    Case(
        "skip_adaptive",
        "FullyConnected",
        SMALL
        | {
            "num_layers": 6,
            "activation_fn": ["tanh", "prelu", "silu"],
            "skip_connections": True,
            "adaptive_activations": True,
        },
        noise(2, 3, 5),
        accepts=ANY_AXES,
    ),
    Case(
        "weight_norm",
        "FullyConnected",
        SMALL | {"weight_norm": True},
        noise(7, 5),
        accepts=ANY_AXES,
    ),
    Case(
        "weight_fact",
        "FullyConnected",
        SMALL | {"weight_fact": True},
        noise(7, 5),
        accepts=ANY_AXES,
    ),
]
