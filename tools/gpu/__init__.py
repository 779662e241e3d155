# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show.

``python -m tools.gpu.prove_flags`` proves metadata flags, ``python -m tools.gpu.check_capture``
compares captured steps with loops by hand; ``check_fourier``, ``check_graphs``, ``check_weather``
and ``check_distributed`` test what layers, families, and several GPUs, promise.
"""
