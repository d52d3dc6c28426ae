"""The command line: parse, call, print. What the verbs do stands in nas/."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nas.console import Form, NasGroup, Session, known_pass, one_source

if TYPE_CHECKING:
    from nas.ir import Phase
    from nas.libraries import Answers, Diverse, Query
    from nas.uncertainty import Scrutiny

Command = TypeVar("Command", bound=Callable[..., Any])

# Named here, not read from nas.compiler, so that `--help` stays quick; a test compares the two.
PASS_VERBS = {
    "space": "list the candidates of every slot",
    "prune": "leave out what is not worth training",
    "build": "make every candidate from the teacher",
    "refine": "move to where the realised KL is lower",
    "assemble": "put student and baselines together",
    "distill": "global distillation of student and baselines",
    "export": "write and check the files",
    "profile": "measure the exported networks end to end",
    "report": "write summary.json and report.html",
}
SECTIONS = {
    "Start": ("init", "ls", "doctor", "validate", "plan", "run"),
    "Read a run": ("status", "show", "diff"),
    "Whole students": ("search", "proxies", "autodistil"),
    "One pass of a run": (
        *("space", "measure", "prune", "build", "score", "solve", "refine"),
        *("assemble", "distill", "export", "profile", "evaluate", "report"),
    ),
}
LIBRARY_OPTIONS = (
    *("objective", "most", "least", "solutions"),
    *("differ", "diverse", "time_limit", "solver", "noise"),
)
LISTED = ("spaces", "hardware", "solvers", "strategies", "meters", "passes", "runs")


def _version() -> str:
    try:
        return metadata.version("nas-compiler")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"nas {_version()}")
        context.exit()


def _be_quiet(context: click.Context, _: click.Parameter, quiet: bool) -> None:
    session = context.find_object(Session)
    if session is not None and quiet:
        session.quiet = True


def config_argument(command: Command) -> Command:
    return click.argument("config", type=click.Path(path_type=Path))(command)


def run_argument(command: Command) -> Command:
    return click.argument("run", type=click.Path(path_type=Path))(command)


def set_option(command: Command) -> Command:
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a key of the configuration, as in budgets.latency_ms=12. Repeatable.",
    )(command)


def format_option(command: Command) -> Command:
    return click.option(
        "-f",
        "--format",
        "form",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How the result is written to stdout.",
    )(command)


def quiet_option(command: Command) -> Command:
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_be_quiet,
        help="No progress on stderr; errors remain.",
    )(command)


@click.group(
    "nas",
    cls=NasGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@quiet_option
def main() -> None:
    """Compile a teacher network into a smaller, faster student.

    Results go to stdout, progress to stderr. Exit codes: 1 failure, 2 usage or configuration,
    3 infeasible budget, 4 something is missing here, 130 interrupted.
    """


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("nas.yaml"))
@click.pass_obj
def init(session: Session, file: Path) -> None:
    """Write a commented configuration to FILE (default: nas.yaml)."""
    from nas.starter import write_starter

    write_starter(file)
    session.say(f"wrote {file}; next: nas validate {file}")


@main.command("ls")
@click.argument("kind", metavar="[KIND]", type=click.Choice(LISTED), required=False)
@click.option(
    "--runs",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds the runs.",
)
@format_option
@click.pass_obj
def list_(session: Session, kind: str | None, folder: Path, form: Form) -> None:
    """List what there is to choose from, of one KIND or of all.

    KIND: spaces, hardware, solvers, strategies, meters, passes or runs.
    """
    from nas.readers import list_entries, listing_tables

    session.emit(list_entries([kind] if kind else LISTED, folder), form, listing_tables)


@main.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="Check what this configuration needs, too."
)
@set_option
@format_option
@click.pass_obj
def doctor(session: Session, config: Path | None, overrides: tuple[str, ...], form: Form) -> None:
    """What this machine can do, and what is missing.

    Exits with 4 only if something is missing that the given --config needs.
    """
    from nas.config import load_config
    from nas.doctor import doctor_tables, examine, require_all

    checks = examine(load_config(config, overrides) if config else None)
    session.emit(checks, form, doctor_tables)
    require_all(checks)


@main.command()
@click.argument(
    "configs", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@set_option
@format_option
@click.pass_context
def validate(
    context: click.Context, configs: tuple[Path, ...], overrides: tuple[str, ...], form: Form
) -> None:
    """Check configurations; no weights, no network.

    Exits with the code of the first error.
    """
    from nas.readers import check_config, verdict_tables

    verdicts = [check_config(path, overrides) for path in configs]
    context.obj.emit(verdicts, form, verdict_tables)
    context.exit(next((v.exit_code for v in verdicts if v.exit_code), 0))


@main.command()
@config_argument
@set_option
@format_option
@click.pass_obj
def plan(session: Session, config: Path, overrides: tuple[str, ...], form: Form) -> None:
    """Forecast work, disk, memory and time; whether budgets can be met."""
    from nas.compiler import make_plan
    from nas.config import load_config
    from nas.readers import plan_tables

    session.emit(make_plan(load_config(config, overrides)), form, plan_tables)


@main.command()
@config_argument
@click.option(
    "--output", type=click.Path(path_type=Path), help="Run directory; default: runs/NAME."
)
@set_option
@click.option("--from", "start", metavar="PASS", callback=known_pass, help="First pass to run.")
@click.option("--to", "stop", metavar="PASS", callback=known_pass, help="Last pass to run.")
@click.option("--dry-run", is_flag=True, help="Show the forecast and write nothing.")
@click.option(
    "--executor",
    metavar="NAME",
    default="in-process",
    show_default=True,
    help="Who builds and scores: in-process, process:N, ray:N or ray://HOST:PORT.",
)
@click.option(
    "--unit-timeout",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a worker is taken for hung; default: 3600.",
)
@click.option(
    "--continue-on-error",
    is_flag=True,
    help="Leave out blocks that cannot be built or scored, and go on.",
)
@quiet_option
@click.pass_obj
def run(
    session: Session,
    config: Path,
    output: Path | None,
    overrides: tuple[str, ...],
    start: str | None,
    stop: str | None,
    dry_run: bool,
    executor: str,
    unit_timeout: float | None,
    continue_on_error: bool,
) -> None:
    """Compile: run every pass that is not finished yet.

    The same command goes on where an earlier one stopped; finished units are never redone.
    """
    from nas.compiler import compile_run, join_run
    from nas.config import load_config
    from nas.console import print_outcome
    from nas.executors import create_executor
    from nas.run import RunDirectory
    from nas.sharding import join_ranks

    workers = create_executor(executor, unit_timeout)
    settings = load_config(config, overrides)
    root = output or Path("runs") / settings.name
    if dry_run:
        from nas.compiler import make_plan
        from nas.readers import plan_tables

        session.emit(make_plan(settings), "table", plan_tables)
        session.say(f"would write to {root}")
        return
    with join_ranks() as ranks:
        if not ranks.first:
            join_run(settings, RunDirectory(root), ranks)
            return
        directory = RunDirectory.create(root)
        session.works_on(root, resumable=True)
        outcome = compile_run(
            settings,
            directory,
            session.progress,
            start=start,
            stop=stop,
            executor=workers,
            continue_on_error=continue_on_error,
            ranks=ranks,
        )
    print_outcome(session, root, outcome)


def _pass_verb(name: str, title: str) -> None:
    """Add the verb of a pass that takes nothing but the run."""

    @main.command(name, help=f"{title[0].upper()}{title[1:]}.")
    @run_argument
    @set_option
    @quiet_option
    @click.pass_obj
    def verb(session: Session, run: Path, overrides: tuple[str, ...]) -> None:
        _one_pass(session, run, overrides, name)


def _one_pass(session: Session, run: Path, overrides: tuple[str, ...], name: str) -> None:
    from nas.compiler import compile_run, join_run
    from nas.console import print_outcome
    from nas.readers import open_run, read_config
    from nas.sharding import join_ranks

    directory = open_run(run)
    config = read_config(directory, overrides)
    with join_ranks() as ranks:
        if not ranks.first:
            join_run(config, directory, ranks)
            return
        session.works_on(run, resumable=True)
        outcome = compile_run(
            config, directory, session.progress, start=name, stop=name, ranks=ranks
        )
    print_outcome(session, run, outcome)


for _name, _title in PASS_VERBS.items():
    _pass_verb(_name, _title)


@main.command()
@run_argument
@click.option(
    "--pack",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Measure nothing; write a folder that measures the blocks on another machine.",
)
@click.option(
    "--calibrate",
    "tables",
    metavar="TABLE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Measure nothing; fit the roofline of the target's hardware to a measured table. "
    "Repeatable: tables may differ in batch and prompt.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where --calibrate writes; default: HARDWARE-calibration.json.",
)
@set_option
@quiet_option
@format_option
@click.pass_context
def measure(
    context: click.Context,
    run: Path,
    folder: Path | None,
    tables: tuple[Path, ...],
    output: Path | None,
    overrides: tuple[str, ...],
    form: Form,
) -> None:
    """Measure every distinct block on the target.

    On another machine: --pack writes a folder to carry there, which brings back a table for
    target.meter=table; --calibrate fits target.meter=roofline to such tables.
    """
    if folder is not None and tables:
        raise click.UsageError("give one of --pack and --calibrate, not both")
    if output is not None and not tables:
        raise click.UsageError("--output goes with --calibrate only")
    session: Session = context.obj
    if folder is not None:
        _pack(session, run, overrides, folder)
    elif tables:
        _calibrate(session, run, overrides, tables, output, form)
    else:
        _one_pass(session, run, overrides, "measure")


def _pack(session: Session, run: Path, overrides: tuple[str, ...], folder: Path) -> None:
    from nas.compiler import pack_blocks
    from nas.readers import open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    pack = pack_blocks(config, directory, folder, session.progress)
    session.say(f"{folder}: {len(pack.runs)} latencies to take; run.py there writes table.csv")


def _calibrate(
    session: Session,
    run: Path,
    overrides: tuple[str, ...],
    tables: tuple[Path, ...],
    output: Path | None,
    form: Form,
) -> None:
    from nas.compiler import calibrate_target
    from nas.readers import calibration_tables, open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    found, path = calibrate_target(config, directory, tables, output)
    session.emit(found, form, calibration_tables)
    session.note(f"wrote {path}; set target.meter=roofline and target.calibration={path}")


@main.command()
@run_argument
@click.option(
    "--until-certain",
    is_flag=True,
    help="Stop scoring what can no longer be chosen under the run's budgets.",
)
@set_option
@quiet_option
@click.pass_obj
def score(session: Session, run: Path, until_certain: bool, overrides: tuple[str, ...]) -> None:
    """What swapping in each candidate costs."""
    if until_certain:
        overrides = (*overrides, "score.until_certain=true")
    _one_pass(session, run, overrides, "score")


@main.command()
@click.argument("run", metavar="[RUN]", type=click.Path(path_type=Path), required=False)
@set_option
@click.option(
    "--library",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Solve this block library (Puzzle JSON, its CSV form, a problem.json), not a run.",
)
@click.option(
    "--objective", metavar="PATH", help="Column of the library to minimise: metrics.kl_div."
)
@click.option(
    "--max",
    "most",
    metavar="PATH=VALUE",
    multiple=True,
    help="Upper limit on the sum of a column: stats.memory_mib=80000. Repeatable.",
)
@click.option(
    "--min",
    "least",
    metavar="PATH=VALUE",
    multiple=True,
    help="Lower limit on the sum of a column. Repeatable.",
)
@click.option("--solutions", metavar="K", type=click.IntRange(min=1), help="Up to K solutions.")
@click.option(
    "--differ",
    metavar="N",
    type=click.IntRange(min=1),
    help="Slots in which any two of the solutions differ, at least; default: 1.",
)
@click.option(
    "--diverse",
    type=click.Choice(["greedily", "jointly"]),
    help="One solution after the other, each the best that is left (default), or all at once with "
    "the least sum.",
)
@click.option(
    "--time-limit", metavar="S", type=float, help="Seconds for each solution; default: no limit."
)
@click.option(
    "--solver", metavar="NAME", default="mip", show_default=True, help="As in `nas ls solvers`."
)
@click.option(
    "--sweep",
    "sweeps",
    metavar="PATH=LOW:HIGH:COUNT",
    multiple=True,
    help="The front over COUNT limits from LOW to HIGH: of a budget of the RUN, or upper limits of "
    "a column of the library. Given twice: over every pair, with a heat map.",
)
@click.option(
    "--confidence",
    metavar="SHARE",
    type=float,
    help="Also say what is certain at this confidence, such as 0.9, and what loss to expect.",
)
@click.option(
    "--noise",
    metavar="SHARE",
    type=float,
    help="Standard deviation of a library's losses, relative: 0.05. For files without scores.",
)
@click.option(
    "--resamples",
    metavar="B",
    type=click.IntRange(min=2),
    help="Solves on losses drawn anew, for --confidence; default: 200.",
)
@quiet_option
@format_option
@click.pass_context
def solve(
    context: click.Context,
    run: Path | None,
    overrides: tuple[str, ...],
    library: Path | None,
    objective: str | None,
    most: tuple[str, ...],
    least: tuple[str, ...],
    solutions: int | None,
    differ: int | None,
    diverse: Diverse | None,
    time_limit: float | None,
    solver: str,
    sweeps: tuple[str, ...],
    confidence: float | None,
    noise: float | None,
    resamples: int | None,
    form: Form,
) -> None:
    """Pick one block a slot, of a RUN or of a library.

    With a RUN, --set tries other budgets; takes seconds and writes to solutions/ only, with --sweep
    nothing at all. With --library FILE, the options name its columns and nothing is written.
    """
    one_source(context, run=("overrides",), library=LIBRARY_OPTIONS)
    scrutiny = _scrutiny(confidence, resamples)
    if library is not None:
        from nas.libraries import Query

        query = Query.parse(
            objective=objective,
            most=most,
            least=least,
            solutions=solutions,
            differ=differ,
            diverse=diverse,
            time_limit_s=time_limit,
            solver=solver,
            sweeps=sweeps,
            scrutiny=scrutiny,
            noise=noise,
        )
        _solve_library(context.obj, library, query, form)
    elif run is not None and sweeps:
        if scrutiny is not None:
            raise click.UsageError("--confidence judges one answer; leave --sweep out")
        _sweep_run(context.obj, run, overrides, sweeps, form)
    elif run is not None:
        _solve_run(context.obj, run, overrides, scrutiny, form)


def _scrutiny(confidence: float | None, resamples: int | None) -> Scrutiny | None:
    if confidence is None:
        if resamples is not None:
            raise click.UsageError("--resamples goes with --confidence only")
        return None
    from nas.uncertainty import Scrutiny

    return Scrutiny(confidence) if resamples is None else Scrutiny(confidence, resamples)


def _solve_library(session: Session, path: Path, query: Query, form: Form) -> None:
    from nas.libraries import read_library, solve_library

    answers = solve_library(read_library(path), query, session.progress)
    _show_answers(session, answers, form)


def _sweep_run(
    session: Session, run: Path, overrides: tuple[str, ...], sweeps: tuple[str, ...], form: Form
) -> None:
    from nas.compiler import sweep_again
    from nas.libraries import Sweep
    from nas.readers import open_run, read_config

    asked = [Sweep.parse(text) for text in sweeps]
    directory = open_run(run)
    config = read_config(directory, overrides)
    session.works_on(run, resumable=True)
    _show_answers(session, sweep_again(config, directory, asked, session.progress), form)


def _show_answers(session: Session, answers: Answers, form: Form) -> None:
    from nas.errors import InfeasibleError
    from nas.libraries import answer_tables

    session.emit(answers.found, form, partial(answer_tables, plane=answers.plane))
    for note in answers.notes:
        session.note(f"note: {note}")
    if answers.infeasible is not None:
        raise InfeasibleError(answers.infeasible.explanation)


def _solve_run(
    session: Session,
    run: Path,
    overrides: tuple[str, ...],
    scrutiny: Scrutiny | None,
    form: Form,
) -> None:
    from nas.compiler import solve_again, solve_and_judge
    from nas.console import judged_lines, solution_lines
    from nas.readers import open_run, read_config

    directory = open_run(run)
    config = read_config(directory, overrides)
    session.works_on(run, resumable=True)
    if scrutiny is None:
        session.emit(solve_again(config, directory, session.progress), form, solution_lines)
        return
    judged = solve_and_judge(config, directory, scrutiny, session.progress)
    session.emit(judged, form, judged_lines)


@main.group()
def proxies() -> None:
    """List training-free proxies, or see how well they rank.

    nas proxies ls, nas proxies bench TABLE.csv --scores SCORES.jsonl --size params
    """


@proxies.command("ls")
@format_option
@click.pass_obj
def list_proxies(session: Session, form: Form) -> None:
    """Every proxy with what it needs, its dearest pass and its source."""
    from nas.proxies import describe_proxies, proxy_tables

    session.emit(describe_proxies(), form, proxy_tables)


@proxies.command("bench")
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--accuracy", metavar="COLUMN", default="accuracy", show_default=True, help="Of the TABLE."
)
@click.option(
    "--architecture",
    metavar="COLUMN",
    default="architecture",
    show_default=True,
    help="Names of the networks.",
)
@click.option("--group", metavar="COLUMN", help="Networks of one group compute the same.")
@click.option(
    "--size",
    "sizes",
    metavar="COLUMN",
    multiple=True,
    help="A size baseline; gains are over the first. Repeatable; of a --space they are counted.",
)
@click.option(
    "--scores",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Scores: a log of this verb, a journal of nas search, or a CSV file. Repeatable.",
)
@click.option(
    "--combine",
    "combinations",
    metavar="A+B",
    multiple=True,
    help="Also judge these proxies together, on ranks; log_ranks:A+B, z_scores:A+B. Repeatable.",
)
@click.option(
    "--choose",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Choose the best combination on this share of the groups and judge on the rest.",
)
@click.option("--space", metavar="NAME|FILE", help="Build and score the networks of this space.")
@click.option("--proxy", "proxies", metavar="NAME", multiple=True, help="Score by it. Repeatable.")
@click.option(
    "--data",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An .npz file with images and labels.",
)
@click.option(
    "--teacher", metavar="FILE", help="Trained weights, or cifar_resnet:9-9-9, untrained."
)
@click.option("--other-teacher", metavar="FILE", help="The teacher of that control.")
@click.option(
    "--controls", is_flag=True, help="Also score on noise, random labels and the other teacher."
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=3),
    help="Draw N networks, no two of one group; default: all.",
)
@click.option(
    "--inits",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Initialisations to average over, each on its own batch.",
)
@click.option(
    "--batch",
    metavar="N",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Inputs in a batch.",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of all draws.")
@click.option(
    "--log",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the scores here; a later call goes on from it.",
)
@click.option(
    "--within",
    metavar="SHARE",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Pairs whose sizes differ by no more are matched.",
)
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 10),
    show_default=True,
    help="Regret of the best among the K highest scores. Repeatable.",
)
@click.option(
    "--resamples",
    metavar="B",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Of the bootstrap; 0: no intervals.",
)
@quiet_option
@format_option
@click.pass_obj
def bench_proxies(session: Session, /, form: Form, **options: Any) -> None:
    """How well proxies order networks of known accuracy.

    TABLE is a CSV file with a line for each network. Size baselines stand beside every proxy:
    partial correlations and size-matched pairs say what a proxy knows beyond size.
    """
    from nas.proxies import verdict_tables
    from nas.proxies.bench import BenchRequest, bench

    verdict = bench(BenchRequest(**options), session.progress)
    session.emit(verdict, form, verdict_tables)


@main.command()
@click.option(
    "--space", metavar="NAME|FILE", required=True, help="Of whole students, as in `nas ls spaces`."
)
@click.option(
    "--proxy",
    "proxies",
    metavar="NAME",
    multiple=True,
    required=True,
    help="As in `nas proxies ls`. Repeatable: several are combined.",
)
@click.option(
    "--combine",
    type=click.Choice(["ranks", "log_ranks", "z_scores"]),
    default="ranks",
    show_default=True,
    help="How several proxies become one score.",
)
@click.option(
    "--teacher",
    metavar="FILE",
    help="Trained weights in safetensors, a folder with a BERT, or cifar_resnet:9-9-9, untrained.",
)
@click.option(
    "--data",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="An .npz file with images and labels; of encoders, with tokens.",
)
@click.option(
    "--max",
    "limits",
    metavar="COST=VALUE",
    multiple=True,
    help="Upper limit on params_m, flops_m, depth, latency_ms or a column of --costs. Repeatable.",
)
@click.option(
    "--costs",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="CSV with a column architecture and further costs, such as latency_ms of a device.",
)
@click.option(
    "--trials",
    metavar="N",
    type=click.IntRange(min=1),
    help="Architectures to score; default: all of a small space, 1,000 of others.",
)
@click.option(
    "--strategy",
    metavar="NAME",
    help="As in `nas ls strategies`; default: exhaustive where the space is small, else evolution.",
)
@click.option(
    "--journal",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep what is found here; a later call goes on from it.",
)
@click.option(
    "--inits",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Initialisations to average over, each on its own batch.",
)
@click.option(
    "--batch",
    metavar="N",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Inputs in a batch.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of initialisations, batches and the strategy.",
)
@click.option(
    "--distill",
    metavar="STEPS",
    type=click.IntRange(min=1),
    help="Distil the winner from the teacher on the pictures.",
)
@click.option(
    "--distill-objective",
    "objectives",
    type=click.Choice(["semantic", "relation"]),
    multiple=True,
    help="DisWOT's metrics as losses, too. Repeatable.",
)
@click.option(
    "--save",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the distilled student's weights here, in safetensors.",
)
@quiet_option
@format_option
@click.pass_obj
def search(session: Session, /, form: Form, **options: Any) -> None:
    """Rank whole students by training-free proxies.

    Limits on costs are checked before any proxy runs. Beside the score stands where each student
    would be if its size were all that counted.
    """
    from nas.search import SearchRequest, answer_tables
    from nas.search import search as run_search

    session.emit(run_search(SearchRequest(**options), session.progress), form, answer_tables)


@main.command()
@click.option(
    "--teacher",
    metavar="SOURCE",
    required=True,
    help="An encoder: a Hugging Face folder, a hub id, or package:NAME/FOLDER.",
)
@click.option(
    "--text",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="Text to train on; its end is held out. A folder gives its *.txt and *.md files.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    required=True,
    help="SuperLMs, scores and the winner; a later call goes on from it.",
)
@click.option(
    "--space",
    "spaces",
    metavar="NAME|FILE",
    multiple=True,
    help="A sub-space of encoders. Repeatable; default: three for a teacher of known size.",
)
@click.option(
    "--sub-spaces",
    metavar="K",
    type=click.IntRange(min=1),
    help="SuperLMs: one a sub-space (default), or 1 over all of them.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Of training each SuperLM.",
)
@click.option(
    "--batch",
    metavar="N",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Texts a step.",
)
@click.option(
    "--tokens",
    metavar="N",
    type=click.IntRange(min=3),
    default=64,
    show_default=True,
    help="Of a text, in training and in timing.",
)
@click.option(
    "--learning-rate",
    metavar="R",
    type=click.FloatRange(min=0, min_open=True),
    default=5e-4,
    show_default=True,
    help="The highest; it rises over a tenth of the steps, then falls.",
)
@click.option(
    "--relation-heads",
    metavar="N",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Parts of the relations, whatever the number of heads.",
)
@click.option(
    "--similarity-weight",
    metavar="W",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Of the cosines of pairs of texts in the loss; 0 is AutoDistil's own objective.",
)
@click.option(
    "--max",
    "limits",
    metavar="COST=VALUE",
    multiple=True,
    help="Upper limit on params_m, flops_m or the measured latency_ms. Repeatable.",
)
@click.option(
    "--speedup",
    metavar="X",
    type=click.FloatRange(min=0, min_open=True),
    help="Least measured speed-up over the teacher in ONNX Runtime.",
)
@click.option(
    "--timed-batch",
    metavar="N",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Texts of a timed pass.",
)
@click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), help="Of a timed pass; default: cores."
)
@click.option(
    "--pairs",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Search by the similarities of these text pairs (JSON lines with a, b), "
    "not by the held-out loss.",
)
@click.option(
    "--trials",
    metavar="N",
    type=click.IntRange(min=1),
    help="Students to score of each sub-space; default: all within the limits.",
)
@click.option(
    "--finish",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Steps that train the winner alone afterwards.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of batches, subnets and trials.",
)
@click.option("--device", default="cpu", show_default=True, help="Where to train, such as cuda.")
@quiet_option
@format_option
@click.pass_obj
def autodistil(session: Session, /, form: Form, **options: Any) -> None:
    """Find a smaller encoder in SuperLMs distilled from a teacher.

    One SuperLM is trained for each sub-space of cost; its students share its weights and are
    searched under limits without training. The winner is written as a plain BERT and as ONNX.
    """
    from nas.supernet import AutoDistilRequest, autodistil_tables
    from nas.supernet import autodistil as run_autodistil

    answer = run_autodistil(AutoDistilRequest(**options), session.progress)
    session.emit(answer, form, autodistil_tables)


@main.command()
@run_argument
@click.option(
    "--task",
    "tasks",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    multiple=True,
    help="JSONL file of multiple-choice or cloze questions. Repeatable.",
)
@click.option(
    "--lm-eval",
    "lm_eval",
    metavar="NAME",
    multiple=True,
    help="Task of lm-evaluation-harness, such as hellaswag. Repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most this many questions a task.")
@set_option
@quiet_option
@click.pass_obj
def evaluate(
    session: Session,
    run: Path,
    tasks: tuple[Path, ...],
    lm_eval: tuple[str, ...],
    limit: int | None,
    overrides: tuple[str, ...],
) -> None:
    """Quality of the student beside the teacher.

    --task adds task files, --lm-eval tasks of lm-evaluation-harness.
    """
    from nas.compiler import compile_run
    from nas.console import print_outcome
    from nas.readers import open_run, with_tasks

    directory = open_run(run)
    config = with_tasks(directory, overrides, files=tasks, lm_eval=lm_eval, limit=limit)
    session.works_on(run, resumable=True)
    outcome = compile_run(config, directory, session.progress, start="evaluate", stop="report")
    print_outcome(session, run, outcome)


@main.command()
@run_argument
@format_option
@click.pass_obj
def status(session: Session, run: Path, form: Form) -> None:
    """How far a run is."""
    from nas.readers import open_run, read_status, status_tables

    session.emit(read_status(open_run(run)), form, status_tables)


@main.command()
@click.argument("what", metavar="RUN|hardware|space")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--slot", metavar="ID", help="One slot of the run, such as layers.7.ffn.")
@click.option("--layers", is_flag=True, help="Where the time of teacher and student goes.")
@click.option(
    "--timings",
    type=click.Path(path_type=Path),
    help="The same of the student from a profile of ONNX Runtime or TensorRT made elsewhere.",
)
@click.option(
    "--layer-info",
    type=click.Path(path_type=Path),
    help="With --timings, TensorRT's layer information of the engine.",
)
@click.option(
    "--phase",
    type=click.Choice(["prefill", "decode"]),
    default="prefill",
    show_default=True,
    help="With --timings, what was run.",
)
@format_option
@click.pass_obj
def show(
    session: Session,
    what: str,
    name: str | None,
    slot: str | None,
    layers: bool,
    timings: Path | None,
    layer_info: Path | None,
    phase: Phase,
    form: Form,
) -> None:
    """The result of a RUN, or a hardware profile or search space.

    nas show runs/demo [--slot layers.7.ffn | --layers], nas show hardware rtx4090, nas show space
    decoder
    """
    from nas.readers import layers_of, layers_tables, open_run, show_tables, shown

    if layers or timings is not None:
        found = layers_of(open_run(Path(what)), timings, layer_info, phase)
        session.emit(found, form, layers_tables)
    else:
        session.emit(shown(what, name, slot), form, show_tables)


@main.command()
@click.argument("left", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("right", metavar="RUN", type=click.Path(path_type=Path))
@format_option
@click.pass_obj
def diff(session: Session, left: Path, right: Path, form: Form) -> None:
    """How two runs differ: configuration, results, chosen blocks."""
    from nas.readers import diff_runs, diff_tables, open_run

    session.emit(diff_runs(open_run(left), open_run(right)), form, diff_tables)


if __name__ == "__main__":
    main()
