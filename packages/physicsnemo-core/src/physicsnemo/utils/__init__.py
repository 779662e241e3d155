# SPDX-License-Identifier: Apache-2.0
"""Utilities around models: captured steps, trainings on the disk, fine-tuning, export, logs."""

from pkgutil import extend_path
from typing import TYPE_CHECKING

__path__ = extend_path(__path__, __name__)

from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.core.adaptation.adapt import Adapted as Adapted
    from physicsnemo.core.adaptation.adapt import adapt as adapt
    from physicsnemo.core.base import unwrap as unwrap
    from physicsnemo.core.capture.recomputation import recomputed as recomputed
    from physicsnemo.core.capture.recorder import release_graphs as release_graphs
    from physicsnemo.core.format.atomic import atomic_write as atomic_write
    from physicsnemo.core.programs.export import Exported as Exported
    from physicsnemo.core.programs.export import export as export
    from physicsnemo.utils.capture import StaticCaptureEvaluateNoGrad as StaticCaptureEvaluateNoGrad
    from physicsnemo.utils.capture import StaticCaptureTraining as StaticCaptureTraining
    from physicsnemo.utils.checkpoint import get_checkpoint_dir as get_checkpoint_dir
    from physicsnemo.utils.checkpoint import load_checkpoint as load_checkpoint
    from physicsnemo.utils.checkpoint import save_checkpoint as save_checkpoint
    from physicsnemo.utils.logging.console import PythonLogger as PythonLogger
    from physicsnemo.utils.logging.console import RankZeroLoggingWrapper as RankZeroLoggingWrapper
    from physicsnemo.utils.logging.launch import LaunchLogger as LaunchLogger

__all__ = [
    "Adapted",
    "Exported",
    "LaunchLogger",
    "PythonLogger",
    "RankZeroLoggingWrapper",
    "StaticCaptureEvaluateNoGrad",
    "StaticCaptureTraining",
    "adapt",
    "atomic_write",
    "export",
    "get_checkpoint_dir",
    "load_checkpoint",
    "recomputed",
    "release_graphs",
    "save_checkpoint",
    "unwrap",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Adapted": "physicsnemo.core.adaptation.adapt",
        "Exported": "physicsnemo.core.programs.export",
        "LaunchLogger": "physicsnemo.utils.logging.launch",
        "PythonLogger": "physicsnemo.utils.logging.console",
        "RankZeroLoggingWrapper": "physicsnemo.utils.logging.console",
        "StaticCaptureEvaluateNoGrad": "physicsnemo.utils.capture",
        "StaticCaptureTraining": "physicsnemo.utils.capture",
        "adapt": "physicsnemo.core.adaptation.adapt",
        "atomic_write": "physicsnemo.core.format.atomic",
        "export": "physicsnemo.core.programs.export",
        "get_checkpoint_dir": "physicsnemo.utils.checkpoint",
        "load_checkpoint": "physicsnemo.utils.checkpoint",
        "recomputed": "physicsnemo.core.capture.recomputation",
        "release_graphs": "physicsnemo.core.capture.recorder",
        "save_checkpoint": "physicsnemo.utils.checkpoint",
        "unwrap": "physicsnemo.core.base",
    },
)
