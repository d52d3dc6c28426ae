"""The artefacts of a run by name: which pass makes each, and from what.

Each is made at most once, when it is first asked for; a finished one is read back from the run.
Modules that need torch are imported only when a unit has to be made.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from nas.ir import Architecture, Candidate, KeepTeacher, Skip, Solution
from nas.passes._context import PassContext

if TYPE_CHECKING:
    import numpy as np

    from nas.meters import CostTable
    from nas.passes.build import FindDraft
    from nas.passes.evaluate import Qualities
    from nas.passes.profile import Profile
    from nas.profiling import LayerProfiles
    from nas.pruning import SlotOutlook
    from nas.uncertainty import Uncertainty


class Artefacts:
    """Lazy view on everything that the passes produce."""

    def __init__(self, context: PassContext) -> None:
        self.context = context

    @cached_property
    def space(self) -> tuple[Candidate, ...]:
        """Every candidate of every slot."""
        from nas.passes.space import candidates

        return candidates(self.context)

    @cached_property
    def costs(self) -> CostTable:
        """What every block of the space costs. Budgets that nothing can meet are refused here."""
        from nas.passes.measure import measure
        from nas.passes.solve import require_feasible

        table = measure(self.context, self.space)
        require_feasible(self.context, table, self.space)
        return table

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates that survive pruning."""
        if self.context.config.prune.keep == 1:
            return self.space
        from nas.passes.prune import prune

        return prune(self.context, self.space, self.costs)

    @cached_property
    def _drafts(self) -> FindDraft | None:
        if self.context.config.prune.keep == 1:
            return None
        from nas.passes.draft import Drafts

        return Drafts(self.context)

    @property
    def _with_uniform(self) -> tuple[CostTable, tuple[Candidate, ...]]:
        """By the batch, which solving may yet choose."""
        from nas.passes.baselines import baseline_candidates

        batch = self.context.batch
        if batch not in self._uniform:
            self._uniform[batch] = baseline_candidates(self.context, self.costs)
        return self._uniform[batch]

    @cached_property
    def _uniform(self) -> dict[int, tuple[CostTable, tuple[Candidate, ...]]]:
        return {}

    @property
    def all_costs(self) -> CostTable:
        """The same, and what the blocks of the uniform baseline cost."""
        return self._with_uniform[0]

    @cached_property
    def block_keys(self) -> dict[str, str]:
        from nas.passes.build import build

        if "build" in self.context.run.closed:
            return build(self.context, self.candidates)
        return build(self.context, self.candidates, self._extra, self._drafts, self._outlooks)

    @property
    def _outlooks(self) -> dict[str, SlotOutlook]:
        """What survivors are judged by while they train. Blocks of a baseline learn all the way, so
        that it is no worse for it."""
        if self.context.config.build.rungs == 1:
            return {}
        from nas.passes.prune import outlooks

        self.candidates  # noqa: B018
        return outlooks(self.context, self._with_uniform[1])

    @cached_property
    def baseline_keys(self) -> dict[str, str]:
        """Blocks that only a baseline has. The budgets decide which, so they belong to solving; a
        whole run makes them with the others, in one walk over the teacher."""
        from nas.passes.build import build

        return build(self.context, (), self._extra)

    @property
    def _extra(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self._with_uniform[1] if c not in self.candidates)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        config = self.context.config.score
        if config.until_certain or config.method == "focused":
            from nas.passes.focus import focus
            from nas.passes.race import race
            from nas.passes.solve import make_problem

            return (race if config.until_certain else focus)(
                self.context,
                self._built,
                self.block_keys,
                lambda scores: make_problem(self.context, self.costs, self._built, scores),
            )
        from nas.passes.score import score

        return score(self.context, self._built, self.block_keys)

    @property
    def _built(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.candidates if c.id in self.block_keys)

    @property
    def usable(self) -> tuple[Candidate, ...]:
        """What there is to choose from: all candidates, but for those whose unit failed in a run
        that goes on without them."""
        return tuple(c for c in self.candidates if c.id in self.scores)

    @cached_property
    def solution(self) -> Solution:
        from nas.passes.solve import solve

        return solve(self.context, self.costs, self.usable, self.scores)

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """How sure the solution is, before refinement; None where no optimum, a single sequence or
        a race leaves it open."""
        from nas.passes._gaps import has_gaps
        from nas.passes.solve import judge_solution
        from nas.uncertainty import Scrutiny

        config = self.context.config
        if config.solve.solver != "mip" or config.data.score_sequences < 2:
            return None
        if has_gaps(self.scores):
            return None
        found = (self.costs, self.usable, self.scores, self.solution)
        return judge_solution(self.context, *found, Scrutiny())

    @cached_property
    def refined(self) -> Solution:
        """The solution after refinement: what becomes the student."""
        if self.context.config.refine.rounds == 0:
            return self.solution
        from nas.passes.refine import refine
        from nas.passes.solve import make_problem

        solution = self.solution  # first: it may choose the batch that the budgets are of
        problem = make_problem(self.context, self.costs, self.usable, self.scores)
        return refine(self.context, problem, self.usable, self.block_keys, solution)

    @cached_property
    def baselines(self) -> dict[str, Architecture]:
        """What the student is compared with, under the same budgets."""
        from nas.passes.baselines import baseline_architectures

        if self.context.config.target.batches:
            self.solution  # noqa: B018 - it chooses the batch that the budgets are of
        return baseline_architectures(self.context, self.costs)

    @cached_property
    def architectures(self) -> dict[str, Architecture]:
        """The student, then the baselines; one whose blocks could not all be made is left out."""
        from nas.passes.solve import architecture_of

        student = architecture_of(self.context.shape, self.usable, self.refined)
        made = self.block_keys | self.baseline_keys
        whole = {
            name: architecture
            for name, architecture in self.baselines.items()
            if all(
                isinstance(spec, (KeepTeacher, Skip)) or f"{slot}/{spec.label}" in made
                for slot, spec in architecture.choices.items()
            )
        }
        return {"student": student} | whole

    @cached_property
    def assembled_keys(self) -> dict[str, str]:
        from nas.passes.assemble import assemble_students

        keys = self.block_keys | self.baseline_keys
        return assemble_students(self.context, self.architectures, keys)

    @cached_property
    def student_keys(self) -> dict[str, str]:
        from nas.passes.students import distill_students

        return distill_students(self.context, self.architectures, self.assembled_keys)

    @cached_property
    def exported(self) -> dict[str, str]:
        from nas.passes.export import export

        export(self.context, self.architectures, self.student_keys)
        return self.student_keys

    @cached_property
    def measured(self) -> Profile:
        from nas.passes.profile import profile

        return profile(self.context, self.exported)

    @cached_property
    def layers(self) -> LayerProfiles:
        """Where teacher and student spend their time."""
        from nas.passes.layers import profile_layers

        return profile_layers(self.context, self.architectures["student"], self.exported)

    @cached_property
    def quality(self) -> dict[str, Qualities]:
        from nas.passes.evaluate import evaluate

        return evaluate(self.context, self.architectures, self.student_keys)

    @cached_property
    def tasks(self) -> list[dict[str, Any]]:
        """Accuracy on every task file, and every task of lm-evaluation-harness, of the
        configuration."""
        from nas.passes.evaluate import evaluate_images, evaluate_pairs, evaluate_tasks
        from nas.passes.evaluate_harness import evaluate_harness

        config, key = self.context.config.evaluate, self.student_keys["student"]
        student = self.architectures["student"]
        files = evaluate_tasks(self.context, student, key, config.tasks, config.limit)
        files += evaluate_pairs(self.context, student, key)
        files += evaluate_images(self.context, student, key)
        return files + evaluate_harness(self.context, student, key)
