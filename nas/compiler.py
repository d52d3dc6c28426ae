"""The compiler: the ordered passes and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from nas._peak import forget_peak, peak_mib
from nas.config import RunConfig
from nas.errors import ConfigError
from nas.executors import Executor
from nas.ir import Solution
from nas.passes import Artefacts, PassContext
from nas.passes.plan import Plan, PlanRow, make_plan
from nas.passes.preflight import preflight
from nas.progress import Progress
from nas.run import RunDirectory, write_atomically
from nas.sharding import Ranks

if TYPE_CHECKING:
    from nas.libraries import Answers, Sweep
    from nas.meters import Calibration
    from nas.meters.pack import Pack
    from nas.uncertainty import Scrutiny

__all__ = [
    "PASSES",
    "Outcome",
    "Pass",
    "Plan",
    "PlanRow",
    "answer_again",
    "calibrate_target",
    "compile_run",
    "join_run",
    "make_plan",
    "pack_blocks",
    "solve_again",
    "sweep_again",
]


@dataclass(frozen=True)
class Pass:
    """A named step of the compiler. `run` makes its artefacts unless they are there already."""

    name: str
    title: str
    run: Callable[[Artefacts], object]


def _write_report(artefacts: Artefacts) -> Path:
    from nas.passes.report import report

    return report(artefacts)


PASSES: tuple[Pass, ...] = (
    Pass("space", "list the candidates of every slot", lambda a: a.space),
    Pass("measure", "measure every distinct block on the target", lambda a: a.costs),
    Pass("prune", "leave out what is not worth training", lambda a: a.candidates),
    Pass("build", "make every candidate from the teacher", lambda a: a.block_keys),
    Pass("score", "what swapping in each candidate costs", lambda a: a.scores),
    Pass("solve", "pick one block a slot under the budgets", lambda a: (a.solution, a.baselines)),
    Pass("refine", "move to where the realised KL is lower", lambda a: a.refined),
    Pass("assemble", "put student and baselines together", lambda a: a.assembled_keys),
    Pass("distill", "global distillation of student and baselines", lambda a: a.student_keys),
    Pass("export", "write and check the files", lambda a: a.exported),
    Pass("profile", "measure the exported networks end to end", lambda a: (a.measured, a.layers)),
    Pass("evaluate", "quality on held-out text and tasks", lambda a: (a.quality, a.tasks)),
    Pass("report", "write summary.json and report.html", _write_report),
)


_BEFORE_SOLVING = frozenset({"teacher", "data", "space", "measure", "prune", "build", "score"})


@dataclass
class Outcome:
    """What a call of the compiler did: units made, reused and left out, seconds by pass."""

    done: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    summary_path: Path | None = None
    report_path: Path | None = None

    @property
    def nothing_to_do(self) -> bool:
        return not self.done


def compile_run(
    config: RunConfig,
    run: RunDirectory,
    progress: Progress | None = None,
    *,
    start: str | None = None,
    stop: str | None = None,
    executor: Executor | None = None,
    continue_on_error: bool = False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Run the passes from `start` to `stop`, both included. Finished units are never redone.

    Passes before `start` must be up to date, else ArtifactError says which to run. What a pass
    would refuse for its configuration, text or tasks is refused before the first of them. Units
    that are independent are made by `executor` (in this process by default); with
    `continue_on_error` those that fail are left out, and `Outcome.failed` names them. `ranks`, of
    which this process is the first, distil together; the others call `join_run`.
    """
    names = [p.name for p in PASSES]
    first = _index(names, start, 0)
    last = _index(names, stop, len(names) - 1)
    if first > last:
        raise ConfigError(f"--from {start} comes after --to {stop}")
    outcome = Outcome()
    with run.locked():
        run.closed = frozenset(names[:first])
        context = PassContext(
            config,
            run,
            progress,
            executor=executor,
            continue_on_error=continue_on_error,
            ranks=ranks,
        )
        artefacts = Artefacts(context)
        for step in PASSES[:first]:
            step.run(artefacts)
        preflight(context, names[first : last + 1])
        _write_config(run, config)
        for step in PASSES[first : last + 1]:
            outcome.seconds[step.name] = _timed(run, step, artefacts)
    outcome.done, outcome.reused = run.tally.done, run.tally.reused
    outcome.failed = context.failed
    for name, path in (("summary_path", "summary.json"), ("report_path", "report.html")):
        if run.path("report", path).exists():
            setattr(outcome, name, run.path("report", path))
    return outcome


def join_run(config: RunConfig, run: RunDirectory, ranks: Ranks) -> None:
    """Take part in what the first of the ranks asks for while it compiles; it alone writes."""
    from nas.passes.students import take_part

    take_part(PassContext(config, run, ranks=ranks))


def solve_again(config: RunConfig, run: RunDirectory, progress: Progress | None = None) -> Solution:
    """Solve under the budgets of `config`; what comes before must be there and is not touched.

    The answer is kept for the next call. What the run itself has chosen stays."""
    with run.locked():
        run.closed = _BEFORE_SOLVING
        return Artefacts(PassContext(config, run, progress, what_if=True)).solution


def answer_again(
    config: RunConfig,
    run: RunDirectory,
    scrutiny: Scrutiny | None = None,
    progress: Progress | None = None,
) -> Answers:
    """As `solve_again`, in full: the limits and their prices, or why nothing meets them; with
    `scrutiny`, how sure the answer is."""
    from nas.passes.answer import answer

    with run.locked():
        run.closed = _BEFORE_SOLVING
        return answer(Artefacts(PassContext(config, run, progress, what_if=True)), scrutiny)


def sweep_again(
    config: RunConfig,
    run: RunDirectory,
    sweeps: Sequence[Sweep],
    progress: Progress | None = None,
    scrutiny: Scrutiny | None = None,
) -> Answers:
    """The front over one or two budgets of a run, or why nothing meets the loosest; nothing is
    written. With `scrutiny` every point gets an interval."""
    from nas.passes.sweep import loosened, sweep

    with run.locked():
        run.closed = _BEFORE_SOLVING
        artefacts = Artefacts(PassContext(loosened(config, sweeps), run, progress))
        return sweep(artefacts, sweeps, scrutiny)


def pack_blocks(
    config: RunConfig, run: RunDirectory, folder: Path, progress: Progress | None = None
) -> Pack:
    """Write a folder that measures the blocks of a run on another machine."""
    from nas.passes.elsewhere import pack

    with run.locked():
        return pack(PassContext(config, run, progress), folder)


def calibrate_target(
    config: RunConfig, run: RunDirectory, tables: Sequence[Path], output: Path | None = None
) -> tuple[Calibration, Path]:
    """Fit the roofline of the target's hardware to tables, and the file that now holds it."""
    from nas.passes.elsewhere import calibrate

    with run.locked():
        return calibrate(PassContext(config, run), tables, output)


def _timed(run: RunDirectory, step: Pass, artefacts: Artefacts) -> float:
    made, reused = _units(run)
    reading = artefacts.context.data_seconds
    forget_peak()
    started = time.perf_counter()
    step.run(artefacts)
    seconds = time.perf_counter() - started
    made, reused = (now - before for now, before in zip(_units(run), (made, reused), strict=True))
    if made:
        cost = {"seconds": seconds, "units": made, "reused": reused, "peak_memory_mib": peak_mib()}
        reading = artefacts.context.data_seconds - reading
        run.event("pass", name=step.name, **cost, data_seconds=reading)
    return seconds


def _units(run: RunDirectory) -> tuple[int, int]:
    """How many were made and reused so far."""
    return sum(run.tally.done.values()), sum(run.tally.reused.values())


def _index(names: list[str], wanted: str | None, default: int) -> int:
    if wanted is None:
        return default
    if wanted not in names:
        raise ConfigError(f"no pass is named {wanted!r}; the passes are {', '.join(names)}")
    return names.index(wanted)


def _write_config(run: RunDirectory, config: RunConfig) -> None:
    """Once a configuration, and with it the forecast."""
    from nas.passes.forecast import keep_plan

    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    path = run.path("config.resolved.yaml")
    if not path.exists() or path.read_bytes() != text.encode():
        keep_plan(run, config)
        write_atomically(path, text)
