# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo models``: what is installed."""

import click

from physicsnemo.cli._output import json_option, print_json, print_table
from physicsnemo.core.install.entry_points import ModelEntryPoint, installed_entries
from physicsnemo.registry import ModelRegistry


@click.command("models")
@click.option("--check", is_flag=True, help="Import each model, and tell whether that works.")
@json_option
def list_models(check: bool, as_json: bool) -> None:
    """List the installed models and their packages.

    Nothing is imported, so a broken package does no harm, unless --check asks whether it is one.
    Of models that share a name, those that need more than the name stand as DISTRIBUTION:NAME.
    """
    models = [_describe(entry, name, check) for name, entry in _by_name().items()]
    if as_json:
        print_json(models)
    elif models:
        rows = [[value or "none" for value in model.values()] for model in models]
        print_table("", models[0], rows)
    else:
        click.echo("No models are installed. They come in packages, such as physicsnemo-fno.")


def _by_name() -> dict[str, ModelEntryPoint]:
    """Return the entry points by what the registry takes to reach each."""
    found: dict[str, ModelEntryPoint] = {}
    for entry in installed_entries():
        found[f"{entry.distribution}:{entry.name}" if entry.name in found else entry.name] = entry
    return found


def _describe(entry: ModelEntryPoint, name: str, check: bool) -> dict[str, str | None]:
    found = {
        "name": name,
        "distribution": entry.distribution,
        "version": entry.version,
        "path": entry.value,
    }
    return {**found, "error": ModelRegistry().describe(name).error} if check else {**found}
