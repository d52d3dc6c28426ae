"""Training-free proxies: scores of untrained networks, higher is better."""

from nas.proxies._base import Batch, Proxy, Trial

__all__ = ["Batch", "Proxy", "Trial"]
