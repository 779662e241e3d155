# SPDX-License-Identifier: Apache-2.0
"""The exceptions and warnings that physicsnemo-core adds to Python's own."""


class CaptureError(RuntimeError):
    """A replayed step does not compute what an eager one does."""


class CheckpointError(OSError):
    """A checkpoint cannot be read or written; the text says which part and why.

    What a file makes others say cannot move a terminal's cursor or fill a log: characters that are
    not printed are escaped, and the middle of long texts is left out.
    """

    def __init__(self, text: str) -> None:
        super().__init__(_printable(text))


class ModelNotFoundError(KeyError):
    """The registry knows no model of that name."""

    def __str__(self) -> str:
        """Return the plain text, where ``KeyError`` would show it quoted."""
        return str(self.args[0])


class NamespaceWarning(UserWarning):
    """Another distribution installs files into the ``physicsnemo`` package."""


class RegistryWarning(UserWarning):
    """Installed distributions register a model under one name, or do not fit each other."""


class PluginError(RuntimeError):
    """A hook of a plugin failed or does not fit its specification; the text names the plugin."""


class PluginWarning(UserWarning):
    """An installed plugin cannot be loaded and is left out."""


_MAX_TEXT = 4_000


def _printable(text: str) -> str:
    if len(text) > _MAX_TEXT:
        left_out = len(text) - _MAX_TEXT
        half = _MAX_TEXT // 2
        text = f"{text[:half]} [... {left_out} more characters ...] {text[-half:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
