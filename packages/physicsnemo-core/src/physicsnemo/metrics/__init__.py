# SPDX-License-Identifier: Apache-2.0
"""Losses and scores."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
