# SPDX-License-Identifier: Apache-2.0
"""Messages and numbers of a training, by the names that scripts for nvidia-physicsnemo use.

All of it goes to loggers of the standard library below ``physicsnemo``, so a program that sets up
logging sees it where it sees the rest. Where none has, the first logger that is made here shows
messages on the console.
"""

from physicsnemo.utils.logging.console import PythonLogger, RankZeroLoggingWrapper
from physicsnemo.utils.logging.launch import LaunchLogger

__all__ = ["LaunchLogger", "PythonLogger", "RankZeroLoggingWrapper"]
