"""Telling whether a teacher's files have changed without loading it."""

from __future__ import annotations

from nas.config import TeacherConfig
from nas.teachers._resolve import resolve


def source_stamp(config: TeacherConfig) -> str:
    """Digest over the bytes of the teacher's files; raises as `load_teacher`."""
    return resolve(config, weights=True).digest()
