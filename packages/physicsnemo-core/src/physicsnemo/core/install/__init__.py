# SPDX-License-Identifier: Apache-2.0
"""What is installed, read without importing PyTorch or any family.

``distributions`` reads what installers have left, ``entry_points`` the models that distributions
register, ``provenance`` tells which distribution a class comes from, ``aliases`` what a class of
another release is called here.
"""
