# SPDX-License-Identifier: Apache-2.0
"""The user guide that the library was built from: its examples run, its API entries exist.

``data/seed.rst`` is its text as written, as far as the families exist. Where the text slips, the
smallest correction stands in ``CORRECTIONS``.
"""

import doctest
import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from physicsnemo.registry import ModelRegistry

SEED = (Path(__file__).parent / "data" / "seed.rst").read_text(encoding="utf-8")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# (what is written, what is meant, why)
CORRECTIONS = [
    (
        textwrap.dedent(
            """\
            >>> model = FNO(
                    in_channels=4,
                    out_channels=3,
                    decoder_layers=2,
                    decoder_layer_size=32,
                    dimension=2,
                    latent_channels=32,
                    num_fno_layers=2,
                    padding=0,
                )
            """
        ),
        textwrap.dedent(
            """\
            >>> model = FNO(
            ...     in_channels=4,
            ...     out_channels=3,
            ...     decoder_layers=2,
            ...     decoder_layer_size=32,
            ...     dimension=2,
            ...     latent_channels=32,
            ...     num_fno_layers=2,
            ...     padding=0,
            ... )
            """
        ),
        "doctest needs continuation dots",
    ),
    ('.to("cuda")', f'.to("{DEVICE}")', "the device is that of the test machine"),
    ("\n  )\n)\n", "\n  )\n )\n", "the last bracket of a printed module is one column off"),
    (
        "import physicsnemo\nimport torch.nn as nn\n\nclass TorchModel",
        "import physicsnemo\nfrom physicsnemo import ModelMetaData\n"
        "import torch.nn as nn\n\nclass TorchModel",
        "ModelMetaData is used without being imported",
    ),
    (
        "['AFNO', 'DLWP', 'FNO', 'FullyConnected', 'GraphCastNet', 'MeshGraphNet', 'One2ManyRNN', "
        "'Pix2Pix', 'SFNO', 'SRResNet']",
        "['AFNO'...'DLWP'...'FNO'...'FullyConnected'...'GraphCastNet'...'MeshGraphNet'..."
        "'One2ManyRNN'...'Pix2Pix'...'SFNO'...'SRResNet'...]",
        "other models are installed too, between those",
    ),
]

# The text trains on a GPU. Many CPUs emulate bfloat16, which its example asks for, and would take
# minutes: there the fields are 32 points wide instead of 128.
if DEVICE == "cpu":
    CORRECTIONS += [
        ("8, 1, 128, 128", "8, 1, 32, 32", "smaller fields on a CPU"),
        ("8, 1, 64, 64", "8, 1, 16, 16", "smaller targets on a CPU"),
    ]

_INDENTED_BLOCK = re.compile(r"^\.\. code:: python\n\n((?: {3,4}.*\n|\n)+)", re.MULTILINE)
BLOCKS = [textwrap.dedent(match).strip("\n") + "\n" for match in _INDENTED_BLOCK.findall(SEED)]


def block(containing: str) -> str:
    """Return the one code block with some text in it, corrected."""
    found = [text for text in BLOCKS if containing in text]
    assert len(found) == 1, f"{len(found)} blocks contain {containing!r}"
    text = found[0]
    for written, meant, _ in CORRECTIONS:
        text = text.replace(written, meant)
    return text


def run(text: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(text, "seed.rst", "exec"), names)
    return names


def run_doctest(text: str) -> None:
    # White space is not compared: the text prints modules indented by one space, PyTorch by two.
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    test = doctest.DocTestParser().get_doctest(text, {}, "seed.rst", "seed.rst", 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: c[2])
def test_every_correction_is_needed(correction):
    assert any(correction[0] in text for text in BLOCKS)


@pytest.mark.parametrize("containing", ["torch.randn(128, 32)", "from physicsnemo.models.fno.fno"])
def test_first_examples(containing):
    run_doctest(block(containing))


def test_custom_model_captured_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(block("class UNetMetaData"), {"__name__": __name__})
    names = run(block("@StaticCaptureTraining("), names)
    assert torch.isfinite(names["loss"])
    model = names["model"]
    model.save()
    twin = names["physicsnemo"].Module.from_checkpoint("UNet.mdlus").to(DEVICE)
    assert type(twin) is names["UNet"]
    x = torch.randn(2, 1, 16, 16, device=DEVICE)
    torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=0, atol=0)


def test_captured_loop_trains():
    """The captured loop of the text and a plain one end with the same loss."""
    names = run(block("class UNetMetaData"), {"__name__": __name__})
    text = "import torch\ntorch.manual_seed(0)\n" + block("@StaticCaptureTraining(")
    captured = run(text.replace("cuda_graph_warmup=11,", "use_amp=False,"), dict(names))["loss"]

    plain = run(text.partition("# Create training step")[0], dict(names))
    model, optimizer = plain["model"], plain["optim"]
    x, y = plain["input"], plain["output"]
    for _ in range(20):
        x.copy_(torch.randn(x.shape))
        optimizer.zero_grad()
        loss = torch.sum(torch.pow(model(x) - y, 2))
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(captured, loss.detach(), rtol=1e-3, atol=0)


def test_plain_pytorch_example():
    model = run(block("class UNet(nn.Module)"), {"__name__": __name__})["UNet"]()
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 4, 4)


def test_from_torch():
    names = run(block("class TorchModel"), {"__name__": __name__})
    model = names["PhysicsNeMoModel"]()
    assert model(torch.zeros(1, 1, 9, 9)).shape == (1, 20, 1, 1)
    assert model.meta.amp_gpu


def test_saving_and_loading(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_doctest(block('model.save("model.mdlus")'))
    run_doctest(block('Module.from_checkpoint("model.mdlus")'))


def test_registry():
    run_doctest(block('factory("FullyConnected")'))
    names = ModelRegistry().list_models()
    assert names == sorted(names)


@pytest.mark.parametrize(
    "containing", ["label_dim=0,  # No", "in_channels=C_x + C_cond,  #", "= SongUNetPosLtEmbd("]
)
def test_diffusion_models(containing):
    out = run(block(containing), {"__name__": __name__})["out"]
    assert torch.isfinite(out).all()


def test_diffusion_model_of_patches():
    names = run(block("model = SongUNetPosEmbd("), {"__name__": __name__})
    assert names["out"].shape == names["x_global"].shape
    patches = block("x_global[3:4")
    # As written, one of three patches is taken from the fourth image of three, and is empty.
    with pytest.raises(ValueError, match="global_index holds 3 patches.* got 2"):
        run(patches, names)
    names = run(patches.replace("3:4", "2:3"), names)
    assert names["out"].shape == names["patches"].shape


def targets() -> list[Any]:
    pattern = r"^\.\. auto(module|class):: (\S+)\n((?: {4}:.*\n)*)"
    found = re.findall(pattern, SEED, re.MULTILINE)
    return [pytest.param(*target, id=target[1]) for target in found]


def public_names(module: Any) -> list[str]:
    """Return what Sphinx takes as members: ``__all__``, or else what is defined in a module."""
    here = [name for name, value in vars(module).items() if is_public(module, name, value)]
    return getattr(module, "__all__", here)


def is_public(module: Any, name: str, value: Any) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", "") == module.__name__


@pytest.mark.parametrize(("kind", "path", "options"), targets())
def test_documented_names_exist(kind, path, options):
    if kind == "module":
        target: Any = importlib.import_module(path)
        assert target.__doc__
    else:
        module, _, name = path.rpartition(".")
        target = getattr(importlib.import_module(module), name)
    if ":members:" in options:
        listed = [
            name.strip() for name in options.partition(":members:")[2].split("\n")[0].split(",")
        ]
        names = [name for name in listed if name] or public_names(target)
        assert names
        for name in names:
            assert getattr(target, name).__doc__, f"{path}.{name} has no docstring"
