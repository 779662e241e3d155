# SPDX-License-Identifier: Apache-2.0
"""A training on the disk, as ``physicsnemo.utils.checkpoint`` saves and loads it: one set a step.

``steps`` keeps the sets in a ``folder``, whose files a ``lock`` guards and a ``manifest`` proves
whole; ``parts`` names the files of a step, ``state`` collects and restores what is in them and is
no model, ``serializable`` admits data only. ``selection`` chooses the step to load, ``retention``
the steps to delete, and ``ranks`` lets processes agree on both.
"""
