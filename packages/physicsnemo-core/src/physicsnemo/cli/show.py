# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo show``: a page that tells what a file holds, runs its model and draws fields."""

import click

from physicsnemo.cli._parameters import file_argument, import_trusted, trust_option
from physicsnemo.core import rebuild


@click.command("show")
@file_argument
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where; by default a free one."
)
@click.option("--no-browser", is_flag=True, help="Only serve the page, and print its address.")
@trust_option
def show_file(file: str, port: int, no_browser: bool, modules: tuple[str, ...]) -> None:
    """Show a .mdlus FILE on a page in the browser, and run its model there.

    FILE is a path, or a URL that fsspec knows. The page tells what it holds, and nothing that it
    names is imported until the model is run, by a button: on the example in FILE, on a .npy or
    netCDF file, or on random numbers. Inputs and outputs are drawn. Only this machine can reach the
    page, until Ctrl+C stops it.
    """
    rebuild.inspect_in_full(file)  # so that a damaged file is told here
    try:
        from physicsnemo.cli.page.web.server import make_server, run_until_stopped
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this needs {error.name}; run pip install 'physicsnemo-core[show]'"
        ) from error
    trusted = import_trusted(modules)
    server, address = make_server(file, trusted, port, not no_browser)
    click.echo(f"{file} is shown at {address}; Ctrl+C ends that")
    run_until_stopped(server)
