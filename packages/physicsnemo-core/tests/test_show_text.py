# SPDX-License-Identifier: Apache-2.0
"""What the page of ``physicsnemo show`` tells in words."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from physicsnemo.cli.page.tensors import as_npy, numbers_of, positions_in, tensor_line
from physicsnemo.cli.page.text import as_html, facts_html
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint

EVIL = "<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Collects the tags and the texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_facts_are_those_of_info(affine, physicsnemo, tmp_path):
    path = tmp_path / "model.mdlus"
    affine(3, power=2).save(path, example=(torch.ones(1, 3),))
    read = Reader(facts_html(str(path)))
    printed = physicsnemo("info", path).stdout
    for line in printed.splitlines()[1:]:
        for words in filter(None, map(str.strip, line.split("  "))):
            assert words in read.texts or words in ("Arguments", "Tensors") or "─" in words
    assert "Arguments (3)" in read.texts
    assert "Tensors (3)" in read.texts


def test_texts_of_a_file_are_only_texts_and_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "show_trap.py").write_text("raise SystemExit('executed')")
    path = tmp_path / "model.mdlus"
    inner = "__physicsnemo.Module__.inner"
    record = {"__name__": EVIL, "__module__": "show_trap", "__args__": {EVIL: EVIL, "inner": inner}}
    nested = {inner: {"__name__": "A", "__module__": EVIL, "__args__": {"b": EVIL}}}
    metadata = {"written_by": EVIL, "physicsnemo_version": EVIL}
    write_checkpoint(path, {EVIL: torch.ones(1)}, record | nested, metadata)
    read = Reader(facts_html(str(path)))
    assert read.tags <= {"table", "tr", "th", "td", "details", "summary", "div", "p"}
    assert sum(EVIL in text for text in read.texts) >= 6
    assert "Model in the argument inner (5)" in read.texts
    assert "show_trap" not in sys.modules


def test_damaged_files(tmp_path):
    (tmp_path / "model.mdlus").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        facts_html(str(tmp_path / "model.mdlus"))
    with pytest.raises(FileNotFoundError):
        facts_html(str(tmp_path / "absent.mdlus"))


def test_control_characters_are_escaped():
    assert as_html("a\x1b[2J\n<b>") == "a\\x1b[2J &lt;b&gt;"


@pytest.mark.parametrize(
    ("tensor", "line"),
    [
        (torch.tensor([[1.0, 2.0, 6.0]]), "float32 (1, 3); from 1 to 6, mean 3"),
        (torch.tensor([1, 3]), "int64 (2,); from 1 to 3, mean 2"),
        (torch.tensor(True), "bool (); from 1 to 1, mean 1"),
        (
            torch.tensor([1.0, torch.nan, torch.inf], dtype=torch.float64),
            "float64 (3,); from 1 to 1, mean 1; 2 numbers are not finite",
        ),
        (torch.tensor([torch.nan]), "float32 (1,); 1 numbers are not finite"),
        (
            torch.tensor([3 + 4j]),
            "complex64 (1,); from 5 to 5, mean 5; drawn by absolute value",
        ),
        (torch.zeros(0, 3), "float32 (0, 3)"),
    ],
)
def test_a_tensor_in_one_line(tensor, line):
    assert tensor_line(tensor) == line


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.arange(6.0, dtype=torch.float64),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]),
        torch.tensor([3, -4]),
        torch.eye(3).to_sparse(),
        torch.ones(2, requires_grad=True),
    ],
)
def test_a_file_to_download(tensor):
    found = np.load(as_npy(tensor), allow_pickle=False)
    dense = tensor.detach().to_dense()
    assert np.array_equal(found, dense.float() if dense.dtype is torch.bfloat16 else dense)


def test_numbers_that_can_be_drawn():
    exact = torch.tensor([1.0 + 2**-40], dtype=torch.float64)
    assert numbers_of(exact)[0] == 1.0 + 2**-40
    assert numbers_of(torch.tensor([1.5], dtype=torch.bfloat16))[0] == 1.5


@pytest.mark.parametrize(
    ("name", "shape", "is_found"),
    [
        ("pos", (7, 2), True),
        ("node_positions", (7, 3), True),
        ("coords", (1, 7, 2), True),
        ("mesh_pos", (2, 7, 2), False),
        ("pos", (7, 4), False),
        ("x", (7, 2), False),
        ("exposure", (7, 2), False),
        ("position", (7,), False),
    ],
)
def test_positions_of_nodes(name, shape, is_found):
    tensor = torch.arange(float(np.prod(shape))).reshape(shape)
    found = positions_in({"x": torch.ones(7, 1), name: tensor})
    assert (found is not None) == is_found
    if is_found:
        assert np.array_equal(found, tensor.reshape(7, -1))
