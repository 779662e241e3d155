# SPDX-License-Identifier: Apache-2.0
"""The page of ``physicsnemo show`` as Panel serves it.

``server`` runs for as long as the command does, ``page`` arranges what the user sees, ``fields``
are its pictures with their widgets, and ``style`` is how it looks.
"""
