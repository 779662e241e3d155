# SPDX-License-Identifier: Apache-2.0
"""The bytes of a ``.mdlus`` file, on whatever file system; knows no model and no registry.

``container`` reads and writes the file as a whole: the members that ``archive`` finds in a tar or
a zip, the records of ``records``, whose arguments ``values`` writes as JSON, and the weights.
Those ``tensors`` reads: ``pickles`` interprets what PyTorch wrote as data, ``descriptions`` checks
what it says of tensors, ``storable`` what a state may consist of. ``files`` locates a path or URL,
``file_slice`` shows a part of a file as a file, ``atomic`` replaces a file whole or not at all.
"""
