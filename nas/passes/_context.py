"""What passes share: configuration, run directory, progress, and lazily loaded artefacts."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import RunConfig, TeacherSamplesText
from nas.errors import PassError
from nas.executors import Executor, InProcess, Job, Outcome, Resident
from nas.ir import ChainShape, parse_shape
from nas.progress import Progress, SilentProgress
from nas.run import RunDirectory, content_key, json_writer
from nas.sharding import Alone, Ranks

if TYPE_CHECKING:
    from torch import Tensor

    from nas.chain import Chain
    from nas.data import TextData
    from nas.evaluation import Harness
    from nas.objectives import Objective
    from nas.teachers import Teacher


class PassContext:
    """One run's configuration and its artefacts, each loaded at most once and only if needed.

    A finished run is recognised from its records alone: neither the teacher's weights nor torch are
    touched unless some unit has to be made.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        progress: Progress | None = None,
        *,
        executor: Executor | None = None,
        continue_on_error: bool = False,
        ranks: Ranks | None = None,
        what_if: bool = False,
    ) -> None:
        self.config = config
        self.run = run
        self.progress: Progress = progress or SilentProgress()
        self.executor = executor or InProcess()
        self.continue_on_error = continue_on_error
        self.ranks = ranks or Alone()
        self.what_if = what_if
        """Whether what is chosen is an answer alone, and the run keeps its own choice."""
        self.failed: list[str] = []
        self.data_seconds = 0.0
        """What reading text, and sampling it, took in this process."""
        self._batch_choice: dict[str, Any] | None = None
        self._threads = 0

    def work(
        self, jobs: Iterable[Job], count: int, resident: Resident | None = None
    ) -> Generator[Outcome, None, None]:
        """What comes of `count` jobs, from whoever works for this run; closing it ends the work."""
        scratch = self.run.scratch("work")
        outcomes = self.executor.run(jobs, scratch, resident, count=count)
        try:
            for outcome in outcomes:
                self._note_threads()
                yield outcome
                del outcome  # before the next one takes its memory
        finally:
            outcomes.close()

    def _note_threads(self) -> None:
        """Say so, once, where this run has units from another number of threads."""
        threads = self.executor.threads
        if threads == self._threads:
            return
        self._threads = threads
        others = {e.get("threads") for e in self.run.events() if e["event"] == "work"}
        if threads not in others:
            self.run.event("work", threads=threads)
        if others := others - {threads}:
            before = " or ".join(str(number) for number in sorted(others, key=str))
            self.progress.say(
                f"units so far had threads: {before}; those that follow have {threads}: they agree "
                f"to rounding, not to the byte (--threads sets the number)"
            )

    def fail(self, units: Iterable[str], outcome: Outcome) -> None:
        """Record units that could not be made; raise where the run does not go on without them.

        A unit that is not done is tried again by the next call, as any other.
        """
        names = list(units)
        self.run.event("failed", units=names, error=outcome.error)
        if not self.continue_on_error:
            if outcome.cause is not None:
                raise outcome.cause
            raise PassError(
                f"{outcome.name}: {outcome.error}. The same command tries it again; "
                f"--continue-on-error leaves it out"
            )
        self.failed += names
        self.progress.say(f"{outcome.name} is left out: {outcome.error}")

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher with its weights."""
        from nas.streaming import StreamedChain
        from nas.teachers import load_teacher

        self.progress.say(f"loading {self.config.teacher.source}")
        teacher = load_teacher(self.config.teacher)
        if isinstance(teacher.chain, StreamedChain):
            self.progress.say("its weights stay in their files; one slot is read at a time")
        return teacher

    def release_teacher(self) -> None:
        """Let go of the teacher's weights; who asks for them again waits for them."""
        self.__dict__.pop("teacher", None)

    @cached_property
    def teacher_key(self) -> str:
        """Key of the teacher: its configuration and the bytes of its files.

        Streaming changes no result, so runs with and without it share their units.
        """
        from nas.teachers import source_stamp

        left_out = {"stream"} | ({"image"} if self.config.teacher.image is None else set())
        asked = self.config.teacher.model_dump(mode="json", exclude=left_out)
        return content_key("teacher", asked, source_stamp(self.config.teacher))

    @property
    def batch(self) -> int:
        """The batch that the target's own budgets are of: the only one, or what solving chose."""
        target, choice = self.config.target, self.batch_choice
        chosen = target.batch if choice is None else int(choice["batch"])
        return chosen if chosen in target.every_batch else target.batch

    @property
    def batch_choice(self) -> dict[str, Any] | None:
        """`batch`, and `losses` by batch: what solving chose, by default that of the run; None
        where there is nothing to choose, or nothing was solved."""
        if not self.config.target.batches:
            return None
        if self._batch_choice is None and (record := self.run.record("solve/batch")) is not None:
            return dict(record.data)
        return self._batch_choice

    def choose_batch(self, choice: dict[str, Any]) -> None:
        """Take what solving chose, for good unless this is a what-if."""
        self._batch_choice, key = choice, content_key("batch", choice)
        if not self.what_if and self.run.fetch("solve/batch", key) is None:
            files = {"solutions/batch.json": json_writer(choice)}
            self.run.store("solve/batch", key, files, choice)

    @cached_property
    def shape(self) -> ChainShape:
        """The teacher's shape, from teacher.json where it is current."""
        record = self.run.fetch("teacher", self.teacher_key)
        if record is None:
            description = self.teacher.description()
            record = self.run.store(
                "teacher",
                self.teacher_key,
                {"teacher.json": json_writer(description)},
                {"shape": self.teacher.shape.model_dump(mode="json"), **_summary(description)},
            )
        return parse_shape(record.data["shape"])

    @cached_property
    def data_key(self) -> str:
        """Key of the token windows."""
        from nas.data import text_stamp

        return content_key(
            "data",
            self.teacher_key,
            self.config.data,
            text_stamp(self.config.data),
            self.config.seed,
        )

    @cached_property
    def goal_key(self) -> str:
        """Key of what students are compared by: text, teacher, and the objective where one can
        choose."""
        if not self.shape.embeds:
            return self.data_key
        return content_key("objective", self.data_key, self.config.objective)

    def objective(self, chain: Chain, similarity_weight: float | None = None) -> Objective:
        """How far a network of this run is from the teacher; `similarity_weight` by default that
        of the section `objective`."""
        from nas.objectives import objective_of

        return objective_of(chain, self.metric(similarity_weight))

    def lesson(self, chain: Chain) -> Objective:
        """What global distillation teaches a network of this run."""
        from nas.objectives import Lesson, lesson_for

        config = self.config.distill
        lesson = Lesson(
            config.temperature,
            config.standardised,
            config.diswot_relation_weight,
            config.diswot_semantic_weight,
        )
        return lesson_for(chain, lesson, self.metric(config.similarity_weight))

    def metric(self, similarity_weight: float | None = None) -> Tensor | None:
        """How errors of embeddings count; None of a language model, or where all count alike."""
        from nas.objectives import similarity_metric

        weight = similarity_weight
        if weight is None:
            weight = self.config.objective.similarity_weight
        if not self.shape.embeds or weight == 0:
            return None
        return similarity_metric(self._embeddings, weight)

    @cached_property
    def _embeddings(self) -> Tensor:
        from nas.chain import EncoderChain, VisionChain
        from nas.passes.similarities import embeddings

        chain = self.teacher.chain
        assert isinstance(chain, EncoderChain | VisionChain)
        return embeddings(chain, self.text.train)

    @cached_property
    def text(self) -> TextData:
        """Token windows for training, scoring and evaluation."""
        from nas.data import load_text, load_text_data, save_text

        path = "data/tokens.safetensors"
        record = self.run.fetch("data", self.data_key)
        if record is not None:
            return load_text(self.run.path(path), record.data)
        teacher, started = self.teacher, time.perf_counter()
        text = load_text_data(self.config.data, teacher, self.config.seed, self.progress)
        files = {
            path: lambda temporary: save_text(text, temporary),
            "data/split.json": json_writer(text.split),
        }
        self.data_seconds = time.perf_counter() - started
        split = text.split.model_dump(mode="json")
        self.run.store("data", self.data_key, files, split, self.data_seconds)
        return text

    def require_text(self) -> int:
        """How many training windows there are, or will be; raises ConfigError for text that is
        missing, empty or too short.

        Nothing is sampled from the teacher yet: that takes minutes, and the budgets may turn out to
        be infeasible.
        """
        record = self.run.record("data")
        if record is not None and record.key == self.data_key:
            sampled = record.data["sampled_tokens"] // self.config.data.sequence_length
            return int(record.data["train"]["sequences"] + sampled)
        if any(isinstance(source, TeacherSamplesText) for source in self.config.data.sources):
            from nas.data import check_text

            return check_text(self.config.data, self.teacher, self.config.seed)
        return len(self.text.train)

    @cached_property
    def harness(self) -> Harness:
        """lm-evaluation-harness; raises CapabilityError where it is not installed."""
        from nas.evaluation import Harness

        return Harness(silent=isinstance(self.progress, SilentProgress))

    @cached_property
    def width_multiple(self) -> int:
        """Channel widths of candidates are multiples of this on the target."""
        from hardware_profiles import load_profile

        return load_profile(self.config.target.hardware).width_multiple

    def block_folder(self, slot: str, label: str) -> Path:
        return self.run.path("library", slot, label)


def _summary(description: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in description.items() if isinstance(v, (str, int, float, bool))}
