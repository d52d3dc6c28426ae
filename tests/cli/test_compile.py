"""`nas run`, the verbs of single passes, `nas solve`, `nas plan`, `nas init`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.compiler import Outcome
from nas.config import BudgetsConfig, RunConfig, load_config
from nas.errors import InfeasibleError
from nas.executors import Executor, InProcess, ProcessPool
from nas.ir import Budget, Option, Problem
from nas.libraries import Answer, Answers, RunAnswer, Sweep
from nas.run import RunDirectory, json_writer
from nas.sharding import Ranks
from nas.solvers import diagnose
from nas.starter import STARTER
from tests.cli.conftest import Nas
from tests.cli.runs import make_run
from tests.report.example_summary import example_summary


class FakeCompiler:
    """Stands for `compile_run`: remembers its call and gives `outcome`."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.config: RunConfig | None = None
        self.root: Path | None = None
        self.passes: tuple[str | None, str | None] = (None, None)
        self.executor: Executor | None = None
        self.continue_on_error = False

    def __call__(
        self,
        config: RunConfig,
        run: RunDirectory,
        progress: Any,
        *,
        start: str | None = None,
        stop: str | None = None,
        executor: Executor | None = None,
        continue_on_error: bool = False,
        ranks: Ranks | None = None,
    ) -> Outcome:
        assert ranks is None or ranks.first
        self.executor, self.continue_on_error = executor, continue_on_error
        self.config, self.root, self.passes = config, run.root, (start, stop)
        progress.say("at work")
        return self.outcome


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    made = Outcome(done={"build": 3}, reused={"space": 1}, seconds={"build": 75.0})
    fake = FakeCompiler(made)
    monkeypatch.setattr("nas.compiler.compile_run", fake)
    return fake


def test_run_passes_on_overrides_output_and_passes(
    nas: Nas, config: Path, compiler: FakeCompiler
) -> None:
    options = ["--output", "out", "--set", "seed=7", "--from", "build", "--to", "solve"]
    result = nas("run", config, *options)

    assert result.exit_code == 0, result.stderr
    assert compiler.config is not None
    assert compiler.config.seed == 7
    assert compiler.root == Path("out")
    assert compiler.passes == ("build", "solve")
    assert result.stderr == "at work\nout: 3 units made, 1 reused, in 1 min 15 s\n"
    assert not result.stdout


def test_run_says_who_works_and_whether_to_go_on(
    nas: Nas, config: Path, compiler: FakeCompiler
) -> None:
    nas("run", config)
    assert isinstance(compiler.executor, InProcess)
    assert not compiler.continue_on_error

    options = ["--executor", "process:3", "--unit-timeout", "7", "--threads", "2"]
    assert nas("run", config, *options, "--continue-on-error").exit_code == 0
    found = compiler.executor
    assert isinstance(found, ProcessPool)
    assert (found.workers, found.unit_seconds, found.threads) == (3, 7, 2)
    assert compiler.continue_on_error


def test_a_time_limit_of_workers_without_workers_is_refused(
    nas: Nas, config: Path, compiler: FakeCompiler
) -> None:
    result = nas("run", config, "--unit-timeout", "7")

    assert result.exit_code == 2
    assert "--unit-timeout is of workers, and --executor in-process has none" in result.stderr
    assert compiler.root is None


def test_units_that_were_left_out_are_named(nas: Nas, config: Path, compiler: FakeCompiler) -> None:
    compiler.outcome.failed = ["build/layers.0.ffn/w8"]

    result = nas("run", config)

    assert result.exit_code == 0
    assert "warning: 1 unit left out: build/layers.0.ffn/w8; the same command" in result.stderr


def test_the_help_of_plan_promises_no_word_on_the_budgets(nas: Nas) -> None:
    text = " ".join(nas("plan", "--help").stdout.split())

    assert "Forecast work, disk, memory and time. Whether the budgets can be met is known" in text


def test_run_goes_to_runs_and_the_name_by_default(
    nas: Nas, config: Path, compiler: FakeCompiler
) -> None:
    nas("run", config)

    assert compiler.root == Path("runs/my-student")
    assert Path("runs/my-student/run.json").is_file()


def test_a_finished_run_says_that_there_is_nothing_to_be_done(
    nas: Nas, config: Path, compiler: FakeCompiler
) -> None:
    compiler.outcome = Outcome(reused={"build": 240})

    result = nas("run", config)

    assert result.exit_code == 0
    assert "runs/my-student: nothing to be done, 240 units there already\n" in result.stdout


def test_a_run_that_reports_shows_the_result_and_the_path(
    nas: Nas, config: Path, compiler: FakeCompiler, tmp_path: Path
) -> None:
    path = tmp_path / "summary.json"
    json_writer(example_summary())(path)
    compiler.outcome = Outcome(
        done={"report": 1},
        seconds={"report": 1.0},
        summary_path=path,
        report_path=tmp_path / "report.html",
    )

    result = nas("run", config)

    assert "student against teacher" in result.stdout
    assert result.stdout.endswith(f"report: {tmp_path / 'report.html'}\n")
    assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("where", ["before", "after"])
def test_quiet_leaves_stderr_empty(
    nas: Nas, config: Path, compiler: FakeCompiler, where: str
) -> None:
    del compiler
    result = nas("-q", "run", config) if where == "before" else nas("run", config, "-q")

    assert result.exit_code == 0
    assert not result.stderr


def test_a_pass_verb_runs_that_pass_alone_with_the_stored_configuration(
    nas: Nas, config: Path, compiler: FakeCompiler, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "r", config, ["build.tokens=4096"])

    result = nas("build", run.root, "--set", "seed=3")

    assert result.exit_code == 0, result.stderr
    assert compiler.passes == ("build", "build")
    assert compiler.config is not None
    assert (compiler.config.build.tokens, compiler.config.seed) == (4096, 3)


def test_a_pass_verb_refuses_what_is_no_run(nas: Nas, config: Path) -> None:
    result = nas("build", config.parent)

    assert result.exit_code == 1
    assert "is not a run" in result.stderr


def test_a_pass_verb_on_a_run_without_configuration_says_how_to_start(
    nas: Nas, compiler: FakeCompiler, tmp_path: Path
) -> None:
    del compiler
    RunDirectory.create(tmp_path / "r")

    result = nas("score", tmp_path / "r")

    assert result.exit_code == 1
    assert "nas run CONFIG --output" in result.stderr


def test_evaluate_adds_task_files_to_those_of_the_run(
    nas: Nas, config: Path, compiler: FakeCompiler, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    new.touch()
    run = make_run(tmp_path / "r", config, [f"evaluate.tasks=[{old}]"])

    result = nas("evaluate", run.root, "--task", "new.jsonl")

    assert result.exit_code == 0, result.stderr
    assert compiler.config is not None
    assert compiler.config.evaluate.tasks == (old, new)
    assert compiler.passes == ("evaluate", "report")


def test_evaluate_adds_tasks_of_the_harness_to_those_of_the_run(
    nas: Nas, config: Path, compiler: FakeCompiler, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "r", config, ["evaluate.lm_eval=[piqa]"])

    options = ["--lm-eval", "hellaswag", "--lm-eval", "piqa", "--limit", "100"]
    result = nas("evaluate", run.root, *options)

    assert result.exit_code == 0, result.stderr
    assert compiler.config is not None
    assert compiler.config.evaluate.lm_eval == ("piqa", "hellaswag")
    assert compiler.config.evaluate.limit == 100


def test_evaluate_refuses_a_task_file_that_is_not_there(
    nas: Nas, config: Path, compiler: FakeCompiler, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "r", config)

    result = nas("evaluate", run.root, "--task", "absent.jsonl")

    assert result.exit_code == 2
    assert "absent.jsonl" in result.stderr
    assert compiler.config is None


def answered(monkeypatch: pytest.MonkeyPatch, *answers: Answers) -> list[RunConfig]:
    """The configurations that were solved for, in place of solving."""
    seen: list[RunConfig] = []
    left = list(answers)

    def answer_again(config: RunConfig, *_: object) -> Answers:
        seen.append(config)
        return left.pop(0)

    monkeypatch.setattr("nas.compiler.answer_again", answer_again)
    return seen


CHOSEN = RunAnswer(
    status="proven",
    objective=0.25,
    bound=0.25,
    lp_bound=0.2,
    gap=0.0,
    costs={"prefill_ms": 41.5},
    budgets=(Budget(name="speedup.prefill", cost="prefill_ms", limit=42.0),),
    slack={"speedup.prefill": 0.5},
    duals={"speedup.prefill": 0.1},
    prices=("1 ms more of speedup.prefill would lower the loss by 0.1",),
    choice={"layers.0.ffn": "teacher", "layers.1.ffn": "skip"},
    solver="mip",
    seconds=0.2,
    realised_kl=0.3,
)


def test_solve_prints_the_certificate_of_another_budget(
    nas: Nas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "r", config)
    seen = answered(monkeypatch, Answers(CHOSEN, notes=("refine moved on",)))

    result = nas("solve", run.root, "--set", "budgets.speedup=2")

    assert seen[0].budgets.speedup == 2
    lines = result.stdout.splitlines()
    assert lines[0] == "proven: summed loss 0.25, bound 0.25, gap 0 %; mip in 0.2 s"
    assert "realised KL of the whole network: 0.3 nats a token" in lines
    assert CHOSEN.prices[0] in lines
    assert any(line.split() == ["skip", "1", "layers.*.ffn", "1"] for line in lines)
    assert "refine moved on" in result.stderr


def test_solve_writes_an_infeasible_answer_before_it_ends_with_3(
    nas: Nas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "r", config)
    option = Option(variant="teacher", loss=0.0, costs={"params_m": 2.0})
    budget = Budget(name="params_m", cost="params_m", limit=1.0)
    problem = Problem(slots={"layers.0.ffn": (option,)}, budgets=(budget,))
    found = diagnose(problem)
    error = InfeasibleError("cannot be met", found.tightest, problem, found)
    answered(monkeypatch, Answers(RunAnswer.refused(error, "mip", 0.1)))

    result = nas("solve", run.root, "-f", "json")

    answer = json.loads(result.stdout)
    assert result.exit_code == 3
    assert answer["status"] == "infeasible"
    assert answer["tightest"] == answer["infeasibility"]["tightest"] == {"params_m": 2.0}
    assert answer["infeasibility"]["conflict"] == ["params_m"]
    assert answer["infeasibility"]["explanation"] == "cannot be met"
    assert [budget["name"] for budget in answer["budgets"]] == ["params_m"]
    assert "cannot be met" in result.stderr
    assert "tightest feasible value of each budget" in result.stderr


EXAMPLE_ANSWER = Answer(
    status="proven",
    objective=0.25,
    bound=0.25,
    lp_bound=0.2,
    gap=0.0,
    costs={},
    budgets=(),
    slack={},
    duals={},
    prices=(),
    choice={"layers.0.ffn": "skip"},
    solver="mip",
    seconds=0.2,
)


def test_solve_sweeps_the_budgets_of_a_run(
    nas: Nas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "r", config)
    seen: list[Sweep] = []

    def sweep_again(_: RunConfig, __: RunDirectory, sweeps: list[Sweep], *___: object) -> Answers:
        seen.extend(sweeps)
        return Answers([EXAMPLE_ANSWER], notes=("1 of 2 points left out",))

    monkeypatch.setattr("nas.compiler.sweep_again", sweep_again)

    result = nas("solve", run.root, "--sweep", "latency_ms=8:20:2", "-f", "json")

    assert [sweep.path for sweep in seen] == ["latency_ms"]
    assert [answer["choice"] for answer in json.loads(result.stdout)] == [{"layers.0.ffn": "skip"}]
    assert "1 of 2 points left out" in result.stderr


def test_a_sweep_of_a_speed_up_shows_speed_ups(
    nas: Nas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "r", config)
    points: list[Answer] = [CHOSEN.model_copy(update={"asked": {"speedup": 2.5}})]
    monkeypatch.setattr("nas.compiler.sweep_again", lambda *_: Answers(points))

    result = nas("solve", run.root, "--sweep", "speedup=1:2.5:2")

    header, row = result.stdout.splitlines()[1:3]
    assert header.split()[:4] == ["#", "limit", "of", "speedup"]
    assert row.split()[1] == "2.5"


def fake_plan(_: RunConfig, __: Path | None = None) -> SimpleNamespace:
    row = {
        "units": 4,
        "disk_mib": 2048.0,
        "memory_mib": 512.0,
        "transfer_mib": 256.0,
        "seconds": 90.0,
    }
    size = {"device": "h100-sxm", "workers": 8, "device_hours": 1.25}
    seconds = {"build_s": 60.0, "score_s": 30.0, "whole_s": 120.0}
    rows = [SimpleNamespace(pass_name=name, **row) for name in ("build", "score")]
    sizes = [SimpleNamespace(**size, **seconds)]
    return SimpleNamespace(rows=rows, sizes=sizes, notes=["the budgets can be met"])


def test_plan_sums_up_its_rows(nas: Nas, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.compiler.make_plan", fake_plan, raising=False)

    result = nas("plan", config)

    assert result.exit_code == 0, result.stderr
    total, size = (line.split() for line in result.stdout.splitlines() if " 8 " in line)
    assert " ".join(total) == "in all 8 4.0 GiB 512 MiB 512 MiB 3 min 00 s"
    assert " ".join(size) == "h100-sxm 8 1 min 00 s 30 s 2 min 00 s 1.25"
    assert "by size of the executor, a device for each worker" in result.stdout
    assert "note: the budgets can be met" in result.stdout


def test_a_dry_run_writes_nothing(
    nas: Nas, config: Path, compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.compiler.make_plan", fake_plan, raising=False)

    result = nas("run", config, "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert "would write to runs/my-student" in result.stdout
    assert compiler.config is None
    assert not Path("runs").exists()


def test_init_writes_a_valid_configuration_once(nas: Nas, tmp_path: Path) -> None:
    first, second = nas("init"), nas("init")

    load_config(tmp_path / "nas.yaml")
    assert first.exit_code == 0
    assert second.exit_code == 2
    assert "not overwritten" in second.stderr


def test_the_starter_shows_every_section_and_budget() -> None:
    for name in RunConfig.model_fields:
        assert f"\n{name}:" in STARTER
    for name in BudgetsConfig.model_fields:
        assert f" {name}:" in STARTER
