"""Where text and pictures come from, and what of them is kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from nas.config._section import Section


class FileText(Section):
    """A text file, or every `*.txt` and `*.md` file under a folder."""

    kind: Literal["file"] = "file"
    path: Path


class JsonlText(Section):
    """One document a line, in `field`."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path
    field: str = "text"


class DatasetText(Section):
    """A dataset of the optional package `datasets`."""

    kind: Literal["datasets"] = "datasets"
    name: str
    config: str | None = None
    split: str = "train"
    field: str = "text"


class PythonDocsText(Section):
    """The English reference text that ships with Python itself (`pydoc_data.topics`)."""

    kind: Literal["python_docs"] = "python_docs"


class TeacherSamplesText(Section):
    """Text sampled from the teacher. Joins the training text only, and is never scored on.

    `prompt_tokens` of training text (0: the beginning-of-text token alone) open each sample.
    """

    kind: Literal["teacher_samples"] = "teacher_samples"
    tokens: PositiveInt = 65536
    prompt_tokens: int = Field(default=16, ge=0)
    temperature: PositiveFloat = 1.0
    batch: PositiveInt = 32


class ImageFile(Section):
    """Pictures for a teacher of pictures: an .npz file with `images` uint8 [N, h, w, 3], of the
    side that the teacher takes. Labels in it are not read: the teacher is what is learnt from."""

    kind: Literal["images"] = "images"
    path: Path


TextSource = Annotated[
    FileText | JsonlText | DatasetText | PythonDocsText | TeacherSamplesText | ImageFile,
    Field(discriminator="kind"),
]


class DataConfig(Section):
    """The text, and how much of its end is kept apart.

    The token stream is cut into train | score | evaluate, in this order and without overlap;
    `evaluate_fraction` of it from the end, then `score_sequences` windows before that. Pictures are
    shuffled first, and each counts as a window of one token.
    """

    sources: tuple[TextSource, ...] = (PythonDocsText(),)
    sequence_length: PositiveInt = 256
    evaluate_fraction: float = Field(default=0.1, gt=0, lt=0.9)
    evaluate_tokens: PositiveInt | None = None
    score_sequences: PositiveInt = 8
    train_tokens: PositiveInt | None = None
