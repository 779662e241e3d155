# SPDX-License-Identifier: Apache-2.0
"""Mutated checkpoints do no harm; ``nox -s fuzz`` runs ten times as many."""

import pytest

from physicsnemo import Module
from tools import fuzz


@pytest.mark.filterwarnings("ignore")  # some mutations make PyTorch warn
def test_mutated_files_load_or_are_refused(tmp_path):
    report = fuzz.fuzz(1000, 0, tmp_path)
    assert report.failures == []
    assert set(report.ends) == {"container", "arguments", "weights", "model", "loaded"}
    assert sum(report.files.values()) - report.files["bytes"] >= 500


def test_fuzzer_sees_other_exceptions(tmp_path, monkeypatch):
    def fail(path):
        raise ValueError(path)

    monkeypatch.setattr(Module, "from_checkpoint", fail)
    assert len(fuzz.fuzz(12, 0, tmp_path).failures) == 12


def test_fuzzer_sees_slow_files(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.0)
    assert len(fuzz.fuzz(6, 0, tmp_path).failures) == 6
