# SPDX-License-Identifier: Apache-2.0
"""The ``physicsnemo`` command: what is installed, what a file holds, and whether both are sound.

Each command has a module of its own. What needs PyTorch they reach through ``core.rebuild`` and
``testing``, which import it when a name is touched: help and ``physicsnemo models`` are quick.
"""

import click

from physicsnemo.cli._group import CommandGroup
from physicsnemo.cli.check import check_model
from physicsnemo.cli.env import show_environment
from physicsnemo.cli.export import export_model
from physicsnemo.cli.info import show_info
from physicsnemo.cli.merge import merge_shards
from physicsnemo.cli.migrate import migrate_sources
from physicsnemo.cli.models import list_models
from physicsnemo.cli.new_plugin import new_plugin
from physicsnemo.cli.show import show_file
from physicsnemo.cli.verify import verify_file

__all__ = ["main"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="physicsnemo-core", message="%(package)s %(version)s")
def main() -> None:
    """Look into installed models and .mdlus files."""


for command in (
    *(list_models, show_info, verify_file, check_model, show_environment),
    *(show_file, export_model, merge_shards, migrate_sources, new_plugin),
):
    main.add_command(command)
