"""Profile: the exported networks end to end on the target, predicted beside measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from nas.config import TargetConfig
from nas.ir import Latency, Phase
from nas.meters import (
    CostTable,
    OnnxRuntimeMeter,
    interleaved,
    requests_for,
    round_paces,
    settled,
)
from nas.passes._context import PassContext
from nas.passes.export import onnx_path
from nas.passes.measure import teacher_costs
from nas.run import content_key, json_writer

if TYPE_CHECKING:
    pass

Measured = dict[str, dict[Phase, Latency]]


class Profile(BaseModel):
    """Latencies of whole networks by name, and the teacher's blocks measured again beside them.

    `scenarios`: the same under other conditions, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: Measured = {}
    anchors: CostTable = CostTable(entries={})
    scenarios: dict[str, Profile] = {}

    def pace(self, context: PassContext, table: CostTable, phase: Phase) -> float | None:
        """Time that the teacher's blocks take now, over what `table` says; None if not measured.

        1 on a machine that has not changed since the pass measure. `table` is of the same
        conditions as this profile.
        """
        if phase not in self.anchors.phases:
            return None
        cost = f"{phase}_ms"
        now = teacher_costs(context, self.anchors)[cost]
        return now / teacher_costs(context, table)[cost]


def profile(context: PassContext, keys: Mapping[str, str]) -> Profile:
    """Measure teacher, student and baselines in every phase, and in every scenario.

    All run in turns within one measurement, so that they meet the same machine. Predictions rest on
    a table that is older, so the teacher's own blocks run in the same turns.
    """
    config = context.config
    target = config.target
    if target.meter != "onnxruntime" or "onnx" not in config.export.formats:
        return Profile()
    found = _profile(context, keys, target, "profile")
    scenarios = {
        name: _profile(context, keys, target.in_scenario(name), f"profile/{name}")
        for name in target.scenarios
    }
    return found.model_copy(update={"scenarios": scenarios})


def _profile(
    context: PassContext, keys: Mapping[str, str], target: TargetConfig, unit: str
) -> Profile:
    meter = OnnxRuntimeMeter(target, context.shape)
    conditions = {phase: meter.conditions(phase) for phase in target.phases}
    key = content_key(
        "profile in turns", context.teacher_key, dict(keys), conditions, target.repeats
    )
    record = context.run.fetch(unit, key)
    if record is not None:
        return Profile.model_validate(record.data)
    started = time.perf_counter()
    found = _measure(context, meter, ["teacher", *keys])
    seconds = time.perf_counter() - started
    data = found.model_dump(mode="json")
    file = f"{unit.replace('/', '-')}.json"
    context.run.store(unit, key, {file: json_writer(data)}, data, seconds)
    return found


def _measure(context: PassContext, meter: OnnxRuntimeMeter, names: list[str]) -> Profile:
    from nas.backends.onnxruntime import network_timer, open_network
    from nas.backends.providers import read_providers

    target = meter.config
    networks = {}
    for name in names:
        path = onnx_path(context, name)
        chain = None if target.provider == "cpu" else read_providers(path.parent, target.provider)
        networks[name] = open_network(path, context.shape, target.threads, providers=chain)
    gc.collect()
    measured: Measured = {name: {} for name in names}
    anchors: list[tuple[str, Phase, Latency]] = []
    with context.progress.task("profile", len(target.phases)) as advance:
        for phase in target.phases:
            requests = requests_for(context.shape, (), [phase])
            sizes = (target.batch, target.prompt_tokens)
            timers = {
                f"{name} {phase}": network_timer(n, phase, *sizes) for name, n in networks.items()
            }
            if phase == "prefill":
                timers = {name: settled(timer) for name, timer in timers.items()}
            with meter.runs(requests) as runs:
                samples = interleaved({**runs, **timers}, target.repeats, warmup=2)
            pace = round_paces(samples)
            for name, network in networks.items():
                conditions = network.conditions(phase, target.batch, target.prompt_tokens)
                latency = Latency.of(samples[f"{name} {phase}"], conditions, pace=pace)
                measured[name][phase] = latency
            found = meter.latencies(requests, samples)
            anchors += [(r.key, phase, one) for r, one in zip(requests, found, strict=True)]
            advance(1)
    return Profile(networks=measured, anchors=CostTable.of(anchors))
