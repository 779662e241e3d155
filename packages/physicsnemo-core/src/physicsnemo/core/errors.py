# SPDX-License-Identifier: Apache-2.0
"""The exceptions and warnings that physicsnemo-core adds to Python's own.

What a file makes others say cannot move a terminal's cursor or fill a log: in texts of errors about
files, characters that are not printed are escaped, and the middle of what is long is left out.
"""

import re

_MAX_TEXT = 4_000
_PATH = re.compile(r"[\w.:<>-]+")


def shown_name(name: str) -> str:
    """Return a name from a file as an error may show it, quoted where it might pass for advice.

    Examples
    --------
    >>> shown_name("lab.make.<locals>.Net")
    'lab.make.<locals>.Net'
    >>> print(shown_name("Net, so run pip install something"))
    'Net, so run pip install something'
    """
    return shown(name if _PATH.fullmatch(name) else repr(name))


def shown(text: str, longest: int = 200) -> str:
    r"""Return a text from a file as an error may show it.

    Parameters
    ----------
    text
        Any text.
    longest
        How many characters of it are shown.

    Examples
    --------
    >>> shown("\x1b[2J" + "x" * 1000, 20)
    '\\x1b[2Jxxx [... of 1004 characters ...] xxxxxxxxxx'
    """
    half = longest // 2
    if len(text) <= longest and len(escaped := _escaped(text)) <= longest:
        return escaped
    head, tail = _escaped(text[:half])[:half], _escaped(text[-half:])[-half:]
    return f"{head} [... of {len(text)} characters ...] {tail}"


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class CaptureError(RuntimeError):
    """A replayed step does not compute what an eager one does."""


class CheckpointError(OSError):
    """A checkpoint cannot be read or written; the text says which part and why."""

    def __init__(self, text: str) -> None:
        super().__init__(shown(text, _MAX_TEXT))


class ExportError(RuntimeError):
    """A model cannot be written as a program; the text says which step fails and why."""


class ModelNotFoundError(KeyError):
    """The registry knows no model of that name."""

    def __str__(self) -> str:
        """Return the plain text, where ``KeyError`` would show it quoted."""
        return shown(str(self.args[0]), _MAX_TEXT)


class NamespaceWarning(UserWarning):
    """Another distribution installs files into the ``physicsnemo`` package."""


class RegistryWarning(UserWarning):
    """Installed distributions register a model under one name, or do not fit each other."""


class PluginError(RuntimeError):
    """A hook of a plugin failed or does not fit its specification; the text names the plugin."""

    def __init__(self, text: str) -> None:
        super().__init__(shown(" ".join(text.split()), _MAX_TEXT))


class PluginWarning(UserWarning):
    """An installed plugin cannot be loaded and is left out."""
