"""AutoDistil from its options to its answer: SuperLMs, a search, the winner as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nas.chain import EncoderChain
from nas.config import DataConfig, FileText, TeacherConfig
from nas.data import TextData, load_text_data
from nas.errors import CapabilityError, PassError
from nas.evaluation import read_pairs
from nas.networks import BertSpec
from nas.progress import Progress, SilentProgress
from nas.run import content_key, write_atomically
from nas.search._journal import Journal
from nas.search._limits import parse_limits
from nas.supernet._answer import AutoDistilAnswer, Exported, LearnedSpace, student_of
from nas.supernet._judge import (
    Agnostic,
    Judge,
    ProxyTask,
    similarity_agreement,
    window_embeddings,
)
from nas.supernet._network import SuperNetwork
from nas.supernet._objective import RelationObjective
from nas.supernet._search import Limits, SearchResult, search_subnets
from nas.supernet._spaces import SubSpace, sub_spaces
from nas.supernet._timer import EncoderTimer
from nas.supernet._train import Lessons, Schedule, alone, sandwich, train
from nas.teachers import Teacher, load_teacher

JUDGED_WINDOWS = 32


@dataclass(frozen=True)
class AutoDistilRequest:
    """What is asked. `limits` are `COST=VALUE`; `speedup` is over the teacher, measured.

    `spaces`: by default those that come with nas for such a teacher. `finish`: steps that train the
    winner alone afterwards. `pairs`: a file of text pairs, searched by in place of the held-out
    loss. `batch` windows of `tokens` are trained on; `timed_batch` texts of `tokens` are timed.
    """

    teacher: str
    text: Path
    output: Path
    spaces: tuple[str, ...] = ()
    sub_spaces: int | None = None
    steps: int = 2000
    batch: int = 16
    tokens: int = 64
    learning_rate: float = 5e-4
    relation_heads: int = 12
    similarity_weight: float = 0.0
    limits: tuple[str, ...] = ()
    speedup: float | None = None
    timed_batch: int = 8
    threads: int | None = None
    pairs: Path | None = None
    trials: int | None = None
    finish: int = 0
    seed: int = 0
    device: str = "cpu"


Network = tuple[SubSpace, SuperNetwork]


def autodistil(request: AutoDistilRequest, progress: Progress | None = None) -> AutoDistilAnswer:
    """Train what is not trained yet, search, and write the winner to `output`.

    Another call with other limits finds its SuperLMs trained and its students scored. Raises
    ConfigError for options that make no sense, InfeasibleError where no student is within the
    limits, CapabilityError for a teacher that is no encoder, ArtifactError for an `output` of
    another training.
    """
    progress = progress or SilentProgress()
    limits = Limits.of(parse_limits(request.limits), request.speedup)
    teacher, chain = _teacher(request)
    spaces = sub_spaces(chain.shape, request.spaces, request.sub_spaces)
    text = load_text_data(_data(request), teacher, request.seed, progress)
    lessons = _lessons(request, chain, text)
    networks = [_trained(space, teacher, lessons, request, progress) for space in spaces]
    judge, identity = _judge(request, teacher, chain, text, lessons.objective)
    about = {"teacher": teacher.fingerprint, "lessons": lessons.about(), "judge": identity}
    timer = None
    if limits.measured:
        timer = EncoderTimer(
            chain, batch=request.timed_batch, tokens=request.tokens, threads=request.threads
        )
    result = search_subnets(
        networks,
        judge,
        limits,
        timer=timer,
        trials=request.trials,
        seed=request.seed,
        journal=_journal(request.output, about),
        progress=progress,
    )
    student = _winner({s.name: n for s, n in networks}, result, lessons, request, progress)
    held_out = text.evaluate
    reference = window_embeddings(chain, held_out)
    exported = _export(student, teacher, request.output, result.winner.spec, held_out[:4])
    answer = AutoDistilAnswer(
        teacher=teacher.source,
        sub_spaces=tuple(_learned(network) for network in networks),
        steps=request.steps,
        batch=request.batch,
        tokens=request.tokens,
        relation_heads=request.relation_heads,
        similarity_weight=request.similarity_weight,
        judge=judge.name,
        within_limits=result.within_limits,
        scored=len(result.ranked),
        conditions=None if timer is None else timer.conditions,
        winner=student_of(result.winner),
        finished_steps=request.finish,
        similarity_spearman=similarity_agreement(reference, window_embeddings(student, held_out)),
        exported=exported,
        timed=tuple(map(student_of, result.timed)),
        ranked=tuple(map(student_of, result.ranked)),
    )
    write_atomically(request.output / "answer.json", answer.model_dump_json(indent=2) + "\n")
    return answer


def training_key(teacher: Teacher, lessons: Lessons, space: SubSpace) -> str:
    """What the weights of a SuperLM depend on."""
    return content_key(teacher.fingerprint, lessons.about(), space.about)


def _teacher(request: AutoDistilRequest) -> tuple[Teacher, EncoderChain]:
    teacher = load_teacher(TeacherConfig(source=request.teacher, device=request.device))
    if not isinstance(teacher.chain, EncoderChain):
        raise CapabilityError(
            f"--teacher {request.teacher}: a {teacher.shape.family} is no encoder; AutoDistil "
            f"compares what all tokens say of each other; use nas run for decoders"
        )
    if teacher.chain.shape.masked_head:
        raise CapabilityError(
            f"--teacher {request.teacher}: students of AutoDistil have no head for masked tokens; "
            f"save the encoder alone with save_pretrained"
        )
    return teacher, teacher.chain


def _data(request: AutoDistilRequest) -> DataConfig:
    return DataConfig(
        sources=(FileText(path=request.text),),
        sequence_length=request.tokens,
        score_sequences=JUDGED_WINDOWS,
    )


def _journal(output: Path, about: dict[str, object]) -> Journal:
    """The scores of these SuperLMs by this judge."""
    folder = output / "scores"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PassError(f"cannot write {folder}: {error.strerror}") from error
    return Journal(folder / f"{content_key(about)}.jsonl", about)


def _lessons(request: AutoDistilRequest, chain: EncoderChain, text: TextData) -> Lessons:
    objective = RelationObjective(request.relation_heads, request.similarity_weight)
    schedule = Schedule(
        steps=request.steps,
        batch=request.batch,
        learning_rate=request.learning_rate,
        seed=request.seed,
    )
    return Lessons(chain, text.train, objective, schedule)


def _trained(
    space: SubSpace,
    teacher: Teacher,
    lessons: Lessons,
    request: AutoDistilRequest,
    progress: Progress,
) -> Network:
    """The SuperLM of a space, from its file as far as that goes."""
    network, key = SuperNetwork(lessons.teacher, space.bound), training_key(teacher, lessons, space)
    train(
        network,
        lessons,
        sandwich(space, lessons.schedule),
        checkpoint=request.output / "superlm" / f"{key}.safetensors",
        key=key,
        progress=progress,
        title=f"SuperLM {space.name}",
    )
    return space, network


def _judge(
    request: AutoDistilRequest,
    teacher: Teacher,
    chain: EncoderChain,
    text: TextData,
    objective: RelationObjective,
) -> tuple[Judge, object]:
    """How students are scored, and what that depends on beside the teacher."""
    if request.pairs is not None:
        pairs = read_pairs(request.pairs).texts
        return ProxyTask(chain, teacher.tokenizer, pairs), content_key(pairs)
    return Agnostic(chain, text.score, objective), content_key(text.score.tolist())


def _winner(
    networks: dict[str, SuperNetwork],
    result: SearchResult,
    lessons: Lessons,
    request: AutoDistilRequest,
    progress: Progress,
) -> EncoderChain:
    """The chosen student, trained further alone where that was asked for."""
    spec = result.winner.spec
    student = networks[result.winner.sub_space].extract(spec)
    if not request.finish:
        return student
    lone = SuperNetwork(student, spec)
    schedule = Schedule(
        steps=request.finish,
        batch=request.batch,
        learning_rate=request.learning_rate,
        seed=request.seed + 1,
    )
    more = lessons.again(schedule)
    train(lone, more, alone(spec), progress=progress, title=f"finishing {spec.key}")
    return lone.extract(spec)


def _export(
    student: EncoderChain, teacher: Teacher, output: Path, spec: BertSpec, ids: Tensor
) -> Exported:
    """Write and check what can be written; raises PassError for a file that is wrong."""
    from nas.backends.huggingface import check_bert_folder, export_bert_folder
    from nas.backends.onnx import check_encoder, export_encoder

    folder, onnx = output / "student", output / "onnx"
    export_bert_folder(student, teacher.tokenizer, folder, name=spec.key)
    difference = check_bert_folder(folder, student, ids)
    onnx_difference = check_encoder(export_encoder(student, onnx), student, ids).most
    return Exported(
        folder=folder,
        folder_difference=difference,
        onnx=onnx / "model.onnx",
        onnx_difference=onnx_difference,
    )


def _learned(network: Network) -> LearnedSpace:
    space, _ = network
    return LearnedSpace(
        name=space.name,
        students=space.count,
        largest=space.largest.key,
        smallest=space.smallest.key,
    )
