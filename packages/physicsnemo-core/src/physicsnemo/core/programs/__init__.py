# SPDX-License-Identifier: Apache-2.0
"""Programs: models as files that run without this library.

``export`` records a model as a program and has it written; ``inputs`` makes what a program takes of
a model's inputs; ``formats`` writes and runs files of each kind.
"""
