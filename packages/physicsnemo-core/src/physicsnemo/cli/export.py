# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo export``: a file that runs without this library."""

from typing import Any

import click

from physicsnemo.cli._output import print_facts
from physicsnemo.cli._parameters import (
    RandomInput,
    draw_inputs,
    file_argument,
    import_trusted,
    inputs_option,
    trust_option,
)
from physicsnemo.core import programs


@click.command("export")
@file_argument
@click.argument("output", type=click.Path(dir_okay=False))
@click.option(
    "--format", type=click.Choice(["pt2", "onnx"]), help="By default what OUTPUT ends in."
)
@click.option("--no-compile", is_flag=True, help="Write a .pt2 file that holds no machine code.")
@inputs_option
@click.option(
    "--dynamic-batch", is_flag=True, help="Let the first axis of all inputs have any size."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float64", "bfloat16", "float16"]),
    help="Of weights and inputs, or mixed with 16 bits; by default as in FILE.",
)
@trust_option
def export_model(
    file: str,
    output: str,
    inputs: list[RandomInput],
    modules: tuple[str, ...],
    no_compile: bool,
    **options: Any,
) -> None:
    """Write the model of a .mdlus FILE as an OUTPUT that runs without this library.

    An OUTPUT that ends in .pt2 is compiled by AOTInductor, for Python and C++; one that ends in
    .onnx is for ONNX Runtime and others. Shapes are those of the example in FILE, or of --input.
    The result is run, and has to compute the same. Models of graphs are exported in Python, by
    physicsnemo.utils.export.
    """
    trusted = import_trusted(modules)
    example = draw_inputs(inputs) if inputs else None
    try:
        made = programs.export_checkpoint(
            file, output, example, trusted, compile=not no_compile, **options
        )
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error
    facts = [("file", output), ("format", f"{made.format} for {made.device}")]
    facts += [("input", text) for text in made.inputs]
    facts += [("output", text) for text in made.outputs]
    facts += [("difference", f"{made.difference:.1e} of the largest number"), ("load", made.how)]
    print_facts(facts)
