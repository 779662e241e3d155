# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo models``: what is installed."""

from fnmatch import fnmatchcase

import click

from physicsnemo.cli._output import json_option, print_json, print_table
from physicsnemo.cli._parameters import complete_models
from physicsnemo.core.install.entry_points import ModelEntryPoint, installed_entries
from physicsnemo.registry import ModelRegistry

Description = dict[str, str | list[str] | None]


@click.command("models")
@click.argument("pattern", default="*", shell_complete=complete_models)
@click.option("--task", help="Only models of packages for this, such as forecasting.")
@click.option("--check", is_flag=True, help="Import each model, and tell whether that works.")
@json_option
def list_models(pattern: str, task: str | None, check: bool, as_json: bool) -> None:
    """List the installed models and their packages.

    PATTERN says of which names, as in '*fno'; capitals do not count. Nothing is imported, so a
    broken package does no harm, unless --check asks whether it is one. Of models that share a name,
    those that need more than the name stand as DISTRIBUTION:NAME. What a package is for are the
    keywords in its pyproject.toml.
    """
    entries = _by_name()
    if task is not None:
        _check_task(task, list(entries.values()))
    chosen = {
        name: entry
        for name, entry in entries.items()
        if fnmatchcase(entry.name.lower(), pattern.lower())
        and (task is None or task.lower() in entry.tasks)
    }
    models = [_describe(entry, name, check) for name, entry in chosen.items()]
    if as_json:
        print_json(models)
    elif models:
        head = ("name", "package", *(["error"] if check else []), "what it is")
        print_table("", head, map(_row, models), whole=2)
    elif entries:
        click.echo(f"No installed model is called {pattern}.")
    else:
        click.echo("No models are installed. They come in packages, such as physicsnemo-fno.")


def _by_name() -> dict[str, ModelEntryPoint]:
    """Return the entry points by what the registry takes to reach each."""
    found: dict[str, ModelEntryPoint] = {}
    for entry in installed_entries():
        found[f"{entry.distribution}:{entry.name}" if entry.name in found else entry.name] = entry
    return found


def _check_task(task: str, entries: list[ModelEntryPoint]) -> None:
    known = sorted({it for entry in entries for it in entry.tasks})
    if task.lower() not in known:
        raise click.BadParameter(
            f"no installed package is for {task!r}; there are {', '.join(known) or 'none'}",
            param_hint="'--task'",
        )


def _describe(entry: ModelEntryPoint, name: str, check: bool) -> Description:
    found: Description = {
        "name": name,
        "distribution": entry.distribution,
        "version": entry.version,
        "path": entry.value,
        "summary": entry.summary,
        "tasks": entry.tasks,
    }
    return {**found, "error": ModelRegistry().describe(name).error} if check else found


def _row(model: Description) -> list[str]:
    error = [str(model["error"] or "none")] if "error" in model else []
    return [
        str(model["name"]),
        f"{model['distribution']} {model['version']}",
        *error,
        str(model["summary"]),
    ]
