"""What a student must beat at the same cost: uniform feed-forward width, contiguous depth cut.

Both get the benefit of the doubt: each is the largest that meets the budgets with a few per cent of
grace, plus one step, so that the student is compared at equal or lower cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nas.ir import (
    Architecture,
    BlockSpec,
    Candidate,
    ConvShape,
    KeepTeacher,
    Skip,
    as_transformer,
)
from nas.meters import CostTable
from nas.passes._context import PassContext
from nas.passes.measure import measure_requests, total_costs
from nas.passes.score import scoring_copy
from nas.passes.solve import make_budgets
from nas.passes.space import uniform_candidates
from nas.run import content_key
from search_spaces import load_space

_GRACE = 1.03
"""Predictions of unlike networks err by a few per cent against each other; baselines get it."""


def uniform_width(context: PassContext, table: CostTable, within: bool = False) -> int | None:
    """The narrowest uniform width above the budgets, or the widest that meets them without grace
    (`within`); None where even the teacher's meets them, or no width does.

    Latency between measured widths is interpolated; the width that is found is measured itself.
    """
    shape, multiple = as_transformer(context.shape), context.width_multiple
    widths = list(range(multiple, shape.ffn_width, multiple))
    if context.config.target.meter == "table":  # it cannot measure a width that it does not hold
        tables = (table, *table.scenarios.values())
        widths = [w for w in widths if all(f"ffn/w{w}" in one.entries for one in tables)]
    grace = 1.0 if within else _GRACE
    fits = [w for w in widths if _meets(context, _with_width(context, table, w), w, grace)]
    if _meets(context, table, shape.ffn_width, grace):
        return None
    if within:
        return max(fits, default=None)
    above = [w for w in widths if not fits or w > max(fits)]
    return above[0] if above else shape.ffn_width


def uniform_table(context: PassContext, table: CostTable, width: int) -> CostTable:
    """The cost table with a uniform width measured, in the run of its own neighbours.

    Anchors on both sides are measured again beside it, and the new width is put on the table's
    scale by their ratio, so that drift of the machine between two measurements cancels.
    """
    from nas.meters import Request, block_key

    shape = as_transformer(context.shape)
    spec, phases = shape.ffn(width), table.phases
    if block_key("ffn", spec) in table.entries:
        return table
    full = shape.ffn(shape.ffn_width)
    requests = tuple(Request("ffn", phase, s) for phase in phases for s in (full, spec))
    fresh = measure_requests(context, requests, f"solve/uniform-{width}")
    scenarios = {
        name: _joined(other, fresh.scenarios[name], full, spec)
        for name, other in table.scenarios.items()
    }
    return _joined(table, fresh, full, spec).model_copy(update={"scenarios": scenarios})


def _joined(table: CostTable, fresh: CostTable, full: BlockSpec, spec: BlockSpec) -> CostTable:
    """`table` with the latency of `spec` out of `fresh`, on its own scale by that of `full`."""
    from nas.meters import block_key

    triples = []
    for phase in table.phases:
        drift = table.latency_ms("ffn", full, phase) / fresh.latency_ms("ffn", full, phase)
        latency = fresh.latency(block_key("ffn", spec), phase)
        scaled = latency.model_copy(
            update={"samples_ms": tuple(drift * s for s in latency.samples_ms)}
        )
        triples.append((block_key("ffn", spec), phase, scaled))
    known = [(k, p, v) for k, row in table.entries.items() for p, v in row.items()]
    return CostTable.of([*known, *triples])


def depth_cut(context: PassContext, table: CostTable, within: bool = False) -> Architecture | None:
    """The best contiguous run of layers to remove, by the objective on the scoring text.

    As many layers as the budgets ask for (`within`), or one less, which gives the cut the benefit
    of the doubt: much of it in a network of few layers. None where no layer has to go.
    """
    layers = context.shape.layers
    fitting = [n for n in range(layers) if _fits_cut(context, table, n)]
    removed = (min(fitting) if fitting else layers - 1) - (0 if within else 1)
    if removed < 1:
        return None
    return cut_architecture(context, _best_start(context, removed), removed)


def cut_architecture(context: PassContext, start: int, removed: int) -> Architecture:
    """All slots of `removed` layers from `start` on are skipped."""
    gone = range(start, start + removed)
    slots = [slot for slot in context.shape.slots() if slot.layer in gone]
    return Architecture(choices={slot.id: Skip() for slot in slots})


@torch.no_grad()
def _best_start(context: PassContext, removed: int) -> int:
    key = content_key("baseline", "depth_cut", context.goal_key, removed)
    unit = f"solve/depth_cut-{removed}"
    record = context.run.fetch(unit, key)
    if record is not None:
        return int(record.data["start"])
    started = time.perf_counter()
    chain = scoring_copy(context.teacher.chain)
    ids = context.text.score.to(chain.device)
    rotary, state = chain.context(ids), chain.embed_tokens(ids)
    reference = chain.exact_hidden(chain.run(state, rotary))
    divergence = context.objective(chain).divergence(reference)
    losses, each = [], context.shape.slots_per_layer
    for start in range(context.shape.layers - removed + 1):
        cut = state
        for k in range(each * start, each * (start + removed)):
            cut = chain.slot(k).settle(cut)
        rest = chain.run(cut, rotary, start=each * (start + removed))
        changed = chain.exact_hidden(rest)
        losses.append(float(divergence(changed).mean()))
        state = chain.run(state, rotary, start=each * start, stop=each * (start + 1))
    best = min(range(len(losses)), key=losses.__getitem__)
    data = {"start": best, "removed": removed, "kl": losses}
    context.run.store(unit, key, data=data, seconds=time.perf_counter() - started)
    return best


def _meets(context: PassContext, table: CostTable, width: int, grace: float) -> bool:
    shape = as_transformer(context.shape)
    spec = shape.ffn(width) if width < shape.ffn_width else KeepTeacher()
    choice = [
        (slot, spec if slot.kind == "ffn" else KeepTeacher()) for slot in context.shape.slots()
    ]
    return _within(context, table, total_costs(context, table, choice), grace)


def _fits_cut(context: PassContext, table: CostTable, removed: int) -> bool:
    choice = cut_architecture(context, 0, removed).items(context.shape)
    return _within(context, table, total_costs(context, table, choice))


def _within(
    context: PassContext, table: CostTable, costs: dict[str, float], grace: float = _GRACE
) -> bool:
    return all(costs[b.cost] <= grace * b.limit for b in make_budgets(context, table))


def _with_width(context: PassContext, table: CostTable, width: int) -> CostTable:
    """The table with an interpolated latency for a width that was not measured."""
    from nas.meters import block_key

    key = block_key("ffn", as_transformer(context.shape).ffn(width))
    if key in table.entries:
        return table
    scenarios = {n: _with_width(context, other, width) for n, other in table.scenarios.items()}
    named = (name.removeprefix("ffn/w") for name in table.entries if name.startswith("ffn/w"))
    known = sorted(int(name) for name in named if name.isdecimal())  # not of eight bits: w48-int8
    triples = [(k, p, v) for k, row in table.entries.items() for p, v in row.items()]
    for phase in table.phases:
        points = {0: 0.0} | {w: table.latency(f"ffn/w{w}", phase).median_ms for w in known}
        sample = table.latency(f"ffn/w{known[0]}", phase)
        guess = sample.model_copy(
            update={
                "samples_ms": (_interpolate(points, width),),
                "source": "predicted",
                "pace": (),
            }
        )
        triples.append((key, phase, guess))
    return CostTable.of(triples).model_copy(update={"scenarios": scenarios})


def _interpolate(points: dict[int, float], x: int) -> float:
    below = max(w for w in points if w <= x)
    above = min((w for w in points if w >= x), default=below)
    if above == below:
        return points[below]
    share = (x - below) / (above - below)
    return points[below] + share * (points[above] - points[below])


def baseline_candidates(
    context: PassContext, table: CostTable
) -> tuple[CostTable, tuple[Candidate, ...]]:
    """The blocks that the uniform baseline needs, and the table that knows their cost."""
    if isinstance(context.shape, ConvShape):
        choices = _uniform_convolutions(context, table, context.shape).values()
        return table, tuple(dict.fromkeys(c for choice in choices for c in choice))
    widths = sorted(set(_uniform_widths(context, table).values()))
    for width in widths:
        table = uniform_table(context, table, width)
    return table, tuple(c for width in widths for c in uniform_candidates(context, width))


def _uniform_widths(context: PassContext, table: CostTable) -> dict[str, int]:
    """The width of each uniform baseline that is narrower than the teacher."""
    found = {
        name: uniform_width(context, table, within=name.endswith("_within"))
        for name in _uniform_names(context)
    }
    full = as_transformer(context.shape).ffn_width
    return {name: w for name, w in found.items() if w and w < full}


def _uniform_choices(context: PassContext, table: CostTable) -> dict[str, tuple[Candidate, ...]]:
    """The blocks of each uniform baseline that differs from the teacher."""
    if isinstance(context.shape, ConvShape):
        return _uniform_convolutions(context, table, context.shape)
    widths = _uniform_widths(context, table)
    return {name: uniform_candidates(context, width) for name, width in widths.items()}


def _uniform_names(context: PassContext) -> list[str]:
    return [name for name in context.config.baselines if name.startswith("uniform_ffn")]


def _uniform_convolutions(
    context: PassContext, table: CostTable, shape: ConvShape
) -> dict[str, tuple[Candidate, ...]]:
    """The same share of the teacher's channels in every block: the largest of the space's
    `width_percent` within the budgets, or the smallest; without `within` baselines get their grace.
    Nothing where the teacher meets them."""
    found = {}
    for name in _uniform_names(context):
        grace = 1.0 if name.endswith("_within") else _GRACE
        found[name] = _uniform_share(context, table, shape, grace)
    return {name: choice for name, choice in found.items() if choice}


def _uniform_share(
    context: PassContext, table: CostTable, shape: ConvShape, grace: float
) -> tuple[Candidate, ...]:
    found: tuple[Candidate, ...] = ()
    space = load_space(context.config.space).residual
    for percent in sorted({100.0, *space.width_percent}, reverse=True):
        specs = {s.kind: space.narrower(shape, s.kind, percent) for s in shape.slots()}
        found = tuple(Candidate(slot=s, spec=specs[s.kind]) for s in shape.slots())
        choice = [(c.slot, c.spec) for c in found]
        if _within(context, table, total_costs(context, table, choice), grace):
            break
    return tuple(c for c in found if c.spec != shape.resolve(c.slot, KeepTeacher()))


def baseline_architectures(context: PassContext, table: CostTable) -> dict[str, Architecture]:
    """Name -> architecture of every baseline that differs from the teacher."""
    found: dict[str, Architecture] = {}
    for name, candidates in _uniform_choices(context, table).items():
        found[name] = Architecture(choices={c.slot.id: c.spec for c in candidates})
    makers: dict[str, Callable[[], Architecture | None]] = {
        "depth_cut": lambda: depth_cut(context, table),
        "depth_cut_within": lambda: depth_cut(context, table, within=True),
    }
    for name, make in makers.items():
        if name in context.config.baselines and (architecture := make()) is not None:
            found[name] = architecture
    return {name: found[name] for name in context.config.baselines if name in found}
