# SPDX-License-Identifier: Apache-2.0
"""Published results, regenerated from nothing: data, training and evaluation."""
