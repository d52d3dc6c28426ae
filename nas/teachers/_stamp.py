"""Telling whether a teacher's files have changed without loading it."""

from __future__ import annotations

import hashlib

from nas.config import TeacherConfig
from nas.teachers._digest import digest_files
from nas.teachers._hub import fetch_tokenizer
from nas.teachers._resolve import local_path, resolve
from nas.teachers._tokenizer import tokenizer_files


def source_stamp(config: TeacherConfig) -> str:
    """Digest over the bytes of the teacher's files; raises as `load_teacher`."""
    digest = resolve(config, weights=True).digest()
    if config.tokenizer is None:
        return digest
    trusted = config.trust_remote_code
    path = local_path(config.tokenizer) or fetch_tokenizer(config.tokenizer, code=trusted)
    beside = digest_files(tokenizer_files(path, trusted))
    return hashlib.sha256(f"{digest}\n{beside}".encode()).hexdigest()
