"""Executors: where independent units are worked on. The results do not depend on it."""

from nas.executors._base import Executor, Job, Outcome, Resident, Tensors
from nas.executors._factory import EXECUTORS, create_executor
from nas.executors._in_process import InProcess
from nas.executors._process_pool import ProcessPool
from nas.executors._ray import RayCluster

__all__ = [
    "EXECUTORS",
    "Executor",
    "InProcess",
    "Job",
    "Outcome",
    "ProcessPool",
    "RayCluster",
    "Resident",
    "Tensors",
    "create_executor",
]
