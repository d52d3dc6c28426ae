"""Report: everything that the run found, as summary.json and a page that renders it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.config import TargetConfig
from nas.ir import (
    Architecture,
    BlockSpec,
    Budget,
    Conditions,
    KeepTeacher,
    Option,
    Phase,
    PictureShape,
    RefineStep,
    Slot,
    Solution,
)
from nas.passes._artefacts import Artefacts
from nas.passes._context import PassContext
from nas.passes.export import export_units
from nas.passes.forecast import compare_forecast, pass_events
from nas.passes.measure import fixed_costs, total_costs
from nas.passes.solve import make_problem
from nas.report import (
    BudgetSummary,
    CertaintySummary,
    Costs,
    DataSummary,
    DistillationSummary,
    FileSummary,
    Gate,
    ModelSummary,
    OptionSummary,
    PassSummary,
    PhaseLatency,
    Quality,
    RefinementSummary,
    RefitSummary,
    ScenarioSummary,
    SlotCertaintySummary,
    SlotSummary,
    SolutionSummary,
    Summary,
    TargetSummary,
    TaskSummary,
    TeacherSummary,
    this_environment,
    width_kept,
    write_report,
)
from nas.run import content_key

if TYPE_CHECKING:
    from nas.meters import CostTable
    from nas.uncertainty import Uncertainty

_DESCRIPTIONS = {
    "student": "chosen by the search",
    "uniform_ffn": "the same feed-forward width in every layer",
    "uniform_ffn_within": "the same feed-forward width in every layer, within the budgets",
    "depth_cut": "a contiguous run of layers removed",
    "depth_cut_within": "a contiguous run of layers removed, within the budgets",
}


def report(artefacts: Artefacts) -> Path:
    """Write `report/summary.json` and `report/report.html`; returns the page."""
    context = artefacts.context
    summary = summarise(artefacts)
    content = summary.model_dump(mode="json", exclude={"created_at", "passes", "forecast"})
    key = content_key("report", content)
    if context.run.fetch("report", key) is None:
        write_report(summary, context.run.path("report"))
        context.run.adopt("report", key, ["report"])
    return context.run.path("report", "report.html")


def summarise(artefacts: Artefacts) -> Summary:
    """The run as one validated record."""
    context, config = artefacts.context, artefacts.context.config
    solution = artefacts.refined  # first: it may choose the batch that the budgets are of
    problem = make_problem(context, artefacts.costs, artefacts.usable, artefacts.scores)
    names = _scenarios(context)
    return Summary(
        name=config.name,
        created_at=datetime.now(UTC),
        nas_version=metadata.version("nas-compiler"),
        config_digest=content_key(config),
        teacher=_teacher(context),
        data=_data(context),
        target=TargetSummary(
            hardware=config.target.hardware,
            meter=config.target.meter,
            output_tokens=config.target.output_tokens,
            conditions=_conditions(_table(artefacts.costs, names[None])),
            scenarios={
                name: ScenarioSummary(
                    output_tokens=_target(context, scenario).output_tokens,
                    conditions=_conditions(_table(artefacts.costs, scenario)),
                )
                for name, scenario in names.items()
                if name is not None
            },
            batch_losses=_batch_losses(context),
        ),
        environment=this_environment(),
        slots=tuple(_slots(artefacts, problem.slots)),
        outside=_costs(_at_chosen_batch(context, fixed_costs(context, artefacts.costs))),
        solution=SolutionSummary.of(
            solution, _certainty(artefacts.uncertainty), _refinement(context)
        ),
        budgets=tuple(_budget(context, budget, solution) for budget in problem.budgets),
        layers=artefacts.layers.phases,
        models=tuple(_models(artefacts)),
        tasks=tuple(TaskSummary.model_validate(t) for t in artefacts.tasks),
        passes=tuple(_passes(context)),
        forecast=compare_forecast(context.run),
        files=tuple(_files(context, ("teacher", *artefacts.architectures))),
    )


def _scenarios(context: PassContext) -> dict[str | None, str | None]:
    """Name in the summary -> name in the cost tables of every set of conditions, None for those of
    models without a scenario: the summary's are those of the batch that was chosen."""
    target, prefix = context.config.target, _prefix(context)
    names: dict[str | None, str | None] = {None: None, **{n: n for n in target.scenarios}}
    if prefix:
        names[None] = prefix[:-1]
        del names[prefix[:-1]]
        names[f"batch-{target.batch}"] = None
    return names


def _prefix(context: PassContext) -> str:
    """What opens the names of costs at the batch that was chosen."""
    batch = context.batch
    return "" if batch == context.config.target.batch else f"batch-{batch}."


def _at_chosen_batch(context: PassContext, costs: Mapping[str, float]) -> dict[str, float]:
    """Costs whose plain names are of the batch that was chosen."""
    prefix = _prefix(context)
    here = {n.removeprefix(prefix): v for n, v in costs.items() if prefix and n.startswith(prefix)}
    return {**costs, **here}


def _table(table: CostTable, scenario: str | None) -> CostTable:
    return table if scenario is None else table.scenarios[scenario]


def _target(context: PassContext, scenario: str | None) -> TargetConfig:
    target = context.config.target
    return target if scenario is None else target.in_scenario(scenario)


def _batch_losses(context: PassContext) -> dict[int, float | None]:
    choice = context.batch_choice
    if choice is None or len(context.config.target.every_batch) == 1:
        return {}
    return {int(batch): loss for batch, loss in choice["losses"].items()}


def _budget(context: PassContext, budget: Budget, solution: Solution) -> BudgetSummary:
    found, prefix = BudgetSummary.of(budget, solution), _prefix(context)
    if found.name.startswith("scenarios."):
        return found
    return found.model_copy(update={"cost": found.cost.removeprefix(prefix)})


def _conditions(table: CostTable) -> tuple[Conditions, ...]:
    return tuple(table.conditions(phase) for phase in table.phases)


def _refinement(context: PassContext) -> RefinementSummary | None:
    if context.config.refine.rounds == 0:
        return None
    steps = context.run.require("refine").data["rounds"]
    return RefinementSummary.of([RefineStep.model_validate(step) for step in steps])


def _teacher(context: PassContext) -> TeacherSummary:
    record, shape = context.run.require("teacher").data, context.shape
    return TeacherSummary(
        source=context.config.teacher.source,
        family=shape.family,
        layers=shape.layers,
        hidden_size=shape.state_width(shape.slots()[-1].kind),
        params_m=record["params"] / 1e6,
        fingerprint=record["fingerprint"],
        image_side=shape.image_side if isinstance(shape, PictureShape) else None,
    )


def _data(context: PassContext) -> DataSummary:
    from nas.data import Split

    split = Split.model_validate(context.run.require("data").data)
    length = split.sequence_length
    return DataSummary(
        sources=tuple(source.name for source in split.sources),
        sequence_length=length,
        train_tokens=split.train.sequences * length + split.sampled_tokens,
        score_tokens=split.score.sequences * length,
        evaluate_tokens=split.evaluate.sequences * length,
    )


def _costs(values: dict[str, float]) -> Costs:
    named = {name: values.get(name) for name in Costs.model_fields}
    return Costs.model_validate({**named, "kv_mib": values.get("kv_mib_per_sequence")})


def _slots(artefacts: Artefacts, options: dict[str, tuple[Option, ...]]) -> Iterable[SlotSummary]:
    shape, chosen = artefacts.context.shape, artefacts.refined.choice
    specs: dict[str, BlockSpec] = {c.id: c.spec for c in artefacts.usable}
    for slot in shape.slots():
        rows = tuple(_option(artefacts, slot, option, specs) for option in options[slot.id])
        variant = chosen[slot.id]
        sure = _slot_certainty(artefacts.uncertainty, slot, variant)
        yield SlotSummary.of(slot, variant, rows, sure)


def _certainty(found: Uncertainty | None) -> CertaintySummary | None:
    if found is None or found.sequences is None:
        return None
    return CertaintySummary(
        confidence=found.confidence,
        sequences=found.sequences,
        optimism=max(0.0, found.optimism),
        expected=found.expected.estimate,
        low=found.expected.low,
        high=found.expected.high,
    )


def _slot_certainty(
    found: Uncertainty | None, slot: Slot, chosen: str
) -> SlotCertaintySummary | None:
    """None, too, where refinement moved the slot: what was judged is not what the student has."""
    sure = found.slots[slot.id] if found else None
    if sure is None or sure.choice != chosen:
        return None
    return SlotCertaintySummary(frequency=sure.frequency, certain=sure.certain, regret=sure.regret)


def _option(
    artefacts: Artefacts, slot: Slot, option: Option, specs: dict[str, BlockSpec]
) -> OptionSummary:
    shape, name = artefacts.context.shape, f"{slot.id}/{option.variant}"
    spec = specs.get(name, KeepTeacher())
    kept = width_kept(spec, shape, slot.kind)
    costs = _at_chosen_batch(artefacts.context, option.costs)
    costs["kv_mib"] = costs["kv_mib_per_sequence"]
    named = Option(variant=option.variant, loss=option.loss, costs=costs)
    scores = artefacts.scores.get(name)
    record = artefacts.context.run.record(f"build/{name}")
    return OptionSummary.of(
        named,
        spec,
        kept,
        loss_stderr=_standard_error(scores),
        local_error=_error(record.data) if record else None,
        stopped=_stopped(record.data) if record else None,
    )


def _standard_error(scores: np.ndarray | None) -> float | None:
    if scores is None:
        return None
    known = scores[~np.isnan(scores)]
    return float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None


def _stopped(data: dict[str, Any]) -> str | None:
    """Where and why local distillation of a block ended early."""
    at = data.get("stopped")
    return at and f"step {at['step']} of {at['of']}: {at['reason']}"


def _error(meta: dict[str, Any]) -> float:
    trained = meta["kept"] == "trained"
    return float(meta["trained_error"] if trained else meta["initial_error"])


def _models(artefacts: Artefacts) -> Iterable[ModelSummary]:
    teacher: ModelSummary | None = None
    for name, architecture in {"teacher": Architecture(), **artefacts.architectures}.items():
        model = _model(artefacts, name, architecture, teacher)
        teacher = teacher or model
        yield model


def _model(
    artefacts: Artefacts, name: str, architecture: Architecture, teacher: ModelSummary | None
) -> ModelSummary:
    context = artefacts.context
    costs = total_costs(context, artefacts.all_costs, architecture.items(context.shape))
    mine = _at_chosen_batch(context, costs)
    roles = {"teacher": "teacher", "student": "student"}
    latency = [
        _latency(artefacts, name, phase, scenario, costs, teacher)
        for scenario in _scenarios(context).items()
        for phase in artefacts.costs.phases
    ]
    quality = artefacts.quality
    return ModelSummary.model_validate(
        {
            "name": name,
            "role": roles.get(name, "baseline"),
            "description": _describe(context, name, architecture),
            "params_m": mine["params_m"],
            "memory_mib": mine["memory_mib"],
            "kv_mib_per_sequence": mine["kv_mib_per_sequence"],
            "latency": tuple(latency),
            "quality_before": None if name == "teacher" else _quality(quality["before"], name),
            "quality": _quality(quality["after"], name),
            "refit": _refit(context, name),
            "distillation": _distillation(context, name),
        }
    )


def _latency(
    artefacts: Artefacts,
    name: str,
    phase: Phase,
    scenario: tuple[str | None, str | None],
    costs: Mapping[str, float],
    teacher: ModelSummary | None,
) -> PhaseLatency:
    """The teacher's own row has a speed-up of 1. `scenario`: its name in the summary, and in the
    cost tables."""
    shown, known = scenario
    profile, table = artefacts.measured, _table(artefacts.costs, known)
    prefix = "" if known is None else f"{known}."
    if known is not None:
        profile = profile.scenarios.get(known, type(profile)())
    reference = teacher.latency_of(phase, shown) if teacher else None
    return PhaseLatency.of(
        phase,
        scenario=shown,
        predicted_ms=costs[f"{prefix}{phase}_ms"],
        measured=profile.networks.get(name, {}).get(phase),
        pace=profile.pace(artefacts.context, table, phase),
        teacher=reference,
    )


def _describe(context: PassContext, name: str, architecture: Architecture) -> str:
    text = _DESCRIPTIONS.get(name, "")
    if name.startswith("uniform_ffn"):
        labels = {spec.label for spec in architecture.choices.values()}
        return f"{text} ({', '.join(sorted(labels))})"
    if name.startswith("depth_cut"):
        layers = sorted({int(slot.split(".")[1]) for slot in architecture.choices})
        return f"{text} ({layers[0]} to {layers[-1]})"
    return text


def _quality(found: dict[str, Any], name: str) -> Quality:
    mine, teacher = found[name], found["teacher"]
    ratio = mine.perplexity and mine.perplexity / teacher.perplexity
    return Quality(
        **mine.model_dump(exclude={"kl_by_window_nats", "cosine_distance_by_window"}),
        perplexity_ratio=ratio,
    )


def _refit(context: PassContext, name: str) -> RefitSummary | None:
    config = context.config.assemble
    if name == "teacher" or not config.changes_blocks:
        return None
    data = context.run.require(f"assemble/{name}").data
    coupled = data.get("coupled", {})
    return RefitSummary(
        from_library_nats=data["kl_from_library"],
        coupled_nats=coupled["kl"] if coupled.get("kept") else None,
        refitted_nats=data["kl_refitted"] if config.refit_tokens else None,
        kept=data["kept"],
    )


def _distillation(context: PassContext, name: str) -> DistillationSummary | None:
    record = context.run.record(f"distill/{name}")
    if name == "teacher" or record is None:
        return None
    config, curve = context.config.distill, record.data
    length = 1 if context.shape.reads_pictures else context.config.data.sequence_length
    step_tokens = max(1, config.batch_tokens // length) * length
    terms = (curve["kl"], curve["cosine"], _relations(curve))
    weights = (config.kl_weight, config.cosine_weight, config.relation_weight)
    losses = [
        sum(weight * term for weight, term in zip(weights, step, strict=True))
        for step in zip(*terms, strict=True)
    ]
    return DistillationSummary(
        steps=len(losses),
        tokens=len(losses) * step_tokens,
        seconds=curve["seconds"],
        curve_steps=tuple(range(1, len(losses) + 1)),
        curve_losses=tuple(losses),
    )


def _relations(curve: Mapping[str, Any]) -> list[float]:
    """Distance of relations in each step; records of earlier versions have none."""
    found = curve.get("relation") or [0.0] * len(curve["kl"])
    return [float(value) for value in found]


def _passes(context: PassContext) -> Iterable[PassSummary]:
    """What each pass cost when it last had work to do, from the event log."""
    yield from {event.name: event for event in pass_events(context.run)}.values()


def _files(context: PassContext, names: tuple[str, ...]) -> Iterable[FileSummary]:
    """Exported folders, each with the gates that it passed."""
    for unit in export_units(context, names):
        record = context.run.require(unit)
        sizes = [context.run.path(file).stat().st_size for file in record.files]
        yield FileSummary(
            path=record.data["folder"],
            kind=unit.split("/")[1].split("-")[0],
            bytes=sum(sizes),
            gates=tuple(Gate.model_validate(gate) for gate in record.data["gates"]),
        )
