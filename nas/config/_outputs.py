"""The files that are written of the student, and how its quality is found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from nas.config._section import Section


class ExportConfig(Section):
    """`formats`: `decilm` is a folder for vLLM, `gguf` a file for llama.cpp; both refuse a student
    that they cannot express. `tensorrt_rtx` builds engines on a CPU, `tensorrt` on the GPU that
    they are for.
    `sm`: compute capabilities to build engines for, such as 89; empty: for tensorrt_rtx those that
    the hardware profile names, for tensorrt that of this machine."""

    formats: tuple[
        Literal["huggingface", "onnx", "decilm", "gguf", "tensorrt_rtx", "tensorrt"], ...
    ] = ("huggingface", "onnx")
    sm: tuple[PositiveInt, ...] = ()
    engine_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    greedy_tokens: PositiveInt = 64


class EvaluateConfig(Section):
    """`generations` prompts of `prompt_tokens`, each continued greedily by `generate_tokens`.

    `tasks`: multiple-choice or cloze files (JSONL); `lm_eval`: tasks or groups of tasks of
    lm-evaluation-harness, by name; `pairs`, of an encoder: JSONL files of texts `a` and `b`,
    perhaps with a `score`, whose similarities are ranked; `images`, of a teacher of pictures: .npz
    files with `images` and `labels`, on which accuracy is taken; `limit`: items of each that are
    used."""

    generations: int = Field(default=8, ge=0)
    prompt_tokens: PositiveInt = 32
    generate_tokens: PositiveInt = 64
    tasks: tuple[Path, ...] = ()
    pairs: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    lm_eval: tuple[str, ...] = ()
    limit: PositiveInt | None = None
