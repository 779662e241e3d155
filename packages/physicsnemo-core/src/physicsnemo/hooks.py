# SPDX-License-Identifier: Apache-2.0
"""Hooks by which installed plugins take part in saving, loading and the command line.

A plugin is a module or an object with functions marked by ``physicsnemo.hookimpl`` and named like
the methods of :class:`Hooks`. Its distribution names it in the entry-point group
``physicsnemo.plugins``. A function may take fewer arguments than the specification has. Plugins are
loaded when a hook is first called, never on importing ``physicsnemo`` or on listing models.

To add a hook, add its specification to :class:`Hooks`, and call it by :func:`call`, or by
:func:`notify` if it has no answer. A model in a specification is a :class:`physicsnemo.Module`.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from physicsnemo.core.errors import PluginError, PluginWarning
from physicsnemo.core.install.distributions import entry_points, identity

if TYPE_CHECKING:
    import click
    import torch

    from physicsnemo.core.base import ModelBase
    from physicsnemo.core.format.files import Url

GROUP = "physicsnemo.plugins"

hookspec = pluggy.HookspecMarker("physicsnemo")
hookimpl = pluggy.HookimplMarker("physicsnemo")


class Hooks:
    """The specifications; a plugin implements any of them."""

    @hookspec
    def resolve_class(self, module: str, name: str) -> "type[ModelBase] | None":
        """Return the class that an old checkpoint means, None to leave it to others.

        Asked only for names that neither imported classes, nor the registry, nor this library's
        table of former names explain; the first answer counts. The names come from a file that
        may be anybody's, so answer from a fixed table and import nothing by them.

        Parameters
        ----------
        module, name
            ``__module__`` and ``__name__`` as the file has them.

        Returns
        -------
        A subclass of :class:`physicsnemo.Module`.
        """

    @hookspec
    def migrate_arguments(
        self, model_class: "type[ModelBase]", version: str | None, arguments: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return constructor arguments for the class as it is now, None to leave them alone.

        Asked for every model of a file, before the class itself; the first answer counts, and
        takes the place of the class's own migration.

        Parameters
        ----------
        model_class
            The class that will be built.
        version
            The file version of the class when it was saved, None if the file does not tell.
        arguments
            The arguments in the file, as JSON has them; a copy.
        """

    @hookspec
    def contribute_metadata(self, model: "ModelBase") -> dict[str, Any] | None:
        """Return entries for ``metadata.json`` of a file that is about to be saved.

        Parameters
        ----------
        model
            The outermost model that is saved.

        Returns
        -------
        JSON values by keys that nothing else uses; start them with your distribution's name.
        """

    @hookspec
    def saved(self, model: "ModelBase", url: "Url") -> None:
        """Take note that a model was saved.

        Parameters
        ----------
        model
            The model.
        url
            The path or URL of the complete file.
        """

    @hookspec
    def loaded(self, model: "ModelBase", url: "Url") -> None:
        """Take note that a model was built from a file, or took its weights from one.

        Parameters
        ----------
        model
            The model, on its device.
        url
            The path or URL of the file.
        """

    @hookspec
    def adapt_graph(self, graph: object) -> "tuple[torch.Tensor, int, int] | None":
        """Return the edges of a graph object of another library, None if it is not yours.

        Parameters
        ----------
        graph
            What a caller passed where a model takes a graph.

        Returns
        -------
        Integer tensor of shape ``(2, edges)`` with the source and the target node of each edge, the
        number of source nodes, and that of target nodes; both numbers are the same for a graph
        with one kind of node.
        """

    @hookspec
    def cli_command(self) -> "click.Command | None":
        """Return a command to add to ``physicsnemo`` on the command line, None to add none.

        Asked for help and for names that are not built in. It cannot take the place of a built-in
        command. ``physicsnemo --help`` loads what this function's module imports, so leave PyTorch
        to the command's own function.
        """


def call(hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Call a hook, and yield the plugins' answers one by one, each with the name of its plugin.

    A plugin that returns None has no answer. Stop at the first answer where one is enough: plugins
    after it are then not called.

    Parameters
    ----------
    hook
        Name of a method of :class:`Hooks`.
    **arguments
        Its arguments.

    Raises
    ------
    PluginError
        If a plugin's function fails, or a plugin has a hook that does not fit its specification.
    """
    for plugin, answer in try_call(hook, **arguments):
        if isinstance(answer, PluginError):
            raise answer
        yield plugin, answer


def try_call(hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Yield what :func:`call` does; a plugin's error stands as its answer, and the others go on."""
    manager, misfits = _load_plugins()
    for plugin, text in misfits.items():
        yield plugin, PluginError(text)
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        others = manager.get_plugins() - {implementation.plugin}
        try:
            answers = manager.subset_hook_caller(hook, others)(**arguments)
        except Exception as error:
            failure = PluginError(
                f"{implementation.plugin_name}: its hook {hook} failed: "
                f"{type(error).__name__}: {error}"
            )
            failure.__cause__ = error
            answers = [failure]
        for answer in answers:
            yield implementation.plugin_name, answer


def notify(hook: str, **arguments: Any) -> None:
    """Call a hook that has no answer; takes and raises what :func:`call` does."""
    for _ in call(hook, **arguments):
        pass


def forget_plugins() -> None:
    """Look for plugins again at the next call; for tests."""
    _load_plugins.cache_clear()


class _Plugins(NamedTuple):
    """The plugins that are loaded, and by name why others do not fit."""

    manager: pluggy.PluginManager
    misfits: dict[str, str]


@cache
def _load_plugins() -> _Plugins:
    plugins = _Plugins(pluggy.PluginManager("physicsnemo"), {})
    plugins.manager.add_hookspecs(Hooks)
    seen: set[tuple[str, str]] = set()
    for point in entry_points([GROUP], PluginWarning):
        distribution, version = identity(point.source)
        if point.leftover or (distribution, point.name) in seen:  # the first on the path counts
            continue
        seen.add((distribution, point.name))
        name = f"the plugin {point.name!r} of {distribution} {version}"
        try:
            plugin = resolve_name(point.value)
        except Exception as error:  # a plugin's code can fail in any way
            warnings.warn(
                f"{name} is left out, it cannot be loaded: {type(error).__name__}: {error}",
                PluginWarning,
                stacklevel=2,
            )
            continue
        _add(plugins, plugin, name)
    return plugins


def _add(plugins: _Plugins, plugin: Any, name: str) -> None:
    manager = plugins.manager
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        known = ", ".join(hook for hook in vars(Hooks) if not hook.startswith("_"))
        plugins.misfits[name] = f"{name} does not fit: {error}; the hooks are {known}"
        if manager.has_plugin(name):
            manager.unregister(name=name)
