# SPDX-License-Identifier: Apache-2.0
"""Proofs of the GPU flags in the metadata of models: ``python -m tools.gpu.prove_flags``."""
