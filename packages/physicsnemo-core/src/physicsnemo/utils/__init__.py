# SPDX-License-Identifier: Apache-2.0
"""Utilities around models: capture of training and evaluation steps."""

from pkgutil import extend_path
from typing import TYPE_CHECKING

__path__ = extend_path(__path__, __name__)

from physicsnemo.core.lazy import lazy_exports

if TYPE_CHECKING:
    from physicsnemo.utils.capture import StaticCaptureEvaluateNoGrad as StaticCaptureEvaluateNoGrad
    from physicsnemo.utils.capture import StaticCaptureTraining as StaticCaptureTraining

__all__ = ["StaticCaptureEvaluateNoGrad", "StaticCaptureTraining"]

__getattr__, __dir__ = lazy_exports(__name__, dict.fromkeys(__all__, "physicsnemo.utils.capture"))
