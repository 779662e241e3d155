# SPDX-License-Identifier: Apache-2.0
"""GraphCast: weather forecasts by a graph network on an icosahedral mesh.

:class:`GraphCastNet` is the model; :func:`build_graphs` builds its graphs, and :func:`graph_cache`
caches them in files.
"""

from physicsnemo.models.graphcast._cache import graph_cache
from physicsnemo.models.graphcast.graph_cast_net import GraphCastNet
from physicsnemo.models.graphcast.graphs import GraphCastGraphs, build_graphs

__all__ = ["GraphCastGraphs", "GraphCastNet", "build_graphs", "graph_cache"]
