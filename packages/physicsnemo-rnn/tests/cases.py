# SPDX-License-Identifier: Apache-2.0
"""Examples of both models, for tests and benchmarks: odd and non-square grids, few time steps."""

from physicsnemo.testing import Case, noise

SMALL = {
    "input_channels": 2,
    "nr_latent_channels": 4,
    "nr_residual_blocks": 1,
    "nr_tsteps": 2,
}
DEEP = SMALL | {"nr_residual_blocks": 2, "nr_downsamples": 3, "activation_fn": "prelu"}
VOLUME = SMALL | {"dimension": 3}


CASES = [
    Case("2d", "One2ManyRNN", SMALL, noise(2, 2, 1, 5, 8)),
    Case("deep", "One2ManyRNN", DEEP, noise(2, 2, 1, 7, 10)),
    Case("one_grid", "One2ManyRNN", SMALL | {"nr_downsamples": 1}, noise(2, 2, 1, 5, 6)),
    Case("3d", "One2ManyRNN", VOLUME, noise(2, 2, 1, 5, 4, 6)),
    Case(
        "reference",
        "One2ManyRNN",
        SMALL | {"numerics": "reference-1.2"},
        noise(2, 2, 1, 5, 8),
        accepts={"x:surplus_2": "releases before 2.0 ignore further time steps"},
    ),
    Case("2d", "Seq2SeqRNN", SMALL, noise(2, 2, 2, 5, 8)),
    Case("deep", "Seq2SeqRNN", DEEP, noise(2, 2, 2, 7, 10)),
    Case("one_step", "Seq2SeqRNN", SMALL | {"nr_tsteps": 1}, noise(2, 2, 1, 6, 5)),
    Case("3d", "Seq2SeqRNN", VOLUME, noise(2, 2, 2, 5, 4, 6)),
    Case("reference", "Seq2SeqRNN", SMALL | {"numerics": "reference-2.1"}, noise(2, 2, 2, 5, 8)),
]
