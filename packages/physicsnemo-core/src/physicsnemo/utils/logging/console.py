# SPDX-License-Identifier: Apache-2.0
"""A logger that is seen without further ado, and one that speaks for rank 0 alone."""

import logging
import sys
from typing import Any

__all__ = ["PythonLogger", "RankZeroLoggingWrapper"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class PythonLogger:
    """The logger ``physicsnemo.<name>``, whose messages from INFO on are shown.

    On a terminal rich prints them, else they go to standard error line by line; where the program
    has set up logging, they go there instead, as all messages do.

    Parameters
    ----------
    name
        What stands below ``physicsnemo``.

    Attributes
    ----------
    logger
        The :class:`logging.Logger`, for all else.

    Examples
    --------
    >>> PythonLogger("train").logger.name
    'physicsnemo.train'
    """

    def __init__(self, name: str = "launch") -> None:
        self.logger = logging.getLogger(f"physicsnemo.{name}")
        if self.logger.level == logging.NOTSET:
            self.logger.setLevel(logging.INFO)
        if not self.logger.hasHandlers():
            logging.getLogger("physicsnemo").addHandler(_console())

    def file_logging(self, file_name: str = "launch.log") -> None:
        """Write messages to a file as well, after those that it holds.

        Raises
        ------
        OSError
            If it cannot be opened.
        """
        handler = logging.FileHandler(file_name)
        handler.setFormatter(logging.Formatter(_FORMAT))
        self.logger.addHandler(handler)

    def log(self, message: str) -> None:
        """Log a message, as :meth:`info` does."""
        self.logger.info(message)

    def info(self, message: str) -> None:
        """Log a message."""
        self.logger.info(message)

    def success(self, message: str) -> None:
        """Log that something has been reached."""
        self.logger.info(message)

    def warning(self, message: str) -> None:
        """Log a warning."""
        self.logger.warning(message)

    def error(self, message: str) -> None:
        """Log an error."""
        self.logger.error(message)


class RankZeroLoggingWrapper:
    """A logger whose methods do nothing but on rank 0.

    Parameters
    ----------
    obj
        A logger, such as :class:`PythonLogger`.
    dist
        What knows the rank, such as ``DistributedManager()``.
    """

    def __init__(self, obj: Any, dist: Any) -> None:
        self.obj, self.dist = obj, dist

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.obj, name)
        return _silent if callable(value) and self.dist.rank != 0 else value


def _silent(*arguments: Any, **named: Any) -> None:
    """Do nothing."""


def _console() -> logging.Handler:
    """Return what shows messages: to people as a terminal can, to files as lines that are whole."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        return RichHandler(console=Console(stderr=True), show_path=False)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler
