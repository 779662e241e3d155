# SPDX-License-Identifier: Apache-2.0
"""Every GPU flag in a model's metadata has a proof that belongs to the current code."""

import json
import sys
from dataclasses import asdict

import pytest

from physicsnemo.registry import ModelRegistry
from tools.cases import all_cases
from tools.gpu.code import code_hash
from tools.gpu.prove_flags import PROOFS

FLAGS = ("cuda_graphs", "amp_gpu", "onnx_gpu")


def claimed():
    metas = {case.model: case.build().meta for case in all_cases()}
    return [(model, flag) for model, meta in metas.items() for flag in FLAGS if asdict(meta)[flag]]


@pytest.mark.parametrize(("model", "flag"), claimed())
def test_flag_has_a_current_proof(model, flag):
    proofs = json.loads(PROOFS.read_text())["proofs"]
    found = [p for p in proofs if (p["model"], p["flag"]) == (model, flag)]
    assert found, f"run python -m tools.gpu.prove_flags on a GPU: nothing proves {flag} of {model}"
    current = code_hash(ModelRegistry().factory(model))
    assert found[0]["code"] == current, f"{model} changed since {flag} was proven: prove it again"


@pytest.mark.parametrize(
    "imports", ["import physicsnemo_hashed.layer", "from physicsnemo_hashed import layer"]
)
def test_hash_ignores_comments_but_not_code(imports, tmp_path, monkeypatch):
    package = tmp_path / "physicsnemo_hashed"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "physicsnemo_hashed", raising=False)  # of another folder
    monkeypatch.setattr("tools.gpu.code.FAMILIES", ("physicsnemo_hashed",))
    model = type("Model", (), {"__module__": "physicsnemo_hashed.model"})

    def hashed(model_code, layer_code="x = 1\n"):
        (package / "__init__.py").write_text("")
        (package / "layer.py").write_text(layer_code)
        (package / "model.py").write_text(f"{imports}\n{model_code}")
        return code_hash(model)

    first = hashed("def f():\n    return 1\n")
    assert hashed('def f():\n    """Return one."""\n    return 1  # indeed\n') == first
    assert hashed("def f():\n    return 2\n") != first
    assert hashed("def f():\n    return 1\n", layer_code="x = 2\n") != first
