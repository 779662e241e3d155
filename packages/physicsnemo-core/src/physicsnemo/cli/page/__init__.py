# SPDX-License-Identifier: Apache-2.0
"""The page of ``physicsnemo show``: a file, its model at work, and pictures of fields.

``uploads`` reads arrays that the user gives, ``inputs`` makes inputs of a model of them, ``runs``
loads and calls the model. ``layouts`` says how an array can be drawn, ``pictures`` draws it with
Matplotlib. ``tensors`` and ``text`` write what is shown beside. None of them needs the web
library, on which ``web`` builds.
"""
