# SPDX-License-Identifier: Apache-2.0
"""Captured steps: training and evaluation steps under autocast, recorded as CUDA graphs.

In the order in which a call passes through them:

- ``decorator``: base of the decorators; the function becomes a step program and, on a GPU, gets a
  recorder. ``options``: what the caller asks for, and the precision that results.
- ``recorder``: looks up the cache entry of a call, then warms up, records or replays.
- ``compilation``: what of the function is compiled; ``blocks``: parts of the model that share code.
- ``guards``: what must not have changed besides the arguments, found by a ``dependency_scan``.
- ``graphs``: one recording with its static inputs, and the graph pool that all share.
- ``step_program``, ``training_step``: what a call does, eagerly or around a recording.
  ``optimizers``: which of them a recording can hold. ``promotion``: how ordinary ones get there.
- ``many_tensors``: kernels that recorded optimizers run instead of PyTorch's; ``kernels``: how they
  are compiled.
- ``replay_check``: compares replays with eager calls, if asked to.
"""
