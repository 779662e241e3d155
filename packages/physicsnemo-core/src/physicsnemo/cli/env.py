# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo env``: what runs here, for a report of a bug."""

import platform
import sys
from collections.abc import Iterator
from typing import Any

import click
import importlib_metadata
from packaging.requirements import Requirement

from physicsnemo.cli._output import Fact, json_option, print_facts, print_json, print_table
from physicsnemo.core.errors import PluginWarning
from physicsnemo.core.install.distributions import entry_points, identity

_GROUPS = ("physicsnemo.models", "physicsnemo.plugins")
_GIB = 2**30


@click.command("env")
@json_option
def show_environment(as_json: bool) -> None:
    """Tell what runs here: versions, GPUs and packages.

    This is what a report of a bug should begin with. No model is imported.
    """
    facts, packages = dict(_facts()), _packages()
    if as_json:
        print_json({**facts, "packages": packages})
        return
    print_facts(facts.items())
    print_table("Packages", ("name", "version"), packages.items())


def _facts() -> Iterator[Fact]:
    import torch

    yield "Python", f"{platform.python_version()} at {sys.executable}"
    yield "platform", platform.platform()
    yield "PyTorch", f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield "CUDA", f"{torch.version.cuda or 'not in this PyTorch'}"
    if torch.cuda.is_available():
        yield "cuDNN", str(torch.backends.cudnn.version())
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            kind = f"compute capability {found.major}.{found.minor}"
            yield f"GPU {index}", f"{found.name}, {found.total_memory / _GIB:.0f} GiB, {kind}"
    else:
        yield "GPU", "none that PyTorch can use"


def _packages() -> dict[str, str]:
    """Return the versions of this project's packages, of plugins, and of what both need."""
    installed: dict[str, tuple[str, str, Any]] = {}
    for source in importlib_metadata.distributions():
        name, version = identity(source)
        installed.setdefault(_plain(name), (name, version, source))
    plugins = {_plain(identity(it.source)[0]) for it in entry_points(_GROUPS, PluginWarning)}
    ours = {it for it in installed if "physicsnemo" in it} | (plugins & installed.keys())
    needed = {_plain(it) for name in ours for it in _requirements(installed[name][2])}
    chosen = [installed[it] for it in sorted(ours | (needed & installed.keys()))]
    return {name: version for name, version, _ in chosen}


def _requirements(source: Any) -> Iterator[str]:
    try:
        texts = source.requires or ()
    except Exception:  # the metadata are gone, or never came
        return
    for text in texts:
        requirement = Requirement(text)
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
