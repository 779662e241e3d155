# SPDX-License-Identifier: Apache-2.0
"""What is installed, read without importing PyTorch or any family.

``distributions`` reads what installers have left, ``entry_points`` the models that distributions
register, ``provenance`` tells which distribution a class comes from. ``paths`` is the table of the
import paths of other releases, ``aliases`` looks names up in it, and ``former_paths`` has imports
do so.
"""
