"""Teachers: one adapter a family and one reader a file format. Foreign names stop here."""

from nas.teachers._chain import chain_from_model
from nas.teachers._families import FAMILIES
from nas.teachers._resolve import local_path
from nas.teachers._stamp import source_stamp
from nas.teachers._teacher import (
    Teacher,
    exceeds_memory,
    load_teacher,
    read_shape,
    require_device,
)

__all__ = [
    "FAMILIES",
    "Teacher",
    "chain_from_model",
    "exceeds_memory",
    "load_teacher",
    "local_path",
    "read_shape",
    "require_device",
    "source_stamp",
]
