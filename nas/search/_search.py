"""A search from its options to its answer."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

from nas.errors import ConfigError
from nas.networks import ImageNetwork
from nas.progress import Progress, SilentProgress
from nas.proxies import create_proxy, list_proxies
from nas.proxies._combination import How
from nas.proxies._inputs import Inputs
from nas.run import install
from nas.search._answer import SearchAnswer, agreement, rank, seconds_each
from nas.search._arena import Arena
from nas.search._costs import CostBook
from nas.search._distill import Distilled, Recipe, distill
from nas.search._infeasible import explain
from nas.search._journal import Journal
from nas.search._latency import LatencyMeter
from nas.search._limits import parse_limits
from nas.search._registry import create_strategy
from nas.search._scorer import Scorer
from nas.search._table import read_costs
from search_spaces import Choice, StudentSpace, load_student_space

_SMALL = 1_000
"""Spaces up to this many architectures within the limits are searched exhaustively."""
_TRIALS = 1_000


@dataclass(frozen=True)
class SearchRequest:
    """What is asked. `limits` are `COST=VALUE`; `costs` is a CSV file of further costs.

    `inits` initialisations are averaged over, each on its own batch of `batch` inputs. Without a
    `strategy`, small spaces are searched exhaustively, others by evolution. `distill` are steps of
    distillation of the winner.
    """

    space: str
    proxies: tuple[str, ...]
    combine: How = "ranks"
    teacher: str | None = None
    data: Path | None = None
    limits: tuple[str, ...] = ()
    costs: Path | None = None
    trials: int | None = None
    strategy: str | None = None
    journal: Path | None = None
    inits: int = 1
    batch: int = 64
    seed: int = 0
    distill: int | None = None
    objectives: tuple[str, ...] = ()
    save: Path | None = None


def search(request: SearchRequest, progress: Progress | None = None) -> SearchAnswer:
    """Rank architectures of a space by training-free proxies under limits on their costs.

    Raises ConfigError for options that make no sense, InfeasibleError where nothing is within the
    limits, CapabilityError where a package is missing.
    """
    progress, started = progress or SilentProgress(), time.perf_counter()
    space = load_student_space(request.space)
    inputs = Inputs(space, request.data, request.teacher)
    recipe = _recipe(request, inputs)
    arena = _arena(request, space, inputs)
    strategy = create_strategy(request.strategy or _strategy_for(arena))
    if request.trials is None and strategy.name != "exhaustive":
        arena.trials = _TRIALS
    with progress.task("scoring architectures", arena.left) as advance:
        arena.advance = advance
        strategy.explore(arena, random.Random(request.seed))
    if not arena.scored:
        raise explain(request.space, arena.costs.limits, list(arena.refused.values()))
    _require_defined(arena)
    answer = SearchAnswer(
        space=request.space,
        architectures=space.count,
        within_limits=None if arena.fitting is None else len(arena.fitting),
        scored=len(arena.scored),
        reused=arena.journal.reused,
        strategy=strategy.name,
        proxies=arena.scorer.names,
        combined_on=arena.how,
        seconds_each=seconds_each(arena),
        limits=arena.costs.limits,
        inits=request.inits,
        batch=request.batch,
        seed=request.seed,
        seconds=time.perf_counter() - started,
        latency_conditions=arena.costs.conditions,
        agreement=agreement(arena),
        ranked=rank(arena),
    )
    if recipe is None:
        return answer
    winner = next(s.choice for s in arena.scored.values() if s.key == answer.ranked[0].architecture)
    found = _distilled(winner, recipe, inputs, request, progress)
    return answer.model_copy(update={"distilled": found})


def _arena(request: SearchRequest, space: StudentSpace, inputs: Inputs) -> Arena:
    """Raises InfeasibleError where nothing is within the limits that need no measuring."""
    limits = parse_limits(request.limits)
    proxies = {name: create_proxy(name) for name in dict.fromkeys(request.proxies)}
    if not proxies:
        raise ConfigError(f"--proxy: give at least one of {', '.join(list_proxies())}")
    inputs.require(proxies)
    table = None if request.costs is None else read_costs(request.costs, list(limits))
    costs = CostBook(space, limits, table, LatencyMeter(inputs.example()))
    settings = {"inits": request.inits, "batch": request.batch, "seed": request.seed}
    about = {"space": space.model_dump(mode="json"), **inputs.about(), **settings}
    arena = Arena(
        space=space,
        costs=costs,
        scorer=Scorer(space, proxies, inputs.sittings(**settings)),
        journal=Journal(request.journal, about),
        trials=request.trials or space.count,
        how=request.combine,
    )
    if arena.fitting == []:
        raise explain(request.space, limits, [costs.quick(c) for c in space.choices()])
    return arena


def _require_defined(arena: Arena) -> None:
    """Raise ConfigError for a proxy that says nothing of any architecture: the order would be that
    of the others, or of size."""
    for name in arena.scorer.names:
        if all(math.isnan(entry.value(name)) for entry in arena.scored.values()):
            raise ConfigError(
                f"--proxy {name}: no score is defined for any of the {len(arena.scored):,} "
                f"architectures scored; take another proxy, data or teacher"
            )


def _strategy_for(arena: Arena) -> str:
    small = arena.fitting is not None and len(arena.fitting) <= min(_SMALL, arena.trials)
    return "exhaustive" if small else "evolution"


def _recipe(request: SearchRequest, inputs: Inputs) -> Recipe | None:
    """Raises ConfigError, before anything is scored, where the winner could not be distilled."""
    if request.distill is None:
        if request.objectives or request.save is not None:
            raise ConfigError("--distill-objective and --save go with --distill")
        return None
    if inputs.images is None or not isinstance(inputs.teacher, ImageNetwork):
        raise ConfigError("--distill needs a space of image networks, --data FILE and --teacher")
    if inputs.images.labels is None:
        raise ConfigError("--distill needs labels in --data")
    return Recipe(request.distill, request.objectives)


def _distilled(
    winner: Choice, recipe: Recipe, inputs: Inputs, request: SearchRequest, progress: Progress
) -> Distilled:
    spec, teacher, images = inputs.space.spec(winner), inputs.teacher, inputs.images
    student = spec.build(request.seed)
    assert isinstance(student, ImageNetwork)
    assert isinstance(teacher, ImageNetwork)
    assert images is not None
    found = distill(
        student, teacher, images, recipe, name=spec.key, seed=request.seed, progress=progress
    )
    if request.save is not None:
        from safetensors.torch import save_file

        state = {k: v.contiguous() for k, v in student.state_dict().items()}
        install(request.save, lambda path: save_file(state, path, {"architecture": spec.key}))
    return found
