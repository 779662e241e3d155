# SPDX-License-Identifier: Apache-2.0
"""Triton, the compiler of kernels for GPUs, where it is installed."""

__all__ = ["IS_AVAILABLE", "tl", "triton"]

try:
    import triton
    from triton import language as tl
except ImportError:  # a build of PyTorch that compiles for no GPU
    triton = tl = None

IS_AVAILABLE = triton is not None
