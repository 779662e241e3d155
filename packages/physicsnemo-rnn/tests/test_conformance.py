# SPDX-License-Identifier: Apache-2.0
"""The models have whatever is expected of models, and their metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.rnn import rnn_one2many, rnn_seq2seq
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]
FLAGS = {
    *("cuda_graphs", "amp", "amp_cpu", "amp_gpu", "torch_fx", "func_torch", "auto_grad"),
    *("onnx", "onnx_cpu", "onnx_gpu", "onnx_runtime"),
}

test_conformance = conformance_test(CASES)


@pytest.mark.parametrize(
    ("module", "name"), [(rnn_one2many, "One2ManyRNN"), (rnn_seq2seq, "Seq2SeqRNN")]
)
def test_flags(module, name):
    meta = module.MetaData()
    assert {flag for flag, value in asdict(meta).items() if value is True} == FLAGS
    assert meta.name == name
    assert meta.var_dim == -1
