"""Evaluate: quality on held-out text, free-running generation and tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from nas.ir import Architecture
from nas.passes._context import PassContext
from nas.passes.assemble import assembled
from nas.passes.students import distilled
from nas.run import content_key, file_digest, json_writer

if TYPE_CHECKING:
    from nas.chain import Chain, DecoderChain, EncoderChain, PictureChain, VisionChain
    from nas.evaluation import LanguageQuality, Retained, TaskResult


class ModelQuality(BaseModel):
    """Held-out quality of one model, against the teacher: of a language model its KL and what
    follows, of an encoder its embeddings and what follows, of a classifier of pictures its KL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    kl_nats: float | None = None
    kl_stderr_nats: float | None = None
    kl_by_window_nats: tuple[float, ...] = ()
    perplexity: float | None = None
    top1_agreement: float | None = None
    cosine_distance: float | None = None
    cosine_distance_stderr: float | None = None
    cosine_distance_by_window: tuple[float, ...] = ()
    similarity_spearman: float | None = None
    recall_at_10: float | None = None
    greedy_agreement_tokens: float | None = None
    greedy_length_tokens: int | None = None


Qualities = dict[str, ModelQuality]


def evaluate(
    context: PassContext, architectures: Mapping[str, Architecture], keys: Mapping[str, str]
) -> dict[str, Qualities]:
    """`before` and `after` distillation: model name -> quality. The teacher stands in both."""
    return {stage: _stage(context, stage, architectures, keys) for stage in ("before", "after")}


def _stage(
    context: PassContext,
    stage: str,
    architectures: Mapping[str, Architecture],
    keys: Mapping[str, str],
) -> Qualities:
    config = context.config.evaluate
    text = config.model_dump(exclude={"tasks", "lm_eval", "pairs", "images", "limit"})
    key = content_key("evaluate", stage, context.data_key, dict(keys), text)
    record = context.run.fetch(f"evaluate/{stage}", key)
    if record is None:
        started = time.perf_counter()
        context.progress.say(f"evaluating students {stage} distillation")
        found = _measure(context, stage, architectures)
        data = {name: quality.model_dump(mode="json") for name, quality in found.items()}
        seconds = time.perf_counter() - started
        files = {f"evaluation/{stage}.json": json_writer(data)}
        record = context.run.store(f"evaluate/{stage}", key, files, data, seconds)
    return {name: ModelQuality.model_validate(value) for name, value in record.data.items()}


def _measure(
    context: PassContext, stage: str, architectures: Mapping[str, Architecture]
) -> Qualities:
    students = {
        name: distilled(context, name, architecture)
        if stage == "after"
        else assembled(context, name, architecture)
        for name, architecture in architectures.items()
    }
    if context.shape.generates:
        return _language(context, stage, students)
    if context.shape.embeds:
        return _embeddings(context, students)
    if context.shape.reads_pictures:
        return _classes(context, students)
    return _masked(context, students)


def _language(context: PassContext, stage: str, students: Mapping[str, Chain]) -> Qualities:
    from nas._numerics import compute_dtype
    from nas.evaluation import language_quality

    teacher, windows = context.teacher.chain, context.text.evaluate
    decoders = {name: decoder(chain) for name, chain in students.items()}
    dtype = compute_dtype(str(teacher.device))
    found = language_quality(decoder(teacher), decoders, windows, dtype=dtype)
    free = _free_running(context, decoders) if stage == "after" else {}
    return {
        name: ModelQuality(tokens=windows.numel(), **_nearness(quality), **free.get(name, {}))
        for name, quality in found.items()
    }


def _classes(context: PassContext, students: Mapping[str, Chain]) -> Qualities:
    from nas.evaluation import class_quality

    pictures = context.text.evaluate
    chains = {name: classifier(chain) for name, chain in students.items()}
    found = class_quality(classifier(context.teacher.chain), chains, pictures)
    return {
        name: ModelQuality(
            tokens=len(pictures),
            kl_nats=quality.kl_mean,
            kl_stderr_nats=quality.kl_standard_error,
            kl_by_window_nats=quality.kl,
            top1_agreement=quality.agreement,
        )
        for name, quality in found.items()
    }


def _embeddings(context: PassContext, students: Mapping[str, Chain]) -> Qualities:
    from nas.data import tokens_a_sample
    from nas.evaluation import embedding_quality

    windows = context.text.evaluate
    embedders = {name: _embedder(chain) for name, chain in students.items()}
    found = embedding_quality(_embedder(context.teacher.chain), embedders, windows)
    return {
        name: ModelQuality(
            tokens=len(windows) * tokens_a_sample(windows),
            cosine_distance=quality.distance_mean,
            cosine_distance_stderr=quality.distance_standard_error,
            cosine_distance_by_window=quality.distance,
            similarity_spearman=quality.similarity_spearman,
            recall_at_10=quality.recall_at_10,
        )
        for name, quality in found.items()
    }


def _masked(context: PassContext, students: Mapping[str, Chain]) -> Qualities:
    from nas.data import mask_token, mask_tokens
    from nas.evaluation import masked_quality

    windows, token = context.text.evaluate, mask_token(context.teacher)
    assert token is not None
    masked = mask_tokens(windows, token, context.config.seed)
    encoders = {name: encoder(chain) for name, chain in students.items()}
    found = masked_quality(encoder(context.teacher.chain), encoders, windows, masked)
    return {
        name: ModelQuality(tokens=windows.numel(), **_nearness(quality))
        for name, quality in found.items()
    }


def _nearness(quality: LanguageQuality) -> dict[str, Any]:
    return {
        "kl_nats": quality.kl_mean,
        "kl_stderr_nats": quality.kl_standard_error,
        "kl_by_window_nats": quality.kl,
        "perplexity": quality.perplexity,
        "top1_agreement": quality.top1_agreement,
    }


def decoder(chain: Chain) -> DecoderChain:
    """The chain of a language model; what only those can do is refused before it comes to this."""
    from nas.chain import DecoderChain

    assert isinstance(chain, DecoderChain)
    return chain


def classifier(chain: Chain) -> PictureChain:
    """The chain of a classifier of pictures."""
    from nas.chain import PictureChain

    assert isinstance(chain, PictureChain)
    return chain


def encoder(chain: Chain) -> EncoderChain:
    """The chain of an encoder."""
    from nas.chain import EncoderChain

    assert isinstance(chain, EncoderChain)
    return chain


def _embedder(chain: Chain) -> EncoderChain | VisionChain:
    """The chain of a network that gives embeddings."""
    from nas.chain import EncoderChain, VisionChain

    assert isinstance(chain, EncoderChain | VisionChain)
    return chain


def _free_running(
    context: PassContext, students: Mapping[str, DecoderChain]
) -> dict[str, dict[str, Any]]:
    """Greedy continuations of held-out prompts: the teacher speaks once for all students."""
    from nas.chain import greedy_tokens
    from nas.evaluation import compare_tokens

    config = context.config.evaluate
    if not config.generations:
        return {}
    prompts = context.text.evaluate[: config.generations, : config.prompt_tokens]
    prompts = prompts.to(context.teacher.chain.device)
    expected = greedy_tokens(decoder(context.teacher.chain), prompts, config.generate_tokens)
    found = {}
    for name, student in students.items():
        said = greedy_tokens(student, prompts, config.generate_tokens)
        agreement = compare_tokens(expected, said)
        found[name] = {
            "greedy_agreement_tokens": agreement.mean_length,
            "greedy_length_tokens": config.generate_tokens,
        }
    return found


def evaluate_tasks(
    context: PassContext,
    architecture: Architecture,
    student_key: str,
    paths: tuple[Path, ...],
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Accuracy of teacher and student on task files, each file a unit of its own."""

    def judge(path: Path) -> dict[str, Any]:
        from nas._numerics import compute_dtype
        from nas.evaluation import evaluate_task

        models = {name: decoder(c) for name, c in _both(context, architecture).items()}
        dtype = compute_dtype(context.config.teacher.device)
        tokenizer = context.teacher.tokenizer
        return _task_record(evaluate_task(path, models, tokenizer, limit=limit, dtype=dtype))

    return _by_file(context, "task", paths, (student_key, limit), judge)


def evaluate_images(
    context: PassContext, architecture: Architecture, student_key: str
) -> list[dict[str, Any]]:
    """Accuracy of teacher and student on each file of `evaluate.images`, a unit a file."""
    config = context.config.evaluate

    def judge(path: Path) -> dict[str, Any]:
        from nas.evaluation import class_accuracy

        models = {name: classifier(c) for name, c in _both(context, architecture).items()}
        found = class_accuracy(path, models, config.limit)
        both = (found.models["teacher"], found.models["student"])
        return accuracy_row(path.stem, "accuracy", found.pictures, both, found.retained)

    return _by_file(context, "images", config.images, (student_key, config.limit), judge)


def evaluate_pairs(
    context: PassContext, architecture: Architecture, student_key: str
) -> list[dict[str, Any]]:
    """How teacher and student rank the pairs of each file of `evaluate.pairs`, a unit a file."""
    config = context.config.evaluate

    def judge(path: Path) -> dict[str, Any]:
        from nas.evaluation import rank_pairs, read_pairs

        pairs = read_pairs(path, config.limit)
        models = {name: encoder(c) for name, c in _both(context, architecture).items()}
        ranks = rank_pairs(pairs, models, context.teacher.tokenizer)
        against = "the teacher" if pairs.scores is None else "the scores"
        both = (ranks["teacher"], ranks["student"])
        return accuracy_row(path.stem, f"Spearman with {against}", len(pairs.texts), both, None)

    return _by_file(context, "pairs", config.pairs, (student_key, config.limit), judge)


def _both(context: PassContext, architecture: Architecture) -> dict[str, Chain]:
    student = distilled(context, "student", architecture)
    return {"teacher": context.teacher.chain, "student": student}


def _by_file(
    context: PassContext,
    kind: str,
    paths: tuple[Path, ...],
    asked: tuple[str, int | None],
    judge: Callable[[Path], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What `judge` finds in each file, a unit a file; `asked`: the student's key, and how many
    items of a file count."""
    results = []
    student_key, limit = asked
    for path in paths:
        digest = file_digest(path) if path.is_file() else "absent"
        key = content_key(kind, student_key, context.teacher_key, digest, limit)
        unit = f"evaluate/{kind}-{path.stem}-{content_key(str(path))[:6]}"
        record = context.run.fetch(unit, key)
        if record is None:
            started = time.perf_counter()
            context.progress.say(f"evaluating {path.name}")
            data = judge(path)
            files = {f"evaluation/{unit.split('/')[1]}.json": json_writer(data)}
            record = context.run.store(unit, key, files, data, time.perf_counter() - started)
        results.append(record.data)
    return results


def _task_record(result: TaskResult) -> dict[str, Any]:
    teacher, student = result.scores["teacher"], result.scores["student"]
    accuracies = (teacher.accuracy, student.accuracy)
    return accuracy_row(result.name, "accuracy", result.items, accuracies, student.retained)


def accuracy_row(
    name: str,
    metric: str,
    items: int,
    accuracies: tuple[float, float],
    retained: Retained | None,
) -> dict[str, Any]:
    """A task as the run records it; `accuracies`: the teacher's, the student's."""
    return {
        "name": name,
        "metric": metric,
        "examples": items,
        "teacher_accuracy": accuracies[0],
        "student_accuracy": accuracies[1],
        "retained": retained.ratio if retained else None,
        "retained_low": retained.low if retained else None,
        "retained_high": retained.high if retained else None,
    }
