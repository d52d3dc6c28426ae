"""How a network's output answers to its blocks: any mix of blocks run, and expanded about a mix."""

from nas.sensitivity._expansion import Expansion, expand
from nas.sensitivity._network import MixedNetwork, Realiser

__all__ = ["Expansion", "MixedNetwork", "Realiser", "expand"]
