"""Measure: what every distinct block costs on the target, once each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hardware_profiles import load_profile
from nas.config import TargetConfig
from nas.ir import BlockSpec, Candidate, ChainShape, KeepTeacher, Skip, Slot
from nas.meters import CostTable, Request, create_meter, requests_for
from nas.passes._context import PassContext
from nas.run import content_key, file_digest, json_writer

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MIB = 2**20


def measure(context: PassContext, candidates: Iterable[Candidate]) -> CostTable:
    """The cost table of the candidates and the teacher's own blocks."""
    shape = context.shape
    requests = requests_for(shape, (*candidates, *_cut_blocks(shape)), context.config.target.phases)
    return measure_requests(context, requests, "measure/costs")


def _cut_blocks(shape: ChainShape) -> list[Candidate]:
    """What a depth cut leaves of its slots, whether the space skips them or not."""
    if shape.pre_norm:
        return []
    return [Candidate(slot=slot, spec=Skip()) for slot in shape.slots()[:2]]


def measure_requests(context: PassContext, requests: tuple[Request, ...], unit: str) -> CostTable:
    """Measure `requests` as the unit `unit`, and in each scenario as one of its own; files are
    named after them."""
    target = context.config.target
    table = _measure(context, target, requests, unit)
    scenarios = {
        name: _measure(context, target.in_scenario(name), requests, f"{unit}-{name}")
        for name in target.scenarios
    }
    return CostTable(entries=table.entries, scenarios=scenarios)


def _measure(
    context: PassContext, target: TargetConfig, requests: tuple[Request, ...], unit: str
) -> CostTable:
    meter = create_meter(target, context.shape)
    conditions = {phase: meter.conditions(phase) for phase in target.phases}
    wanted = sorted(f"{r.key}:{r.phase}" for r in requests)
    key = content_key(
        "measure", context.shape, conditions, target.repeats, target.meter, wanted, _source(target)
    )
    record = context.run.fetch(unit, key)
    if record is not None:
        return CostTable.model_validate(record.data)
    context.progress.say(f"measuring {len(requests)} block and phase pairs with {target.meter}")
    started = time.perf_counter()
    table = meter.cost_table(requests)
    context.run.store(
        unit,
        key,
        {f"costs/{unit.split('/')[-1]}.json": json_writer(table)},
        table.model_dump(mode="json"),
        time.perf_counter() - started,
    )
    return table


def _source(target: TargetConfig) -> object:
    """What a meter's answers depend on beside the conditions."""
    if target.meter == "table" and target.table is not None:
        return file_digest(target.table) if target.table.is_file() else "absent"
    if target.meter == "roofline" and target.calibration is not None:
        return file_digest(target.calibration)
    if target.meter == "roofline" and target.hardware != "local":
        return load_profile(target.hardware)
    return None


def option_costs(
    context: PassContext, table: CostTable, slot: Slot, spec: BlockSpec
) -> dict[str, float]:
    """Every cost of one block in one slot, by name: `decode_ms`, and `chat.decode_ms` in the
    scenario `chat`."""
    return _under_all(context, table, lambda target, one: _option(context, target, one, slot, spec))


def _option(
    context: PassContext, target: TargetConfig, table: CostTable, slot: Slot, spec: BlockSpec
) -> dict[str, float]:
    from nas.blocks import KINDS, stored_bytes

    shape = context.shape
    resolved = shape.resolve(slot, spec)
    kind, width = KINDS[resolved.kind], _BYTES[target.dtype]
    weights = kind.parameters(shape, slot.kind, resolved)
    stored = stored_bytes(shape, slot.kind, resolved, width)
    if resolved.kind != "skip" or not shape.pre_norm:
        weights += shape.norm_parameters
        stored += shape.norm_parameters * width
    tokens = target.prompt_tokens + target.output_tokens
    cached = kind.cached_values_per_token(shape, resolved) if shape.generates else 0
    kv_mib = cached * tokens * width / _MIB
    costs = {
        "params_m": weights / 1e6,
        "memory_mib": stored / _MIB + kv_mib * target.batch,
        "kv_mib_per_sequence": kv_mib,
    }
    for phase in table.phases:
        costs[f"{phase}_ms"] = table.latency_ms(slot.kind, resolved, phase)
    return costs | _request(costs, target.output_tokens)


def fixed_costs(context: PassContext, table: CostTable) -> dict[str, float]:
    """The costs of what stands outside the slots."""
    return _under_all(context, table, lambda target, one: _fixed(context.shape, target, one))


def _under_all(
    context: PassContext,
    table: CostTable,
    costs: Callable[[TargetConfig, CostTable], dict[str, float]],
) -> dict[str, float]:
    """Costs under the target's own conditions, and in every scenario under its name."""
    target = context.config.target
    found = costs(target, table)
    for name, other in table.scenarios.items():
        here = costs(target.in_scenario(name), other)
        found |= {f"{name}.{cost}": here[cost] for cost in here.keys() - {"params_m"}}
    return found


def _fixed(shape: ChainShape, target: TargetConfig, table: CostTable) -> dict[str, float]:
    weights = shape.outside_parameters
    costs = {
        "params_m": weights / 1e6,
        "memory_mib": weights * _BYTES[target.dtype] / _MIB,
        "kv_mib_per_sequence": 0.0,
    }
    for phase in table.phases:
        costs[f"{phase}_ms"] = table.fixed_ms(phase)
    return costs | _request(costs, target.output_tokens)


def teacher_costs(context: PassContext, table: CostTable) -> dict[str, float]:
    """The teacher's predicted totals."""
    return total_costs(context, table, [(s, KeepTeacher()) for s in context.shape.slots()])


def total_costs(
    context: PassContext, table: CostTable, choice: Iterable[tuple[Slot, BlockSpec]]
) -> dict[str, float]:
    """Predicted totals of a whole network."""
    total = dict(fixed_costs(context, table))
    for slot, spec in choice:
        for name, value in option_costs(context, table, slot, spec).items():
            total[name] += value
    return total


def _request(costs: dict[str, float], output_tokens: int) -> dict[str, float]:
    """One whole request: prefill, then every further token by decode."""
    if "prefill_ms" not in costs or "decode_ms" not in costs:
        return {}
    return {"request_ms": costs["prefill_ms"] + output_tokens * costs["decode_ms"]}
