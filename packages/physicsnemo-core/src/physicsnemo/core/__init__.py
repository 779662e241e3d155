# SPDX-License-Identifier: Apache-2.0
"""What the public modules of physicsnemo-core are built from, one concern a module.

``arguments`` records and encodes constructor arguments, ``container`` reads and writes the
``.mdlus`` file, ``resolution`` finds the class that a file names, ``migration`` and ``absence``
make its arguments those of the class, ``conversion`` wraps plain PyTorch classes, ``hooks`` calls
plugins. None of them is needed to use a model.
"""
