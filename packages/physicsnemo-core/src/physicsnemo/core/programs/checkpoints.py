# SPDX-License-Identifier: Apache-2.0
"""Export of the model that a file holds."""

from inspect import signature
from typing import Any

from physicsnemo.core.errors import ExportError
from physicsnemo.core.format.files import Url
from physicsnemo.core.programs.export import Exported, export
from physicsnemo.core.programs.inputs import as_arguments
from physicsnemo.core.rebuild.example import Inputs, stored_inputs
from physicsnemo.core.rebuild.resolution import Trusted
from physicsnemo.models.module import Module

_GRAPHS = (
    "export models of graphs in Python, by physicsnemo.utils.export with a graph in its example"
)


def export_checkpoint(
    url: Url, path: str, inputs: Inputs | None, trusted: Trusted, **options: Any
) -> Exported:
    """Write the model of a ``.mdlus`` file as a program.

    Parameters
    ----------
    url
        The file.
    path
        Where to write.
    inputs
        Inputs of the model, by default those of the example in the file.
    trusted
        As for :meth:`physicsnemo.Module.from_checkpoint`.
    **options
        Of :func:`physicsnemo.utils.export`, which says what is raised, too.

    Raises
    ------
    ValueError
        If no inputs are given, and there is no example, or the model takes more inputs.
    ExportError
        As of :func:`physicsnemo.utils.export`, with advice where a tensor may stand for a graph.
    """
    model = Module.from_checkpoint(url, trusted=trusted)
    inputs = stored_inputs(url) if inputs is None else inputs
    if inputs is None:
        raise ValueError(
            f"{url} holds no example, so that shapes of inputs are not known; give each by "
            f"--input, as in --input 8,3 or --input x=8,3, or save the model with an example: "
            f"model.save({str(url)!r}, example=(x,)); {_GRAPHS}"
        )
    args, kwargs = as_arguments(inputs)
    try:
        signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"these inputs do not fit {type(model).__name__}: {error}; {_GRAPHS}"
        ) from error
    try:
        return export(model, path, inputs, **options)
    except ExportError as error:
        # Of a file and of --input there are no graphs, so a model of graphs was given a tensor.
        if not str(error.__cause__).startswith("expected a graph, got "):
            raise
        raise ExportError(f"{error}; {_GRAPHS}") from error.__cause__
