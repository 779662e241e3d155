# SPDX-License-Identifier: Apache-2.0
"""How a step is run: precision, gradient scaling, and recording as a CUDA graph.

``decorator`` makes a step of a function: a program (``programs``, ``training``) that says what a
call does, and, on a GPU, a ``recorder``. That runs the program eagerly at first, then makes a
``recording`` and replays it for as long as nothing has changed that it bakes in: the arguments but
for the values of tensors (``structure``), and all else that the step reads (``surroundings``, as
far as a ``search`` finds it). ``verification`` compares replays with eager calls.
"""
