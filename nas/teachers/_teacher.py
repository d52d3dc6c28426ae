"""A loaded teacher: chain, shape, tokenizer and where they came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch

from nas._memory import memory_at_hand
from nas._numerics import compute_dtype
from nas.blocks import KINDS
from nas.chain import Chain
from nas.config import TeacherConfig
from nas.errors import CapabilityError
from nas.ir import ChainShape, DecoderShape, KeepTeacher, TextShape
from nas.teachers._base import TeacherSource
from nas.teachers._chain import chain_from_source
from nas.teachers._resolve import local_path, resolve
from nas.teachers._tokenizer import check_tokenizer, load_tokenizer


@dataclass(frozen=True)
class Teacher:
    """The network to be compressed. `chain` is frozen and in eval mode.

    `fingerprint`: SHA-256 over the weight files' bytes, the shape and the number format; it does
    not depend on where the files lie. `tokenizer`: None for a teacher of pictures; of such a one
    `preprocessing` is how its files say that pictures are resized and cropped (see `TeacherSource`)
    and `labels` names its classes.
    """

    chain: Chain
    shape: ChainShape
    tokenizer: Any
    source: str
    fingerprint: str
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def description(self) -> dict[str, Any]:
        """What teacher.json records."""
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "dtype": str(self.chain.dtype).removeprefix("torch."),
            "params": sum(p.numel() for p in self.chain.parameters()),
            **({} if self.tokenizer is None else {"tokenizer": _described(self.tokenizer)}),
            "shape": self.shape.model_dump(mode="json"),
        }


def _described(tokenizer: Any) -> dict[str, Any]:
    return {"class": type(tokenizer).__name__, "tokens": len(tokenizer)}


def read_shape(config: TeacherConfig) -> ChainShape:
    """The teacher's shape from its config.json or GGUF header, without reading weights.

    Raises ConfigError where the source is not there or is torn, CapabilityError where its
    architecture is not supported.
    """
    return resolve(config, weights=False).shape()


def load_teacher(config: TeacherConfig) -> Teacher:
    """Read shape, tokenizer and weights; the chain is in `config.dtype` on `config.device`.

    With `config.stream` its slots stay in their files; see `StreamedChain`. Raises as `read_shape`,
    and CapabilityError where the device is missing.
    """
    require_device(config.device)
    source = resolve(config, weights=True)
    shape = source.shape()
    tokenizer = None
    if isinstance(shape, TextShape):
        tokenizer = _tokenizer(config, source)
        check_tokenizer(tokenizer, shape.vocab_size, config.tokenizer or config.source)
    dtype: torch.dtype = getattr(torch, config.dtype)
    stream = config.stream
    if stream == "auto":
        stream = isinstance(shape, DecoderShape) and exceeds_memory(config, shape)
    chain = chain_from_source(source, shape, config.source, dtype, config.device, stream=stream)
    fingerprint = _fingerprint(source.digest(), shape, config.dtype)
    pictures = (source.preprocessing(), source.labels()) if shape.reads_pictures else ({}, ())
    return Teacher(chain, shape, tokenizer, config.source, fingerprint, *pictures)


def exceeds_memory(config: TeacherConfig, shape: ChainShape) -> bool:
    """Whether the weights, and their copy in the processor's fast format, exceed the memory, of
    which a quarter is left to activations and blocks."""
    wanted = {getattr(torch, config.dtype), compute_dtype(config.device)}
    size: int = sum(dtype.itemsize for dtype in wanted) * parameter_count(shape)
    return 4 * size > 3 * memory_at_hand(config.device)


def parameter_count(shape: ChainShape) -> int:
    """Of the teacher's blocks, embeddings and head, from the shape alone; norms are left out."""
    blocks = 0
    for slot in shape.slots():
        spec = shape.resolve(slot, KeepTeacher())
        blocks += KINDS[spec.kind].parameters(shape, slot.kind, spec)
    return blocks + shape.outside_parameters


def _tokenizer(config: TeacherConfig, source: TeacherSource) -> Any:
    if config.tokenizer is None:
        return source.tokenizer()
    path = local_path(config.tokenizer)
    return load_tokenizer(
        str(path or config.tokenizer),
        revision=None,
        trust_remote_code=config.trust_remote_code,
    )


def _fingerprint(digest: str, shape: ChainShape, dtype: str) -> str:
    text = "\n".join((digest, shape.model_dump_json(), dtype))
    return hashlib.sha256(text.encode()).hexdigest()


def require_device(device: str) -> None:
    """Raise CapabilityError where torch cannot use `device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise CapabilityError(
            f"teacher.device {device!r} is not available here ({reason}); use teacher.device: cpu "
            f"or install a torch build for that device"
        ) from error
