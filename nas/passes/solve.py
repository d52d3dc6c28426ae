"""Solve: one block a slot, least summed loss under the budgets, with a certificate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import NoReturn

import numpy as np

from nas.config import BudgetsConfig, Limits, TargetConfig
from nas.errors import ConfigError, InfeasibleError
from nas.ir import (
    Architecture,
    Budget,
    Candidate,
    ChainShape,
    KeepTeacher,
    Option,
    Problem,
    Solution,
)
from nas.meters import CostTable
from nas.passes._context import PassContext
from nas.passes._gaps import completed, has_gaps
from nas.passes.measure import fixed_costs, option_costs, teacher_costs
from nas.run import content_key, json_writer
from nas.solvers import MipSolver, Quotient, create_solver, diagnose, verify
from nas.uncertainty import Scrutiny, SequenceNoise, Uncertainty, judge


def solve(
    context: PassContext,
    table: CostTable,
    candidates: Iterable[Candidate],
    scores: Mapping[str, np.ndarray],
) -> Solution:
    """The best architecture for the budgets, at the batch at which least is lost; raises
    InfeasibleError."""
    candidates, batches = tuple(candidates), context.config.target.every_batch
    if len(batches) == 1:
        return _solve(context, table, make_problem(context, table, candidates, scores), scores)
    problems = {b: make_problem(context, table, candidates, scores, batch=b) for b in batches}
    found = {
        batch: _solve(context, table, problem, scores)
        for batch, problem in problems.items()
        if _feasible(context, problem)
    }
    if not found:
        _refuse(context, problems[batches[0]], table, batches[0])
    best = min(found, key=lambda batch: (found[batch].objective, batch))
    tried = {str(b): found[b].objective if b in found else None for b in batches}
    context.choose_batch({"batch": best, "losses": tried})
    losses = ", ".join(f"{b}: {'-' if v is None else f'{v:.4g}'}" for b, v in tried.items())
    context.progress.say(f"batch {best} is chosen (summed loss by batch: {losses})")
    return found[best]


def _solve(
    context: PassContext,
    table: CostTable,
    problem: Problem,
    scores: Mapping[str, np.ndarray],
) -> Solution:
    config = context.config.solve
    key = content_key("solve", problem, config)
    name = f"solve/{key}"
    record = context.run.fetch(name, key)
    if record is not None:
        return Solution.model_validate(record.data)
    solver = create_solver(config.solver)
    solution = solver.solve(problem, time_limit_s=config.time_limit_s, gap=config.gap)
    if solution.status == "infeasible":
        _refuse(context, problem, table)
    verify(problem, solution)
    files = {
        f"solutions/{key}/problem.json": json_writer(
            {**problem.model_dump(mode="json"), **_scores_of_all(scores)}
        ),
        f"solutions/{key}/solution.json": json_writer(solution),
    }
    context.run.store(name, key, files, solution.model_dump(mode="json"), solution.seconds)
    return solution


def judge_solution(
    context: PassContext,
    table: CostTable,
    candidates: Iterable[Candidate],
    scores: Mapping[str, np.ndarray],
    solution: Solution,
    scrutiny: Scrutiny,
) -> Uncertainty:
    """How sure `solution` is, by its per-sequence scores; kept in the run for the next call.

    `solution` is that of the solver, not a refined one.

    Raises ConfigError where the solver finds no optimum, or there is a single sequence.
    """
    config = context.config.solve
    if config.solver != "mip":
        raise ConfigError(
            f"--confidence judges an optimum; solve.solver={config.solver} finds none"
        )
    problem = make_problem(context, table, candidates, scores)
    noise = noise_of(problem, scores)
    key = content_key("judge", problem, config, _as_lists(scores), asdict(scrutiny))
    name = f"judge/{key}"  # of no pass: whoever asks may make it, the report as well
    record = context.run.fetch(name, key)
    if record is not None:
        return Uncertainty.model_validate(record.data)
    began = time.perf_counter()
    found = judge(
        problem,
        solution.choice,
        noise,
        scrutiny,
        progress=context.progress,
        time_limit_s=config.time_limit_s,
    )
    seconds = time.perf_counter() - began
    data = found.model_dump(mode="json")
    context.run.store(name, key, data=data, seconds=seconds)
    return found


def noise_of(problem: Problem, scores: Mapping[str, np.ndarray]) -> SequenceNoise:
    """By the per-sequence scores of a run; raises ConfigError where a race left gaps in them."""
    if has_gaps(scores):
        raise ConfigError(
            "--confidence needs every candidate scored on the same sequences, and a race "
            "(score.until_certain) leaves gaps; nas score RUN --set score.until_certain=false"
        )
    return SequenceNoise(problem, scores)


def _scores_of_all(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """For problem.json; nothing where a race left gaps, for they are no measurements."""
    return {} if has_gaps(scores) else {"scores": _as_lists(scores)}


def _as_lists(scores: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: [float(value) for value in values] for name, values in scores.items()}


def require_feasible(
    context: PassContext, table: CostTable, candidates: Iterable[Candidate]
) -> None:
    """Raise InfeasibleError before any work is spent on budgets that no student can meet."""
    candidates, batches = tuple(candidates), context.config.target.every_batch
    nothing_lost = {c.id: np.zeros(1) for c in candidates}
    problems = [make_problem(context, table, candidates, nothing_lost, batch=b) for b in batches]
    if not any(_feasible(context, problem) for problem in problems):
        _refuse(context, problems[0], table, batches[0])


def _feasible(context: PassContext, problem: Problem) -> bool:
    limit = context.config.solve.time_limit_s
    return MipSolver().solve(problem, time_limit_s=limit).status != "infeasible"


def _refuse(
    context: PassContext, problem: Problem, table: CostTable, batch: int | None = None
) -> NoReturn:
    """InfeasibleError with the diagnosis and the tightest values in the terms the user wrote."""
    teacher, every = teacher_costs(context, table), context.config.target.every_batch
    batch = context.batch if batch is None else batch
    quotients = {}
    for path, prefix, target in _conditions(context.config.target, batch):
        for p in table.phases:
            quotients[f"{path}speedup.{p}"] = Quotient(teacher[f"{prefix}{p}_ms"], "times")
        tokens = _request_tokens(target)
        quotients[f"{path}throughput_tokens_per_s"] = Quotient(1000.0 * tokens, "token/s")
        quotients[f"{path}tokens_per_s"] = Quotient(1000.0 * target.batch, "token/s")
    found = diagnose(problem, time_limit_s=context.config.solve.time_limit_s)
    found = found.written_as(quotients)
    others = ", ".join(map(str, every[1:]))
    at = f" (at batch {batch}; no student meets the budgets at {others} either)" if others else ""
    raise InfeasibleError(found.explain() + at, found.tightest, problem, found)


def make_problem(
    context: PassContext,
    table: CostTable,
    candidates: Iterable[Candidate],
    scores: Mapping[str, np.ndarray],
    batch: int | None = None,
) -> Problem:
    """The selection problem of a run. The teacher's own block loses nothing by definition; gaps of
    raced scores are filled. `batch`: of the target's own budgets, by default that of the run."""
    scores = completed(scores)
    slots: dict[str, list[Option]] = {}
    for slot in context.shape.slots():
        costs = option_costs(context, table, slot, KeepTeacher())
        slots[slot.id] = [Option(variant="teacher", loss=0.0, costs=costs)]
    for candidate in candidates:
        costs = option_costs(context, table, candidate.slot, candidate.spec)
        loss = float(np.mean(scores[candidate.id]))
        option = Option(variant=candidate.spec.label, loss=loss, costs=costs)
        slots[candidate.slot.id].append(option)
    return Problem(
        slots={slot: tuple(options) for slot, options in slots.items()},
        budgets=make_budgets(context, table, batch=batch),
    )


def make_budgets(
    context: PassContext,
    table: CostTable,
    budgets: BudgetsConfig | None = None,
    batch: int | None = None,
) -> tuple[Budget, ...]:
    """The user's budgets as limits on sums of costs; by default those of the configuration, at the
    batch of the run."""
    budgets = budgets or context.config.budgets
    batch = context.batch if batch is None else batch
    fixed, teacher = fixed_costs(context, table), teacher_costs(context, table)
    found = []
    for path, prefix, target in _conditions(context.config.target, batch):
        group = budgets.scenarios.get(prefix[:-1], Limits()) if path else budgets
        for name, cost, limit in _limits(group, target, teacher, prefix):
            cost = cost if cost == "params_m" else f"{prefix}{cost}"
            found.append(Budget(name=f"{path}{name}", cost=cost, limit=limit, fixed=fixed[cost]))
    return tuple(found)


def architecture_of(
    shape: ChainShape, candidates: Iterable[Candidate], solution: Solution
) -> Architecture:
    """The chosen specification of every slot that does not keep the teacher's block."""
    chosen = {f"{slot}/{variant}" for slot, variant in solution.choice.items()}
    return Architecture(choices={c.slot.id: c.spec for c in candidates if c.id in chosen})


def _conditions(target: TargetConfig, batch: int) -> Iterator[tuple[str, str, TargetConfig]]:
    """The target's own conditions at a batch, then each scenario's: what opens the names of their
    budgets, what opens those of their costs, and the target under them."""
    yield "", "" if batch == target.batch else f"batch-{batch}.", target.at_batch(batch)
    for name in target.scenarios:
        yield f"scenarios.{name}.", f"{name}.", target.in_scenario(name)


def _limits(
    group: Limits, target: TargetConfig, teacher: Mapping[str, float], prefix: str
) -> Iterator[tuple[str, str, float]]:
    """Name, cost and most of it, of every limit that is given."""
    for phase, limit in group.limits("latency_ms").items():
        yield f"latency_ms.{phase}", f"{phase}_ms", limit
    for phase, factor in group.limits("speedup").items():
        yield f"speedup.{phase}", f"{phase}_ms", teacher[f"{prefix}{phase}_ms"] / factor
    if group.ttft_ms is not None:
        yield "ttft_ms", "prefill_ms", group.ttft_ms
    if group.tokens_per_s is not None:
        yield "tokens_per_s", "decode_ms", 1000.0 * target.batch / group.tokens_per_s
    if group.throughput_tokens_per_s is not None:
        limit_ms = 1000.0 * _request_tokens(target) / group.throughput_tokens_per_s
        yield "throughput_tokens_per_s", "request_ms", limit_ms
    for name in ("memory_mib", "kv_mib_per_sequence", "params_m"):
        if (given := getattr(group, name, None)) is not None:
            yield name, name, float(given)


def _request_tokens(target: TargetConfig) -> int:
    """Prompt and output of all sequences of a request."""
    return target.batch * (target.prompt_tokens + target.output_tokens)
