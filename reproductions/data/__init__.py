# SPDX-License-Identifier: Apache-2.0
"""Samples of differential equations and their solutions, computed in float64."""
