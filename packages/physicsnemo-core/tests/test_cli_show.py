# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo show``, up to the page, which the session ``show`` tries in a browser."""

import sys

import pytest

PAGE = "physicsnemo.cli.page.web"


@pytest.fixture
def _without_panel(monkeypatch):
    for name in [it for it in sys.modules if it.startswith(PAGE)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "panel", None)


@pytest.mark.usefixtures("_without_panel")
def test_the_extra_is_named(affine, physicsnemo, tmp_path):
    affine(3).save(tmp_path / "model.mdlus")
    result = physicsnemo("show", tmp_path / "model.mdlus", "--trust", "no_such_module")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: this needs panel; run pip install 'physicsnemo-core[show]'\n"


def test_a_damaged_file_is_told_before_the_page_is_there(physicsnemo, tmp_path):
    path = tmp_path / "model.mdlus"
    result = physicsnemo("show", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no checkpoint file at")
    path.write_bytes(b"no model")
    result = physicsnemo("show", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


def test_ports(physicsnemo, tmp_path):
    result = physicsnemo("show", tmp_path / "model.mdlus", "--port", "70000")
    assert result.exit_code == 2
    assert "70000 is not in the range 0<=x<=65535" in result.stderr
