# SPDX-License-Identifier: Apache-2.0
"""What the public modules of physicsnemo-core are built from, one concern a module.

``arguments`` records and encodes constructor arguments, ``container`` reads and writes the
``.mdlus`` file, ``resolution`` finds the class that a file names, ``conversion`` wraps plain
PyTorch classes. None of them is needed to use a model.
"""
