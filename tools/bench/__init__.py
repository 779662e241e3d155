# SPDX-License-Identifier: Apache-2.0
"""How fast the models are: ``python -m tools.bench``, and the imports: ``tools.bench.startup``.

``tools.bench.finder`` times a step of the models that no other benchmark trains,
``tools.bench.host`` measures what replayed steps cost the CPU, ``tools.bench.graphs`` how long
GraphCast's graphs take to be made, ``tools.bench.recomputation`` what memory it needs, and
``tools.bench.transforms`` by what number of modes to choose how axes are transformed.

``cases.py`` names what is timed, ``variants.py`` makes a step of it, ``measure.py`` times steps
side by side, and ``report.py`` shows the results. A new benchmark is a new case. What ``plain.py``
holds is what the library's models are compared with.
"""
