"""What could stand in each slot, what was chosen, and the certificate of the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from nas.ir import (
    BasicConvolution,
    BlockSpec,
    BottleneckConvolution,
    Budget,
    ChainShape,
    ConvShape,
    FeedForward,
    GatedFeedForward,
    GroupedQueryAttention,
    KeepTeacher,
    LowRankConvolution,
    Option,
    RefineStep,
    SeparableConvolution,
    Slot,
    SlotKind,
    Solution,
    as_transformer,
)
from nas.ir.problem import Status
from nas.report._records import Record

_UNITS = {"_tokens_per_s": "tok/s", "_ms": "ms", "_mib": "MiB", "_m": "M", "_gib": "GiB"}


class Costs(Record):
    """Costs under the target's conditions; None where a cost was not asked for."""

    prefill_ms: float | None = None
    """Prefill of the whole prompt."""
    decode_ms: float | None = None
    """Decode of one token a sequence."""
    params_m: float | None = None
    memory_mib: float | None = None
    """Weights, and the KV cache of the whole batch at full length."""
    kv_mib: float | None = None
    """KV cache of one sequence at full length."""


class OptionSummary(Costs):
    """One variant of a slot: what it loses and what it costs."""

    variant: str
    block: BlockSpec
    kept: float = Field(ge=0, le=1)
    """Share of the teacher's width, or of its KV heads, that is left; 0 for linear and skip."""
    loss: float
    """Nats a token as the solver saw them: KL(teacher || teacher with this block swapped in)."""
    loss_stderr: NonNegativeFloat | None = None
    local_error: float | None = None
    """Held-out normalised squared error of the block's output on the teacher's activations."""
    stopped: str | None = None
    """Why its local distillation ended at a rung; None where it went all the way, or there was
    none."""

    @classmethod
    def of(
        cls,
        option: Option,
        block: BlockSpec,
        kept: float,
        *,
        loss_stderr: float | None = None,
        local_error: float | None = None,
        stopped: str | None = None,
    ) -> Self:
        """From the solver's option; of its costs, those that `Costs` names are kept."""
        return cls(
            **{name: option.costs.get(name) for name in Costs.model_fields},
            variant=option.variant,
            block=block,
            kept=kept,
            loss=option.loss,
            loss_stderr=loss_stderr,
            local_error=local_error,
            stopped=stopped,
        )


class SlotCertaintySummary(Record):
    """How firmly the choice of a slot stands."""

    frequency: float = Field(ge=0, le=1)
    """Share of draws of the scoring sequences under which the best student has this block."""
    certain: bool
    """Whether that share reaches the confidence."""
    regret: float | None
    """Nats that the best student without this block loses more; None if there is none."""


class SlotSummary(Record):
    """A slot, its options, and the one that the student has."""

    id: str
    layer: int = Field(ge=0)
    kind: SlotKind
    chosen: str
    """The variant that the student has here."""
    options: tuple[OptionSummary, ...] = Field(min_length=1)
    certainty: SlotCertaintySummary | None = None
    """None where nothing was judged, or where refinement moved the slot from what was."""

    @classmethod
    def of(
        cls,
        slot: Slot,
        chosen: str,
        options: tuple[OptionSummary, ...],
        certainty: SlotCertaintySummary | None = None,
    ) -> Self:
        return cls(
            id=slot.id,
            layer=slot.layer,
            kind=slot.kind,
            chosen=chosen,
            options=options,
            certainty=certainty,
        )

    @model_validator(mode="after")
    def _chosen_is_an_option(self) -> Self:
        variants = [option.variant for option in self.options]
        if len(set(variants)) != len(variants):
            raise ValueError(f"slot {self.id} names a variant twice")
        if self.chosen not in variants:
            raise ValueError(f"slot {self.id}: the chosen {self.chosen!r} is not among its options")
        return self

    @property
    def choice(self) -> OptionSummary:
        """The chosen option."""
        return next(option for option in self.options if option.variant == self.chosen)

    @property
    def teacher(self) -> OptionSummary | None:
        """The option that keeps the teacher's block, if the space had it."""
        return next((o for o in self.options if isinstance(o.block, KeepTeacher)), None)


class CertaintySummary(Record):
    """What the summed loss is on fresh text: it lies from `low` to `high` with `confidence`.

    Of the choice before refinement, which may have moved some slots since.
    """

    confidence: float = Field(gt=0, lt=1)
    sequences: int = Field(ge=2)
    """Scoring sequences that it rests on."""
    optimism: NonNegativeFloat
    """Nats by which the winner looks better on the scores that chose it."""
    expected: float
    low: float
    high: float


class RefinementSummary(Record):
    """Steps away from the optimum of the summed scores, each confirmed by running the network."""

    networks: NonNegativeInt
    """Whole networks that were run on the scoring text, the solution's own among them."""
    moved_slots: NonNegativeInt
    start_kl: NonNegativeFloat
    """KL that the solution realises on the scoring text, nats a token."""
    realised_kl: NonNegativeFloat
    """The same for the choice that became the student, before it was refitted."""

    @classmethod
    def of(cls, steps: Sequence[RefineStep]) -> Self:
        """From every step of a refinement, the start first."""
        start, end = steps[0], [step for step in steps if step.kept][-1]
        return cls(
            networks=len(steps),
            moved_slots=sum(end.choice[slot] != start.choice[slot] for slot in end.choice),
            start_kl=start.realised_kl,
            realised_kl=end.realised_kl,
        )


class SolutionSummary(Record):
    """The certificate: `bound` <= any feasible objective, `gap` is relative to the objective."""

    status: Status
    objective: float | None = None
    """Summed loss of the chosen options, nats a token."""
    bound: float | None = None
    gap: NonNegativeFloat | None = None
    seconds: NonNegativeFloat
    solver: str
    certainty: CertaintySummary | None = None
    refinement: RefinementSummary | None = None

    @classmethod
    def of(
        cls,
        solution: Solution,
        certainty: CertaintySummary | None = None,
        refinement: RefinementSummary | None = None,
    ) -> Self:
        fields = ("status", "objective", "bound", "gap", "seconds", "solver")
        found = {name: getattr(solution, name) for name in fields}
        return cls.model_validate({**found, "certainty": certainty, "refinement": refinement})


class BudgetSummary(Record):
    """A budget in the unit of the cost it became, and what the student leaves of it."""

    name: str
    """As the user wrote it, such as `speedup`."""
    cost: str
    """The column it became, such as `prefill_ms`."""
    sense: Literal["max", "min"] = "max"
    unit: str
    limit: float
    value: float
    slack: float
    """What is left: >= 0 when the budget is met."""
    dual: float | None = None
    """Loss saved by one more unit of the budget, at the optimum of the LP relaxation."""
    dual_in_words: str

    @classmethod
    def of(cls, budget: Budget, solution: Solution) -> Self:
        """From the solver's budget and its solution, which must not be infeasible."""
        value, dual = solution.costs[budget.cost], solution.duals.get(budget.name)
        slack = solution.slack[budget.name]
        return cls(
            name=budget.name,
            cost=budget.cost,
            sense=budget.sense,
            unit=unit_of(budget.cost),
            limit=budget.limit,
            value=value,
            slack=slack,
            dual=dual,
            dual_in_words=dual_in_words(budget, dual),
        )


def width_kept(block: BlockSpec, shape: ChainShape, kind: SlotKind) -> float:
    """Share of the teacher's heads, width or channels that a block keeps; 0 for linear and skip.

    The heads are the query heads where some are left out, else the KV heads.
    """
    if isinstance(block, KeepTeacher):
        return 1.0
    if isinstance(shape, ConvShape):
        return _convolution_kept(block, shape, kind)
    shape = as_transformer(shape)
    if isinstance(block, GroupedQueryAttention):
        if block.query_heads is not None:
            return min(1.0, block.query_heads / shape.query_heads)
        return min(1.0, block.kv_heads / shape.kv_heads)
    if isinstance(block, (GatedFeedForward, FeedForward)):
        return min(1.0, block.width / shape.ffn_width)
    return 0.0


def _convolution_kept(block: BlockSpec, shape: ConvShape, kind: SlotKind) -> float:
    """Share of the channels that a block works on, of those of the teacher's."""
    channels, inner = shape.state_width(kind), shape.inner_width(kind)
    if isinstance(block, (BasicConvolution, BottleneckConvolution)):
        return min(1.0, block.width / inner)
    if isinstance(block, LowRankConvolution):
        return min(1.0, (block.rank or channels) / channels) / 2  # one layer in the place of two
    return 0.25 if isinstance(block, SeparableConvolution) else 0.0


def unit_of(cost: str) -> str:
    """The unit that stands in a cost's name; empty if it names none."""
    return next((unit for suffix, unit in _UNITS.items() if cost.endswith(suffix)), "")


def dual_in_words(budget: Budget, dual: float | None) -> str:
    """What loosening a budget by one per cent of its limit would save."""
    if dual is None:
        return "No price known: the relaxation gave none."
    if dual <= 0:
        return "Price 0: does not bind in the LP relaxation."
    step = abs(budget.limit) / 100
    direction = "more" if budget.sense == "max" else "less"
    return (
        f"1 % {direction} ({step:.2g} {unit_of(budget.cost)}".rstrip()
        + f") would save about {dual * step:.2g} nats."
    )
