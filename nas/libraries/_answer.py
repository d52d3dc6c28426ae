"""An answer as it is written out: the solution beside its limits, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import InfeasibleError
from nas.ir.problem import Budget, Problem, Solution, Status
from nas.libraries._plane import Plane
from nas.solvers import BudgetDiagnosis, Infeasibility, JointSolution, duals_in_words
from nas.uncertainty import Interval, Uncertainty


class Relaxation(BaseModel):
    """A limit that makes way: alone with the least relative change, or together with others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: str
    limit: float


class Diagnosis(BaseModel):
    """Why nothing is feasible.

    `conflict` is a smallest set of budgets that cannot hold together, empty where the search for it
    was cut short. `tightest` is the tightest feasible value of each budget alone. `relaxation` is
    None where no single limit is enough; then `together` holds limits that one choice meets, of the
    budgets that have to move, with the least sum of relative excess (`least`: proven). `impossible`
    are the budgets that no choice meets, each alone. `explanation` says it in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conflict: tuple[str, ...]
    tightest: dict[str, float]
    relaxation: Relaxation | None
    together: tuple[Relaxation, ...] = ()
    least: bool = False
    impossible: tuple[str, ...] = ()
    budgets: tuple[BudgetDiagnosis, ...]
    explanation: str

    @classmethod
    def of(cls, found: Infeasibility) -> Self:
        reached = {budget.name: budget.with_others for budget in found.budgets}
        limit = None if found.relaxation is None else reached[found.relaxation]
        return cls(
            conflict=found.conflict,
            tightest=found.tightest,
            relaxation=None
            if found.relaxation is None or limit is None
            else Relaxation(budget=found.relaxation, limit=limit),
            together=tuple(Relaxation(budget=b, limit=v) for b, v in found.together.items()),
            least=found.least,
            impossible=found.impossible,
            budgets=found.budgets,
            explanation=found.explain(),
        )


class Answer(BaseModel):
    """A verified solution (see `nas.ir.Solution`), the budgets it meets, and their prices in words.

    With status `infeasible` there are no numbers and no choice, and `infeasibility` is set.
    `uncertainty` is set where it was asked for, `batch` where the target lets it be chosen, `asked`
    of a sweep's point: what each swept budget was, as the user wrote it.
    `measured` (the objective's interval) and `difference` (of the objective from that of the first)
    are set on answers in a list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    objective: float | None
    bound: float | None
    lp_bound: float | None
    gap: float | None
    costs: dict[str, float]
    budgets: tuple[Budget, ...]
    slack: dict[str, float]
    duals: dict[str, float]
    prices: tuple[str, ...]
    choice: dict[str, str]
    solver: str
    seconds: float
    infeasibility: Diagnosis | None = None
    uncertainty: Uncertainty | None = None
    batch: int | None = None
    asked: dict[str, float] = Field(default_factory=dict)
    measured: Interval | None = None
    difference: Interval | None = None

    @classmethod
    def of(cls, problem: Problem, solution: Solution, why: Diagnosis | None = None) -> Self:
        return cls(
            **solution.model_dump(exclude={"tightest", "realised_kl"}),
            budgets=problem.budgets,
            prices=() if why else tuple(duals_in_words(problem, solution)),
            infeasibility=why,
        )


class RunAnswer(Answer):
    """An answer for a run. `realised_kl`: the KL of the whole network with this choice, in nats a
    token, where `nas refine` ran it. `tightest`: of each budget alone, where nothing is feasible.
    """

    tightest: dict[str, float] = Field(default_factory=dict)
    realised_kl: float | None = None

    @classmethod
    def refused(cls, error: InfeasibleError, solver: str, seconds: float) -> Self:
        """What a solver's error says; raises it anew where it holds no diagnosis."""
        if error.problem is None or error.found is None:
            raise error
        why = Diagnosis.of(error.found).model_copy(update={"explanation": str(error)})
        found = Solution(status="infeasible", solver=solver, seconds=seconds)
        return cls.of(error.problem, found, why).model_copy(update={"tightest": error.tightest})


class JointAnswer(BaseModel):
    """Several solutions found at once, and what is proven of their sum (`JointSolution`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    objective: float | None
    bound: float | None
    lp_bound: float | None
    gap: float | None
    differ: int
    greedy_objective: float | None
    solutions: tuple[Answer, ...]
    seconds: float
    infeasibility: Diagnosis | None = None

    @classmethod
    def of(cls, problem: Problem, found: JointSolution, why: Diagnosis | None = None) -> Self:
        return cls(
            **found.model_dump(exclude={"solutions", "exhausted"}),
            solutions=tuple(Answer.of(problem, solution) for solution in found.solutions),
            infeasibility=why,
        )


@dataclass(frozen=True)
class Answers:
    """`found` as it was asked for; a single `Answer` unless several were.

    `notes` is what a reader should know beside them, `plane` the plot of a sweep over two budgets.
    """

    found: Answer | list[Answer] | JointAnswer
    notes: tuple[str, ...] = ()
    plane: Plane | None = None

    @property
    def every(self) -> tuple[Answer, ...]:
        """All answers, in whichever form they were asked for."""
        if isinstance(self.found, JointAnswer):
            return self.found.solutions
        return tuple(self.found) if isinstance(self.found, list) else (self.found,)

    @property
    def infeasible(self) -> Diagnosis | None:
        """Why there is no answer, None where there is one."""
        return self._first.infeasibility

    @property
    def refusal(self) -> InfeasibleError | None:
        """The same as the error to end with once it is written out."""
        if self.infeasible is None:
            return None
        tightest = self._first.tightest if isinstance(self._first, RunAnswer) else None
        return InfeasibleError(self.infeasible.explanation, tightest)

    @property
    def _first(self) -> Answer | JointAnswer:
        return self.found[0] if isinstance(self.found, list) else self.found
