# SPDX-License-Identifier: Apache-2.0
"""A checkpoint tried part by part, in the way that it would be loaded."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from physicsnemo.core.base import ModelBase
from physicsnemo.core.errors import CheckpointError, PluginError
from physicsnemo.core.format.container import open_checkpoint
from physicsnemo.core.format.files import Url
from physicsnemo.core.install.provenance import recorded_as
from physicsnemo.core.rebuild.blueprint import Blueprint
from physicsnemo.core.rebuild.build import load_model
from physicsnemo.core.rebuild.example import check_example
from physicsnemo.core.rebuild.inspection import inspect_tensors
from physicsnemo.core.rebuild.resolution import Trusted

PARTS = ("container", "weights", "checksums", "class", "arguments", "model")
EXAMPLE = "example"  # after them, where a file has one


@dataclass(frozen=True)
class Verdict:
    """What came of one part of a file.

    Attributes
    ----------
    part
        One of ``PARTS``, or ``example``.
    finding
        What is right about it, or else what is wrong.
    passed
        Whether it is right.
    """

    part: str
    finding: str
    passed: bool


def verify_checkpoint(url: Url, trusted: Trusted = ()) -> list[Verdict]:
    """Try all that loading a file needs, the checksums of its weights, and its example if any.

    The class is looked up as ``Module.from_checkpoint`` does, and the model is built, so the code
    of installed plugins runs; nothing is imported because the file names it.

    Parameters
    ----------
    url
        A path, or any URL that fsspec knows.
    trusted
        Modules and classes to look the class up in, besides the registry and what is imported.

    Returns
    -------
    One verdict a part, up to the first that fails; the last one of the example, if there is one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    verdicts: list[Verdict] = []
    with closing(_findings(url, trusted)) as findings:
        for part in (*PARTS, EXAMPLE):
            try:
                if (finding := next(findings, None)) is not None:
                    verdicts.append(Verdict(part, finding, passed=True))
            except (CheckpointError, PluginError) as error:
                return [*verdicts, Verdict(part, str(error), passed=False)]
    return verdicts


def _findings(url: Url, trusted: Trusted) -> Generator[str]:
    """Yield what is right about each part, in their order."""
    with open_checkpoint(url) as checkpoint:
        yield "all members are in place, and the JSON is valid"
        yield f"{len(inspect_tensors(checkpoint))} tensors, read as data"
        checkpoint.check_sums()
        yield "none differs"
        blueprint = Blueprint(checkpoint, ModelBase, {}, trusted)
        yield f"{recorded_as(blueprint.model_class)[0]}.{blueprint.model_class.__qualname__}"
        blueprint.check_signatures()
        yield "fit the signature"
        model = load_model(blueprint, checkpoint, strict=True)
        yield f"is built, and takes exactly these weights: {model.num_parameters()} parameters"
        if checkpoint.has_example:
            yield check_example(model, checkpoint.example(), checkpoint.name)
