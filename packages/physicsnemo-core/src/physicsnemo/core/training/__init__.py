# SPDX-License-Identifier: Apache-2.0
"""What ``physicsnemo.utils.checkpoint`` is built from: saved trainings, one atomic set a step.

``steps`` keeps the sets in a ``folder``, sealed by a ``manifest``; ``parts`` names their files,
``state`` collects and restores what is in them, ``choice`` and ``retention`` tell which set to load
and which to delete, ``ranks`` brings processes to one mind, ``plain`` admits data only.
"""
