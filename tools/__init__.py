# SPDX-License-Identifier: Apache-2.0
"""What maintains this repository; each module runs as ``python -m tools.<name>`` from its root."""
