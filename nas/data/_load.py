"""From the data section of the configuration to token windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.config import (
    DataConfig,
    DatasetText,
    FileText,
    ImageFile,
    JsonlText,
    PythonDocsText,
    TeacherSamplesText,
)
from nas.data._base import TextSource
from nas.data._datasets import DatasetSource
from nas.data._file import FileSource
from nas.data._jsonl import JsonlSource
from nas.data._masking import mask_tokens
from nas.data._pictures import load_pictures
from nas.data._python_docs import PythonDocsSource
from nas.data._sampling import sample_windows, sampled_windows, writer
from nas.data._split import Part, Split, cut
from nas.data._stream import token_stream
from nas.errors import ConfigError
from nas.ir import EncoderShape, PictureShape, as_text
from nas.progress import Progress, SilentProgress
from nas.teachers import Teacher


@dataclass(frozen=True)
class TextData:
    """Token windows [sequences, sequence_length] int64 that never share a token's position, or
    pictures [pictures, 3, side, side] uint8.

    `train` is shuffled; `score` and `evaluate` are in the order of the text. For a teacher that
    tells masked tokens there are some in `train` and `score`.
    """

    train: Tensor
    score: Tensor
    evaluate: Tensor
    split: Split


def load_text_data(
    config: DataConfig, teacher: Teacher, seed: int, progress: Progress | None = None
) -> TextData:
    """Read, tokenise, cut, and sample where asked for.

    Raises ConfigError for text that is missing, empty, unreadable or too short, and
    CapabilityError where an optional package is.
    """
    if isinstance(teacher.shape, PictureShape):
        return TextData(*load_pictures(config, teacher.shape, seed))
    stream, split = _read(config, teacher, seed)
    frame = _frame(teacher)

    def windows(part: Part) -> Tensor:
        return _framed(_windows(stream, part.start, part.stop, split.sequence_length), frame)

    train = windows(split.train)
    generator = torch.Generator().manual_seed(seed)
    train = train[torch.randperm(len(train), generator=generator)][: split.train.sequences]
    samples = [
        sample_windows(source, teacher, train, seed + k, progress or SilentProgress())
        for k, source in enumerate(config.sources)
        if isinstance(source, TeacherSamplesText)
    ]
    if samples:
        train = torch.cat((train, *samples))
        train = train[torch.randperm(len(train), generator=generator)]
        sampled = sum(s.numel() for s in samples)
        split = split.model_copy(update={"sampled_tokens": sampled})
    score = windows(split.score)
    if (token := mask_token(teacher)) is not None:
        train, score = mask_tokens(train, token, seed), mask_tokens(score, token, seed + 1)
    return TextData(
        train=train,
        score=score,
        evaluate=windows(split.evaluate),
        split=split,
    )


def check_text(config: DataConfig, teacher: Teacher, seed: int) -> int:
    """How many training windows there will be. Raises as `load_text_data` does, without sampling
    from the teacher."""
    if isinstance(teacher.shape, PictureShape):
        return len(load_pictures(config, teacher.shape, seed)[0])
    _, split = _read(config, teacher, seed)
    windows = split.train.sequences
    for source in config.sources:
        if isinstance(source, TeacherSamplesText):
            writer(teacher)
            windows += sampled_windows(source, config.sequence_length)
    return windows


def _read(config: DataConfig, teacher: Teacher, seed: int) -> tuple[Tensor, Split]:
    """The tokens of all text that is not sampled, and where they are cut."""
    _check_length(config, teacher)
    stream, records = token_stream(_text_sources(config, seed), teacher.tokenizer)
    inside = config.sequence_length - len(_frame(teacher))
    return stream, cut(len(stream), records, _of_length(config, inside), seed)


def _of_length(config: DataConfig, tokens: int) -> DataConfig:
    if tokens < 1:
        raise ConfigError(
            f"data.sequence_length: {config.sequence_length} leaves no room for text between the "
            f"tokens that open and close it; raise it"
        )
    return config.model_copy(update={"sequence_length": tokens})


def _frame(teacher: Teacher) -> tuple[int, ...]:
    """What opens and closes every text of an encoder; nothing for a decoder, which reads on."""
    if not isinstance(teacher.shape, EncoderShape):
        return ()
    frame = (teacher.tokenizer.cls_token_id, teacher.tokenizer.sep_token_id)
    if None in frame:
        raise ConfigError(
            "teacher.tokenizer: it names no token that opens a text or none that closes it "
            "(cls_token, sep_token); an encoder was trained with both"
        )
    return frame


def mask_token(teacher: Teacher) -> int | None:
    """What stands in the place of a masked token; None where the teacher tells none.

    Raises ConfigError where the tokenizer has none.
    """
    shape = teacher.shape
    if not (isinstance(shape, EncoderShape) and shape.masked_head):
        return None
    token = teacher.tokenizer.mask_token_id
    if token is None:
        raise ConfigError(
            "teacher.tokenizer: it names no token for masked ones (mask_token); the teacher's head "
            "tells masked tokens, use the tokenizer that it was trained with"
        )
    return int(token)


def _framed(windows: Tensor, frame: tuple[int, ...]) -> Tensor:
    if not frame:
        return windows
    first, last = (windows.new_full((len(windows), 1), token) for token in frame)
    return torch.cat((first, windows, last), dim=1)


def _check_length(config: DataConfig, teacher: Teacher) -> None:
    longest = as_text(teacher.shape).max_positions
    if config.sequence_length > longest:
        raise ConfigError(
            f"data.sequence_length: {config.sequence_length} is more than the {longest} positions "
            f"that the teacher knows; lower it"
        )


def _windows(stream: Tensor, start: int, stop: int, length: int) -> Tensor:
    """Whole windows of [start, stop); what is left over at the end is not used."""
    count = (stop - start) // length
    return stream[start : start + count * length].reshape(count, length)


def _text_sources(config: DataConfig, seed: int) -> list[TextSource]:
    """The sources that are read; text sampled from the teacher is not among them."""
    sources: list[TextSource] = []
    for source in config.sources:
        match source:
            case FileText():
                sources.append(FileSource(source))
            case JsonlText():
                sources.append(JsonlSource(source))
            case DatasetText():
                sources.append(DatasetSource(source))
            case PythonDocsText():
                sources.append(PythonDocsSource(seed))
            case TeacherSamplesText():
                pass
            case ImageFile():
                raise ConfigError(
                    "data.sources: pictures are for a teacher of pictures; this one reads text"
                )
    if not sources:
        raise ConfigError(
            "data.sources: text sampled from the teacher is never scored on; add a source of text, "
            "such as {kind: python_docs}"
        )
    return sources
