"""Where a network's time goes: runtimes' own profiles, read layer by layer.

Times under a profiler are longer than those of a plain run; shares are what they are read for.
"""

from nas.profiling._layers import LayerTime, NetworkLayers, by_layer
from nas.profiling._nodes import NodeTime, read_node_times
from nas.profiling._waterfall import LayerProfile, LayerProfiles, Step, waterfall

__all__ = [
    "LayerProfile",
    "LayerProfiles",
    "LayerTime",
    "NetworkLayers",
    "NodeTime",
    "Step",
    "by_layer",
    "read_node_times",
    "waterfall",
]
