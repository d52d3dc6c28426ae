"""Meters: what a block, the embedding and the head cost under a target's conditions."""

from nas.meters._base import Meter, Request, requests_for
from nas.meters._costs import CostTable, block_key
from nas.meters._factory import create_meter
from nas.meters._onnxruntime import OnnxRuntimeMeter
from nas.meters._roofline import RooflineMeter
from nas.meters._session import TimedSession
from nas.meters._table import TableMeter
from nas.meters._timing import interleaved, round_paces

__all__ = [
    "CostTable",
    "Meter",
    "OnnxRuntimeMeter",
    "Request",
    "RooflineMeter",
    "TableMeter",
    "TimedSession",
    "block_key",
    "create_meter",
    "interleaved",
    "requests_for",
    "round_paces",
]
