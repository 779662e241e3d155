# SPDX-License-Identifier: Apache-2.0
"""What the library asks of a model, whatever a subclass keeps under the same names.

A class that derived from ``torch.nn.Module`` may assign ``self.device``, ``self.logger``,
``self.meta`` or ``self._args`` of its own.
"""

import logging
from typing import TYPE_CHECKING

import torch

from physicsnemo.models.meta import ModelMetaData

if TYPE_CHECKING:
    from physicsnemo.core.arguments import Record
    from physicsnemo.models.module import Module


def record_of(model: "Module") -> "Record":
    """Return the record of class and arguments that was made when a model was built."""
    return model._constructed_from


def metadata_of(model: "Module") -> ModelMetaData | None:
    """Return what a model supports, None if it does not say."""
    meta = getattr(model, "meta", None)
    return meta if isinstance(meta, ModelMetaData) else None


def device_of(model: "Module") -> torch.device:
    """Return the device that a model is on."""
    return model.device_buffer.device


def logger_of(model: "Module") -> logging.Logger:
    """Return the logger of a model's class."""
    return logging.getLogger(f"core.module.{type(model).__name__}")
