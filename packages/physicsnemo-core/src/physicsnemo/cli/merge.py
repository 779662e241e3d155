# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo merge``: one file of a step that was saved in shards."""

import click

from physicsnemo.core import training


@click.command("merge")
@click.argument("folder")
@click.argument("file")
@click.option("--step", type=int, help="Number of the step, by default the largest.")
@click.option("--model", metavar="NAME", help="Which model, where the step has several.")
def merge_shards(folder: str, file: str, step: int | None, model: str | None) -> None:
    """Write a model that save_checkpoint saved in shards as one .mdlus FILE.

    FOLDER is that of the training. Tensors are read and written one by one; neither GPUs nor the
    package of the model are needed.
    """
    number = training.merge(folder, file, step, model)
    click.echo(f"{file} is the model of step {number}")
