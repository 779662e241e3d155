# SPDX-License-Identifier: Apache-2.0
"""The group of all commands: those built in, and those of plugins."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from physicsnemo import hooks
from physicsnemo.cli._output import complain, printable
from physicsnemo.core.errors import (
    ExportError,
    ModelNotFoundError,
    NamespaceWarning,
    PluginError,
    PluginWarning,
    RegistryWarning,
)

_KNOWN_ERRORS = (OSError, ImportError, ExportError, ModelNotFoundError, PluginError)
_KNOWN_WARNINGS = (NamespaceWarning, PluginWarning, RegistryWarning)


class CommandGroup(click.Group):
    """Adds the commands of plugins, and tells known errors and warnings in one line.

    Plugins are loaded for help, and for a name that is not built in.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*self.commands, *self._of_plugins(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, None if there is none."""
        return super().get_command(ctx, cmd_name) or self._of_plugins(ctx).get(cmd_name)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run what the command line says."""
        with _short_warnings():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, whose known errors end the program with one line and status 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has seen enough, which click knows
            raise
        except _KNOWN_ERRORS as error:
            raise click.ClickException(printable(str(error))) from error

    def _of_plugins(self, ctx: click.Context) -> dict[str, click.Command]:
        if __name__ not in ctx.meta:  # asked once for help on all commands
            ctx.meta[__name__] = _find_commands(taken=set(self.commands))
        found: dict[str, click.Command] = ctx.meta[__name__]
        return found


def _find_commands(taken: set[str]) -> dict[str, click.Command]:
    """Return the commands of plugins by name, and complain about those that cannot be added."""
    found: dict[str, click.Command] = {}
    for plugin, answer in hooks.try_call("cli_command"):
        if isinstance(answer, PluginError):
            complain(str(answer))
        elif not isinstance(answer, click.Command) or not answer.name:
            complain(f"{plugin}: cli_command must return a named click.Command, got {answer!r}")
        elif answer.name in taken | found.keys():
            complain(f"{plugin}: its command {answer.name!r} is left out, since there is one")
        else:
            found[answer.name] = answer
    return found


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Show this library's own warnings without the place in its code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = _shown_shortly(warnings.showwarning)
        yield


def _shown_shortly(show: Callable[..., None]) -> Callable[..., None]:
    def show_shortly(
        message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any
    ) -> None:
        if issubclass(category, _KNOWN_WARNINGS):
            complain(str(message))
        else:
            show(message, category, *args, **kwargs)

    return show_shortly
